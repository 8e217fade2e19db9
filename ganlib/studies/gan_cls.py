"""Text to image without wrong captions: what they teach a discriminator.

The arm with them, GAN-CLS, is the system ``gan-cls`` and its stored runs.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from ganlib.models.gan_cls import experiment
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Trainer


@study(
    name="matching-aware",
    title="Text to image without wrong captions",
    paper="Reed et al. 2016, Generative Adversarial Text to Image Synthesis",
    notebook="10_conditioning.ipynb",
    seeds=(0, 1, 2),
)
def matching_aware(budget: Budget) -> list[Cell]:
    """The recipe of system ``gan-cls`` without its wrong pairs."""
    return [Cell({"pairs": "right-and-fake"}, partial(_without, budget))]


def _without(budget: Budget, seed: int) -> Outcome:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = experiment(budget, wrong=False)
    trainer = Trainer(made.game, made.data, replace(made.settings, seed=seed), progress=False)
    fit(trainer, made.steps)
    with trainer.averaged() as game:
        figures = made.evaluate(game)
    return Outcome(figures, trainer.history, trainer.sample(32), notes=made.notes)
