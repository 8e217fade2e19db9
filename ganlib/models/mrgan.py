"""Mode-regularized GAN: an encoder that holds the generator responsible for every sample of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganlib.data.toy import ring
from ganlib.losses import NonSaturating
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer
from ganlib.models.pacgan import (
    MixtureDiscriminator,
    MixtureGenerator,
    mixture_experiment,
    mixture_widths,
    refuse_data,
)
from ganlib.random import normal
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game

if TYPE_CHECKING:
    from ganlib.data import Images


class ModeRegularizedGAN(GAN):
    r"""A GAN with an encoder E, whose generator must also be able to give back each sample of the data.

    .. math::
        L_G &= L_{adv}(D(G(z))) + R, \qquad L_E = R, \\
        R &= E_x \big( \lambda_1 \, d(x, G(E(x))) + \lambda_2 \, L_{adv}(D(G(E(x)))) \big)

    with the mean squared error d and the loss's side for the generator, :math:`L_{adv} = -\log D` for the
    non-saturating one. A GAN's own loss never mentions a mode that its generator does not reach, for no fake
    lies there to have a gradient. R does: x is taken from the data, and G(E(x)) has to go where x is.

    The paper, and the slide after it, print the second term as :math:`+\lambda_2 \log D(G(E(x)))` in a loss
    to be minimised. That would send reconstructions where the discriminator is sure that they are false.
    Meant is its maximisation, hence the minus sign in :math:`L_{adv}`.

    Codes pass through the generator in one batch with latents, half and half: by the statistics of E(x)
    alone a batch norm in G would undo any shift of the codes, and G be another function on them than on z.

    Args:
        generator: as for :class:`ganlib.models.gan.GAN`.
        discriminator: likewise.
        encoder: samples ``(N, ...)`` -> latents ``(N, latent_dim)``.
        loss: both sides of the adversarial loss.
        regularizers: penalties on the discriminator.
        n_critic: discriminator steps per round.
        distance_weight: :math:`\lambda_1`, not negative.
        mode_weight: :math:`\lambda_2`, not negative.
        generator_regularizers: further terms of the generator's loss.

    Raises:
        ValueError: if a weight is negative.

    Source: Che et al. 2017, section 3. Lecture: OUC "Mode Regularized GANs".
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        encoder: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        distance_weight: float = 1.0,
        mode_weight: float = 0.1,
        generator_regularizers: Sequence[Regularizer] = (),
    ) -> None:
        extra = {"generator_regularizers": generator_regularizers}
        super().__init__(generator, discriminator, loss, regularizers, n_critic, **extra)
        for name, weight in (("distance_weight", distance_weight), ("mode_weight", mode_weight)):
            if not weight >= 0:
                raise ValueError(f"{name} must be at least 0, got {weight}")
        self.encoder = encoder
        self.distance_weight, self.mode_weight = distance_weight, mode_weight
        self.turns = {"discriminator": n_critic, "generator": 1, "encoder": 1}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if player == "discriminator":
            return super().terms(player, batch)
        real = batch[0]
        fake, again = side_by_side(self.generator, self.latent(len(real)), self.encoder(real))
        own = {} if player == "encoder" else self.generator_terms(self.discriminator, real, fake)
        return own | {
            "distance": self.distance_weight * mse_loss(again.float(), real.float()),
            "mode": self.mode_weight * self.adversarial.generator(self.discriminator(again)),
        }


