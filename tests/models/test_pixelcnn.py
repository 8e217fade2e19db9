"""PixelCNN: an exact density that sums to one, samples that follow it, and what they cost."""

import math
from itertools import product

import pytest
import torch
from scipy import stats
from torch import nn

from ganlib.data import to_floats
from ganlib.models.pixelcnn import (
    Autoregressive,
    PixelCNN,
    binarise,
    binarised_mnist,
    bits_per_dimension,
    flops,
    report,
    sampling_cost,
)
from ganlib.models.pixelrnn import PixelRNN
from ganlib.training import Budget


def lively(network: nn.Module) -> nn.Module:
    """Weights large enough that the factors are far from even."""
    torch.manual_seed(3)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.0, 0.6)
    return network


def small(kind: type[nn.Module], channels: int, levels: int, shape: tuple[int, int]) -> Autoregressive:
    network = lively(kind(channels, levels, 2 * channels, 1, 2 * channels))
    return Autoregressive(network, (channels, *shape), levels)


def everything(game: Autoregressive) -> torch.Tensor:
    """Every image there is, ``(levels ** n, C, H, W)``."""
    n = math.prod(game.shape)
    values = torch.tensor(list(product(range(game.levels), repeat=n)))
    return game.to_images(values.view(-1, *game.shape))


# The density


@pytest.mark.parametrize("kind", [PixelCNN, PixelRNN])
@pytest.mark.parametrize(("channels", "levels", "shape"), [(1, 2, (2, 2)), (1, 2, (3, 3)), (3, 3, (1, 2))])
def test_probabilities_sum_to_one(kind, channels, levels, shape):
    """Over all 16, 512 and 729 images. A network that peeks at what it predicts breaks this first."""
    game = small(kind, channels, levels, shape)
    with torch.no_grad():
        p = (-game.nats(everything(game))).double().exp()
    assert p.max() > 3 * p.mean(), "the model must have an opinion for the test to say anything"
    # Float32: 1e-7 for each of at most nine factors, of the order of ten nats.
    assert float(p.sum()) == pytest.approx(1, abs=2e-6)


