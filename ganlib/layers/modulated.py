r"""Convolutions whose weights a style scales: what StyleGAN2 has in place of instance normalization."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.layers.equalized import EqualizedLinear
from ganlib.layers.precision import without_autocast


def modulated_weights(
    weight: Tensor, style: Tensor, demodulate: bool = True, epsilon: float = 1e-8
) -> Tensor:
    r"""One convolution weight per sample: input channel i scaled by the sample's style, outputs to length 1.

    .. math:: w'_{nijk} = s_{ni} \, w_{ijk}, \qquad
              w''_{nijk} = w'_{nijk} \Big/ \sqrt{\textstyle\sum_{i, k} w'^2_{nijk} + \varepsilon}

    with i over channels in, j over channels out, k over the kernel's places. If the channels in were
    independent with deviation 1, those out would have deviation 1 as well, whatever the style: the effect of
    the style on the signals' scale is removed by what is *expected* of them. Instance normalization removes
    the scale that they have, and with it what one channel's strength beside another's said.

    Args:
        weight: ``(O, I, k, k)``.
        style: ``(N, I)``.
        demodulate: False leaves it at :math:`w'`.
        epsilon: keeps the division finite.

    Returns:
        ``(N, O, I, k, k)``.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Karras et al. 2020 (StyleGAN2), eqs. 1 and 3.
    """
    _check(weight, style)
    weights = weight * style[:, None, :, None, None]
    if not demodulate:
        return weights
    return weights * _demodulation(weight, style, epsilon)[:, :, None, None, None].to(weights.dtype)


def modulated_conv2d(
    x: Tensor,
    weight: Tensor,
    style: Tensor,
    *,
    demodulate: bool = True,
    up: bool = False,
    grouped: bool = False,
    epsilon: float = 1e-8,
) -> Tensor:
    r"""Each sample convolved with its own row of :func:`modulated_weights`, zeros beyond the border.

    There are two ways, equal but for rounding. *Grouped*, as in the paper: the samples become groups of one
    convolution with N times as many channels. Or one convolution with the shared weight, between two scalings
    of the channels,

    .. math:: y_{nj} = d_{nj} \sum_i w_{ij} * (s_{ni} x_{ni}), \qquad
              d_{nj} = \Big(\textstyle\sum_{i, k} s_{ni}^2 w_{ijk}^2 + \varepsilon\Big)^{-1/2},

    because scaling a channel in and scaling a weight's column is the same. The second is the default: no
    weight per sample is kept for the backward pass, and grouped convolutions are slow on processors,
    differentiated above all. Factors are computed in float32, under autocast too.

    Args:
        x: ``(N, I, H, W)``.
        weight: ``(O, I, k, k)``, k odd.
        style: ``(N, I)``.
        demodulate: as of :func:`modulated_weights`, like ``epsilon``.
        up: double the image's sides: :func:`upsampling_conv2d`.
        grouped: which of the two ways.

    Returns:
        ``(N, O, H, W)``, or ``(N, O, 2H, 2W)`` with ``up``.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Karras et al. 2020 (StyleGAN2), section 2.2; both ways are in the authors' code.
    """
    _check(weight, style)
    if x.ndim != 4 or x.shape[:2] != style.shape:
        raise ValueError(f"x must be (N, C, H, W) with {tuple(style.shape)} first, got {tuple(x.shape)}")
    if grouped:
        weights = modulated_weights(weight, style, demodulate, epsilon)
        side_by_side = x.reshape(1, -1, *x.shape[2:])
        y = _convolve(side_by_side, weights.flatten(0, 1), up, groups=len(x))
        return y.view(len(x), -1, *y.shape[2:])
    y = _convolve(x * style[:, :, None, None].to(x.dtype), weight, up)
    if demodulate:
        y = y * _demodulation(weight, style, epsilon)[:, :, None, None].to(y.dtype)
    return y


def upsampling_conv2d(x: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
    r"""Doubling, smoothing and convolving in a quarter of the multiplications.

    Up to the border this is ``conv2d(blur(upsample(x)), weight)``: every pixel is doubled, smoothed by
    :math:`\tfrac14 (1, 2, 1)`, and convolved. Nearest-neighbour doubling is zeros between the pixels and the
    filter (1, 1), so the two filters are one, :math:`\tfrac14 (1, 3, 3, 1)`, bilinear interpolation, and
    filters may trade places: first a transposed convolution that skips the zeros, then the filter.

    Args:
        x: ``(N, groups * I, H, W)``.
        weight: ``(groups * O, I, k, k)``, k odd and at least 3.
        groups: of channels, each convolved alone.

    Returns:
        ``(N, groups * O, 2H, 2W)``.

    Raises:
        ValueError: for a kernel of another size.

    Source: Karras et al. 2020 (StyleGAN2), section 4 (bilinear filters); the order is that of the authors'
    code.
    """
    if weight.shape[2] % 2 == 0 or weight.shape[2] < 3:
        raise ValueError(f"the kernel's side must be odd and at least 3, got {weight.shape[2]}")
    kernel = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1).flip(2, 3)
    y = F.conv_transpose2d(x, kernel, stride=2, padding=kernel.shape[2] // 2 - 1, groups=groups)
    return smooth(y, padding=1, gain=4.0)


def smooth(x: Tensor, padding: int, gain: float = 1.0) -> Tensor:
    r"""The filter :math:`\tfrac18 (1, 3, 3, 1)` along both axes, zeros beyond the border.

    With ``padding=1`` every second pixel of it is ``downsample(blur(x))``; after zeros between the pixels,
    and times 4, it is ``blur(upsample(x))``.

    Args:
        x: ``(N, C, H, W)``.
        padding: p, zeros at each side, at most 3.
        gain: a factor.

    Returns:
        ``(N, C, H + 2p - 3, W + 2p - 3)``.
    """
    return _Filter.apply(x, padding, gain)


class _Filter(torch.autograd.Function):
    """:func:`smooth` and its derivatives, which are itself: the filter is symmetric, so that its transpose is
    the same filter with the rest of the padding.

    Torch's own second derivative of a convolution by groups goes through them one by one, here one for each
    channel, for a gradient of the kernel that nobody has asked for.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, padding: int, gain: float) -> Tensor:
        # Computed where they are used: a constant from the host would make it wait for the device.
        taps = 0.5 - 0.25 * (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()
        kernel = (gain * taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
        with without_autocast(x):
            return F.conv2d(x, kernel, padding=padding, groups=x.shape[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: Tensor) -> None:
        _, ctx.padding, ctx.gain = inputs

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None]:
        return _Filter.apply(slope, 3 - ctx.padding, ctx.gain), None, None


class ModulatedConv2d(nn.Module):
    r""":func:`modulated_conv2d` with a learned weight, and a style that is read off a vector w.

    .. math:: s = A w + a, \qquad a = 1 \text{ at the start}

    The weight has an equalized learning rate (standard normal, scaled by :math:`1 / \sqrt{I k^2}` at each
    use), which demodulation undoes. No bias and no noise: those follow the demodulation, unscaled.

    Args:
        inputs: I, channels in.
        outputs: O, channels out.
        kernel: k, odd.
        w_dim: length of w.
        demodulate: False for the layer that makes images, whose scale is meant.
        up: double the image's sides.
        grouped: see :func:`modulated_conv2d`.

    Raises:
        ValueError: for an even kernel, or on a call if the shapes do not fit.

    Source: Karras et al. 2020 (StyleGAN2), section 2.2, figure 2d. Lecture: Aalto "Style-Based Generators
    (StyleGAN)" ("Replaced adaptive instance normalization with weight demodulation").
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        w_dim: int,
        *,
        demodulate: bool = True,
        up: bool = False,
        grouped: bool = False,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel must be odd, got {kernel}")
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.scale = 1 / math.sqrt(inputs * kernel**2)
        self.style = EqualizedLinear(w_dim, inputs, gain=1.0, bias_start=1.0)
        self.demodulate, self.up, self.grouped = demodulate, up, grouped

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``(N, I, H, W)`` and ``(N, w_dim)`` -> ``(N, O, H, W)``, sides doubled with ``up``."""
        return modulated_conv2d(
            x,
            self.weight * self.scale,
            self.style(w),
            demodulate=self.demodulate,
            up=self.up,
            grouped=self.grouped,
        )


def _convolve(x: Tensor, weight: Tensor, up: bool, groups: int = 1) -> Tensor:
    if up:
        return upsampling_conv2d(x, weight, groups)
    return F.conv2d(x, weight, padding=weight.shape[2] // 2, groups=groups)


def _demodulation(weight: Tensor, style: Tensor, epsilon: float) -> Tensor:
    """The factors d, ``(N, O)``, in float32 at least."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    # Under autocast this product would be one of bfloat16 numbers, and d off by some tenths of a percent.
    with without_autocast(weight):
        power = style.to(wide).square() @ weight.to(wide).square().sum((2, 3)).T
    return (power + epsilon).rsqrt()


def _check(weight: Tensor, style: Tensor) -> None:
    if weight.ndim != 4 or weight.shape[2] % 2 == 0 or style.ndim != 2 or style.shape[1] != weight.shape[1]:
        raise ValueError(
            "weight must be (O, I, k, k) with an odd k and style (N, I), "
            f"got {tuple(weight.shape)} and {tuple(style.shape)}"
        )
