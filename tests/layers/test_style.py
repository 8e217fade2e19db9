"""Adaptive instance normalization and noise injection."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ganlib.layers import AdaIN, NoiseInjection, adain


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# Adaptive instance normalization


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_adain_against_torchs_instance_norm(layout):
    x = (3 * seeded(4, 5, 6, 7) + 2).to(memory_format=layout)
    scale, shift = seeded(4, 5, seed=1), seeded(4, 5, seed=2)
    expected = F.instance_norm(x, eps=1e-8) * scale[:, :, None, None] + shift[:, :, None, None]
    found = adain(x, scale, shift)
    # float64: rounding of sums of 42 numbers
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert found.is_contiguous(memory_format=layout), "a copy into another layout costs time"


def test_adain_by_hand():
    """Eq. 1 on a map of 1, 3, 5, 7: mean 4, variance 5 (not 20/3, which divides by one less)."""
    x = torch.tensor([1.0, 3.0, 5.0, 7.0], dtype=torch.float64).view(1, 1, 2, 2)
    found = adain(x, torch.tensor([[2.0]]), torch.tensor([[10.0]]))
    expected = 10 + 2 * (x - 4) / 5**0.5
    # Of the variance's 5, epsilon is 2e-9.
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=0)


def test_statistics_afterwards_are_the_style():
    """Whatever they were: maps of other means and deviations, in the batch and in the channels, end alike."""
    x = seeded(3, 4, 16, 16, dtype=torch.float32)
    x = x * torch.tensor([0.01, 1.0, 50.0]).view(3, 1, 1, 1) + torch.arange(4.0).view(1, 4, 1, 1)
    scale, shift = seeded(3, 4, seed=1, dtype=torch.float32), seeded(3, 4, seed=2, dtype=torch.float32)
    variance, mean = torch.var_mean(adain(x, scale, shift).double(), (2, 3), correction=0)
    # float32: a map of deviation 0.01 around 3 is known to 3e-7 / 0.01
    torch.testing.assert_close(mean, shift.double(), rtol=0, atol=1e-4)
    # At the deviation 0.01, epsilon takes 5e-5 of it.
    torch.testing.assert_close(variance.sqrt(), scale.double().abs(), rtol=1e-4, atol=0)


def test_a_constant_map_becomes_the_shift():
    """As the learned constant is at the start. Exactly: nothing is left after centring."""
    scale, shift = seeded(2, 3, dtype=torch.float32), seeded(2, 3, seed=1, dtype=torch.float32)
    found = adain(torch.full((2, 3, 4, 4), 7.0), scale, shift)
    assert torch.equal(found, shift[:, :, None, None].expand(2, 3, 4, 4))


def test_gradients_of_adain_by_finite_differences():
    """First and second ones; path-length regularization needs the second."""
    arguments = (seeded(2, 3, 3, 3), seeded(2, 3, seed=1), seeded(2, 3, seed=2))
    arguments = tuple(a.requires_grad_() for a in arguments)
    assert torch.autograd.gradcheck(adain, arguments)
    assert torch.autograd.gradgradcheck(adain, arguments)


def test_adain_counts_in_float32():
    """A map of bfloat16 around 100 has a mean with more than its 8 bits."""
    x = (seeded(2, 3, 8, 8, dtype=torch.float32) + 100).bfloat16()
    scale, shift = torch.ones(2, 3), torch.zeros(2, 3)
    found = adain(x, scale.bfloat16(), shift.bfloat16())
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, adain(x.float(), scale, shift).bfloat16())


@pytest.mark.parametrize(
    "shapes", [((2, 3, 4), (2, 3), (2, 3)), ((2, 3, 4, 4), (2, 4), (2, 3)), ((2, 3, 4, 4), (2, 3), (3,))]
)
def test_adain_says_what_does_not_fit(shapes):
    with pytest.raises(ValueError, match="scale and shift"):
        adain(*(torch.zeros(shape) for shape in shapes))


def test_styles_start_at_scale_one_and_shift_zero():
    """The affine map's biases; w itself adds numbers of deviation |w| / sqrt(w_dim), here 1."""
    layer, x = AdaIN(200, 50).double(), seeded(1, 200, 4, 4)
    torch.testing.assert_close(
        layer(x, torch.zeros(1, 50, dtype=torch.float64)), F.instance_norm(x, eps=1e-8)
    )
    w = F.normalize(seeded(1, 50, seed=1)) * 50**0.5
    variance, mean = torch.var_mean(layer(x, w), (2, 3), correction=0)
    # Four standard errors of a mean of 200 standard normal numbers, and of their mean square.
    assert mean.mean().item() == pytest.approx(0, abs=4 / 200**0.5)
    assert mean.square().mean().item() == pytest.approx(1, abs=4 * (2 / 200) ** 0.5)
    # 1 + n, squared: mean 2, deviation sqrt(6)
    assert variance.mean().item() == pytest.approx(2, abs=4 * (6 / 200) ** 0.5)