class ManifoldDiffusionGAN(Game):
    r"""The mode-regularized GAN in two steps, each with a discriminator of its own.

    .. math::
        \text{manifold:} \quad & D_1 \text{ tells } x \text{ from } G(E(x)); \qquad
            L_{G,E} = d(x, G(E(x))) + \lambda \, L_{adv}(D_1(G(E(x)))) \\
        \text{diffusion:} \quad & D_2 \text{ tells } G(E(x)) \text{ from } G(z); \qquad
            L_G = L_{adv}(D_2(G(z)))

    The first step lays the generator's manifold along the data's, the second spreads the mass of G(z) over it
    as the data's mass lies. Both sides of the second are outputs of one network, so D_2 cannot win by their
    looks, which it could while G's samples are still poor; where real and fake lie far apart a discriminator
    is sure of itself, and says nothing.

    Latents and codes pass through the generator in one batch, as in :class:`ModeRegularizedGAN`. Players are
    the two discriminators, the generator, and ``autoencoder``: generator and encoder, which the
    manifold step moves together.

    Args:
        generator: ``(N, latent_dim)`` -> samples ``(N, ...)``; has an attribute ``latent_dim``.
        encoder: samples -> latents ``(N, latent_dim)``.
        manifold: :math:`D_1`, samples -> logits.
        diffusion: :math:`D_2`, likewise.
        loss: both sides of the adversarial loss, of both steps.
        weight: :math:`\lambda`, not negative.

    Raises:
        ValueError: if the weight is negative.

    Source: Che et al. 2017, section 3 (manifold-diffusion training). Lecture: OUC "Mode Regularized GANs".
    """

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        manifold: nn.Module,
        diffusion: nn.Module,
        loss: AdversarialLoss,
        weight: float = 0.01,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        self.generator, self.encoder = generator, encoder
        self.manifold, self.diffusion = manifold, diffusion
        self.adversarial, self.weight = loss, weight
        self.turns = {"manifold": 1, "autoencoder": 1, "diffusion": 1, "generator": 1}

    @property
    def players(self) -> dict[str, nn.Module]:
        own = {name: getattr(self, name) for name in self.turns if name != "autoencoder"}
        return own | {"autoencoder": nn.ModuleList([self.generator, self.encoder])}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real = batch[0]
        fake, again = side_by_side(self.generator, self.latent(len(real)), self.encoder(real))
        match player:
            case "manifold":
                outputs = self.manifold(real), self.manifold(again)
                return {"adversarial": self.adversarial.discriminator(*outputs)}
            case "autoencoder":
                return {
                    "distance": mse_loss(again.float(), real.float()),
                    "mode": self.weight * self.adversarial.generator(self.manifold(again)),
                }
            case "diffusion":
                outputs = self.diffusion(again), self.diffusion(fake)
                return {"adversarial": self.adversarial.discriminator(*outputs)}
            case _:
                return {"adversarial": self.adversarial.generator(self.diffusion(fake))}

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Latents :math:`z \\sim N(0, I)`, ``(n, latent_dim)``."""
        return normal(n, self.generator.latent_dim, device=self.device, rng=rng)

    def sample(self, n: int, rng: torch.Generator | None = None, batch_size: int = 500) -> Tensor:
        """Draw ``n`` samples in evaluation mode, ``batch_size`` at a time, on the game's device."""
        z = self.latent(n, rng)
        with self.evaluating():
            return torch.cat([self.generator(part).float() for part in z.split(batch_size)])


def side_by_side(generator: nn.Module, z: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """G(z) and G(E(x)), ``(N, ...)`` each, from one batch of N latents and N codes ``(N, latent_dim)``."""
    return generator(torch.cat([z, codes])).chunk(2)


class MixtureEncoder(nn.Module):
    """Points ``(N, 2)`` -> latents ``(N, latent_dim)`` through two hidden layers of rectifiers."""

    def __init__(self, width: int = 200, latent_dim: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, latent_dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


MIXTURE_WEIGHTS = {"distance_weight": 300.0, "mode_weight": 3.0}
"""For modes 0.01 wide, where a squared error of 0.01, ten widths off, must still be worth something.

Chosen at seed 10 among ten pairs, of which the three with a distance weight of 300 or more kept all eight
modes of the ring.
"""


@system(
    name="mrgan",
    title="Mode-regularized GAN on a ring of eight Gaussians",
    paper="Che et al. 2017, Mode Regularized Generative Adversarial Networks",
    lectures=("OUC: Mode Regularized GANs",),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """PacGAN's networks without the packs, and an encoder beside them."""
    refuse_data("mrgan", data)
    width, judge_width = mixture_widths(budget)
    networks = MixtureGenerator(width), MixtureDiscriminator(judge_width), MixtureEncoder(width)
    game = ModeRegularizedGAN(*networks, NonSaturating(), **MIXTURE_WEIGHTS)
    return mixture_experiment(game, ring(8, 1.0, 0.01), budget)
