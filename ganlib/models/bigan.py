"""BiGAN, also ALI: a discriminator of pairs makes an encoder learn to invert the generator."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ganlib.losses import NonSaturating
from ganlib.models.dcgan import Discriminator, initialize_
from ganlib.models.gan import GAN, AdversarialLoss


class BiGAN(GAN):
    r"""Generator and encoder against a discriminator that sees images *with their codes*.

    .. math:: \min_{G, E} \max_D \; E_x \log D(x, E(x)) + E_z \log(1 - D(G(z), z))

    D's best answer leaves G and E twice the Jensen-Shannon divergence of two joint laws, that of (x, E(x))
    and that of (G(z), z). It is zero only where both are one, and then z = E(G(z)) and x = G(E(x)) almost
    surely: E has become the inverse of G, although no reconstruction was ever compared with its original.
    Short of the optimum nothing says *which* pixels matter; what D does not look at need not come back.

    G learns from the fake pairs alone and E from the real ones alone. G's loss is the loss's generator side
    on the logit of (G(z), z). E's is the same on minus the logit of (x, E(x)): E is paid for pairs that D
    takes for G's. For the non-saturating loss that is :math:`-\log(1 - D(x, E(x)))`, the flipped label.

    Args:
        generator: ``(N, latent_dim)`` -> samples ``(N, ...)``; has an attribute ``latent_dim``.
        discriminator: samples, codes ``(N, latent_dim)`` -> logits ``(N,)``.
        encoder: samples -> codes ``(N, latent_dim)``.
        loss: both sides of the adversarial loss; one in which minus a logit is the opposite verdict, such as
            the non-saturating, minimax and Wasserstein losses (not least squares with the labels 0 and 1).

    Source: Donahue et al. 2017, eq. 3 and theorem 2 (deterministic E); Dumoulin et al. 2017 (ALI), the same
    with a random one.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        encoder: nn.Module,
        loss: AdversarialLoss | None = None,
    ) -> None:
        super().__init__(generator, discriminator, NonSaturating() if loss is None else loss)
        self.encoder = encoder
        self.turns = {"discriminator": 1, "autoencoder": 1}

    @property
    def players(self) -> dict[str, nn.Module]:
        both = nn.ModuleList([self.generator, self.encoder])
        return {"discriminator": self.discriminator, "autoencoder": both}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real, z = batch[0], self.latent(len(batch[0]))
        # Autocast leaves G and E in bfloat16; D's two sides must not be told apart by their rounding.
        with torch.set_grad_enabled(player == "autoencoder" and torch.is_grad_enabled()):
            fake, codes = self.generator(z).to(real.dtype), self.encoder(real).to(z.dtype)
        on_real, on_fake = self.judge((real, codes), (fake, z))
        if player == "discriminator":
            return {"adversarial": self.adversarial.discriminator(on_real, on_fake)}
        return {
            "generator": self.adversarial.generator(on_fake),
            "encoder": self.adversarial.generator(-on_real),
        }

    def judge(self, real: Sequence[Tensor], fake: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """The discriminator's outputs on real and on fake pairs, in one pass where that is the same."""
        if self.separate_passes:
            return self.discriminator(*real), self.discriminator(*fake)
        return self.discriminator(*(torch.cat(sides) for sides in zip(real, fake, strict=True))).chunk(2)


class PairDiscriminator(nn.Module):
    """Images ``(N, channels, size, size)`` and codes ``(N, latent_dim)`` -> logits ``(N,)``.

    The DCGAN discriminator up to its 4 x 4 map, two layers for the code, two for both together.

    Args:
        latent_dim: length of a code.
        width, channels, size: as for :class:`ganlib.models.dcgan.Discriminator`.
        hidden: units of the layers for the code and for both.
    """

    def __init__(
        self, latent_dim: int, width: int = 64, channels: int = 1, size: int = 32, hidden: int = 256
    ) -> None:
        super().__init__()
        *body, last, _ = Discriminator(width, channels, size).layers
        self.image = nn.Sequential(*body, nn.Flatten())
        self.code = nn.Sequential(
            nn.Linear(latent_dim, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, hidden), nn.LeakyReLU(0.2)
        )
        self.pair = nn.Sequential(
            nn.Linear(16 * last.in_channels + hidden, hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(hidden, 1),
            nn.Flatten(0),
        )
        initialize_(self.image)

    def forward(self, images: Tensor, codes: Tensor) -> Tensor:
        return self.pair(torch.cat([self.image(images), self.code(codes)], dim=1))
