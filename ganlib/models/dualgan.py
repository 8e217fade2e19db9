"""DualGAN: two critics, two U-Nets, and what each pair learns from the other's round trip."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.data import edges
from ganlib.layers.patch import PatchDiscriminator
from ganlib.losses import Wasserstein, clip_weights_
from ganlib.models import dcgan
from ganlib.models.pix2pix import UNet
from ganlib.models.translation import DOMAINS, Translation, translation_report, unpaired_digits
from ganlib.systems import system
from ganlib.training import Budget, Experiment

if TYPE_CHECKING:
    from ganlib.data import Images


class DualGAN(Translation):
    r"""Dual learning: two translators that teach each other by what comes back, and two clipped critics.

    With translators G: a -> b and F: b -> a, which draw noise z, z' by dropout, the generators minimise

    .. math::
        \lambda_a \operatorname{mean} | F(G(a, z), z') - a |
        + \lambda_b \operatorname{mean} | G(F(b, z'), z) - b | - D_b(G(a, z)) - D_a(F(b, z'))

    and the critics :math:`D_b(G(a, z)) - D_b(b) + D_a(F(b, z')) - D_a(a)`, after each step of which every
    weight of theirs is clipped to [-clip, clip]. The idea is from machine translation, where two agents
    without a common language send a sentence there and back: the receiver of the first message can judge
    only whether it is a sentence, the sender whether it came back.

    Dropout stays in translation as in training: it is the noise, and one seed draws one translation.

    Args:
        a_to_b: G, images, rng -> images, as :class:`ganlib.models.pix2pix.UNet`.
        b_to_a: F.
        critic_a: D_a, images -> critic values of any shape.
        critic_b: D_b.
        recovery: :math:`(\lambda_a, \lambda_b)`, not negative.
        clip: bound of the critics' weights, positive.
        n_critic: steps of the critics per round.
        shown: as for :class:`ganlib.models.translation.Translation`.

    Raises:
        ValueError: for a negative weight, a ``clip`` that is not positive, or ``n_critic`` below 1.

    Source: Yi et al. 2017, "DualGAN: Unsupervised Dual Learning for Image-to-Image Translation", section 3,
    eq. 3, where the weights are between 100 and 1,000; the default clip is WGAN's. The authors' published
    code has since exchanged critics and clipping for a cross-entropy. Lecture: OUC "Dual Learning" and
    "DualGAN".
    """

    def __init__(
        self,
        a_to_b: nn.Module,
        b_to_a: nn.Module,
        critic_a: nn.Module,
        critic_b: nn.Module,
        *,
        recovery: tuple[float, float] = (200.0, 200.0),
        clip: float = 0.01,
        n_critic: int = 3,
        shown: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        networks = a_to_b, b_to_a, critic_a, critic_b
        super().__init__(*networks, Wasserstein(), cycle=recovery, n_critic=n_critic, shown=shown)
        if not clip > 0:
            raise ValueError(f"clip must be positive, got {clip}")
        self.clip = clip

    def after_step(self, player: str) -> None:
        """Clip the critics' weights after their step."""
        super().after_step(player)
        if player == "discriminators":
            clip_weights_(self.discriminators, self.clip)

    def translate(
        self, images: Tensor, to: str = "b", batch_size: int = 500, rng: torch.Generator | None = None
    ) -> Tensor:
        """Images of one domain in the other, float32, in evaluation mode but for the noise, no graph.

        Args:
            images: of the other domain.
            to: the domain to draw in.
            batch_size: images per pass.
            rng: of the noise; a fixed seed if None, so that the same images have the same translation.

        Raises:
            ValueError: unless ``to`` is ``"a"`` or ``"b"``.
        """
        if to not in DOMAINS:
            raise ValueError(f'to must be "a" or "b", got {to!r}')
        rng = torch.Generator().manual_seed(0) if rng is None else rng
        with self.evaluating():
            parts = images.to(self.device).split(batch_size)
            return torch.cat([self.generators[to](part, rng).float() for part in parts])


QUICKER = (
    "Width 14, batches of 16, two steps of the critics; RMSprop at 1e-3 for 5e-5, falling to zero over the "
    "last three fifths; averaged generator weights.",
    "Recovery weighs 5 and weights are clipped at 0.05, where the paper has 100 to 1,000 and WGAN 0.01. "
    "Chosen on seed 0 among eleven settings, with the figures in view.",
)


@system(
    name="dualgan",
    title="DualGAN: dual learning with two critics",
    paper="Yi et al. 2017, DualGAN: Unsupervised Dual Learning for Image-to-Image Translation",
    lectures=("OUC: Dual Learning", "OUC: DualGAN"),
    notebook="15_unpaired_translation.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Outlines of one half of MNIST and the digits of the other; or the same of any images."""
    domains, shown = unpaired_digits(budget, edges, data)
    outlines, channels, size = domains[0].shape[1], *domains[1].shape[1:3]
    width = budget.pick(smoke=4, cpu=14, gpu=64)
    steps = budget.pick(smoke=4, cpu=700, gpu=50_000)
    slow = budget is Budget.GPU
    # 70 pixels are about a quarter of the side of the paper's images, 16 are half of a digit's.
    field = 70 if size >= 128 else 16
    game = DualGAN(
        UNet(outlines, channels, width, size),
        UNet(channels, outlines, width, size),
        PatchDiscriminator(outlines, width, field),
        PatchDiscriminator(channels, width, field),
        recovery=(200.0, 200.0) if slow else (5.0, 5.0),
        clip=0.01 if slow else 0.05,
        n_critic=budget.pick(smoke=1, cpu=2, gpu=3),
        shown=shown,
    )
    common = dcgan.settings(budget, steps)
    rmsprop = partial(torch.optim.RMSprop, lr=5e-5 if slow else 1e-3, alpha=0.9)
    return Experiment(
        game,
        domains,
        replace(
            common,
            optimizers=dict.fromkeys(game.turns, rmsprop),
            batch_size=budget.pick(smoke=16, cpu=16, gpu=4),
            ema={"generators": 0.999},
        ),
        steps=steps,
        evaluate=translation_report(edges, data, budget),
        notes=() if slow else QUICKER,
    )
