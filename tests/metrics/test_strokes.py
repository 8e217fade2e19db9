"""Slant, thickness and size of characters, against scikit-image's moments and shapes drawn to measure."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from skimage.measure import moments_central
from torch.nn.functional import avg_pool2d

from ganlib.data import mnist
from ganlib.metrics import strokes


def bar(width: float, length: float, degrees: float, side: int = 32, finer: int = 8) -> torch.Tensor:
    """A white bar that leans ``degrees`` to the right, ``(1, 1, side, side)``, its edges smoothed."""
    places = (torch.arange(side * finer) + 0.5) / finer - side / 2
    v, u = torch.meshgrid(places, places, indexing="ij")
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    along, across = u * sine - v * cosine, u * cosine + v * sine
    inside = (along.abs() < length / 2) & (across.abs() < width / 2)
    return avg_pool2d(inside[None, None].double(), finer) * 2 - 1


def blob(covariance: list[list[float]], side: int = 48) -> torch.Tensor:
    """A Gaussian spot with the given covariance of (to the right, upwards), in pixels."""
    places = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    v, u = torch.meshgrid(places, places, indexing="ij")
    points = torch.stack([u, -v], -1)
    inverse = torch.linalg.inv(torch.tensor(covariance, dtype=torch.float64))
    density = torch.exp(-0.5 * torch.einsum("hwi,ij,hwj->hw", points, inverse, points))
    return density[None, None] * 2 - 1


@pytest.mark.parametrize("covariance", [[[9, 0], [0, 16]], [[9, 5], [5, 16]], [[9, -5], [-5, 16]]])
def test_slant_and_size_of_a_gaussian_are_those_of_its_covariance(covariance):
    found = strokes(blob(covariance))
    (a, c), (_, b) = covariance
    # Beyond six standard deviations of a spot cut off at 24 pixels nothing is left to float64's sums.
    assert found.slant.item() == pytest.approx(math.degrees(math.atan(c / b)), abs=1e-6)
    assert found.size.item() == pytest.approx(math.sqrt(a + b), rel=1e-7)


def test_moments_agree_with_scikit_image():
    images = mnist("test").images[:20]
    found = strokes(images)
    for i, image in enumerate(images):
        m = moments_central((image[0].double().numpy() + 1) / 2, order=2)  # indexed by row, then column
        # Sums of a thousand float32 numbers.
        assert found.slant[i].item() == pytest.approx(math.degrees(math.atan(-m[1, 1] / m[2, 0])), abs=1e-3)
        assert found.size[i].item() == pytest.approx(math.sqrt((m[0, 2] + m[2, 0]) / m[0, 0]), rel=1e-4)


@pytest.mark.parametrize("degrees", [0, 20, 45, 70, 90])
@pytest.mark.parametrize("width", [2, 3, 5])
def test_thickness_is_a_strokes_width_in_any_direction(width, degrees):
    found = strokes(bar(width, 20, degrees)).thickness.item()
    # The definition's own value for a bar, and up to 13 % for corners that the grid rounds off and for edges
    # less than two pixels apart, whose slopes touch.
    assert found == pytest.approx(20 * width / (20 + width), rel=0.13)
    thicker = strokes(bar(width + 1, 20, degrees)).thickness.item()
    assert 0.5 < thicker - found < 1


def test_a_bar_leans_as_it_was_drawn():
    for degrees in (-30, -10, 0, 25):
        found = strokes(bar(2, 20, degrees)).slant.item()
        # The shear of a bar of width w and length l: its covariance is R diag(w^2, l^2) R^T / 12.
        s, c = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
        expected = math.degrees(math.atan((400 - 4) * s * c / (400 * c * c + 4 * s * s)))
        assert found == pytest.approx(expected, abs=0.2)  # drawn on a grid of an eighth of a pixel
    assert strokes(bar(2, 20, 0).flip(3)).slant.abs().item() < 1e-3


def test_moving_a_character_changes_nothing_and_mirroring_turns_its_slant():
    image = bar(3, 14, 20)
    found = torch.stack(strokes(image))
    torch.testing.assert_close(torch.stack(strokes(image.roll((3, -4), (2, 3)))), found)
    mirrored = strokes(image.flip(3))
    torch.testing.assert_close(mirrored.slant, -found[0])
    torch.testing.assert_close(mirrored.thickness, found[1])


def test_gradients_reach_the_images():
    rng = torch.Generator().manual_seed(0)
    image = (torch.rand(2, 1, 5, 6, generator=rng, dtype=torch.float64) * 1.6 - 0.8).requires_grad_()
    for attribute in range(3):
        assert torch.autograd.gradcheck(lambda x, a=attribute: strokes(x)[a], image)


def test_no_ink_has_no_attributes_and_values_beyond_the_range_are_cut_off():
    blank = strokes(torch.full((2, 1, 8, 8), -1.0))
    assert all(value.isnan().all() for value in blank)
    image = bar(3, 14, 20)
    beyond = torch.where(image > 0.999, image + 0.5, torch.where(image < -0.999, image - 0.5, image))
    torch.testing.assert_close(torch.stack(strokes(beyond)), torch.stack(strokes(image)), rtol=0, atol=1e-2)
    assert strokes(image.bfloat16()).slant.dtype == torch.float32


@pytest.mark.parametrize(
    "images",
    [torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), torch.zeros(1, 1, 8, 8, dtype=torch.uint8)],
    ids=["colour", "no channel", "bytes"],
)
def test_other_shapes_are_refused(images):
    with pytest.raises(ValueError, match=r"images must be \(N, 1, H, W\) floating point, got"):
        strokes(images)


def test_the_classes_differ_as_one_expects():
    """Ones are narrow and short of ink around a centre, zeros are wide rings: the largest size of all."""
    data = mnist("test")
    size = strokes(data.images).size
    means = np.array([size[data.labels == digit].mean().item() for digit in range(10)])
    assert means.argmin() == 1
    assert means.argmax() == 0
