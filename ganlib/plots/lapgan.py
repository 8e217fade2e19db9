"""Figures of the Laplacian pyramid and of LAPGAN: images in octaves, samples growing, where errors begin."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ganlib.layers.pyramid import LINEAR, Scaling, laplacian_pyramid
from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ganlib.models.lapgan import LAPGAN

__all__ = ["cascade", "chain", "pyramid", "spectra", "strip"]


def strip(rows: Sequence[Mapping[str, Tensor]], *, title: str = "") -> Figure:
    """Rows of pictures ``(C, H, W)`` under the captions of the first row, each as large as the others.

    A caption that begins with ``h`` is of a band: its zero is grey, and its range is the same up and down.
    All others are in [-1, 1].

    Raises:
        ValueError: if there are no rows, or one has other captions than the first.
    """
    if not rows or any(list(row) != list(rows[0]) for row in rows):
        raise ValueError(f"rows must share their captions, got {[list(row) for row in rows]}")
    columns = len(rows[0])
    size = (1.25 * columns, 1.25 * len(rows) + 0.6)
    figure, axes = plt.subplots(len(rows), columns, figsize=size, squeeze=False, layout="constrained")
    for i, row in enumerate(rows):
        for ax, (caption, picture) in zip(axes[i], row.items(), strict=True):
            band = caption.startswith("h")
            limit = max(picture.abs().max().item(), 1e-6) if band else 1.0
            ax.imshow(
                picture.detach().cpu().float().mean(0).numpy(),
                cmap="PuOr" if band else "gray",
                vmin=-limit,
                vmax=limit,
                interpolation="nearest",
            )
            ax.set_axis_off()
            if i == 0:
                ax.set_title(caption, fontsize=9)
    figure.suptitle(title)
    return figure


def pyramid(image: Tensor, smallest: int = 8, scaling: Scaling = LINEAR, *, title: str = "") -> Figure:
    """Draw an image's pyramid as LAPGAN reads it: small image, then blurred image, band, sum per octave.

    Args:
        image: ``(C, H, W)`` in [-1, 1].
        smallest: side of the smallest image.
        scaling: of the pyramid.
        title: of the figure.
    """
    bands = laplacian_pyramid(image[None], smallest=smallest, scaling=scaling)[::-1]
    return strip([_steps(bands, scaling)], title=title)


def _steps(levels: Sequence[Tensor], scaling: Scaling) -> dict[str, Tensor]:
    """Captions and pictures of one image's way up, from its pyramid ``(1, C, S, S)``, coarsest first."""
    image = levels[0]
    row = {f"image, {image.shape[-1]}": image[0]}
    for band in levels[1:]:
        low, side = scaling.up(image), band.shape[-1]
        image = low + band
        row |= {f"l, {side}": low[0], f"h, {side}": band[0], f"image, {side} = l + h": image[0]}
    return row


def chain(game: LAPGAN, n: int = 4, rng: torch.Generator | None = None, *, title: str = "") -> Figure:
    """Draw how ``n`` samples come about: small image, then blurred image, generated band and sum per octave.

    Args:
        game: that samples.
        n: rows.
        rng: of the latents; a fixed seed if None.
        title: of the figure.
    """
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    stages = game.stages(game.levels[str(game.sides[0])].sample(n, rng), rng)
    rows = []
    for i in range(n):
        images = [stage[i : i + 1].cpu() for stage in stages]
        bands = [fine - game.scaling.up(coarse) for coarse, fine in itertools.pairwise(images)]
        rows.append(_steps([images[0], *bands], game.scaling))
    return strip(rows, title=title)


def cascade(
    fids: Sequence[Mapping[str, float]],
    *,
    floor: float | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw FIDs by what the image began as, a dot per run and a line through their means; logarithmic.

    Args:
        fids: per run, origin -> FID, all with the same origins, in order.
        floor: of the FID, drawn as a line.
        title: of the figure.
        ax: where to draw.

    Raises:
        ValueError: if there are no runs, or their origins differ.
    """
    if not fids or any(list(run) != list(fids[0]) for run in fids):
        raise ValueError(f"fids must share their origins, got {[list(run) for run in fids]}")
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    origins = list(fids[0])
    means = [sum(run[origin] for run in fids) / len(fids) for origin in origins]
    ax.plot(origins, means, color=PALETTE[0], label="mean")
    for k, run in enumerate(fids):
        ax.plot(origins, list(run.values()), "o", color=PALETTE[1], alpha=0.7, label=None if k else "a run")
    if floor is not None:
        ax.axhline(floor, color="0.5", linestyle=":", label="floor")
    ax.set(title=title, xlabel="what the image began as", ylabel="FID at 32 x 32", yscale="log")
    ax.legend(frameon=False)
    return ax


def spectra(sets: Mapping[str, Tensor], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Draw the variances of images along their principal directions, largest first, on a logarithmic axis.

    Args:
        sets: name -> images ``(N, C, H, W)``.
        title: of the figure.
        ax: where to draw.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6, 3.2), layout="constrained")[1]
    for (name, images), colour in zip(sets.items(), PALETTE, strict=False):
        covariance = torch.cov(images.detach().cpu().double().flatten(1).T)
        variances = torch.linalg.eigvalsh(covariance).flip(0).clamp(min=1e-12)
        ax.plot(range(1, len(variances) + 1), variances.numpy(), color=colour, label=name)
    ax.set(title=title, xlabel="principal direction", ylabel="variance", yscale="log")
    ax.legend(frameon=False)
    return ax
