"""Inception score against torchmetrics, the published formula in numpy, and closed forms."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn
from torchmetrics.image.inception import InceptionScore

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures, inception_score


def logits(n: int = 240, classes: int = 10, seed: int = 0) -> torch.Tensor:
    return 3 * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def published(values: torch.Tensor, splits: int) -> tuple[float, float]:
    """The formula of Salimans et al. on probabilities, part by part."""
    p = scipy.special.softmax(values.double().numpy(), axis=1)
    scores = []
    for part in (p[s::splits] for s in range(splits)):
        kl = part * (np.log(part) - np.log(part.mean(0, keepdims=True)))
        scores.append(np.exp(kl.sum(1).mean()))
    return float(np.mean(scores)), float(np.std(scores))


@pytest.mark.parametrize("splits", [1, 7, 10])
def test_equals_the_published_formula(splits):
    values = logits()
    score = inception_score(values, splits)
    assert (score.mean, score.std) == pytest.approx(published(values, splits), rel=1e-12)  # float64 both


class Flat(nn.Module):
    """torchmetrics wants the features to be a module on images."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float() / 32


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore` will save", "ignore:std")
def test_equals_torchmetrics():
    images = torch.randint(256, (300, 1, 2, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    theirs = InceptionScore(feature=Flat(), splits=1)
    theirs.update(images)
    # theirs sums in float32; one part, for they cut parts from a random order
    expected = theirs.compute()[0].item()
    assert inception_score(Flat()(images), 1).mean == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_extremes(classes):
    same = logits(1, classes).expand(50, -1)
    assert inception_score(same, 5).mean == pytest.approx(1, abs=1e-12)
    # sure of one class each, all classes equally: log 1 and log 0 are the logits
    sure = torch.eye(classes).log().repeat(3, 1)
    assert inception_score(sure, 1).mean == pytest.approx(classes, rel=1e-12)
    # one class only, and surely: no diversity
    assert inception_score(sure[:1].expand(20, -1), 1).mean == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("right", [0.5, 0.9])
def test_classes_that_are_told_apart_with_some_doubt(right):
    p = torch.full((8, 8), (1 - right) / 7, dtype=torch.float64).fill_diagonal_(right)
    # the marginal is uniform, the mean KL is log K less the entropy of a row
    expected = math.exp(math.log(8) - scipy.stats.entropy(p[0].numpy()))
    assert inception_score(p.log(), 1).mean == pytest.approx(expected, rel=1e-12)


def test_huge_logits_stay_finite():
    values = 1e4 * torch.eye(10).repeat(2, 1)
    assert inception_score(values, 1).mean == pytest.approx(10, rel=1e-12)


@pytest.mark.parametrize("sizes", [[240], [1] * 240, [100, 0, 133, 7]])
def test_a_stream_is_the_whole(sizes):
    values = logits()
    whole, stream = inception_score(values, 7), inception_score(iter(values.split(sizes)), 7)
    # the order of float64 sums
    assert (stream.mean, stream.std) == pytest.approx((whole.mean, whole.std), rel=1e-12)


def test_on_digits():
    classifier = ClassifierFeatures()
    images = mnist("test").images[:1000]
    score = inception_score(classifier.logits(images), 1).mean
    assert 9 < score < 10  # ten classes, 99 % of them told surely
    # each digit perfect, three of them missing: at most 7
    labels = mnist("test").labels[:1000]
    dropped = inception_score(classifier.logits(images[labels < 7]), 1).mean
    assert 6 < dropped < 7


@pytest.mark.parametrize(
    ("values", "splits", "message"),
    [
        (torch.zeros(4), 1, r"\(N, K\) with K >= 2, got torch.float32 \(4,\)"),
        (torch.zeros(4, 1), 1, r"got torch.float32 \(4, 1\)"),
        (torch.zeros(4, 3, dtype=torch.int64), 1, "got torch.int64"),
        (torch.full((4, 3), torch.nan), 1, "must not be NaN"),
        (torch.tensor([[0, torch.inf]]), 1, r"\+inf"),
        (torch.full((4, 3), -torch.inf), 1, "-inf for all classes"),
        (logits(30).softmax(1), 1, "must not be probabilities"),
        (logits(30), 0, "splits must be at least 1, got 0"),
        (logits(5), 10, "at least one row per split, got 5 for 10"),
        ([], 1, "at least one row per split, got 0 for 1"),
    ],
)
def test_bad_arguments(values, splits, message):
    with pytest.raises(ValueError, match=message):
        inception_score(values, splits)
