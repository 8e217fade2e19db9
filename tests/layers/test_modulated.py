"""Modulated convolution: a loop over samples, unit variance under any style, gradients, doubling, halving."""

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve1d
from scipy.signal import correlate2d
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ganlib.layers import EqualizedLinear, ModulatedConv2d, blur, downsample, modulated_conv2d, upsample
from ganlib.layers.modulated import modulated_weights, smooth, upsampling_conv2d


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def case(kernel: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Three samples of four channels to five; styles of both signs."""
    return normal(3, 4, 6, 6, seed=1), normal(5, 4, kernel, kernel, seed=2), normal(3, 4, seed=3)


# Value


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("demodulate", [False, True])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_against_a_loop_over_samples(kernel, demodulate, grouped):
    """Eqs. 1 and 3 by loops: scale the columns, divide every row by its length, correlate with scipy."""
    x, weight, style = case(kernel)
    found = modulated_conv2d(x, weight, style, demodulate=demodulate, grouped=grouped)
    wanted = np.zeros((3, 5, 6, 6))
    for n in range(3):
        for j in range(5):
            row = np.stack([style[n, i].item() * weight[j, i].numpy() for i in range(4)])
            if demodulate:
                row = row / math.sqrt((row**2).sum() + 1e-8)
            for i in range(4):
                wanted[n, j] += correlate2d(x[n, i].numpy(), row[i], mode="same")
    # float64; scipy's correlation pads with zeros, as ours
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize("up", [False, True])
def test_the_two_ways_agree_in_value_and_gradient(up):
    """One grouped convolution with a weight per sample, and one shared between two scalings of channels."""
    results = []
    for grouped in (False, True):
        arguments = [t.requires_grad_() for t in case()]
        y = modulated_conv2d(*arguments, up=up, grouped=grouped)
        results.append([y, *torch.autograd.grad((y * normal(*y.shape, seed=4)).sum(), arguments)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)  # float64 sums of some hundred products


def test_weights_per_sample_have_length_one():
    _, weight, style = case()
    lengths = modulated_weights(weight, style).square().sum((2, 3, 4))
    # 1 less epsilon over the length squared, which here is at least 1
    torch.testing.assert_close(lengths, torch.ones(3, 5, dtype=torch.float64), rtol=0, atol=1e-7)


def test_a_style_of_zeros_gives_zeros():
    """Epsilon: no channel in, nothing out, and a finite gradient."""
    x, weight, style = case()
    style = torch.zeros_like(style).requires_grad_()
    for grouped in (False, True):
        y = modulated_conv2d(x, weight, style, grouped=grouped)
        (gradient,) = torch.autograd.grad(y.sum(), style)
        assert not y.any() and gradient.isfinite().all()


# Unit variance


@pytest.mark.parametrize("strength", [0.01, 1.0, 100.0])
@pytest.mark.parametrize("grouped", [False, True])
def test_demodulated_outputs_have_unit_variance_whatever_the_style(strength, grouped):
    """For white inputs of variance 1 the variance of an output is the squared length of its weight, 1."""
    x = normal(4, 16, 60, 60, seed=1)
    weight, style = normal(8, 16, 3, 3, seed=2), strength * normal(4, 16, seed=3)
    y = modulated_conv2d(x, weight, style, grouped=grouped)[:, :, 1:-1, 1:-1]  # the border sees zeros
    # 58^2 places, neighbours correlated over 3 x 3: an estimate of a variance with at least 3364 / 9 / 2
    # degrees has a relative error of sqrt(2 / 187); five of those.
    assert y.var((2, 3)).sub(1).abs().max() < 5 * math.sqrt(2 / 187)
    # Over all samples and channels: 32 times as many.
    assert y.var((2, 3)).mean().item() == pytest.approx(1, abs=5 * math.sqrt(2 / 187 / 32))


def test_without_demodulation_the_variance_is_the_styles():
    """Var y_j = sum over i, k of (s_i w_ijk)^2: a hundred times the style, 10^4 times the variance."""
    x, weight, style = normal(4, 16, 60, 60, seed=1), normal(8, 16, 3, 3, seed=2), normal(4, 16, seed=3)
    wanted = style.square() @ weight.square().sum((2, 3)).T
    for strength in (1.0, 100.0):
        y = modulated_conv2d(x, weight, strength * style, demodulate=False)[:, :, 1:-1, 1:-1]
        ratio = y.var((2, 3)) / (strength**2 * wanted)
        assert ratio.sub(1).abs().max() < 5 * math.sqrt(2 / 187)


def test_demodulation_keeps_what_instance_normalization_destroys():
    """A map ten times as strong in one sample as in the other stays so: actual statistics play no part."""
    weight, style = normal(5, 4, 3, 3, seed=2), normal(1, 4, seed=3)
    x = normal(1, 4, 6, 6, seed=1)
    y = modulated_conv2d(torch.cat([x, 10 * x]), weight, style.expand(2, -1))
    torch.testing.assert_close(y[1], 10 * y[0])
    normalized = F.instance_norm(torch.cat([x, 10 * x]), eps=0.0)
    torch.testing.assert_close(normalized[1], normalized[0])


# Gradients


def test_gradients_by_finite_differences():
    """First and second derivatives, in x, weight and style: path lengths differentiate twice."""
    x, weight, style = normal(2, 2, 3, 3, seed=1), normal(2, 2, 3, 3, seed=2), normal(2, 2, seed=3)
    arguments = tuple(t.requires_grad_() for t in (x, weight, style))
    for up in (False, True):
        call = lambda *a, up=up: modulated_conv2d(*a, up=up)  # noqa: E731
        assert torch.autograd.gradcheck(call, arguments)
    assert torch.autograd.gradgradcheck(modulated_conv2d, arguments)


# Doubling and halving


@pytest.mark.parametrize("kernel", [3, 5])
def test_upsampling_convolution_is_doubling_smoothing_convolving(kernel):
    """Off the border, where the order of filters that see zeros matters."""
    x, weight = normal(2, 3, 8, 8, seed=1), normal(4, 3, kernel, kernel, seed=2)
    found = upsampling_conv2d(x, weight)
    wanted = F.conv2d(blur(upsample(x)), weight, padding=kernel // 2)
    assert found.shape == (2, 4, 16, 16)
    inside = slice(kernel // 2 + 1, -(kernel // 2 + 1))
    torch.testing.assert_close(found[..., inside, inside], wanted[..., inside, inside], rtol=0, atol=1e-12)


def test_doubling_is_bilinear_interpolation():
    """With a kernel that copies, a linear ramp stays one: pixel centres lie at quarters, as in torch."""
    x = torch.arange(8, dtype=torch.float64).view(1, 1, 1, 8).expand(1, 1, 8, 8)
    copy = torch.zeros(1, 1, 3, 3, dtype=torch.float64)
    copy[0, 0, 1, 1] = 1
    wanted = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    torch.testing.assert_close(upsampling_conv2d(x, copy)[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1])


def test_smooth_against_scipy():
    """(1, 3, 3, 1) / 8 along both axes; every second pixel is a blur and the mean of four."""
    x = normal(2, 3, 8, 8, seed=1)
    taps = np.array([1.0, 3.0, 3.0, 1.0]) / 8
    wanted = convolve1d(convolve1d(x.numpy(), taps, 2, mode="constant"), taps, 3, mode="constant")
    # scipy.s window of four reaches from one before to two after
    np.testing.assert_allclose(smooth(x, padding=2)[..., 1:, 1:], wanted, atol=1e-14)
    torch.testing.assert_close(smooth(x, padding=1)[..., ::2, ::2], downsample(blur(x)))
    assert smooth(x, padding=2).shape == (2, 3, 9, 9)


@pytest.mark.parametrize("padding", [0, 1, 2, 3])
def test_the_filters_derivatives_are_the_filter_itself(padding):
    """Against finite differences, twice; and the second has no loop over channels, as torch's own has."""
    x = normal(1, 2, 5, 5, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smooth(x, padding, gain=2.0), x)
    assert torch.autograd.gradgradcheck(lambda x: smooth(x, padding, gain=2.0), x)
    counts = [convolutions_in_second_derivative(channels, padding) for channels in (2, 64)]
    assert counts[0] == counts[1] <= 4


def convolutions_in_second_derivative(channels: int, padding: int) -> int:
    class Counting(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function, types, arguments=(), options=None):
            self.calls += "convolution" in str(function)
            return function(*arguments, **(options or {}))

    strength = torch.ones(channels, 1, 1, requires_grad=True)
    x = torch.ones(1, channels, 6, 6, requires_grad=True)
    with Counting() as counting:
        y = smooth(strength * x, padding)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        slope.square().sum().backward()
    return counting.calls


# The layer


def test_the_layer_starts_with_styles_of_one_and_an_equalized_rate():
    """s = A w + 1, and a weight scaled by 1 / sqrt(fan in), which only a layer without demodulation shows."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = ModulatedConv2d(4, 5, 3, 7, demodulate=False).double()
        same = ModulatedConv2d(4, 5, 3, 7).double()
    same.load_state_dict(layer.state_dict())
    x, w = normal(3, 4, 6, 6, seed=1), normal(3, 7, seed=2)
    plain = F.conv2d(x, layer.weight, padding=1)
    torch.testing.assert_close(layer(x, torch.zeros_like(w)), plain / math.sqrt(4 * 9))
    assert isinstance(layer.style, EqualizedLinear)
    style = 1 + w @ layer.style.weight.T / math.sqrt(7)
    torch.testing.assert_close(layer(x, w), modulated_conv2d(x, layer.weight / 6, style, demodulate=False))
    torch.testing.assert_close(same(x, w), modulated_conv2d(x, layer.weight, style))
    assert sum(p.numel() for p in layer.parameters()) == 4 * 5 * 9 + 7 * 4 + 4
    values = ModulatedConv2d(64, 64, 3, 8).weight.detach().flatten()
    # five standard errors of a deviation estimated from 36,864 draws
    assert values.std().item() == pytest.approx(1, abs=5 / math.sqrt(2 * len(values)))


def test_the_layer_doubles_and_groups():
    x, w = normal(2, 4, 6, 6, seed=1).float(), normal(2, 7, seed=2).float()
    layer = ModulatedConv2d(4, 5, 3, 7, up=True)
    assert layer(x, w).shape == (2, 5, 12, 12)
    one = layer(x, w)
    layer.grouped = True
    torch.testing.assert_close(layer(x, w), one, rtol=0, atol=1e-5)  # float32


def test_half_precision_leaves_the_factors_alone():
    """Under autocast the maps are bfloat16, while the demodulating factors are what they are without it."""
    x, w = normal(2, 64, 16, 16, seed=1).float(), normal(2, 8, seed=2).float()
    layer = ModulatedConv2d(64, 32, 3, 8)
    weight, style = layer.weight.detach(), 1000 * normal(2, 64, seed=3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x, w).dtype == torch.bfloat16
        half = modulated_conv2d(x.bfloat16(), weight, style)
        weights = modulated_weights(weight, style)
    assert torch.equal(weights, modulated_weights(weight, style))
    full = modulated_conv2d(x, weight, style)
    # bfloat16 rounds each of a few factors by 2^-9 at most; their errors are independent
    assert (half.float() - full).square().mean().sqrt() < 2**-7 * full.square().mean().sqrt()


def test_bad_input():
    x, weight, style = case()
    with pytest.raises(ValueError, match=r"style \(N, I\), got \(5, 4, 3, 3\) and \(3, 5\)"):
        modulated_conv2d(x, weight, normal(3, 5))
    with pytest.raises(ValueError, match=r"odd k"):
        modulated_conv2d(x, normal(5, 4, 2, 2), style)
    with pytest.raises(ValueError, match=r"\(3, 4\) first, got \(2, 4, 6, 6\)"):
        modulated_conv2d(x[:2], weight, style)
    with pytest.raises(ValueError, match="at least 3, got 1"):
        modulated_conv2d(x, normal(5, 4, 1, 1), style, up=True)
    with pytest.raises(ValueError, match="kernel must be odd, got 2"):
        ModulatedConv2d(4, 5, 2, 7)
    assert isinstance(ModulatedConv2d(4, 5, 1, 7), nn.Module)
