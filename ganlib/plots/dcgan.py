"""Figures of the DCGAN notebook: shapes through a network, the arithmetic of transposed convolutions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from matplotlib import pyplot as plt
from torch import Tensor, nn

from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["connections", "layer_table", "panels", "reach"]


def layer_table(module: nn.Module, x: Tensor) -> str:
    """Every layer that ``x`` passes through, with the shape it leaves in, as a Markdown table.

    The shapes are recorded by forward hooks on one pass in evaluation mode, so that they are what happens
    and not what the code says. The module is left as it was.

    Args:
        module: any module; its leaves are its layers.
        x: an input ``(N, ...)``; N is shown as such.
    """
    rows = [f"| *input* | | {_shape(x)} | |"]

    def record(layer: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        parameters = sum(p.numel() for p in layer.parameters())
        rows.append(
            f"| {type(layer).__name__} | {_settings(layer)} | {_shape(output)} | "
            f"{f'{parameters:,}' if parameters else ''} |"
        )

    leaves = [layer for layer in module.modules() if not list(layer.children())]
    hooks = [layer.register_forward_hook(record) for layer in leaves]
    training = [layer for layer in module.modules() if layer.training]
    try:
        with torch.no_grad():
            module.eval()(x)
    finally:
        for hook in hooks:
            hook.remove()
        for layer in training:
            layer.training = True
    total = sum(p.numel() for p in module.parameters())
    header = ["| layer | settings | output | parameters |", "|---|---|---|--:|"]
    return "\n".join([*header, *rows, f"| **total** | | | **{total:,}** |"])


def connections(cells: int, kernel: int, stride: int, padding: int) -> list[tuple[int, int]]:
    """Pairs (input cell, output cell) that a 1-D transposed convolution connects.

    Input cell i writes to outputs i * stride - padding + j for j = 0..kernel-1, as far as they lie in
    0..(cells - 1) * stride - 2 * padding + kernel - 1.

    Raises:
        ValueError: if no output is left.
    """
    size = (cells - 1) * stride - 2 * padding + kernel
    if size < 1:
        raise ValueError(
            f"the output needs at least one cell, got {size} for cells={cells}, kernel={kernel}, "
            f"stride={stride}, padding={padding}"
        )
    pairs = ((i, i * stride - padding + j) for i in range(cells) for j in range(kernel))
    return [(i, o) for i, o in pairs if 0 <= o < size]


def reach(cells: int, kernel: int, stride: int, padding: int, *, ax: Axes | None = None) -> Axes:
    """Draw which output cells each input cell of a 1-D transposed convolution reaches.

    Inputs stand below, outputs above; an output shows how many inputs write to it, in orange where that is
    more than its neighbours get: the checkerboard.
    """
    if ax is None:
        ax = plt.subplots(figsize=(5, 2), layout="constrained")[1]
    pairs = connections(cells, kernel, stride, padding)
    size = (cells - 1) * stride - 2 * padding + kernel
    counts = [sum(o == output for _, o in pairs) for output in range(size)]

    def place(i: int) -> float:  # an input stands under the middle of what it reaches
        return i * stride - padding + (kernel - 1) / 2

    for i, output in pairs:
        ax.plot([place(i), output], [0, 1], color=PALETTE[i % 3], linewidth=1.2, zorder=1)
    for i in range(cells):
        ax.scatter(place(i), 0, s=170, marker="s", color=PALETTE[i % 3], zorder=2)
    fewest = min(counts[kernel - 1 : size - kernel + 1] or counts)  # away from the borders
    for output, count in enumerate(counts):
        face = PALETTE[4] if count > fewest else "white"
        ax.scatter(output, 1, s=170, marker="s", color=face, edgecolor="black", zorder=2)
        ax.text(output, 1, str(count), ha="center", va="center", fontsize=8, zorder=3)
    ax.set(
        title=f"kernel {kernel}, stride {stride}, padding {padding}: {cells} → {size}",
        xlabel="output cell",
        yticks=[0, 1],
        yticklabels=["input", "output"],
        ylim=(-0.35, 1.35),
    )
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    return ax


def panels(groups: Mapping[str, Tensor], *, across: int = 3, columns: int = 8, title: str = "") -> Figure:
    """Several image grids in one figure, ``across`` to a row, each under its own title.

    Args:
        groups: panel's title -> images ``(N, C, H, W)`` in [-1, 1].
        across: panels side by side.
        columns: images side by side within a panel.
        title: above all of them.

    Raises:
        ValueError: if there are no groups.
    """
    if not groups:
        raise ValueError("groups must not be empty")
    down = -(-len(groups) // across)
    tallest = max(-(-len(images) // columns) for images in groups.values())
    figure, axes = plt.subplots(
        down,
        across,
        figsize=(0.4 * columns * across, (0.4 * tallest + 0.35) * down + (0.3 if title else 0)),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (name, images) in zip(axes.flat, groups.items(), strict=False):
        grid(images, title=name, columns=columns, ax=ax)
        ax.title.set_fontsize(9)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _shape(x: Tensor) -> str:
    return " × ".join(["N", *map(str, x.shape[1:])])


def _settings(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        (kernel, _), (stride, _), (padding, _) = layer.kernel_size, layer.stride, layer.padding
        return f"{kernel} × {kernel}, stride {stride}, padding {padding}"
    if isinstance(layer, nn.LeakyReLU):
        return f"slope {layer.negative_slope}"
    return ""
