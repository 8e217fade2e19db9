"""Graph layers against loops over nodes, neighbours and types, and under relabellings of the nodes."""

import numpy as np
import pytest
import torch

from ganlib.layers import GatedSum, RelationalGraphConvolution, pack, unpack

# Double precision throughout; sums of a few hundred terms of size 1.
EXACT = dict(atol=1e-12, rtol=0)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def graphs(n: int = 3, v: int = 5, b: int = 4) -> torch.Tensor:
    """Relaxed symmetric edges ``(n, v, v, b)``."""
    edges = random(n, v, v, b, seed=1)
    edges = edges + edges.transpose(1, 2)
    return edges / edges.sum(-1, keepdim=True)


def convolution(features: int = 6, outputs: int = 7, b: int = 4) -> RelationalGraphConvolution:
    torch.manual_seed(2)
    return RelationalGraphConvolution(features, outputs, b).double()


def relabelled(v: int = 5):
    """Several orders of the nodes, among them all that exchange the first or last with another."""
    orders = []
    for fixed in (0, v - 1):
        for other in range(v):
            order = list(range(v))
            order[fixed], order[other] = order[other], order[fixed]
            orders.append(order)
    return [*orders, [2, 0, 4, 1, 3], [4, 3, 2, 1, 0]]


# Packing


def test_pack_puts_each_nodes_row_of_edges_beside_it():
    nodes, edges = random(2, 3, 5), random(2, 3, 3, 4, seed=1)
    packed = pack(nodes, edges)
    assert packed.shape == (2, 3, 5 + 3 * 4)
    for n, i, j, b in np.ndindex(2, 3, 3, 4):
        assert packed[n, i, 5 + 4 * j + b] == edges[n, i, j, b]
    again = unpack(packed, 5)
    assert torch.equal(again[0], nodes) and torch.equal(again[1], edges)


def test_unpack_makes_no_copy():
    packed = pack(random(2, 3, 5), random(2, 3, 3, 4))
    assert all(
        part.untyped_storage().data_ptr() == packed.untyped_storage().data_ptr() for part in unpack(packed, 5)
    )


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [((2, 3, 5), (2, 3, 4, 4)), ((2, 3, 5), (2, 4, 4, 4)), ((2, 3, 5), (1, 3, 3, 4)), ((3, 5), (2, 3, 3, 4))],
)
def test_pack_refuses_what_does_not_fit(nodes, edges):
    with pytest.raises(ValueError, match=r"nodes .*edges"):
        pack(torch.zeros(nodes), torch.zeros(edges))


@pytest.mark.parametrize("shape", [(2, 3, 16), (2, 3, 5), (3, 17), (2, 3, 4), (2, 0, 5)])
def test_unpack_refuses_what_does_not_fit(shape):
    with pytest.raises(ValueError, match="graphs"):
        unpack(torch.zeros(shape), 5)


# The convolution


def test_convolution_is_the_sum_over_neighbours_and_types():
    layer, h, edges = convolution(), random(3, 5, 6), graphs()
    weights = layer.linear.weight.detach().numpy().reshape(7, 4, 6)  # output, type (0 the node itself), input
    bias = layer.linear.bias.detach().numpy()
    expected = np.zeros((3, 5, 7))
    for n, i in np.ndindex(3, 5):
        expected[n, i] = bias + weights[:, 0] @ h[n, i].numpy()
        for j in range(5):
            for y in (1, 2, 3):
                expected[n, i] += edges[n, i, j, y].item() * weights[:, y] @ h[n, j].numpy()
    np.testing.assert_allclose(layer(h, edges).detach().numpy(), expected, **EXACT)


def test_no_edge_carries_no_message():
    layer, h, edges = convolution(), random(3, 5, 6), graphs()
    other = edges.clone()
    other[..., 0] = random(3, 5, 5, seed=9)
    assert torch.equal(layer(h, edges), layer(h, other))
    nothing = torch.zeros_like(edges)
    nothing[..., 0] = 1.0
    alone = layer(h, nothing)
    h[:, 1:] += 1.0
    assert torch.equal(layer(h, nothing)[:, 0], alone[:, 0]), "without an edge the first node hears nobody"


@pytest.mark.parametrize("order", relabelled(), ids=str)
def test_convolution_follows_the_labels(order):
    layer, h, edges = convolution(), random(3, 5, 6), graphs()
    moved = layer(h[:, order], edges[:, order][:, :, order])
    torch.testing.assert_close(moved, layer(h, edges)[:, order], **EXACT)


def test_convolution_has_two_derivatives():
    """The gradient penalty differentiates a gradient; autograd against finite differences."""
    layer = convolution(2, 2, 3)
    inputs = (random(1, 3, 2).requires_grad_(), graphs(1, 3, 3).requires_grad_())
    assert torch.autograd.gradcheck(layer, inputs)
    assert torch.autograd.gradgradcheck(layer, inputs)


# The gated sum


def test_gated_sum_is_the_sum_over_nodes():
    torch.manual_seed(3)
    layer, h = GatedSum(6, 4).double(), random(3, 5, 6)
    weight, bias = layer.linear.weight.detach().numpy(), layer.linear.bias.detach().numpy()
    expected = np.zeros((3, 4))
    for n in range(3):
        for v in range(5):
            gate, value = np.split(weight @ h[n, v].numpy() + bias, 2)
            expected[n] += 1 / (1 + np.exp(-gate)) * np.tanh(value)
    np.testing.assert_allclose(layer(h).detach().numpy(), np.tanh(expected), **EXACT)


@pytest.mark.parametrize("order", relabelled(), ids=str)
def test_gated_sum_has_no_order(order):
    torch.manual_seed(3)
    layer, h = GatedSum(6, 4).double(), random(3, 5, 6)
    torch.testing.assert_close(layer(h[:, order]), layer(h), **EXACT)


def test_gated_sum_has_two_derivatives():
    torch.manual_seed(3)
    layer, h = GatedSum(2, 2).double(), random(1, 3, 2).requires_grad_()
    assert torch.autograd.gradcheck(layer, h) and torch.autograd.gradgradcheck(layer, h)


# Mistakes


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: RelationalGraphConvolution(0, 1, 4), "features"),
        (lambda: RelationalGraphConvolution(1, 0, 4), "outputs"),
        (lambda: RelationalGraphConvolution(1, 1, 1), "edge_types"),
        (lambda: GatedSum(0, 1), "features"),
        (lambda: GatedSum(1, 0), "outputs"),
    ],
)
def test_sizes_are_checked(make, name):
    with pytest.raises(ValueError, match=name):
        make()


@pytest.mark.parametrize("shape", [(3, 5, 5, 3), (3, 4, 5, 4), (1, 5, 5, 4), (3, 5, 5)])
def test_edges_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="edges"):
        convolution()(random(3, 5, 6), torch.zeros(shape, dtype=torch.float64))
