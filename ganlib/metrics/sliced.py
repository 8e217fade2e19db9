r"""Sliced Wasserstein distance of image patches, level by level of a Laplacian pyramid: ProGAN's metric.

Read in this order: :func:`swd` (the metric), :func:`ganlib.layers.pyramid.laplacian_pyramid` (its levels),
:func:`patch_descriptors` (its points), :func:`sliced_distance` (its distance).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ganlib.layers.pyramid import laplacian_pyramid

PATCH = 7
SMALLEST = 16  # the coarsest level has at least this side


@torch.no_grad()
def swd(
    real: Tensor, generated: Tensor, *, rng: torch.Generator, patches: int = 128, directions: int = 512
) -> dict[int, float]:
    """Sliced Wasserstein distance between patches of two sets of images at each level of their pyramids.

    The levels of a Laplacian pyramid hold the detail of one octave each: a distance at the finest tells of
    noise, blur and edges, one at the coarsest of shape. Patches are 7 x 7. The channels of either set are
    brought to mean 0 and deviation 1 on their own, so that overall brightness and contrast do not count.

    The same places and directions serve both sets, so a set is at distance 0 from itself, and two samples of
    one distribution at a floor that falls with their size: give the number of images with the figure.

    Args:
        real: images ``(N, C, H, W)``; sides such that halving them down to the last of at least 16 is exact.
        generated: of the same shape.
        rng: source of the patches' places and the directions.
        patches: per image and level.
        directions: the authors' four repeats of 128 are one mean over 512.

    Returns:
        Distance by level, keyed by its height, finest first. Papers quote a thousand times these figures.

    Raises:
        ValueError: if the shapes differ, the images are too small or not divisible, not finite, or patches or
            directions are below 1.

    Source: Karras et al., "Progressive Growing of GANs for Improved Quality, Stability, and Variation", 2018,
    section 5, with the settings of the authors' code. Lecture: Purdue "Progressive-Growing GAN".
    """
    if real.shape != generated.shape:
        raise ValueError(
            "real and generated must have one shape, "
            f"got {tuple(real.shape)} and {tuple(generated.shape)}: compare equal numbers"
        )
    if patches < 1 or directions < 1:
        raise ValueError(f"patches and directions must be at least 1, got {patches} and {directions}")
    distances = {}
    pyramids = (laplacian_pyramid(_floats(images), smallest=SMALLEST) for images in (real, generated))
    for sides in zip(*pyramids, strict=True):
        height, width = sides[0].shape[2:]
        places = torch.stack(
            [
                torch.randint(side - PATCH + 1, (len(real), patches), generator=rng, device=rng.device)
                for side in (height, width)
            ]
        )
        x, y = (patch_descriptors(level, places) for level in sides)
        lines = torch.randn(directions, x.shape[1], generator=rng, device=rng.device)
        distances[height] = sliced_distance(x, y, F.normalize(lines, dim=1)).item()
    return distances


def patch_descriptors(images: Tensor, places: Tensor) -> Tensor:
    """The 7 x 7 patches of images ``(N, C, H, W)`` whose upper left corners are given, as vectors.

    Args:
        images: ``(N, C, H, W)``.
        places: ``(2, N, P)`` integers, row and column of P patches per image.

    Returns:
        ``(N P, 49 C)``, each channel of mean 0 and deviation 1 over all patches and pixels; zeros where a
        channel does not vary.

    Raises:
        ValueError: if the places are of another shape, or patches would leave the image.
    """
    n, channels, height, width = images.shape
    if places.ndim != 3 or places.shape[:2] != (2, n):
        raise ValueError(f"places must be (2, {n}, P), got {tuple(places.shape)}")
    rows, columns = places.to(images.device)
    for name, values, side in (("rows", rows, height), ("columns", columns, width)):
        if values.min() < 0 or values.max() > side - PATCH:
            raise ValueError(f"places must have {name} in 0..{side - PATCH}")
    offset = torch.arange(PATCH, device=images.device)
    inside = (offset[:, None] * width + offset).flatten()
    pixels = ((rows * width + columns)[:, :, None] + inside).flatten(1)  # (N, 49 P), indices into H W
    found = images.flatten(2).gather(2, pixels[:, None].expand(n, channels, -1))
    deviation, mean = torch.std_mean(found, (0, 2), correction=0, keepdim=True)
    # What rounding leaves of a constant channel is not to be blown up to deviation 1.
    found = (found - mean) * torch.where(deviation > 1e-6, 1 / deviation, 0.0)
    return found.unflatten(2, (-1, PATCH**2)).transpose(1, 2).reshape(-1, channels * PATCH**2)


def sliced_distance(x: Tensor, y: Tensor, lines: Tensor, chunk: int = 32) -> Tensor:
    r"""Mean over lines of the Wasserstein-1 distance between projections, by sorting: a scalar.

    .. math:: \frac{1}{K n} \sum_{k=1}^{K} \sum_{i=1}^{n}
        \big| (\theta_k^\top x)_{(i)} - (\theta_k^\top y)_{(i)} \big|

    The distance of :func:`ganlib.theory.transport.sliced_wasserstein` for p = 1, on tensors, with gradients.

    Args:
        x: points ``(n, d)``.
        y: points ``(n, d)``, as many.
        lines: unit vectors ``(K, d)``.
        chunk: lines at a time; memory is of the order of ``4 n chunk`` numbers.

    Raises:
        ValueError: for other shapes, no points or no lines.

    Source: Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", 2015; Karras et al. 2018.
    """
    if x.ndim != 2 or x.shape != y.shape or 0 in x.shape:
        raise ValueError(
            f"x and y must be points (n, d) of one shape, got {tuple(x.shape)} and {tuple(y.shape)}"
        )
    if lines.ndim != 2 or lines.shape[1] != x.shape[1] or len(lines) == 0:
        raise ValueError(f"lines must be (K, {x.shape[1]}), got {tuple(lines.shape)}")
    x, y = (points.to(torch.promote_types(points.dtype, torch.float32)) for points in (x, y))
    total = 0.0
    with torch.autocast(x.device.type, enabled=False):
        for part in lines.to(x).split(chunk):
            projections = (_sorted(part @ points.T) for points in (x, y))
            total = total + torch.sub(*projections).abs().mean(1).sum()
    return total / len(lines)


def _sorted(rows: Tensor) -> Tensor:
    if rows.device.type == "cpu" and not rows.requires_grad:
        # Some twenty times as fast: torch's sort carries the order along, which only a gradient needs.
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(dim=1).values


def _floats(images: Tensor) -> Tensor:
    if not images.is_floating_point() or not images.isfinite().all():
        raise ValueError(f"images must be finite floating-point numbers, got {images.dtype}")
    return images.to(torch.promote_types(images.dtype, torch.float32))
