"""SNGAN: a discriminator whose every weight is divided by its largest singular value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from ganlib.layers import spectral_norm
from ganlib.losses import Hinge
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


def normalize_spectrally_(module: nn.Module) -> nn.Module:
    """Apply :func:`ganlib.layers.spectral_norm` to every convolution and linear layer; returns the module."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            spectral_norm(layer)
    return module


@system(
    name="sngan",
    title="Spectrally normalized GAN",
    paper="Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks",
    lectures=("Aalto: Spectral Normalization", "UBC: Wasserstein GANs"),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """The hinge loss; on ``gpu`` Adam 2e-4, betas (0, 0.9), falling to zero, n_dis 5, as on CIFAR-10."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    steps = budget.pick(smoke=6, cpu=3200, gpu=50_000)
    slow = budget is Budget.GPU
    game = GAN(
        Generator(budget.pick(smoke=64, cpu=64, gpu=128), width, channels, size),
        # Its only normalization: batch norm would undo the bound on the slope.
        normalize_spectrally_(Discriminator(width, channels, size, batch_norm=False)),
        Hinge(),
        n_critic=5 if slow else 2,
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers=dict.fromkeys(game.turns, adam(2e-4 if slow else 2e-3, 0.0, 0.9)),
            batch_size=budget.pick(smoke=16, cpu=64, gpu=64),
            ema={"generator": 0.999},
            schedule=LinearDecay(0 if slow else 2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=("DCGAN's convolutions in place of the paper's residual ones.",)
        if slow
        else (
            "For minutes in place of hours: two steps of D per step of G, not five; Adam at 2e-3, falling to "
            "zero over the last three fifths; 64 latents; averaged generator weights.",
        ),
    )
