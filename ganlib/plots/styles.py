"""Figures of the notebook on attention and style: where a network looks, and what its styles and noise do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch
from matplotlib import pyplot as plt
from matplotlib.colors import PowerNorm
from torch import Tensor

from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.training import Trainer

__all__ = [
    "CONFIGURATIONS",
    "PUBLISHED",
    "ablation",
    "attention",
    "distributions",
    "follows",
    "label_scores",
    "live",
    "mixing",
    "noise",
    "spike_gain",
    "spikes",
    "strips",
    "tradeoff",
]

CONFIGURATIONS = {
    "a": "baseline StyleGAN",
    "b": "+ weight demodulation",
    "c": "+ lazy regularization",
    "d": "+ path length regularization",
    "e": "+ no growing, new G & D",
    "f": "+ large networks",
}
"""The rows of the ablation of StyleGAN2."""

PUBLISHED = {"a": 4.40, "b": 4.39, "c": 4.38, "d": 4.34, "e": 3.31, "f": 2.84}
"""Karras et al. 2020, table 1: FID on FFHQ at 1024 x 1024. Lecture: Aalto, "Removed progressive growing."."""


def attention(
    images: Tensor, weights: Tensor, queries: Sequence[tuple[int, int]], *, title: str = ""
) -> Figure:
    """Where places of an image look: a row per image, first with its queries, then with one map for each.

    White outlines on the maps are those of the image's strokes, where it passes through 0.

    Args:
        images: ``(N, C, H, W)`` in [-1, 1].
        weights: ``(N, Q, h, w)``, not negative: how much each of Q queries takes from each cell of a map,
            which is drawn over the whole image.
        queries: Q pairs (row, column) in pixels of the image.
        title: of the figure.

    Raises:
        ValueError: if images, weights and queries do not fit together.
    """
    if images.ndim != 4 or weights.ndim != 4 or weights.shape[:2] != (len(images), len(queries)):
        raise ValueError(
            f"weights must be (N, Q, h, w) for {len(images)} images and {len(queries)} queries, "
            f"got {tuple(weights.shape)}"
        )
    n, across, side = len(images), 1 + len(queries), images.shape[-1]
    figure, axes = plt.subplots(
        n, across, figsize=(1.35 * across + 0.6, 1.35 * n + 0.4), layout="constrained", squeeze=False
    )
    pictures = images.detach().cpu().float().mean(1)
    maps = weights.detach().cpu().float()
    scale = PowerNorm(0.5, 0, maps.amax().item())  # a few large weights would leave the rest black
    for i, row in enumerate(axes):
        for j, ax in enumerate(row):
            if j == 0:
                ax.imshow(pictures[i].numpy(), cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
            else:
                extent = (-0.5, side - 0.5, side - 0.5, -0.5)
                shown = ax.imshow(maps[i, j - 1].numpy(), cmap="inferno", norm=scale, extent=extent)
                if pictures[i].amin() < 0 < pictures[i].amax():  # where the strokes are
                    ax.contour(pictures[i].numpy(), levels=[0], colors="white", linewidths=0.7)
            for q, (y, x) in enumerate(queries):
                if j in (0, q + 1):
                    style = {"color": PALETTE[(q + 1) % 6], "markeredgecolor": "white", "markersize": 7}
                    ax.plot(x, y, "sodP^v"[q % 6], **style)
            ax.set_xticks([])
            ax.set_yticks([])
            if i == 0:
                ax.set_title(f"query {j}" if j else "queries", fontsize=9)
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.01)
    bar.set_label("attention weight", fontsize=8)
    figure.suptitle(title)
    return figure


def live(
    steps: int,
    every: int,
    measure: Callable[[Trainer], Mapping[str, float]],
    *,
    shares: int = 1,
    rows: list[dict[str, float]] | None = None,
) -> Callable[[Trainer], None]:
    """A trainer callback for a conditional game of ten classes: samples class by class, figures, a bar.

    Latents stay the same: a row of samples is one latent, a column one class.

    Args:
        steps: of the whole run, for the bar.
        every: steps between two drawings, at rows of the trainer's history.
        measure: trainer -> named numbers, drawn against the step.
        shares: how many of them, the first ones, are shares in [0, 1]; they have a panel of their own.
        rows: list that receives ``{"step": ..., **measured}``.
    """
    from IPython.display import display

    rows = [] if rows is None else rows
    handle = None

    def callback(trainer: Trainer) -> None:
        nonlocal handle
        if trainer.step % every and not trainer.finished:
            return
        if not rows or rows[-1]["step"] != trainer.step:
            rows.append({"step": trainer.step, **measure(trainer)})
        figure = _live_figure(rows, _by_class(trainer), steps, trainer.history[-1]["seconds"], shares)
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)

    return callback


def _by_class(trainer: Trainer, latents: int = 4) -> Tensor:
    with trainer.averaged() as game, game.evaluating():
        z = game.latent(latents, torch.Generator().manual_seed(0)).repeat_interleave(10, 0)
        return game.generator(z, torch.arange(len(z), device=z.device) % 10)


def _live_figure(
    rows: Sequence[Mapping[str, float]], samples: Tensor, steps: int, seconds: float, shares: int
) -> Figure:
    figure, axes = plt.subplot_mosaic(
        [["bar"] * 3, ["samples", "share", "others"]],
        figsize=(12, 2.9),
        height_ratios=[1, 14],
        width_ratios=[1.9, 1, 1],
        layout="constrained",
    )
    step, bar = rows[-1]["step"], axes["bar"]
    bar.barh(0, steps, color="0.92")
    bar.barh(0, step, color=PALETTE[2])
    bar.set_xlim(0, steps)
    bar.set_axis_off()
    bar.set_title(f"step {step:,} of {steps:,}, {seconds:.0f} s of training", fontsize=9, loc="left")
    grid(samples, columns=10, title="a row per latent, a column per digit", ax=axes["samples"])
    names = [name for name in rows[-1] if name != "step"]
    at = [row["step"] for row in rows]
    for panel, drawn in (("share", names[:shares]), ("others", names[shares:])):
        for name, colour in zip(drawn, cycle(PALETTE), strict=False):
            axes[panel].plot(at, [row[name] for row in rows], "o-", ms=3, color=colour, label=name)
        axes[panel].set(xlabel="step", xlim=(0, steps))
        axes[panel].legend(frameon=False, fontsize=8)
    axes["share"].set(title="shares", ylabel="share", ylim=(0, 1.02))
    axes["others"].axhline(0, color=PALETTE[6], lw=0.8)
    axes["others"].set(title=", ".join(names[shares:]), ylabel="value")
    return figure


def label_scores(scores: Tensor, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw ``(classes, labels)``: what a conditional discriminator says of each class under each label."""
    if scores.ndim != 2:
        raise ValueError(f"scores must be (classes, labels), got {tuple(scores.shape)}")
    if ax is None:
        ax = plt.subplots(figsize=(5.4, 4.4), layout="constrained")[1]
    values = scores.detach().cpu().float()
    most = values.abs().amax().item()
    picture = ax.imshow(values.numpy(), cmap="PuOr", vmin=-most, vmax=most)
    for i in range(values.shape[0]):
        for j in range(values.shape[1]):
            colour = "white" if values[i, j].abs() > 0.6 * most else "black"
            ax.text(j, i, f"{values[i, j]:.1f}", ha="center", va="center", fontsize=7, color=colour)
    ax.set_xticks(range(values.shape[1]))
    ax.set_yticks(range(values.shape[0]))
    ax.set(title=title, xlabel="label that D is told", ylabel="true digit")
    ax.figure.colorbar(picture, ax=ax, fraction=0.045, pad=0.02).set_label("mean score of D", fontsize=8)
    return ax


