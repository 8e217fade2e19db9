"""Figures of conditioning on a class: what was asked for, what came, and how likely the paper found it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PUBLISHED", "asked", "by_class", "likelihoods"]

PUBLISHED = {
    "DBN": (138.0, 2.0),
    "stacked CAE": (121.0, 1.6),
    "deep GSN": (214.0, 1.1),
    "adversarial nets": (225.0, 2.0),
    "conditional adversarial nets": (132.0, 1.8),
}
"""Parzen log-likelihood of MNIST and its standard error: Mirza and Osindero 2014, table 1."""


def asked(
    points: Tensor,
    labels: Tensor,
    centres: Tensor,
    classes: Sequence[int],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Points of the plane in the colour of the class asked for, and a circle of that colour where it lives.

    Args:
        points: ``(N, 2)``.
        labels: the class that each was asked for, ``(N,)``.
        centres: of the modes, ``(k, 2)``.
        classes: the class of each mode.
        title: of the axes.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: if there is no class per mode, or no label per point.
    """
    if len(classes) != len(centres):
        raise ValueError(f"classes must be one per centre, got {len(classes)} for {len(centres)}")
    if labels.shape != points.shape[:1]:
        raise ValueError(f"labels must be one per point, got {tuple(labels.shape)} for {len(points)}")
    if ax is None:
        ax = plt.subplots(figsize=(4, 4), layout="constrained")[1]
    for label, colour in zip(sorted(set(classes)), cycle(PALETTE), strict=False):
        x, y = points[labels == label].detach().cpu().numpy().T
        ax.scatter(x, y, s=4, color=colour, linewidths=0, alpha=0.6, label=f"{label}")
        x, y = centres[torch.as_tensor(classes) == label].numpy().T
        ax.scatter(x, y, s=220, facecolors="none", edgecolors=colour, linewidths=1.5)
    ax.set(title=title, xlabel="$x_1$", ylabel="$x_2$", aspect="equal")
    return ax


def by_class(images: Tensor, classes: int = 10, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Images ``(rows * classes, C, H, W)`` as :func:`ganlib.plots.grid`, a column per class.

    Raises:
        ValueError: if the images do not fill whole rows.
    """
    if len(images) % classes:
        raise ValueError(f"images must fill rows of {classes}, got {len(images)}")
    rows = len(images) // classes
    if ax is None:
        size = (0.5 * classes + 0.4, 0.5 * rows + 0.7)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    grid(images, title=title, columns=classes, ax=ax)
    ax.set_axis_on()
    height, width = images.shape[2:]
    ax.set_xticks([1 + width / 2 + k * (width + 1) for k in range(classes)], range(classes))
    ax.set_yticks([1 + height / 2 + k * (height + 1) for k in range(rows)], range(1, rows + 1))
    ax.tick_params(length=0)
    ax.set(xlabel="label y", ylabel="latent z")
    return ax


def likelihoods(measured: Mapping[str, Sequence[float]], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Parzen log-likelihoods: the published ones with their errors, below them a dot per run of ours.

    Args:
        measured: name -> nats, a number per seed.
        title: of the axes.
        ax: where to draw; new axes by default.

    Raises:
        ValueError: if nothing was measured.
    """
    if not measured or not all(len(values) for values in measured.values()):
        raise ValueError("measured must hold at least one number per name, got none")
    if ax is None:
        size = (6.4, 0.32 * (len(PUBLISHED) + len(measured)) + 0.9)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    names = [*PUBLISHED, *measured]
    for place, (mean, error) in enumerate(PUBLISHED.values()):
        label = "published" if place == 0 else None
        ax.errorbar(mean, place, xerr=error, fmt="s", color=PALETTE[6], ms=4, capsize=2, label=label)
    for place, values in enumerate(measured.values(), len(PUBLISHED)):
        label = "measured here, a dot per seed" if place == len(PUBLISHED) else None
        ax.plot(values, [place] * len(values), "o", color=PALETTE[1], ms=5, label=label)
    ax.set_yticks(range(len(names)), names)
    ax.invert_yaxis()
    ax.set(title=title, xlabel="Parzen log-likelihood of the test set, nats")
    ax.grid(axis="x", alpha=0.3)
    ax.legend(frameon=False, fontsize=8)
    return ax
