"""Drag piles of earth and watch the plan, its cost, the area between the sums and the critic follow."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from ipywidgets import Button, Image, VBox
from matplotlib import pyplot as plt
from numpy.typing import ArrayLike

from ganlib.plots.transport import transport
from ganlib.theory.transport import critic_1d, monotone_plan, pairwise_distances, shovels

__all__ = ["EarthMover", "Piles", "repile"]


def repile(masses: ArrayLike, place: int, height: float) -> np.ndarray:
    """Make one pile ``height`` high and let the others of its row share the rest as they shared it before.

    Args:
        masses: ``(n,)``, not negative.
        place: which pile, from 0.
        height: its new mass; cut to between 0 and the total.

    Returns:
        ``(n,)`` of the same total. If the others had nothing, they share the rest equally.

    Raises:
        ValueError: if there is no such place or only one, or the height is not a number.
    """
    masses = np.asarray(masses, dtype=float)
    if len(masses) < 2 or not 0 <= place < len(masses) or not np.isfinite(height):
        raise ValueError(
            f"place and height must be in 0..{len(masses) - 1} (of at least two) and finite, "
            f"got {place} and {height}"
        )
    total = masses.sum()
    height = min(max(height, 0.0), total)
    others = masses.copy()
    others[place] = 0
    if others.sum() <= 1e-9 * total:
        others = np.where(np.arange(len(masses)) == place, 0.0, 1.0)
    others *= (total - height) / others.sum()
    others[place] = height
    return others


class Piles(anywidget.AnyWidget):
    """Two rows of bars to drag, or to move with the arrow keys. The drawing is in ``assets/transport.js``.

    Traits:
        p: masses of the upper row.
        q: of the lower one, as many, of the same total.
        pull: what the hand does: row (0 or 1), place, height, and the pull's number.
        answered: number of the last pull that was worked out.
    """

    _esm = Path(__file__).parent / "assets" / "transport.js"
    p = traitlets.List(traitlets.Float()).tag(sync=True)
    q = traitlets.List(traitlets.Float()).tag(sync=True)
    pull = traitlets.List().tag(sync=True)
    answered = traitlets.Int().tag(sync=True)


class EarthMover(VBox):
    """The figure :func:`ganlib.plots.transport.transport` with piles that can be dragged.

    Args:
        p: masses ``(n,)`` of what there is; the lecture's piles with an empty place at either end if None.
        q: masses ``(n,)`` of what is wanted, of the same total.

    Attributes:
        p, q: masses as they are now.
        plan: the optimal plan ``(n, n)`` that keeps order.
        cost: mass times places moved.
        critic: the dual function at the places ``(n,)``.

    Raises:
        ValueError: if only one of p and q is given, they differ in shape or total, or have one place.
    """

    def __init__(self, p: ArrayLike | None = None, q: ArrayLike | None = None) -> None:
        if (p is None) != (q is None):
            raise ValueError("p and q must be given together, got one of them")
        if p is None:
            p, q = (np.pad(masses, 1) for masses in shovels()[:2])
        monotone_plan(p, q)  # raises for masses that are none
        if np.shape(p) != np.shape(q) or len(p) < 2:
            raise ValueError(
                f"p and q must have one shape, at least (2,), got {np.shape(p)} and {np.shape(q)}"
            )
        self._start = [np.asarray(masses, dtype=float).tolist() for masses in (p, q)]
        self.piles = Piles(p=self._start[0], q=self._start[1])
        self.picture = Image(format="png", layout={"max_width": "100%"})
        self.picture.add_class("ganlib-figure")
        reset = Button(description="Reset", tooltip="Put the piles back as they were")
        super().__init__([self.piles, reset, self.picture])
        self.piles.observe(self._pulled, "pull")
        reset.on_click(lambda _: self._set(*self._start))
        self._set(*self._start)

    def __repr__(self) -> str:
        # What a page without a kernel shows in the widget's place.
        return f"EarthMover: {len(self.p)} places, cost {self.cost:.3g} (run the notebook to drag the piles)"

    @property
    def p(self) -> np.ndarray:
        return np.array(self.piles.p)

    @property
    def q(self) -> np.ndarray:
        return np.array(self.piles.q)

    def _pulled(self, change: dict) -> None:
        row, place, height, number = change["new"]
        try:
            rows = [self.p, self.q]
            rows[row] = repile(rows[row], place, height)
            self._set(*rows)
        finally:  # or the hand would wait for an answer that never comes
            self.piles.answered = number

    def _set(self, p: ArrayLike, q: ArrayLike) -> None:
        self.piles.p, self.piles.q = np.asarray(p).tolist(), np.asarray(q).tolist()
        places = np.arange(len(p))
        self.plan = monotone_plan(p, q)
        self.cost = float((self.plan * pairwise_distances(places, places)).sum())
        self.critic = critic_1d(p, q)
        figure = transport(p, q, self.plan)
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=80)
        plt.close(figure)
        self.picture.value = buffer.getvalue()
