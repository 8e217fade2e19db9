"""Masked convolutions: layers that see the pixels before a pixel, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def causal_mask(
    kind: str, inputs: int, outputs: int, rows: int, columns: int, *, channels: int = 1
) -> Tensor:
    """Which weights of a convolution may be other than zero: 0 or 1, ``(outputs, inputs, rows, columns)``.

    The last of the ``rows`` is the pixel's own and the middle one of the ``columns`` its own; the rows below,
    all of them the future, are not there at all. What the paper calls a masked 7 x 7 convolution is
    ``rows=4, columns=7`` here, and costs four sevenths of it. In the last row nothing right of the middle
    remains. In the middle itself the colours come one after the other: with the feature maps cut into
    ``channels`` equal groups (R, G, B), an output of group g sees

    - kind A: the groups before g. For the first layer, whose input of group g *is* what is to be predicted.
    - kind B: the groups up to g. For every later layer, whose group g knows of the colours before g only.

    Raises:
        ValueError: for another kind, an even number of columns, or features that do not make equal groups.

    Source: van den Oord et al. 2016a, "Pixel Recurrent Neural Networks". Lecture: OUC "Pixel RNN".
    """
    if kind not in ("A", "B"):
        raise ValueError(f'kind must be "A" or "B", got {kind!r}')
    if rows < 1 or columns < 1 or columns % 2 == 0:
        raise ValueError(f"rows and columns must be positive and columns odd, got {rows} x {columns}")
    if channels < 1 or inputs % channels or outputs % channels:
        raise ValueError(
            f"inputs and outputs must be multiples of the {channels} channels, got {inputs} and {outputs}"
        )
    group_in = torch.arange(inputs) * channels // inputs
    group_out = torch.arange(outputs) * channels // outputs
    before = group_in < group_out[:, None] if kind == "A" else group_in <= group_out[:, None]
    mask = torch.ones(outputs, inputs, rows, columns)
    mask[:, :, -1, columns // 2 + 1 :] = 0
    mask[:, :, -1, columns // 2] = before.float()
    return mask


class Cursor:
    """Where a pass pixel by pixel stands, and what each layer has seen on its way there.

    Attributes:
        row, column: the pixel.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.row = self.column = 0
        self._maps: dict[object, Tensor] = {}

    def map(self, key: object, features: Tensor, above: int, beside: int) -> Tensor:
        """What is kept under ``key``: ``(above + height, width + 2 beside, *features.shape)``, first zeros.

        The margins stay zero: they are the padding. A pixel's entry is ``[above + row, beside + column]``.
        """
        if key not in self._maps:
            shape = (above + self.height, self.width + 2 * beside, *features.shape)
            self._maps[key] = features.new_zeros(shape)
        return self._maps[key]


