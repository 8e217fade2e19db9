"""Sliced Wasserstein distance on Laplacian pyramids against numpy, scipy, POT and closed forms."""

import numpy as np
import ot
import pytest
import scipy.ndimage
import scipy.stats
import torch

from ganlib import metrics
from ganlib.data import mnist
from ganlib.layers import pyramid
from ganlib.metrics.sliced import patch_descriptors, sliced_distance, swd


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def unit(rows):
    return rows / rows.norm(dim=1, keepdim=True)


# --- pyramid ------------------------------------------------------------------------------------------------

FILTER = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def naive_pyramid(images, levels):
    def down(x):
        return scipy.ndimage.convolve(x, FILTER[None, None], mode="mirror")[:, :, ::2, ::2]

    def up(x):
        n, c, h, w = x.shape
        spread = np.zeros((n, c, 2 * h, 2 * w))
        spread[:, :, ::2, ::2] = x
        return scipy.ndimage.convolve(spread, 4 * FILTER[None, None], mode="mirror")

    found = [images]
    for _ in range(levels - 1):
        found.append(down(found[-1]))
        found[-2] = found[-2] - up(found[-1])
    return found


def test_the_pyramid_is_the_layers():
    assert metrics.laplacian_pyramid is pyramid.laplacian_pyramid
    assert metrics.collapse_pyramid is pyramid.collapse_pyramid


def test_patches_need_images_of_sixteen_pixels():
    """The pyramid can have smaller levels; the metric ends where its patches still tell places."""
    images = normal(3, 1, 64, 32)
    assert list(swd(images, images, rng=rng(), patches=4, directions=8)) == [64, 32]


# --- patches ------------------------------------------------------------------------------------------------


def naive_descriptors(images, places):
    patches = []
    for image, rows, columns in zip(images, *places, strict=True):
        for r, c in zip(rows, columns, strict=True):
            patches.append(image[:, r : r + 7, c : c + 7])
    patches = np.stack(patches)
    patches = patches - patches.mean((0, 2, 3), keepdims=True)
    return (patches / patches.std((0, 2, 3), keepdims=True)).reshape(len(patches), -1)


def test_patches_equal_slices():
    images = normal(4, 3, 16, 20) * torch.tensor([1.0, 2.0, 5.0]).view(3, 1, 1) + 1
    places = torch.stack(
        [torch.randint(16 - 6, (4, 9), generator=rng()), torch.randint(20 - 6, (4, 9), generator=rng(1))]
    )
    places[:, 0, 0], places[:, 1, 0] = 0, torch.tensor([9, 13])  # both corners
    ours = patch_descriptors(images, places)
    np.testing.assert_allclose(ours, naive_descriptors(images.numpy(), places.numpy()), atol=1e-12)


def test_a_constant_channel_stays_zero():
    images = torch.cat([normal(2, 1, 16, 16), torch.full((2, 1, 16, 16), 0.1).double()], 1).float()
    found = patch_descriptors(images, torch.zeros(2, 2, 3, dtype=torch.long))
    assert found[:, 49:].abs().max() == 0 and found[:, :49].abs().max() > 1


def test_bad_places():
    images = torch.zeros(2, 1, 16, 16)
    with pytest.raises(ValueError, match=r"must be \(2, 2, P\), got \(2, 3, 4\)"):
        patch_descriptors(images, torch.zeros(2, 3, 4, dtype=torch.long))
    with pytest.raises(ValueError, match=r"rows in 0..9"):
        patch_descriptors(images, torch.full((2, 2, 4), 10))


# --- distance -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 7, 100])
def test_distance_equals_scipy_and_pot(chunk):
    x, y, lines = normal(60, 5), 2 * normal(60, 5, seed=1) + 1, unit(normal(20, 5, seed=2))
    ours = sliced_distance(x, y, lines, chunk).item()
    expected = np.mean([scipy.stats.wasserstein_distance(x @ line, y @ line) for line in lines])
    assert ours == pytest.approx(expected, rel=1e-12)  # float64
    theirs = ot.sliced_wasserstein_distance(x, y, p=1, projections=lines.T)
    assert ours == pytest.approx(theirs.item(), rel=1e-12)


def test_distance_zero_symmetry_order_and_shift():
    x, y, lines = normal(50, 4), normal(50, 4, seed=1), unit(normal(9, 4, seed=2))
    shuffled = x[torch.randperm(50, generator=rng())]
    distance = sliced_distance(x, y, lines).item()
    assert sliced_distance(x, x, lines).item() == 0
    assert sliced_distance(y, x, lines).item() == distance
    # a product's last digit may depend on where its row stands
    assert sliced_distance(x, shuffled, lines).item() < 1e-15
    assert sliced_distance(shuffled, y, lines).item() == pytest.approx(distance, rel=1e-14)
    shift = normal(4, seed=3)
    # every projection moves by |<theta, shift>|
    expected = (lines @ shift).abs().mean().item()
    assert sliced_distance(x, x + shift, lines).item() == pytest.approx(expected, rel=1e-12)


def test_distance_has_a_gradient():
    x, y, lines = normal(6, 3).requires_grad_(), normal(6, 3, seed=1), unit(normal(4, 3, seed=2))
    assert torch.autograd.gradcheck(lambda a: sliced_distance(a, y, lines), x)
    # with and without a gradient it is sorted by different programs
    assert sliced_distance(x, y, lines).item() == sliced_distance(x.detach(), y, lines).item()


