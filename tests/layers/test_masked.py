"""Masked convolutions: what sees what, against reachability by hand and gradients; one pixel at a time."""

import copy
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganlib.layers.masked import (
    GatedStacks,
    MaskedConv2d,
    causal_mask,
    gates,
    receptive_field,
    streaming,
)
from ganlib.models.pixelcnn import GatedPixelCNN, PixelCNN


def positive_(network: nn.Module) -> nn.Module:
    """All weights positive: no ReLU closes, no sum cancels, and a gradient is zero by the mask alone."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.1, 0.3)
    return network.double()


def seen(network: nn.Module, shape: tuple[int, int, int], row: int, column: int, channel: int = 0):
    """(colour, row, column) of every input that reaches the output there."""
    images = torch.rand(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    field = receptive_field(network, images, row, column, channel)
    return {tuple(place.tolist()) for place in field.nonzero()}


def before(shape: tuple[int, int, int], row: int, column: int, channel: int = 0):
    """All that comes before in raster order, colour after colour."""
    here = (row, column, channel)
    colours, height, width = shape
    return {(c, i, j) for i, j, c in product(range(height), range(width), range(colours)) if (i, j, c) < here}


def reached(kernels: list[tuple[str, int]], shape: tuple[int, int, int], place: tuple[int, int, int]):
    """The same as :func:`seen`, by walking back from the output through kernels (kind, size)."""
    (colours, height, width), found = shape, {place}
    for kind, size in reversed(kernels):
        further, reach = set(), size // 2
        for i, j, c in found:
            for y, x, k in product(range(height), range(width), range(colours)):
                past = (y, x, k) < (i, j, c) if kind == "A" else (y, x, k) <= (i, j, c)
                # The colours at another pixel are all past or all future, which the pair of pixels decides.
                past = past if (y, x) == (i, j) else (y, x) < (i, j)
                if past and abs(y - i) <= reach and abs(x - j) <= reach:
                    further.add((y, x, k))
        found = further
    return {(k, y, x) for y, x, k in found}


# The mask


@pytest.mark.parametrize("kind", ["A", "B"])
@pytest.mark.parametrize("channels", [1, 3])
def test_mask_is_raster_order(kind, channels):
    """Each of the weights by its definition: the input's (row, column, colour) against the output's."""
    inputs, outputs = 2 * channels, 4 * channels
    mask = causal_mask(kind, inputs, outputs, 3, 5, channels=channels)
    assert mask.shape == (outputs, inputs, 3, 5)
    for o, i, y, x in product(range(outputs), range(inputs), range(3), range(5)):
        source, target = (y - 2, x - 2, i // 2), (0, 0, o // 4)
        if source[:2] != (0, 0):
            allowed = source[:2] < (0, 0)
        else:
            allowed = source < target if kind == "A" else source <= target
        assert mask[o, i, y, x] == allowed


def test_equals_the_papers_masked_square_kernel():
    """A 7 x 7 convolution whose last 24 taps are zero, computed by torch on the whole kernel."""
    torch.manual_seed(0)
    layer = MaskedConv2d("A", 2, 3, 7).double()
    whole = torch.zeros(3, 2, 7, 7, dtype=torch.float64)
    whole[:, :, :4] = layer.weight.detach()
    whole.view(3, 2, 49)[:, :, 24:] = 0
    x = torch.randn(2, 2, 9, 6, dtype=torch.float64)
    # Double precision: 84 products in another order.
    torch.testing.assert_close(layer(x), F.conv2d(x, whole, layer.bias, padding=3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("channels", [1, 3])
def test_receptive_field_is_reachability(channels):
    """The plain stack sees exactly what its kernels can walk to, colours included: never itself or later."""
    shape = (channels, 8, 9)
    network = positive_(PixelCNN(channels, 2, width=3, blocks=2, hidden=3))
    for row, column, channel in [(7, 4, channels - 1), (5, 0, 0), (0, 8, channels - 1), (0, 0, 0)]:
        found = seen(network, shape, row, column, channel)
        walk = [("A", 7), ("B", 3), ("B", 3)]
        assert found == reached(walk, shape, (row, column, channel))
        assert found <= before(shape, row, column, channel)


def test_blind_spot_of_the_plain_stack_and_none_in_two_stacks():
    """Depth does not help the plain stack to see what is to the right and near above; two stacks see all."""
    shape, row, column = (1, 8, 12), 7, 3
    plain = before(shape, row, column) - seen(positive_(PixelCNN(width=2, blocks=8)), shape, row, column)
    # Three columns to the right come with the 7 x 7 on each of the rows above; a 3 x 3 adds one column only
    # by climbing a row.
    assert plain == {(0, 6, j) for j in range(7, 12)} | {(0, 5, j) for j in range(8, 12)} | {
        (0, 4, j) for j in range(9, 12)
    } | {(0, 3, j) for j in range(10, 12)} | {(0, 2, 11)}
    assert seen(positive_(GatedPixelCNN(width=2, blocks=8)), shape, row, column) == before(shape, row, column)


@pytest.mark.parametrize("place", [(3, 2, 0), (3, 2, 1), (3, 2, 2), (0, 0, 0)])
def test_two_stacks_keep_the_colours_order(place):
    row, column, channel = place
    network = positive_(GatedPixelCNN(3, 2, width=3, blocks=3, hidden=3))
    shape = (3, 4, 5)
    assert seen(network, shape, row, column, channel) == before(shape, row, column, channel)


# Through training


def test_mask_survives_training():
    """Weights under the mask get no gradient, and whatever else moves them stays without effect."""
    torch.manual_seed(0)
    network = PixelCNN(width=4, blocks=1, hidden=4)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    x = torch.randn(4, 1, 6, 6)
    for _ in range(3):
        network(x).square().mean().backward()
        optimizer.step()
    masked = [m for m in network.modules() if isinstance(m, MaskedConv2d)]
    assert all((m.weight.grad[m.mask == 0] == 0).all() for m in masked)
    expected = network(x)
    for layer in masked:
        layer.weight.data[layer.mask == 0] = 1e3
    assert torch.equal(network(x), expected)
    later = x.clone()
    later[:, :, 3, 2:] = 9.0
    later[:, :, 4:] = -9.0
    assert torch.equal(network(later)[..., :3, :], expected[..., :3, :])
    assert torch.equal(network(later)[..., 3, :3], expected[..., 3, :3])


def test_precision_layout_and_state():
    torch.manual_seed(0)
    network = PixelCNN(3, 4, width=6, blocks=1, hidden=6)
    x = torch.randn(2, 3, 6, 6)
    expected = network(x)
    assert not [name for name in network.state_dict() if "mask" in name], "the mask is no weight"
    other = PixelCNN(3, 4, width=6, blocks=1, hidden=6)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(x), expected)
    # Another algorithm for the same products of order one, in float32.
    last = copy.deepcopy(network).to(memory_format=torch.channels_last)
    torch.testing.assert_close(last(x.to(memory_format=torch.channels_last)), expected, rtol=0, atol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = network(x)
        assert low.dtype == torch.bfloat16
        low.float().square().mean().backward()
    # bfloat16 keeps 8 bits: 2^-8 of the largest per layer, six layers deep.
    largest = float(expected.detach().abs().max())
    torch.testing.assert_close(low.float(), expected, rtol=0, atol=6 * 2**-8 * largest)
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert all((m.weight.grad[m.mask == 0] == 0).all() for m in network.modules() if hasattr(m, "mask"))


# One pixel at a time


def test_streaming_computes_what_a_pass_computes():
    torch.manual_seed(0)
    network = PixelCNN(3, 4, width=6, blocks=2, hidden=6).double()
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    with torch.no_grad():
        expected = network(x)
        with streaming(network, 5, 7) as cursor:
            for cursor.row, cursor.column in product(range(5), range(7)):
                known = x.clone()
                known[:, :, cursor.row, cursor.column + 1 :] = 99.0
                known[:, :, cursor.row + 1 :] = 99.0
                found = network(known)[..., 0, 0]
                # Double precision: sums of a hundred products in another order.
                torch.testing.assert_close(
                    found, expected[..., cursor.row, cursor.column], rtol=1e-10, atol=1e-12
                )
        assert torch.equal(network(x), expected), "the network is as it was"


def test_streaming_refuses_what_it_cannot_follow_and_cleans_up():
    with pytest.raises(ValueError, match="cursor"), streaming(GatedPixelCNN(width=2, blocks=1), 4, 4):
        pass
    network = PixelCNN(width=2, blocks=1, hidden=2)
    with pytest.raises(KeyError), streaming(network, 4, 4):
        raise KeyError
    assert all(m.cursor is None for m in network.modules() if isinstance(m, MaskedConv2d))


# Arguments


def test_gates_take_their_part_of_every_colour():
    x = torch.arange(12.0).view(1, 12, 1, 1)
    first, second = gates(x, 2, channels=3)
    assert first.flatten().tolist() == [0, 1, 4, 5, 8, 9] and second.flatten().tolist() == [
        2,
        3,
        6,
        7,
        10,
        11,
    ]


@pytest.mark.parametrize(
    ("arguments", "channels", "word"),
    [
        (("C", 1, 1, 2, 3), 1, "kind"),
        (("A", 1, 1, 2, 4), 1, "odd"),
        (("A", 1, 1, 0, 3), 1, "rows"),
        (("B", 3, 4, 2, 3), 3, "multiples"),
        (("B", 3, 3, 2, 3), 0, "multiples"),
    ],
)
def test_bad_arguments(arguments, channels, word):
    with pytest.raises(ValueError, match=word):
        causal_mask(*arguments, channels=channels)
    assert GatedStacks("A", 1, 2).out is None
