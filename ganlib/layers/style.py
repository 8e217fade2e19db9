r"""What a style-based generator's layers are made of: normalization by a style, and noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganlib.layers.equalized import EqualizedLinear
from ganlib.random import normal


def adain(x: Tensor, scale: Tensor, shift: Tensor, epsilon: float = 1e-8) -> Tensor:
    r"""Adaptive instance normalization: gives each feature map the mean and the deviation of a style.

    .. math:: \text{AdaIN}(x_i, y) = y_{s,i} \, \frac{x_i - \mu(x_i)}{\sigma(x_i)} + y_{b,i}, \qquad
              \sigma(x_i)^2 = \frac{1}{HW} \sum_{h, w} (x_{ihw} - \mu(x_i))^2 + \varepsilon

    Mean and deviation are those of one map of one sample. Afterwards they are :math:`y_{b,i}` and
    :math:`|y_{s,i}|`, whatever they were: what one layer's style has set, the next layer's overrides.

    Args:
        x: ``(N, C, H, W)``.
        scale: :math:`y_s`, ``(N, C)``.
        shift: :math:`y_b`, ``(N, C)``.
        epsilon: keeps a constant map finite; it becomes ``shift``.

    Returns:
        ``(N, C, H, W)`` in the dtype of ``x``; computed in float32, or float64, in any case.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Karras et al. 2019 (StyleGAN), eq. 1, after Huang & Belongie 2017; epsilon as in the authors'
    code. Lecture: Aalto "Style-Based Generators (StyleGAN)".
    """
    if x.ndim != 4 or scale.shape != x.shape[:2] or shift.shape != x.shape[:2]:
        raise ValueError(
            "x must be (N, C, H, W), scale and shift (N, C), "
            f"got {tuple(x.shape)}, {tuple(scale.shape)} and {tuple(shift.shape)}"
        )
    # As rows of pixels, one column per channel: a view of channels-last memory, and quick to sum there.
    pixels = x.to(torch.promote_types(x.dtype, torch.float32)).movedim(1, 3).flatten(1, 2)
    # Centred first: with the mean moved into the shift, a map that hardly varies would be all rounding.
    centred = pixels - pixels.mean(1, keepdim=True)
    slope = scale.to(pixels)[:, None] * (centred.square().mean(1, keepdim=True) + epsilon).rsqrt()
    styled = torch.addcmul(shift.to(pixels)[:, None], centred, slope)
    return styled.to(x.dtype).unflatten(1, x.shape[2:]).movedim(3, 1)


class AdaIN(nn.Module):
    r""":func:`adain` with the style read off a vector w by a learned affine map.

    .. math:: (y_s - 1, \, y_b) = A w + a, \qquad a = 0 \text{ at the start}

    Args:
        channels: C, feature maps to normalise.
        w_dim: length of w.

    Source: Karras et al. 2019 (StyleGAN), section 2, figure 1b ("A"), appendix C (scales start around 1).
    Lecture: Aalto "Style-Based Generators (StyleGAN)".
    """

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.style = EqualizedLinear(w_dim, 2 * channels, gain=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``(N, C, H, W)`` and ``(N, w_dim)`` -> ``(N, C, H, W)``."""
        scale, shift = self.style(w).chunk(2, dim=1)
        return adain(x, 1.0 + scale, shift)


class NoiseInjection(nn.Module):
    r"""Adds one map of noise to all feature maps, to each as strongly as it has learned to want it.

    .. math:: x_{nchw} + b_c \, \epsilon_{nhw}, \qquad \epsilon \sim N(0, 1)

    The strengths b are 0 at the start. Hair, pores, the ends of a stroke: what may fall either way comes from
    here, and the generator need not make random numbers out of its latent. Maps that have no use for noise
    keep it out.

    Args:
        channels: feature maps, each with a strength of its own; 1 for one strength that all share.

    Source: Karras et al. 2019 (StyleGAN), section 2, figure 1b ("B"); 3.2. One strength per layer: Karras et
    al. 2020 (StyleGAN2), as in the authors' code. Lecture: Aalto "Style-Based Generators (StyleGAN)".
    """

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(N, C, H, W)`` and maps ``(N, 1, H, W)`` or ``(1, 1, H, W)``, fresh ones if None -> as ``x``."""
        if noise is None:
            noise = normal(len(x), 1, *x.shape[2:], device=x.device)
        return torch.addcmul(x, noise.to(x.dtype), self.strength.to(x.dtype)[:, None, None])
