"""Mode counting: closed forms, a double loop, scipy's entropy, and MNIST."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from ganlib.data import mnist, stacked_mnist
from ganlib.data.toy import ring
from ganlib.metrics import class_coverage, mixture_modes, stacked_labels, stacked_modes

# --- mixtures -----------------------------------------------------------------------------------------------


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_perfect_sampler_of_a_ring():
    target = ring(8, radius=1, std=0.01)
    modes = mixture_modes(target.sample(20_000, rng()), target.centres, 0.01)
    assert modes.recovered == 8
    # P(|z| <= 3) in the plane; three standard errors of 20,000 draws
    p = 1 - math.exp(-9 / 2)
    assert modes.quality == pytest.approx(p, abs=3 * math.sqrt(p * (1 - p) / 20_000))


@pytest.mark.parametrize("dimension", [1, 2, 5])
def test_quality_is_the_chi_distribution(dimension):
    samples = 0.2 * torch.randn(20_000, dimension, generator=rng())
    for radius in (1.0, 3.0):
        p = scipy.stats.chi(dimension).cdf(radius)
        found = mixture_modes(samples, torch.zeros(1, dimension), 0.2, radius)
        assert found.quality == pytest.approx(p, abs=3.5 * math.sqrt(p * (1 - p) / 20_000))


def test_equals_a_double_loop():
    samples, centres = torch.randn(80, 2, generator=rng()), torch.randn(12, 2, generator=rng(1))
    near = [[math.dist(s, c) <= 3 * 0.1 for c in centres.tolist()] for s in samples.tolist()]
    found = mixture_modes(samples, centres, 0.1)
    assert found.recovered == sum(map(any, zip(*near, strict=True)))
    assert 0 < found.recovered < 12
    assert found.quality == pytest.approx(sum(map(any, near)) / 80, abs=1e-15)


def test_dropped_modes_and_strays():
    target = ring(8, radius=1, std=0.01)
    three = target.centres[:3].repeat(10, 1)
    strays = torch.zeros(20, 2, dtype=torch.float64)  # the middle of the ring
    found = mixture_modes(torch.cat([three, strays]), target.centres, 0.01)
    assert (found.recovered, found.quality) == (3, 0.6)
    assert mixture_modes(strays, target.centres, 0.01).recovered == 0


def test_the_border_is_three_standard_deviations():
    samples = torch.tensor([[2.999], [-3.001]])
    assert mixture_modes(samples, torch.zeros(1, 1), 1.0).quality == 0.5
    assert mixture_modes(samples, torch.zeros(1, 1), 1.0, radius=2.0).recovered == 0
    points = torch.tensor([[0.0], [1e-6]])
    assert mixture_modes(points, points[:1], 0.0).quality == 0.5  # modes without any width


@pytest.mark.parametrize(
    ("samples", "std", "radius", "message"),
    [
        (torch.zeros(3, 2), -0.1, 3.0, "std must be at least 0 and radius positive, got -0.1 and 3.0"),
        (torch.zeros(3, 2), 0.1, -1.0, "got 0.1 and -1.0"),
        (torch.zeros(3, 3), 0.1, 3.0, "centres must be as wide as samples, 3, got 2"),
        (torch.full((3, 2), torch.nan), 0.1, 3.0, "samples must be finite"),
    ],
)
def test_bad_mixtures(samples, std, radius, message):
    with pytest.raises(ValueError, match=message):
        mixture_modes(samples, torch.zeros(4, 2), std, radius)


# --- classes ------------------------------------------------------------------------------------------------

UNIFORM = torch.full((10,), 0.1, dtype=torch.float64)


@pytest.mark.parametrize("present", [1, 3, 10])
def test_equal_shares_of_some_classes(present):
    found = class_coverage(torch.arange(60 * present) % present, UNIFORM)
    assert found.covered == present
    assert found.kl == pytest.approx(math.log(10 / present), abs=1e-14)  # rounding of ten logarithms


def test_equals_scipys_entropy_with_the_generated_mix_first():
    labels = torch.randint(7, (300,), generator=rng()).square() // 7
    reference = torch.rand(8, generator=rng(1), dtype=torch.float64) + 0.1
    counts = np.bincount(labels, minlength=8)
    assert (counts == 0).any()  # the other direction would be infinite
    found = class_coverage(labels, reference)
    assert found.kl == pytest.approx(scipy.stats.entropy(counts, reference.numpy()), rel=1e-12)
    assert found.covered == (counts > 0).sum()
    assert class_coverage(labels, 5 * reference).kl == pytest.approx(found.kl, rel=1e-12)  # counts will do


def test_chance():
    """Of a perfect sampler 2 N KL is chi-square with K - 1 degrees of freedom."""
    draws = torch.randint(10, (400, 2000), generator=rng())
    mean = np.mean([class_coverage(row, UNIFORM).kl for row in draws])
    # mean 9 / 4000; its standard error is sqrt(18) / 4000 / 20
    assert mean == pytest.approx(9 / 4000, abs=3 * 18**0.5 / 4000 / 20)


def test_a_split_against_itself_and_the_other():
    train, test = mnist("train").labels, mnist("test").labels
    shares = torch.bincount(train)
    assert class_coverage(train, shares).kl == pytest.approx(0, abs=1e-15)
    assert 0 < class_coverage(test, shares).kl < 0.002  # chance alone is 9 / 20,000


@pytest.mark.parametrize(
    ("labels", "reference", "message"),
    [
        (torch.tensor([0, 10]), UNIFORM, r"in 0..9, got 0..10"),
        (torch.tensor([-1, 3]), UNIFORM, r"in 0..9, got -1..3"),
        (torch.zeros(3), UNIFORM, "got torch.float32"),
        (torch.zeros(0, dtype=torch.long), UNIFORM, "non-empty"),
        (torch.tensor([0]), torch.tensor([1.0, 0.0]), "reference must be a vector of positive shares"),
        (torch.tensor([0]), torch.tensor([1.0, torch.nan]), "reference must be a vector of positive shares"),
        (torch.tensor([0]), torch.ones(2, 2), r"got \(2, 2\)"),
    ],
)
def test_bad_labels(labels, reference, message):
    with pytest.raises(ValueError, match=message):
        class_coverage(labels, reference)


# --- stacked digits -----------------------------------------------------------------------------------------


def test_stacked_digits_are_read_channel_by_channel():
    images, labels = stacked_mnist(700, seed=1, split="test")
    found = stacked_labels(images)
    # three digits at 99.4 % each make 98.2 %; the error of 700 draws is 0.5 %
    assert (found == labels).double().mean() > 0.965
    coverage = stacked_modes(images)
    assert coverage.covered == len(found.unique())
    counts = np.bincount(found, minlength=1000)
    assert coverage.kl == pytest.approx(scipy.stats.entropy(counts, np.ones(1000)), rel=1e-12)


def test_one_grey_digit_repeated_has_ten_modes():
    images = mnist("test").images[:200].expand(-1, 3, -1, -1)
    coverage = stacked_modes(images)
    assert coverage.covered == 10  # 0, 111, ..., 999
    assert coverage.kl > math.log(1000 / 10)


def test_the_uneven_digits_cost_what_is_documented():
    shares = torch.bincount(mnist("train").labels).double() / 60_000
    assert 3 * scipy.stats.entropy(shares, [0.1] * 10) == pytest.approx(
        0.004, abs=5e-4
    )  # one digit is quoted


def test_bad_stacks():
    for shape in ((4, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=r"images must be \(N, 3, H, W\), got"):
            stacked_modes(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"got torch\.uint8"):
        stacked_modes(torch.zeros(4, 3, 32, 32, dtype=torch.uint8))
