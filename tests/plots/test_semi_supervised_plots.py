"""What the figure of the semi-supervised study draws, read back."""

import matplotlib
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.plots.semi_supervised import PUBLISHED, error_against_labels


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def row(method: str, labels: int, error: float) -> dict:
    return {
        "labels": {"method": method, "labels": str(labels)},
        "figures": {"test_error_percent": error},
    }


def test_lines_join_the_means_over_seeds():
    rows = [
        row("labels-alone", 100, 30.0),
        row("labels-alone", 20, 50.0),
        row("labels-alone", 100, 20.0),
        row("feature-matching", 100, 2.0),
    ]
    ax = error_against_labels(rows)
    lines = {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}
    alone = lines["labels alone"]
    assert list(alone.get_xdata()) == [20, 100] and list(alone.get_ydata()) == [50.0, 25.0]
    assert len(lines) == 3, "no line for a method without runs"
    marks = [line for line in ax.lines if line.get_label().startswith("_")]
    assert sorted(marks[0].get_ydata()) == [20.0, 30.0, 50.0], "every run is marked"
    assert ax.get_title() and ax.get_xlabel() and "percent" in ax.get_ylabel()
    assert ax.get_xscale() == ax.get_yscale() == "log"


def test_published_numbers():
    """Table 1 of Salimans et al. 2016: 1677, 221, 93 and 90 of 10,000 test examples."""
    assert {n: round(100 * e) for n, e in PUBLISHED.items()} == {20: 1677, 50: 221, 100: 93, 200: 90}


def test_no_rows():
    with pytest.raises(ValueError, match="ganlib reproduce semi-supervised"):
        error_against_labels([])
