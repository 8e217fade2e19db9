"""Consensus optimization: both players also descend on the length of the joint gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ganlib.models.gan import GAN, AdversarialLoss, Regularizer


class ConsensusGAN(GAN):
    r"""A GAN whose players both pay for how far the game is from a stationary point.

    With the gradients that the two players would follow, :math:`v = (\nabla_\theta L_D, \nabla_\phi L_G)`,

    .. math:: \min_\theta \; L_D + \gamma \, \tfrac12 \|v(\theta, \phi)\|^2, \qquad
              \min_\phi \; L_G + \gamma \, \tfrac12 \|v(\theta, \phi)\|^2

    Around an equilibrium of a game the gradient field turns; the term adds a pull towards its zero, which
    moves the eigenvalues of the Jacobian away from the imaginary axis. Far from one it also pulls towards
    saddle points and maxima, which are zeros too. A step costs second backward passes through both players.

    Args:
        generator, discriminator, loss, regularizers, n_critic, generator_regularizers: as for
            :class:`ganlib.models.gan.GAN`; v is that of the adversarial loss alone.
        weight: :math:`\gamma`, not negative (10 in the paper's experiments on images).

    Raises:
        ValueError: if ``weight`` is negative.

    Source: Mescheder et al. 2017, "The Numerics of GANs", section 4. Its two-parameter counterpart is
    :class:`ganlib.theory.games.Consensus`.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        weight: float = 10.0,
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
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        self.weight = weight

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return super().terms(player, batch) | {
            "consensus": self.weight * self.half_square_of_gradients(player, batch[0])
        }

    def half_square_of_gradients(self, player: str, real: Tensor) -> Tensor:
        """Half the squared length of v, on a batch of its own; differentiable in ``player``'s parameters."""
        # The other player's parameters are copies: v needs gradients with respect to them, their owner none.
        weights = {
            name: {
                key: parameter if name == player else parameter.detach().requires_grad_()
                for key, parameter in module.named_parameters()
            }
            for name, module in self.players.items()
        }

        def judge(x: Tensor) -> Tensor:
            return functional_call(self.discriminator, weights["discriminator"], (x,))

        fake = functional_call(self.generator, weights["generator"], (self.latent(len(real)),))
        on_real, on_fake = judge(real), judge(fake)
        relativistic = getattr(self.adversarial, "relativistic", False)
        losses = {
            "discriminator": self.adversarial.discriminator(on_real, on_fake),
            "generator": self.adversarial.generator(*((on_fake, on_real) if relativistic else (on_fake,))),
        }
        gradients = [
            gradient
            for name, loss in losses.items()
            for gradient in torch.autograd.grad(loss, list(weights[name].values()), create_graph=True)
        ]
        return 0.5 * torch.stack([g.square().sum() for g in gradients]).sum()