class MaskedConv2d(nn.Conv2d):
    """A convolution that keeps the size and looks back only: ``(N, inputs, H, W)`` -> ``(N, outputs, H, W)``.

    The mask multiplies the weights in every forward pass, not once at the start: what the optimizer, weight
    decay or an average does to a masked weight never reaches the output, and its gradient is zero.

    Within :func:`streaming` it computes the output at the cursor alone, ``(N, outputs, 1, 1)``: kind A reads
    the whole images, and kind B takes ``(N, inputs, 1, 1)`` and remembers it.

    Args:
        kind: "A" or "B", as for :func:`causal_mask`.
        inputs: feature maps.
        outputs: feature maps.
        size: side of the kernel, odd.
        channels: colours, which are the groups of feature maps.
        rows: of the kernel that are kept, the pixel's own and those above; by default ``size // 2 + 1``.

    Raises:
        ValueError: as :func:`causal_mask`.

    Source: van den Oord et al. 2016a, "Pixel Recurrent Neural Networks".
    """

    mask: Tensor
    cursor: Cursor | None = None

    def __init__(
        self, kind: str, inputs: int, outputs: int, size: int, *, channels: int = 1, rows: int | None = None
    ) -> None:
        rows = size // 2 + 1 if rows is None else rows
        mask = causal_mask(kind, inputs, outputs, rows, size, channels=channels)
        super().__init__(inputs, outputs, (rows, size), padding=(rows - 1, size // 2))
        self.kind = kind
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.cursor is not None:
            return self._at(self.cursor, x)
        weight = self.weight * self.mask
        # Padded below as above, because a convolution pads both; the rows that gives too many are dropped.
        return F.conv2d(x, weight, self.bias, padding=self.padding)[:, :, : x.shape[2]]

    def _at(self, cursor: Cursor, x: Tensor) -> Tensor:
        rows, columns = self.kernel_size
        row, column, above, beside = cursor.row, cursor.column, rows - 1, columns // 2
        if self.kind == "A":
            left, top = max(column - beside, 0), max(row - above, 0)
            near = x[:, :, top : row + 1, left : column + beside + 1]
            missing = columns - near.shape[3] - (left - column + beside)
            patch = F.pad(near, (left - column + beside, missing, rows - near.shape[2], 0))
        elif rows * columns == 1:
            patch = x
        else:
            seen = cursor.map(self, x[:, :, 0, 0], above, beside)
            seen[row + above, column + beside] = x[:, :, 0, 0]
            patch = seen[row : row + rows, column : column + columns].permute(2, 3, 0, 1)
        weight = (self.weight * self.mask).flatten(1)
        return F.linear(patch.flatten(1), weight, self.bias)[:, :, None, None]


def gates(x: Tensor, number: int, channels: int) -> tuple[Tensor, ...]:
    """Cut feature maps ``(N, number F, ...)`` into ``number`` gates ``(N, F, ...)``, each with every colour.

    The colours are the outer groups, so that each gate takes its part of each of them.
    """
    parts = x.unflatten(1, (channels, number, -1)).unbind(2)
    return tuple(part.flatten(1, 2) for part in parts)


class GatedStacks(nn.Module):
    r"""A gated layer of two stacks that has no blind spot: (vertical, horizontal) -> (vertical, horizontal).

    A stack of masked 3 x 3 convolutions never sees part of what is above and to the right: its field of view
    climbs one row for each column, so that a pixel at the right on the row above is past and out of sight for
    good. Here one stack looks at all the rows above, without a mask, and the other along the pixel's own row:

    .. math:: v' = \tanh(W_f * v) \odot \sigma(W_g * v), \qquad
              h' = \tanh(V_f * h + U_f v_c) \odot \sigma(V_g * h + U_g v_c)

    where v_c is the convolved v before its gates. Past the first layer a 1 x 1 convolution and a residual
    connection follow in the horizontal stack.

    Args:
        kind: "A" for the first layer, which takes the images twice and shifts the first down by a row; "B".
        inputs: feature maps of either stack.
        width: feature maps of either stack that come out; equal to ``inputs`` for kind B.
        size: of the kernels, odd.
        channels: colours.

    Source: van den Oord et al. 2016b, "Conditional Image Generation with PixelCNN Decoders".
    """

    def __init__(self, kind: str, inputs: int, width: int, size: int = 3, *, channels: int = 1) -> None:
        super().__init__()
        rows, self.kind, self.channels = size // 2 + 1, kind, channels
        self.vertical = nn.Conv2d(inputs, 2 * width, (rows, size), padding=(rows - 1, size // 2))
        self.horizontal = MaskedConv2d(kind, inputs, 2 * width, size, channels=channels, rows=1)
        self.link = nn.Conv2d(2 * width, 2 * width, 1)
        self.out = MaskedConv2d("B", width, width, 1, channels=channels) if kind == "B" else None

    def forward(self, vertical: Tensor, horizontal: Tensor) -> tuple[Tensor, Tensor]:
        height = vertical.shape[2]
        if self.kind == "A":
            vertical = F.pad(vertical, (0, 0, 1, 0))[:, :, :height]
        above = self.vertical(vertical)[:, :, :height]
        h = self._gate(self.horizontal(horizontal) + self.link(above))
        return self._gate(above), h if self.out is None else horizontal + self.out(h)

    def _gate(self, x: Tensor) -> Tensor:
        signal, gate = gates(x, 2, self.channels)
        return signal.tanh() * gate.sigmoid()


@contextmanager
def streaming(network: nn.Module, height: int, width: int) -> Iterator[Cursor]:
    """Let ``network`` compute one pixel per call, from what its layers remember of the pixels before.

    A masked layer's features at a pixel depend on the pixels before it, so that filling in later ones does
    not change them. A sampler that moves the cursor in raster order therefore does the work of one pass over
    the image, where one that calls the network afresh for each pixel does it once per pixel. The network is
    called on the whole images ``(N, C, height, width)`` and returns its output at the cursor, 1 x 1; no pixel
    may be left out. Not for training.

    Layers with an attribute ``cursor`` take part; those that look at one pixel alone need nothing.

    Raises:
        ValueError: if the network has another convolution that looks at neighbours.

    Source: Ramachandran et al. 2017, "Fast Generation for Convolutional Autoregressive Models".
    """
    layers = [m for m in network.modules() if hasattr(m, "cursor")]
    blind = [m for m in network.modules() if isinstance(m, nn.Conv2d) and m not in layers]
    if any(m.kernel_size != (1, 1) for m in blind):
        raise ValueError("network must look at neighbours through layers with a cursor only, as MaskedConv2d")
    cursor = Cursor(height, width)
    for layer in layers:
        layer.cursor = cursor
    try:
        yield cursor
    finally:
        for layer in layers:
            layer.cursor = None


def receptive_field(
    network: Callable[[Tensor], Tensor], images: Tensor, row: int, column: int, channel: int = 0
) -> Tensor:
    """How strongly the output at one pixel depends on each input: mean absolute gradient ``(C, H, W)``.

    Exactly zero where there is no path. ReLUs close paths by chance, so take enough ``images``.

    Args:
        network: images ``(N, C, H, W)`` -> outputs ``(N, C, ..., H, W)``.
        images: where the gradient is taken, float ``(N, C, H, W)``.
        row, column, channel: the output's; its sum over what lies between C and H is what is differentiated.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        output = network(images)[:, channel, ..., row, column].sum()
        (gradient,) = torch.autograd.grad(output, images)
    return gradient.abs().mean(0)
