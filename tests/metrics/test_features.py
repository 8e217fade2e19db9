"""What the metrics on features share: features of images, checked matrices, distances in blocks."""

import pytest
import torch
from scipy.spatial.distance import cdist
from torch import nn

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures, Estimate, extract_features, features


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distances_are_scipys_however_they_are_cut(monkeypatch):
    x, y = normal(70, 9) + 50, 2 * normal(40, 9, seed=1) + 50  # far from 0, where a plain |x|^2 would cancel
    for block, count in ((2**22, 1), (400, 7), (1, 70)):
        monkeypatch.setattr(features, "BLOCK", block)
        parts = list(features.squared_distances(x, y))
        assert len(parts) == count
        # rounding of products of size 100 in float64
        torch.testing.assert_close(
            torch.cat(parts), torch.from_numpy(cdist(x, y, "sqeuclidean")), rtol=1e-12, atol=1e-12
        )


def test_equal_rows_are_at_distance_zero_to_rounding():
    x = normal(50, 784)
    (block,) = features.squared_distances(x, x.flip(0))
    assert block.min() >= 0 and block.flip(1).diag().max() < 1e-11  # 784 * 1e-16 times a few


def test_features_of_all_images_whatever_the_batches():
    images, classifier = mnist("test").images[:70], ClassifierFeatures()
    whole = classifier(images)
    # the batch size changes the order of float32 sums, not more
    for got in (extract_features(images, classifier, 30), extract_features(images.split(20), classifier)):
        torch.testing.assert_close(got, whole, rtol=1e-4, atol=1e-4)
        assert not got.requires_grad


def test_no_graph_is_kept():
    assert not extract_features(torch.zeros(2, 3), nn.Linear(3, 4).eval()).requires_grad


def test_bad_images_and_batches():
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        extract_features(torch.zeros(2, 3), nn.Flatten().eval(), 0)
    with pytest.raises(ValueError, match=r"features.eval\(\)"):
        extract_features(torch.zeros(2, 3), nn.Flatten())
    for nothing in (torch.zeros(0, 3), []):
        with pytest.raises(ValueError, match="images must not be empty"):
            extract_features(nothing, nn.Flatten().eval())


def test_matrices_flatten_and_widen():
    a, b = features.matrices(a=torch.ones(2, 1, 3, 4).half(), b=torch.ones(5, 12, requires_grad=True))
    assert a.shape == (2, 12) and b.shape == (5, 12) and a.dtype == b.dtype == torch.float64
    assert not b.requires_grad


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"a": torch.zeros(3)}, r"a must be real and \(N, d\), got torch.float32 \(3,\)"),
        ({"a": torch.zeros(0, 3)}, r"got torch.float32 \(0, 3\)"),
        ({"a": torch.zeros(3, 2, dtype=torch.int64)}, "got torch.int64"),
        ({"a": torch.zeros(3, 2), "b": torch.full((3, 2), torch.inf)}, "b must be finite, got NaN or inf"),
        ({"a": torch.zeros(3, 2), "b": torch.zeros(3, 4)}, "b must be as wide as a, 2, got 4"),
    ],
)
def test_bad_matrices(named, message):
    with pytest.raises(ValueError, match=message):
        features.matrices(**named)


def test_an_estimate_has_the_population_spread():
    # of 1, 2, 6: mean 3, squared deviations 4 + 1 + 9 over 3
    estimate = Estimate.over(torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64))
    assert estimate.mean == 3 and estimate.std == pytest.approx((14 / 3) ** 0.5, rel=1e-14)
    assert Estimate.over(torch.tensor([2.0])) == Estimate(2.0, 0.0)
