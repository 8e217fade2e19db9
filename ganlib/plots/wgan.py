"""Looking inside a critic: its gradient through depth, whom a score depends on, its value surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib import pyplot as plt
from matplotlib.colors import LogNorm
from torch import Tensor, nn

from ganlib.losses import Wasserstein
from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["depth", "heat_map", "layer_gradients", "sensitivity", "surface"]


def sensitivity(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""How strongly each sample of a batch moves each score, :math:`S_{ij} = \|\nabla_{x_j} D(x)_i\|_2`.

    Diagonal for a discriminator that judges samples one by one; batch norm fills the rest of the matrix.

    Args:
        discriminator: maps ``(N, ...)`` to scores ``(N,)``.
        x: the batch ``(N, ...)``; treated as constant.

    Returns:
        ``(N, N)``, row i for the score of sample i.

    Raises:
        ValueError: if the scores are not one per sample.
    """
    x = x.detach().requires_grad_()
    scores = discriminator(x)
    if scores.shape != x.shape[:1]:
        raise ValueError(
            f"discriminator must return one score per sample, {tuple(x.shape[:1])}, got {tuple(scores.shape)}"
        )
    rows = []
    for score in scores:
        (gradient,) = torch.autograd.grad(score, x, retain_graph=True)
        rows.append(gradient.flatten(1).norm(dim=1))
    return torch.stack(rows)


def layer_gradients(critic: nn.Module, real: Tensor, fake: Tensor) -> list[float]:
    r"""Norms of the critic loss's gradient at each linear or convolutional layer's output, input side first.

    :math:`\|\partial L / \partial h_k\|_2` over the whole batch, with :math:`L = E f(\tilde x) - E f(x)`.

    Args:
        critic: maps ``(N, ...)`` to one score per sample, without mixing samples.
        real: ``(N, ...)``.
        fake: likewise.

    Raises:
        ValueError: if the critic has no linear or convolutional layer.

    Source: Gulrajani et al. 2017, figure 1(b), left. Lecture: Aalto "Wasserstein GAN".
    """
    outputs: list[Tensor] = []
    layers = [m for m in critic.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    if not layers:
        raise ValueError("critic must have a linear or convolutional layer, got none")
    # A clone leaves, because an activation in place may overwrite what the gradient is asked at.
    hooks = [
        m.register_forward_hook(lambda *call: outputs.append(call[2]) or call[2].clone()) for m in layers
    ]
    try:
        scores = critic(torch.cat([real, fake])).split([len(real), len(fake)])
    finally:
        for hook in hooks:
            hook.remove()
    gradients = torch.autograd.grad(Wasserstein().discriminator(*scores), outputs)
    return [gradient.norm().item() for gradient in gradients]


def depth(norms: dict[str, Sequence[float]], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw gradient norms per layer, several critics' by name, on a logarithmic scale.

    A norm of zero, which such a scale cannot show, is drawn at the bottom as a cross.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")[1]
    floor = min((value for values in norms.values() for value in values if value > 0), default=1.0) / 10
    for (name, values), colour in zip(norms.items(), PALETTE, strict=False):
        layers = range(1, len(values) + 1)
        ax.semilogy(layers, [max(v, floor) for v in values], "o-", ms=3, color=colour, label=name)
        zeros = [layer for layer, value in zip(layers, values, strict=True) if value == 0]
        ax.semilogy(zeros, [floor] * len(zeros), "x", color=colour)
    ax.set(title=title, xlabel="layer (1 = next to the input)", ylabel="‖∂L/∂h‖ (critic units per unit of h)")
    ax.legend(frameon=False, fontsize="small")
    return ax


def heat_map(matrix: Tensor, *, title: str = "", xlabel: str, ylabel: str, ax: Axes | None = None) -> Axes:
    """Show a non-negative matrix ``(rows, columns)`` on a logarithmic colour scale of four decades.

    Exact zeros stay white, so that a small entry and none at all look different.

    Raises:
        ValueError: for another number of dimensions, or a negative entry or none above zero.
    """
    if matrix.ndim != 2:
        raise ValueError(f"matrix must have two dimensions, got shape {tuple(matrix.shape)}")
    if not (matrix.min() >= 0 and matrix.max() > 0):
        raise ValueError(
            f"matrix must be non-negative and not zero, got {matrix.min():.3g} to {matrix.max():.3g}"
        )
    if ax is None:
        ax = plt.subplots(figsize=(4, 3.4), layout="constrained")[1]
    values, top = matrix.detach(), matrix.max().item()
    shown = values.clamp(min=top / 1e4).where(values > 0, torch.nan)
    picture = ax.imshow(shown.numpy(), cmap="cividis", norm=LogNorm(top / 1e4, top))
    ax.figure.colorbar(picture, ax=ax, shrink=0.85)
    ax.set(title=title, xlabel=xlabel, ylabel=ylabel)
    return ax


@torch.no_grad()
def surface(
    critic: Callable[[Tensor], Tensor],
    real: Tensor,
    fake: Tensor | None = None,
    *,
    extent: float = 2.0,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw level lines of a critic on the plane, equally spaced in value, over its data.

    Args:
        critic: maps points ``(N, 2)`` to scores ``(N,)``.
        real: points ``(N, 2)`` to draw over the lines.
        fake: likewise, None for none.
        extent: the square [-extent, extent]^2 is drawn.
        title: of the figure.
        ax: where to draw, None for a new figure.

    Source: Gulrajani et al. 2017, figure 1(a). Lecture: OUC "Drawback of weight clipping".
    """
    if ax is None:
        ax = plt.subplots(figsize=(3.4, 3.4), layout="constrained")[1]
    ticks = torch.linspace(-extent, extent, 101)
    points = torch.cartesian_prod(ticks, ticks)  # the first coordinate varies slowest: transpose for drawing
    values = critic(points).view(101, 101).T
    ax.contour(ticks, ticks, values, levels=14, cmap="cividis", linewidths=1)
    if fake is not None:
        ax.plot(*fake.T, ".", ms=2, color=PALETTE[1], label="fake")
    ax.plot(*real.T, ".", ms=2, color=PALETTE[0], label="real")
    ax.set(title=title, xlabel="x₁", ylabel="x₂", aspect="equal")
    ax.set(xlim=(-extent, extent), ylim=(-extent, extent))
    return ax
