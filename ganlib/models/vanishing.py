r"""Vanishing gradients, measured: a discriminator learns against a generator that does not move.

The better it gets, the less the minimax loss tells the generator. On one fake with logit :math:`\ell` the
slopes of the three losses are

.. math:: -\sigma(\ell) \text{ (minimax)}, \qquad -\sigma(-\ell) \text{ (non-saturating)}, \qquad -1
    \text{ (Wasserstein)},

so a sure discriminator, :math:`\ell \to -\infty`, silences the first. What reaches the generator is that
slope times :math:`\partial\ell/\partial\theta`, and that factor is what makes the second grow.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlib.layers import InstanceNoise
from ganlib.losses import GradientPenalty, Minimax, NonSaturating, Wasserstein
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer
from ganlib.models.recipes import adam
from ganlib.random import derived_seed
from ganlib.training import Settings, Trainer

__all__ = [
    "FrozenGeneratorGame",
    "Trace",
    "generator_gradient_norm",
    "snapshots",
    "trace",
    "vanishing",
]


class FrozenGeneratorGame(GAN):
    """A GAN in which only the discriminator has turns.

    The generator stays as it is, its batch norms included: it always runs in evaluation mode.

    Source: Arjovsky & Bottou 2017, figures 2 and 3.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__(generator, discriminator, loss, regularizers)
        self.turns = {"discriminator": 1}
        self.generator.eval()

    def train(self, mode: bool = True) -> FrozenGeneratorGame:
        super().train(mode)
        self.generator.eval()
        return self


def generator_gradient_norm(game: GAN, n: int = 256, *, seed: int = 0) -> float:
    r"""The norm of the gradient that the generator would get, :math:`\|\partial L_G/\partial\theta_G\|_2`.

    Over all of the generator's parameters, for the mean loss on ``n`` fakes. The latents, and whatever noise
    the networks draw, depend on ``seed`` alone. Nothing is changed: no weight, no ``.grad``, no random state.

    Args:
        game: whose ``adversarial.generator`` loss is taken.
        n: fakes in the batch.
        seed: of the latents.

    Source: Arjovsky & Bottou 2017, figure 2 (gradients with respect to the generator's parameters).
    """
    parameters = [p for p in game.generator.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[game.device] if game.device.type == "cuda" else []):
        torch.manual_seed(seed)
        fake = game.generator(game.latent(n))
        loss = game.adversarial.generator(game.discriminator(fake))
        gradients = torch.autograd.grad(loss, parameters)
    return float(torch.stack([g.norm() for g in gradients]).norm())


@dataclass(frozen=True)
class Trace:
    """What :func:`trace` recorded, one entry per measurement.

    Attributes:
        steps: discriminator steps taken.
        norms: name of a loss -> norm of its gradient with respect to the generator's parameters.
    """

    steps: list[int]
    norms: dict[str, list[float]]


