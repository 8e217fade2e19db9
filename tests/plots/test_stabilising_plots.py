"""Figures of the studies of the plane, from rows stored by hand: what is drawn is what is stored."""

import matplotlib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.data.toy import ring
from ganlib.plots import stabilising


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def row(tmp_path, labels, seed, figures, **arrays):
    path = tmp_path / f"{'-'.join(labels.values())}-seed{seed}.json"
    if arrays:
        save_file({k: v.half().contiguous() for k, v in arrays.items()}, path.with_suffix(".safetensors"))
    return {"labels": labels, "seed": seed, "figures": figures, "seconds": 10.0 + seed, "path": path}


@pytest.fixture
def collapse(tmp_path):
    found = {"gan": (6, 7), "pacgan2": (8, 8)}
    return [
        row(
            tmp_path,
            {"target": "ring", "method": method},
            seed,
            {"modes": modes[seed], "quality": 0.5 + 0.1 * seed, "reverse_kl": 0.25},
            points=torch.full((5, 2), float(seed)),
        )
        for method, modes in found.items()
        for seed in (0, 1)
    ]


def test_table_has_means_spreads_and_the_papers(collapse):
    heading, gan, pac = stabilising.mode_table(collapse, "ring", {("ring", "gan"): "6.3 ± 0.5"})
    assert heading[:3] == ["method", "modes", "paper"]
    # mean and sample deviation of 6, 7 and of 0.5, 0.6
    assert gan == ["gan", "6.5 ± 0.7", "6.3 ± 0.5", "0.55 ± 0.07", "0.25 ± 0.00", "10"]
    assert pac[:3] == ["pacgan2", "8.0 ± 0.0", ""]
    with pytest.raises(ValueError, match="rows must hold at least one stored result"):
        stabilising.mode_table(collapse, "grid", {})


def test_one_seed_has_no_spread(collapse):
    assert stabilising.mode_table(collapse[:1], "ring", {})[1][1] == "6.0"


def test_bars_are_means_and_dots_are_runs(collapse):
    ax = stabilising.mode_bars(collapse, "ring", 8, title="Modes")
    assert [bar.get_width() for bar in ax.patches] == [6.5, 8.0]
    assert [list(line.get_xdata()) for line in ax.lines[:2]] == [[6, 7], [8, 8]]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["gan", "pacgan2"]
    assert ax.get_title() == "Modes" and ax.get_xlabel() and ax.get_ylabel()


def test_scatters_draw_the_stored_points_of_one_seed(collapse):
    figure = stabilising.scatters(collapse, {"ring": ring(8, 1.0, 0.01)}, seed=1, title="Points")
    assert len(figure.axes) == 2
    for ax, modes in zip(figure.axes, (7, 8), strict=True):
        where, points = ax.lines
        assert len(where.get_xdata()) == 8
        assert np.array_equal(points.get_xydata(), np.ones((5, 2)))
        assert ax.get_title().endswith(f"{modes} of 8")
    with pytest.raises(ValueError, match="rows must hold at least one"):
        stabilising.scatters(collapse, {"ring": ring()}, seed=7)


def test_value_surfaces_stand_row_by_method(tmp_path):
    """A critic that grows to the right must be drawn with vertical level lines: columns are x."""
    ramp = torch.linspace(-1, 1, 16).repeat(16, 1)
    rows = [
        row(
            tmp_path,
            {"target": target, "method": method},
            0,
            {"gradient_norm": 0.5},
            surface=ramp,
            points=torch.zeros(3, 2),
        )
        for target in ("ring", "roll")
        for method in ("clipping", "penalty")
    ]
    figure = stabilising.value_surfaces(rows, 2.0, title="Surfaces")
    titles = [ax.get_title().split("\n")[0] for ax in figure.axes]
    assert titles == ["clipping: ring", "clipping: roll", "penalty: ring", "penalty: roll"]
    for ax in figure.axes:
        (contours,) = [c for c in ax.collections if hasattr(c, "levels")]
        for path in contours.get_paths():
            vertices = path.vertices[np.isfinite(path.vertices).all(1)]
            assert len(vertices) == 0 or np.ptp(vertices[:, 0]) < 1e-6
        assert ax.get_xlim() == (-2, 2)


def test_estimates_are_multiples_of_the_exact_distance(tmp_path):
    figures = {"estimate": 6.0, "certified": 1.0, "transformed": 1.5, "w1": 2.0}
    rows = [row(tmp_path, {"sets": "ring", "method": m}, 0, figures) for m in ("clipping", "penalty")]
    ax = stabilising.estimates(rows, "ring", title="Estimates")
    heights = [line.get_ydata()[0] for line in ax.lines[:-1]]
    assert heights == [3.0, 3.0, 0.5, 0.5, 0.75, 0.75]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "raw estimate",
        "divided by its slope",
        "by c-transform",
    ]
    with pytest.raises(ValueError, match="rows must hold at least one"):
        stabilising.estimates(rows, "digits")


def test_arrays_must_be_there(tmp_path):
    with pytest.raises(ValueError, match=r"there is no a-seed0\.safetensors"):
        stabilising.arrays(row(tmp_path, {"target": "a"}, 0, {}))
