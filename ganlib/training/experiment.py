"""What a recipe returns: a game, its data, its settings, and what shows that it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from ganlib.training.game import Game
from ganlib.training.settings import Settings


@dataclass(frozen=True)
class Experiment:
    """A run that has been set up and not started.

    Attributes:
        game: the players, freshly initialised.
        data: tensors with one row per sample, the images (or what stands for them) first.
        settings: for the trainer.
        steps: rounds to train for.
        evaluate: game -> named figures that show whether it works; None where there are none for the data.
        smiles: samples -> their SMILES, None for what is no molecule, where samples are molecules: what
            ``samples.png`` draws them by. None where they are images or points of the plane.
        notes: what a reader of the results must know, such as where the recipe departs from the paper.
    """

    game: Game
    data: tuple[Tensor, ...]
    settings: Settings
    steps: int
    evaluate: Callable[[Game], dict[str, float]] | None = None
    smiles: Callable[[Tensor], list[str | None]] | None = None
    notes: tuple[str, ...] = field(default=())
