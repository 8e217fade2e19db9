"""The ablation's cells and what they measure: peaks and path spread on signals whose values are known."""

import math

import pytest
import torch
from torch import nn

from ganlib import studies
from ganlib.studies.stylegan2 import path_spread, peaks
from ganlib.training import Budget


def test_peaks_of_known_maps():
    """One pixel that differs: the most there can be, sqrt(n - 1); a chessboard: 1; a constant: 0."""
    spot = torch.zeros(16, 16)
    spot[3, 5] = 7.0
    board = (torch.arange(16)[:, None] + torch.arange(16)) % 2 * 2.0 - 1
    maps = torch.stack([spot, -100 * spot + 3, board, torch.full((16, 16), 4.0)])[None]
    first, second = peaks(torch.cat([maps, 10 * maps]).double())
    torch.testing.assert_close(first, second)  # a deviation is its own map's, not the batch's
    wanted = torch.tensor([math.sqrt(255), math.sqrt(255), 1.0, 0.0], dtype=torch.float64)
    torch.testing.assert_close(first, wanted)


class Flat(nn.Module):
    """A stand-in for a generator: images linear in w, with a factor that depends on the first latent."""

    latent_dim = 64

    def __init__(self, uneven: float) -> None:
        super().__init__()
        self.register_buffer("mean_w", torch.zeros(64))
        columns, _ = torch.linalg.qr(torch.randn(256, 64, generator=torch.Generator().manual_seed(0)))
        self.columns, self.uneven = columns, uneven

    def mapping(self, z: torch.Tensor) -> torch.Tensor:
        return z

    def synthesis(self, w: torch.Tensor) -> torch.Tensor:
        factor = torch.where(w[:, :1].detach() > 0, 1 + self.uneven, 1 - self.uneven)
        return (factor * w @ self.columns.T).view(-1, 1, 16, 16)


def test_spread_of_known_paths():
    """Orthogonal: the relative deviation of a normal vector's length in 64 dimensions, 1 / sqrt(128). With
    half of the space 1.5 and half 0.5 times as steep: that of 1 +- 0.5, which is 0.5, and a little of y's."""
    rng = torch.Generator().manual_seed(0)
    # 4000 lengths: a deviation is known to 1 / sqrt(8000), about 1 %; five of those
    assert path_spread(Flat(0.0), 4000, rng) == pytest.approx(1 / math.sqrt(2 * 64), rel=0.06)
    y = 1 / (2 * 64)
    assert path_spread(Flat(0.5), 4000, rng) == pytest.approx(math.sqrt(0.25 + 1.25 * y), rel=0.03)


def test_cells_are_the_papers_rows_and_run():
    cells = studies.get("stylegan2-ablation").cells(Budget.SMOKE)
    assert [cell.name for cell in cells] == list("abcdef")
    assert studies.get("stylegan2-ablation").seeds == (0, 1, 2)
    for cell in (cells[0], cells[5]):
        outcome = cell.run(0)
        assert {"fid", "path_length", "path_spread", "peak", "generator_weights"} <= set(outcome.figures)
        assert all(math.isfinite(value) for value in outcome.figures.values())
        assert 1 <= outcome.figures["peak"] <= math.sqrt(32 * 32 - 1)
        assert outcome.arrays["maps"].shape == (8, 32, 32)
        assert outcome.images.shape == (32, 1, 32, 32)
