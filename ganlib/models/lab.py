"""GANs in the plane, small enough to watch: the networks, the game, and what there is to see of it.

The other half of the GAN lab (:mod:`ganlib.widgets.lab`) only draws what this file computes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlib.data.toy import Target
from ganlib.layers import spectral_norm
from ganlib.losses import clip_weights_
from ganlib.metrics.modes import mixture_modes
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer
from ganlib.models.recipes import adam
from ganlib.models.unrolled import UnrolledGAN
from ganlib.random import derived_seed
from ganlib.training import Settings


class PlaneGenerator(nn.Module):
    """Latents ``(N, latent_dim)`` -> points ``(N, 2)`` through three hidden layers of rectifiers."""

    def __init__(self, latent_dim: int = 2, width: int = 64) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 2),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class PlaneDiscriminator(nn.Module):
    """Points ``(N, 2)`` -> logits or critic values ``(N,)`` through three hidden layers of leaky rectifiers.

    Args:
        width: units per hidden layer.
        spectral: divide every weight matrix by its largest singular value, so that no layer stretches
            (Miyato et al. 2018; lecture: Aalto "Spectral normalization").
    """

    def __init__(self, width: int = 64, spectral: bool = False) -> None:
        super().__init__()

        def linear(inputs: int, outputs: int) -> nn.Module:
            layer = nn.Linear(inputs, outputs)
            return spectral_norm(layer) if spectral else layer

        self.layers = nn.Sequential(
            linear(2, width),
            nn.LeakyReLU(0.2),
            linear(width, width),
            nn.LeakyReLU(0.2),
            linear(width, width),
            nn.LeakyReLU(0.2),
            linear(width, 1),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class ClippedGAN(GAN):
    """A GAN of any loss whose discriminator's weights are clipped to [-clip, clip] after each of its steps.

    With :class:`ganlib.losses.Wasserstein` it is the game of :class:`ganlib.models.wgan.WGAN`.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        clip: float = 0.1,
        generator_regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__(
            generator,
            discriminator,
            loss,
            regularizers,
            n_critic,
            generator_regularizers=generator_regularizers,
        )
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}")
        self.clip = clip

    def after_step(self, player: str) -> None:
        super().after_step(player)
        if player == "discriminator":
            clip_weights_(self.discriminator, self.clip)


