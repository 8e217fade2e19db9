"""Figures of the iGAN draw what they are given."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb

from ganlib.models.edit_transfer import Flow
from ganlib.models.igan import drag, paint
from ganlib.plots import PALETTE
from ganlib.plots.igan import edits, flow_panels, strips


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def images(n=3, channels=1):
    return torch.rand(n, channels, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("channels", [1, 3])
def test_strips_put_every_image_in_its_place(channels):
    rows = {"a": images(3, channels), "b": -images(3, channels)}
    ax = strips(rows, title="two rows")
    picture = np.asarray(ax.images[0].get_array()).reshape(20, 30, channels)
    for i, name in enumerate(rows):
        for j in range(3):
            shown = picture[10 * i + 1 : 10 * i + 9, 10 * j + 1 : 10 * j + 9].transpose(2, 0, 1)
            np.testing.assert_allclose(shown, (rows[name][j] + 1) / 2, atol=1e-6)  # float32
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.get_title() == "two rows"
    with pytest.raises(ValueError, match="one shape"):
        strips({"a": images(2), "b": images(3)})


def test_an_edit_is_tinted_by_what_was_asked_for():
    mask = torch.zeros(8, 8)
    mask[2, 3] = 1
    constraints = [paint(mask, 1.0), paint(mask, -1.0), *drag(images(1), mask, 2, 1)]
    figure = edits(*images(4).split(1), constraints)
    assert [ax.get_title() for ax in figure.axes] == [
        "photo",
        "projection, brush",
        "edited sample",
        "photo, edited",
    ]
    tints = [np.asarray(layer.get_array()) for layer in figure.axes[1].images[1:]]
    assert len(tints) == 3  # the outlines' constraint lies on a coarser grid
    for tint, colour, place in zip(tints, PALETTE[:3], [(2, 3), (2, 3), (3, 5)], strict=True):
        np.testing.assert_allclose(tint[place][:3], to_rgb(colour), atol=1e-6)
        assert (tint[..., 3] > 0).sum() == 1 and tint[place][3] > 0


def test_arrows_end_where_they_are_and_begin_where_the_flow_reads():
    motion = torch.zeros(1, 2, 8, 8)
    motion[0, 0], motion[0, 1, 2, 4] = 1.5, -2.0
    colour = torch.zeros(1, 1, 2, 8, 8)
    colour[0, 0, 1, 3, 3] = 0.4
    figure = flow_panels(Flow(motion, colour), images(1), every=2)
    left, right = figure.axes[:2]
    (arrows,) = left.collections
    assert arrows.pivot == "tip"
    assert set(arrows.U) == {-1.5} and arrows.V.reshape(4, 4)[1, 2] == 2.0 and arrows.V.sum() == 2.0
    assert np.asarray(right.images[0].get_array())[3, 3] == pytest.approx(0.4)
    assert left.get_xlabel() == right.get_xlabel() == "x (pixels)"
