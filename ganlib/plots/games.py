"""Pictures of two-player games: phase portraits, eigenvalues, vanishing gradients, who answers whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, StrMethodFormatter
from numpy.typing import ArrayLike, NDArray

from ganlib.plots import PALETTE
from ganlib.theory.games import Game, eigenvalues

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ganlib.models.vanishing import Trace

__all__ = ["distances", "eigenvalue_plane", "gradient_norms", "inner_loops", "phase_figure", "phase_portrait"]


def phase_portrait(
    game: Game,
    path: ArrayLike | None = None,
    *,
    extent: float = 2.0,
    title: str = "",
    xlabel: str = "θ (where the fakes are)",
    ylabel: str = "ψ (the discriminator's slope)",
    ax: Axes | None = None,
) -> Axes:
    """Draw where the players want to go, as arrows, and a path that they went.

    Arrows show direction only; their colour is the speed, dark is slow.

    Args:
        game: whose field is drawn.
        path: points ``(steps + 1, 2)`` as of :func:`ganlib.theory.games.trajectory`; None for none.
        extent: the square [-extent, extent]^2 is drawn.
        title: of the figure.
        xlabel: of the generator's parameter.
        ylabel: of the discriminator's.
        ax: where to draw, None for a new figure.
    """
    if ax is None:
        ax = plt.subplots(figsize=(3.6, 3.6), layout="constrained")[1]
    ticks = np.linspace(-extent, extent, 15)
    points = np.stack(np.meshgrid(ticks, ticks), axis=-1)
    v = game.field(points)
    speed = np.linalg.norm(v, axis=-1)
    direction = v / np.maximum(speed, 1e-12)[..., None]
    ax.quiver(
        *np.moveaxis(points, -1, 0),
        *np.moveaxis(direction, -1, 0),
        speed,
        cmap="Greys",
        clim=(-0.7 * speed.max(), 1.3 * speed.max()),
        pivot="mid",
        scale=21,
        width=0.0045,
    )
    ax.plot(0, 0, "+", ms=11, mew=2, color=PALETTE[6])
    if path is not None:
        # The renderer's integers overflow at points far outside of the picture.
        shown = np.clip(np.nan_to_num(np.asarray(path, dtype=np.float64)), -50 * extent, 50 * extent)
        ax.plot(*shown.T, "-", lw=0.8, color=PALETTE[0])
        ax.plot(*shown.T, ".", ms=2.5, color=PALETTE[0])
        ax.plot(*shown[0], "o", ms=7, color=PALETTE[2], label="start")
        ax.plot(*shown[-1], "s", ms=6, color=PALETTE[1], label="end", clip_on=True)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel, aspect="equal")
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent))
    return ax


def distances(paths: Mapping[str, NDArray[np.float64]], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the distance from the equilibrium (0, 0) against the round, several paths' by name, on a log axis.

    Distances below 1e-8 or above 1e8 are left out.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")[1]
    for (name, path), colour in zip(paths.items(), PALETTE, strict=False):
        radius = np.hypot(path[:, 0], path[:, 1])
        shown = np.where((radius > 1e-8) & (radius < 1e8), radius, np.nan)
        ax.semilogy(shown, color=colour, lw=1.4, label=name)
    ax.set(title=title, xlabel="round", ylabel="distance from (0, 0)")
    if len(paths) > 1:
        ax.legend(frameon=False, fontsize="small")
    return ax


def eigenvalue_plane(
    games: Mapping[str, Game], *, step: float = 0.2, title: str = "", ax: Axes | None = None
) -> Axes:
    r"""Draw each game's eigenvalues at the equilibrium, and the disc in which simultaneous steps converge.

    :math:`|1 + \eta\lambda| < 1` is a disc of radius :math:`1/\eta` around :math:`-1/\eta`. The imaginary
    axis touches it at 0 alone, which is why no step is small enough for a game that only rotates.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.8), layout="constrained")[1]
    angle = np.linspace(0, 2 * np.pi, 2001)
    ax.fill(
        (np.cos(angle) - 1) / step, np.sin(angle) / step, color=PALETTE[5], alpha=0.25, label="|1 + ηλ| < 1"
    )
    ax.axvline(0, color="0.6", lw=0.8)
    for (name, game), colour, marker in zip(games.items(), PALETTE, "osD^vPX", strict=False):
        values = eigenvalues(game)
        ax.plot(values.real, values.imag, marker, color=colour, ms=6, ls="", label=name, alpha=0.8)
    ax.set(title=title, xlabel="real part (per unit of time)", ylabel="imaginary part")
    ax.set(xlim=(-1.3, 0.3), ylim=(-1.2, 1.2))
    ax.legend(frameon=False, fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    return ax


def phase_figure(game: Game, path: ArrayLike, *, title: str = "") -> Figure:
    """Draw a path through a game: phase portrait on the left, distance from the equilibrium on the right.

    This is the picture that :class:`ganlib.widgets.phase.PhasePortrait` redraws. It is made without pyplot,
    so nothing keeps it alive.

    Args:
        game: what was played.
        path: as of :func:`ganlib.theory.games.trajectory`, ``(steps + 1, 2)``.
        title: of the figure.
    """
    figure = Figure(figsize=(8.4, 3.7))
    # Fixed margins, as a layout engine would draw everything twice.
    margins = {"left": 0.08, "right": 0.98, "bottom": 0.14, "top": 0.84 if title else 0.91, "wspace": 0.22}
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.3), gridspec_kw=margins)
    phase_portrait(game, path, extent=3, title="where the players go", ax=left)
    distances({"": np.asarray(path)}, title="how far they are from rest", ax=right)
    # A log axis's minor ticks and typeset powers take as long as all the rest, at every move of a slider.
    right.yaxis.set_minor_locator(NullLocator())
    right.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    low, high = right.get_ylim()
    right.set_ylim(min(low, 0.1), max(high, 10.0))
    if title:
        figure.suptitle(title)
    return figure


