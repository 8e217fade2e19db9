"""A phase portrait to play with: pick a game, a loss, a cure and a rule of play, and see where it ends."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial

import ipywidgets as widgets
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ganlib.plots.games import phase_figure
from ganlib.theory.games import (
    MINIMAX,
    NON_SATURATING,
    WASSERSTEIN,
    Consensus,
    DiracGAN,
    Game,
    Loss,
    Rule,
    alternating,
    eigenvalues,
    extragradient,
    gradient_penalty,
    growth,
    r1,
    simultaneous,
    trajectory,
)

__all__ = ["PhasePortrait"]

LOSSES: dict[str, Loss] = {
    "minimax": MINIMAX,
    "non-saturating": NON_SATURATING,
    "Wasserstein": WASSERSTEIN,
}

# Each cure makes a Dirac-GAN from a loss and a strength; the strength is in its own units.
CURES: dict[str, Callable[[Loss, float], Game]] = {
    "none": lambda loss, strength: DiracGAN(loss),
    "clip |ψ| to the strength": lambda loss, strength: DiracGAN(loss, clip=max(strength, 1e-3)),
    "gradient penalty towards slope 1": lambda loss, strength: DiracGAN(loss, gradient_penalty(strength / 2)),
    "R1 (here also R2)": lambda loss, strength: DiracGAN(loss, r1(strength)),
    "instance noise": lambda loss, strength: DiracGAN(loss, noise=strength),
    "consensus": lambda loss, strength: Consensus(DiracGAN(loss), strength),
}

RULES: dict[str, Rule] = {
    "simultaneous": simultaneous,
    "alternating": alternating,
    "alternating, 5 steps of D": partial(alternating, n_critic=5),
    "extragradient": extragradient,
}

_STYLE = {"description_width": "8em"}


class PhasePortrait(widgets.VBox):
    """Controls above a phase portrait, which redraws whenever one of them is moved.

    ``PhasePortrait()`` as the last line of a cell shows it. Without a running kernel nothing moves: there,
    :meth:`figure` draws the same picture as a plain matplotlib figure.

    Attributes:
        game: a menu: the bilinear game or the Dirac-GAN.
        loss: of the Dirac-GAN; the bilinear game is the one with the Wasserstein loss.
        cure, strength: what is added, and how much of it.
        rule, step, rounds, theta, psi: how it is played, and from where.
        image: the PNG shown.
        words: the same in words.

    Lectures: Aalto "Convergence of original GAN", UBC "1) Training instability".
    """

    def __init__(self, rounds: int = 300) -> None:
        self.game = widgets.ToggleButtons(
            options=["Dirac-GAN", "bilinear xy"], description="game", style=_STYLE
        )
        self.loss = widgets.Dropdown(options=list(LOSSES), description="loss", style=_STYLE)
        self.cure = widgets.Dropdown(options=list(CURES), description="cure", style=_STYLE)
        self.strength = _slider("strength", 0.3, 0.0, 2.0, 0.05)
        self.rule = widgets.Dropdown(options=list(RULES), description="rule of play", style=_STYLE)
        self.step = _slider("step η", 0.2, 0.01, 1.0, 0.01)
        self.rounds = widgets.IntSlider(rounds, 10, 1000, 10, description="rounds", style=_STYLE)
        self.theta = _slider("start θ", 1.0, -2.0, 2.0, 0.1)
        self.psi = _slider("start ψ", 1.0, -2.0, 2.0, 0.1)
        self.image = widgets.Image(format="png")
        self.image.add_class("ganlib-figure")
        self.words = widgets.HTML()
        left = [self.game, self.loss, self.cure, self.strength]
        right = [self.rule, self.step, self.rounds, self.theta, self.psi]
        super().__init__([widgets.HBox([widgets.VBox(left), widgets.VBox(right)]), self.image, self.words])
        for control in (*left, *right):
            control.observe(self._redraw, "value")
        self._redraw()

    def __repr__(self) -> str:
        return "A phase portrait with controls: run this cell in JupyterLab or Notebook 7 to move them."

    def chosen(self) -> Game:
        """The game that the controls describe."""
        loss = WASSERSTEIN if self.game.value == "bilinear xy" else LOSSES[self.loss.value]
        return CURES[self.cure.value](loss, self.strength.value)

    def path(self) -> NDArray[np.float64]:
        """The path that the controls describe, ``(rounds + 1, 2)``."""
        return trajectory(
            self.chosen(),
            (self.theta.value, self.psi.value),
            rule=RULES[self.rule.value],
            step=self.step.value,
            steps=self.rounds.value,
        )

    def figure(self) -> Figure:
        """The picture as the controls have it, as a matplotlib figure."""
        return phase_figure(self.chosen(), self.path())

    def _redraw(self, change: object = None) -> None:
        self.loss.disabled = self.game.value == "bilinear xy"
        self.strength.disabled = self.cure.value == "none"
        game, path = self.chosen(), self.path()
        picture = io.BytesIO()
        phase_figure(game, path).savefig(picture, format="png", dpi=80)
        self.image.value = picture.getvalue()
        self.words.value = in_words(game, path, self.step.value)


def in_words(game: Game, path: NDArray[np.float64], step: float) -> str:
    """One sentence: the first and last distance from rest, the eigenvalues, and what they predict."""
    first, last = np.hypot(*path[0]), np.hypot(*path[-1])
    words = f"Distance from rest {first:.3f} at the start, {last:.3g} after {len(path) - 1} rounds"
    try:
        values = eigenvalues(game)
    except ValueError:
        return f"{words}; no eigenvalues, as the field has a kink at (0, 0)."
    shown = " and ".join(f"{v.real + 0:.3g} {v.imag:+.3g}i" for v in values)
    factor = f"close to rest a simultaneous round multiplies the distance by {growth(game, step):.4f}"
    return f"{words}; eigenvalues {shown}; {factor}."


def _slider(name: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    return widgets.FloatSlider(value, min=low, max=high, step=step, description=name, style=_STYLE)
