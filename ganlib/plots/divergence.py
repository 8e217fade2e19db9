"""Two Gaussians side by side: their densities, the best discriminator, and divergences against distance."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ganlib.plots import PALETTE
from ganlib.theory.discriminator import optimal_discriminator
from ganlib.theory.divergences import (
    gaussian_density,
    gaussian_jsd,
    gaussian_jsd_gradient,
    gaussian_kl,
    gaussian_kl_gradient,
    gaussian_wasserstein1,
    gaussian_wasserstein1_gradient,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

__all__ = ["MEASURES", "Measure", "bells", "draw"]


class Measure(NamedTuple):
    """A way to compare two Gaussians, and its derivative by the second one's mean; both take four arrays."""

    value: Callable[..., np.ndarray]
    slope: Callable[..., np.ndarray]


MEASURES = {
    "KL(p‖q)": Measure(gaussian_kl, lambda *pair: gaussian_kl_gradient(*pair)[0]),
    "KL(q‖p)": Measure(
        lambda mean_p, std_p, mean_q, std_q: gaussian_kl(mean_q, std_q, mean_p, std_p),
        lambda *pair: gaussian_kl_gradient(*pair)[1],
    ),
    "JSD": Measure(gaussian_jsd, gaussian_jsd_gradient),
    "W₁": Measure(gaussian_wasserstein1, gaussian_wasserstein1_gradient),
}
"""What :func:`draw` compares, by the name it is drawn under; the first three in nats, W₁ in units of x."""

_COLOURS = dict(zip(MEASURES, (PALETTE[2], PALETTE[4], PALETTE[6], PALETTE[3]), strict=True))
_DASHED = "KL(q‖p)"  # it lies on KL(p‖q) for equal stds
_REACH = 10.0  # of the axes of x and of the distance: that of two means in [-5, 5]


def bells(
    x: ArrayLike, *densities: ArrayLike, ax: Axes, names: tuple[str, ...] = ("p, data", "q, fakes")
) -> None:
    """Draw densities as filled curves, in the colours that p and q have throughout the notebook."""
    for density, name, colour in zip(densities, names, PALETTE, strict=False):
        ax.fill_between(x, density, color=colour, alpha=0.25, linewidth=0)
        ax.plot(x, density, color=colour, label=name)


def draw(mean_p: float, std_p: float, mean_q: float, std_q: float, *, figure: Figure | None = None) -> Figure:
    r"""Compare N(mean_p, std_p²), the data, with N(mean_q, std_q²), the fakes.

    Left, the densities and under them :math:`D^* = p / (p + q)`; in the middle the measures of
    :data:`MEASURES` as the fakes move away, these stds kept, and dots where they are now; right, the
    derivatives by the fakes' mean: what pulls a generator that plays against the best discriminator or
    critic.

    Args:
        mean_p: of the data; the axes reach from -10 to 10.
        std_p: of the data.
        mean_q: of the fakes.
        std_q: of the fakes.
        figure: one that this function returned, to draw in again: axes and labels stay, which is quicker.

    Returns:
        The figure, unknown to pyplot, so that nobody needs to close it.

    Raises:
        ValueError: for a std that is not positive, or a parameter that is not finite.
    """
    pair = (mean_p, std_p, mean_q, std_q)
    gaussian_kl(*pair)  # refuses bad parameters before anything is drawn
    fresh = figure is None
    figure = _frame() if fresh else figure
    for ax in figure.axes:
        for artist in [*ax.lines, *ax.collections]:
            artist.remove()
    top, bottom, values, slopes = figure.axes
    x = np.linspace(-_REACH, _REACH, 401)
    p, q = gaussian_density(x, mean_p, std_p), gaussian_density(x, mean_q, std_q)
    bells(x, p, q, ax=top)
    top.set_ylim(0, 1.1 * max(p.max(), q.max()))
    bottom.axhline(0.5, color="0.8", lw=0.8)
    bottom.plot(x, optimal_discriminator(p, q), color=PALETTE[5], lw=2)
    distance, now = np.linspace(-_REACH, _REACH, 101), mean_q - mean_p
    for name, measure in MEASURES.items():
        style = {"color": _COLOURS[name], "ls": "--" if name == _DASHED else "-", "label": name}
        for ax, function in ((values, measure.value), (slopes, measure.slope)):
            ax.plot(distance, function(mean_p, std_p, mean_p + distance, std_q), **style)
            ax.plot(now, function(*pair), "o", color=_COLOURS[name], ms=6, zorder=3)
    for ax in (values, slopes):
        ax.axvline(now, color="0.8", lw=0.8, zorder=0)
    if fresh:
        top.legend(frameon=False, fontsize="small", loc="upper left")
        slopes.legend(frameon=False, fontsize="small", loc="upper left")
    return figure


def _frame() -> Figure:
    """The four empty axes: densities, D*, values, slopes."""
    figure = Figure(figsize=(11, 3.6), dpi=80)
    rows = figure.add_gridspec(
        2, 1, height_ratios=(3, 2), hspace=0.12, left=0.055, right=0.305, top=0.9, bottom=0.14
    )
    top, bottom = rows.subplots(sharex=True)
    columns = figure.add_gridspec(1, 2, wspace=0.2, left=0.37, right=0.985, top=0.9, bottom=0.14)
    values, slopes = columns.subplots()
    reach = (-_REACH, _REACH)
    top.set(title="Densities, and D* = p / (p + q)", ylabel="per unit of x", xlim=reach)
    bottom.set(xlabel="x", ylabel="D*(x)", ylim=(-0.05, 1.05))
    distance = "distance of the means, q − p (units of x)"
    values.set(
        title="How far apart", xlabel=distance, ylabel="nats; W₁ in units of x", xlim=reach, ylim=(-0.1, 5)
    )
    slopes.set(
        title="Pull on q", xlabel=distance, ylabel="derivative by the mean of q", xlim=reach, ylim=(-3, 3)
    )
    return figure
