"""Layers that let a discriminator see how alike the samples of a batch are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    r"""Appends to each sample's features how close the others of the batch are to it.

    With :math:`M_i = T f(x_i) \in R^{B \times C}`, and rows :math:`M_{i,b}`,

    .. math:: o(x_i)_b = \sum_{j \ne i} \exp\!\big(-\|M_{i,b} - M_{j,b}\|_1\big)

    A generator that maps all latents to one point is found out by any one of its batches. The sum leaves
    j = i out, whose term is always 1.

    Args:
        features: A, length of a sample's features.
        kernels: B, how many similarities are appended.
        dimension: C, of the space in which each is measured.

    Raises:
        ValueError: if an argument is less than 1.

    Source: Salimans et al. 2016, section 3.2. Lecture: Purdue "Minibatch discrimination".
    """

    mixes_samples = True

    def __init__(self, features: int, kernels: int = 50, dimension: int = 5) -> None:
        super().__init__()
        for name, value in (("features", features), ("kernels", kernels), ("dimension", dimension)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.kernels, self.dimension = kernels, dimension
        self.project = nn.Linear(features, kernels * dimension, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(N, A)`` -> ``(N, A + kernels)``."""
        projected = _wide(self.project(x)).unflatten(1, (self.kernels, self.dimension))
        # Not torch.cdist, which has no second derivative and would rule gradient penalties out.
        distance = (projected[:, None] - projected[None]).abs().sum(3)
        return torch.cat([x, (torch.exp(-distance).sum(1) - 1.0).to(x.dtype)], 1)


class MinibatchStd(nn.Module):
    r"""Appends one feature map that holds the batch's standard deviation, averaged over features and pixels.

    Within each group of samples

    .. math:: s = \frac{1}{C H W} \sum_{c, h, w} \sqrt{\operatorname{Var}_{i}\, x_{i c h w} + \varepsilon},
              \qquad \varepsilon = 10^{-8}

    with the variance over the group's samples (divided by their number). No weights and no kernel to choose:
    what a discriminator needs in order to ask for as much variation as the data have.

    Args:
        group: samples per group; the whole batch where it is smaller.

    Raises:
        ValueError: if ``group`` is less than 2, or on a call if the batch is not made of whole groups.

    Source: Karras et al. 2018 (Progressive GAN), section 3; groups and epsilon as in the authors' code.
    Lecture: Purdue "Increasing variation using minibatch standard deviation".
    """

    mixes_samples = True

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        if group < 2:
            raise ValueError(f"group must be at least 2, got {group}")
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` -> ``(N, C + 1, H, W)``; features ``(N, C)`` -> ``(N, C + 1)``."""
        group = min(self.group, len(x))
        if len(x) % group:
            raise ValueError(f"x must hold whole groups of {group} samples, got {len(x)} samples")
        # Group g is the samples g, g + N/group, ...
        groups = _wide(x).unflatten(0, (group, -1))
        spread = (groups.var(0, correction=0) + 1e-8).sqrt().flatten(1).mean(1)
        appended = spread.repeat(group).view(-1, *[1] * (x.ndim - 1)).expand(-1, 1, *x.shape[2:])
        return torch.cat([x, appended.to(x.dtype)], 1)


def _wide(x: Tensor) -> Tensor:
    # Distances and variances of bfloat16 numbers, which have 8 bits, would be mostly rounding.
    return x.to(torch.promote_types(x.dtype, torch.float32))
