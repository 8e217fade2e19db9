"""Figures of progressive growing: schedules, film strips, signals layer by layer, where the time goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator
from torch import Tensor, nn

from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.training import Growth, Trainer

__all__ = ["by_layer", "caption", "frames", "live", "race", "schedule", "shares", "shown", "signals"]


def shown(growth: Growth, step: int) -> int:
    """Real images that the discriminator has been shown before round ``step``, at one turn a round.

    Raises:
        ValueError: if ``step`` is negative.
    """
    if step < 0:
        raise ValueError(f"step must not be negative, got {step}")
    ends = [*growth.starts, max(step, *growth.starts, 0)]
    total = begin = 0
    for batch, end in zip(growth.batch_sizes, ends, strict=True):
        total += batch * (min(step, end) - min(step, begin))
        begin = end
    return total


def schedule(growth: Growth, *, title: str = "") -> np.ndarray:
    """Draw the size of the images, above, and alpha, below, over the real images shown; returns both axes.

    Fade-in phases are shaded. The axis ends where the last size's stable phase does.
    """
    _figure, axes = plt.subplots(2, 1, figsize=(8, 3.6), sharex=True, layout="constrained")
    steps = np.unique(np.concatenate([np.linspace(0, growth.rounds, 400).astype(int), growth.starts]))
    x = [shown(growth, int(step)) / 1000 for step in steps]
    stages = [growth.at(int(step)) for step in steps]
    axes[0].step(x, [stage.size for stage in stages], where="post", color=PALETTE[0])
    axes[0].set_yscale("log", base=2)
    axes[0].set_yticks(growth.sizes, [f"{size}" for size in growth.sizes])
    axes[0].yaxis.set_minor_locator(NullLocator())
    axes[0].set(title=title, ylabel="side (pixels)")
    # Broken where a size begins: alpha does not travel from 1 to 0, it is another layer's.
    alphas = [stage.alpha for stage in stages]
    parts = [0, *(int(np.searchsorted(steps, start)) for start in growth.starts), len(steps)]
    for begin, end in itertools.pairwise(parts):
        axes[1].plot(x[begin:end], alphas[begin:end], color=PALETTE[1])
    axes[1].set(xlabel="real images shown (thousands)", ylabel="α", yticks=[0, 0.5, 1])
    for start, rounds in zip(growth.starts, growth.phases[1:], strict=True):
        ends = [shown(growth, s) / 1000 for s in (start, start + rounds)]
        for ax in axes:
            ax.axvspan(*ends, color="0.92", zorder=0)
    return axes


def frames(columns: Mapping[str, Tensor], *, title: str = "", across: int = 12) -> Figure:
    """A film strip: one column of images per moment, each under its own caption.

    Images of every size are drawn equally large, pixel by pixel, so that a small one looks coarse.

    Args:
        columns: caption -> images ``(N, C, H, W)`` in [-1, 1], as many in each.
        title: of the figure.
        across: columns side by side; more go on in further bands below.

    Raises:
        ValueError: if there is no column, or one holds more images than another.
    """
    counts = {len(images) for images in columns.values()}
    if len(counts) != 1:
        raise ValueError(f"columns must not be empty and of one length, got lengths {sorted(counts)}")
    rows, wide = counts.pop(), min(across, len(columns))
    bands = -(-len(columns) // wide)
    size = (
        0.85 * wide + 0.1,
        bands * (0.85 * rows + 0.15 * (1 + max(c.count("\n") for c in columns)) + 0.2)
        + (0.35 if title else 0),
    )
    figure, axes = plt.subplots(bands, wide, figsize=size, layout="constrained", squeeze=False)
    for ax in axes.flat[len(columns) :]:
        ax.set_axis_off()
    for ax, (caption, images) in zip(axes.flat, columns.items(), strict=False):
        # Sizes differ by powers of two: repeating pixels shows them as they are.
        largest = max(i.shape[-1] for i in columns.values())
        factor = max(1, largest // images.shape[-1])
        grid(images.repeat_interleave(factor, 2).repeat_interleave(factor, 3), columns=1, ax=ax)
        ax.set_title(caption, fontsize=8)
    if title:
        figure.suptitle(title)
    return figure


@torch.no_grad()
def signals(
    network: Callable[[Tensor], Tensor], x: Tensor, kind: type[nn.Module]
) -> list[tuple[float, float]]:
    r"""Root mean square of the signal that enters and leaves each layer of a class, in the order of calls.

    Args:
        network: a module; one pass is made, in the mode that it is in.
        x: its input.
        kind: the class, such as :class:`ganlib.layers.PixelNorm`.

    Raises:
        ValueError: if no such layer was called.
    """
    found: list[tuple[float, float]] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        found.append(tuple(t.float().square().mean().sqrt().item() for t in (inputs[0], output)))

    hooks = [m.register_forward_hook(record) for m in network.modules() if isinstance(m, kind)]
    try:
        network(x)
    finally:
        for hook in hooks:
            hook.remove()
    if not found:
        raise ValueError(f"network must call a layer of class {kind.__name__}, it called none")
    return found


def by_layer(
    values: Mapping[str, Sequence[float]],
    names: Sequence[str],
    *,
    title: str = "",
    ylabel: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw one number per layer on a logarithmic axis, a line of marks per series, layers by name.

    Raises:
        ValueError: if a series has another number of values than there are names.
    """
    for name, series in values.items():
        if len(series) != len(names):
            raise ValueError(f"{name} must have one value for each of {len(names)} layers, got {len(series)}")
    if ax is None:
        ax = plt.subplots(figsize=(1.5 + 0.55 * len(names), 3.4), layout="constrained")[1]
    for k, (name, series) in enumerate(values.items()):
        ax.semilogy(range(len(names)), series, f"{'osD^v'[k % 5]}-", ms=5, lw=1, color=PALETTE[k], label=name)
    ax.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=8)
    ax.set(title=title, xlabel="layer", ylabel=ylabel)
    ax.legend(frameon=False, fontsize="small")
    return ax


