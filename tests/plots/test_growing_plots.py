"""The figures of progressive growing: what they count against brute force, what they draw, read back."""

import math

import matplotlib
import numpy as np
import pytest
import torch
from torch import nn

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.layers import PixelNorm
from ganlib.plots import PALETTE, growing
from ganlib.training import Growth, History

UNEVEN = Growth(sizes=(4, 8, 16), batch_sizes=(8, 4, 3), images=16)  # phases of 2, 4 and 6 rounds


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# shown


def test_images_shown_are_the_sum_of_the_batches_dealt():
    batch = dict(zip(UNEVEN.sizes, UNEVEN.batch_sizes, strict=True))
    dealt = 0
    for step in range(UNEVEN.rounds + 5):
        assert growing.shown(UNEVEN, step) == dealt
        dealt += batch[UNEVEN.at(step).size]
    assert growing.shown(Growth((32,), (7,), 100), 3) == 21


def test_the_papers_schedule_shows_13_6_million_images():
    sizes = tuple(4 << k for k in range(9))
    paper = Growth(sizes, (16,) * 6 + (14, 6, 3), 800_000)
    # 17 phases; only batches of 14, 6 and 3 do not divide 800,000, and overshoot by 2, 4 and 1, twice each.
    assert growing.shown(paper, paper.rounds) == 17 * 800_000 + 2 * (2 + 4 + 1)


def test_images_shown_refuses_rounds_before_the_first():
    with pytest.raises(ValueError, match="step must not be negative, got -1"):
        growing.shown(UNEVEN, -1)


# schedule


def test_schedule_draws_sizes_as_steps_and_alpha_as_lines_in_images():
    upper, lower = growing.schedule(UNEVEN, title="t")
    (sides,) = upper.lines
    # 16 images at 4 x 4, twice 16 at 8 x 8 and, in whole rounds of 3, twice 18 at 16 x 16
    assert dict(zip(*sides.get_data(), strict=True))[0.016] == 8
    assert sides.get_ydata().tolist()[0] == 4 and sides.get_ydata().tolist()[-1] == 16
    assert sides.get_xdata()[-1] == pytest.approx((16 + 32 + 36) / 1000)
    first, second, third = (line.get_data() for line in lower.lines)
    assert set(first[1]) == {1.0}
    for (x, alphas), begin, length in ((second, 0.016, 0.016), (third, 0.048, 0.018)):
        # float rounding of quotients of small integers
        np.testing.assert_allclose(alphas, np.minimum(1, (np.asarray(x) - begin) / length), atol=1e-9)
        assert alphas[0] == 0 and alphas[-1] == 1
    assert [(p.get_x(), round(p.get_width(), 9)) for p in lower.patches] == [(0.016, 0.016), (0.048, 0.018)]
    assert upper.get_title() == "t" and upper.get_ylabel() and lower.get_xlabel() and lower.get_ylabel()


# frames


def test_frames_draw_small_images_as_large_pixels():
    small = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).view(1, 1, 2, 2).repeat(3, 1, 1, 1)
    large = torch.full((3, 1, 8, 8), 0.5)
    figure = growing.frames({"2": small, "8": large}, title="t", across=1)
    left, right = (np.asarray(ax.images[0].get_array())[..., 0] for ax in figure.axes)
    # Three images of 8 x 8 with a border of one pixel around and between them, in both columns
    assert left.shape == right.shape == (3 * 9 + 1, 10)
    checks = np.kron([[0.0, 1.0], [1.0, 0.0]], np.ones((4, 4)))
    np.testing.assert_array_equal(left[1:9, 1:9], checks)
    np.testing.assert_array_equal(right[10:18, 1:9], np.full((8, 8), 0.75))
    assert [ax.get_title() for ax in figure.axes] == ["2", "8"] and figure.get_suptitle() == "t"


def test_frames_hide_what_is_left_over_and_refuse_ragged_columns():
    images = torch.zeros(2, 1, 4, 4)
    figure = growing.frames(dict.fromkeys("abc", images), across=2)
    assert [bool(ax.images) for ax in figure.axes] == [True, True, True, False]
    assert not figure.axes[3].axison
    for bad in ({}, {"a": images, "b": images[:1]}):
        with pytest.raises(ValueError, match="columns must not be empty and of one length"):
            growing.frames(bad)


# signals


def test_signals_are_root_mean_squares_in_the_order_of_calls():
    linear = nn.Linear(3, 3, bias=False)
    nn.init.eye_(linear.weight)
    with torch.no_grad():
        linear.weight *= 5
    norm = PixelNorm()
    network = nn.Sequential(norm, linear, PixelNorm(), linear, norm)
    found = growing.signals(network, torch.full((7, 3), 2.0), PixelNorm)
    # A constant vector 2 has root mean square 2; the norm makes it 1, the linear layer multiplies by 5. The
    # norm's epsilon of 1e-8 under the root moves 1 by 5e-9, less than float32 can tell.
    assert found == [pytest.approx(pair, rel=1e-6) for pair in ((2, 1), (5, 1), (5, 1))]
    assert not any(m._forward_hooks for m in network.modules())


def test_signals_need_a_layer_and_leave_no_hook_when_the_pass_fails():
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="must call a layer of class PixelNorm, it called none"):
        growing.signals(layer, torch.zeros(1, 3), PixelNorm)
    with pytest.raises(RuntimeError):
        growing.signals(layer, torch.zeros(1, 4), nn.Linear)
    assert not layer._forward_hooks


