"""Unrolled GAN: a generator that answers the discriminator's next moves, not only its last one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from ganlib.data.toy import ring
from ganlib.losses import NonSaturating
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer
from ganlib.models.pacgan import (
    MixtureDiscriminator,
    MixtureGenerator,
    mixture_experiment,
    mixture_steps,
    mixture_widths,
    refuse_data,
)
from ganlib.models.recipes import adam
from ganlib.systems import system
from ganlib.training import Budget, Experiment

if TYPE_CHECKING:
    from ganlib.data import Images


class UnrolledGAN(GAN):
    r"""A GAN whose generator looks ``steps`` discriminator updates ahead.

    .. math:: \theta_D^{k+1} = \theta_D^k - \eta \nabla_{\theta_D} L_D(\theta_G, \theta_D^k), \qquad
              \min_{\theta_G} L_G(\theta_G, \theta_D^K(\theta_G, \theta_D))

    The generator's gradient runs back through the updates as well, since every :math:`\theta_D^k` depends on
    the fakes. That second part is the mechanism: it says how the discriminator would react, so moving all
    samples to the mode that it trusts at the moment no longer pays. The updates are hypothetical: the
    discriminator itself moves in its own turn by its own optimizer.

    Args:
        generator, discriminator, loss, regularizers, n_critic, generator_regularizers: as for
            :class:`ganlib.models.gan.GAN`. The unrolled updates follow the adversarial loss alone.
        steps: K, how far to look ahead; 0 is the plain GAN.
        rate: :math:`\eta` of the unrolled updates, plain gradient descent (the paper's experiments unroll
            Adam).

    Raises:
        ValueError: if ``steps`` is negative, ``rate`` is not positive, or the discriminator holds batch norm,
            whose running averages the hypothetical updates would move.

    The paper's generator descends the whole objective at the unrolled weights, whose term on real data
    depends on G as well, through those weights. Here it descends its own side of the loss alone.

    Source: Metz et al. 2017, eqs. 7 to 11. Lectures: MIT "Problems of GAN"; OUC "Mode collapse".
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        steps: int = 5,
        rate: float = 0.1,
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
        if steps < 0:
            raise ValueError(f"steps must not be negative, got {steps}")
        if not rate > 0:
            raise ValueError(f"rate must be positive, got {rate}")
        if any(isinstance(module, _BatchNorm) for module in discriminator.modules()):
            raise ValueError("discriminator must not hold batch norm in an unrolled GAN")
        self.steps, self.rate = steps, rate

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if player == "discriminator":
            return super().terms(player, batch)
        real = batch[0]
        fake = self.generator(self.latent(len(real)))
        parameters = self.unrolled(real, fake)

        def judge(x: Tensor) -> Tensor:
            return functional_call(self.discriminator, parameters, (x,))

        return self.generator_terms(judge, real, fake)

    def unrolled(self, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The discriminator's parameters after ``steps`` updates, as functions of ``fake``."""
        parameters = {n: p.detach().requires_grad_() for n, p in self.discriminator.named_parameters()}
        for _ in range(self.steps):
            outputs = (functional_call(self.discriminator, parameters, (x,)) for x in (real, fake))
            loss = self.adversarial.discriminator(*outputs)
            gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
            parameters = {
                name: parameter - self.rate * gradient
                for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True)
            }
        return parameters


SLOW_DISCRIMINATOR = {"discriminator": adam(1e-4, 0.5), "generator": adam(1e-3, 0.5)}
"""A discriminator ten times as slow as the generator, as in the authors' published toy.

With equal rates of 1e-3 the unrolled generator loses all modes again after it has found them. Chosen at seed
10 among a dozen rates; at this pair a plain GAN keeps all eight modes, too.
"""


@system(
    name="unrolled-gan",
    title="Unrolled GAN on a ring of eight Gaussians",
    paper="Metz et al. 2017, Unrolled Generative Adversarial Networks",
    lectures=("MIT: Problems of GAN", "OUC: Mode collapse"),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Five steps ahead, as in the paper's toy, on the networks that PacGAN's authors take.

    Half the rounds of the other systems in the plane, since each costs several times as much.
    """
    refuse_data("unrolled-gan", data)
    width, judge_width = mixture_widths(budget)
    networks = MixtureGenerator(width), MixtureDiscriminator(judge_width)
    game = UnrolledGAN(*networks, NonSaturating(), steps=5, rate=1e-3)
    target = ring(8, 1.0, 0.01)
    made = mixture_experiment(game, target, budget, mixture_steps(target, budget) // 2)
    return replace(made, settings=replace(made.settings, optimizers=SLOW_DISCRIMINATOR))