def shares(table: Mapping[str, Mapping[str, float]], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw each row of a table as one bar of length 100 %, cut in proportion to its entries.

    The parts are taken to have an order, such as sizes: their colours run from dark to light.

    Args:
        table: row -> part -> amount, such as ``{"seconds": {"4 × 4": 1.0, "8 × 8": 3.0}}``.
        title: of the figure.
        ax: where to draw, None for a new figure.

    Raises:
        ValueError: if a row's amounts are negative or all zero.
    """
    if ax is None:
        ax = plt.subplots(figsize=(8, 0.8 + 0.5 * len(table)), layout="constrained")[1]
    parts = list(dict.fromkeys(part for row in table.values() for part in row))
    for y, (name, row) in enumerate(table.items()):
        total = sum(row.values())
        if min(row.values()) < 0 or not total > 0:
            raise ValueError(f"{name} must have amounts of at least 0, one above it, got {dict(row)}")
        left = 0.0
        for k, part in enumerate(parts):
            width = 100 * row.get(part, 0.0) / total
            place = k / max(1, len(parts) - 1)
            colour = plt.get_cmap("cividis")(place)
            ax.barh(
                y, width, left=left, height=0.7, color=colour, edgecolor="white", label=None if y else part
            )
            if width >= 4:
                ink = "white" if place < 0.5 else "black"
                ax.text(left + width / 2, y, f"{width:.0f}", ha="center", va="center", color=ink, fontsize=8)
            left += width
    ax.set_yticks(range(len(table)), list(table))
    ax.invert_yaxis()
    ax.set(title=title, xlabel="share of the whole (%)", xlim=(0, 100))
    ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1, 1))
    return ax


def race(
    runs: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    *,
    title: str = "",
    xlabel: str,
    ylabel: str = "FID",
    floor: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw runs against time on a logarithmic axis: a colour per contestant, a line per seed.

    Args:
        runs: contestant -> (x, y) of each of its runs.
        title: of the figure.
        xlabel: what x is, with its unit.
        ylabel: what y is.
        floor: drawn as a dotted line, None for none.
        ax: where to draw, None for a new figure.
    """
    if ax is None:
        ax = plt.subplots(figsize=(7, 3.6), layout="constrained")[1]
    for k, (name, lines) in enumerate(runs.items()):
        for seed, (x, y) in enumerate(lines):
            style = f"{'osD^v'[k % 5]}-"
            ax.semilogy(x, y, style, ms=3, lw=1.2, color=PALETTE[k], label=None if seed else name)
    if floor is not None:
        ax.axhline(floor, ls=":", color=PALETTE[6], label="real digits")
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, fontsize="small")
    return ax


def live(
    growth: Growth, steps: int, every: int, *, n: int = 32, film: dict[str, Tensor] | None = None
) -> Callable[[Trainer], None]:
    """A trainer callback that redraws samples, losses and a progress bar, with the stage the networks are in.

    It acts at rows of the history that are a multiple of ``every``, and at the last. The latents stay the
    same, so that one watches the same digits come into focus.

    Args:
        growth: the game's schedule.
        steps: of the whole run, for the bar.
        every: rounds between two pictures.
        n: samples drawn.
        film: dictionary that receives ``caption -> the first eight samples`` at each picture.
    """
    from IPython.display import display

    handle = None

    def callback(trainer: Trainer) -> None:
        nonlocal handle
        if trainer.step % every and not trainer.finished:
            return
        samples = trainer.sample(n).cpu()
        if film is not None:
            film[caption(growth, trainer.step)] = samples[:8]
        figure = _live_figure(trainer, growth, steps, samples)
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)

    return callback


def caption(growth: Growth, rounds: int) -> str:
    """Where the networks stood in the last of ``rounds`` rounds, and how many real images had been shown."""
    size, alpha = growth.at(max(0, rounds - 1))
    images = shown(growth, rounds)
    count = f"{images:,}" if images < 1000 else f"{images / 1000:.3g}k"
    return f"{size} × {size}\nα = {alpha:.2f}\n{count} images"


def _live_figure(trainer: Trainer, growth: Growth, steps: int, samples: Tensor) -> Figure:
    stage = caption(growth, trainer.step).replace("\n", ", ")
    figure, axes = plt.subplot_mosaic(
        [["bar", "bar"], ["samples", "curves"]],
        figsize=(11, 3.6),
        height_ratios=[1, 14],
        layout="constrained",
    )
    bar = axes["bar"]
    bar.barh(0, steps, color="0.92")
    bar.barh(0, trainer.step, color=PALETTE[2])
    bar.set_xlim(0, steps)
    bar.set_axis_off()
    seconds = trainer.history[-1]["seconds"]
    bar.set_title(
        f"round {trainer.step:,} of {steps:,}, {seconds:.0f} s of training: {stage}",
        fontsize=9,
        loc="left",
    )
    grid(samples, title="the same latents each time", ax=axes["samples"])
    right, history = axes["curves"], trainer.history
    x = [shown(growth, step) / 1000 for step in history["step"]]
    for name, colour in zip((n for n in history.names if "/" in n), PALETTE, strict=False):
        right.plot(x, history[name], color=colour, label=name)
    for start in growth.starts:
        if start < trainer.step:
            right.axvline(shown(growth, start) / 1000, color="0.6", ls=":", lw=1)
    right.set(
        title="Losses (dotted: a size begins)", xlabel="real images shown (thousands)", ylabel="mean loss"
    )
    right.legend(frameon=False, fontsize="small")
    return figure
