r"""Equalized learning rate and pixelwise normalization: what keeps a Progressive GAN's signals in scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Equalized(nn.Module):
    """What the two layers share: a standard normal weight, and the constants that scale it at each use."""

    def __init__(
        self, shape: tuple[int, ...], bias: bool, gain: float, rate: float, bias_start: float
    ) -> None:
        super().__init__()
        if any(length < 1 for length in shape):
            raise ValueError(f"the weight's shape must be positive, got {shape}")
        for name, value in (("gain", gain), ("rate", rate)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.weight = nn.Parameter(torch.randn(shape) / rate)
        self.bias = nn.Parameter(torch.full((shape[0],), bias_start / rate)) if bias else None
        self.rate = rate
        self.scale = rate * gain / math.sqrt(math.prod(shape[1:]))

    def scaled(self) -> tuple[Tensor, Tensor | None]:
        """The weight and the bias as they are used."""
        return self.weight * self.scale, None if self.bias is None else self.bias * self.rate

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, scale={self.scale:.4g}"


class EqualizedLinear(_Equalized):
    r"""A linear layer whose weight is scaled when it is used, not when it is drawn.

    .. math:: y = c W x + r b, \qquad W_{ij} \sim N(0, 1 / r^2), \qquad c = r \, \frac{g}{\sqrt{d_{in}}}

    At the start this is He's initialization, gain g. Adam moves every entry of W by about the learning rate,
    whatever its gradient's scale; with W of one scale in all layers, all layers change at one speed. A layer
    with ``rate`` r learns r times as fast.

    Args:
        inputs: :math:`d_{in}`.
        outputs: number of outputs.
        bias: whether there is a b.
        gain: g; :math:`\sqrt 2` before rectifiers, 1 for a last layer.
        rate: r, the multiplier of the learning rate, such as 0.01 in StyleGAN's mapping network.
        bias_start: what r b is at the start.

    Raises:
        ValueError: for a size, gain or rate that is not positive.

    Source: Karras et al. 2018 (Progressive GAN), section 4.1; the multiplier: Karras et al. 2019 (StyleGAN),
    appendix C. Lecture: UBC "Progressive GANs".
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        bias: bool = True,
        *,
        gain: float = math.sqrt(2),
        rate: float = 1.0,
        bias_start: float = 0.0,
    ) -> None:
        super().__init__((outputs, inputs), bias, gain, rate, bias_start)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., inputs)`` -> ``(..., outputs)``."""
        return F.linear(x, *self.scaled())


class EqualizedConv2d(_Equalized):
    r"""A convolution of stride 1 with the scaling of :class:`EqualizedLinear`, :math:`d_{in} = C k^2`.

    Args:
        inputs: C, channels in.
        outputs: channels out.
        kernel: k.
        padding: zeros at each side; ``kernel // 2``, which keeps the size for an odd kernel, if None.
        bias: as of the linear layer, like ``gain``.

    Raises:
        ValueError: for a size or gain that is not positive.

    Source: Karras et al. 2018 (Progressive GAN), section 4.1.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        padding: int | None = None,
        bias: bool = True,
        gain: float = math.sqrt(2),
    ) -> None:
        super().__init__((outputs, inputs, kernel, kernel), bias, gain, 1.0, 0.0)
        self.padding = kernel // 2 if padding is None else padding

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, H, W)`` -> ``(N, outputs, H', W')``."""
        return F.conv2d(x, *self.scaled(), padding=self.padding)


class PixelNorm(nn.Module):
    r"""Each place's vector of channels, brought to mean square 1. No weights, no batch.

    .. math:: b_{n c h w} = a_{n c h w} \Big/ \sqrt{\tfrac1C \textstyle\sum_{c'} a_{n c' h w}^2 + 10^{-8}}

    The lengths of a generator's activations then cannot run away while two networks outbid each other.

    Source: Karras et al. 2018 (Progressive GAN), section 4.2. Lecture: Purdue "Progressive-Growing GAN".
    """

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, ...)`` -> the same shape and dtype."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (wide * (wide.square().mean(1, keepdim=True) + 1e-8).rsqrt()).to(x.dtype)


def upsample(x: Tensor) -> Tensor:
    """``(N, C, H, W)`` -> ``(N, C, 2H, 2W)``: every pixel becomes four (nearest neighbour)."""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """``(N, C, 2H, 2W)`` -> ``(N, C, H, W)``: the mean of every four pixels; undoes :func:`upsample`."""
    return F.avg_pool2d(x, 2)


def blur(x: Tensor) -> Tensor:
    r"""``(N, C, H, W)`` smoothed by :math:`\tfrac14 (1, 2, 1)` along both axes, zeros beyond the border.

    After doubling a signal or before halving it, the filter takes out most of what the coarser grid cannot
    carry.

    Source: Karras et al. 2019 (StyleGAN), section 2 (after Zhang 2019).
    """
    # Computed where it is used: a constant from the host would make it wait for the device.
    taps = 2 - torch.arange(-1, 2, device=x.device, dtype=x.dtype).abs()
    kernel = (taps[:, None] * taps / 16).expand(x.shape[1], 1, 3, 3)
    return F.conv2d(x, kernel, padding=1, groups=x.shape[1])
