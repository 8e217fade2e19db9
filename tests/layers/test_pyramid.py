"""Laplacian pyramids against scipy's filters, their own inverse, and what linear operators owe."""

import numpy as np
import pytest
import scipy.ndimage
import skimage.measure
import skimage.transform
import torch

from ganlib.data import mnist
from ganlib.layers.pyramid import (
    BINOMIAL,
    LINEAR,
    collapse_pyramid,
    enlarge,
    halve,
    interpolate,
    laplacian_pyramid,
)

FILTER = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def scipys_halves(x):
    return scipy.ndimage.convolve(x, FILTER[None, None], mode="mirror")[:, :, ::2, ::2]


def scipys_doubles(x):
    n, c, h, w = x.shape
    spread = np.zeros((n, c, 2 * h, 2 * w))
    spread[:, :, ::2, ::2] = x
    return scipy.ndimage.convolve(spread, 4 * FILTER[None, None], mode="mirror")


# --- the two steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 3, 32, 48), (1, 1, 4, 6)])
def test_steps_equal_scipys_filters(shape):
    images = normal(*shape)
    # sums of 25 float64 products of size 1
    np.testing.assert_allclose(halve(images), scipys_halves(images.numpy()), atol=1e-14)
    np.testing.assert_allclose(enlarge(images), scipys_doubles(images.numpy()), atol=1e-14)


def test_linear_steps_equal_skimages():
    image = normal(1, 1, 12, 8)[0, 0]
    halved = skimage.measure.block_reduce(image.numpy(), (2, 2), np.mean)
    np.testing.assert_allclose(LINEAR.down(image[None, None])[0, 0], halved, atol=1e-14)  # float64
    doubled = skimage.transform.resize(image.numpy(), (24, 16), order=1, mode="edge", anti_aliasing=False)
    np.testing.assert_allclose(interpolate(image[None, None])[0, 0], doubled, atol=1e-14)


def test_means_keep_more_of_the_finest_wave_that_eight_pixels_carry():
    """A wave of 8 pixels, halved twice, has 2 left: the gains are the filters' transfer functions there."""
    wave = torch.cos(torch.pi * (torch.arange(64, dtype=torch.float64) - 1.5) / 4).expand(1, 1, 64, 64)
    left = {}
    for name, (down, _) in (("binomial", BINOMIAL), ("linear", LINEAR)):
        left[name] = down(down(wave))[..., 4:-4].abs().amax().item()
    # mean of four neighbours in phase: (cos(3 pi/8) + cos(pi/8)) / 2, at places in the middle of them
    assert left["linear"] == pytest.approx((np.cos(3 * np.pi / 8) + np.cos(np.pi / 8)) / 2, rel=1e-12)
    # cos^4(w/2) at w = pi/4 and pi/2, times the wave where every fourth pixel meets it: cos(3 pi/8)
    gain = np.cos(np.pi / 8) ** 4 * np.cos(np.pi / 4) ** 4
    assert left["binomial"] == pytest.approx(gain * np.cos(3 * np.pi / 8), rel=1e-12)


def test_enlarging_is_the_transpose_of_halving():
    """<d x, y> = <x, u y> / 4 for what stays away from the mirrored border: one filter serves both ways."""
    x, y = normal(1, 1, 32, 32), torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    y[:, :, 2:-2, 2:-2] = normal(1, 1, 12, 12, seed=1)
    left, right = (halve(x) * y).sum(), (x * enlarge(y)).sum()
    torch.testing.assert_close(left, right / 4, rtol=1e-12, atol=0)  # float64


def test_pixels_stay_in_their_range_when_halved():
    extremes = torch.where(normal(50, 1, 16, 16) > 0, 1.0, -1.0)
    assert halve(extremes).abs().max() <= 1
    assert halve(torch.full((1, 1, 8, 8), -1.0)).eq(-1).all()  # sixteenths: exact in float32


def test_gradients():
    for step in (halve, enlarge):
        assert torch.autograd.gradcheck(step, normal(1, 1, 6, 4).requires_grad_())


# --- the pyramid --------------------------------------------------------------------------------------------


