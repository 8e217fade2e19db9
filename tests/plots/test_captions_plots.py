"""What the figures of text to image draw, read back."""

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.plots.captions import by_arm, captioned_rows, measured_path


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_each_row_has_its_caption():
    rows = {"a thin one": torch.full((3, 1, 8, 8), -1.0), "a bold two": torch.full((3, 1, 8, 8), 1.0)}
    ax = captioned_rows(rows, title="Asked")
    assert [t.get_text() for t in ax.texts] == list(rows) and ax.get_title() == "Asked"
    picture = ax.images[0].get_array()
    for text, value in zip(ax.texts, (0.0, 1.0), strict=True):
        assert picture[int(text.get_position()[1]), 4].max() == value, "beside its row"
    assert all(t.get_position()[0] < 0 for t in ax.texts)
    for wrong in ({}, {"a": torch.zeros(2, 1, 8, 8), "b": torch.zeros(3, 1, 8, 8)}):
        with pytest.raises(ValueError, match="rows must be of one length"):
            captioned_rows(wrong)


def test_path_shows_median_and_middle_half():
    """Five rows 0 to 4: quartiles 1, 2, 3; a latent that drew nothing is left out."""
    values = torch.arange(5.0)[:, None].repeat(1, 3)
    values = torch.cat([values, torch.full((1, 3), float("nan"))])
    ax = measured_path({"sevens": values}, ylabel="slant in degrees", title="Between")
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [0, 0.5, 1] and line.get_ydata().tolist() == [2, 2, 2]
    corners = ax.collections[0].get_paths()[0].vertices[:, 1]
    assert {corners.min(), corners.max()} == {1, 3}
    assert "λ" in ax.get_xlabel() and ax.get_ylabel() == "slant in degrees" and ax.get_title()
    for wrong in ({}, {"a": torch.zeros(3)}):
        with pytest.raises(ValueError, match="values must be"):
            measured_path(wrong, ylabel="")


def test_arms_are_means_with_every_run():
    arms = {"with": [{"a": 0.2, "b": 1.0}, {"a": 0.4, "b": 0.5}], "without": [{"a": 0.1, "b": 0.0}]}
    ax = by_arm(arms, {"b": "size", "a": "slant"}, title="Followed")
    assert [p.get_height() for p in ax.patches] == pytest.approx([0.75, 0.3, 0.0, 0.1])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["size", "slant"]
    dots = sorted(y for line in ax.lines for y in line.get_ydata())
    assert dots == sorted([0.2, 0.4, 1.0, 0.5, 0.1, 0.0])
    centres = [p.get_x() + p.get_width() / 2 for p in ax.patches]
    assert centres == pytest.approx([-0.2, 0.8, 0.2, 1.2])
    assert ax.get_title() and ax.get_xlabel() and ax.get_ylabel()
    for wrong in ({}, {"with": []}):
        with pytest.raises(ValueError, match="arms must have runs"):
            by_arm(wrong, {"a": "a"})
