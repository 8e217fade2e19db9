"""The robustness grid: every method on every architecture, by one double loop, untuned."""

from __future__ import annotations

import math
from functools import partial

import torch

from ganlib.metrics import ClassifierFeatures
from ganlib.models.recipes import digit_report, image_data
from ganlib.models.robustness import ARCHITECTURES, METHODS, Shape, play
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import (
    Budget,
    Game,
    History,
    LinearDecay,
    NonFiniteLossError,
    Settings,
    Trainer,
)
from ganlib.training.settings import OptimizerFactory

SAMPLES = 16
RARE = 0.01  # a digit with a smaller share of the samples does not count as found


@study(
    name="robustness",
    title="Seven architectures, seven methods, one setting each",
    paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs, figure 2",
    notebook="08_stabilising_gans.ipynb",
)
def robustness(budget: Budget) -> list[Cell]:
    """Every cell of the grid, with as many steps of the generator in each."""
    return [
        Cell({"architecture": row, "method": column}, partial(_cell, row, column, budget))
        for row in ARCHITECTURES
        for column in METHODS
    ]


def _cell(architecture: str, method: str, budget: Budget, seed: int) -> Outcome:
    slow = budget is Budget.GPU
    shape = Shape(
        latent_dim=budget.pick(smoke=8, cpu=64, gpu=128),
        width=budget.pick(smoke=4, cpu=16, gpu=64),
        hidden=budget.pick(smoke=16, cpu=512, gpu=512),
        depth=budget.pick(smoke=11, cpu=14, gpu=101),
    )
    n_critic = METHODS[method].n_critic
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        game = play(architecture, method, shape, n_critic if slow else min(n_critic, 2))
    steps = budget.pick(smoke=2, cpu=800, gpu=50_000)
    notes = ["ten times the paper's rates, falling to zero over the second half; n_critic at most 2"]
    if architecture == "resnet" and not slow:
        steps //= 2
        notes += [f"{shape.depth} layers stand in for 101, for half as many steps as the other rows"]
    schedule = None if slow else LinearDecay(steps // 2, steps)
    optimizer = METHODS[method].optimizer(1.0 if slow else 10.0)
    return trained(game, optimizer, steps, budget, seed, schedule, () if slow else tuple(notes))


def trained(
    game: Game,
    optimizer: OptimizerFactory,
    steps: int,
    budget: Budget,
    seed: int,
    schedule: LinearDecay | None = None,
    notes: tuple[str, ...] = (),
) -> Outcome:
    """Play a game on MNIST and judge its averaged generator; a loss that is not finite is an outcome too.

    The figures are ``fid``, ``fid_over_floor``, ``balance``, and ``classes``: how many digits make up at
    least one sample in a hundred. All are None where training broke down, with a note that says how.
    """
    settings = Settings(
        dict.fromkeys(game.turns, optimizer),
        batch_size=budget.pick(smoke=8, cpu=32, gpu=64),
        ema={"generator": 0.999},
        schedule=schedule,
        seed=seed,
        log_every=budget.pick(smoke=1, cpu=10, gpu=100),
    )
    trainer = Trainer(game, image_data(None, budget), settings, progress=False)
    try:
        fit(trainer, steps)
    except NonFiniteLossError as error:
        finite = [row for row in trainer.history if all(map(math.isfinite, row.values()))]
        nothing = dict.fromkeys(("fid", "fid_over_floor", "balance", "classes"))
        return Outcome(nothing, History(finite), notes=(*notes, f"broke down: {error}"))
    with trainer.averaged():
        report = digit_report(None, budget)(game)
    digits = ClassifierFeatures().to(trainer.device).predict(trainer.sample(1000))
    figures = {
        "fid": report["fid"],
        "fid_over_floor": report["fid_over_floor"],
        "balance": report["class_balance"],
        "classes": int((torch.bincount(digits) >= RARE * len(digits)).sum()),
    }
    return Outcome(figures, trainer.history, trainer.sample(SAMPLES), notes=notes)