def test_pyramid_equals_scipys():
    images = normal(2, 3, 64, 96)
    expected = [images.numpy()]
    for _ in range(2):
        expected.append(scipys_halves(expected[-1]))
        expected[-2] = expected[-2] - scipys_doubles(expected[-1])
    ours = laplacian_pyramid(images, 3)
    assert [level.shape[2:] for level in ours] == [(64, 96), (32, 48), (16, 24)]
    for level, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(level, other, atol=1e-14)  # rounding of float64 on values of size 1


@pytest.mark.parametrize(
    ("levels", "smallest", "sides"),
    [(None, 16, [64, 32, 16]), (None, 8, [64, 32, 16, 8]), (None, 2, [64, 32, 16, 8, 4, 2]), (1, 16, [64])],
)
@pytest.mark.parametrize("scaling", [BINOMIAL, LINEAR])
def test_pyramid_adds_up_again(levels, smallest, sides, scaling):
    images = normal(3, 2, 64, 64)
    pyramid = laplacian_pyramid(images, levels, smallest=smallest, scaling=scaling)
    assert [level.shape[-1] for level in pyramid] == sides
    # each level costs a subtraction and an addition of float64
    torch.testing.assert_close(collapse_pyramid(pyramid, scaling), images, rtol=0, atol=1e-14)


def test_digits_from_eight_pixels_up():
    digits = mnist("test").images[:20]
    pyramid = laplacian_pyramid(digits, smallest=8)
    assert [level.shape[-1] for level in pyramid] == [32, 16, 8]
    # per level two roundings of float32 near 1, of half an ulp (6e-8) each; the coarser one's is smoothed on
    assert (collapse_pyramid(pyramid) - digits).abs().max() <= 4e-7
    # detail is what enlarging does not bring back: without it the digit is another
    assert (enlarge(enlarge(pyramid[-1])) - digits).abs().max() > 0.5


def test_pyramid_is_linear():
    x, y = normal(2, 1, 32, 32), normal(2, 1, 32, 32, seed=1)
    sums = zip(laplacian_pyramid(x, 3, smallest=8), laplacian_pyramid(y, 3, smallest=8), strict=True)
    for level, (a, b) in zip(laplacian_pyramid(2 * x - 3 * y, 3, smallest=8), sums, strict=True):
        torch.testing.assert_close(level, 2 * a - 3 * b, rtol=0, atol=1e-13)  # float64, values up to 20


def test_constant_images_have_no_detail():
    *bands, coarse = laplacian_pyramid(torch.full((1, 1, 32, 32), 0.7, dtype=torch.float64), smallest=8)
    assert all(band.abs().max() < 1e-15 for band in bands)
    torch.testing.assert_close(coarse, torch.full_like(coarse, 0.7), rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("images", "levels", "message"),
    [
        (torch.zeros(1, 1, 8, 8), None, r"at least 16 .* got \(8, 8\)"),
        (torch.zeros(1, 1, 33, 32), None, "multiples of 2 for 2 levels"),
        (torch.zeros(1, 1, 32, 32), 3, "at least 64 that are multiples of 4 for 3 levels"),
        (torch.zeros(1, 1, 32, 32), 0, "for 0 levels"),
        (torch.zeros(32, 32), None, r"got torch.float32 \(32, 32\)"),
        (torch.zeros(0, 1, 32, 32), None, r"got torch.float32 \(0, 1, 32, 32\)"),
        (torch.zeros(1, 1, 32, 32).byte(), None, "got torch.uint8"),
    ],
)
def test_images_without_a_pyramid(images, levels, message):
    with pytest.raises(ValueError, match=message):
        laplacian_pyramid(images, levels)


def test_images_that_have_no_half_or_double():
    with pytest.raises(ValueError, match=r"even sides, got \(8, 7\)"):
        halve(torch.zeros(1, 1, 8, 7))
    with pytest.raises(ValueError, match="at least 4 pixels"):
        halve(torch.zeros(1, 1, 8, 2))
    with pytest.raises(ValueError, match="at least 2 pixels"):
        enlarge(torch.zeros(1, 1, 8, 1))
    with pytest.raises(ValueError, match="int64"):
        enlarge(torch.zeros(1, 1, 8, 8).long())
    with pytest.raises(ValueError, match="smallest must be at least 2, got 1"):
        laplacian_pyramid(torch.zeros(1, 1, 8, 8), smallest=1)