def trace(
    generator: nn.Module,
    discriminator: nn.Module,
    data: Tensor,
    losses: dict[str, AdversarialLoss],
    *,
    regularizers: Sequence[Regularizer] = (),
    steps: int = 300,
    every: int = 10,
    lr: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> Trace:
    """Train ``discriminator`` against the fixed ``generator``; record what the generator would learn from it.

    The first of ``losses`` trains the discriminator. The generator's side of each is measured, before the
    first step and then every ``every`` steps, always on the same latents: minimax and non-saturating share
    their discriminator, so they can be compared on the very same one.

    Args:
        generator: ``(N, latent_dim)`` -> samples; not changed.
        discriminator: samples -> logits or critic values; trained in place.
        data: real samples ``(M, ...)``.
        losses: name -> loss; the order matters.
        regularizers: penalties on the discriminator.
        steps: of the discriminator.
        every: steps between measurements.
        lr: of Adam with betas 0.5, 0.999.
        batch_size: real samples, and fakes, per step.
        seed: of the order of the data, the latents and the noise.

    Raises:
        ValueError: if ``losses`` is empty.

    Source: Arjovsky & Bottou 2017, figures 2 and 3. Lectures: UBC "1) Training instability, 2) Mode collapse,
    3) Vanishing gradient"; MIT "Problems of GAN".
    """
    if not losses:
        raise ValueError("losses must name at least one loss, got none")
    game = FrozenGeneratorGame(generator, discriminator, next(iter(losses.values())), regularizers)
    record = Trace([], {name: [] for name in losses})

    def measure(trainer: Trainer | None = None) -> None:
        played = game.adversarial
        record.steps.append(0 if trainer is None else trainer.step)
        for name, game.adversarial in losses.items():
            record.norms[name].append(generator_gradient_norm(game, seed=seed))
        game.adversarial = played

    settings = Settings(
        optimizers={"discriminator": adam(lr, 0.5)},
        batch_size=batch_size,
        precision="32-true",  # bfloat16 has no digits left for a logit of -20
        seed=seed,
        log_every=every,
    )
    trainer = Trainer(game, data, settings, callbacks=[measure], progress=False)
    measure()
    trainer.fit(steps)
    return record


def snapshots(
    data: Tensor, rounds: Sequence[int], *, width: int = 16, latent_dim: int = 64, seed: int = 0
) -> list[nn.Module]:
    """The generator of one DCGAN after each number of rounds of its training.

    Args:
        data: images ``(M, C, S, S)``.
        rounds: increasing.
        width: channels at the finest level of both networks.
        latent_dim: of the generator.
        seed: of everything.
    """
    channels, size = data.shape[1:3]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, 0))
        networks = Generator(latent_dim, width, channels, size), Discriminator(width, channels, size)
    settings = Settings(
        optimizers={"discriminator": adam(1e-3, 0.5, 0.99), "generator": adam(4e-3, 0.5, 0.99)},
        precision="32-true",
        seed=seed,
    )
    trainer = Trainer(GAN(*networks, NonSaturating()), data, settings, progress=False)
    kept = []
    for until in rounds:
        trainer.fit(until)
        kept.append(copy.deepcopy(trainer.game.generator))
    return kept


def vanishing(
    generator: nn.Module,
    data: Tensor,
    *,
    noise: float = 8.0,
    width: int = 16,
    steps: int = 500,
    every: int = 20,
    lr: float = 3e-3,
    seed: int = 0,
) -> Trace:
    r"""The whole comparison for one generator: three discriminators from scratch, four gradients.

    DCGAN's discriminator with the minimax loss, on which the non-saturating gradient is measured too; the
    same under instance noise; and a Wasserstein critic with gradient penalty, which forbids batch norm.

    Images have hundreds of pixels, and evidence adds up over them: to hide a difference of length d from a
    discriminator the noise must be of the order of d *per pixel*. Hence a standard deviation of four times
    the pixels' range, against generators this young.

    Args:
        generator: ``(N, latent_dim)`` -> images; not changed.
        data: images ``(M, C, S, S)``.
        noise: standard deviation of the instance noise.
        width: of the discriminators.
        steps: of each discriminator.
        every: steps between measurements.
        lr: of the discriminators' Adam.
        seed: of everything.

    Source: Arjovsky & Bottou 2017, figures 2 and 3, after Arjovsky et al. 2017, section 4.2.
    """
    channels, size = data.shape[1:3]

    def discriminator(batch_norm: bool) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, 0))
            return Discriminator(width, channels, size, batch_norm=batch_norm)

    play = {"steps": steps, "every": every, "lr": lr, "seed": seed}
    plain = trace(
        generator,
        discriminator(True),
        data,
        {"minimax": Minimax(), "non-saturating": NonSaturating()},
        **play,
    )
    noisy = trace(
        generator,
        InstanceNoise(discriminator(True), noise),
        data,
        {f"minimax, instance noise {noise:g}": Minimax()},
        **play,
    )
    critic = trace(
        generator,
        discriminator(False),
        data,
        {"Wasserstein, gradient penalty": Wasserstein()},
        regularizers=[GradientPenalty()],
        **play,
    )
    return Trace(plain.steps, plain.norms | noisy.norms | critic.norms)
