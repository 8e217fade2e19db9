"""Figures of the studies on stabilising: modes recovered, value surfaces, critics against exact distances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.data.toy import Mixture

__all__ = ["arrays", "estimates", "mode_bars", "mode_table", "scatters", "value_surfaces"]

Row = Mapping[str, Any]


def arrays(row: Row) -> dict[str, Tensor]:
    """The tensors stored beside a row of :func:`ganlib.studies.load`, as float32.

    Raises:
        ValueError: if nothing is stored beside it.
    """
    from safetensors.torch import load_file

    path = Path(row["path"]).with_suffix(".safetensors")
    if not path.exists():
        raise ValueError(f"rows must have arrays stored beside them, but there is no {path.name}")
    return {name: tensor.float() for name, tensor in load_file(path).items()}


def _grouped(rows: Sequence[Row], *labels: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows by their values of ``labels``, in order of first appearance."""
    if not rows:
        raise ValueError("rows must hold at least one stored result, got none")
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row["labels"][label] for label in labels), []).append(row)
    return groups


def _column(group: Sequence[Row], figure: str) -> np.ndarray:
    return np.array([row["figures"][figure] for row in group], dtype=float)


def _spread(values: np.ndarray, digits: int) -> str:
    text = f"{values.mean():.{digits}f}"
    return f"{text} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else text


def mode_table(rows: Sequence[Row], target: str, paper: Mapping[tuple[str, str], str]) -> list[list[str]]:
    """Lines of a table for one target, a heading first: the modes beside the paper's, quality, KL, seconds.

    Means and standard deviations over the seeds.

    Args:
        rows: of the study ``mode-collapse``.
        target: ``ring`` or ``grid``.
        paper: (target, method) -> the published modes; those without are left blank.

    Raises:
        ValueError: if nothing is stored for the target.
    """
    lines = [["method", "modes", "paper", "quality", "reverse KL", "seconds"]]
    for (method,), group in _grouped([r for r in rows if r["labels"]["target"] == target], "method").items():
        lines.append(
            [
                method,
                _spread(_column(group, "modes"), 1),
                paper.get((target, method), ""),
                _spread(_column(group, "quality"), 2),
                _spread(_column(group, "reverse_kl"), 2),
                f"{np.mean([row['seconds'] for row in group]):.0f}",
            ]
        )
    return lines