def gradient_norms(trace: Trace, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw what :func:`ganlib.models.vanishing.vanishing` recorded, on a logarithmic axis."""
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")[1]
    for (name, norms), colour in zip(trace.norms.items(), PALETTE, strict=False):
        ax.semilogy(trace.steps, norms, "o-", ms=3, lw=1.2, color=colour, label=name)
    ax.set(title=title, xlabel="discriminator steps from scratch", ylabel="‖∂L_G/∂θ_G‖ (loss per weight)")
    return ax


def inner_loops(
    p: Sequence[float], q: NDArray[np.float64], modes: NDArray[np.intp], *, axes: Sequence[Axes] | None = None
) -> Sequence[Axes]:
    """Draw the generator's probabilities under both orders of play, one mode a colour; dashed are the data's.

    On the right squares show which mode has all the mass, and lines the average of the generators so far.

    Args:
        p: the data's probabilities of the modes, ``(K,)``.
        q: what :func:`ganlib.theory.games.discriminator_in_inner_loop` returns.
        modes: what :func:`ganlib.theory.games.generator_in_inner_loop` returns first.
        axes: two, None for a new figure.
    """
    if axes is None:
        axes = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained", sharey=True)[1]
    left, right = axes
    for k, (share, colour) in enumerate(zip(p, PALETTE, strict=False)):
        left.plot(q[:, k], color=colour, label=f"mode {k + 1}")
        here = np.flatnonzero(modes == k)
        right.plot(here, np.ones_like(here), "s", ms=3.5, color=colour)
        right.plot(np.cumsum(modes == k) / np.arange(1, len(modes) + 1), color=colour, lw=1)
        for ax in axes:
            ax.axhline(share, color=colour, ls="--", lw=0.8)
    left.set(title="D in the inner loop", xlabel="generator's step", ylabel="generator's probability")
    right.set(title="G in the inner loop", xlabel="discriminator's step")
    left.legend(frameon=False, fontsize="small")
    return axes
