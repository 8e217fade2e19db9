"""CycleGAN: translation without pairs, held to its input by the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganlib.data import edges
from ganlib.layers.patch import PatchDiscriminator
from ganlib.layers.pool import ImagePool
from ganlib.layers.resnet import Normalization, ResnetGenerator
from ganlib.losses import LeastSquares
from ganlib.models.recipes import adam
from ganlib.models.translation import DOMAINS, Translation, View, translation_report, unpaired_digits
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ganlib.data import Images


class CycleGAN(Translation):
    r"""Least squares, L1 cycles, an optional identity term, and a pool of old fakes for each discriminator.

    .. math::
        L = E (D_b(G(a)) - 1)^2 + E (D_a(F(b)) - 1)^2
            + \lambda_a E|F(G(a)) - a| + \lambda_b E|G(F(b)) - b|
            + \iota \big( \lambda_b E|G(b) - b| + \lambda_a E|F(a) - a| \big)

    with norms that are means over pixels. The discriminators minimise
    :math:`\tfrac12 E (D(x) - 1)^2 + \tfrac12 E D(\text{fake})^2`: their squares are halved, so that they
    learn more slowly, and the generators' are not. :class:`ganlib.losses.LeastSquares` halves both, hence
    the adversarial weight of 2.

    The identity term asks a generator to leave alone what is in its target domain already, which keeps it
    from changing colours for no reason. It takes domains of the same channels.

    Args:
        a_to_b: G.
        b_to_a: F.
        discriminator_a: D_a, images of domain a -> logits of patches.
        discriminator_b: D_b.
        shapes: of one image of a and of b, ``(C, H, W)``.
        cycle: :math:`(\lambda_a, \lambda_b)`.
        identity: :math:`\iota`, not negative; 0.5 in the paper's paintings to photographs, 0 elsewhere.
        adversarial_weight: 2 is the paper's; 0 leaves the generators alone with their cycles.
        pool: fakes kept for each discriminator, 0 for none.
        shown: as of :class:`ganlib.models.translation.Translation`.

    Raises:
        ValueError: for a negative weight or pool; for an identity term between domains of different channels.

    Source: Zhu, Park, Isola and Efros 2017, sections 3 and 4, identity term: section 5.2. Lectures: UBC
    "Cycle GANs"; OUC "CycleGAN"; MIT "Example: CycleGAN".
    """

    def __init__(
        self,
        a_to_b: nn.Module,
        b_to_a: nn.Module,
        discriminator_a: nn.Module,
        discriminator_b: nn.Module,
        shapes: tuple[Sequence[int], Sequence[int]],
        *,
        cycle: tuple[float, float] = (10.0, 10.0),
        identity: float = 0.0,
        adversarial_weight: float = 2.0,
        pool: int = 50,
        shown: tuple[Tensor, Tensor] | None = None,
    ) -> None:
        super().__init__(
            a_to_b,
            b_to_a,
            discriminator_a,
            discriminator_b,
            LeastSquares(),
            cycle=cycle,
            adversarial_weight=adversarial_weight,
            shown=shown,
        )
        if not identity >= 0:
            raise ValueError(f"identity must not be negative, got {identity}")
        if identity and shapes[0][0] != shapes[1][0]:
            raise ValueError(
                "identity needs domains of as many channels each, "
                f"got shapes {tuple(shapes[0])} and {tuple(shapes[1])}"
            )
        self.identity = identity
        self.pools = nn.ModuleDict(
            {d: ImagePool(tuple(shape), pool) for d, shape in zip(DOMAINS, shapes, strict=True)}
        )

    def discriminator_terms(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        return super().discriminator_terms(real, {d: self.pools[d](fake[d]) for d in DOMAINS})

    def cycle_terms(self, real: dict[str, Tensor], fake: dict[str, Tensor]) -> dict[str, Tensor]:
        """The cycles, and ``identity_a`` and ``identity_b``: what a generator does to its own domain."""
        terms = super().cycle_terms(real, fake)
        return terms | {
            f"identity_{d}": self.identity
            * weight
            * l1_loss(self.generators[d](real[d]).float(), real[d].float())
            for d, weight in self.cycle.items()
            if self.identity and weight
        }


def networks(
    channels: tuple[int, int],
    width: int = 64,
    blocks: int = 9,
    receptive_field: int = 70,
    *,
    discriminator_width: int = 64,
    normalization: Normalization = nn.InstanceNorm2d,
) -> tuple[ResnetGenerator, ResnetGenerator, PatchDiscriminator, PatchDiscriminator]:
    """G, F, D_a, D_b for images of ``channels`` in a and in b; the defaults are the paper's at 256 x 256.

    11.4 million parameters a generator, 2.8 million a discriminator.
    """
    (a, b), field = channels, receptive_field
    return (
        ResnetGenerator(a, b, width, blocks, normalization=normalization),
        ResnetGenerator(b, a, width, blocks, normalization=normalization),
        PatchDiscriminator(a, discriminator_width, field, normalization=normalization),
        PatchDiscriminator(b, discriminator_width, field, normalization=normalization),
    )


def settings(budget: Budget, steps: int) -> Settings:
    """Adam, its rate falling to zero over the second half.

    On ``gpu`` the paper's: 2e-4, beta1 0.5, batches of one image of each domain. Else quicker ones: 1e-3 for
    the discriminators and 2e-3 for the generators, beta2 0.99, batches of 16, averaged generators.
    """
    slow = budget is Budget.GPU
    rates = {"discriminators": 2e-4 if slow else 1e-3, "generators": 2e-4 if slow else 2e-3}
    return Settings(
        optimizers={player: adam(rate, 0.5, 0.999 if slow else 0.99) for player, rate in rates.items()},
        batch_size=budget.pick(smoke=4, cpu=16, gpu=1),
        ema={} if slow else {"generators": 0.99},
        schedule=LinearDecay(steps // 2, steps),
        log_every=budget.pick(smoke=2, cpu=20, gpu=200),
    )


def experiment(
    budget: Budget,
    data: Images | None = None,
    *,
    view: View = edges,
    cycle: tuple[float, float] = (10.0, 10.0),
    identity: float = 0.0,
    adversarial_weight: float = 2.0,
    pool: int = 50,
    determined: Sequence[str] = DOMAINS,
) -> Experiment:
    """The recipe, and what the study ``unpaired-translation`` changes in it.

    Args:
        budget: smoke, cpu or gpu.
        data: images in place of MNIST.
        view: makes domain a of images.
        cycle: as of :class:`CycleGAN`, like the three that follow.
        identity: likewise.
        adversarial_weight: likewise.
        pool: likewise.
        determined: as of :func:`ganlib.models.translation.translation_report`.
    """
    (a, b), shown = unpaired_digits(budget, view, data)
    size, slow = a.shape[-1], budget is Budget.GPU
    blocks = budget.pick(smoke=1, cpu=2, gpu=9 if size >= 256 else 6)
    field = 70 if size >= 128 else 34 if size >= 16 else 16
    game = CycleGAN(
        *networks(
            (a.shape[1], b.shape[1]),
            budget.pick(smoke=4, cpu=16, gpu=64),
            blocks,
            field,
            discriminator_width=budget.pick(smoke=4, cpu=32, gpu=64),
            normalization=nn.InstanceNorm2d if slow else nn.BatchNorm2d,
        ),
        (a.shape[1:], b.shape[1:]),
        cycle=cycle,
        identity=identity,
        adversarial_weight=adversarial_weight,
        pool=pool,
        shown=shown,
    )
    # The paper's 200 epochs are of about a thousand images each.
    steps = budget.pick(smoke=2, cpu=700, gpu=200 * min(len(a), 1000))
    return Experiment(
        game,
        (a, b),
        settings(budget, steps),
        steps=steps,
        evaluate=translation_report(view, data, budget, determined=determined),
        notes=()
        if slow
        else (
            "For minutes in place of hours: two residual blocks, generators of 16 channels, discriminators "
            "of 32 with fields of 34 pixels, batch norm for instance norm; batches of 16, Adam at 1e-3 (D) "
            "and 2e-3 (G), beta2 0.99; averaged generator weights. Chosen with these figures in view, on "
            "seed 0 and, after that, on seed 2, where the networks before these had failed.",
        ),
    )


@system(
    name="cyclegan",
    title="CycleGAN: unpaired translation with a way back",
    paper="Zhu et al. 2017, Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
    lectures=("UBC: Cycle GANs", "OUC: CycleGAN", "MIT: Example: CycleGAN"),
    notebook="15_unpaired_translation.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Outlines to digits and back, without pairs."""
    return experiment(budget, data)
