"""KID against torchmetrics, a double loop and closed forms; its estimate is unbiased."""

import numpy as np
import pytest
import torch
from torchmetrics.image.kid import poly_mmd

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures, extract_features, kernel, kernel_distance, kid


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def double_loop(x: torch.Tensor, y: torch.Tensor) -> float:
    """The sums as they stand in the paper."""

    def mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        values = [
            (p @ q / len(p) + 1) ** 3
            for i, p in enumerate(a)
            for j, q in enumerate(b)
            if not (same and i == j)
        ]
        return sum(values) / len(values)

    x, y = x.numpy(), y.numpy()
    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize(("n", "m"), [(20, 20), (13, 31)])
def test_equals_the_double_loop(n, m):
    x, y = normal(n, 6), 1.5 * normal(m, 6, seed=1) + 0.3
    assert kernel_distance(x, y) == pytest.approx(double_loop(x, y), rel=1e-11)  # float64 sums of 1,000


def test_equals_torchmetrics():
    x, y = normal(300, 64), normal(300, 64, seed=1) + 0.2
    assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), rel=1e-10)  # float64 both


def test_two_points():
    """All of one side equal a, all of the other b: k(a, a) + k(b, b) - 2 k(a, b)."""
    x, y = torch.tensor([[1.0, 3.0]]).repeat(4, 1), torch.tensor([[2.0, 0.0]]).repeat(7, 1)
    assert kernel_distance(x, y) == pytest.approx((10 / 2 + 1) ** 3 + (4 / 2 + 1) ** 3 - 2 * (2 / 2 + 1) ** 3)


def test_blocks_do_not_matter(monkeypatch):
    x, y = normal(50, 8), normal(33, 8, seed=1) + 0.5
    whole = kernel_distance(x, y)
    for block in (1, 200):
        monkeypatch.setattr(kernel, "BLOCK", block)
        assert kernel_distance(x, y) == pytest.approx(whole, rel=1e-12)  # the order of sums


def test_unbiased():
    """Over many small pairs of sets of one distribution the mean is 0 within its error."""
    values = [kernel_distance(*normal(20, 5, seed=i).split(10)) for i in range(600)]
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 3 * error  # fixed seeds
    # With k(x, x) in the sums the mean would be 2 (E k(x, x) - E k(x, y)) / 10 = 2 (10.72 - 1.6) / 10 = 1.8.
    assert error < 0.1
    assert min(values) < 0


def test_the_expectation_for_two_gaussians():
    """In one dimension E k = sum of binomials times products of moments, known for Gaussians."""
    m, s = 0.7, 1.3
    moments_x = np.array([1, 0, 1, 0])  # E x^r of N(0, 1)
    moments_y = np.array([1, m, m**2 + s**2, m**3 + 3 * m * s**2])
    expected = (np.array([1, 3, 3, 1]) * (moments_x - moments_y) ** 2).sum()
    pairs = ((normal(40, 1, seed=i), m + s * normal(30, 1, seed=9999 + i)) for i in range(800))
    values = [kernel_distance(*pair) for pair in pairs]
    error = np.std(values) / np.sqrt(len(values))
    assert error < expected / 15  # sharp enough to mean something
    assert np.mean(values) == pytest.approx(expected, abs=3 * error)


# --- on subsets ---------------------------------------------------------------------------------------------


def test_a_subset_of_all_is_the_distance_itself():
    x, y = normal(60, 8), normal(60, 8, seed=1) + 0.5
    whole = kid(x, y, subsets=3, size=60)
    assert whole.mean == pytest.approx(kernel_distance(x, y), rel=1e-12)
    assert whole.std < 1e-12 * whole.mean


def test_subsets_have_the_right_mean_and_spread():
    x, y = normal(4000, 8), normal(4000, 8, seed=1) + 0.3
    estimate = kid(x, y, subsets=200, size=50)
    pairs = ((normal(50, 8, seed=2 * i), normal(50, 8, seed=2 * i + 1) + 0.3) for i in range(200))
    fresh = [kernel_distance(*pair) for pair in pairs]
    # 200 draws: the error of the mean is a 14th of the spread, that of the spread about a 15th of itself
    assert estimate.mean == pytest.approx(kernel_distance(x, y), abs=4 * estimate.std / 14)
    assert estimate.std == pytest.approx(np.std(fresh), rel=0.3)


def test_the_seed_alone_decides():
    x, y = normal(80, 4), normal(70, 4, seed=1)
    state = torch.get_rng_state()
    one, same, other = (kid(x, y, subsets=5, size=20, seed=seed) for seed in (0, 0, 1))
    assert one == same and one != other
    assert torch.equal(torch.get_rng_state(), state)


def test_on_digits():
    features = ClassifierFeatures()
    images = mnist("test").images[:2000]
    one, two = extract_features(images, features).split(1000)
    noise = normal(1000, 1, 32, 32).float()
    floor, noisy = (
        kid(one, other, subsets=10, size=500)
        for other in (two, extract_features((images[1000:] + 0.3 * noise).clamp(-1, 1), features))
    )
    assert abs(floor.mean) < 5 * floor.std  # two halves of one set
    assert noisy.mean > 20 * floor.std


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (normal(9, 3), normal(9, 4), {}, "generated must be as wide as real, 3, got 4"),
        (normal(9, 3), normal(1, 3), {}, "generated must have at least 2 rows, got 1"),
        (normal(9, 3), torch.full((9, 3), torch.nan), {}, "generated must be finite"),
        (normal(9, 3), normal(8, 3), {"size": 9}, "size must be in 2..8, the smaller set, got 9"),
        (normal(9, 3), normal(8, 3), {"size": 1}, "size must be in 2..8"),
        (normal(9, 3), normal(8, 3), {"size": 3, "subsets": 0}, "subsets must be at least 1, got 0"),
    ],
)
def test_bad_arguments(x, y, options, message):
    with pytest.raises(ValueError, match=message):
        kid(x, y, **options)
