r"""Laplacian pyramids: an image as a small one, and band by band the detail that it lost on the way there.

Read in this order: :func:`halve` and :func:`enlarge` (a d and a u), :func:`laplacian_pyramid` (what d takes
away that u does not bring back), :func:`collapse_pyramid` (the way back). All four are linear. ``BINOMIAL``
is the pair of those two; ``LINEAR`` is a simpler one, of means and linear interpolation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from ganlib.layers.equalized import downsample

SMALLEST = 16  # patches of 7 x 7 pixels, the metric's, say little about smaller images
TAPS = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)


def halve(images: Tensor) -> Tensor:
    """Images of half the side, d: the binomial filter (1, 4, 6, 4, 1)/16 both ways, then every second pixel.

    The border is mirrored at its pixel centres, so a constant image stays what it is. The weights are not
    negative and add up to 1: pixels stay in the range that they were in.

    Args:
        images: floating point ``(N, C, H, W)``, even sides of at least 4.

    Returns:
        ``(N, C, H / 2, W / 2)``.

    Raises:
        ValueError: for another shape or dtype.

    Source: Burt and Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983 (their REDUCE).
    """
    _check(images, smallest=4)
    if images.shape[2] % 2 or images.shape[3] % 2:
        raise ValueError(f"images must have even sides, got {tuple(images.shape[2:])}")
    return _filter(images, stride=2)


def enlarge(images: Tensor) -> Tensor:
    """Images of twice the side, u: zeros between the pixels, then the filter of :func:`halve` times 4.

    The factor is for the three quarters of zeros: a constant image stays what it is.

    Args:
        images: floating point ``(N, C, H, W)``, sides of at least 2.

    Returns:
        ``(N, C, 2H, 2W)``, smooth.

    Raises:
        ValueError: for another shape or dtype.

    Source: Burt and Adelson 1983 (their EXPAND).
    """
    _check(images, smallest=2)
    n, channels, height, width = images.shape
    spread = images.new_zeros(n, channels, 2 * height, 2 * width)
    spread[:, :, ::2, ::2] = images
    return 4 * _filter(spread)


def interpolate(images: Tensor) -> Tensor:
    """Images of twice the side, ``(N, C, 2H, 2W)``, linear between the centres of the pixels.

    It fits :func:`ganlib.layers.downsample`, whose pixels lie in the middle of four finer ones.
    """
    return F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)


class Scaling(NamedTuple):
    """How a pyramid goes down an octave and up again; any pair makes an exact one.

    Attributes:
        down: images ``(N, C, H, W)`` -> ``(N, C, H / 2, W / 2)``.
        up: the other way.
    """

    down: Callable[[Tensor], Tensor]
    up: Callable[[Tensor], Tensor]


BINOMIAL = Scaling(halve, enlarge)
LINEAR = Scaling(downsample, interpolate)


def laplacian_pyramid(
    images: Tensor, levels: int | None = None, *, smallest: int = SMALLEST, scaling: Scaling = BINOMIAL
) -> list[Tensor]:
    r"""Images split into octaves: each level is what the next coarser one, enlarged, leaves to be added.

    .. math:: h_k = I_k - u(I_{k+1}), \qquad I_{k+1} = d(I_k), \quad I_0 = I

    with d and u of ``scaling``. The last level is the small image :math:`I_K` itself.

    Args:
        images: ``(N, C, H, W)``.
        levels: how many; None for as many as leave both sides at ``smallest`` or more.
        smallest: least side of the last level, at least 2.
        scaling: d and u; :func:`halve` and :func:`enlarge` unless told otherwise.

    Returns:
        Tensors ``(N, C, H / 2^k, W / 2^k)``, finest first; :func:`collapse_pyramid` adds them up again.

    Raises:
        ValueError: unless the sides halve without rest down to a last level of at least ``smallest``.

    Source: Burt and Adelson 1983; Denton et al. 2015, "Laplacian Pyramid". Lecture: OUC "LAPGAN".
    """
    if smallest < 2:
        raise ValueError(f"smallest must be at least 2, got {smallest}")
    _check(images)
    smaller = min(images.shape[2:])
    if levels is None:
        levels = max(1, (smaller // smallest).bit_length())
    step = 1 << (levels - 1) if levels > 0 else 0
    if levels < 1 or smaller < smallest * step or any(side % step for side in images.shape[2:]):
        raise ValueError(
            f"images must have sides of at least {smallest * step} that are multiples of {step} for "
            f"{levels} levels, got {tuple(images.shape[2:])}"
        )
    pyramid = [images]
    for _ in range(levels - 1):
        fine = pyramid[-1]
        coarse = scaling.down(fine)
        pyramid[-1:] = [fine - scaling.up(coarse), coarse]
    return pyramid


def collapse_pyramid(pyramid: Sequence[Tensor], scaling: Scaling = BINOMIAL) -> Tensor:
    r"""The images that :func:`laplacian_pyramid` split, up to rounding: from the coarsest, enlarge and add.

    .. math:: I_k = u(I_{k+1}) + h_k

    True whatever d and u are, since h was defined as the difference: the pyramid is exact by construction.
    """
    image = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        image = scaling.up(image) + level
    return image


def _check(images: Tensor, smallest: int = 1) -> None:
    if images.ndim != 4 or 0 in images.shape or not images.is_floating_point():
        raise ValueError(
            f"images must be floating point (N, C, H, W), got {images.dtype} {tuple(images.shape)}"
        )
    if min(images.shape[2:]) < smallest:
        raise ValueError(
            f"images must have sides of at least {smallest} pixels, got {tuple(images.shape[2:])}"
        )


def _filter(images: Tensor, stride: int = 1) -> Tensor:
    """The binomial filter on each channel, mirrored at the border, at every ``stride``-th pixel."""
    height, width = images.shape[2:]
    padded = F.pad(images, (2, 2, 2, 2), mode="reflect")
    # Shifted sums, not a convolution, which a GPU rounds to TF32.
    columns = sum(w * padded[:, :, :, i : i + width : stride] for i, w in enumerate(TAPS))
    return sum(w * columns[:, :, i : i + height : stride] for i, w in enumerate(TAPS))
