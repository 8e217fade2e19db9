"""Pictures of what stabilises GANs: losses side by side, power iteration, packs, results as dots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ganlib.models.gan import AdversarialLoss

__all__ = [
    "dots",
    "loss_curves",
    "loss_sides",
    "packed",
    "power_iteration",
    "reconstructions",
    "sigma_errors",
]

SIDES = ("D, a real sample", "D, a fake", "G, a fake")

Score = Callable[[Tensor], Tensor]


def loss_sides(
    loss: AdversarialLoss, scores: Tensor, output: Score = lambda t: t
) -> dict[str, tuple[Tensor, Tensor]]:
    r"""What one sample costs a player as a function of the discriminator's score for it, and the slope.

    The cost is counted from that of score 0, which other samples have meanwhile:

    .. math:: L_D(t, 0) - L_D(0, 0), \qquad L_D(0, t) - L_D(0, 0), \qquad L_G(t) - L_G(0)

    so that losses with constants of their own can be drawn over one another.

    Args:
        loss: both sides of an adversarial loss.
        scores: t, ``(N,)``; high means real.
        output: score -> what the loss takes, for a discriminator whose outputs are no scores but energies.

    Returns:
        For each of :data:`SIDES` the costs and the slopes by t, ``(N,)`` each.
    """
    zero = output(torch.zeros((), dtype=scores.dtype))
    relativistic = getattr(loss, "relativistic", False)
    players: tuple[Score, ...] = (
        lambda t: loss.discriminator(t, zero),
        lambda t: loss.discriminator(zero, t),
        (lambda t: loss.generator(t, zero)) if relativistic else loss.generator,
    )
    found = {}
    for side, cost in zip(SIDES, players, strict=True):
        t = scores.detach().clone().requires_grad_()
        # One by one, because a loss returns the mean of its batch.
        costs = torch.stack([cost(output(one)) for one in t]) - cost(zero)
        (slopes,) = torch.autograd.grad(costs.sum(), t)
        found[side] = (costs.detach(), slopes)
    return found


def loss_curves(
    losses: Mapping[str, AdversarialLoss],
    *,
    extent: float = 4.0,
    outputs: Mapping[str, Score] | None = None,
    axes: NDArray[np.object_] | None = None,
) -> NDArray[np.object_]:
    """Draw several losses against the score of one sample: above their costs, below their slopes.

    Args:
        losses: name -> loss.
        extent: scores from -extent to extent.
        outputs: name -> the ``output`` of :func:`loss_sides`, where it is not the score itself but an energy.
            Scores whose energy would be negative are left out.
        axes: two rows of three, None for a new figure.

    Returns:
        The axes.
    """
    if axes is None:
        axes = plt.subplots(2, 3, figsize=(11, 5.6), layout="constrained", sharex=True, sharey="row")[1]
    scores = torch.linspace(-extent, extent, 161, dtype=torch.float64)
    styles = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
    for (name, loss), colour, style in zip(losses.items(), PALETTE, styles, strict=False):
        output = (outputs or {}).get(name)
        shown = scores if output is None else scores[output(scores) >= 0]
        found = loss_sides(loss, shown, *([] if output is None else [output]))
        for column, values in enumerate(found.values()):
            for row, value in zip(axes[:, column], values, strict=True):
                row.plot(shown, value, color=colour, ls=style, lw=1.8, label=name)
    for column, side in enumerate(SIDES):
        axes[0, column].set(title=side, ylim=(-extent, extent))
        axes[1, column].set(xlabel="score t of the sample", ylim=(-2.2, 2.2))
    axes[0, 0].set_ylabel("cost − cost at t = 0")
    axes[1, 0].set_ylabel("slope ∂cost/∂t")
    handles, names = axes[0, 0].get_legend_handles_labels()
    axes[0, 0].figure.legend(handles, names, frameon=False, fontsize="small", loc="outside right center")
    return axes


def power_iteration(matrix: Tensor, steps: int, start: Tensor) -> list[float]:
    r"""Estimates :math:`u^\top W v` of the largest singular value after 1, ..., ``steps`` iterations.

    .. math:: v \leftarrow \frac{W^\top u}{\|W^\top u\|}, \qquad u \leftarrow \frac{W v}{\|W v\|}

    Args:
        matrix: W, ``(rows, columns)``.
        steps: how many.
        start: u, ``(rows,)``.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Miyato et al. 2018, Algorithm 1. Lecture: Aalto "Spectral Normalization".
    """
    if matrix.ndim != 2 or start.shape != matrix.shape[:1]:
        raise ValueError(
            f"start must have one entry per row of matrix {tuple(matrix.shape)}, got {tuple(start.shape)}"
        )
    u, estimates = start, []
    for _ in range(steps):
        v = torch.nn.functional.normalize(matrix.T @ u, dim=0)
        u = torch.nn.functional.normalize(matrix @ v, dim=0)
        estimates.append(torch.dot(u, matrix @ v).item())
    return estimates


def sigma_errors(
    estimates: Mapping[str, Sequence[float]],
    singular_values: Mapping[str, Tensor],
    *,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    r"""Draw the relative error of :func:`power_iteration` by iteration, and the rate that theory gives it.

    Dashed is a factor of :math:`(\sigma_2 / \sigma_1)^4` per iteration, through the last point well above
    rounding: an iteration shrinks the angle to the leading pair by :math:`(\sigma_2/\sigma_1)^2`, and the
    estimate's error goes with the square of the angle.

    Args:
        estimates: name -> estimates.
        singular_values: name -> the exact ones, largest first.
        title: of the figure.
        ax: where to draw, None for a new figure.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")[1]
    for (name, values), colour in zip(estimates.items(), PALETTE, strict=False):
        first, second = singular_values[name][:2].tolist()
        steps = np.arange(1, len(values) + 1)
        errors = 1 - np.asarray(values) / first
        shown = np.where(errors > 1e-13, errors, np.nan)
        ax.semilogy(steps, shown, "o-", ms=3, color=colour, label=f"{name}, σ₂/σ₁ = {second / first:.3f}")
        anchor = np.flatnonzero(errors > 1e-11)
        if len(anchor):
            rate = (second / first) ** (4 * (steps - steps[anchor[-1]]))
            line = errors[anchor[-1]] * rate
            ax.semilogy(steps, np.where(line > 1e-13, line, np.nan), "--", lw=0.9, color=colour)
    ax.set(title=title, xlabel="power iterations", ylabel="relative error of σ")
    ax.legend(frameon=False, fontsize="small")
    return ax


