"""MolGAN between its critic and its reward: five values of lambda, and what becomes of uniqueness.

The settings were chosen by short runs at seed 10, which is none of the seeds here, but with grids of other
settings at these in view: the curves describe, they do not predict.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from ganlib.models.molgan import CollapseWatch, check, experiment, score, to_molecules
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, History, Trainer

TRADE_OFFS = (0.0, 0.25, 0.5, 0.75, 1.0)


@study(
    name="molgan-lambda",
    title="MolGAN between critic and reward",
    paper="De Cao and Kipf 2018, MolGAN: An Implicit Generative Model for Small Molecular Graphs",
    notebook="16_molgan.ipynb",
    seeds=(0, 1, 2),
)
def molgan_lambda(budget: Budget) -> list[Cell]:
    """The recipe of system ``molgan`` at five values of lambda, 1 for no reinforcement at all."""
    return [
        Cell({"lambda": f"{value:g}".replace(".", "-")}, partial(cell, value, budget)) for value in TRADE_OFFS
    ]


def cell(trade_off: float, budget: Budget, seed: int) -> Outcome:
    """One run to its end, measured all along; its figures are those of the generator that the watch keeps.
    With lambda = 1 it is the last one.

    Figures as :func:`ganlib.models.molgan.report` has them, with ``data_reward``, the mean reward of the
    training set; ``kept_at``, the step of the generator kept, and ``collapsed_at``, that of the collapse if
    there was one; ``end_unique`` and ``end_reward``, of the generator at the last step. The curve has a row
    per check, and the checks have samples of their own.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = experiment(budget, trade_off)
    watch = CollapseWatch(
        check(budget, seed=1),
        every=made.steps // budget.pick(smoke=2, cpu=20, gpu=94),
        # Without a reward there is nothing to choose by: the last generator counts.
        after=made.game.warmup if trade_off < 1 else made.steps,
    )
    trainer = Trainer(
        made.game, made.data, replace(made.settings, seed=seed), callbacks=[watch], progress=False
    )
    fit(trainer, made.steps)
    with trainer.averaged() as game:
        end = made.evaluate(game)
        if watch.kept is not None:
            game.generator.load_state_dict(watch.kept)
        figures = made.evaluate(game)
        drawn = to_molecules(game.sample(100, torch.Generator().manual_seed(2)))
    figures |= {
        "data_reward": float(score(made.data[0]).mean()),
        "kept_at": watch.kept_at,
        "collapsed_at": watch.collapsed_at,
        "end_unique": end["unique"],
        "end_reward": end["reward"],
    }
    return Outcome(
        figures, History(watch.rows), arrays={"nodes": drawn.nodes, "edges": drawn.edges}, notes=made.notes
    )