def test_the_style_is_an_affine_function_of_w():
    layer, x, w = AdaIN(3, 4).double(), seeded(2, 3, 4, 4), seeded(2, 4, seed=1)
    torch.nn.init.normal_(layer.style.bias)
    # gain 1: weights over sqrt(4)
    style = w @ layer.style.weight.T / 2 + layer.style.bias
    torch.testing.assert_close(layer(x, w), adain(x, 1 + style[:, :3], style[:, 3:]))


# Noise


def test_noise_of_strength_zero_has_no_effect():
    x = seeded(2, 3, 4, 4, dtype=torch.float32)
    assert torch.equal(NoiseInjection(3)(x), x)


def injection(*strengths: float) -> NoiseInjection:
    layer = NoiseInjection(len(strengths))
    with torch.no_grad():
        layer.strength.copy_(torch.tensor(strengths))
    return layer


def test_given_noise_by_hand():
    """One map for all channels, each with its own strength; a single map serves all samples."""
    x, maps = seeded(2, 3, 4, 5, dtype=torch.float32), seeded(2, 1, 4, 5, seed=1, dtype=torch.float32)
    layer = injection(0.5, -1.0, 0.0)
    for noise in (maps, maps[:1]):
        expected = torch.stack([x[:, 0] + 0.5 * noise[:, 0], x[:, 1] - noise[:, 0], x[:, 2]], 1)
        assert torch.equal(layer(x, noise), expected)
    shared = injection(2.0)
    torch.testing.assert_close(shared(x, maps), x + 2 * maps)


def test_fresh_noise_has_the_variance_of_its_strength():
    layer, x = injection(0.0, 0.5, 2.0), torch.zeros(50, 3, 20, 20)
    first, second = layer(x), layer(x)
    assert not torch.equal(first, second)
    # Five standard errors of a variance from 20,000 numbers.
    variance = first.var((0, 2, 3)).detach()
    torch.testing.assert_close(variance, torch.tensor([0.0, 0.25, 4.0]), rtol=5 * (2 / 20_000) ** 0.5, atol=0)
    # The channels have one map in common; the samples, and the places, do not.
    torch.testing.assert_close(first[:, 2], 4 * first[:, 1])
    for other in (first[1:, 1], first[:-1, 1].roll(1, -1)):
        correlation = torch.corrcoef(torch.stack([first[:-1, 1].flatten(), other.flatten()]).detach())[0, 1]
        assert correlation.abs() < 5 / 19_600**0.5


def test_fresh_noise_is_that_of_the_seed():
    layer, x = injection(1.0), torch.zeros(2, 1, 4, 4)
    torch.manual_seed(3)
    first = layer(x)
    torch.manual_seed(3)
    assert torch.equal(first, layer(x))
    torch.manual_seed(3)
    assert torch.equal(first, torch.randn(2, 1, 4, 4))


def test_the_strengths_gradient_by_hand():
    """dL/db_c is the sum of noise times gradient, and at strength zero it is there: noise can come alive."""
    layer, x, maps = NoiseInjection(3), seeded(2, 3, 4, 4), seeded(2, 1, 4, 4, seed=1)
    gradient = seeded(2, 3, 4, 4, seed=2)
    (layer.double()(x, maps) * gradient).sum().backward()
    torch.testing.assert_close(layer.strength.grad, (maps * gradient).sum((0, 2, 3)))


def test_noise_keeps_the_dtype():
    x = torch.zeros(2, 3, 4, 4, dtype=torch.bfloat16)
    assert injection(1.0, 1.0, 1.0)(x).dtype is torch.bfloat16
