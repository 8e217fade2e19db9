"""How long the ``cpu`` recipes take here, and how well ``--dry-run`` tells it.

    python benchmarks/recipes.py [NAME ...] [--rounds 24] [--threads 2]

Of each stage of a recipe (a growing game has one per size and fade-in) some rounds are timed after a few that
are not, and multiplied by the rounds of the stage. The estimate is that of ``ganlib train NAME --dry-run``.
"""

import argparse
import os
import time
from dataclasses import replace
from itertools import pairwise

import torch

from ganlib import systems
from ganlib.training import Budget, Experiment, Trainer
from ganlib.training.estimate import estimate, measure
from ganlib.training.settings import best_precision

WARM_UP = 6


def stages(made: Experiment) -> list[tuple[int, int]]:
    """First and last round of what is trained alike."""
    growth = getattr(made.game, "growth", None)
    grown = [start + n for start, n in zip(growth.starts, growth.phases[1:], strict=True)] if growth else []
    edges = sorted({0, *(growth.starts if growth else ()), *grown, made.steps})
    return list(pairwise(edges))


def timed(made: Experiment, rounds: int) -> float:
    """Seconds of the whole recipe, by ``rounds`` of each stage."""
    trainer = Trainer(made.game, made.data, replace(made.settings, log_every=10**9), progress=False)
    total = 0.0
    for begin, end in stages(made):
        if hasattr(made.game, "seek"):
            made.game.seek((begin + end) // 2)
            trainer.step = (begin + end) // 2
        trainer.fit(trainer.step + WARM_UP)
        start = time.perf_counter()
        trainer.fit(trainer.step + rounds)
        total += (time.perf_counter() - start) / rounds * (end - begin)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="systems (default: all)")
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    chosen = [systems.get(name) for name in arguments.names] or systems.all_systems()
    cpu = torch.device("cpu")
    print(f"torch {torch.__version__}, {arguments.threads} threads, load {os.getloadavg()[0]:.1f}")
    for system in chosen:
        made = system.experiment(Budget.CPU)
        precision = made.settings.precision or best_precision(cpu)
        took = timed(made, arguments.rounds)
        told = estimate(system.experiment(Budget.CPU), measure(cpu, precision)).seconds
        print(f"{system.name:20s} {took:5.0f} s, told {told:5.0f} s: {took / told:.1f} times", flush=True)


if __name__ == "__main__":
    main()
