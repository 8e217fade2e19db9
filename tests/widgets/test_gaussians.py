"""The Gaussians' widget without a browser: sliders change the picture, and its numbers are the theory's."""

import io
import re

import ipywidgets
import numpy as np
import pytest
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ganlib.plots.divergence import MEASURES, draw
from ganlib.theory import divergences as dv
from ganlib.theory.discriminator import optimal_discriminator
from ganlib.widgets.gaussians import EXAMPLES, gaussians


def parts(widget, kind):
    """All widgets of a kind inside of a box, in order."""
    children = [found for child in getattr(widget, "children", ()) for found in parts(child, kind)]
    return [widget] * isinstance(widget, kind) + children


def picture(widget) -> bytes:
    (image,) = parts(widget, ipywidgets.Image)
    return image.value


def numbers(widget) -> list[list[float]]:
    (table,) = parts(widget, ipywidgets.HTML)
    rows = re.findall(r"<tr><td>.*?</tr>", table.value)
    return [[float(v) for v in re.findall(r"<td style[^>]*>(.*?)</td>", row)] for row in rows]


def sliders(widget):
    return {slider.description: slider for slider in parts(widget, ipywidgets.FloatSlider)}


def expected(pair) -> list[list[float]]:
    mean_p, std_p, mean_q, std_q = pair
    return [
        [
            dv.gaussian_kl(*pair),
            dv.gaussian_kl(mean_q, std_q, mean_p, std_p),
            dv.gaussian_jsd(*pair),
            dv.gaussian_wasserstein1(*pair),
        ],
        [
            *dv.gaussian_kl_gradient(*pair),
            dv.gaussian_jsd_gradient(*pair),
            dv.gaussian_wasserstein1_gradient(*pair),
        ],
    ]


@pytest.mark.parametrize("name", ["mean of p", "std of p", "mean of q", "std of q"])
def test_moving_a_slider_redraws_and_recomputes(name):
    widget = gaussians()
    before, slider = picture(widget), sliders(widget)[name]
    slider.value += 0.7
    assert picture(widget) != before
    pair = [s.value for s in sliders(widget).values()]
    np.testing.assert_allclose(numbers(widget), expected(pair), atol=5.01e-4)  # three decimals are shown
    slider.value -= 0.7
    assert picture(widget) == before  # nothing of the last picture is left in this one


def test_starts_at_the_lectures_example():
    values, pulls = numbers(gaussians())
    assert values == [2.0, 2.0, 0.337, 2.0]
    assert pulls == [2.0, 2.0, 0.225, 1.0]


def test_buttons_set_all_sliders_and_draw_once(monkeypatch):
    drawn = []
    monkeypatch.setattr("ganlib.widgets.gaussians.draw", lambda *a, **k: drawn.append(a) or draw(*a, **k))
    widget = gaussians()
    for button in parts(widget, ipywidgets.Button):
        drawn.clear()
        button.click()
        pair = EXAMPLES[button.description]
        assert tuple(s.value for s in sliders(widget).values()) == pair
        assert drawn == [pair] or drawn == [list(pair)]
        np.testing.assert_allclose(numbers(widget), expected(pair), atol=5.01e-4)
    sliders(widget)["mean of p"].value = 1.3  # the sliders listen again
    assert len(drawn) == 2


def test_image_is_a_picture_that_a_browser_test_can_find():
    (image,) = parts(gaussians(), ipywidgets.Image)
    assert "ganlib-figure" in image._dom_classes
    with Image.open(io.BytesIO(image.value)) as opened:
        assert opened.format == "PNG"
        assert opened.size == (880, 288)


@pytest.mark.parametrize(
    ("start", "message"),
    [({"std_q": 0.0}, "std of q must start in"), ({"mean_p": 7.0}, "mean of p must start in")],
)
def test_start_outside_of_the_sliders_is_refused(start, message):
    with pytest.raises(ValueError, match=message):
        gaussians(**start)


# The figure itself


def line(ax, label):
    (found,) = [artist for artist in ax.lines if artist.get_label() == label]
    return found.get_data()


def test_draw_shows_what_theory_computes():
    pair = (0.5, 1.2, -1.0, 0.7)
    figure = draw(*pair)
    top, bottom, values, slopes = figure.axes
    x, p = line(top, "p, data")
    _, q = line(top, "q, fakes")
    np.testing.assert_allclose(p, dv.gaussian_density(x, *pair[:2]))
    np.testing.assert_allclose(q, dv.gaussian_density(x, *pair[2:]))
    np.testing.assert_allclose(bottom.lines[1].get_ydata(), optimal_discriminator(p, q))
    for ax, row in ((values, 0), (slopes, 1)):
        dots = [artist.get_data() for artist in ax.lines if artist.get_marker() == "o"]
        np.testing.assert_allclose(np.ravel([y for _, y in dots]), expected(pair)[row])
        assert {float(x[0]) for x, _ in dots} == {-1.5}
        for index, name in enumerate(MEASURES):
            distance, curve = line(ax, name)
            for k in (10, 42, 77):
                at = (pair[0], pair[1], pair[0] + distance[k], pair[3])
                assert curve[k] == pytest.approx(expected(at)[row][index])


def test_drawing_again_leaves_the_same_picture_as_drawing_anew():
    def pixels(figure: Figure) -> np.ndarray:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())

    used = draw(0, 1, 2, 1)
    for pair in ((-3, 0.4, 1, 2), (0.5, 1.2, -1, 0.7)):
        assert draw(*pair, figure=used) is used
        assert (pixels(used) == pixels(draw(*pair))).all()


def test_draw_labels_every_axis_and_opens_no_pyplot_figure():
    before = pyplot.get_fignums()
    figure = draw(0, 1, 2, 1)
    assert pyplot.get_fignums() == before
    assert all(ax.get_ylabel() for ax in figure.axes)
    assert all(figure.axes[k].get_title() for k in (0, 2, 3))


def test_draw_refuses_what_the_theory_refuses():
    with pytest.raises(ValueError, match="std_q must be positive"):
        draw(0, 1, 2, 0)
