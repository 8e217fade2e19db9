r"""BEGAN: two autoencoder errors held in a fixed proportion by a feedback loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.losses import Wasserstein
from ganlib.models.dcgan import Generator, channels_per_level
from ganlib.models.ebgan import Autoencoder
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.random import mean_over_processes, uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


class BEGAN(GAN):
    r"""A generator against an autoencoder, balanced by :math:`k_t`.

    With :math:`\mathcal L(v)` the mean absolute reconstruction error of v,

    .. math::
        L_D &= \mathcal L(x) - k_t \, \mathcal L(G(z_D)), \qquad L_G = \mathcal L(G(z_G)), \\
        k_{t+1} &= \operatorname{clip}\big(
            k_t + \lambda \, (\gamma \mathcal L(x) - \mathcal L(G(z_G))), \, 0, 1\big).

    The autoencoder must do well on data, and badly on fakes to the extent of :math:`k_t`. The controller
    moves :math:`k_t` until :math:`\mathcal L(G(z)) = \gamma \mathcal L(x)`: a low diversity :math:`\gamma`
    asks for fakes that are reconstructed better than data, which is easiest with few and plain ones. How far
    the game is from there, and how well data are reconstructed, is the convergence measure

    .. math:: M = \mathcal L(x) + |\gamma \mathcal L(x) - \mathcal L(G(z_G))|.

    k_t and M are buffers, ``balance`` and ``measure``, hence in checkpoints. They are also among the terms of
    the losses, as constants without a gradient, so that the history has their curves:
    ``discriminator/balance`` and ``generator/measure``.

    Args:
        generator: ``(N, latent_dim)`` -> samples.
        autoencoder: samples -> mean absolute errors ``(N,)``.
        gamma: the diversity ratio, in (0, 1].
        rate: :math:`\lambda`, positive.

    Raises:
        ValueError: if ``gamma`` or ``rate`` is out of range.

    Source: Berthelot et al. 2017, sections 3.3 to 3.4. Lecture: OUC "BEGAN".
    """

    balance: Tensor
    measure: Tensor
    real_error: Tensor
    fake_error: Tensor

    def __init__(
        self,
        generator: nn.Module,
        autoencoder: nn.Module,
        gamma: float = 0.5,
        rate: float = 1e-3,
    ) -> None:
        super().__init__(generator, autoencoder, Wasserstein())
        if not 0 < gamma <= 1:
            raise ValueError(f"gamma must lie in (0, 1], got {gamma}")
        if not rate > 0:
            raise ValueError(f"rate must be positive, got {rate}")
        self.gamma, self.rate = gamma, rate
        for name in ("balance", "measure", "real_error", "fake_error"):
            self.register_buffer(name, torch.zeros(()))

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real = batch[0]
        if player == "generator":
            error = self.discriminator(self.generator(self.latent(len(real)))).mean()
            self.fake_error.copy_(error.detach())
            return {"adversarial": error, "measure": convergence(self.real_error, error.detach(), self.gamma)}
        with torch.no_grad():
            fake = self.generator(self.latent(len(real))).to(real.dtype)
        errors = [side.mean() for side in self.judge(real, fake)]
        self.real_error.copy_(errors[0].detach())
        return {"real": errors[0], "fake": -self.balance * errors[1], "balance": self.balance.clone()}

    @torch.no_grad()
    def after_step(self, player: str) -> None:
        super().after_step(player)
        if player == "generator":
            # Each process has seen its own rows, and all must turn the same knob.
            real, fake = mean_over_processes(torch.stack([self.real_error, self.fake_error]))
            self.measure.copy_(convergence(real, fake, self.gamma))
            self.balance.add_(self.rate * (self.gamma * real - fake)).clamp_(0.0, 1.0)

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Latents uniform on [-1, 1], ``(n, latent_dim)``."""
        return 2 * uniform(n, self.generator.latent_dim, device=self.device, rng=rng) - 1

    def sample(self, n: int, rng: torch.Generator | None = None, batch_size: int = 500) -> Tensor:
        """As every GAN's, cut off at -1 and 1: the decoder's last layer is linear."""
        return super().sample(n, rng, batch_size).clamp(-1, 1)


def convergence(real: Tensor, fake: Tensor, gamma: float) -> Tensor:
    r"""The measure :math:`M = \mathcal L(x) + |\gamma \mathcal L(x) - \mathcal L(G(z))|` from both errors.

    Source: Berthelot et al. 2017, section 3.4.1.
    """
    return real + (gamma * real - fake).abs()


def mean_absolute(errors: Tensor) -> Tensor:
    """Errors ``(N, d)`` -> their mean absolute value per sample, ``(N,)``: the paper's loss with eta = 1."""
    return errors.abs().mean(1)


