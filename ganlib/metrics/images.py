r"""How alike are two images, pixel by pixel and window by window: PSNR, SSIM, MS-SSIM.

All three compare an image with *its* reference, so they measure restoration (SRGAN, pix2pix, context
encoders) and not generation: a sampler's image has no reference. They give one value per image, are
differentiable (``1 - ssim(a, b).mean()`` is a loss), and compute in float32 under autocast and for
half-precision images.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

RANGE = (-1.0, 1.0)
WINDOW, SIGMA, K1, K2 = 11, 1.5, 0.01, 0.03
SCALE_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def psnr(images: Tensor, reference: Tensor, data_range: tuple[float, float] = RANGE) -> Tensor:
    r"""Peak signal-to-noise ratio in decibels, :math:`10 \log_{10} (L^2 / \mathrm{MSE})`, of each image.

    L is the width of the range, so that the figure is the same in [-1, 1] and in [0, 255]. 6 dB more is half
    the deviation per pixel. Equal images give infinity, with gradient zero. The mean of this over images,
    which papers report, is not the ratio for the mean error.

    Args:
        images: ``(N, C, H, W)``.
        reference: of the same shape.
        data_range: lowest and highest value that a pixel may take.

    Returns:
        ``(N,)``, float32 (float64 for float64 images).

    Raises:
        ValueError: if the shapes differ or are not ``(N, C, H, W)``, an image has no pixels or integer ones,
            or the range is empty.

    Lecture: MIT "Example: Super-Resolution GAN".
    """
    x, y = _pair(images, reference, data_range)
    error = (x - y).square().mean((1, 2, 3))
    # The clamp stops the gradient, which would be 0/0, where there is nothing to improve.
    decibels = -10 * error.clamp(min=torch.finfo(error.dtype).tiny).log10()
    return torch.where(error == 0, torch.inf, decibels)


def ssim(images: Tensor, reference: Tensor, data_range: tuple[float, float] = RANGE) -> Tensor:
    r"""Structural similarity of each image with its reference: the mean over all 11 x 11 windows of

    .. math:: \frac{(2 \mu_x \mu_y + C_1)(2 \sigma_{xy} + C_2)}
        {(\mu_x^2 + \mu_y^2 + C_1)(\sigma_x^2 + \sigma_y^2 + C_2)}

    Means, variances and covariance are weighted by a Gaussian of 1.5 pixels; :math:`C_1 = (0.01 L)^2`,
    :math:`C_2 = (0.03 L)^2`. Only windows inside the image count: no border is made up. Channels are
    averaged.

    Means enter as ratios, so that zero must be black: images are moved to [0, L] first. Another library that
    is called on [-1, 1] with a range of 2 leaves that out, and gives another number.

    Args:
        images: ``(N, C, H, W)``, H and W at least 11.
        reference: of the same shape.
        data_range: the values of black and of white.

    Returns:
        ``(N,)`` in [-1, 1], 1 for equal images alone; float32 (float64 for float64 images).

    Raises:
        ValueError: as :func:`psnr`, and for images smaller than the window.

    Source: Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity", 2004,
    section III. Lecture: MIT "Example: Super-Resolution GAN" (the second of its two figures).
    """
    return _similarity(*_pair(images, reference, data_range))[0]


def ms_ssim(
    images: Tensor, reference: Tensor, data_range: tuple[float, float] = RANGE, scales: int = 5
) -> Tensor:
    r"""SSIM over M scales, each half as large as the one before.

    .. math:: \mathrm{SSIM}_M^{w_M} \prod_{j=1}^{M-1} \mathrm{CS}_j^{w_j}

    CS is the mean of the second factor of :func:`ssim`, contrast and structure; luminance enters at the
    coarsest scale alone. Between scales 2 x 2 pixels are averaged (an odd last row or column is left out).
    With fewer than five scales the finest are kept, and their weights scaled up to the sum of all five. A
    scale whose mean is negative, of which there is no such power, counts as 0.

    Args:
        images: ``(N, C, H, W)``; the coarsest scale must still hold a window of 11 x 11, which takes 176
            pixels for five scales and 22 for two.
        reference: of the same shape.
        data_range: the values of black and of white.
        scales: 1 to 5; MNIST's 32 pixels allow 2.

    Returns:
        ``(N,)`` in [0, 1], float32 (float64 for float64 images).

    Raises:
        ValueError: as :func:`psnr`; for another number of scales; for images too small for so many.

    Source: Wang, Simoncelli and Bovik, "Multi-scale Structural Similarity for Image Quality Assessment",
    2003: the weights are 0.0448, 0.2856, 0.3001, 0.2363, 0.1333. Between images of one class it tells how
    little they vary: Odena et al., "Conditional Image Synthesis with Auxiliary Classifier GANs", 2017.
    """
    x, y = _pair(images, reference, data_range)
    if not 1 <= scales <= len(SCALE_WEIGHTS):
        raise ValueError(f"scales must be 1 to {len(SCALE_WEIGHTS)}, got {scales}")
    least = WINDOW << (scales - 1)
    if min(x.shape[2:]) < least:
        raise ValueError(
            f"images must be at least {least} x {least} for {scales} scales, got {tuple(x.shape[2:])}: "
            "ask for fewer scales"
        )
    kept = sum(SCALE_WEIGHTS[:scales]) / sum(SCALE_WEIGHTS)
    product = 1.0  # relu has gradient 0 at 0, where that of a fractional power is infinite
    for weight in SCALE_WEIGHTS[: scales - 1]:
        product = product * _similarity(x, y)[1].relu() ** (weight / kept)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return product * _similarity(x, y)[0].relu() ** (SCALE_WEIGHTS[scales - 1] / kept)


def _similarity(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Means of SSIM and of its contrast-structure factor, ``(N,)`` each, for images in [0, 1]."""
    if min(x.shape[2:]) < WINDOW:
        raise ValueError(f"images must be at least {WINDOW} x {WINDOW}, got {tuple(x.shape[2:])}")
    mean_x, mean_y, square_x, square_y, cross = _windows(torch.stack([x, y, x * x, y * y, x * y]))
    variances = square_x - mean_x.square() + square_y - mean_y.square()
    covariance = cross - mean_x * mean_y
    structure = (2 * covariance + K2**2) / (variances + K2**2)
    luminance = (2 * mean_x * mean_y + K1**2) / (mean_x.square() + mean_y.square() + K1**2)
    return (luminance * structure).mean((1, 2, 3)), structure.mean((1, 2, 3))


