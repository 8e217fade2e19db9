"""PixelRNN: an exact density by recurrent layers that read the image row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ganlib.layers.masked import Cursor, MaskedConv2d, gates
from ganlib.models.pixelcnn import Autoregressive, experiment, head, multiple, training_images
from ganlib.systems import system
from ganlib.training import Budget, Experiment

if TYPE_CHECKING:
    from ganlib.data import Images


class RowLSTM(nn.Module):
    r"""An LSTM whose time runs down the rows: ``(N, inputs, H, W)`` -> ``(N, width, H, W)``.

    .. math:: [o_i, f_i, i_i, g_i] = \sigma(K^{ss} * h_{i-1} + K^{is} * x_i), \qquad
              c_i = f_i \odot c_{i-1} + i_i \odot g_i, \qquad h_i = o_i \odot \tanh(c_i)

    for the whole row i at once (:math:`\sigma` is tanh for the content g, the logistic function for the three
    gates). :math:`K^{is}` is a masked convolution along the row, three wide; :math:`K^{ss}` a
    convolution of the row above, three wide and without a mask, for all of it is past. The state begins at
    zero. A pixel's state gathers the triangle above it, which widens by a pixel to either side per row.

    The cell's state is kept in float32 under autocast: it is a sum over all the rows.

    Args:
        inputs: feature maps.
        width: features of the state, a multiple of ``channels``.
        channels: colours.

    Source: van den Oord et al. 2016a, section 3.1, equation 3.
    """

    cursor: Cursor | None = None

    def __init__(self, inputs: int, width: int, *, channels: int = 1) -> None:
        super().__init__()
        self.width, self.channels = width, channels
        self.input_to_state = MaskedConv2d("B", inputs, 4 * width, 3, channels=channels, rows=1)
        self.state_to_state = nn.Conv1d(width, 4 * width, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inputs = self.input_to_state(x)
        if self.cursor is not None:
            return self._at(self.cursor, inputs[:, :, 0, 0])[:, :, None, None]
        n, _, _, columns = inputs.shape
        hidden = cell = self.state_to_state.weight.new_zeros(n, self.width, columns)
        rows = []
        for row in inputs.permute(2, 0, 1, 3).contiguous():
            hidden, cell = self._step(row + self.state_to_state(hidden), cell)
            rows.append(hidden)
        return torch.stack(rows, 2)

    def _step(self, before: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Gates before their functions ``(N, 4 width, ...)`` and the cell above -> hidden state and cell."""
        out, forget, into, content = gates(before, 4, self.channels)
        cell = forget.sigmoid() * cell + into.sigmoid() * content.tanh()
        return out.sigmoid() * cell.tanh(), cell

    def _at(self, cursor: Cursor, inputs: Tensor) -> Tensor:
        """The hidden state at the cursor from the three above it; one row of margin is the initial state."""
        row, column = cursor.row, cursor.column
        like = inputs[:, : self.width].to(self.state_to_state.weight.dtype)
        hiddens = cursor.map((self, "hidden"), like, above=1, beside=1)
        cells = cursor.map((self, "cell"), like, above=1, beside=0)
        above = hiddens[row, column : column + 3].permute(1, 2, 0).flatten(1)
        before = inputs + linear(above, self.state_to_state.weight.flatten(1))
        hidden, cell = self._step(before, cells[row, column])
        hiddens[row + 1, column + 1], cells[row + 1, column] = hidden, cell
        return hidden


class Residual(nn.Module):
    """A Row LSTM of half the features, a 1 x 1 convolution back, added to what came in.

    Source: van den Oord et al. 2016a, section 3.3.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            RowLSTM(2 * width, width, channels=channels),
            MaskedConv2d("B", width, 2 * width, 1, channels=channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class PixelRNN(nn.Module):
    """Images ``(N, C, H, W)`` in [-1, 1] -> logits ``(N, C, levels, H, W)`` of each pixel given those before.

    A 7 x 7 convolution of kind A, Row LSTM layers with residual connections, and PixelCNN's head.

    Args:
        channels: C.
        levels: grey levels.
        width: features of an LSTM's state, a multiple of ``channels``; twice as many between layers.
        layers: how many LSTMs.
        hidden: features of the head, a multiple of ``channels``.

    Source: van den Oord et al. 2016a, "Pixel Recurrent Neural Networks", Row LSTM.
    """

    def __init__(
        self, channels: int = 1, levels: int = 2, width: int = 16, layers: int = 3, hidden: int = 32
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MaskedConv2d("A", channels, 2 * width, 7, channels=channels),
            *(Residual(width, channels) for _ in range(layers)),
            head(2 * width, hidden, channels, levels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@system(
    name="pixelrnn",
    title="PixelRNN (Row LSTM)",
    paper="van den Oord et al. 2016, Pixel Recurrent Neural Networks",
    lectures=("OUC: Pixel RNN",),
    notebook="11_latent_spaces.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Two Row LSTM layers on binarised digits, seven on ``gpu``."""
    images, levels = training_images(data, budget)
    channels, *_ = shape = tuple(images.images.shape[1:])
    model = PixelRNN(
        channels,
        levels,
        width=multiple(budget.pick(smoke=8, cpu=24, gpu=32), channels),
        layers=budget.pick(smoke=1, cpu=2, gpu=7),
        hidden=multiple(32, channels),
    )
    rate, steps = budget.pick(smoke=5e-3, cpu=5e-3, gpu=1e-3), budget.pick(smoke=2, cpu=2700, gpu=200_000)
    return experiment(Autoregressive(model, shape, levels), images, budget, data, rate, steps)
