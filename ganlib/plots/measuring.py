"""Figures of the notebook on metrics: sets of images with one fault each, and who notices it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.colors import SymLogNorm
from torch import Tensor
from torch.nn import functional as F

from ganlib.metrics.images import psnr
from ganlib.metrics.perceptual import slerp
from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.data import Images

__all__ = [
    "alarms",
    "bars",
    "blur",
    "intercept",
    "levels",
    "matched",
    "pairs",
    "plane",
    "suspects",
    "walks",
]


def blur(images: Tensor, sigma: float) -> Tensor:
    """Images ``(N, C, H, W)`` under a Gaussian of ``sigma`` pixels; beyond the border lies black, -1."""
    if sigma <= 0:
        return images
    reach = max(1, round(3 * sigma))
    places = torch.arange(-reach, reach + 1, dtype=images.dtype)
    kernel = torch.softmax(-places.square() / (2 * sigma**2), 0)
    planes = F.pad(images.flatten(0, 1).unsqueeze(1), (reach,) * 4, value=-1.0)
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, -1, 1)), kernel.view(1, 1, 1, -1))
    return planes.view_as(images)


def suspects(train: Images, fresh: Images, n: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Sets of n images that are real but for one fault each, by name.

    Args:
        train: what a generator would be trained on.
        fresh: other images of the same distribution, at least n.
        n: images per set, at least 10.
        rng: source of every choice.

    Returns:
        "blurred" (by a Gaussian of 1 pixel), "noisy" (deviation 0.2), "half the digits" (0 to 4 alone), "ten
        images" (one of each class, repeated), "memorised" (copies of training images), "white noise".
    """
    images = fresh.images[torch.randperm(len(fresh.images), generator=rng)[:n]]
    few = fresh.images[fresh.labels < 5]
    ten = torch.stack([fresh.images[fresh.labels == digit][0] for digit in range(10)])
    noise = torch.randn(images.shape, generator=rng)
    return {
        "blurred": blur(images, 1.0),
        "noisy": (images + 0.2 * noise).clamp(-1, 1),
        "half the digits": few[torch.randint(len(few), (n,), generator=rng)],
        "ten images": ten.repeat(-(-n // 10), 1, 1, 1)[:n],
        "memorised": train.images[torch.randperm(len(train.images), generator=rng)[:n]],
        "white noise": noise.clamp(-1, 1),
    }


def alarms(
    table: Mapping[str, Mapping[str, float]],
    fair: Sequence[Mapping[str, float]],
    better: Mapping[str, int],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Which metric notices what: a heat map of sets (rows) and metrics (columns), with the values written in.

    The colour is a distance from what fresh data get, in standard deviations of it: orange for worse, violet
    for better than fresh data, white within one.

    Args:
        table: set's name -> metric's name -> value.
        fair: the same metrics on several samples of fresh data.
        better: metric's name -> 1 where high is good, -1 where low is, 0 where either way is bad.
        title: of the figure.
        ax: where to draw, None for a new figure.
    """
    metrics = list(better)
    values = np.array([[row[metric] for metric in metrics] for row in table.values()])
    fresh = np.array([[row[metric] for metric in metrics] for row in fair])
    deviations = (values - fresh.mean(0)) / fresh.std(0, ddof=1)
    signs = np.array(list(better.values()))
    alarm = np.where(signs == 0, np.abs(deviations), -signs * deviations)
    if ax is None:
        size = (0.9 * len(metrics) + 2.4, 0.4 * len(table) + 1.5)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    picture = ax.imshow(
        alarm, cmap="PuOr_r", norm=SymLogNorm(1, vmin=-1000, vmax=1000, base=10), aspect="auto"
    )
    for (i, j), value in np.ndenumerate(values):
        colour = "white" if abs(alarm[i, j]) > 100 else "black"
        ax.text(j, i, f"{value:.3g}", ha="center", va="center", color=colour, fontsize=8)
    ax.set_xticks(range(len(metrics)), metrics, rotation=30, ha="right", fontsize=9)
    ax.set_yticks(range(len(table)), list(table), fontsize=9)
    ax.set(title=title, xlabel="metric", ylabel="set of images")
    bar = ax.figure.colorbar(picture, ax=ax, ticks=[-1000, -100, -10, -1, 1, 10, 100, 1000], pad=0.02)
    bar.set_label("worse than fresh digits (standard deviations)", fontsize=8)
    return ax


def plane(
    points: Mapping[str, tuple[float, float]], *, title: str, xlabel: str, ylabel: str, ax: Axes | None = None
) -> Axes:
    """Draw named points in the unit square or beyond, each with its name beside it in its colour."""
    if ax is None:
        ax = plt.subplots(figsize=(4.6, 3.8), layout="constrained")[1]
    for i, (name, (x, y)) in enumerate(points.items()):
        ax.plot(x, y, "os^Dv"[i // len(PALETTE)], color=PALETTE[i % len(PALETTE)], label=name)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend(fontsize="x-small", frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def intercept(counts: Sequence[int], values: Sequence[float]) -> tuple[float, float]:
    """Least squares of values on 1/n: the value at n = infinity, and the slope.

    Source: Chong and Forsyth, "Effectively Unbiased FID and Inception Score and Where to Find Them", 2020.
    """
    slope, constant = np.polyfit(1 / np.asarray(counts, dtype=float), np.asarray(values, dtype=float), 1)
    return float(constant), float(slope)


def levels(pyramids: Mapping[str, Sequence[Tensor]], *, title: str = "") -> Figure:
    """The first images of several Laplacian pyramids: a row for each, its levels side by side."""
    across = max(len(pyramid) for pyramid in pyramids.values())
    figure, axes = plt.subplots(
        len(pyramids),
        across,
        figsize=(4.2 * across, 0.85 * len(pyramids) + 0.4),
        layout="constrained",
        squeeze=False,
    )
    for row, (name, pyramid) in zip(axes, pyramids.items(), strict=True):
        for ax, level in zip(row, pyramid, strict=True):
            grid(level[:8], columns=8, ax=ax)
            ax.set_title(f"{name}, {level.shape[-1]} × {level.shape[-1]}", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def matched(
    distort: Callable[[Tensor, float], Tensor], images: Tensor, decibels: float, strongest: float
) -> Tensor:
    """``distort(images, strength)`` at the strength whose mean PSNR is the one wanted, by bisection.

    Args:
        distort: stronger must mean a lower PSNR.
        images: ``(N, C, H, W)`` in [-1, 1].
        decibels: the mean PSNR wanted.
        strongest: strength at which the PSNR is lower than that.

    Raises:
        ValueError: if even the strongest keeps more.
    """
    low, high = 0.0, strongest
    if psnr(distort(images, high), images).mean() > decibels:
        raise ValueError(f"strongest must bring the PSNR below {decibels:.3g}, got {strongest}")
    for _ in range(30):
        middle = (low + high) / 2
        above = psnr(distort(images, middle), images).mean() > decibels
        low, high = (middle, high) if above else (low, middle)
    return distort(images, high)


def pairs(
    reference: Tensor, versions: Mapping[str, Tensor], notes: Mapping[str, str], *, title: str = ""
) -> Figure:
    """A reference's first four images and versions of them, each version under its name and a note."""
    shown = {"reference": reference, **versions}
    across = -(-len(shown) // 2)
    figure, axes = plt.subplots(2, across, figsize=(2.3 * across, 5.6), layout="constrained")
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax, (name, images) in zip(axes.flat, shown.items(), strict=False):
        grid(images[:4], columns=2, ax=ax)
        ax.set_title("\n".join(filter(None, [name, notes.get(name)])), fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


@torch.no_grad()
def walks(
    generator: Callable[[Tensor], Tensor],
    start: Tensor,
    end: Tensor,
    at: Sequence[float],
    *,
    path: Callable[[Tensor, Tensor, float], Tensor] = slerp,
    columns: int = 12,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Images along the paths from ``start`` to ``end``, a row each, with a frame where t is ``at``.

    Args:
        generator: latents ``(N, d)`` to images, in evaluation mode.
        start: latents ``(R, d)``.
        end: likewise.
        at: one t in [0, 1] per row; the image nearest to it is framed.
        path: how to get from one end to the other.
        columns: images per row, at least 2.
        title: of the figure.
        ax: where to draw, None for a new figure.
    """
    stops = [path(start, end, column / (columns - 1)) for column in range(columns)]
    images = generator(torch.stack(stops, 1).flatten(0, 1))
    ax = grid(images, title=title, columns=columns, ax=ax)
    height, width = (side + 1 for side in images.shape[2:])  # with the line between two images
    for row, t in enumerate(at):
        corner = (round(t * (columns - 1)) * width - 0.5, row * height - 0.5)
        ax.add_patch(plt.Rectangle(corner, width, height, fill=False, lw=2, color=PALETTE[1]))
    return ax


def bars(
    rows: Sequence[Mapping[str, Any]],
    figure: str,
    label: str,
    *,
    title: str,
    xlabel: str,
    published: Mapping[str, float] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw a stored study's figure per value of a label: a point per seed, a line at published values.

    Args:
        rows: what :func:`ganlib.studies.load` returns.
        figure: name of the figure.
        label: name of the label.
        title: of the figure.
        xlabel: the figure with its unit.
        published: name -> value, drawn as dashed lines.
        ax: where to draw, None for a new figure.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 3), layout="constrained")[1]
    names = list(dict.fromkeys(row["labels"][label] for row in rows))
    for i, name in enumerate(names):
        found = [row["figures"][figure] for row in rows if row["labels"][label] == name]
        ax.plot(found, [i] * len(found), "o", color=PALETTE[0], alpha=0.6)
        ax.plot(np.mean(found), i, "|", ms=18, mew=2, color=PALETTE[0])
    for (name, value), colour in zip((published or {}).items(), PALETTE[1:], strict=False):
        ax.axvline(value, color=colour, ls="--", lw=1.2, label=name)
    ax.set_yticks(range(len(names)), names)
    ax.set(title=title, xlabel=xlabel, ylabel=label, ylim=(len(names) - 0.5, -0.5))
    if published:
        ax.legend(frameon=False, fontsize="small")
    return ax