def test_nats_are_the_sum_of_categorical_log_probabilities():
    game = small(PixelCNN, 3, 4, (4, 5))
    images = torch.rand(6, 3, 4, 5, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = game.quantise(images)
    logits = game.model(game.to_images(values)).movedim(2, -1)
    expected = -torch.distributions.Categorical(logits=logits).log_prob(values).sum((1, 2, 3))
    # Sixty terms of order one in float32.
    torch.testing.assert_close(game.nats(images), expected, rtol=1e-5, atol=0)
    (term,) = game.loss("model", (images,)).values()
    torch.testing.assert_close(term, expected.mean(), rtol=1e-5, atol=0)


def test_even_logits_cost_log_levels_per_value():
    """And a bit per dimension is log2 of the levels: 8 bits for bytes."""
    game = Autoregressive(PixelCNN(3, 256, 3, 0, 3), (3, 4, 4), 256)
    for parameter in game.model.parameters():
        nn.init.zeros_(parameter)
    nats = game.nats(torch.zeros(1, 3, 4, 4)).item()
    # 48 float32 terms of 5.5.
    assert nats == pytest.approx(48 * math.log(256), rel=1e-6)
    assert bits_per_dimension(nats, game.shape) == pytest.approx(8, rel=1e-6)
    assert bits_per_dimension(81.30, (1, 28, 28)) == pytest.approx(81.30 / 784 / math.log(2))


def test_bytes_survive_quantisation():
    game = Autoregressive(PixelCNN(1, 256, 1, 0, 1), (1, 16, 16), 256)
    pixels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(game.quantise(to_floats(pixels)), pixels.long())
    # 256 levels in float32: half a unit in the last place of 1.
    torch.testing.assert_close(game.to_images(pixels), to_floats(pixels), rtol=0, atol=2e-7)
    two = Autoregressive(PixelCNN(), (1, 28, 28), 2)
    assert two.quantise(torch.tensor([-1.0, -0.1, 0.1, 1.0, 7.0])).tolist() == [0, 0, 1, 1, 1]


class Even(nn.Module):
    """Logits in bfloat16, all of them zero."""

    def forward(self, x):
        return x.new_zeros(len(x), 1, 2, *x.shape[2:], dtype=torch.bfloat16)


def test_loss_of_bfloat16_logits_is_summed_in_float32():
    """784 terms of log 2: eight bits would round each of them, and their sum to a multiple of 4."""
    nats = Autoregressive(Even(), (1, 28, 28), 2).nats(torch.ones(1, 1, 28, 28))
    assert nats.dtype == torch.float32
    assert float(nats) == pytest.approx(784 * math.log(2), rel=1e-6)


# Samples


@pytest.mark.parametrize("kind", [PixelCNN, PixelRNN])
def test_samples_follow_the_density(kind):
    """Chi-square of 4,000 samples over the 16 images of 2 x 2 binary pixels, at a fixed seed."""
    game = small(kind, 1, 2, (2, 2))
    with torch.no_grad():
        p = (-game.nats(everything(game))).double().exp()
    samples = game.sample(4000, torch.Generator().manual_seed(0))
    index = (game.quantise(samples).flatten(1) * torch.tensor([8, 4, 2, 1])).sum(1)
    counts = torch.bincount(index, minlength=16)
    assert (p * 4000).min() > 5, "enough expected in each cell for the approximation"
    # One seed in a hundred would fail; this one is fixed.
    assert stats.chisquare(counts.numpy(), (p / p.sum() * 4000).numpy()).pvalue > 0.01


@pytest.mark.parametrize("kind", [PixelCNN, PixelRNN])
def test_remembering_changes_nothing(kind):
    game = small(kind, 3, 4, (4, 5))
    one, other = (game.sample(5, torch.Generator().manual_seed(1), cached=c) for c in (True, False))
    assert torch.equal(one, other)
    assert one.abs().max() <= 1 and len(one.unique()) == 4
    assert not torch.equal(one, game.sample(5, torch.Generator().manual_seed(2)))


def test_completion_keeps_the_rows_and_follows_the_conditional():
    """The second row of 2 x 2 binary images given the first one, against the four joint probabilities."""
    game = small(PixelCNN, 1, 2, (2, 2))
    top = torch.tensor([1.0, -1.0])
    images = torch.full((3000, 1, 2, 2), 1.0)
    images[:, 0, 0] = top
    done = game.complete(images, 1, torch.Generator().manual_seed(0))
    assert torch.equal(done[:, 0, 0], images[:, 0, 0]) and images[:, 0, 1].eq(1).all()
    four = [m for m in everything(game) if torch.equal(m[0, 0], top)]
    with torch.no_grad():
        p = (-game.nats(torch.stack(four))).double().exp()
    counts = [int((done == m).flatten(1).all(1).sum()) for m in four]
    assert stats.chisquare(counts, (p / p.sum() * 3000).numpy()).pvalue > 0.01
    afresh = game.complete(images, 1, torch.Generator().manual_seed(0), cached=False)
    assert torch.equal(done, afresh)
    with pytest.raises(ValueError, match="rows"):
        game.complete(images, 3)
    with pytest.raises(ValueError, match="images"):
        game.complete(images[..., :1], 1)


# The data


def test_binarised_pixels_are_white_as_often_as_they_are_bright():
    grey = torch.linspace(-1, 1, 11).repeat(20_000, 1)
    white = (binarise(grey, 0) > 0).double().mean(0)
    p = (grey[0].double() + 1) / 2
    # Five standard deviations of a mean of 20,000 draws; black and white are certain.
    assert ((white - p).abs() <= 5 * (p * (1 - p) / 20_000).sqrt()).all()
    assert torch.equal(binarise(grey, 4), binarise(grey, 4))
    assert not torch.equal(binarise(grey, 4), binarise(grey, 5))


def test_binarised_mnist():
    images, labels = binarised_mnist("test", 50)
    assert images.shape == (50, 1, 28, 28) and len(labels) == 50
    assert images.unique().tolist() == [-1, 1]
    assert torch.equal(images, binarised_mnist("test", 50).images)


# The cost and the report


def test_operations_by_hand():
    """A pass is places x taps x maps, rows of padding below included; remembered, it is pixel by pixel."""
    game = Autoregressive(PixelCNN(1, 2, width=4, blocks=1, hidden=6), (1, 5, 6), 2)
    pointwise = 8 * 4 + 4 * 8 + 8 * 6 + 6 * 2
    seven, three = 4 * 7 * 1 * 8, 2 * 3 * 4 * 4
    whole = 2 * (8 * 6 * seven + 6 * 6 * three + 30 * pointwise)
    assert flops(lambda: game.model(torch.zeros(1, 1, 5, 6))) == whole
    # The DCGAN generator, convolution by convolution: places of the input x 16 x maps.
    gan = 2 * 16 * (64 * 128 + 16 * 128 * 64 + 64 * 64 * 32 + 256 * 32)
    cost = sampling_cost(game, batch=2)
    assert cost["steps"] == 30
    assert cost["flops_over_gan"] == pytest.approx(30 * whole / gan)
    assert cost["cached_flops_over_gan"] == pytest.approx(30 * 2 * (seven + three + pointwise) / gan)
    assert cost["seconds_over_gan"] > 0 and cost["batch_seconds_over_gan"] > 0


def test_report_of_an_even_model(monkeypatch):
    """784 log 2 nats, a bit per pixel, and noise for samples; the cost is tested above."""
    monkeypatch.setattr("ganlib.models.pixelcnn.sampling_cost", lambda game: {"steps": 784})
    game = Autoregressive(PixelCNN(1, 2, 2, 0, 2), (1, 28, 28), 2)
    for parameter in game.parameters():
        nn.init.zeros_(parameter)
    figures = report(None, Budget.SMOKE)(game)
    assert figures["nats"] == pytest.approx(784 * math.log(2), rel=1e-5)
    assert figures["bits_per_dimension"] == pytest.approx(1, rel=1e-5)
    assert figures["binary_fid"] > 5 * figures["binary_fid_floor"] > 0
    assert figures["samples"] == 64 and figures["steps"] == 784
    assert "fid" not in figures, "the table of results would take it for a FID to grey digits"


def test_levels_are_two_at_least():
    with pytest.raises(ValueError, match="levels"):
        Autoregressive(PixelCNN(), (1, 28, 28), 1)
