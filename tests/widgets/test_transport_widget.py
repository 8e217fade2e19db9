"""The earth mover: what a hand does to the piles, and that plan, cost, critic and picture follow."""

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from ganlib.plots.transport import areas, coupling, critic, duties, landscape, piles, transport
from ganlib.theory.transport import cdf_area, emd, emd_lp, pairwise_distances, shovels
from ganlib.widgets.transport import EarthMover, repile

PLACES = np.arange(6)
COST = pairwise_distances(PLACES, PLACES)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def drag(widget, *pull):
    """What the browser does: it sets the trait."""
    widget.piles.pull = list(pull)


def check(widget):
    """Everything the widget holds, against POT and the area between the sums."""
    exact = emd(widget.p, widget.q, COST)
    # Sums of a few numbers near 1.
    assert widget.cost == pytest.approx(exact.cost, abs=1e-9)
    assert widget.cost == pytest.approx(cdf_area(PLACES, PLACES, widget.p, widget.q), abs=1e-9)
    assert widget.plan.sum(axis=1) == pytest.approx(widget.p, abs=1e-9)
    assert widget.plan.sum(axis=0) == pytest.approx(widget.q, abs=1e-9)
    assert widget.critic @ (widget.p - widget.q) == pytest.approx(widget.cost, abs=1e-9)


def test_opens_with_the_lectures_piles():
    widget = EarthMover()
    p, q, answer = shovels()
    assert widget.p.tolist() == [0, *p, 0]
    assert widget.q.tolist() == [0, *q, 0]
    assert widget.cost == answer
    check(widget)


def test_dragging_a_pile_changes_everything_and_loses_no_earth():
    widget = EarthMover()
    before = widget.cost, widget.plan, widget.critic, widget.picture.value
    drag(widget, 0, 5, 8.0, 1)
    assert widget.p == pytest.approx([0, 0.6, 0.4, 0.2, 0.8, 8])  # the others keep their proportions 3:2:1:4
    assert widget.q.tolist() == [0, 1, 2, 4, 3, 0]
    check(widget)
    assert widget.cost != before[0]
    assert not np.array_equal(widget.plan, before[1])
    assert not np.array_equal(widget.critic, before[2])
    assert widget.picture.value != before[3]
    assert bytes(widget.picture.value).startswith(b"\x89PNG")
    assert widget.piles.answered == 1
    drag(widget, 1, 0, 10.0, 2)
    assert widget.q.tolist() == [10, 0, 0, 0, 0, 0]
    check(widget)
    assert widget.piles.answered == 2


def test_a_pull_that_makes_no_sense_changes_nothing_but_is_answered():
    widget = EarthMover()
    with pytest.raises(ValueError, match="place and height"):
        drag(widget, 0, 99, 1.0, 1)
    assert widget.piles.answered == 1  # or the browser would wait for ever
    assert widget.cost == 5


def test_reset_puts_the_piles_back():
    widget = EarthMover([2, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 2])
    assert (
        widget.cost == (1 * 4 + 2 * 5) - 1 * 1
    )  # all moves to the right: the difference of the mean positions
    picture = widget.picture.value
    drag(widget, 1, 0, 3.0, 1)
    assert widget.cost == pytest.approx(1)
    widget.children[1].click()
    assert widget.q.tolist() == [0, 0, 0, 0, 1, 2]
    assert widget.picture.value == picture
    check(widget)


def test_says_what_it_is_where_there_is_no_kernel():
    assert repr(EarthMover()) == "EarthMover: 6 places, cost 5 (run the notebook to drag the piles)"


@pytest.mark.parametrize(
    ("p", "q", "message"),
    [
        ([1.0], None, "given together"),
        ([1.0, 2.0], [1.0, 1.0], "one total"),
        ([1.0, 2.0], [1.0, 1.0, 1.0], "one shape"),
        ([1.0], [1.0], "one shape, at least"),
        ([-1.0, 2.0], [1.0, 0.0], "not negative"),
    ],
)
def test_refuses_what_are_no_piles(p, q, message):
    with pytest.raises(ValueError, match=message):
        EarthMover(p, q)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 9), min_size=2, max_size=8).filter(lambda m: sum(m) > 0.1), st.data())
def test_repile_keeps_the_total(masses, data):
    place = data.draw(st.integers(0, len(masses) - 1))
    height = data.draw(st.floats(-3, 90))
    result = repile(masses, place, height)
    assert result.sum() == pytest.approx(sum(masses))
    assert (result >= 0).all()
    assert result[place] == pytest.approx(min(max(height, 0), sum(masses)))


def test_repile_shares_equally_when_the_others_are_empty():
    assert repile([0, 6.0, 0, 0], 1, 3.0).tolist() == [1, 3, 1, 1]
    with pytest.raises(ValueError, match=r"got 4 and 1\.0"):
        repile([1.0, 2.0, 3.0, 4.0], 4, 1.0)
    with pytest.raises(ValueError, match="finite, got 0 and nan"):
        repile([1.0, 2.0], 0, float("nan"))


# The figures


def test_figure_says_the_cost_three_times():
    p, q, _ = shovels()
    figure = transport(p, q)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == [
        "Piles",
        "Plan: cost 5",
        "Area between the sums: 5",
        "Dual: score of P − score of Q = 5",
    ]
    # A worse plan has its own cost: everything one place on, and the last pile all the way back.
    worse = transport([1, 1, 1], [1, 1, 1], np.roll(np.eye(3), 1, axis=1))
    assert worse.axes[1].get_title() == "Plan: cost 4"
    assert worse.axes[2].get_title() == "Area between the sums: 0"


def test_panels_draw_their_data():
    p, q, _ = shovels()
    assert [bar.get_height() for bar in piles(p, q).patches] == [*p, *q]
    plan = emd_lp(p, q, COST[:4, :4]).plan
    ax = coupling(plan)
    assert [float(text.get_text()) for text in ax.texts] == plan[plan > 0].tolist()
    assert len(ax.get_images()) == 1
    assert areas(p, q).get_title() == "Area between the sums: 5"
    assert critic(p, q).lines[0].get_ydata().tolist() == [1, 0, -1, 0]
    constraints = duties(2, 3).collections[0].get_array().reshape(5, 6)
    plan = np.arange(6.0).reshape(2, 3)
    sums = (constraints > 0) @ plan.ravel()
    assert sums.tolist() == [*plan.sum(axis=1), *plan.sum(axis=0)]


def test_landscape_draws_an_arrow_for_every_match():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 2)), rng.standard_normal((5, 2)) + 2
    uniform = np.full(5, 0.2)
    result = emd(uniform, uniform, pairwise_distances(x, y))
    ax = landscape(x, y, result.plan, result.duals[1])
    arrows = next(c for c in ax.collections if hasattr(c, "U"))
    # Equal masses: the plan is a permutation, so the arrows' mean length is the distance itself.
    assert np.hypot(arrows.U, arrows.V).mean() == pytest.approx(result.cost)
