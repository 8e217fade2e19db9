"""Figures: what is drawn, with which axes, and the live view of a run."""

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
import torch
from matplotlib import pyplot as plt

from ganlib import plots
from ganlib.training import History


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def history(columns: int = 2) -> History:
    return History(
        [{"step": s, "seconds": s / 10, **{f"p/{c}": c + 1 / s for c in range(columns)}} for s in (1, 2, 3)]
    )


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_the_pictures_in_order(channels):
    shades = torch.linspace(-1, 1, 6)
    ax = plots.grid(shades.view(6, 1, 1, 1).expand(6, channels, 4, 4), title="shades", columns=3)
    (image,) = ax.get_images()
    pixels = np.asarray(image.get_array())
    assert pixels.shape == (2 * 5 + 1, 3 * 5 + 1, 3)
    middles = pixels[2::5, 2::5, 0].flatten()
    np.testing.assert_allclose(middles, np.linspace(0, 1, 6), atol=1e-6)
    assert ax.get_title() == "shades" and not ax.axison


def test_grid_clips_and_takes_an_axis():
    figure, ax = plt.subplots()
    assert plots.grid(torch.full((1, 1, 2, 2), 7.0, requires_grad=True), ax=ax) is ax
    assert np.asarray(ax.get_images()[0].get_array()).max() == 1
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 2, 4, 4), (1, 4)])
def test_grid_refuses_what_is_no_picture(shape):
    with pytest.raises(ValueError, match=r"images must be \(N, 1 or 3, H, W\)"):
        plots.grid(torch.zeros(shape))


def test_points_are_where_they_are():
    samples = torch.tensor([[0.0, 1.0], [2.0, -1.0], [-3.0, 0.5]], requires_grad=True)
    ax = plots.points(samples, title="Ring")
    (drawn,) = ax.collections
    np.testing.assert_allclose(drawn.get_offsets(), samples.detach())
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("Ring", "x", "y")
    assert ax.get_aspect() == 1, "a circle must look like one"
    assert matplotlib.colors.to_hex(drawn.get_facecolor()[0]) == plots.PALETTE[0].lower()


def test_points_take_an_axis_and_half_precision():
    figure, ax = plt.subplots()
    assert plots.points(torch.ones(2, 2, dtype=torch.float16), ax=ax) is ax
    assert plt.get_fignums() == [figure.number]


@pytest.mark.parametrize("shape", [(3,), (3, 3), (2, 2, 2), (4, 1)])
def test_points_refuse_what_is_not_in_the_plane(shape):
    with pytest.raises(ValueError, match=r"samples must be \(N, 2\), got"):
        plots.points(torch.zeros(shape))


def test_curves_are_the_histories():
    ax = plots.curves(history())
    assert [line.get_label() for line in ax.get_lines()] == ["p/0", "p/1"]
    for c, line in enumerate(ax.get_lines()):
        np.testing.assert_allclose(line.get_xdata(), [1, 2, 3])
        np.testing.assert_allclose(line.get_ydata(), [c + 1, c + 1 / 2, c + 1 / 3])
    assert ax.get_title() and ax.get_xlabel() == "step" and ax.get_ylabel()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["p/0", "p/1"]


def test_curves_of_some_columns():
    ax = plots.curves(history(), ["p/1"], title="One", ylabel="nats")
    assert [line.get_label() for line in ax.get_lines()] == ["p/1"]
    assert (ax.get_title(), ax.get_ylabel()) == ("One", "nats")


def test_more_curves_than_colours_are_all_drawn():
    assert len(plots.curves(history(9)).get_lines()) == 9


def test_palette_is_okabe_and_itos():
    """Color Universal Design, 2008: their eight colours in sRGB, less the yellow, too pale on white."""
    published = {(0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167)}
    published |= {(230, 159, 0), (86, 180, 233), (0, 0, 0)}
    found = {tuple(round(255 * part) for part in matplotlib.colors.to_rgb(c)) for c in plots.PALETTE}
    assert found == published


def test_live_redraws_one_display_at_intervals(monkeypatch):
    display = pytest.importorskip("IPython.display")
    shown = []

    class Handle:
        def update(self, figure):
            shown.append(("update", figure))

    def first(figure, display_id):
        shown.append(("display", figure))
        return Handle()

    class Trainer:
        history = history()
        finished = False
        step = 0

        def sample(self, n):
            return torch.zeros(n, 1, 4, 4)

    monkeypatch.setattr(display, "display", first)
    callback, trainer = plots.live(every=100, n=4), Trainer()
    steps = []
    for step in range(0, 451, 50):
        trainer.step, trainer.finished = step, step == 450
        before = len(shown)
        callback(trainer)
        if len(shown) > before:
            steps.append(step)
    assert steps == [0, 100, 200, 300, 400, 450], "every 100 steps, and at the end"
    assert [kind for kind, _ in shown] == ["display"] + ["update"] * 5
    assert len(shown[-1][1].axes) == 2 and "450" in shown[-1][1].axes[0].get_title()
    assert not plt.get_fignums(), "figures were left open"
