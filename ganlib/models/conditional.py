"""The GAN that is told which class to draw: a label goes into both networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.models.gan import GAN, AdversarialLoss, Regularizer, due
from ganlib.models.recipes import digit_report
from ganlib.random import uniform
from ganlib.training import Budget, Game

if TYPE_CHECKING:
    from ganlib.data import Images


class ConditionalGAN(GAN):
    r"""A generator of class y against a discriminator that knows y; batches are images and their labels.

    .. math:: \min_G \max_D \; E_{x, y} \log D(x, y) + E_{y, z} \log(1 - D(G(z, y), y))

    or any other adversarial loss of the two outputs. D thus compares images *of one class*: a good 3 where a
    7 was asked for is a fake.

    In training the fakes of a turn are asked for the classes of that turn's real images. So the pairs of a
    relativistic loss, and the points between a real sample and a fake, each have one class; and classes are
    as frequent among the fakes as among the data, which leaves D nothing to learn from the label alone.

    Args:
        generator: ``(N, latent_dim)``, labels ``(N,)`` -> samples; has an attribute ``latent_dim``.
        discriminator: samples, labels -> outputs.
        loss: both sides of the adversarial loss.
        regularizers: penalties on the discriminator; they see it with the labels filled in.
        n_critic: discriminator steps per generator step.
        classes: how many; labels are int64 in 0..classes - 1.
        generator_regularizers: further terms of the generator's loss.

    Raises:
        ValueError: if ``classes`` is less than 1; and as for :class:`ganlib.models.gan.GAN`.

    Source: Mirza and Osindero 2014, section 3.2. Lectures: Purdue "Conditional Generative Adversarial
    Networks"; OUC "Conditional GAN"; Aalto "Conditional generation with GANs".
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        classes: int,
        generator_regularizers: Sequence[Regularizer] = (),
    ) -> None:
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        super().__init__(
            generator,
            discriminator,
            loss,
            regularizers,
            n_critic,
            generator_regularizers=generator_regularizers,
        )
        self.classes = classes

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if len(batch) != 2:
            raise ValueError(f"batch must be samples and their labels, got {len(batch)} tensors")
        real, labels = batch
        judge = partial(self.discriminator, labels=labels)
        if player == "generator":
            fake = self.generator(self.latent(len(real)), labels)
            return self.generator_terms(judge, real, fake)
        with torch.no_grad():
            fake = self.generator(self.latent(len(real)), labels).to(real.dtype)
        if self.separate_passes:
            outputs = judge(real), judge(fake)
        else:
            outputs = self.discriminator(torch.cat([real, fake]), labels.repeat(2)).chunk(2)
        terms = {"adversarial": self.adversarial.discriminator(*outputs)}
        return terms | due(self.regularizers, judge, real, fake)

    def draw_labels(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """``n`` labels, all classes equally likely: int64 ``(n,)``."""
        return (self.classes * uniform(n, device=self.device, rng=rng)).long()

    def sample(
        self,
        n: int,
        rng: torch.Generator | None = None,
        labels: Tensor | None = None,
        batch_size: int = 500,
        *,
        truncation: float | None = None,
    ) -> Tensor:
        """Draw ``n`` samples in evaluation mode, ``batch_size`` at a time, on the game's device.

        Args:
            n: how many.
            rng: of latents and labels; torch's global state if None.
            labels: what to draw, int64 ``(n,)``; drawn uniformly if None.
            batch_size: samples per pass.
            truncation: threshold on the latents' entries, see :func:`truncated_normal`; None for none.

        Raises:
            ValueError: if ``labels`` are not n integers in range, or ``truncation`` is not positive.
        """
        if truncation is None:
            z = self.latent(n, rng)
        else:
            size = self.generator.latent_dim
            z = truncated_normal(n, size, threshold=truncation, device=self.device, rng=rng)
        if labels is None:
            labels = self.draw_labels(n, rng)
        else:
            check_labels(labels, n, self.classes)
        parts = zip(z.split(batch_size), labels.to(self.device).split(batch_size), strict=True)
        with self.evaluating():
            return torch.cat([self.generator(*part).float() for part in parts])


def check_labels(labels: Tensor, n: int, classes: int) -> None:
    """Raise ``ValueError`` unless ``labels`` are ``n`` integers, int64 ``(n,)``, in 0..classes - 1."""
    if labels.shape != (n,) or labels.dtype != torch.int64:
        raise ValueError(f"labels must be int64 of shape ({n},), got {labels.dtype} {tuple(labels.shape)}")
    if not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels must be in 0..{classes - 1}, got {int(labels.min())}..{int(labels.max())}")


def truncated_normal(
    n: int,
    *shape: int,
    threshold: float,
    device: torch.device | None = None,
    rng: torch.Generator | None = None,
) -> Tensor:
    r"""Standard normal numbers with every one beyond :math:`\pm t` drawn again: float32 ``(n, *shape)``.

    Drawing again until the magnitude is below t gives the normal law cut off at t. Here it comes in one go,
    from :math:`u \sim U(0, 1)`:

    .. math:: z = \Phi^{-1}\big( \Phi(-t) + u \, (\Phi(t) - \Phi(-t)) \big)

    So the same random numbers give latents that shrink together as t falls: one image can be followed from
    variety to fidelity. The trick costs no training: near the mode of the latents a generator has seen more,
    and its samples are better and more alike.

    Args:
        n: rows.
        shape: of a row.
        threshold: t, positive; infinity cuts nothing off.
        device: of the result.
        rng: as of :func:`ganlib.random.normal`.

    Raises:
        ValueError: if ``threshold`` is not positive.

    Source: Brock et al. 2019 (BigGAN), section 3.1.
    """
    if not threshold > 0:
        raise ValueError(f"threshold must be positive, got {threshold}")
    below = 0.5 * math.erfc(threshold / math.sqrt(2))
    # The centres of float32's 2^24 steps on [0, 1): 0 itself would be minus infinity without a threshold.
    u = uniform(n, *shape, rng=rng).double() + 2.0**-25
    return torch.special.ndtri(below + u * (1 - 2 * below)).float().to(device)


def requested_accuracy(
    game: ConditionalGAN,
    n: int = 2000,
    rng: torch.Generator | None = None,
    truncation: float | None = None,
) -> float:
    """Share of samples that a classifier of digits recognises as the digit asked for; in [0, 1].

    Each digit is asked for equally often. The classifier itself gets a few in a thousand real digits wrong,
    so 1 is out of reach; a generator that ignores the label gets about 0.1.

    Args:
        game: of ten classes, on images that :class:`ganlib.metrics.ClassifierFeatures` reads.
        n: number of samples.
        rng: of the latents; a fixed seed if None.
        truncation: as of :meth:`ConditionalGAN.sample`.

    Raises:
        ValueError: if the game has not ten classes.
    """
    from ganlib.metrics import ClassifierFeatures

    if game.classes != 10:
        raise ValueError(f"game must have the ten classes of MNIST, got {game.classes}")
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    labels = torch.arange(n, device=game.device) % 10
    samples = game.sample(n, rng, labels, truncation=truncation)
    found = ClassifierFeatures().to(game.device).predict(samples)
    return (found == labels).double().mean().item()


def conditional_report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """:func:`ganlib.models.recipes.digit_report` and :func:`requested_accuracy`; None for other data."""
    digits = digit_report(data, budget)
    if digits is None:
        return None

    def report(game: Game) -> dict[str, float]:
        accuracy = requested_accuracy(game, budget.pick(smoke=100, cpu=2000, gpu=10_000))
        return digits(game) | {"requested_accuracy": accuracy}

    return report
