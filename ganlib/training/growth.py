"""When the networks of a game grow: resolutions, fade-ins and batch sizes as functions of the round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple


class Stage(NamedTuple):
    """Where a growing network stands.

    Attributes:
        size: side of the images in pixels.
        alpha: weight of the newest layers, in [0, 1]; 1 where nothing fades in.
    """

    size: int
    alpha: float


@dataclass(frozen=True)
class Growth:
    r"""The schedule of progressive growing.

    Training begins at the first size and shows it ``images`` real images. Every further size first *fades
    in* over as many, :math:`\alpha` rising on a line with the images shown, and then has as many to settle:

    .. math:: \alpha = \min\Big(1, \frac{\text{images shown since the size began}}{\text{images}}\Big)

    The last size stays until the training ends. A phase lasts whole rounds, ``images / batch size`` rounded
    up, each taken as one batch: the trainer's :class:`ganlib.training.Settings` take :attr:`batches` for
    their batch size and :attr:`starts` for the rounds at which the optimizers start anew.

    Args:
        sizes: sides in pixels, each twice the one before.
        batch_sizes: samples per step at each size; smaller at larger sizes, where memory is short.
        images: real images per phase.

    Raises:
        ValueError: for sizes that do not double, other than one batch size per size, or counts below 1.

    Source: Karras et al. 2018 (Progressive GAN), section 2, figure 2 and appendix A.1 (800,000 images).
    Lectures: Aalto "Progressive growing (ProGAN)", UBC "Progressive GANs", Purdue "Progressive-Growing GAN".
    """

    sizes: Sequence[int] = (4, 8, 16, 32)
    batch_sizes: Sequence[int] = (64, 64, 64, 64)
    images: int = 800_000

    def __post_init__(self) -> None:
        if not self.sizes or any(b != 2 * a for a, b in zip(self.sizes, self.sizes[1:], strict=False)):
            raise ValueError(f"sizes must double from one to the next, got {tuple(self.sizes)}")
        if len(self.batch_sizes) != len(self.sizes):
            raise ValueError(
                f"batch_sizes must have one entry for each of {len(self.sizes)} sizes, "
                f"got {tuple(self.batch_sizes)}"
            )
        for name, least in (("sizes", self.sizes[0]), ("batch_sizes", min(self.batch_sizes))):
            if least < 1:
                raise ValueError(f"{name} must be positive, got {tuple(getattr(self, name))}")
        if self.images < 1:
            raise ValueError(f"images must be at least 1, got {self.images}")

    @property
    def phases(self) -> tuple[int, ...]:
        """Rounds that one phase, fade-in or not, lasts at each size."""
        return tuple(-(-self.images // batch) for batch in self.batch_sizes)

    @property
    def starts(self) -> tuple[int, ...]:
        """The rounds at which the second size, the third, ... begin to fade in."""
        first, *later = self.phases
        return tuple(accumulate((2 * rounds for rounds in later[:-1]), initial=first)) if later else ()

    @property
    def batches(self) -> dict[int, int]:
        """Round -> batch size from then on."""
        return dict(zip((0, *self.starts), self.batch_sizes, strict=True))

    @property
    def rounds(self) -> int:
        """How long the schedule is: to the end of the last size's stable phase."""
        first, *later = self.phases
        return first + 2 * sum(later)

    def at(self, step: int) -> Stage:
        """Size and alpha in round ``step``, counted from 0."""
        level = sum(step >= start for start in self.starts)
        if level == 0:
            return Stage(self.sizes[0], 1.0)
        return Stage(self.sizes[level], min(1.0, (step - self.starts[level - 1]) / self.phases[level]))
