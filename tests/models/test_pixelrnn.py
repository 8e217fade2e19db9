"""Row LSTM: the equations against torch's cell, the triangle it sees, one pixel at a time."""

from itertools import product

import pytest
import torch
from torch import nn

from ganlib.layers.masked import receptive_field, streaming
from ganlib.models.pixelrnn import PixelRNN, RowLSTM


def seen(network: nn.Module, channels: int, place: tuple[int, int, int], size: tuple[int, int] = (6, 7)):
    row, column, channel = place
    images = torch.randn(8, channels, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    field = receptive_field(network, images, row, column, channel)
    return {(i, j, c) for c, i, j in (p.tolist() for p in field.nonzero())}


def test_is_torchs_lstm_down_a_column_of_width_one():
    """Where the image is one pixel wide only the middle taps matter: the states of nn.LSTM."""
    torch.manual_seed(0)
    layer = RowLSTM(3, 5).double()
    other = nn.LSTM(3, 5, batch_first=True).double()
    # Torch orders its gates input, forget, content, output; the paper output, forget, input, content.
    order = torch.cat([torch.arange(5) + 5 * block for block in (2, 1, 3, 0)])
    into, state = layer.input_to_state, layer.state_to_state
    with torch.no_grad():
        other.weight_ih_l0.copy_(into.weight[order, :, 0, 1])
        other.weight_hh_l0.copy_(state.weight[order, :, 1])
        other.bias_ih_l0.copy_(into.bias[order])
        other.bias_hh_l0.zero_()
    x = torch.randn(2, 3, 9, 1, dtype=torch.float64)
    expected = other(x[..., 0].transpose(1, 2))[0].transpose(1, 2)
    # Double precision, nine steps.
    torch.testing.assert_close(layer(x)[..., 0], expected, rtol=1e-10, atol=1e-12)


def test_a_layer_sees_the_triangle_above():
    """Row i - d: d columns to the right, d + 1 to the left (one of them from the masked convolution)."""
    torch.manual_seed(0)
    layer = RowLSTM(1, 2).double()
    for row, column in [(5, 3), (4, 6), (0, 2)]:
        expected = {
            (i, j, 0)
            for i, j in product(range(row + 1), range(7))
            if column - (row - i) - 1 <= j <= column + (row - i)
        }
        assert seen(layer, 1, (row, column, 0)) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_the_network_sees_the_past_alone(channels):
    """Two layers and the 7 x 7 reach all that is left or above of the cone; nothing at or after the pixel."""
    torch.manual_seed(0)
    network = PixelRNN(channels, 2, width=2 * channels, layers=2, hidden=8 * channels).double()
    for row, column, channel in [(5, 3, channels - 1), (3, 0, 0), (0, 0, 0)]:
        found = seen(network, channels, (row, column, channel))
        here = (row, column, channel)
        assert all(place < here for place in found)
        own = {(row, column, c) for c in range(channel)}
        assert own <= found
    # From the first row down to the last one the cone is as wide as the picture: all seven columns.
    assert {(0, j, c) for j in range(7) for c in range(channels)} <= seen(network, channels, (5, 3, 0))


def test_streaming_computes_what_a_pass_computes():
    torch.manual_seed(0)
    network = PixelRNN(3, 4, width=6, layers=2, hidden=6)
    x = torch.randn(2, 3, 5, 6)
    with torch.no_grad():
        expected = network(x)
        with streaming(network, 5, 6) as cursor:
            for cursor.row, cursor.column in product(range(5), range(6)):
                found = network(x)[..., 0, 0]
                # Sums of some tens of products in float32, through two recurrent layers.
                torch.testing.assert_close(
                    found, expected[..., cursor.row, cursor.column], rtol=1e-4, atol=1e-5
                )
        assert torch.equal(network(x), expected)


def test_the_cell_stays_in_float32_under_autocast():
    """With open gates and a small content per row, a cell in bfloat16 stops growing at 256 parts or so."""
    layer = RowLSTM(1, 1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        # Output, forget and input gates open; content tanh(b) with b so small that 600 rows add up to 0.6.
        layer.input_to_state.bias.copy_(torch.tensor([20.0, 20.0, 20.0, 1e-3]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = layer(torch.zeros(1, 1, 600, 1))[0, 0, -1, 0]
    # 1e-3 itself is rounded to 8 bits: a relative 2^-9 of the sum; a bfloat16 cell would end near 0.25.
    assert float(found) == pytest.approx(float(torch.tensor(0.6).tanh()), rel=1e-2)