def tradeoff(
    rows: Sequence[Mapping[str, float]], *, by: str, xlabel: str, title: str = "", floor: float | None = None
) -> Figure:
    """Fidelity against diversity: precision and recall (left) and FID (right) over a truncation.

    Args:
        rows: dictionaries with ``by``, ``precision``, ``recall`` and ``fid``.
        by: key of the horizontal axis.
        xlabel: its name.
        title: of the figure.
        floor: FID of as many real samples, drawn as a line.
    """
    if not rows:
        raise ValueError("rows must not be empty")
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.1), layout="constrained")
    x = [row[by] for row in rows]
    for name, colour, marker in (("precision", PALETTE[0], "o"), ("recall", PALETTE[1], "s")):
        left.plot(x, [row[name] for row in rows], marker=marker, ms=4, color=colour, label=name)
    left.set(title="fidelity and diversity", xlabel=xlabel, ylabel="share of samples", ylim=(0, 1.02))
    left.legend(frameon=False)
    right.semilogy(x, [row["fid"] for row in rows], "o-", ms=4, color=PALETTE[2], label="samples")
    if floor is not None:
        right.axhline(floor, ls=":", color=PALETTE[6], label="test digits")
        right.legend(frameon=False)
    right.set(title="both in one number", xlabel=xlabel, ylabel="FID")
    figure.suptitle(title)
    return figure