class Decoder(nn.Module):
    """Codes ``(N, latent_dim)`` -> images ``(N, channels, size, size)``, unbounded; the generator too is one.

    Two 3 x 3 convolutions with ELU at 8 x 8 and after each doubling by nearest neighbours, with the same
    number of filters throughout. No batch norm, no dropout, no transposed convolution.

    Args:
        latent_dim: length of the code.
        width: filters everywhere.
        channels: of the images.
        size: side of the images, a power of two of at least 8.

    Source: Berthelot et al. 2017, section 3.5, figure 1.
    """

    def __init__(self, latent_dim: int = 64, width: int = 64, channels: int = 1, size: int = 32) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        layers: list[nn.Module] = [nn.Linear(latent_dim, 64 * width), nn.Unflatten(1, (width, 8, 8))]
        for level in range(doublings(size) + 1):
            layers += [nn.Upsample(scale_factor=2)] if level else []
            for _ in range(2):
                layers += [nn.Conv2d(width, width, 3, padding=1), nn.ELU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, channels, 3, padding=1))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Encoder(nn.Module):
    """Images -> codes ``(N, latent_dim)``: filters grow by ``width`` at each halving, down to 8 x 8.

    Arguments and source as of :class:`Decoder`.
    """

    def __init__(self, latent_dim: int = 64, width: int = 64, channels: int = 1, size: int = 32) -> None:
        super().__init__()
        levels = doublings(size)
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ELU(inplace=True)]
        for level in range(levels + 1):
            filters, stride = width * (level + 1), 1 if level == levels else 2
            inputs = width * max(1, level)
            layers += [nn.Conv2d(inputs, filters, 3, padding=1), nn.ELU(inplace=True)]
            layers += [nn.Conv2d(filters, filters, 3, stride, 1), nn.ELU(inplace=True)]
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * width * (levels + 1), latent_dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def doublings(size: int) -> int:
    """How often 8 must be doubled to make ``size``, which must be a power of two of at least 8."""
    return len(channels_per_level(1, size)) - 1


def bottleneck_autoencoder(width: int = 32, code: int = 32, channels: int = 1, size: int = 32) -> Autoencoder:
    """One halving, a fully connected code of ``code`` numbers and the way back, for images in [-1, 1].

    What does not pass the code is lost, so that only samples like those it has learned from come back well.
    """
    half = size // 2
    inside = width * half * half
    encoder = nn.Sequential(
        nn.Conv2d(channels, width, 4, 2, 1), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(inside, code)
    )
    decoder = nn.Sequential(
        nn.Linear(code, inside),
        nn.BatchNorm1d(inside),
        nn.ReLU(inplace=True),
        nn.Unflatten(1, (width, half, half)),
        nn.ConvTranspose2d(width, channels, 4, 2, 1),
        nn.Tanh(),
    )
    return Autoencoder(encoder, decoder, mean_absolute)


def networks(budget: Budget, channels: int, size: int) -> tuple[nn.Module, Autoencoder]:
    """Generator and autoencoder: the paper's on ``gpu``; else DCGAN's generator and a narrow code."""
    if budget is Budget.GPU:
        halves = Encoder(64, 64, channels, size), Decoder(64, 64, channels, size)
        return Decoder(64, 64, channels, size), Autoencoder(*halves, mean_absolute)
    width = budget.pick(smoke=4, cpu=32, gpu=64)
    return Generator(64, width, channels, size), bottleneck_autoencoder(width, 32, channels, size)


@system(
    name="began",
    title="Boundary equilibrium GAN",
    paper="Berthelot et al. 2017, BEGAN: Boundary Equilibrium Generative Adversarial Networks",
    lectures=("OUC: BEGAN",),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """On ``gpu`` diversity 0.5, Adam at 1e-4, lambda 0.001, batches of 16, 64 latents. Diversity 1 else.

    Digits show what the ratio does. A one is reconstructed far better than the mean digit, so a generator of
    nothing but ones can be in balance, and with the paper's networks and a ratio of 0.5 that is what it
    became in 3,000 steps; at 1 it drew ones, sevens and a few others. Below ``gpu`` the autoencoder's code
    therefore has 32 numbers, and the generator has batch norm.
    """
    return experiment(budget, data, gamma=0.5 if budget is Budget.GPU else 1.0)


def experiment(budget: Budget, data: Images | None = None, gamma: float = 0.5) -> Experiment:
    """The recipe at any diversity ratio ``gamma``; the paper shows 0.3, 0.5 and 0.7."""
    images = image_data(data, budget)
    steps = budget.pick(smoke=4, cpu=3000, gpu=200_000)
    slow = budget is Budget.GPU
    game = BEGAN(*networks(budget, *images.images.shape[1:3]), gamma, rate=1e-3 if slow else 1e-2)
    return Experiment(
        game,
        images,
        Settings(
            optimizers=dict.fromkeys(game.turns, adam(1e-4, 0.5) if slow else adam(1e-3, 0.5)),
            batch_size=budget.pick(smoke=8, cpu=64, gpu=16),
            ema={"generator": 0.999},
            schedule=None if slow else LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=("The rate is not halved when the measure stalls, as the paper does.",)
        if slow
        else (
            "For minutes in place of hours: DCGAN's generator, and an autoencoder of one convolution and a "
            "code of 32 numbers, chosen among eight pairs of networks and rates at seed 10; Adam at 1e-3 "
            "falling to zero over the last three fifths, lambda 0.01; averaged generator weights.",
        ),
    )