def test_distance_of_half_precision_is_computed_in_float32():
    x, y, lines = normal(60, 5).bfloat16(), normal(60, 5, seed=1).bfloat16(), unit(normal(20, 5, seed=2))
    assert torch.equal(sliced_distance(x, y, lines), sliced_distance(x.float(), y.float(), lines))


@pytest.mark.parametrize(
    ("x", "y", "lines", "message"),
    [
        (torch.zeros(3, 2), torch.zeros(4, 2), torch.ones(1, 2), "of one shape"),
        (torch.zeros(3), torch.zeros(3), torch.ones(1, 2), "of one shape"),
        (torch.zeros(0, 2), torch.zeros(0, 2), torch.ones(1, 2), "of one shape"),
        (torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(1, 3), r"\(K, 2\), got \(1, 3\)"),
        (torch.zeros(3, 2), torch.zeros(3, 2), torch.ones(0, 2), r"\(K, 2\), got \(0, 2\)"),
    ],
)
def test_points_that_do_not_fit(x, y, lines, message):
    with pytest.raises(ValueError, match=message):
        sliced_distance(x, y, lines)


# --- the metric ---------------------------------------------------------------------------------------------


def test_swd_equals_the_metric_written_out():
    real, generated = normal(12, 3, 32, 32), normal(12, 3, 32, 32, seed=1).cumsum(3)
    ours = swd(real, generated, rng=rng(5), patches=6, directions=40)
    draws = rng(5)  # the order of the draws: for each level the rows, the columns, the directions
    expected = {}
    sides = (naive_pyramid(images.numpy(), 2) for images in (real, generated))
    for x, y in zip(*sides, strict=True):
        side = x.shape[-1]
        places = np.stack([torch.randint(side - 6, (12, 6), generator=draws).numpy() for _ in range(2)])
        lines = torch.randn(40, 147, generator=draws).numpy()
        lines = lines / np.linalg.norm(lines, axis=1, keepdims=True)
        a, b = (np.sort(naive_descriptors(s, places) @ lines.T, axis=0) for s in (x, y))
        expected[side] = np.abs(a - b).mean()
    assert ours == pytest.approx(expected, rel=1e-6)  # directions are float32
    assert list(ours) == [32, 16]


@pytest.fixture(scope="module")
def digits():
    return mnist("test").images[:800].split(400)


def distances(x, y, seed=0):
    return swd(x, y, rng=rng(seed), patches=16, directions=64)


def test_swd_of_itself_and_of_its_order(digits):
    one, other = digits
    assert distances(one, one) == {32: 0.0, 16: 0.0}
    floor = distances(one, other)
    for shuffled in (distances(one, one.flip(0)), distances(other.flip(0), one)):
        # the places of the patches fall on other images: what remains is sampling, as between two samples
        assert all(shuffled[side] < 2 * floor[side] for side in floor)


def test_swd_tells_noise_from_the_shape_of_things(digits):
    one, other = digits
    floor = distances(one, other)
    noisy = distances(one, other + 0.2 * normal(400, 1, 32, 32).float())
    # white noise has a quarter of its variance left after each halving, and shapes are of size 1
    assert noisy[32] > 5 * floor[32] and noisy[32] > 3 * noisy[16]
    dimmed = distances(one, other * 0.3)
    assert dimmed == pytest.approx(floor, rel=0.02)  # contrast is normalised away, by design


def test_swd_is_a_matter_of_its_generator_alone(digits):
    one, other = digits
    state = torch.get_rng_state()
    assert distances(one, other) == distances(one, other) != distances(one, other, seed=1)
    assert torch.equal(torch.get_rng_state(), state)


def test_swd_precision(digits):
    one, other = (side[:100] for side in digits)
    single = distances(one, other)
    # sums of 1,600 float32 numbers
    assert single == pytest.approx(distances(one.double(), other.double()), rel=1e-4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert distances(one, other) == single
    rounded = distances(one.bfloat16(), other.bfloat16())
    assert rounded == distances(one.bfloat16().float(), other.bfloat16().float())


def test_constant_images_are_far_but_finite():
    x = normal(8, 1, 32, 32)
    found = swd(x, torch.zeros_like(x), rng=rng(), patches=8, directions=16)
    # against a point at 0 each projection of unit variance has mean size sqrt(2/pi); few patches, so 15 %
    assert all(value == pytest.approx(np.sqrt(2 / np.pi), rel=0.15) for value in found.values())


@pytest.mark.parametrize(
    ("real", "generated", "settings", "message"),
    [
        (torch.zeros(2, 1, 32, 32), torch.zeros(3, 1, 32, 32), {}, "compare equal numbers"),
        (torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32), {"patches": 0}, "at least 1, got 0 and 512"),
        (torch.zeros(2, 1, 32, 32), torch.zeros(2, 1, 32, 32), {"directions": 0}, "at least 1"),
        (torch.zeros(2, 1, 32, 32), torch.full((2, 1, 32, 32), torch.nan), {}, "must be finite"),
        (torch.zeros(2, 1, 32, 32).byte(), torch.zeros(2, 1, 32, 32).byte(), {}, "got torch.uint8"),
        (torch.zeros(2, 1, 12, 32), torch.zeros(2, 1, 12, 32), {}, "at least 16"),
    ],
)
def test_bad_images(real, generated, settings, message):
    with pytest.raises(ValueError, match=message):
        swd(real, generated, rng=rng(), **settings)
