r"""EBGAN: the discriminator as an energy, here the error with which an autoencoder reconstructs a sample."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.losses import EnergyMargin, PullingAway
from ganlib.models.dcgan import Generator, channels_per_level, initialize_
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


class Autoencoder(nn.Module):
    r"""Images ``(N, C, H, W)`` -> energies ``(N,)``, how badly each is reconstructed.

    .. math:: D(x) = \| \operatorname{Dec}(\operatorname{Enc}(x)) - x \|_2

    Zero for what the autoencoder knows, never negative. The norm is over a sample's pixels and channels, not
    over the batch.

    Args:
        encoder: images -> codes.
        decoder: codes -> images.
        energy: errors ``(N, C H W)`` -> ``(N,)``; None for the Euclidean norm.

    Source: Zhao et al. 2017, section 2.3.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        energy: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.energy = energy or partial(torch.linalg.vector_norm, dim=1)

    def forward(self, x: Tensor) -> Tensor:
        errors = (self.decoder(self.encoder(x)) - x).flatten(1)
        # A thousand pixels are summed, for which bfloat16 has too few digits.
        return self.energy(errors if errors.dtype.itemsize >= 4 else errors.float())


def convolutional_autoencoder(width: int = 64, channels: int = 1, size: int = 32) -> Autoencoder:
    """Strided convolutions down to 4 x 4 and their mirror image, with batch norm except at the outer ends.

    The codes, ``4 * 4`` positions with the channels of DCGAN's last level, have no activation, so that two of
    them can be orthogonal or opposed.

    Source: Zhao et al. 2017, the appendix on their convolutional networks (4 x 4 kernels of stride 2).
    """
    widths = [channels, *channels_per_level(width, size)]
    encoder: list[nn.Module] = []
    decoder: list[nn.Module] = []
    for level, (outer, inner) in enumerate(pairwise(widths)):
        if level > 0:
            encoder += [nn.BatchNorm2d(outer), nn.LeakyReLU(0.2)]
            decoder = [nn.BatchNorm2d(outer), nn.LeakyReLU(0.2), *decoder]
        encoder += [nn.Conv2d(outer, inner, 4, 2, 1)]
        decoder = [nn.ConvTranspose2d(inner, outer, 4, 2, 1), *decoder]
    decoder += [nn.Tanh()]
    return Autoencoder(initialize_(nn.Sequential(*encoder)), initialize_(nn.Sequential(*decoder)))


@system(
    name="ebgan",
    title="Energy-based GAN with the pulling-away term",
    paper="Zhao et al. 2017, Energy-based Generative Adversarial Network",
    lectures=("MIT: Brief: LSGAN, EBGAN", "OUC: EBGAN"),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Margin 10, pulling-away term with weight 0.1 on the encoder's codes (EBGAN-PT)."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=64)
    steps = budget.pick(smoke=4, cpu=3000, gpu=50_000)
    slow = budget is Budget.GPU
    discriminator = convolutional_autoencoder(width, channels, size)
    game = GAN(
        Generator(budget.pick(smoke=64, cpu=64, gpu=100), width, channels, size),
        discriminator,
        EnergyMargin(10.0),
        generator_regularizers=[PullingAway(discriminator.encoder, 0.1)],
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers={
                "discriminator": adam(1e-3, 0.5, 0.999 if slow else 0.99),
                "generator": adam(1e-3, 0.5, 0.999 if slow else 0.99),
            },
            batch_size=budget.pick(smoke=16, cpu=64, gpu=64),
            ema={"generator": 0.999},
            schedule=None if slow else LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=("Convolutions in place of the paper's fully connected networks on MNIST.",),
    )
