"""Pictures of a VAE: what its latents carry, how tight its bound is, why it blurs, where its codes lie."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import Tensor

from ganlib.models.vae import best_pictures, sharpness, sign_code
from ganlib.plots import PALETTE, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["coarse_codes", "latents_used", "lengths", "tightness"]


def latents_used(kl: Tensor, *, title: str = "", ax: Axes | None = None) -> Axes:
    """Bars of each latent's mean KL term, the largest first.

    Args:
        kl: ``(d,)``, nats.
        title: of the figure.
        ax: where to draw.
    """
    if ax is None:
        ax = plt.subplots(figsize=(6, 2.6), layout="constrained")[1]
    heights = kl.detach().sort(descending=True).values.tolist()
    ax.bar(range(1, len(heights) + 1), heights, color=PALETTE[0])
    ax.set(title=title, xlabel="latent, sorted", ylabel="KL to the prior, nats")
    return ax


def tightness(bounds: Mapping[int, Tensor], elbo: float, *, title: str = "", ax: Axes | None = None) -> Axes:
    """The importance-weighted bound against its number of draws, over the ELBO as a dotted line.

    Args:
        bounds: k -> bound of each image, ``(N,)``, nats; bars are two standard errors of its mean's distance
            from the first k's, on the same images.
        elbo: mean ELBO of these images.
        title: of the figure.
        ax: where to draw.
    """
    if ax is None:
        ax = plt.subplots(figsize=(5, 3), layout="constrained")[1]
    ks, first = list(bounds), next(iter(bounds.values()))
    means = [float(bounds[k].mean()) for k in ks]
    errors = [2 * float((bounds[k] - first).std()) / len(first) ** 0.5 for k in ks]
    ax.errorbar(ks, means, errors, color=PALETTE[0], marker="o", capsize=3, label="importance-weighted bound")
    ax.axhline(elbo, color=PALETTE[1], ls=":", label="ELBO")
    ax.set(xscale="log", title=title, xlabel="draws k from the encoder", ylabel="nats per image")
    ax.legend(frameon=False)
    return ax


def coarse_codes(
    images: Tensor, bits: Sequence[int], shown: Sequence[int], *, title: str = "", label_size: float = 8
) -> Figure:
    """The best answer of independent pixels to codes of few and of many bits, and how sharp each is.

    Args:
        images: ``(N, 1, H, W)`` in [-1, 1]; the codes are :func:`ganlib.models.vae.sign_code` of these.
        bits: lengths of the code, a row each; the images themselves stand below.
        shown: which images.
        title: of the figure.
        label_size: of the rows' names.
    """
    longest = max(bits)
    code = sign_code(images, longest)  # its first b bits are the code of b bits
    answers = {b: best_pictures(images, code >> (longest - b)) for b in bits}
    rows = {f"{b} bits": answer[list(shown)] for b, answer in answers.items()}
    rows["digits"] = images[list(shown)]
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10, 0.55 * len(rows) + 0.5), width_ratios=(1.25, 1), layout="constrained"
    )
    grid(torch.cat(list(rows.values())), columns=len(shown), title=title, ax=left)
    height = images.shape[-2] + 1
    for i, name in enumerate(rows):
        left.text(-4, height * (i + 0.5), name, ha="right", va="center", fontsize=label_size)
    sharp = float(sharpness(images).mean())
    values = [float(sharpness(answer).mean()) / sharp for answer in answers.values()]
    right.plot(list(bits), values, "o-", color=PALETTE[0])
    right.axhline(1, color=PALETTE[1], ls=":", label="the digits")
    right.set(title="Sharpness of the best answer", xlabel="bits of code", ylabel="relative to the digits")
    right.legend(frameon=False)
    return figure


def lengths(groups: Mapping[str, Tensor], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Histograms of the lengths of vectors, with the square root of the dimension as a dotted line.

    Args:
        groups: name -> ``(N, d)``, all of one d.
        title: of the figure.
        ax: where to draw.
    """
    if ax is None:
        ax = plt.subplots(figsize=(5.5, 3), layout="constrained")[1]
    norms = {name: rows.detach().norm(dim=1).numpy() for name, rows in groups.items()}
    edges = np.linspace(0, 1.02 * max(n.max() for n in norms.values()), 60)
    for (name, values), colour in zip(norms.items(), PALETTE, strict=False):
        ax.hist(values, edges, density=True, histtype="stepfilled", alpha=0.6, color=colour, label=name)
    d = next(iter(groups.values())).shape[1]
    ax.axvline(d**0.5, color=PALETTE[-1], ls=":", label=f"√{d}")
    ax.set(title=title, xlabel="length", ylabel="density")
    ax.set_ylim(top=1.5 * ax.get_ylim()[1])  # room for the legend
    ax.legend(frameon=False, ncols=2, loc="upper left")
    return ax