def packed(p: ArrayLike, m: int) -> NDArray[np.float64]:
    """The distribution of packs of m independent samples, ``(k**m,)``, of one on k points, ``(k,)``.

    Raises:
        ValueError: if m is less than 1.

    Source: Lin et al. 2018, section 3. Lecture: Purdue "PacGAN".
    """
    if m < 1:
        raise ValueError(f"m must be at least 1, got {m}")
    one = np.asarray(p, dtype=np.float64)
    packs = one
    for _ in range(m - 1):
        packs = np.multiply.outer(packs, one).ravel()
    return packs


def reconstructions(
    autoencoder: Callable[[Tensor], Tensor], rows: Mapping[str, Tensor], *, columns: int = 6
) -> Sequence[Axes]:
    """Show what an autoencoder makes of images: pairs of a picture and its reconstruction, a panel per kind.

    Above each panel stands the mean squared error per pixel over all images of the kind.

    Args:
        autoencoder: images ``(N, C, H, W)`` -> images of the same shape.
        rows: name -> images in [-1, 1].
        columns: how many of each are shown.
    """
    from ganlib.plots import grid

    axes = plt.subplots(1, len(rows), figsize=(3.4 * len(rows), 1.75), layout="constrained", squeeze=False)[
        1
    ][0]
    for ax, (name, images) in zip(axes, rows.items(), strict=True):
        with torch.no_grad():
            again = autoencoder(images)
        error = (again - images).square().mean().item()
        both = torch.cat([images[:columns], again[:columns]])
        grid(both, columns=columns, title=f"{name}: {error:.3f}", ax=ax)
    return axes


def dots(
    groups: Mapping[str, Mapping[str, Sequence[float | None]]],
    *,
    title: str = "",
    xlabel: str = "",
    ylabel: str = "FID",
    floor: float | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw every measured value as a dot on a logarithmic axis: group by group, one colour per series.

    A bar marks the mean of a series, a cross at the upper edge a run without a value: one that diverged.

    Args:
        groups: group -> series -> values, one per seed.
        title: of the figure.
        xlabel: what the groups are.
        ylabel: what the values are.
        floor: drawn as a dotted line, None for none.
        ax: where to draw, None for a new figure.
    """
    if ax is None:
        ax = plt.subplots(figsize=(1.6 + 0.95 * len(groups), 3.6), layout="constrained")[1]
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    for i, group in enumerate(groups.values()):
        for name, values in group.items():
            k = series.index(name)
            x = i + (k - (len(series) - 1) / 2) * 0.8 / max(2, len(series))
            colour = PALETTE[k % len(PALETTE)]
            found = [v for v in values if v is not None and np.isfinite(v)]
            ax.plot([x] * len(found), found, "osD^v"[k % 5], ms=5, mfc="none", color=colour)
            if found:
                ax.plot([x - 0.13, x + 0.13], [np.mean(found)] * 2, "-", lw=2, color=colour)
            lost = len(values) - len(found)
            if lost:
                ax.plot(
                    x, 0.97, "x", ms=7, mew=2, color=colour, transform=ax.get_xaxis_transform(), clip_on=False
                )
    for k, name in enumerate(series):
        if len(series) > 1:
            ax.plot([], [], "osD^v"[k % 5], mfc="none", color=PALETTE[k % len(PALETTE)], label=name)
    if floor is not None:
        ax.axhline(floor, ls=":", color=PALETTE[6], label="real digits")
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel, yscale="log", xlim=(-0.6, len(groups) - 0.4))
    ax.set_xticks(range(len(groups)), list(groups))
    if len(series) > 1 or floor is not None:
        ax.legend(frameon=False, fontsize="small")
    return ax
