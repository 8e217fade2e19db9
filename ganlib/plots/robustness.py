"""Figures of robustness: picture grid, FID grid, spectral normalization's bars, BEGAN's controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.training import History

__all__ = ["equilibrium", "fid_grid", "picture_grid", "spectral_bars"]

Row = Mapping[str, Any]


def picture_grid(
    rows: Sequence[Row],
    row_titles: Mapping[str, str],
    column_titles: Mapping[str, str],
    *,
    seed: int = 0,
    title: str = "",
) -> Figure:
    """Stored samples of every cell, eight each, architectures downwards and methods across.

    An architecture of which the stored runs had a stand-in says so in its title.

    Args:
        rows: of ``ganlib.studies.load("robustness")``. A cell that is not stored stays empty; one that broke
            down says so.
        row_titles: architecture's label -> what stands at its row, in the order of the rows.
        column_titles: method's label -> what stands above its column, likewise.
        seed: whose samples.
        title: above all of them.

    Raises:
        ValueError: if nothing is stored for the seed.
    """
    cells = {_key(row): row for row in rows if row["seed"] == seed}
    if not cells:
        stored = sorted({row["seed"] for row in rows})
        raise ValueError(f"rows must hold samples of seed {seed}, got those of seeds {stored}")
    figure, axes = plt.subplots(
        len(row_titles),
        len(column_titles),
        figsize=(1.35 * len(column_titles) + 1.9, 0.72 * len(row_titles) + 0.7),
        layout="constrained",
        squeeze=False,
    )
    for line, architecture in zip(axes, row_titles, strict=True):
        for ax, method in zip(line, column_titles, strict=True):
            _picture(ax, cells.get((architecture, method)))
        name = _wrapped(row_titles[architecture], architecture, rows)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
    for ax, name in zip(axes[0], column_titles.values(), strict=True):
        ax.set_title(fill(name, 14), fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def fid_grid(
    rows: Sequence[Row],
    row_titles: Mapping[str, str],
    column_titles: Mapping[str, str],
    *,
    title: str = "FID over its floor",
    ax: Axes | None = None,
) -> Axes:
    """The FID of every cell in units of the floor, as numbers on a logarithmic colour scale.

    The mean over the stored seeds; a cross where one of them broke down. In bold the least of each row.

    Args:
        rows: of ``ganlib.studies.load("robustness")``.
        row_titles, column_titles: as of :func:`picture_grid`.
        title: of the figure.
        ax: where to draw, None for a new figure.

    Raises:
        ValueError: if no cell has an FID.
    """
    values = np.full((len(row_titles), len(column_titles)), np.nan)
    broken = set()
    for i, architecture in enumerate(row_titles):
        for j, method in enumerate(column_titles):
            found = [r["figures"]["fid_over_floor"] for r in rows if _key(r) == (architecture, method)]
            if None in found:
                broken.add((i, j))
            elif found:
                values[i, j] = mean(found)
    if np.isnan(values).all():
        raise ValueError("rows must hold an FID, got none")
    if ax is None:
        size = (0.95 * len(column_titles) + 3, 0.55 * len(row_titles) + 0.9)
        ax = plt.subplots(figsize=size, layout="constrained")[1]
    low, high = np.nanmin(values), np.nanmax(values)
    norm = LogNorm(low, max(high, low * 1.01))
    picture = ax.imshow(values, cmap="cividis", norm=norm, aspect="auto")
    for (i, j), value in np.ndenumerate(values):
        if np.isnan(value):
            ax.text(j, i, "×" if (i, j) in broken else "", ha="center", va="center")
            continue
        best = value == np.nanmin(values[i])
        weight = "bold" if best else "normal"
        colour = "black" if norm(value) > 0.5 else "white"
        ax.text(j, i, f"{value:.0f}", ha="center", va="center", color=colour, weight=weight, fontsize=9)
    ax.set(title=title, xlabel="method", ylabel="architecture")
    ax.set_xticks(range(len(column_titles)), [fill(n, 13) for n in column_titles.values()], fontsize=8)
    names = [_wrapped(name, architecture, rows) for architecture, name in row_titles.items()]
    ax.set_yticks(range(len(row_titles)), names, fontsize=8)
    ax.figure.colorbar(picture, ax=ax, label="FID / floor (log)")
    return ax


def spectral_bars(rows: Sequence[Row], *, title: str = "", ax: Axes | None = None) -> Axes:
    """FID over its floor per setting, with spectral normalization and without, on a logarithmic axis.

    Bars are means over the stored seeds, dots the seeds; a cross at the bottom is a run that broke down.

    Args:
        rows: of ``ganlib.studies.load("spectral-norm")``.
        title: of the figure.
        ax: where to draw, None for a new figure.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 3.2), layout="constrained")[1]
    settings = list(dict.fromkeys(row["labels"]["setting"] for row in rows))
    names = {"sn": "with spectral normalization", "plain": "without"}
    for side, (label, name) in enumerate(names.items()):
        for place, setting in enumerate(settings):
            x = place + (side - 0.5) * 0.38
            cell = (setting, label)
            found = [r["figures"]["fid_over_floor"] for r in rows if tuple(r["labels"].values()) == cell]
            numbers = [value for value in found if value is not None]
            if numbers:
                ax.bar(x, mean(numbers), 0.36, color=PALETTE[side], label=name if place == 0 else None)
                ax.plot([x] * len(numbers), numbers, ".", color=PALETTE[6], ms=4)
            if len(numbers) < len(found):
                ax.plot(x, 0.03, "x", color=PALETTE[side], transform=ax.get_xaxis_transform())
    ax.set(title=title, xlabel="setting of Miyato et al., table 1", ylabel="FID / floor", yscale="log")
    ax.set_xticks(range(len(settings)), [setting.upper() for setting in settings])
    ax.legend(frameon=False, fontsize="small")
    return ax


def equilibrium(histories: Mapping[str, History], *, title: str = "") -> Figure:
    """BEGAN's controller k_t and its convergence measure M against the step, several runs by name.

    Args:
        histories: run's name -> its history, with columns ``discriminator/balance`` and
            ``generator/measure``.
        title: above both panels.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    for (name, history), colour in zip(histories.items(), PALETTE, strict=False):
        left.plot(history["step"], history["discriminator/balance"], color=colour, label=name)
        right.plot(history["step"], history["generator/measure"], color=colour, label=name)
    left.set(title="controller", xlabel="step", ylabel="$k_t$")
    right.set(title="convergence measure", xlabel="step", ylabel="M (mean absolute error)")
    right.legend(frameon=False)
    figure.suptitle(title, fontsize=11)
    return figure


def _key(row: Row) -> tuple[str, str]:
    return row["labels"]["architecture"], row["labels"]["method"]


def _wrapped(name: str, architecture: str, rows: Sequence[Row]) -> str:
    notes = [n for row in rows if row["labels"]["architecture"] == architecture for n in row["notes"]]
    stand_in = next((f" ({note.split(',')[0]})" for note in notes if "stand in" in note), "")
    return fill(name + stand_in, 30)


def _picture(ax: Axes, row: Row | None) -> None:
    ax.set(xticks=[], yticks=[])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if row is None:
        return
    picture = row["path"].with_suffix(".png")
    if picture.exists():
        samples = plt.imread(picture)  # two rows of eight: the left half is large enough to be seen
        ax.imshow(samples[:, : samples.shape[1] // 2 + 1], interpolation="nearest")
    else:
        ax.text(0.5, 0.5, "broke down", ha="center", va="center", fontsize=8, transform=ax.transAxes)
