"""The figures of the grid: which number stands where, what is missing, what broke down."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

from ganlib.plots.robustness import equilibrium, fid_grid, picture_grid, spectral_bars
from ganlib.runs import save_grid
from ganlib.training import History

ROWS = {"dcgan": "baseline", "mlp": "perceptron"}
COLUMNS = {"gan": "GAN", "wgan-gp": "WGAN-GP", "r1": "R1"}


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def stored(architecture, method, value, seed=0, path=None, notes=()):
    return {
        "notes": list(notes),
        "labels": {"architecture": architecture, "method": method},
        "seed": seed,
        "figures": {"fid_over_floor": value},
        "path": path,
    }


def test_fid_grid_shows_means_crosses_and_gaps():
    rows = [
        stored("dcgan", "gan", 100.0),
        stored("dcgan", "gan", 300.0, seed=1),
        stored("dcgan", "r1", 50.0),
        stored("mlp", "gan", None),
        stored("mlp", "wgan-gp", 400.0),
    ]
    ax = fid_grid(rows, ROWS, COLUMNS)
    found = {(int(t.get_position()[1]), int(t.get_position()[0])): t for t in ax.texts}
    shown = {place: t.get_text() for place, t in found.items() if t.get_text()}
    assert shown == {(0, 0): "200", (0, 2): "50", (1, 0): "×", (1, 1): "400"}
    bold = {place for place, t in found.items() if t.get_weight() == "bold"}
    assert bold == {(0, 2), (1, 1)}, "the least of each row"
    assert [t.get_text() for t in ax.get_yticklabels()] == list(ROWS.values())
    assert [t.get_text() for t in ax.get_xticklabels()] == list(COLUMNS.values())
    np.testing.assert_array_equal(
        np.asarray(ax.images[0].get_array().filled(np.nan)), [[200, np.nan, 50], [np.nan, 400, np.nan]]
    )
    assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel()


@pytest.mark.parametrize("rows", [[], [stored("dcgan", "gan", None)]])
def test_fid_grid_needs_a_number(rows):
    with pytest.raises(ValueError, match="rows must hold an FID"):
        fid_grid(rows, ROWS, COLUMNS)


def test_picture_grid_puts_each_cells_samples_in_its_place(tmp_path):
    rows = []
    for i, (architecture, method) in enumerate([("dcgan", "gan"), ("mlp", "r1")]):
        path = tmp_path / f"{architecture}-{method}-seed0.json"
        save_grid(torch.full((16, 1, 8, 8), i - 0.5), path.with_suffix(".png"))
        rows.append(stored(architecture, method, 1.0, path=path))
    rows.append(stored("mlp", "gan", None, path=tmp_path / "mlp-gan-seed0.json"))
    figure = picture_grid(rows, ROWS, COLUMNS, title="all")
    axes = np.array(figure.axes).reshape(2, 3)
    pictures = [[len(ax.images) for ax in line] for line in axes]
    assert pictures == [[1, 0, 0], [0, 0, 1]]
    # -0.5 and 0.5 are a quarter and three quarters of white; PNG rounds to 1/255.
    assert axes[0, 0].images[0].get_array()[5, 5, 0] == pytest.approx(0.25, abs=1 / 255)
    assert axes[1, 2].images[0].get_array()[5, 5, 0] == pytest.approx(0.75, abs=1 / 255)
    assert [t.get_text() for t in axes[1, 0].texts] == ["broke down"] and not axes[0, 1].texts
    assert [ax.get_title() for ax in axes[0]] == list(COLUMNS.values())
    assert [line[0].get_ylabel() for line in axes] == list(ROWS.values())


def test_a_stand_in_says_so():
    rows = [stored("mlp", "gan", 2.0, notes=("quick", "3 layers stand in for 9, for half as many steps"))]
    ax = fid_grid(rows, ROWS, COLUMNS)
    first, second = (t.get_text().replace("\n", " ") for t in ax.get_yticklabels())
    assert (first, second) == ("baseline", "perceptron (3 layers stand in for 9)")


def test_picture_grid_needs_the_seed():
    with pytest.raises(ValueError, match=r"seed 3, got those of seeds \[0\]"):
        picture_grid([stored("dcgan", "gan", 1.0)], ROWS, COLUMNS, seed=3)


def test_spectral_bars():
    def row(setting, discriminator, value):
        labels = {"setting": setting, "discriminator": discriminator}
        return {"labels": labels, "figures": {"fid_over_floor": value}}

    rows = [row("a", "sn", 30.0), row("a", "sn", 50.0), row("a", "plain", 60.0), row("b", "sn", 20.0)]
    rows.append(row("b", "plain", None))
    ax = spectral_bars(rows)
    bars = sorted((round(p.get_x() + p.get_width() / 2, 2), p.get_height()) for p in ax.patches)
    assert bars == [(-0.19, 40.0), (0.19, 60.0), (0.81, 20.0)]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["A", "B"]
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [pytest.approx(1.19)]
    assert ax.get_yscale() == "log"
    with pytest.raises(ValueError, match="rows must not be empty"):
        spectral_bars([])


def test_equilibrium_draws_both_columns():
    history = History(
        [
            {"step": 1, "seconds": 0.0, "discriminator/balance": 0.1, "generator/measure": 0.5},
            {"step": 2, "seconds": 0.0, "discriminator/balance": 0.2, "generator/measure": 0.4},
        ]
    )
    left, right = equilibrium({"γ = 0.5": history, "γ = 0.7": history}).axes
    assert [list(line.get_ydata()) for line in left.lines] == [[0.1, 0.2]] * 2
    assert [list(line.get_ydata()) for line in right.lines] == [[0.5, 0.4]] * 2
    assert [t.get_text() for t in right.get_legend().get_texts()] == ["γ = 0.5", "γ = 0.7"]
    assert all(ax.get_title() and ax.get_xlabel() and ax.get_ylabel() for ax in (left, right))
