"""WGAN-GP: a critic kept 1-Lipschitz by a penalty on its gradient."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ganlib.losses import GradientPenalty, Wasserstein
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


class Critic(Discriminator):
    """Images -> unbounded scores ``(N,)``: DCGAN's discriminator without its batch norm.

    The penalty asks for the gradient of each sample's own score. Batch norm makes a score depend on the whole
    batch, and the penalty on single samples then has no meaning (Gulrajani et al. 2017, section 4).
    """

    def __init__(self, width: int = 64, channels: int = 1, size: int = 32) -> None:
        super().__init__(width, channels, size, batch_norm=False)


@system(
    name="wgan-gp",
    title="Wasserstein GAN with gradient penalty",
    paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs",
    lectures=(
        "Aalto: Wasserstein GAN",
        "UBC: Wasserstein GANs",
        "OUC: WGAN",
        "Purdue: Improved Training of Wasserstein GANs",
    ),
    notebook="07_wgan_gp_mnist.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Algorithm 1 on ``gpu``: Adam 1e-4 with betas (0, 0.9), lambda 10, n_critic 5. Quicker turns else."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    latent_dim = budget.pick(smoke=64, cpu=64, gpu=128)
    steps = budget.pick(smoke=4, cpu=3000, gpu=100_000)
    slow = budget is Budget.GPU
    optimizer = adam(1e-4, 0.0, 0.9) if slow else adam(2e-3, 0.0, 0.99)
    game = GAN(
        Generator(latent_dim, width, channels, size),
        Critic(width, channels, size),
        Wasserstein(),
        [GradientPenalty()],
        n_critic=5 if slow else 2,
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers={"discriminator": optimizer, "generator": optimizer},
            batch_size=budget.pick(smoke=16, cpu=64, gpu=64),
            ema={"generator": 0.999},
            schedule=None if slow else LinearDecay(steps // 2, steps),
            log_every=budget.pick(smoke=2, cpu=25, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=()
        if slow
        else (
            "For minutes in place of hours: two critic steps per generator step, not five; Adam at 2e-3 with "
            "betas (0, 0.99), falling to zero over the second half; 64 latents; averaged generator weights.",
        ),
    )
