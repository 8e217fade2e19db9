"""What the figures of notebook 08 compute, against closed forms; what they draw, read back."""

import math

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib import losses
from ganlib.plots import techniques

T = torch.tensor([-3.0, -0.5, 0.0, 0.7, 4.0], dtype=torch.float64)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


# loss_sides


SLOPES = {
    "minimax": (losses.Minimax(), lambda t: -(-t).sigmoid(), torch.sigmoid, lambda t: -t.sigmoid()),
    "non-saturating": (
        losses.NonSaturating(),
        lambda t: -(-t).sigmoid(),
        torch.sigmoid,
        lambda t: -(-t).sigmoid(),
    ),
    "Wasserstein": (losses.Wasserstein(), lambda t: -1 + 0 * t, lambda t: 1 + 0 * t, lambda t: -1 + 0 * t),
    "codes 0, 1, 0.5": (losses.LeastSquares(0, 1, 0.5), lambda t: t - 1, lambda t: t, lambda t: t - 0.5),
    "hinge": (
        losses.Hinge(),
        lambda t: -1.0 * (t < 1),
        lambda t: 1.0 * (t > -1),
        lambda t: -1 + 0 * t,
    ),
    # Beside a partner of score 0.
    "pair": (
        losses.RelativisticPairing(),
        lambda t: -(-t).sigmoid(),
        torch.sigmoid,
        lambda t: -(-t).sigmoid(),
    ),
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_of_losses_are_their_derivatives(name):
    loss, *formulas = SLOPES[name]
    found = techniques.loss_sides(loss, T)
    assert tuple(found) == techniques.SIDES
    for (_, slopes), formula in zip(found.values(), formulas, strict=True):
        # float64 rounding of a sigmoid
        torch.testing.assert_close(slopes, formula(T).double(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", SLOPES)
def test_costs_of_losses_are_counted_from_score_zero_and_fit_their_slopes(name):
    loss, h = SLOPES[name][0], 1e-6
    found, up, down = (techniques.loss_sides(loss, x) for x in (T, T + h, T - h))
    for side, (costs, slopes) in found.items():
        assert costs[2] == 0
        central = (up[side][0] - down[side][0]) / (2 * h)
        # A second difference of 1e-6 cancels ten of sixteen digits; the truncation, h^2, is below that.
        torch.testing.assert_close(central, slopes, rtol=0, atol=1e-8)


def test_energies_as_scores_are_hinge():
    """With E = 1 - t the EBGAN of margin 2 is hinge for t <= 1: [1 - t]+, [1 + t]+, -t up to a constant."""
    t = T[:-1]
    energies = techniques.loss_sides(losses.EnergyMargin(2.0), t, lambda s: 1 - s)
    for side, (costs, slopes) in techniques.loss_sides(losses.Hinge(), t).items():
        torch.testing.assert_close(energies[side][0], costs, rtol=0, atol=1e-12)
        torch.testing.assert_close(energies[side][1], slopes, rtol=0, atol=0)


def test_loss_curves_draw_costs_above_slopes():
    energy = {"energy": lambda t: 1 - t}
    axes = techniques.loss_curves(
        {"hinge": losses.Hinge(), "energy": losses.EnergyMargin(2.0)}, outputs=energy
    )
    assert axes.shape == (2, 3)
    assert [ax.get_title() for ax in axes[0]] == list(techniques.SIDES)
    assert all(ax.get_xlabel() for ax in axes[1]) and axes[0, 0].get_ylabel() and axes[1, 0].get_ylabel()
    hinge, drawn_energy = axes[1, 1].lines  # no energy is negative
    t = hinge.get_xdata()
    assert (t[0], t[-1]) == (-4, 4) and drawn_energy.get_xdata().max() == pytest.approx(1)
    np.testing.assert_array_equal(hinge.get_ydata(), 1.0 * (t > -1))
    np.testing.assert_allclose(axes[0, 1].lines[0].get_ydata(), np.maximum(0, 1 + t) - 1)
    (legend,) = axes[0, 0].figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["hinge", "energy"]


# power iteration


def test_power_iteration_on_a_diagonal_matrix_by_hand():
    """From (1, 1) and diag(2, 1), n iterations lead v to (2^(2n-1), 1), and sigma is |diag(2, 1) v| / |v|."""
    found = techniques.power_iteration(
        torch.diag(torch.tensor([2.0, 1.0])).double(), 5, torch.ones(2).double()
    )
    expected = [math.sqrt((2 ** (4 * n) + 1) / (2 ** (4 * n - 2) + 1)) for n in range(1, 6)]
    assert found == pytest.approx(expected, rel=1e-14)


def test_power_iteration_finds_the_largest_singular_value_from_below():
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(6, 9, generator=rng, dtype=torch.float64)
    found = techniques.power_iteration(matrix, 300, torch.randn(6, generator=rng, dtype=torch.float64))
    assert np.all(np.diff(found) > -1e-13)
    assert found[-1] == pytest.approx(torch.linalg.svdvals(matrix)[0].item(), rel=1e-12)


@pytest.mark.parametrize(("shape", "start"), [((3, 4), 4), ((3,), 3)])
def test_power_iteration_refuses_what_does_not_fit(shape, start):
    with pytest.raises(ValueError, match="start must have one entry per row"):
        techniques.power_iteration(torch.ones(shape), 1, torch.ones(start))


def test_sigma_errors_fall_along_their_dashed_line():
    values = torch.tensor([2.0, 1.0], dtype=torch.float64)
    estimates = techniques.power_iteration(torch.diag(values), 6, torch.ones(2).double())
    ax = techniques.sigma_errors({"w": estimates}, {"w": values}, title="t")
    errors, theory = (np.asarray(line.get_ydata()) for line in ax.lines)
    np.testing.assert_allclose(errors, 1 - np.array(estimates) / 2, rtol=1e-9)
    np.testing.assert_allclose(theory[1:] / theory[:-1], 0.5**4)
    # By hand 1 - sqrt(1 - 3 / 2^4n + ...) / ... -> 3/2 * 2^-4n: 1 % off at n = 2 and less beyond.
    np.testing.assert_allclose(errors[1:], theory[1:], rtol=0.02)
    assert (
        ax.get_yscale() == "log" and ax.get_title() == "t" and "0.500" in ax.get_legend().texts[0].get_text()
    )


# packs


@pytest.mark.parametrize("m", [1, 2, 4])
def test_a_lost_mode_in_packs(m):
    """No pack of an eighth mode's samples comes from the generator that lost it: TV = 1 - (7/8)^m."""
    even, lost = np.full(8, 1 / 8), np.append(np.full(7, 1 / 7), 0)
    p, q = techniques.packed(even, m), techniques.packed(lost, m)
    assert p.shape == (8**m,)
    assert 0.5 * np.abs(p - q).sum() == pytest.approx(1 - (7 / 8) ** m, rel=1e-12)


def test_packs_are_independent_draws():
    np.testing.assert_allclose(techniques.packed([0.2, 0.8], 2), [0.04, 0.16, 0.16, 0.64])
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        techniques.packed([1.0], 0)


# figures


def test_reconstructions_show_pairs_and_the_error_over_all_images():
    images = torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 4, 4)
    axes = techniques.reconstructions(lambda x: x / 2, {"a": images, "b": images[2:]}, columns=2)
    # Errors of 1/4, 0 and, of the image that two columns do not show, 1/4.
    assert [ax.get_title() for ax in axes] == ["a: 0.167", "b: 0.250"]
    pixels = np.asarray(axes[0].images[0].get_array())[..., 0]
    assert pixels[2, 2] == pytest.approx(1.0) and pixels[7, 2] == pytest.approx(0.75)  # above and below


def test_dots_draw_every_value_a_mean_and_what_diverged():
    groups = {"A": {"sn": [1.0, 100.0], "none": [None, float("nan"), 7.0]}, "B": {"sn": [10.0]}}
    ax = techniques.dots(groups, title="t", xlabel="setting", ylabel="FID", floor=0.5)
    drawn = [list(line.get_ydata()) for line in ax.lines if line.get_label().startswith("_")]
    assert [1.0, 100.0] in drawn and [7.0] in drawn and [10.0] in drawn
    assert [50.5, 50.5] in drawn
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert len(crosses) == 1 and crosses[0].get_color() == techniques.PALETTE[1]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["A", "B"]
    assert {text.get_text() for text in ax.get_legend().texts} == {"sn", "none", "real digits"}
    assert ax.get_yscale() == "log" and ax.get_title() == "t" and ax.get_ylabel() == "FID"
    assert ax.get_xlabel() == "setting"
    places = {tuple(line.get_ydata()): line.get_xdata()[0] for line in ax.lines if len(line.get_xdata())}
    assert abs(places[(10.0,)] - 1) < 0.5 and places[(7.0,)] != places[(1.0, 100.0)]


def test_dots_of_one_series_need_no_legend():
    ax = techniques.dots({"a": {"": [3.0]}})
    assert ax.get_legend() is None and [list(line.get_ydata()) for line in ax.lines] == [[3.0], [3.0, 3.0]]
