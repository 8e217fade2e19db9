"""What the figures of plug and play draw, read back from their axes."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.plots import ppgn


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_chains_have_a_row_per_chain_and_a_column_per_moment():
    """Image (moment, chain) has one grey of its own; it stands where its ticks are."""
    films = (torch.arange(6.0).reshape(3, 2, 1, 1, 1) / 5 * 2 - 1).expand(3, 2, 1, 4, 4)
    ax = ppgn.chains(films, ["a zero", "a one"], [0, 5, 25], title="walks")
    picture = np.asarray(ax.images[0].get_array())[..., 0]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0", "5", "25"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["a zero", "a one"]
    for t, x in enumerate(ax.get_xticks()):
        for n, y in enumerate(ax.get_yticks()):
            # Greys are stored as float32.
            assert picture[round(y), round(x)] == pytest.approx((2 * t + n) / 5, abs=1e-6)
    assert ax.get_title() == "walks" and ax.get_xlabel() and ax.get_ylabel()
    with pytest.raises(ValueError, match="films must be"):
        ppgn.chains(films[0], ["a"], [0])
    with pytest.raises(ValueError, match="3 moments and 2 chains, got 3 and 1"):
        ppgn.chains(films, ["a"], [0, 1, 2])


def test_terms_are_dots_with_names():
    ax = ppgn.terms({"all": (0.9, 2.0), "real": (1.0, 2.5)}, title="what for")
    assert [line.get_xydata().tolist() for line in ax.lines] == [[[90.0, 2.0]], [[100.0, 2.5]]]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["all", "real"]
    assert len({line.get_color() for line in ax.lines}) == len({line.get_marker() for line in ax.lines}) == 2
    assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel()
    with pytest.raises(ValueError, match="figures"):
        ppgn.terms({})


def test_plane_shows_each_walk_and_the_pull():
    where = torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    walks = {"one": torch.rand(5, 2), "two": torch.rand(3, 2)}
    figure = ppgn.plane(-where, where, walks, title="pull")
    assert [ax.get_title() for ax in figure.axes] == ["one", "two"]
    for ax, walk in zip(figure.axes, walks.values(), strict=True):
        points, arrows = ax.collections
        assert np.allclose(points.get_offsets(), walk.numpy())
        assert np.allclose(arrows.get_offsets(), where.numpy())
        assert np.allclose(np.stack([arrows.U, arrows.V], 1), -where.numpy())
    assert figure.get_suptitle() == "pull"
    with pytest.raises(ValueError, match="pull and where"):
        ppgn.plane(where[:1], where, walks)
    with pytest.raises(ValueError, match="walks"):
        ppgn.plane(where, where, {})
