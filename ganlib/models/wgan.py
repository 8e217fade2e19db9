"""WGAN: the Wasserstein distance in place of the Jensen-Shannon divergence, by clipping weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from ganlib.losses import Wasserstein, clip_weights_
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN, Regularizer
from ganlib.models.recipes import digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


class WGAN(GAN):
    """A generator against a critic whose weights are clipped to [-clip, clip] after each of its steps.

    Args:
        generator: ``(N, latent_dim)`` -> samples.
        critic: samples -> unbounded scores; as a player it is called ``discriminator``, as in every GAN.
        clip: c, positive.
        n_critic: critic steps per generator step.
        regularizers: further penalties on the critic.
        generator_regularizers: further terms of the generator's loss.

    Source: Arjovsky et al. 2017, Algorithm 1. Lectures: MIT "W-GAN algorithm annotated"; all five.
    """

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        clip: float = 0.01,
        n_critic: int = 5,
        regularizers: Sequence[Regularizer] = (),
        *,
        generator_regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__(
            generator,
            critic,
            Wasserstein(),
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


@system(
    name="wgan",
    title="Wasserstein GAN with weight clipping",
    paper="Arjovsky et al. 2017, Wasserstein Generative Adversarial Networks",
    lectures=(
        "MIT: W-GAN algorithm annotated",
        "UBC: Wasserstein GANs",
        "Aalto: Wasserstein GAN",
        "OUC: WGAN",
        "Purdue: Wasserstein GAN (WGAN)",
    ),
    notebook="07_wgan_gp_mnist.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Algorithm 1 on ``gpu``: RMSprop 5e-5, c = 0.01, n_critic = 5, m = 64. A tenfold rate else."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    slow = budget is Budget.GPU
    game = WGAN(Generator(100, width, channels, size), Discriminator(width, channels, size))
    rmsprop = partial(torch.optim.RMSprop, lr=5e-5 if slow else 5e-4)
    return Experiment(
        game,
        images,
        Settings(
            optimizers={"discriminator": rmsprop, "generator": rmsprop},
            batch_size=budget.pick(smoke=16, cpu=64, gpu=64),
            ema={"generator": 0.999},
            log_every=budget.pick(smoke=2, cpu=25, gpu=100),
        ),
        steps=budget.pick(smoke=4, cpu=1500, gpu=100_000),
        evaluate=digit_report(data, budget),
        notes=() if slow else ("RMSprop at 5e-4 in place of 5e-5; averaged generator weights.",),
    )
