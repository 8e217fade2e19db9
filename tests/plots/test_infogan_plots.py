"""What InfoGAN's figures draw, read back."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.plots import PALETTE
from ganlib.plots.infogan import attribute_curves, code_grid, contingency_map


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_grid_has_a_row_per_category_and_a_column_per_value():
    images = torch.full((3, 4, 1, 8, 6), -1.0)
    images[2, 1] = 1.0
    ax = code_grid(images, (-2, -0.5, 0.5, 2), title="a title", xlabel="code 1")
    picture = ax.images[0].get_array()
    assert picture.shape == (24, 24)
    assert (picture[16:, 6:12] == 1).all() and picture.sum() == -(24 * 24) + 2 * 8 * 6
    assert [t.get_text() for t in ax.get_xticklabels()] == ["-2", "-0.5", "0.5", "2"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["0", "1", "2"]
    assert (ax.get_title(), ax.get_xlabel(), ax.get_ylabel()) == ("a title", "code 1", "category")
    # The tick of column 1 lies in the middle of its six pixels, 6 to 11.
    assert ax.get_xticks()[1] == 8.5


def test_grid_names_its_rows():
    ax = code_grid(torch.zeros(2, 1, 1, 4, 4), (0,), rows=("slant", "width"), ylabel="code")
    assert [t.get_text() for t in ax.get_yticklabels()] == ["slant", "width"]


@pytest.mark.parametrize(
    ("shape", "values", "rows", "message"),
    [
        ((2, 3, 4, 4), (0, 1, 2), None, r"images must be \(R, 3, 1, H, W\), got \(2, 3, 4, 4\)"),
        ((2, 3, 1, 4, 4), (0, 1), None, r"images must be \(R, 2, 1, H, W\)"),
        ((2, 3, 3, 4, 4), (0, 1, 2), None, "images must be"),
        ((2, 3, 1, 4, 4), (0, 1, 2), ("a",), "rows must be 2 names, got 1"),
    ],
)
def test_grid_refuses(shape, values, rows, message):
    with pytest.raises(ValueError, match=message):
        code_grid(torch.zeros(shape), values, rows=rows)


def test_table_of_categories_in_percent_of_its_rows():
    ax = contingency_map(torch.tensor([[8, 2, 0], [0, 5, 0], [1, 0, 999]]))
    np.testing.assert_allclose(ax.images[0].get_array()[0], [80, 20, 0])
    # 0.1 percent has no number of its own.
    assert sorted(t.get_text() for t in ax.texts) == ["100", "100", "20", "80"]
    places = {t.get_text(): t.get_position() for t in ax.texts}
    assert places["20"] == (1, 0), "classes go to the right"
    assert ax.get_title() and "digit" in ax.get_xlabel() and "percent" in ax.get_ylabel()


@pytest.mark.parametrize("counts", [torch.ones(2, 3), torch.tensor([[1, 1], [0, 0]]), torch.ones(4)])
def test_table_refuses(counts):
    with pytest.raises(ValueError, match=r"counts must be \(K, K\) with no empty row"):
        contingency_map(counts)


def test_curves_are_medians_with_the_middle_half():
    values = (-1.0, 0.0, 1.0)
    table = torch.tensor([[0.0, 1, 2, 3, 4], [10, 11, 12, 13, float("nan")], [5, 5, 5, 5, 5]])
    ax = attribute_curves(values, {"code 1": table, "code 2": -table}, title="Slant", ylabel="degrees")
    first, second = ax.lines
    np.testing.assert_allclose(first.get_ydata(), [2, 11.5, 5])
    np.testing.assert_allclose(second.get_ydata(), [-2, -11.5, -5])
    assert [line.get_color() for line in ax.lines] == list(PALETTE[:2])
    outline = ax.collections[0].get_paths()[0].vertices
    # Quartiles of 0..4 are 1 and 3.
    assert sorted(outline[outline[:, 0] == -1][:, 1].round(6).tolist())[0] == 1
    assert outline[outline[:, 0] == -1][:, 1].max() == 3
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["code 1", "code 2"]
    assert (ax.get_title(), ax.get_ylabel()) == ("Slant", "degrees") and ax.get_xlabel()


def test_curves_refuse_another_number_of_values():
    with pytest.raises(ValueError, match=r"measured must be \(2, N\), got \(3, 5\) for code 1"):
        attribute_curves((0, 1), {"code 1": torch.zeros(3, 5)}, title="", ylabel="")