def mixing(
    sources: Tensor, others: Tensor, mixed: Tensor, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """A table of mixed styles: ``sources`` down the left, ``others`` along the top, their mixtures inside.

    Args:
        sources: ``(R, C, H, W)``, which give all styles but the mixed ones.
        others: ``(K, C, H, W)``, which give those.
        mixed: ``(R * K, C, H, W)``, row by row.
        title: of the panel.
        ax: where to draw, None for a new figure.

    Raises:
        ValueError: if there are not R * K mixtures.
    """
    down, across = len(sources), len(others)
    if len(mixed) != down * across:
        raise ValueError(f"mixed must hold {down} x {across} images, got {len(mixed)}")
    corner = torch.zeros_like(others[:1])  # grey, like the lines between pictures
    rows = [corner, others]
    for i in range(down):
        rows += [sources[i : i + 1], mixed[i * across : (i + 1) * across]]
    if ax is None:
        ax = plt.subplots(figsize=(0.55 * (across + 1), 0.55 * (down + 1) + 0.3), layout="constrained")[1]
    grid(torch.cat(rows), columns=across + 1, title=title, ax=ax)
    step_x, step_y = (images.shape[-1] + 1 for images in (sources, sources))
    ax.axvline(step_x, color=PALETTE[1], lw=1.5)
    ax.axhline(step_y, color=PALETTE[1], lw=1.5)
    return ax


def noise(image: Tensor, draws: Tensor, *, shown: int = 4, title: str = "") -> Figure:
    """One style under no noise and under several, and each pixel's standard deviation over the draws.

    Args:
        image: ``(1, C, H, W)``, without noise.
        draws: ``(N, C, H, W)``, the same styles under N draws of noise.
        shown: how many of the draws to show.
        title: of the figure.
    """
    if len(image) != 1 or len(draws) < 2 or image.shape[1:] != draws.shape[1:]:
        raise ValueError(
            f"image and draws must be (1, C, H, W) and (N, C, H, W), "
            f"got {tuple(image.shape)} and {tuple(draws.shape)}"
        )
    shown = min(shown, len(draws))
    figure, axes = plt.subplots(1, shown + 2, figsize=(1.5 * (shown + 2) + 0.8, 1.9), layout="constrained")
    pictures = [image[0], *draws[:shown]]
    names = ["no noise", *(f"draw {i + 1}" for i in range(shown))]
    for ax, picture, name in zip(axes, pictures, names, strict=False):
        ax.imshow(picture.detach().cpu().float().mean(0).numpy(), cmap="gray", vmin=-1, vmax=1)
        ax.set_title(name, fontsize=9)
    deviation = draws.detach().cpu().float().std(0).mean(0)
    picture = axes[-1].imshow(deviation.numpy(), cmap="inferno", vmin=0)
    axes[-1].set_title(f"deviation over {len(draws)}", fontsize=9)
    for ax in axes:
        ax.set_xticks([])
        ax.set_yticks([])
    figure.colorbar(picture, ax=axes[-1], fraction=0.045).set_label("of pixels in [-1, 1]", fontsize=8)
    figure.suptitle(title)
    return figure


def strips(
    rows: Mapping[str, Tensor],
    columns: Sequence[str] = (),
    *,
    title: str = "",
    xlabel: str = "",
    inches: float = 0.75,
) -> Figure:
    """Rows of images ``(N, C, H, W)``, each with its name at the left, and names under the columns.

    ``inches`` is the side of an image.

    Raises:
        ValueError: for no rows, rows of different lengths, or another number of names than of columns.
    """
    lengths = {len(images) for images in rows.values()}
    if len(lengths) != 1 or (columns and len(columns) not in lengths):
        raise ValueError(f"rows must be of one length with a name for each column, got {sorted(lengths)}")
    across = lengths.pop()
    figure, axes = plt.subplots(
        len(rows),
        1,
        figsize=(inches * across + 1, 1.04 * inches * len(rows) + 0.7),
        layout="constrained",
        squeeze=False,
    )
    for ax, (name, images) in zip(axes[:, 0], rows.items(), strict=True):
        grid(images, columns=across, ax=ax)
        ax.set_axis_on()
        ax.set_frame_on(False)
        ax.set_yticks([])
        ax.set_xticks([])
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
    step = next(iter(rows.values())).shape[-1] + 1
    if columns:
        axes[-1, 0].set_xticks([step * (i + 0.5) for i in range(across)], columns, fontsize=9)
        axes[-1, 0].tick_params(length=0)
    axes[-1, 0].set_xlabel(xlabel)
    figure.suptitle(title)
    return figure


def spike_gain(height: float | Tensor, pixels: int) -> float | Tensor:
    r"""What instance normalization leaves of a background of deviation 1 beside one pixel of this height.

    A map of n pixels, one at h and the others at mean 0 and variance 1, has the variance
    :math:`\frac{n-1}{n} (1 + h^2 / n)`; the background ends at the inverse of its root.
    """
    variance = (pixels - 1) / pixels * (1 + height**2 / pixels)
    return variance**-0.5


def spikes(measured: Mapping[str, Mapping[int, Tensor]], *, title: str = "", ax: Axes | None = None) -> Axes:
    r"""The largest deviation in each feature map, in its own standard deviations, over the sizes of the maps.

    Medians, with a line from the tenth to the ninetieth percentile. Two references: what one spike in a flat
    map of n pixels reaches, :math:`\sqrt{n - 1}`, and the median of normal noise.

    Args:
        measured: network's name -> side of its maps -> one number per map, any shape.
        title: of the panel.
        ax: where to draw, None for a new figure.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")[1]
    sides = sorted({side for sizes in measured.values() for side in sizes})
    for i, (name, sizes) in enumerate(measured.items()):
        at = [sides.index(side) + 0.12 * (i - (len(measured) - 1) / 2) for side in sizes]
        low, middle, high = (
            [values.float().flatten().quantile(q).item() for values in sizes.values()]
            for q in (0.1, 0.5, 0.9)
        )
        ax.vlines(at, low, high, color=PALETTE[i])
        ax.plot(at, middle, "os^Dv"[i % 5], color=PALETTE[i], label=name)
    places = list(range(len(sides)))
    ax.plot(places, [math.sqrt(s * s - 1) for s in sides], "--", color=PALETTE[6], label="one spike alone")
    # Largest of n independent |N(0, 1)|: half of the time below the quantile (1 + 2^(-1/n)) / 2.
    normal = torch.distributions.Normal(
        torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    )
    typical = [normal.icdf(torch.tensor((1 + 0.5 ** (1 / s**2)) / 2, dtype=torch.float64)) for s in sides]
    ax.plot(places, typical, ":", color=PALETTE[6], label="normal noise")
    ax.set_xticks(places, [f"{s} × {s}" for s in sides])
    ax.set(title=title, xlabel="feature maps", ylabel="largest deviation / standard deviation", yscale="log")
    ax.set_yticks([2, 3, 5, 10, 20, 30], ["2", "3", "5", "10", "20", "30"])
    ax.set_yticks([], minor=True)
    ax.legend(frameon=False, fontsize=8)
    return ax


def distributions(
    values: Mapping[str, Tensor], *, xlabel: str, title: str = "", bins: int = 40, ax: Axes | None = None
) -> Axes:
    """Histograms of several sets of numbers, each divided by its mean, so that their spreads compare.

    The legend gives each spread: the standard deviation over the mean.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")[1]
    relative = {
        name: v.detach().cpu().float().flatten() / v.float().mean().cpu() for name, v in values.items()
    }
    edges = torch.linspace(0, max(v.max().item() for v in relative.values()), bins + 1)
    for (name, v), colour in zip(relative.items(), PALETTE, strict=False):
        label = f"{name} (spread {v.std():.2f})"
        ax.hist(
            v.numpy(), bins=edges.numpy(), density=True, histtype="step", lw=1.8, color=colour, label=label
        )
    ax.axvline(1, color=PALETTE[6], lw=0.8, ls=":")
    ax.set(title=title, xlabel=xlabel, ylabel="density")
    ax.legend(frameon=False, fontsize=8)
    return ax


def ablation(rows: Sequence[Mapping[str, Any]], *, figure_name: str = "fid", label: str = "config") -> Figure:
    """FID of StyleGAN2's configurations A to F: ours with a dot per seed, beside the paper's.

    Args:
        rows: what ``studies.load`` returns: dictionaries with ``labels`` and ``figures``.
        figure_name: the figure to draw.
        label: the label that holds the configuration's letter.

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty: run `ganlib reproduce` for the study first")
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["figures"].get(figure_name) is not None:
            found.setdefault(row["labels"][label], []).append(float(row["figures"][figure_name]))
    letters = [letter for letter in CONFIGURATIONS if letter in found]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.3), layout="constrained", sharey=True)
    names = [f"{letter.upper()}  {CONFIGURATIONS[letter]}" for letter in letters]
    places = range(len(letters))
    left.barh(places, [sum(found[k]) / len(found[k]) for k in letters], color=PALETTE[5])
    dots = [(value, i) for i, letter in enumerate(letters) for value in found[letter]]
    left.plot(*zip(*dots, strict=True), "o", ms=4, color=PALETTE[0])
    left.set_yticks(places, names)
    left.invert_yaxis()
    left.set(
        title="digits, 32 × 32, minutes each", xlabel="FID (bar: mean; dot: one seed)", ylabel="configuration"
    )
    right.barh(places, [PUBLISHED[k] for k in letters], color=PALETTE[4])
    right.set(title="the paper's: faces, 1024 × 1024, days", xlabel="FID")
    return figure


def follows(
    shares: Mapping[str, Sequence[float]], layers: Sequence[str], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """How much of each attribute follows the donor of some layers' styles: a line per attribute.

    Args:
        shares: attribute -> one number per group of layers; 0 where it stays with the receiver, 1 where it
            comes with the styles.
        layers: names of the groups, coarse to fine.
        title: of the panel.
        ax: where to draw, None for a new figure.

    Raises:
        ValueError: if an attribute has another number of shares than there are groups.
    """
    if any(len(values) != len(layers) for values in shares.values()):
        raise ValueError(f"shares must have a number for each of {len(layers)} groups of layers")
    if ax is None:
        ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")[1]
    for i, (name, values) in enumerate(shares.items()):
        ax.plot(range(len(layers)), values, "os^Dv"[i % 5] + "-", ms=5, color=PALETTE[i], label=name)
    ax.axhline(0, color=PALETTE[6], lw=0.8)
    ax.set_xticks(range(len(layers)), layers)
    ax.set(title=title, xlabel="layers that take the donor's styles", ylabel="share that follows the donor")
    ax.legend(frameon=False, fontsize=8)
    return ax
