"""What a handwritten character looks like, measured without a network: slant, thickness of the pen, size."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor


class Strokes(NamedTuple):
    """Attributes of N characters, each ``(N,)`` in float32; NaN for an image without ink.

    Attributes:
        slant: degrees by which the character leans; positive to the right, as italics do.
        thickness: mean width of its strokes in pixels.
        size: root mean square distance of its ink from its centre, in pixels.
    """

    slant: Tensor
    thickness: Tensor
    size: Tensor


def strokes(images: Tensor) -> Strokes:
    r"""Slant, thickness and size of white characters on black, from moments and slopes of the image.

    With ink :math:`p = (x + 1) / 2 \in [0, 1]` and its central moments
    :math:`\mu_{ab} = \sum p \, (u - \bar u)^a (v - \bar v)^b / \sum p`, u to the right, v downwards,

    .. math::
        \text{slant} = \arctan(-\mu_{11} / \mu_{02}), \qquad
        \text{size} = \sqrt{\mu_{20} + \mu_{02}}, \qquad
        \text{thickness} = 2 \, \frac{\sum p}{\sum |\nabla p|}

    The first is the shear that makes rows and columns uncorrelated, the usual way to set digits upright. In
    the last, :math:`\sum |\nabla p|` is the length of the outline (the coarea formula): a stroke of length l
    and width w has l w of ink and an outline of 2 (l + w), so that a long one gets its width, and a blot its
    radius.

    Args:
        images: ``(N, 1, H, W)`` floating point in [-1, 1]; values beyond, as generators without a last tanh
            make them, are cut off.

    Raises:
        ValueError: for another shape or an integer dtype.

    Gradients reach the images, except at black ones.
    """
    if images.ndim != 4 or images.shape[1] != 1 or not images.is_floating_point():
        raise ValueError(
            f"images must be (N, 1, H, W) floating point, got {tuple(images.shape)} {images.dtype}"
        )
    ink = (images[:, 0].to(torch.promote_types(images.dtype, torch.float32)).clamp(-1, 1) + 1) / 2
    mass = ink.sum((1, 2))
    across, down = (torch.arange(n, device=ink.device, dtype=ink.dtype) for n in (ink.shape[2], ink.shape[1]))

    def mean(values: Tensor) -> Tensor:
        return (ink * values).sum((1, 2)) / mass

    u = across - mean(across)[:, None, None]
    v = down[:, None] - mean(down[:, None])[:, None, None]
    slant = torch.atan2(-mean(u * v), mean(v * v)) * (180 / math.pi)
    size = (mean(u * u) + mean(v * v)).sqrt()
    thickness = torch.where(mass > 0, 2 * mass / _outline(ink), math.nan)
    return Strokes(slant, thickness, size)


def _outline(ink: Tensor) -> Tensor:
    """The sum of the slope's length over a grid of points between the pixels, ``(N, H, W)`` -> ``(N,)``."""
    padded = torch.nn.functional.pad(ink, (1, 1, 1, 1))
    # Means over two rows (columns) of differences along the other axis, all at the corners of pixels: taken
    # at one place, the two slopes give an outline that hardly depends on its direction.
    right = padded.diff(dim=2).unfold(1, 2, 1).mean(-1)
    below = padded.diff(dim=1).unfold(2, 2, 1).mean(-1)
    # The root's slope at zero is infinite, and most of an image is black.
    return (right.square() + below.square() + 1e-12).sqrt().sum((1, 2))
