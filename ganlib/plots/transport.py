"""Piles of earth, the plan that moves them, the area between their sums, and the critic that prices them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap
from numpy.typing import ArrayLike

from ganlib.plots import PALETTE
from ganlib.theory.transport import c_transform, critic_1d, monotone_plan, pairwise_distances

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["areas", "coupling", "critic", "duties", "landscape", "piles", "transport"]

P_COLOUR, Q_COLOUR = PALETTE[:2]


def piles(a: ArrayLike, b: ArrayLike, *, title: str = "Piles", ax: Axes | None = None) -> Axes:
    """Draw two histograms ``(n,)`` beside each other, bin 1 on the left."""
    ax = _axes(ax)
    bins = 1 + np.arange(len(a))
    ax.bar(bins - 0.2, a, 0.36, color=P_COLOUR, label="P, as it is")
    ax.bar(bins + 0.2, b, 0.36, color=Q_COLOUR, hatch="//", edgecolor="white", label="Q, as it should be")
    ax.set(title=title, xlabel="place", ylabel="earth (shovelfuls)", xticks=bins)
    ax.legend(frameon=False, fontsize="small")
    return ax


def coupling(
    plan: ArrayLike, *, title: str = "Plan", top: float | None = None, ax: Axes | None = None
) -> Axes:
    """Show a plan ``(n, m)`` as a heat map, row i for the earth that leaves place i.

    Args:
        plan: not negative.
        title: of the figure.
        top: amount of the darkest colour, None for the plan's largest; give one to compare plans.
        ax: where to draw, None for a new figure.

    Up to 10 x 10 the amounts are written in; larger plans get a colour bar. What stays where it is lies on
    the dotted diagonal.
    """
    ax, plan = _axes(ax, (3.6, 3.4)), np.asarray(plan)
    n, m = plan.shape
    top = top or plan.max()
    picture = ax.imshow(plan, cmap="Blues", vmin=0, vmax=top, extent=(0.5, m + 0.5, n + 0.5, 0.5))
    ax.set(title=title, xlabel="to place", ylabel="from place")
    if max(n, m) > 10:
        ax.figure.colorbar(picture, ax=ax, shrink=0.8, label="amount")
        return ax
    ax.plot([0.5, m + 0.5], [0.5, n + 0.5], ":", color="grey", lw=0.8, zorder=0.5)
    for (i, j), amount in np.ndenumerate(plan):
        if amount > 1e-9:
            colour = "white" if amount > 0.55 * top else "black"
            ax.text(j + 1, i + 1, f"{amount:.3g}", ha="center", va="center", color=colour, fontsize="small")
    ax.set(xticks=range(1, m + 1), yticks=range(1, n + 1))
    return ax


def areas(a: ArrayLike, b: ArrayLike, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the cumulative sums of two histograms ``(n,)`` and shade what lies between: W1 for steps of 1."""
    ax = _axes(ax)
    edges = 1 + np.arange(len(a) + 1)
    sums = [np.append(np.cumsum(masses), np.sum(masses)) for masses in (a, b)]
    area = np.abs(sums[0] - sums[1]).sum()
    ax.fill_between(edges, *sums, step="post", color=PALETTE[4], alpha=0.45, lw=0, label=f"area {area:.3g}")
    ax.step(edges, sums[0], where="post", color=P_COLOUR, label="sum of P")
    ax.step(edges, sums[1], "--", where="post", color=Q_COLOUR, label="sum of Q")
    ax.set(title=title or f"Area between the sums: {area:.3g}", xlabel="place", xticks=edges[:-1])
    ax.set_ylabel("earth up to here (shovelfuls)")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize="small")
    return ax


def critic(a: ArrayLike, b: ArrayLike, *, title: str | None = None, ax: Axes | None = None) -> Axes:
    """Draw the best 1-Lipschitz function of two histograms ``(n,)``, and where it scores their earth."""
    ax = _axes(ax)
    values, bins = critic_1d(a, b), 1 + np.arange(len(a))
    advantage = values @ np.asarray(a) - values @ np.asarray(b)
    ax.plot(bins, values, "-", color=PALETTE[2], label="f, of slope −1, 0 or 1")
    for masses, colour, marker, name in ((a, P_COLOUR, "o", "P"), (b, Q_COLOUR, "D", "Q")):
        sizes = 60 * np.asarray(masses) / max(np.max(a), np.max(b))
        ax.scatter(
            bins, values, sizes, facecolor="none", edgecolor=colour, marker=marker, label=f"earth of {name}"
        )
    ax.set(title=title or f"Dual: score of P − score of Q = {advantage:.3g}", xlabel="place", xticks=bins)
    ax.set_ylabel("price f (cost per shovelful)")
    ax.margins(y=0.2)
    ax.legend(frameon=False, fontsize="small", markerscale=0.7)
    return ax


