"""Equalized learning rate, pixelwise normalization, doubling, halving and blurring."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import nn
from torch.nn import functional as F

from ganlib.layers import EqualizedConv2d, EqualizedLinear, PixelNorm, blur, downsample, upsample


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def layers() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    return {
        "linear": (EqualizedLinear(300, 200), seeded(50, 300, seed=7, dtype=torch.float32)),
        "slow linear": (EqualizedLinear(300, 200, rate=0.01), seeded(50, 300, seed=7, dtype=torch.float32)),
        "convolution": (EqualizedConv2d(40, 60, 3), seeded(8, 40, 12, 12, seed=7, dtype=torch.float32)),
    }


@pytest.mark.parametrize("name", list(layers()))
def test_the_start_is_that_of_he(name):
    layer, x = layers()[name]
    used = layer.scaled()[0]
    fan_in = math.prod(used.shape[1:])
    # The standard error of a deviation estimated from n numbers is sigma / sqrt(2 n): four of them.
    he = torch.empty_like(used)
    nn.init.kaiming_normal_(he, nonlinearity="relu")
    tolerance = 4 / math.sqrt(2 * used.numel())
    assert used.std().item() * math.sqrt(fan_in / 2) == pytest.approx(1, rel=tolerance)
    assert he.std().item() / used.std().item() == pytest.approx(1, rel=2 * tolerance)
    assert layer.weight.std().item() * layer.rate == pytest.approx(1, rel=tolerance)
    # He's condition: the mean square is kept through rectifier and layer. Inner places alone, where no zeros
    # were padded. A unit's mean square has a relative deviation of about sqrt(2); over 60 to 200 units the
    # mean's is 0.1 to 0.18, of which 0.4 is at least two.
    y = layer(F.relu(x))
    inner = y[..., 1:-1, 1:-1] if y.ndim == 4 else y
    assert inner.square().mean().item() == pytest.approx(2 * F.relu(x).square().mean().item(), rel=0.4)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_the_first_step_of_adam_moves_every_used_weight_by_the_rate_over_the_root_of_the_inputs(rate):
    """The closed form of Adam's first step, lr * sign(gradient), carried through the scaling."""
    lr, moved = 1e-3, {}
    for inputs in (16, 1024):
        layer = EqualizedLinear(inputs, 8, rate=rate)
        before = layer.scaled()[0].detach().clone()
        optimizer = torch.optim.Adam(layer.parameters(), lr=lr)
        (1e6 * layer(seeded(4, inputs, dtype=torch.float32)).square().sum()).backward()
        optimizer.step()
        step = (layer.scaled()[0].detach() - before).abs()
        # eps = 1e-8 beside gradients of 1e-3 or more and float32's 1e-7 of a weight near 0.2: below 1 %.
        expected = torch.full_like(step, lr * rate * math.sqrt(2 / inputs))
        torch.testing.assert_close(step, expected, rtol=2e-2, atol=3e-8)
        moved[inputs] = step.mean().item() / before.std().item()
    # So relative to its own scale every layer moves at one speed, the slow one at a hundredth of it.
    assert moved[16] == pytest.approx(moved[1024], rel=0.2)
    assert moved[16] == pytest.approx(lr * rate, rel=0.2)


def test_a_bias_starts_where_it_is_told_and_moves_at_the_rate():
    layer = EqualizedLinear(4, 3, rate=0.01, bias_start=1.0)
    torch.testing.assert_close(layer(torch.zeros(2, 4)), torch.ones(2, 3))
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    layer(torch.zeros(1, 4)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(layer(torch.zeros(1, 4)), torch.full((1, 3), 1 - 0.01**2))


def test_convolution_and_linear_layer_agree_with_torch():
    x = seeded(3, 5, 6, 6, dtype=torch.float32)
    conv = EqualizedConv2d(5, 7, 3, gain=1.0)
    plain = F.conv2d(x, conv.weight / math.sqrt(45), conv.bias, padding=1)
    torch.testing.assert_close(conv(x), plain)
    valid = EqualizedConv2d(5, 7, 4, padding=0, bias=False)
    assert valid(x).shape == (3, 7, 3, 3)
    assert valid.bias is None
    assert [p.numel() for p in valid.parameters()] == [7 * 5 * 16]


def test_pixel_norm_makes_every_place_a_vector_of_mean_square_one():
    x = 30 * seeded(3, 8, 4, 5)
    y = PixelNorm()(x)
    norms = np.sqrt((x.numpy() ** 2).mean(1, keepdims=True) + 1e-8)
    np.testing.assert_allclose(y.numpy(), x.numpy() / norms, rtol=1e-12)
    # 1e-8 beside mean squares near 900.
    np.testing.assert_allclose(y.square().mean(1), 1, rtol=1e-8)
    assert not PixelNorm()(torch.zeros(1, 8)).any()
    assert PixelNorm()(x.bfloat16()).dtype == torch.bfloat16
    # Computed in float32: bfloat16's own squares would be off by 2^-8 each; the result is rounded once.
    half = x.bfloat16()
    torch.testing.assert_close(PixelNorm()(half), PixelNorm()(half.float()).bfloat16(), rtol=0, atol=0)
    assert torch.autograd.gradcheck(PixelNorm(), seeded(2, 3, 2, 2).requires_grad_())
    assert torch.autograd.gradgradcheck(PixelNorm(), seeded(2, 3, 2, 2).requires_grad_())


def test_doubling_repeats_and_halving_takes_means():
    x = seeded(2, 3, 4, 6)
    np.testing.assert_array_equal(upsample(x), x.numpy().repeat(2, 2).repeat(2, 3))
    torch.testing.assert_close(downsample(upsample(x)), x, rtol=0, atol=0)
    means = x.numpy().reshape(2, 3, 2, 2, 3, 2).mean((3, 5))
    np.testing.assert_allclose(downsample(x), means, rtol=1e-12)


def test_blur_is_the_binomial_filter():
    x = seeded(2, 3, 5, 7)
    weights = np.array([1, 2, 1]) / 4
    expected = correlate1d(correlate1d(x.numpy(), weights, 2, mode="constant"), weights, 3, mode="constant")
    np.testing.assert_allclose(blur(x), expected, atol=1e-14)
    assert torch.autograd.gradgradcheck(blur, seeded(1, 1, 3, 4).requires_grad_())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: EqualizedLinear(0, 3), r"shape must be positive, got \(3, 0\)"),
        (lambda: EqualizedConv2d(1, 3, 0), "shape must be positive"),
        (lambda: EqualizedLinear(2, 3, gain=0), "gain must be positive, got 0"),
        (lambda: EqualizedLinear(2, 3, rate=-1), "rate must be positive, got -1"),
    ],
    ids=["inputs", "kernel", "gain", "rate"],
)
def test_bad_arguments_are_named(make, words):
    with pytest.raises(ValueError, match=words):
        make()