def lab_game(
    loss: AdversarialLoss,
    regularizers: Sequence[Regularizer] = (),
    *,
    n_critic: int = 1,
    clip: float | None = None,
    spectral: bool = False,
    unrolled: int = 0,
    latent_dim: int = 2,
    width: int = 64,
    seed: int = 0,
) -> GAN:
    """A GAN in the plane: loss x regularizer x turns, every other thing equal.

    Args:
        loss: both sides of the adversarial loss.
        regularizers: penalties on the discriminator.
        n_critic: discriminator steps per round.
        clip: bound of the discriminator's weights, None not to clip.
        spectral: normalise the discriminator's layers spectrally.
        unrolled: how many discriminator updates (gradient descent, rate 0.02) the generator looks ahead.
        latent_dim: of the generator's normal noise; at 2 its image can be drawn as a bent sheet.
        width: units per hidden layer of both networks.
        seed: of the initial weights; one seed gives one generator whatever the other arguments.

    Raises:
        ValueError: if ``clip`` and ``unrolled`` are both asked for, or one of them is out of range.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        generator = PlaneGenerator(latent_dim, width)
        discriminator = PlaneDiscriminator(width, spectral)
    players = (generator, discriminator, loss, regularizers, n_critic)
    if clip is not None and unrolled:
        raise ValueError("clip and unrolled must not be combined: the unrolled steps would not be clipped")
    if clip is not None:
        return ClippedGAN(*players, clip=clip)
    if unrolled:
        return UnrolledGAN(*players, steps=unrolled, rate=0.02)
    return GAN(*players)


def lab_settings(
    lr_discriminator: float = 1e-3, lr_generator: float = 1e-3, *, batch_size: int = 128, seed: int = 0
) -> Settings:
    """The lab's settings: Adam (0.5, 0.9) for both players, float32, no checkpoints.

    Raises:
        ValueError: if a learning rate is not positive.
    """
    for name, rate in (("lr_discriminator", lr_discriminator), ("lr_generator", lr_generator)):
        if not 0 < rate < math.inf:
            raise ValueError(f"{name} must be positive, got {rate}")
    return Settings(
        optimizers={
            "discriminator": adam(lr_discriminator, 0.5, 0.9),
            "generator": adam(lr_generator, 0.5, 0.9),
        },
        batch_size=batch_size,
        precision="32-true",  # networks this small gain nothing from bfloat16, and a heat map shows its steps
        seed=seed,
    )


def lab_data(target: Target, n: int = 16_384, seed: int = 0) -> Tensor:
    """The training set: ``n`` points ``(n, 2)`` of the target."""
    return target.sample(n, torch.Generator().manual_seed(derived_seed(seed, 3)))


# What there is to see


def surface(game: GAN, half: float, side: int = 48) -> Tensor:
    """The discriminator's outputs on the square ``[-half, half]^2``.

    Returns:
        ``(side, side)``, at the midpoints of cells: row = y from below, column = x from the left.
    """
    ticks = (torch.arange(side, device=game.device) + 0.5) * (2 * half / side) - half
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    with game.evaluating():
        return game.discriminator(torch.stack([x.flatten(), y.flatten()], 1)).view(side, side)


def sheet(game: GAN, cells: int = 20, edge: float = 0.01) -> Tensor:
    """The generator's manifold: the image of a grid in latent space whose cells are equally likely.

    The lines of the grid are quantiles of the normal latents, so a cell that is small in the image is where
    the generator puts much mass, and one that is stretched is nearly empty.

    Args:
        game: of latent dimension 2.
        cells: per side.
        edge: the probability cut off on each side, since the outermost quantiles are infinite.

    Returns:
        Corners ``(cells + 1, cells + 1, 2)``.

    Raises:
        ValueError: if the latent dimension is not 2.
    """
    if game.generator.latent_dim != 2:
        raise ValueError(f"game must have latents of dimension 2, got {game.generator.latent_dim}")
    quantiles = torch.special.ndtri(torch.linspace(edge, 1 - edge, cells + 1, device=game.device))
    z = torch.cartesian_prod(quantiles, quantiles)
    with game.evaluating():
        return game.generator(z).view(cells + 1, cells + 1, 2)


def pull(game: GAN, points: Tensor) -> Tensor:
    r"""Where each generated point would go if it could move on its own.

    .. math:: -\nabla_{x_i} \, n L_G(x_1, \dots, x_n) = -\nabla_{x_i} \ell_G(D(x_i))

    This is the gradient that the generator's weights are given to pass on. For an unrolled GAN it is that of
    the present discriminator.

    Args:
        points: ``(N, 2)``.

    Returns:
        ``(N, 2)``, in units of the loss per unit of length.
    """
    with game.evaluating(), torch.enable_grad():
        points = points.detach().requires_grad_()
        loss = game.adversarial.generator(game.discriminator(points))
        (gradient,) = torch.autograd.grad(loss, points)
    return -len(points) * gradient


@dataclass(frozen=True)
class Score:
    """How far the generator is from the target, measured on samples of both.

    Attributes:
        w1: Wasserstein-1 distance between two sets of samples, exact for these samples; of a perfect
            generator it is not 0 but what two sets of the target's own samples get.
        jsd: Jensen-Shannon divergence of two histograms, in nats (0 to log 2); biased upwards alike.
        quality: share of samples within three standard deviations of the target's skeleton.
        modes: how many modes have at least one such sample; None where the target has no separate modes.
    """

    w1: float
    jsd: float
    quality: float
    modes: int | None


def score(fake: Tensor, target: Target, real: Tensor, *, n: int = 512, bins: int = 24) -> Score:
    """Compare generated points ``(N, 2)`` with points ``(M, 2)`` of the target; see :class:`Score`.

    Args:
        fake: generated points.
        target: gives skeleton and modes.
        real: points of the target.
        n: the first so many of each go into the Wasserstein distance, whose cost grows as their cube.
        bins: per side, over the square that holds all real points; strays are counted at its border.

    Raises:
        ValueError: if there are no points.

    Source of quality and modes: Srivastava et al. 2017 (VEEGAN), section 5; Metz et al. 2017 count alike.
    """
    if not len(fake) or not len(real):
        raise ValueError(f"fake and real must hold points, got {len(fake)} and {len(real)}")
    quality, modes = coverage(fake, target)
    return Score(wasserstein(fake[:n], real[:n]), histogram_jsd(fake, real, bins), quality, modes)


def coverage(fake: Tensor, target: Target) -> tuple[float, int | None]:
    """The ``quality`` and ``modes`` of :class:`Score`."""
    if len(target.modes):
        found = mixture_modes(fake, target.modes, target.std)
        return found.quality, found.recovered
    return (target.distance(fake) <= 3 * target.std).double().mean().item(), None


def wasserstein(x: Tensor, y: Tensor) -> float:
    """The Wasserstein-1 distance of two sets of equally weighted points, by POT's network simplex."""
    import ot

    return float(ot.emd2([], [], torch.cdist(x.double(), y.double()).numpy()))


def histogram_jsd(x: Tensor, y: Tensor, bins: int = 24) -> float:
    """The Jensen-Shannon divergence in nats of two histograms over the square that holds all of ``y``."""
    from ganlib.theory.divergences import jsd

    half = y.abs().max()

    def histogram(points: Tensor) -> Tensor:
        cell = ((points / half + 1) * (bins / 2)).long().clamp(0, bins - 1)
        return torch.bincount(cell[:, 0] * bins + cell[:, 1], minlength=bins**2).double() / len(points)

    return float(jsd(histogram(x).numpy(), histogram(y).numpy()))
