"""Figures of the iGAN: digits on the manifold, edits that stay on it, and edits transferred."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor
from torch.nn import functional as F

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.models.edit_transfer import Flow
    from ganlib.models.igan import Constraint

__all__ = ["edits", "flow_panels", "strips"]


def strips(rows: Mapping[str, Tensor], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Rows of images ``(N, C, H, W)`` in [-1, 1], one below the other, each with its name at the left.

    Raises:
        ValueError: for no rows, or rows of different shapes.
    """
    shapes = {tuple(images.shape) for images in rows.values()}
    if len(shapes) != 1 or len(next(iter(shapes))) != 4:
        raise ValueError(f"rows must be images (N, C, H, W) of one shape, got {sorted(shapes)}")
    ((n, _, height, _),) = shapes
    if ax is None:
        ax = plt.subplots(figsize=(0.55 * n + 1.2, 0.55 * len(rows) + 0.4), layout="constrained")[1]
    joined = torch.stack(list(rows.values())).detach().cpu()
    joined = F.pad(joined, (1, 1, 1, 1), value=0.0)  # a grey line between neighbours
    picture = joined.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    ax.imshow(_shown(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set_yticks([(height + 2) * (i + 0.5) for i in range(len(rows))], list(rows))
    ax.set_xticks([])
    ax.tick_params(length=0)
    ax.set_title(title)
    return ax


def edits(
    photo: Tensor, before: Tensor, after: Tensor, result: Tensor, constraints: Sequence[Constraint] = ()
) -> Figure:
    """One edit: the photo, its projection with what the brushes ask for, the edited sample, the result.

    Painted white is tinted blue, painted black orange, and where a dragged patch shall appear green.

    Args:
        photo: ``(1, C, H, W)``, as are the next three.
        before: G(z_0).
        after: G(z_1).
        result: the edit transferred to the photo.
        constraints: as :meth:`ganlib.models.igan.InteractiveGAN.edit` has them.
    """
    titles = ("photo", "projection, brush", "edited sample", "photo, edited")
    figure, axes = plt.subplots(1, 4, figsize=(7.2, 2.1), layout="constrained")
    for ax, image, title in zip(axes, (photo, before, after, result), titles, strict=True):
        picture = _shown(image[0].detach().cpu().permute(1, 2, 0))
        ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        ax.set_title(title)
        ax.set_axis_off()
    for constraint in constraints:
        if constraint.mask.shape[2:] == photo.shape[2:]:  # those of outlines lie on a coarser grid
            axes[1].imshow(_tint(constraint), interpolation="nearest")
    return figure


def flow_panels(flow: Flow, image: Tensor, *, every: int = 2) -> Figure:
    """A flow's two halves: arrows from where each pixel came, and what was added to its grey level.

    Args:
        flow: of one image.
        image: what it makes, ``(1, C, H, W)``; shown below the arrows.
        every: pixels between arrows.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.2, 3.4), layout="constrained")
    left.imshow(_shown(image[0].cpu().permute(1, 2, 0)), cmap="gray", vmin=0, vmax=1)
    u, v = flow.motion[0].cpu().numpy()
    rows, columns = u.shape
    x, y = range(0, columns, every), range(0, rows, every)
    u, v = u[::every, ::every], v[::every, ::every]
    # An arrow ends at its pixel and begins where the flow reads: against (u, v).
    left.quiver(
        x, y, -u, -v, angles="xy", scale_units="xy", scale=1, pivot="tip", color=PALETTE[4], width=0.006
    )
    left.set(title="motion", xlabel="x (pixels)", ylabel="y (pixels)")
    added = flow.colour[0, :, -1].mean(0).cpu().numpy()
    limit = max(1e-3, float(np.abs(added).max()))
    shown = right.imshow(added, cmap="PuOr", vmin=-limit, vmax=limit)
    right.set(title="colour: what A adds", xlabel="x (pixels)", ylabel="y (pixels)")
    figure.colorbar(shown, ax=right, label="grey levels (white − black = 2)", shrink=0.9)
    return figure


def _shown(picture: Tensor) -> np.ndarray:
    """``(H, W, C)`` in [-1, 1] as matplotlib takes it: in [0, 1], a single channel without its axis."""
    shown = ((picture.float().clamp(-1, 1) + 1) / 2).numpy()
    return shown[..., 0] if shown.shape[2] == 1 else shown


def _tint(constraint: Constraint) -> np.ndarray:
    """The constraint's mask ``(H, W, 4)`` as a half transparent colour."""
    target, mask = constraint.target.cpu(), constraint.mask[0, 0].cpu()
    picture = target.shape[2:] == mask.shape
    colour = PALETTE[2] if picture else PALETTE[0] if target.mean() > 0 else PALETTE[1]
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    tint = torch.tensor([*channels, 0.45]).repeat(*mask.shape, 1)
    tint[..., 3] *= mask > 0
    return tint.numpy()
