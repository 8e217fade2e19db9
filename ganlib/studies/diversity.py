"""What BEGAN's diversity ratio does to digits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from ganlib.models.began import experiment
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Trainer

RATIOS = (0.3, 0.5, 0.7, 1.0)


@study(
    name="began-diversity",
    title="BEGAN's diversity ratio, on digits",
    paper="Berthelot et al. 2017, BEGAN: Boundary Equilibrium Generative Adversarial Networks, figure 3",
    notebook="08_stabilising_gans.ipynb",
)
def diversity(budget: Budget) -> list[Cell]:
    """The recipe of system ``began`` at the paper's three ratios, and at 1."""
    return [Cell({"gamma": f"{ratio}".replace(".", "-")}, partial(_cell, ratio, budget)) for ratio in RATIOS]


def _cell(gamma: float, budget: Budget, seed: int) -> Outcome:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = experiment(budget, gamma=gamma)
    trainer = Trainer(made.game, made.data, replace(made.settings, seed=seed), progress=False)
    fit(trainer, made.steps)
    with trainer.averaged() as game:
        report = made.evaluate(game)
    names = ("fid", "fid_over_floor", "class_balance", "rarest_digit_share")
    return Outcome({name: report[name] for name in names}, trainer.history, trainer.sample(32))
