"""Nearest neighbours against sklearn, the data-copying statistic against scipy, and copied digits."""

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.neighbors import NearestNeighbors

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures, extract_features, features, memorisation, nearest


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_nearest_equals_sklearn(monkeypatch):
    samples, reference = normal(60, 7) + 20, normal(150, 7, seed=1) + 20
    distances, indices = NearestNeighbors(n_neighbors=1).fit(reference.numpy()).kneighbors(samples.numpy())
    for block in (2**22, 1000, 1):
        monkeypatch.setattr(features, "BLOCK", block)
        ours, where = nearest(samples, reference)
        np.testing.assert_allclose(ours, distances[:, 0], rtol=1e-10)  # float64 around the mean
        assert np.array_equal(where, indices[:, 0])


def test_images_are_compared_by_their_pixels():
    train = mnist("train").images[:300]
    distances, indices = nearest(train[[7, 250]], train)
    assert indices.tolist() == [7, 250] and distances.max() < 1e-5


def z_of(samples: torch.Tensor, train: torch.Tensor, heldout: torch.Tensor) -> float:
    """The statistic of Meehan et al. by scipy's U and sklearn's distances."""
    tree = NearestNeighbors(n_neighbors=1).fit(train.numpy())
    a, b = (tree.kneighbors(side.numpy())[0][:, 0] for side in (samples, heldout))
    u = scipy.stats.mannwhitneyu(a, b).statistic
    return (u - len(a) * len(b) / 2) / np.sqrt(len(a) * len(b) * (len(a) + len(b) + 1) / 12)


@pytest.mark.parametrize(("n", "m", "scale"), [(80, 80, 1.0), (50, 130, 0.7), (90, 40, 1.4)])
def test_z_equals_scipys(n, m, scale):
    samples, train, heldout = scale * normal(n, 4), normal(200, 4, seed=1), normal(m, 4, seed=2)
    found = memorisation(samples, train, heldout)
    assert found.z == pytest.approx(z_of(samples, train, heldout), rel=1e-10)  # counts and one root
    distances = [nearest(side, train)[0].median().item() for side in (samples, heldout)]
    assert found.ratio == distances[0] / distances[1]


def test_ties_count_one_half():
    train, heldout = torch.zeros(1, 1), torch.tensor([[1.0], [2.0], [3.0]])
    assert memorisation(torch.tensor([[2.0], [-2.0], [2.0]]), train, heldout).z == 0


def test_new_samples_of_the_same_distribution_are_near_a_standard_normal():
    runs = [
        memorisation(
            normal(60, 3, seed=3 * i), normal(100, 3, seed=3 * i + 1), normal(60, 3, seed=3 * i + 2)
        ).z
        for i in range(60)
    ]
    # distances to one training set are not independent, which widens z a little; three errors of 60 runs
    assert abs(np.mean(runs)) < 3 / 60**0.5 and 0.8 < np.std(runs) < 1.4


@pytest.fixture(scope="module")
def digits():
    """Training set, held-out digits and fresh ones, in pixels and in features."""
    train, test = mnist("train").images[:4000], mnist("test").images[:1600]
    pixels = [train, *test.split(800)]
    classifier = ClassifierFeatures()
    return {"pixels": pixels, "features": [extract_features(part, classifier) for part in pixels]}


@pytest.mark.parametrize("space", ["pixels", "features"])
def test_new_digits_and_copied_ones(digits, space):
    train, heldout, fresh = digits[space]
    new = memorisation(fresh, train, heldout)
    assert new.ratio == pytest.approx(1, abs=0.1) and abs(new.z) < 5  # two parts of one test set
    copied = memorisation(train[:800], train, heldout)
    assert copied.ratio < 1e-5 and copied.z < -30  # as far as U can go: -sqrt(3 * 800 / 2) = -34.6
    half = memorisation(torch.cat([train[:400], fresh[:400]]), train, heldout)
    assert half.z < -12  # half of the way to that


def test_copies_moved_by_a_pixel_are_seen_in_features(digits):
    moved = digits["pixels"][0][:800].roll(1, 3)
    in_pixels = memorisation(moved, digits["pixels"][0], digits["pixels"][1])
    embedded = extract_features(moved, ClassifierFeatures())
    in_features = memorisation(embedded, digits["features"][0], digits["features"][1])
    assert in_features.ratio < 0.8 < in_pixels.ratio
    assert in_features.z < -10


def test_bad_arguments():
    x = normal(20, 3)
    with pytest.raises(ValueError, match="heldout must not be copies of train"):
        memorisation(x, x, x[:5])
    with pytest.raises(ValueError, match="train must be as wide as samples, 3, got 4"):
        memorisation(x, normal(20, 4), x)
    with pytest.raises(ValueError, match="heldout must be finite"):
        memorisation(x, x, x * torch.inf)
    with pytest.raises(ValueError, match="reference must be as wide as samples, 3, got 4"):
        nearest(x, normal(20, 4))
