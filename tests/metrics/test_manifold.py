"""Precision, recall, density and coverage against sklearn's neighbours, and expectations from the paper."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors, kneighbors_graph

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures, ManifoldScores, extract_features, features, manifold_scores


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def published(real: torch.Tensor, generated: torch.Tensor, k: int) -> ManifoldScores:
    """The formulas of the two papers, ball by ball, on sklearn's neighbours."""
    x, y = real.numpy(), generated.numpy()

    def radii(points: np.ndarray) -> np.ndarray:
        return NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors()[0][:, -1]

    distances = np.linalg.norm(x[:, None] - y[None], axis=2)
    in_real, in_generated = distances <= radii(x)[:, None], distances <= radii(y)[None]
    return ManifoldScores(
        in_real.any(0).mean(), in_generated.any(1).mean(), in_real.sum() / (k * len(y)), in_real.any(1).mean()
    )


def close(ours: ManifoldScores, theirs: ManifoldScores) -> bool:
    return vars(ours) == pytest.approx(vars(theirs), abs=1e-12)  # counts: equal but for one division


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize(("n", "m", "shift"), [(120, 120, 0.5), (150, 60, 1.0), (60, 200, 1.2)])
def test_equals_the_published_formulas(k, n, m, shift):
    x, y = normal(n, 4), 0.8 * normal(m, 4, seed=1) + shift
    scores = manifold_scores(x, y, k)
    assert close(scores, published(x, y, k))
    assert 0 < scores.recall < 1 and 0 < scores.coverage < 1  # no test of extremes only


def test_blocks_do_not_matter(monkeypatch):
    x, y = normal(90, 4), 0.8 * normal(70, 4, seed=1) + 0.5
    whole = manifold_scores(x, y)
    for block in (1, 500):
        monkeypatch.setattr(features, "BLOCK", block)
        assert manifold_scores(x, y) == whole


def test_copies():
    """Each copy lies in the ball of its original and of those whose k neighbours the original is among."""
    x, k = normal(200, 6) + 30, 5
    everything = manifold_scores(x, x, k)
    assert vars(everything) == pytest.approx(
        {"precision": 1, "recall": 1, "density": (k + 1) / k, "coverage": 1}, abs=1e-12
    )
    # of a part, in another order, so that rounding differs between the two sides
    part = torch.arange(199, -1, -3)
    graph = kneighbors_graph(x.numpy(), k).toarray() + np.eye(200)
    scores = manifold_scores(x, x[part], k)
    assert scores.precision == 1
    assert scores.density == pytest.approx(graph[:, part].sum() / (k * len(part)), abs=1e-12)
    assert scores.coverage == pytest.approx(graph[:, part].any(1).mean(), abs=1e-12)


def test_far_apart():
    assert manifold_scores(normal(50, 3), normal(60, 3, seed=1) + 100) == ManifoldScores(0, 0, 0, 0)


@pytest.mark.parametrize(("n", "m", "k"), [(200, 200, 5), (300, 150, 3)])
def test_one_distribution(n, m, k):
    """Naeem et al., Lemmas 1 and 2: expectations that hold whatever the distribution."""
    runs = [manifold_scores(normal(n, 3, seed=2 * i), normal(m, 3, seed=2 * i + 1), k) for i in range(40)]
    coverage, density = (np.array([getattr(run, name) for run in runs]) for name in ("coverage", "density"))
    steps = np.arange(1, k + 1)
    expected = 1 - np.prod((n - steps) / (n + m - steps))
    # three standard errors of 40 runs, with fixed seeds
    assert coverage.mean() == pytest.approx(expected, abs=3 * coverage.std() / 40**0.5)
    assert density.mean() == pytest.approx(1, abs=3 * density.std() / 40**0.5)
    assert 3 * coverage.std() / 40**0.5 < 0.02  # a k off by one changes it by 0.014 and 0.15


def test_an_outlier_fools_precision_but_not_density():
    x, y = normal(100, 2), normal(100, 2, seed=1) + 20
    outlier = torch.tensor([[60.0, 60.0]], dtype=torch.float64)
    before, after = manifold_scores(x, y), manifold_scores(torch.cat([x, outlier]), y)
    assert (before.precision, after.precision) == (0, 1)
    assert after.density == pytest.approx(1 / 5)  # one ball of k
    assert after.coverage == pytest.approx(1 / 101)


def test_on_digits():
    classifier = ClassifierFeatures()
    images, labels = (t[:1600] for t in mnist("test"))
    embedded = extract_features(images, classifier)
    real, fresh = embedded[:800], embedded[800:]
    good = manifold_scores(real, fresh)
    dropped = manifold_scores(real, fresh[labels[800:] < 5])
    noise = (images[800:] + 0.7 * normal(800, 1, 32, 32).float()).clamp(-1, 1)
    noisy = manifold_scores(real, extract_features(noise, classifier))
    # half of the classes missing: faithful, not diverse; noise: unfaithful
    assert dropped.precision > good.precision - 0.1 and dropped.coverage < 0.6 * good.coverage
    assert dropped.recall < 0.7 * good.recall
    assert noisy.precision < good.precision - 0.2 and noisy.density < 0.5 * good.density


@pytest.mark.parametrize(
    ("x", "y", "k", "message"),
    [
        (normal(9, 3), normal(9, 4), 5, "generated must be as wide as real, 3, got 4"),
        (normal(9, 3), normal(5, 3), 5, r"k must be in 1..4, below the smaller set, got 5"),
        (normal(9, 3), normal(9, 3), 0, r"k must be in 1..8, below the smaller set, got 0"),
        (normal(9, 3), torch.full((9, 3), torch.inf), 5, "generated must be finite"),
    ],
)
def test_bad_arguments(x, y, k, message):
    with pytest.raises(ValueError, match=message):
        manifold_scores(x, y, k)
