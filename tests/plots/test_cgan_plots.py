"""Figures of conditioning on a class, from numbers chosen by hand: what is drawn is what was given."""

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.colors import to_hex

from ganlib.plots import PALETTE, cgan


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_points_have_the_colour_of_what_was_asked_for():
    points = torch.tensor([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    centres = torch.tensor([[9.0, 9.0], [8.0, 8.0]])
    ax = cgan.asked(points, torch.tensor([1, 0, 1]), centres, [0, 1], title="Points")
    drawn, rings = ax.collections[::2], ax.collections[1::2]
    assert [c.get_offsets().tolist() for c in drawn] == [[[2, 3]], [[0, 1], [4, 5]]]
    assert [c.get_offsets().tolist() for c in rings] == [[[9, 9]], [[8, 8]]]
    colours = [to_hex(c.get_facecolors()[0]) for c in drawn], [to_hex(c.get_edgecolors()[0]) for c in rings]
    assert [c.upper() for c in colours[0]] == [c.upper() for c in colours[1]] == list(PALETTE[:2])
    assert ax.get_title() == "Points" and ax.get_xlabel() and ax.get_ylabel()
    with pytest.raises(ValueError, match="classes must be one per centre, got 1 for 2"):
        cgan.asked(points, torch.zeros(3), centres, [0])
    with pytest.raises(ValueError, match=r"labels must be one per point, got \(2,\) for 3"):
        cgan.asked(points, torch.zeros(2), centres, [0, 1])


def test_columns_are_classes():
    """Image k of a row is all of brightness k: the tick of class k must stand on it."""
    images = torch.linspace(-1, 1, 5).repeat(2)[:, None, None, None].expand(10, 1, 8, 8)
    ax = cgan.by_class(images, 5, title="Rows")
    picture = ax.images[0].get_array()
    for x, tick in zip(ax.get_xticks(), ax.get_xticklabels(), strict=True):
        for y in ax.get_yticks():
            assert picture[int(y), int(x), 0] == pytest.approx(int(tick.get_text()) / 4, abs=0.01)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["1", "2"]
    assert ax.get_title() == "Rows" and ax.get_xlabel() and ax.get_ylabel()
    with pytest.raises(ValueError, match="images must fill rows of 4, got 10"):
        cgan.by_class(images, 4)


def test_likelihoods_stand_below_the_published_ones():
    ax = cgan.likelihoods({"ours": [200.0, 210.0], "other": [150.0]}, title="Parzen")
    names = [t.get_text() for t in ax.get_yticklabels()]
    assert names == [*cgan.PUBLISHED, "ours", "other"]
    ours, other = (line for line in ax.lines if min(line.get_ydata()) >= len(cgan.PUBLISHED))
    assert list(ours.get_xdata()) == [200, 210] and set(ours.get_ydata()) == {names.index("ours")}
    assert list(other.get_xdata()) == [150] and list(other.get_ydata()) == [names.index("other")]
    assert cgan.PUBLISHED["conditional adversarial nets"] == (132, 1.8)
    assert "nats" in ax.get_xlabel() and ax.get_title() == "Parzen"
    for nothing in ({}, {"ours": []}):
        with pytest.raises(ValueError, match="measured must hold at least one number"):
            cgan.likelihoods(nothing)
