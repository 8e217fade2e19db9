"""GAN with R1: the first loss of all, and a penalty on the discriminator's slope at real data."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from ganlib.losses import R1, NonSaturating
from ganlib.models.dcgan import Generator
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.models.wgan_gp import Critic
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


@system(
    name="gan-r1",
    title="GAN with a zero-centred gradient penalty",
    paper="Mescheder et al. 2018, Which Training Methods for GANs do actually Converge?",
    lectures=("Aalto: Zero-centered gradient penalties",),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Non-saturating loss + R1 with gamma 10, n_critic 1; RMSprop 1e-4 on ``gpu``, a quicker Adam else."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    steps = budget.pick(smoke=6, cpu=3500, gpu=100_000)
    slow = budget is Budget.GPU
    rmsprop = partial(torch.optim.RMSprop, lr=1e-4, alpha=0.99)
    game = GAN(
        Generator(budget.pick(smoke=64, cpu=64, gpu=256), width, channels, size),
        # As for WGAN-GP, no batch norm where the slope at single samples is penalised.
        Critic(width, channels, size),
        NonSaturating(),
        [R1(10.0)],
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers={
                "discriminator": rmsprop if slow else adam(2e-3, 0.0, 0.99),
                "generator": rmsprop if slow else adam(2e-3, 0.0, 0.99),
            },
            batch_size=budget.pick(smoke=16, cpu=64, gpu=64),
            ema={"generator": 0.999},
            schedule=None if slow else LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=("DCGAN's generator in place of the paper's residual networks.",)
        if slow
        else (
            "For minutes in place of hours: Adam at 2e-3 with betas (0, 0.99), falling to zero over the last "
            "three fifths; 64 latents; averaged generator weights. DCGAN's generator.",
        ),
    )
