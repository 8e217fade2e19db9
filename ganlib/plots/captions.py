"""Figures of text to image: samples under their captions, ways between captions, and what was followed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from torch import Tensor

from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["by_arm", "captioned_rows", "measured_path"]


def captioned_rows(rows: Mapping[str, Tensor], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Show a row of images ``(N, C, H, W)`` in [-1, 1] for each caption, the caption on its left.

    Raises:
        ValueError: if there are no rows, or they differ in length.
    """
    import torch

    lengths = {len(images) for images in rows.values()}
    if len(lengths) != 1:
        raise ValueError(f"rows must be of one length, and at least one, got lengths {sorted(lengths)}")
    columns = lengths.pop()
    if ax is None:
        size = (0.42 * columns + 3.4, 0.42 * len(rows) + 0.4)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    grid(torch.cat(list(rows.values())), columns=columns, title=title, ax=ax)
    side = next(iter(rows.values())).shape[-2] + 1
    for index, caption in enumerate(rows):
        ax.text(-6, (index + 0.5) * side, caption, ha="right", va="center", fontsize=9)
    return ax


def measured_path(
    values: Mapping[str, Tensor], *, ylabel: str, title: str = "", ax: Axes | None = None
) -> Axes:
    """Median and middle half of a measured attribute along the way from one caption to another.

    Args:
        values: name -> measurements ``(N, steps)``, one row per latent, from lambda = 0 to 1.
        ylabel: the attribute and its unit.
        title: of the figure.
        ax: where to draw.

    Raises:
        ValueError: if there is nothing to draw, or a tensor has another number of axes.
    """
    import torch

    if not values or any(v.ndim != 2 for v in values.values()):
        shapes = {name: tuple(v.shape) for name, v in values.items()}
        raise ValueError(f"values must be (N, steps) each, and at least one, got {shapes}")
    if ax is None:
        ax = plt.subplots(figsize=(5.4, 3.2), layout="constrained")[1]
    for (name, measured), colour in zip(values.items(), PALETTE, strict=False):
        shares = torch.linspace(0, 1, measured.shape[1])
        low, middle, high = measured.double().nanquantile(torch.tensor([0.25, 0.5, 0.75]).double(), dim=0)
        ax.plot(shares, middle, "o-", color=colour, label=name)
        ax.fill_between(shares, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.set(title=title, xlabel="λ, the share of the second caption", ylabel=ylabel)
    ax.legend(frameon=False, fontsize=8)
    return ax


def by_arm(
    arms: Mapping[str, Sequence[Mapping[str, float]]],
    names: Mapping[str, str],
    *,
    title: str = "",
    ylabel: str = "share of samples",
    ax: Axes | None = None,
) -> Axes:
    """Draw figures side by side: a bar per arm at the mean over its runs, a dot per run.

    Args:
        arms: name -> the figures of each of its runs.
        names: figure -> what it is called on the axis, in order.
        title: of the figure.
        ylabel: what a figure is a share of; the axis goes from 0 to 1.
        ax: where to draw.

    Raises:
        ValueError: if an arm has no runs.
    """
    if not arms or not all(arms.values()):
        raise ValueError(f"arms must have runs, got { ({name: len(runs) for name, runs in arms.items()}) }")
    if ax is None:
        ax = plt.subplots(figsize=(1.1 * len(names) + 2, 3.2), layout="constrained")[1]
    width = 0.8 / len(arms)
    for index, ((arm, runs), colour) in enumerate(zip(arms.items(), PALETTE, strict=False)):
        places = [place + (index - (len(arms) - 1) / 2) * width for place in range(len(names))]
        means = [sum(run[name] for run in runs) / len(runs) for name in names]
        ax.bar(places, means, 0.9 * width, color=colour, alpha=0.75, label=arm)
        for place, name in zip(places, names, strict=True):
            ax.plot([place] * len(runs), [run[name] for run in runs], ".", color="black", markersize=4)
    ax.set_xticks(range(len(names)), list(names.values()))
    ax.set(title=title, xlabel="what the caption says", ylabel=ylabel, ylim=(0, 1.02))
    ax.legend(frameon=False, fontsize=8)
    return ax