def transport(a: ArrayLike, b: ArrayLike, plan: ArrayLike | None = None) -> Figure:
    """The whole story of two histograms ``(n,)`` in four panels: piles, plan, area, critic.

    Args:
        a: masses of P, not negative.
        b: masses of Q, of the same total.
        plan: ``(n, n)`` to show; the optimal one that keeps order if None.

    Raises:
        ValueError: as :func:`ganlib.theory.transport.monotone_plan`.
    """
    plan = monotone_plan(a, b) if plan is None else np.asarray(plan)
    cost = (plan * pairwise_distances(np.arange(len(a)), np.arange(len(b)))).sum()
    figure, axes = plt.subplots(2, 2, figsize=(9, 6.2), layout="constrained")
    piles(a, b, ax=axes[0, 0])
    coupling(plan, title=f"Plan: cost {cost:.3g}", ax=axes[0, 1])
    areas(a, b, ax=axes[1, 0])
    critic(a, b, ax=axes[1, 1])
    return figure


def duties(n: int, m: int, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the equality constraints of :func:`ganlib.theory.transport.emd_lp` as the matrix they are.

    One column for each entry of the plan, one row for each pile; a filled cell is a 1.
    """
    ax = _axes(ax, (7.5, 3.0))
    rows, columns = np.kron(np.eye(n), np.ones(m)), np.kron(np.ones(n), np.eye(m))
    picture = np.vstack([rows, 2 * columns])
    colours = ListedColormap(["white", P_COLOUR, Q_COLOUR])
    ax.pcolormesh(picture, cmap=colours, edgecolors="lightgrey", lw=0.5, vmin=0, vmax=2)
    ax.invert_yaxis()
    names = [f"Γ{i + 1}{j + 1}" for i in range(n) for j in range(m)]
    ax.set_xticks(np.arange(n * m) + 0.5, names, rotation=90, fontsize="small")
    labels = [f"a{i + 1}: leaves {i + 1}" for i in range(n)] + [
        f"b{j + 1}: reaches {j + 1}" for j in range(m)
    ]
    ax.set_yticks(np.arange(n + m) + 0.5, labels, fontsize="small")
    ax.set(title=title, xlabel="entry of the plan", ylabel="constraint")
    return ax


def landscape(
    x: ArrayLike,
    y: ArrayLike,
    plan: ArrayLike,
    g: ArrayLike,
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw level lines of the critic that a plan's potential extends to, over the plan's own arrows.

    Args:
        x: points ``(n, 2)``, the data, which the critic scores high.
        y: points ``(m, 2)``, the fakes.
        plan: ``(n, m)``; an arrow leads from every fake to the points it is matched with.
        g: ``(m,)``, the second of the plan's duals.
        title: of the figure.
        ax: where to draw, None for a new figure.
    """
    ax, x, y = _axes(ax, (4.6, 4.0)), np.asarray(x), np.asarray(y)
    both = np.concatenate([x, y])
    low, high = both.min(axis=0) - 0.7, both.max(axis=0) + 0.7
    ticks = [np.linspace(start, end, 121) for start, end in zip(low, high, strict=True)]
    points = np.stack(np.meshgrid(*ticks), axis=-1)
    values = c_transform(pairwise_distances(points.reshape(-1, 2), y), g).reshape(points.shape[:2])
    lines = ax.contourf(*ticks, values - values.mean(), levels=16, cmap="cividis")
    ax.figure.colorbar(lines, ax=ax, shrink=0.65, label="critic f (units of distance)")
    i, j = np.nonzero(np.asarray(plan) > 1e-12)
    ax.quiver(*y[j].T, *(x[i] - y[j]).T, angles="xy", scale_units="xy", scale=1, width=0.003, color="white")
    ax.plot(*x.T, "o", ms=4, mec="white", mew=0.5, color=P_COLOUR, label="real")
    ax.plot(*y.T, "D", ms=4, mec="white", mew=0.5, color=Q_COLOUR, label="fake")
    ax.set(title=title, xlabel="x₁", ylabel="x₂", aspect="equal")
    ax.legend(fontsize="small", loc="upper left")
    return ax


def _axes(ax: Axes | None, size: tuple[float, float] = (5.0, 3.2)) -> Axes:
    return plt.subplots(figsize=size, layout="constrained")[1] if ax is None else ax