def _windows(maps: Tensor) -> Tensor:
    """Gaussian means over the windows inside: ``(..., H, W)`` to ``(..., H - 10, W - 10)``."""
    places = torch.arange(WINDOW, dtype=maps.dtype, device=maps.device) - WINDOW // 2
    kernel = torch.softmax(-places.square() / (2 * SIGMA**2), 0)  # a Gaussian, divided by its sum
    # Shifted sums, not a convolution: on a GPU that rounds to TF32, by more than the constants of SSIM.
    for side in (-2, -1):
        length = maps.shape[side] - WINDOW + 1
        maps = sum(weight * maps.narrow(side, i, length) for i, weight in enumerate(kernel))
    return maps


def _pair(images: Tensor, reference: Tensor, data_range: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Both, checked, in at least float32 and moved to [0, 1]."""
    low, high = data_range
    if not low < high:
        raise ValueError(f"data_range must be (low, high) with low < high, got {data_range}")
    if images.shape != reference.shape:
        raise ValueError(
            "images and reference must have one shape, "
            f"got {tuple(images.shape)} and {tuple(reference.shape)}"
        )
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be (N, C, H, W) with pixels, got {tuple(images.shape)}")
    for name, side in (("images", images), ("reference", reference)):
        if not side.is_floating_point():
            raise ValueError(f"{name} must be floating point in [{low:g}, {high:g}], got {side.dtype}")
    dtype = torch.promote_types(torch.promote_types(images.dtype, reference.dtype), torch.float32)
    return (images.to(dtype) - low) / (high - low), (reference.to(dtype) - low) / (high - low)
