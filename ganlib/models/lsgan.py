"""LSGAN: the DCGAN whose discriminator is fitted by least squares."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ganlib.losses import LeastSquares
from ganlib.models.dcgan import Discriminator, Generator, settings
from ganlib.models.gan import GAN
from ganlib.models.recipes import digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment

if TYPE_CHECKING:
    from ganlib.data import Images


@system(
    name="lsgan",
    title="Least-squares GAN",
    paper="Mao et al. 2017, Least Squares Generative Adversarial Networks",
    lectures=("MIT: Brief: LSGAN, EBGAN", "UBC: LSGAN"),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """DCGAN's networks and the codes 0, 1, 1; Adam at 2e-4 with beta1 0.5 on ``gpu``, a quicker one else."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    steps = budget.pick(smoke=6, cpu=4500, gpu=50_000)
    slow = budget is Budget.GPU
    game = GAN(
        Generator(budget.pick(smoke=64, cpu=64, gpu=100), width, channels, size),
        Discriminator(width, channels, size),
        LeastSquares(),
    )
    return Experiment(
        game,
        images,
        replace(settings(budget, steps), batch_size=budget.pick(smoke=16, cpu=64, gpu=64)),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=()
        if slow
        else (
            "For minutes in place of hours: Adam at 1e-3 (D) and 4e-3 (G), beta2 0.99, falling to zero over "
            "the last three fifths; 64 latents; averaged generator weights.",
        ),
    )
