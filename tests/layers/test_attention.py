"""Self-attention against its formula in numpy, place by place; its start as the identity; its maps."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganlib.layers import SelfAttention, attention_maps


def block(channels: int = 16, gamma: float = 0.7, dtype: torch.dtype = torch.float64) -> SelfAttention:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = SelfAttention(channels).to(dtype)
    nn.init.constant_(made.gamma, gamma)
    return made


def features(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


def by_hand(made: SelfAttention, x: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and maps as the docstring's formula has them, in loops over images and places."""
    weight = {n: p.detach().numpy()[:, :, 0, 0] for n, p in made.named_parameters() if p.ndim == 4}
    images = x.detach().numpy()
    n, c, height, width = images.shape
    out, maps = np.empty_like(images), np.empty((n, height * width, height * width // 4))
    for image in range(n):
        keys, values = [], []
        for row in range(0, height, 2):
            for column in range(0, width, 2):
                places = images[image, :, row : row + 2, column : column + 2].reshape(c, 4)
                keys.append((weight["key.weight"] @ places).max(1))
                values.append((weight["value.weight"] @ places).max(1))
        for row in range(height):
            for column in range(width):
                query = weight["query.weight"] @ images[image, :, row, column]
                scores = np.array([query @ key for key in keys])
                share = np.exp(scores - scores.max())
                share /= share.sum()
                maps[image, row * width + column] = share
                mixed = sum(s * v for s, v in zip(share, values, strict=True))
                out[image, :, row, column] = (
                    images[image, :, row, column] + made.gamma.item() * weight["out.weight"] @ mixed
                )
    return out, maps


def test_formula():
    """Not square, so that rows and columns cannot be mixed up. 1e-12: sums of tens of float64 numbers."""
    made, x = block(), features(2, 16, 4, 6)
    out, maps = by_hand(made, x)
    np.testing.assert_allclose(made(x).detach().numpy(), out, atol=1e-12)
    np.testing.assert_allclose(made.attention(3 * x).detach().numpy().sum(2), 1, atol=1e-6)
    # The map is computed in float32.
    np.testing.assert_allclose(made.attention(x).detach().numpy(), maps, atol=1e-6)


def test_widths_are_those_of_the_authors():
    made = SelfAttention(64)
    assert [tuple(p.shape) for p in made.parameters() if p.ndim == 4] == [
        (8, 64, 1, 1),
        (8, 64, 1, 1),
        (32, 64, 1, 1),
        (64, 32, 1, 1),
    ]
    assert not any(name.endswith("bias") for name, _ in made.named_parameters())


def test_starts_as_the_identity_and_learns_gamma_first():
    made, x = SelfAttention(8), features(2, 8, 4, 4, dtype=torch.float32)
    assert made.gamma.item() == 0 and torch.equal(made(x), x)
    made(x).square().sum().backward()
    assert made.gamma.grad.abs() > 0
    assert all(not p.grad.any() for p in made.parameters() if p is not made.gamma)


def test_gradient_by_finite_differences():
    """In x and in all weights; where pooling has no tie the block is smooth."""
    made = block(8)
    weights = dict(made.named_parameters())

    def output(x, *parameters):
        return torch.func.functional_call(made, dict(zip(weights, parameters, strict=True)), (x,))

    x = features(1, 8, 2, 4).requires_grad_()
    assert torch.autograd.gradcheck(output, (x, *weights.values()), atol=1e-6)


def test_memory_format_and_precision():
    made = block(dtype=torch.float32)
    x = features(2, 16, 8, 8, dtype=torch.float32)
    plain = made(x)
    # 1e-5: float32 sums in another order.
    torch.testing.assert_close(
        made.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last)),
        plain,
        atol=1e-5,
        rtol=0,
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = made(x.bfloat16())
        shares = made.attention(x.bfloat16())
        query, key = made.query(x.bfloat16()), F.max_pool2d(made.key(x.bfloat16()), 2)
    assert low.dtype == torch.bfloat16
    # A few roundings to 8 bits of numbers below 4.
    torch.testing.assert_close(low.float(), plain, atol=0.06, rtol=0)
    # What follows the convolutions is computed in float32: scores of 8 bits would move shares by 1e-3.
    scores = torch.einsum("nci,ncj->nij", query.flatten(2).double(), key.flatten(2).double())
    torch.testing.assert_close(shares.double(), scores.softmax(2), atol=1e-6, rtol=0)


def test_second_derivative_with_plain_kernels():
    """What the docstring tells for gradient penalties."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    made, x = block(8), features(1, 8, 4, 4).requires_grad_()
    with sdpa_kernel(SDPBackend.MATH):
        (slope,) = torch.autograd.grad(made(x).square().sum(), x, create_graph=True)
        slope.square().sum().backward()
    assert made.query.weight.grad.abs().sum() > 0


def test_maps_of_a_network():
    made = block(8, dtype=torch.float32)
    network = nn.Sequential(nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), made, nn.Dropout(0.5), SelfAttention(8))
    network[3].eval()
    x = features(2, 1, 4, 4, dtype=torch.float32)
    first, second = attention_maps(network, x)
    assert first.shape == second.shape == (2, 16, 4) and not first.requires_grad
    network.eval()
    assert torch.equal(first, made.attention(network[:2](x)))
    network.train()
    network[3].eval()
    before = network[1].running_mean.clone()
    attention_maps(network, x)
    assert torch.equal(network[1].running_mean, before), "looking changes nothing"
    assert [m.training for m in network] == [True, True, True, False, True]
    assert not made._forward_pre_hooks
    with pytest.raises(ValueError, match="must have a SelfAttention block"):
        attention_maps(nn.Conv2d(1, 1, 1), x)


def test_errors():
    for channels in (0, 4, 12):
        with pytest.raises(ValueError, match=f"channels must be a multiple of 8, got {channels}"):
            SelfAttention(channels)
    for shape in ((2, 8, 4, 4), (2, 16, 3, 4), (2, 16, 4, 5), (16, 4, 4)):
        with pytest.raises(ValueError, match=r"x must be \(N, 16, H, W\) with even H and W"):
            block(dtype=torch.float32)(torch.zeros(shape))
