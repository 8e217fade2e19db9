"""Figures of plug and play: chains of images over time, what each term of a step does, walks in the plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from torch import Tensor
from torchvision.utils import make_grid

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["chains", "plane", "terms"]

MARKERS = "osD^vP*"


def chains(
    films: Tensor, rows: Sequence[str], steps: Sequence[int], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Images of several chains over time: a row per chain, a column per moment.

    Args:
        films: ``(T, N, C, H, W)`` in [-1, 1]: T moments of N chains, C of 1 or 3.
        rows: N names, such as what each chain was asked for.
        steps: the T numbers of the steps.
        title: of the figure.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: for another shape, or names or steps of another number.
    """
    if films.ndim != 5 or films.shape[2] not in (1, 3):
        raise ValueError(f"films must be (T, N, 1 or 3, H, W), got {tuple(films.shape)}")
    moments, count, _, height, width = films.shape
    if (len(steps), len(rows)) != (moments, count):
        raise ValueError(
            f"steps and rows must name {moments} moments and {count} chains, got {len(steps)} and {len(rows)}"
        )
    if ax is None:
        size = (0.55 * moments + 1.2, 0.55 * count + 0.8)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    pictures = (films.detach().cpu().transpose(0, 1).flatten(0, 1).clamp(-1, 1) + 1) / 2
    picture = make_grid(pictures, nrow=moments, padding=1, pad_value=0.5)
    ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    # make_grid puts a line of one pixel before every picture.
    ax.set_xticks([(width + 1) * t + (width + 1) / 2 for t in range(moments)], [str(s) for s in steps])
    ax.set_yticks([(height + 1) * n + (height + 1) / 2 for n in range(count)], list(rows))
    ax.set(title=title, xlabel="step of the chain", ylabel="asked for")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return ax


def terms(
    figures: Mapping[str, tuple[float, float]],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Ways of drawing as dots in the plane: how often the wish is met, and how different the images are.

    Args:
        figures: name -> (share recognised as what was asked for, in [0, 1]; mean distance within a class).
        title: of the figure.
        ax: where to draw; a new figure if None.

    Raises:
        ValueError: if ``figures`` is empty.
    """
    if not figures:
        raise ValueError("figures must hold at least one way of drawing, got none")
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
    for (name, (share, distance)), colour, marker in zip(
        figures.items(), cycle(PALETTE), cycle(MARKERS), strict=False
    ):
        ax.plot(100 * share, distance, marker, color=colour, label=name, markersize=8)
    ax.set(title=title, xlabel="recognised as asked for (%)", ylabel="perceptual distance within a class")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def plane(pull: Tensor, where: Tensor, walks: Mapping[str, Tensor], *, title: str = "") -> Figure:
    """Chains in the plane: the pull of the prior as arrows, and where each chain spends its time.

    Args:
        pull: R(h) - h at ``where``, ``(M, 2)``.
        where: ``(M, 2)``.
        walks: title of a panel -> points of its chains ``(N, 2)``.
        title: of the figure.

    Raises:
        ValueError: for another shape, or no walks.
    """
    if pull.shape != where.shape or where.ndim != 2 or where.shape[1] != 2:
        raise ValueError(f"pull and where must be (M, 2), got {tuple(pull.shape)} and {tuple(where.shape)}")
    if not walks:
        raise ValueError("walks must hold at least one chain, got none")
    size = (3.2 * len(walks), 3.4)
    figure, axes = plt.subplots(
        1, len(walks), figsize=size, squeeze=False, layout="constrained", sharex=True, sharey=True
    )
    x, y = where.T.numpy()
    for ax, (name, walk) in zip(axes[0], walks.items(), strict=True):
        ax.scatter(*walk.T.numpy(), s=7, alpha=0.4, color=PALETTE[0], linewidths=0)
        ax.quiver(x, y, *pull.T.numpy(), color=PALETTE[1], angles="xy", scale_units="xy", width=0.004)
        ax.set(title=name, xlabel="$h_1$", aspect="equal")
    axes[0, 0].set_ylabel("$h_2$")
    figure.suptitle(title)
    return figure