# by_layer, shares, race


def test_by_layer_draws_every_series_over_the_names():
    ax = growing.by_layer({"a": [1, 10], "b": [2, 20]}, ["first", "last"], title="t", ylabel="change")
    assert [line.get_ydata().tolist() for line in ax.lines] == [[1, 10], [2, 20]]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["first", "last"]
    assert ax.get_yscale() == "log" and ax.get_title() == "t" and ax.get_ylabel() == "change"
    assert ax.get_xlabel() and [text.get_text() for text in ax.get_legend().texts] == ["a", "b"]
    with pytest.raises(ValueError, match="a must have one value for each of 1 layers, got 2"):
        growing.by_layer({"a": [1, 2]}, ["one"], ylabel="y")


def test_shares_cut_each_row_in_proportion_and_say_so():
    ax = growing.shares({"images": {"4²": 1.0, "8²": 3.0}, "seconds": {"4²": 1.0, "8²": 49.0}}, title="t")
    bars = [(p.get_y() + 0.35, p.get_x(), p.get_width()) for p in ax.patches]
    expected = [(0, 0, 25), (0, 25, 75), (1, 0, 2), (1, 2, 98)]
    np.testing.assert_allclose(bars, expected, atol=1e-9)  # percentages of small integers
    assert [text.get_text() for text in ax.texts] == ["25", "75", "98"], "a sliver has no room for a number"
    assert [label.get_text() for label in ax.get_yticklabels()] == ["images", "seconds"]
    assert ax.yaxis_inverted() and ax.get_title() == "t" and "%" in ax.get_xlabel()
    assert ax.patches[0].get_facecolor() == ax.patches[2].get_facecolor() != ax.patches[1].get_facecolor()


@pytest.mark.parametrize("row", [{"a": -1.0, "b": 2.0}, {"a": 0.0}])
def test_shares_refuse_what_is_no_share(row):
    with pytest.raises(ValueError, match="seconds must have amounts of at least 0, one above it"):
        growing.shares({"seconds": row})


def test_race_draws_a_line_per_seed_and_a_name_per_contestant():
    runs = {"grown": [([1, 2], [30, 20]), ([1, 2], [31, 21])], "full size": [([1, 2], [50, 10])]}
    ax = growing.race(runs, title="t", xlabel="seconds", floor=1.5)
    grown, again, full, floor = ax.lines
    assert [line.get_ydata().tolist() for line in (grown, again, full)] == [[30, 20], [31, 21], [50, 10]]
    assert grown.get_color() == again.get_color() == PALETTE[0] != full.get_color()
    assert set(floor.get_ydata()) == {1.5} and floor.get_linestyle() == ":"
    assert [text.get_text() for text in ax.get_legend().texts] == ["grown", "full size", "real digits"]
    assert ax.get_yscale() == "log" and (ax.get_xlabel(), ax.get_ylabel()) == ("seconds", "FID")


# live


class FakeTrainer:
    step, finished = 0, False

    @property
    def history(self) -> History:
        rows = range(2, self.step + 1, 2)
        return History([{"step": s, "seconds": s / 10, "discriminator/adversarial": -s} for s in rows])

    def sample(self, n: int) -> torch.Tensor:
        return torch.full((n, 1, 16, 16), self.step / 100)


def test_live_redraws_one_figure_and_fills_the_film(monkeypatch):
    shown, displayed, film, trainer = [], [], {}, FakeTrainer()

    class Handle:
        def update(self, figure):
            shown.append(figure)

    def display(figure, display_id):
        displayed.append(display_id)
        shown.append(figure)
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    watch = growing.live(UNEVEN, UNEVEN.rounds, 4, n=12, film=film)
    for trainer.step in (2, 4, 6, 8, 10):
        trainer.finished = trainer.step == 10  # interrupted: the last round is shown, whatever its number
        watch(trainer)
    assert displayed == [True] and len(shown) == 3 and not plt.get_fignums(), "figures are closed"
    # Rounds 0 and 1 at 4 x 4, 2 to 9 at 8 x 8, alpha in quarters: round 4 is the fourth, with number 3.
    assert list(film) == [
        "8 × 8\nα = 0.25\n24 images",
        "8 × 8\nα = 1.00\n40 images",
        "8 × 8\nα = 1.00\n48 images",
    ]
    assert all(len(images) == 8 for images in film.values())
    assert film["8 × 8\nα = 1.00\n40 images"][0, 0, 0, 0] == pytest.approx(0.08)
    bar, samples, curves = shown[-1].axes
    assert [patch.get_width() for patch in bar.patches] == [UNEVEN.rounds, 10]
    assert "1 s" in bar.get_title(loc="left") and "8 × 8, α = 1.00, 48 images" in bar.get_title(loc="left")
    assert samples.images
    losses = curves.lines[0]
    assert losses.get_ydata().tolist() == [-2, -4, -6, -8, -10]
    # 8 images a round up to round 2, then 4
    assert [round(1000 * x) for x in losses.get_xdata()] == [16, 24, 32, 40, 48]
    starts = [line.get_xdata()[0] for line in curves.lines[1:]]
    assert starts == [pytest.approx(0.016)] and math.isclose(starts[0], 0.016)


def test_live_counts_large_numbers_of_images_in_thousands():
    assert growing.caption(Growth((4, 8), (64, 64), 6400), 150) == "8 × 8\nα = 0.49\n9.6k images"
