"""Figures of InfoGAN: what each code draws, which class each category stands for, strokes against a code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["attribute_curves", "code_grid", "contingency_map"]


def code_grid(
    images: Tensor,
    values: Sequence[float],
    *,
    rows: Sequence[str] | None = None,
    title: str = "Category by code",
    xlabel: str = "continuous code",
    ylabel: str = "category",
    ax: Axes | None = None,
) -> Axes:
    """Show images ``(R, V, 1, H, W)`` in [-1, 1]: a row per category, a column per value of a code.

    Args:
        images: the samples.
        values: of the columns, V of them.
        rows: names of the rows, R of them; 0, 1, ... if None.
        title: of the axes.
        xlabel: what the values are.
        ylabel: what the rows are.
        ax: to draw on.

    Raises:
        ValueError: for another shape, or values or names in another number.
    """
    if images.ndim != 5 or images.shape[2] != 1 or images.shape[1] != len(values):
        raise ValueError(f"images must be (R, {len(values)}, 1, H, W), got {tuple(images.shape)}")
    names = [str(i) for i in range(len(images))] if rows is None else list(rows)
    if len(names) != len(images):
        raise ValueError(f"rows must be {len(images)} names, got {len(names)}")
    height, width = images.shape[3:]
    if ax is None:
        size = (0.45 * len(values) + 0.7, 0.45 * len(names) + 0.7)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    picture = images[:, :, 0].detach().cpu().clamp(-1, 1).permute(0, 2, 1, 3)
    ax.imshow(
        picture.reshape(len(names) * height, -1).numpy(),
        cmap="gray",
        vmin=-1,
        vmax=1,
        interpolation="nearest",
    )
    ax.set_xticks([(i + 0.5) * width - 0.5 for i in range(len(values))], [f"{v:g}" for v in values])
    ax.set_yticks([(i + 0.5) * height - 0.5 for i in range(len(names))], names)
    ax.tick_params(length=0)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax


def contingency_map(
    counts: Tensor, *, title: str = "Which digit each category draws", ax: Axes | None = None
) -> Axes:
    """Show a table of groups (rows) against classes (columns): shares of each row, in percent.

    Args:
        counts: ``(K, K)``, not negative; see :func:`ganlib.models.infogan.contingency`.
        title: of the axes.
        ax: to draw on.

    Raises:
        ValueError: for a table that is not square or has an empty row.
    """
    counts = counts.detach().cpu().double()
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not bool((counts.sum(1) > 0).all()):
        raise ValueError(f"counts must be (K, K) with no empty row, got {tuple(counts.shape)}")
    if ax is None:
        ax = plt.subplots(figsize=(4.2, 3.8), layout="constrained")[1]
    shares = (100 * counts / counts.sum(1, keepdim=True)).numpy()
    ax.imshow(shares, cmap="cividis", vmin=0, vmax=100)
    for (row, column), share in np.ndenumerate(shares):
        if share >= 1:
            colour = "black" if share > 60 else "white"
            ax.text(column, row, f"{share:.0f}", ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(len(counts)))
    ax.set_yticks(range(len(counts)))
    ax.set(title=title, xlabel="digit, as a classifier sees it", ylabel="category (percent of its row)")
    return ax


def attribute_curves(
    values: Sequence[float],
    measured: Mapping[str, Tensor],
    *,
    title: str,
    ylabel: str,
    xlabel: str = "value of the code",
    ax: Axes | None = None,
) -> Axes:
    """Draw an attribute of images against the code that was moved: the median, and the middle half as a band.

    Args:
        values: of the code, V of them.
        measured: name of the code -> the attribute, ``(V, N)``; NaN where an image has none.
        title: of the axes.
        ylabel: the attribute and its unit.
        xlabel: of the axes.
        ax: to draw on.

    Raises:
        ValueError: if a table has not V rows.
    """
    if ax is None:
        ax = plt.subplots(figsize=(4.4, 3.0), layout="constrained")[1]
    for (name, table), colour in zip(measured.items(), PALETTE, strict=False):
        if table.ndim != 2 or len(table) != len(values):
            raise ValueError(f"measured must be ({len(values)}, N), got {tuple(table.shape)} for {name}")
        shares = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
        low, middle, high = torch.nanquantile(table.detach().cpu().double(), shares, dim=1).numpy()
        ax.plot(values, middle, color=colour, label=name)
        ax.fill_between(values, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False)
    return ax
