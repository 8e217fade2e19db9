"""Figure of the semi-supervised study: test error against the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from matplotlib import pyplot as plt

from ganlib.plots import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["PUBLISHED", "error_against_labels"]

PUBLISHED = {20: 16.77, 50: 2.21, 100: 0.93, 200: 0.90}
"""Salimans et al. 2016, table 1: mean test error in percent over ten seeds, by number of labels."""

STYLES = {
    "labels-alone": (PALETTE[1], "s", "labels alone"),
    "feature-matching": (PALETTE[0], "o", "and 60,000 images, feature matching"),
    "adversarial": (PALETTE[3], "^", "and 60,000 images, adversarial generator"),
}


def error_against_labels(rows: Sequence[Mapping[str, Any]], *, ax: Axes | None = None) -> Axes:
    """Draw test error in percent against the number of labels, both axes logarithmic.

    A line per method joins the means over seeds; every run is a small mark. The published means stand beside.

    Args:
        rows: what ``studies.load("semi-supervised")`` returns: dictionaries with ``labels`` (``method``,
            ``labels``) and ``figures`` (``test_error_percent``).

    Raises:
        ValueError: if there are no rows.
    """
    if not rows:
        raise ValueError("rows must not be empty: run `ganlib reproduce semi-supervised` first")
    if ax is None:
        ax = plt.subplots(figsize=(6.4, 3.6), layout="constrained")[1]
    for method, (colour, marker, name) in STYLES.items():
        found: dict[int, list[float]] = {}
        for row in rows:
            if row["labels"]["method"] == method:
                errors = found.setdefault(int(row["labels"]["labels"]), [])
                errors.append(row["figures"]["test_error_percent"])
        if not found:
            continue
        numbers = sorted(found)
        means = [sum(found[n]) / len(found[n]) for n in numbers]
        ax.plot(numbers, means, color=colour, marker=marker, label=name)
        single = [(n, error) for n in numbers for error in found[n]]
        ax.plot(*zip(*single, strict=True), marker, color=colour, markersize=3, alpha=0.5)
    paper = "Salimans et al. 2016, table 1"
    ax.plot(list(PUBLISHED), list(PUBLISHED.values()), "x--", color=PALETTE[6], label=paper)
    ax.set(xscale="log", yscale="log", xlabel="labelled digits", ylabel="test error in percent")
    ax.set_xticks(list(PUBLISHED), [str(n) for n in PUBLISHED], minor=False)
    ax.set_xticks([], minor=True)
    ax.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    ax.set_yticks([], minor=True)
    ax.set_title("What images without a label are worth")
    ax.legend(frameon=False, fontsize=8)
    return ax
