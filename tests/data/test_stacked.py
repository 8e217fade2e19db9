"""Stacked MNIST: every channel is a digit of the split, chosen by the seed, with the label of its place."""

import pytest
import scipy.stats
import torch

from ganlib.data import mnist, stacked_mnist


@pytest.fixture(scope="module")
def stacked():
    return stacked_mnist(1500, seed=3, split="test", size=28)


def test_each_channel_is_a_digit_of_the_split(stacked):
    """Found again by its bytes, whose labels make the number of the mode."""
    images, labels = mnist("test", size=28)
    known = {image.numpy().tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    assert stacked.images.shape == (1500, 3, 28, 28) and stacked.labels.shape == (1500,)
    assert stacked.images.dtype == torch.float32 and stacked.labels.dtype == torch.int64
    for image, label in zip(stacked.images[:300], stacked.labels[:300].tolist(), strict=True):
        a, b, c = (known[channel.numpy().tobytes()] for channel in image)
        assert label == 100 * a + 10 * b + c


def test_channels_are_independent_and_modes_even(stacked):
    places = [stacked.labels // 100, stacked.labels // 10 % 10, stacked.labels % 10]
    expected = 1500 * torch.bincount(mnist("test").labels).double() / 10_000
    for first, second in ((0, 1), (1, 2), (0, 2)):
        table = torch.bincount(10 * places[first] + places[second], minlength=100).view(10, 10)
        # fixed seed: one such p-value in a thousand would be below
        assert scipy.stats.chi2_contingency(table.numpy()).pvalue > 1e-3
    for place in places:
        assert scipy.stats.chisquare(torch.bincount(place, minlength=10), expected).pvalue > 1e-3
    # of 1,000 equally likely modes 1,500 draws hit 1000 (1 - e^-1.5) = 777; unevenness costs a few
    assert 730 < len(stacked.labels.unique()) < 810


def test_padded_by_default():
    small, large = stacked_mnist(20, size=28), stacked_mnist(20)
    assert large.images.shape == (20, 3, 32, 32)
    assert torch.equal(large.images[:, :, 2:-2, 2:-2], small.images) and (large.images[:, :, :2] == -1).all()


def test_the_seed_alone_decides():
    state = torch.get_rng_state()
    one, same, other = (stacked_mnist(50, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.images, same.images) and torch.equal(one.labels, same.labels)
    assert not torch.equal(one.labels, other.labels)
    assert torch.equal(torch.get_rng_state(), state)


def test_bad_arguments():
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        stacked_mnist(0)
    with pytest.raises(ValueError, match='split must be "train" or "test"'):
        stacked_mnist(5, split="valid")
    with pytest.raises(ValueError, match="size must be 28 or 32, got 64"):
        stacked_mnist(5, size=64)
