"""Figures of autoregressive models: what a pixel sees, a digit on its way, likelihoods side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch
from torch import Tensor

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PUBLISHED", "fields", "likelihoods", "masks", "surprise", "unfinished"]

PUBLISHED = {"PixelCNN": 81.30, "Row LSTM": 80.54, "Diagonal BiLSTM, 7 layers": 79.20}
"""van den Oord et al. 2016a, test negative log-likelihood on binary MNIST, nats per image."""

KINDS = ("to come", "past and unseen", "past and seen", "the pixel")
COLOURS = ("#E6E6E6", PALETTE[1], PALETTE[5], PALETTE[6])


def kinds_of_pixel(field: Tensor, row: int, column: int) -> Tensor:
    """0 for pixels to come, 1 for the past that a field ``(H, W)`` misses, 2 for what it sees, 3 there.

    Raises:
        ValueError: unless ``field`` is a matrix that holds the pixel, or if it sees what is to come.
    """
    if field.ndim != 2 or not (0 <= row < field.shape[0] and 0 <= column < field.shape[1]):
        raise ValueError(f"field must be (H, W) and hold pixel ({row}, {column}), got {tuple(field.shape)}")
    place = torch.arange(field.numel()).view_as(field)
    here = row * field.shape[1] + column
    seen = field.cpu() != 0
    if seen[place >= here].any():
        raise ValueError("field must be zero at the pixel and after it: the network is not causal")
    kinds = (place < here).int() + seen.int()
    kinds[row, column] = 3
    return kinds


def fields(seen: Mapping[str, Tensor], row: int, column: int) -> Sequence[Axes]:
    """Draw receptive fields, name -> gradient ``(H, W)``, of a prediction: what it sees, what it misses."""
    figure, axes = plt.subplots(
        1, len(seen), figsize=(2.4 * len(seen), 3.7), layout="constrained", squeeze=False
    )
    for ax, (name, field) in zip(axes[0], seen.items(), strict=True):
        kinds = kinds_of_pixel(field, row, column)
        ax.imshow(kinds.numpy(), cmap=ListedColormap(COLOURS), vmin=0, vmax=3, interpolation="nearest")
        missed = int((kinds == 1).sum())
        ax.set(title=f"{name}\nmisses {missed} of {row * field.shape[1] + column}", xlabel="column")
    axes[0, 0].set_ylabel("row")
    handles = [Patch(facecolor=c, edgecolor="grey", label=k) for c, k in zip(COLOURS, KINDS, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)
    return list(axes[0])


def masks(kinds: Sequence[str] = ("A", "B"), size: int = 7) -> Sequence[Axes]:
    """Draw the masks of a size x size kernel, 1 where a weight counts, the rows below the middle included."""
    from ganlib.layers.masked import causal_mask

    _, axes = plt.subplots(
        1, len(kinds), figsize=(2.4 * len(kinds), 2.7), layout="constrained", squeeze=False
    )
    for ax, kind in zip(axes[0], kinds, strict=True):
        whole = torch.zeros(size, size)
        whole[: size // 2 + 1] = causal_mask(kind, 1, 1, size // 2 + 1, size)[0, 0]
        ax.imshow(whole.numpy(), cmap=ListedColormap([COLOURS[0], COLOURS[2]]), vmin=0, vmax=1)
        for (y, x), value in np.ndenumerate(whole.int().numpy()):
            ax.text(x, y, str(value), ha="center", va="center", fontsize=8)
        offsets = range(-(size // 2), size // 2 + 1)
        ax.set(title=f"kind {kind}", xlabel="column, from the pixel", ylabel="row, from the pixel")
        ax.set_xticks(range(size), offsets)
        ax.set_yticks(range(size), offsets)
    return list(axes[0])


def unfinished(images: Tensor, pixels: Sequence[int]) -> Tensor:
    """Images ``(N, C, H, W)`` as they stood when only the first ``pixels`` of the raster were drawn.

    Returns:
        ``(N len(pixels), C, H, W)``, image by image; what is still to come is mid-grey, 0.
    """
    place = torch.arange(images[0, 0].numel(), device=images.device).view(images.shape[2:])
    stages = [torch.where(place < n, images, 0.0) for n in pixels]
    return torch.stack(stages, 1).flatten(0, 1)


def surprise(images: Tensor, nats: Tensor) -> Sequence[Axes]:
    """Draw images and below each the nats that its pixels cost, both ``(N, 1, H, W)``, black to yellow."""
    figure, axes = plt.subplots(2, len(images), figsize=(1.15 * len(images), 2.7), layout="constrained")
    for (top, below), image, cost in zip(axes.T, images.cpu(), nats.detach().cpu(), strict=True):
        top.imshow(image[0].numpy(), cmap="gray", vmin=-1, vmax=1)
        drawn = below.imshow(cost[0].numpy(), cmap="inferno", vmin=0, vmax=3)
        top.set_title(f"{float(cost.sum()):.0f} nats", fontsize=9)
        for ax in (top, below):
            ax.set_axis_off()
    figure.suptitle("Digits and where their nats are", fontsize=10)
    figure.colorbar(drawn, ax=axes[1], label="nats per pixel", shrink=0.9)
    return list(axes.flatten())


def likelihoods(measured: Mapping[str, Sequence[float]], *, ax: Axes | None = None) -> Axes:
    """Draw nats per image, name -> one value per seed, above the published ones; fewer nats are better.

    Raises:
        ValueError: if nothing was measured.
    """
    if not measured or not all(measured.values()):
        raise ValueError(f"measured must hold a value for each name, got {dict(measured)}")
    if ax is None:
        ax = plt.subplots(figsize=(6.4, 0.42 * (len(measured) + len(PUBLISHED)) + 1), layout="constrained")[1]
    names = [*measured, *(f"{name} (published)" for name in PUBLISHED)]
    for y, values in enumerate(measured.values()):
        ax.scatter(values, [y] * len(values), color=PALETTE[0], s=28)
    for y, value in enumerate(PUBLISHED.values(), len(measured)):
        ax.scatter([value], [y], color=PALETTE[1], marker="D", s=28)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.grid(axis="x", alpha=0.3)
    ax.set(title="Negative log-likelihood of binary test digits", xlabel="nats per image, fewer are better")
    return ax
