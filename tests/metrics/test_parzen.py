"""Parzen windows against sklearn's kernel density and scipy."""

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from sklearn.neighbors import KernelDensity

from ganlib.metrics import features, parzen_log_density, parzen_log_likelihood, parzen_sigma


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("dimension", "sigma"), [(1, 0.3), (2, 1.0), (5, 0.5)])
def test_equals_sklearns_kernel_density(dimension, sigma):
    samples, points = normal(120, dimension), normal(50, dimension, seed=1)
    expected = KernelDensity(bandwidth=sigma, rtol=1e-12).fit(samples.numpy()).score_samples(points.numpy())
    ours = parzen_log_density(samples, points, sigma)
    np.testing.assert_allclose(ours, expected, rtol=1e-10)  # float64; rounding of |x|^2 over 2 sigma^2


def test_equals_scipy_in_the_dimension_of_digits():
    """Where sklearn's tree, which stops once its bounds are close, returns nonsense."""
    samples, points = normal(120, 784), normal(50, 784, seed=1)
    kernels = scipy.stats.norm(samples.numpy(), 0.2).logpdf(points.numpy()[:, None]).sum(2)
    expected = scipy.special.logsumexp(kernels, axis=1) - np.log(120)
    np.testing.assert_allclose(parzen_log_density(samples, points, 0.2), expected, rtol=1e-12)


def test_one_sample_is_a_gaussian():
    sample, points = normal(1, 5), normal(20, 5, seed=1)
    expected = scipy.stats.multivariate_normal(sample[0].numpy(), 0.7**2 * np.eye(5)).logpdf(points.numpy())
    np.testing.assert_allclose(parzen_log_density(sample, points, 0.7), expected, rtol=1e-12)


def test_it_is_a_density():
    """It integrates to 1 over the line."""
    grid = torch.linspace(-12, 12, 4801, dtype=torch.float64)[:, None]
    density = parzen_log_density(normal(30, 1), grid, 0.4).exp()
    # the trapezoidal rule is exact for Gaussians this smooth
    assert torch.trapezoid(density, grid[:, 0]).item() == pytest.approx(1, abs=1e-12)


def test_far_points_do_not_underflow():
    """1,000 sigmas away every Gaussian is 0 in float64, its logarithm is not."""
    value = parzen_log_density(torch.zeros(3, 2), torch.tensor([[1000.0, 0.0]]), 1.0).item()
    assert value == pytest.approx(-(1000**2) / 2 - np.log(2 * np.pi), rel=1e-12)


def test_blocks_do_not_matter(monkeypatch):
    samples, points = normal(60, 4), normal(40, 4, seed=1)
    whole = parzen_log_density(samples, points, 0.5)
    for block in (1, 300):
        monkeypatch.setattr(features, "BLOCK", block)
        torch.testing.assert_close(parzen_log_density(samples, points, 0.5), whole, rtol=1e-12, atol=1e-12)


def test_images_are_flattened():
    samples, points = normal(30, 1, 4, 5).float(), normal(8, 1, 4, 5, seed=1).float()
    flat = parzen_log_density(samples.flatten(1), points.flatten(1), 0.5)
    assert torch.equal(parzen_log_density(samples, points, 0.5), flat) and flat.dtype == torch.float64


def test_mean_and_standard_error():
    samples, points = normal(120, 3), normal(70, 3, seed=1)
    scores = KernelDensity(bandwidth=0.5, rtol=1e-12).fit(samples.numpy()).score_samples(points.numpy())
    found = parzen_log_likelihood(samples, points, 0.5)
    assert found.mean == pytest.approx(scores.mean(), rel=1e-10)
    assert found.error == pytest.approx(scipy.stats.sem(scores, ddof=0), rel=1e-10)


def test_sigma_is_the_likeliest_on_the_validation_set():
    samples, validation = normal(200, 3), normal(80, 3, seed=1)
    sigmas = [0.05, 0.2, 0.4, 0.6, 1.0, 2.0]
    scores = [
        KernelDensity(bandwidth=s, rtol=1e-12).fit(samples.numpy()).score(validation.numpy()) for s in sigmas
    ]
    best = sigmas[int(np.argmax(scores))]
    assert parzen_sigma(samples, validation, sigmas) == best and best not in (0.05, 2.0)


def test_sigma_of_blurred_centres_is_found():
    """Points that are a few centres plus noise of width 0.3: that is the likeliest kernel."""
    centres = 20 * normal(10, 50)
    points = centres.repeat(30, 1) + 0.3 * normal(300, 50, seed=1)
    assert parzen_sigma(centres, points, [0.2, 0.25, 0.3, 0.36, 0.43]) == 0.3


def test_the_default_candidates():
    """Ten from 0.1 to 1, evenly in the logarithm: the third is 10^(-7/9)."""
    centres = 20 * normal(10, 50)
    points = centres.repeat(30, 1) + 0.17 * normal(300, 50, seed=1)
    assert parzen_sigma(centres, points) == pytest.approx(10 ** (-7 / 9), rel=1e-6)


@pytest.mark.parametrize(
    ("samples", "points", "sigma", "message"),
    [
        (normal(9, 3), normal(9, 4), 1.0, "points must be as wide as samples, 3, got 4"),
        (normal(9, 3), normal(9, 3), 0.0, "sigma must be positive and finite, got 0.0"),
        (normal(9, 3), normal(9, 3), float("nan"), "sigma must be positive and finite, got nan"),
        (normal(0, 3), normal(9, 3), 1.0, "samples must be real"),
        (normal(9, 3), torch.full((9, 3), torch.nan), 1.0, "points must be finite"),
    ],
)
def test_bad_arguments(samples, points, sigma, message):
    with pytest.raises(ValueError, match=message):
        parzen_log_likelihood(samples, points, sigma)


def test_no_candidates():
    with pytest.raises(ValueError, match="got none"):
        parzen_sigma(normal(9, 3), normal(9, 3), [])
