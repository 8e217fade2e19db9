"""Minibatch discrimination and minibatch standard deviation against loops written out and numpy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ganlib.layers import MinibatchDiscrimination, MinibatchStd, mixes_samples
from ganlib.losses import R1


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def discrimination(features: int = 4, kernels: int = 3, dimension: int = 2) -> MinibatchDiscrimination:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MinibatchDiscrimination(features, kernels, dimension).double()


# Minibatch discrimination


def naive_similarities(layer: MinibatchDiscrimination, x: torch.Tensor) -> np.ndarray:
    """o(x_i)_b = sum over j != i of exp(-|M_ib - M_jb|_1), with M_i = T f(x_i) as a B x C matrix."""
    weight = layer.project.weight.detach().numpy().reshape(layer.kernels, layer.dimension, -1)
    m = np.einsum("bca,na->nbc", weight, x.numpy())
    found = np.zeros((len(x), layer.kernels))
    for i in range(len(x)):
        for j in range(len(x)):
            for b in range(layer.kernels):
                if i != j:
                    found[i, b] += math.exp(-abs(m[i, b] - m[j, b]).sum())
    return found


@pytest.mark.parametrize("n", [1, 2, 7])
def test_similarities_against_loops(n):
    layer, x = discrimination(), normal(n, 4)
    y = layer(x).detach()
    assert y.shape == (n, 4 + 3)
    assert torch.equal(y[:, :4], x), "the features themselves come first, untouched"
    # The term j = i is taken off as a 1: an absolute error of a rounding of 1.
    np.testing.assert_allclose(y[:, 4:], naive_similarities(layer, x), rtol=1e-12, atol=1e-14)


def test_a_collapsed_batch_is_told_apart():
    """Identical samples get N - 1 from every kernel, the most there is; spread ones less."""
    layer = discrimination()
    alike = layer(normal(1, 4).expand(8, 4))[:, 4:]
    torch.testing.assert_close(alike, torch.full((8, 3), 7.0).double())
    assert (layer(10 * normal(8, 4))[:, 4:] < 1).all()


def test_order_of_the_batch_does_not_matter():
    layer, x = discrimination(), normal(6, 4)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    torch.testing.assert_close(layer(x[order]), layer(x)[order])


def test_discrimination_by_finite_differences():
    layer = discrimination()
    assert torch.autograd.gradcheck(layer, normal(4, 4).requires_grad_())
    assert torch.autograd.gradgradcheck(layer, normal(4, 4).requires_grad_())
    names = [name for name, _ in layer.named_parameters()]

    def output(*parameters: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(layer, weights, (normal(4, 4),))

    assert torch.autograd.gradcheck(output, tuple(layer.parameters()))


def test_a_penalty_reaches_the_kernels():
    """Double backward as R1 needs it, which torch.cdist would not give."""
    layer = discrimination()
    critic = nn.Sequential(nn.Linear(3, 4), layer, nn.Linear(7, 1)).double()
    R1()(critic, normal(5, 3), normal(5, 3)).backward()
    assert layer.project.weight.grad.any() and layer.project.weight.grad.isfinite().all()


def test_identical_samples_have_a_finite_gradient():
    """|.| has a kink at 0, where collapsed samples are."""
    x = normal(1, 4).repeat(5, 1).requires_grad_()
    discrimination()(x).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("name", ["features", "kernels", "dimension"])
def test_discrimination_refuses(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        MinibatchDiscrimination(**{"features": 2, name: 0})


def test_papers_sizes():
    """50 kernels of dimension 5 by default: T is A x 50 x 5, without a bias."""
    layer = MinibatchDiscrimination(10)
    assert [tuple(p.shape) for p in layer.parameters()] == [(250, 10)]


# Minibatch standard deviation


def naive_deviation(x: np.ndarray, group: int) -> np.ndarray:
    """The number appended to each sample: groups are made of samples that lie N / group apart."""
    found = np.zeros(len(x))
    apart = len(x) // group
    for start in range(apart):
        members = list(range(start, len(x), apart))
        found[members] = np.sqrt(x[members].var(axis=0) + 1e-8).mean()
    return found


@pytest.mark.parametrize("shape", [(8, 3, 2, 5), (12, 6), (4, 2, 1, 1), (8, 1)])
@pytest.mark.parametrize("group", [2, 4])
def test_deviation_against_numpy(shape, group):
    x = normal(*shape)
    y = MinibatchStd(group)(x)
    assert y.shape == (shape[0], shape[1] + 1, *shape[2:])
    assert torch.equal(y[:, :-1], x)
    wanted = naive_deviation(x.numpy(), group).reshape(-1, *[1] * (len(shape) - 2))
    np.testing.assert_allclose(y[:, -1], np.broadcast_to(wanted, y[:, -1].shape), rtol=1e-12)


def test_a_small_batch_is_one_group():
    x = normal(3, 2, 2, 2)
    np.testing.assert_allclose(MinibatchStd(4)(x)[:, -1, 0, 0], naive_deviation(x.numpy(), 3), rtol=1e-12)


def test_groups_do_not_see_each_other():
    x = normal(8, 3)
    y = MinibatchStd(4)(x)[:, -1]
    x[0] += 5
    changed = (MinibatchStd(4)(x)[:, -1] != y).nonzero().flatten().tolist()
    assert changed == [0, 2, 4, 6]


def test_collapsed_batch_has_deviation_near_zero_and_a_finite_gradient():
    """sqrt has an infinite slope at 0; epsilon keeps the value at 1e-4 and the slope finite."""
    x = normal(1, 2, 3, 3).repeat(4, 1, 1, 1).requires_grad_()
    y = MinibatchStd()(x)
    np.testing.assert_allclose(y[:, -1].detach(), 1e-4, rtol=1e-6)
    y[:, -1].sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().max() < 1e-6


def test_deviation_by_finite_differences():
    for shape in ((4, 2, 2, 2), (4, 3)):
        assert torch.autograd.gradcheck(MinibatchStd(2), normal(*shape).requires_grad_())
        assert torch.autograd.gradgradcheck(MinibatchStd(2), normal(*shape).requires_grad_())


@pytest.mark.parametrize("group", [1, 0, -4])
def test_deviation_of_one_sample_is_refused(group):
    with pytest.raises(ValueError, match=f"group must be at least 2, got {group}"):
        MinibatchStd(group)


def test_a_batch_of_broken_groups_is_refused():
    with pytest.raises(ValueError, match="whole groups of 4 samples, got 6"):
        MinibatchStd(4)(normal(6, 2))


# Both


@pytest.mark.parametrize("layer", [MinibatchDiscrimination(6, 3, 2), MinibatchStd(2)])
def test_under_bf16_autocast_statistics_are_float32s(layer):
    """They are rounded once, at the end: of bfloat16's 8 bits a sum of differences would leave few."""
    if isinstance(layer, MinibatchDiscrimination):
        nn.init.eye_(layer.project.weight)  # a projection that is exact in any format
    x = (0.3 * normal(64, 6)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, layer(x.float()).bfloat16())


@pytest.mark.parametrize("layer", [MinibatchDiscrimination(4), MinibatchStd()])
def test_both_mix_samples(layer):
    assert mixes_samples(nn.Sequential(nn.Linear(4, 4), layer))
