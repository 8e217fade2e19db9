"""Class balance: closed forms."""

import math

import pytest
import torch

from ganlib.data import mnist
from ganlib.metrics import class_balance


@pytest.mark.parametrize("present", [1, 3, 10])
def test_equal_shares_of_some_classes(present):
    labels = torch.arange(60 * present) % present
    # 1 - m/K, to the rounding of ten additions
    assert class_balance(labels) == pytest.approx(1 - present / 10, abs=1e-15)


def test_other_numbers_of_classes_and_integer_types():
    assert class_balance(torch.tensor([0, 0, 0, 1]), classes=2) == 0.25
    assert class_balance(torch.tensor([0, 0, 0, 1], dtype=torch.uint8), classes=2) == 0.25
    assert class_balance(torch.tensor([5]), classes=8) == 1 - 1 / 8


def test_a_fair_sampler_is_at_chance():
    n, k = 10_000, 10
    draws = torch.randint(k, (200, n), generator=torch.Generator().manual_seed(0))
    mean = sum(class_balance(row) for row in draws) / len(draws)
    # E|N(0, s)| = s sqrt(2 / pi) with s^2 = (1/K)(1 - 1/K)/n; its standard error over 200 draws is below 2 %
    assert mean == pytest.approx(math.sqrt((k - 1) / (2 * math.pi * n)), rel=0.06)


@pytest.mark.parametrize(("split", "value"), [("train", 0.019), ("test", 0.021)])
def test_mnist_itself(split, value):
    assert class_balance(mnist(split).labels) == pytest.approx(value, abs=5e-4)  # three decimals are quoted


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([], dtype=torch.long), "non-empty vector of integers"),
        (torch.zeros(3), "got torch.float32"),
        (torch.zeros(3, 1, dtype=torch.long), r"got torch.int64 \(3, 1\)"),
        (torch.tensor([0, 10]), r"in 0..9, got 0..10"),
        (torch.tensor([-1, 3]), r"in 0..9, got -1..3"),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        class_balance(labels)