def mode_bars(
    rows: Sequence[Row], target: str, modes: int, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Draw the modes that each method recovered: bars for means, dots for the runs, a line for all ``modes``.

    Raises:
        ValueError: if nothing is stored for the target.
    """
    groups = _grouped([r for r in rows if r["labels"]["target"] == target], "method")
    if ax is None:
        ax = plt.subplots(figsize=(5, 3.2), layout="constrained")[1]
    for place, group in enumerate(groups.values()):
        found = _column(group, "modes")
        ax.barh(place, found.mean(), color=PALETTE[0 if place else 1], alpha=0.75)
        ax.plot(found, [place] * len(found), "o", ms=4, color=PALETTE[6])
    ax.axvline(modes, color=PALETTE[6], lw=1, ls=":")
    ax.set(title=title, xlabel=f"modes recovered, of {modes}", ylabel="method", xlim=(0, modes * 1.05))
    ax.set_yticks(range(len(groups)), [method for (method,) in groups])
    ax.invert_yaxis()
    return ax


def scatters(
    rows: Sequence[Row], targets: Mapping[str, Mixture], *, seed: int = 0, title: str = ""
) -> Figure:
    """Draw the stored points of every method, a column each, and of every target, a row each.

    A circle of three standard deviations would be too small to see, so grey rings mark where the modes are. A
    place stays empty where a method was not tried on a target.

    Raises:
        ValueError: if nothing is stored for the seed.
    """
    groups = _grouped([row for row in rows if row["seed"] == seed], "target", "method")
    names = [target for target in targets if any(t == target for t, _ in groups)]
    methods = list(dict.fromkeys(method for _, method in groups))
    figure, axes = plt.subplots(
        len(names),
        len(methods),
        figsize=(1.45 * len(methods), 1.6 * len(names) + 0.8),
        layout="constrained",
        squeeze=False,
    )
    figure.suptitle(title)
    for line, target in zip(axes, names, strict=True):
        centres = targets[target].centres
        edge = 1.4 * centres.abs().max().item()
        for ax, method in zip(line, methods, strict=True):
            if (target, method) not in groups:
                ax.set_axis_off()
                continue
            (row,) = groups[target, method]
            ax.plot(*centres.T, "o", ms=7, mfc="none", color="0.7", mew=0.8)
            ax.plot(*arrays(row)["points"].T, ".", ms=1.5, color=PALETTE[1])
            ax.set_title(f"{method}\n{row['figures']['modes']} of {len(centres)}", fontsize="small")
            ax.set(xlim=(-edge, edge), ylim=(-edge, edge), aspect="equal", xticks=[], yticks=[])
        line[0].set_ylabel(f"{target}, x₂")
    for ax in axes[-1]:
        ax.set_xlabel("x₁")
    return figure


def value_surfaces(rows: Sequence[Row], extent: float, *, title: str = "") -> Figure:
    """Draw level lines of the stored critics over their data: a row per method, a column per target.

    Args:
        rows: of the study ``value-surfaces``, of one seed.
        extent: the surfaces cover the square [-extent, extent]^2.
        title: of the figure.

    Raises:
        ValueError: if nothing is stored.

    Source: Gulrajani et al. 2017, figure 1(a). Lecture: OUC "Drawback of weight clipping".
    """
    groups = _grouped(rows, "method", "target")
    methods = list(dict.fromkeys(method for method, _ in groups))
    targets = list(dict.fromkeys(target for _, target in groups))
    size = (2.5 * len(targets), 2.6 * len(methods) + 0.3)
    figure, axes = plt.subplots(len(methods), len(targets), figsize=size, layout="constrained", squeeze=False)
    figure.suptitle(title)
    for (method, target), group in groups.items():
        ax = axes[methods.index(method), targets.index(target)]
        stored = arrays(group[0])
        values = stored["surface"]
        side = len(values)
        ticks = (torch.arange(side) + 0.5) * (2 * extent / side) - extent
        ax.contour(ticks, ticks, values, levels=14, cmap="cividis", linewidths=1)
        ax.plot(*stored["points"].T, ".", ms=2, color=PALETTE[1])
        slope = group[0]["figures"]["gradient_norm"]
        ax.set_title(f"{method}: {target}\nmean slope {slope:.2g}", fontsize="small")
        ax.set(xlim=(-extent, extent), ylim=(-extent, extent), aspect="equal")
    for line in axes:
        line[0].set_ylabel("x₂")
    for ax in axes[-1]:
        ax.set_xlabel("x₁")
    return figure


def estimates(rows: Sequence[Row], sets: str, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw, for one pair of sets, each critic's estimate as a multiple of the exact distance.

    Three marks a method, every run one: the raw estimate, which may be anything; divided by the critic's
    steepest slope between samples, which makes it a lower bound; and the bound by the c-transform.

    Args:
        rows: of the study ``wasserstein-estimate``.
        sets: the label of the pair.
        title: of the figure.
        ax: where to draw, None for a new figure.

    Raises:
        ValueError: if nothing is stored for the pair.
    """
    groups = _grouped([row for row in rows if row["labels"]["sets"] == sets], "method")
    if ax is None:
        ax = plt.subplots(figsize=(4.5, 3.2), layout="constrained")[1]
    marks = (
        ("estimate", "raw estimate", "o"),
        ("certified", "divided by its slope", "s"),
        ("transformed", "by c-transform", "^"),
    )
    for shift, ((figure, label, mark), colour) in enumerate(zip(marks, PALETTE, strict=False)):
        for place, group in enumerate(groups.values()):
            ratios = _column(group, figure) / _column(group, "w1")
            spots = np.full(len(ratios), place + 0.2 * (shift - 1))
            name = None if place else label
            ax.plot(spots, ratios, mark, ms=5, color=colour, label=name, clip_on=False)
    ax.axhline(1, color=PALETTE[6], lw=1, ls=":")
    ax.set_yscale("symlog", linthresh=0.1)
    ax.set_yticks([0, 0.1, 0.3, 1, 3], ["0", "0.1", "0.3", "1", "3"], minor=False)
    ax.set(title=title, xlabel="how the critic is held", ylabel="multiple of the exact W₁")
    ax.set_xticks(range(len(groups)), [method for (method,) in groups])
    ax.legend(frameon=False, fontsize="small")
    return ax
