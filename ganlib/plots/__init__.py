"""Matplotlib figures of the course: image grids, training curves, and a live view of a run.

Colours are Okabe and Ito's palette, which people with the common kinds of colour blindness can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from matplotlib import pyplot as plt
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from ganlib.training import History, Trainer

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

__all__ = ["PALETTE", "curves", "grid", "live", "points"]


def grid(images: Tensor, *, title: str = "", columns: int = 8, ax: Axes | None = None) -> Axes:
    """Show images ``(N, C, H, W)`` in [-1, 1] as one picture, ``columns`` to a row.

    Raises:
        ValueError: for another shape.
    """
    from torchvision.utils import make_grid

    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images must be (N, 1 or 3, H, W), got {tuple(images.shape)}")
    if ax is None:
        rows = -(-len(images) // columns)
        ax = plt.subplots(figsize=(0.6 * columns, 0.6 * rows + 0.3), layout="constrained")[1]
    picture = make_grid((images.detach().cpu().clamp(-1, 1) + 1) / 2, nrow=columns, padding=1, pad_value=0.5)
    ax.imshow(picture.permute(1, 2, 0).numpy(), interpolation="nearest")
    ax.set_title(title)
    ax.set_axis_off()
    return ax


def points(samples: Tensor, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Scatter points of the plane ``(N, 2)``, one unit of length the same both ways.

    Raises:
        ValueError: for another shape.
    """
    if samples.ndim != 2 or samples.shape[1] != 2:
        raise ValueError(f"samples must be (N, 2), got {tuple(samples.shape)}")
    if ax is None:
        ax = plt.subplots(figsize=(4, 4), layout="constrained")[1]
    x, y = samples.detach().cpu().float().T.numpy()
    ax.scatter(x, y, s=4, alpha=0.5, color=PALETTE[0], linewidths=0)
    ax.set(title=title, xlabel="x", ylabel="y", aspect="equal")
    return ax


def curves(
    history: History,
    names: Sequence[str] | None = None,
    *,
    title: str = "Losses",
    ylabel: str = "mean loss",
    ax: Axes | None = None,
) -> Axes:
    """Draw columns of a history (all losses by default) against the step."""
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    names = [n for n in history.names if n not in ("step", "seconds")] if names is None else names
    for name, colour in zip(names, cycle(PALETTE), strict=False):
        ax.plot(history["step"], history[name], label=name, color=colour)
    ax.set(title=title, xlabel="step", ylabel=ylabel)
    ax.legend(frameon=False)
    return ax


def live(every: int = 250, *, n: int = 32, names: Sequence[str] | None = None) -> Callable[[Trainer], None]:
    """A trainer callback that redraws samples and losses in the notebook, at log rows ``every`` steps apart.

    The latents stay the same, so that one watches the same digits form.
    """
    from IPython.display import display

    handle = None
    shown = -1

    def callback(trainer: Trainer) -> None:
        nonlocal handle, shown
        if trainer.step // every == shown and not trainer.finished:
            return
        shown = trainer.step // every
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
        grid(trainer.sample(n), title=f"samples at step {trainer.step}", ax=left)
        curves(trainer.history, names, ax=right)
        if handle is None:
            handle = display(figure, display_id=True)
        else:
            handle.update(figure)
        plt.close(figure)

    return callback
