"""What growing saves: the same networks trained from 4 x 4 upwards, and at full size from the start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from ganlib.data import Images
from ganlib.models.progan import growth, play, settings
from ganlib.models.recipes import digit_report, image_data
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Growth, Trainer

ROUNDS = 25
"""Rounds that the growing arm plays before the other has the same time."""


@study(
    name="growing",
    title="Growing against full size from the start, at equal time",
    paper="Karras et al. 2018, Progressive Growing of GANs, section 6.2",
    notebook="13_progressive_growing.ipynb",
    seeds=(0, 1, 2),
)
def growing(budget: Budget) -> list[Cell]:
    """Both arms in one cell, because they run in turns."""
    return [Cell({"data": "mnist"}, partial(_cell, budget))]


def _cell(budget: Budget, seed: int) -> Outcome:
    r"""FID over seconds of training of two arms that differ in their growth alone.

    Weights at the start, optimizers, rates (constant, as the paper's), batch at full size and averages are
    the same. The arms take turns of some seconds in one process, so that whatever else the machine does slows
    both alike; only training counts, not sampling nor FID.

    Figures, each for ``grown`` and ``full``: the lists ``seconds``, ``images`` (real ones shown) and ``fid``,
    whose stamps agree to about a round, and the last FID. ``time_ratio`` is the full-size arm's seconds over
    the growing arm's, each until its curve first reaches the worse of the two last FIDs.
    """
    data = image_data(None, budget)
    # In phases twice the recipe's, and no rounds after them: what is compared is the growing.
    gradual = growth(budget, data.images.shape[-1], budget.pick(smoke=16, cpu=16_000, gpu=800_000))
    at_once = replace(gradual, sizes=gradual.sizes[-1:], batch_sizes=gradual.batch_sizes[-1:])
    arms = {name: _trainer(budget, data, g, seed) for name, g in (("grown", gradual), ("full", at_once))}
    figures: dict = {f"{arm}_{what}": [] for arm in arms for what in ("seconds", "images", "fid")}
    report = digit_report(None, budget)
    for mark in marks(gradual):
        keep_pace(arms["grown"], arms["full"], mark)
        for arm, trainer in arms.items():
            with trainer.averaged() as game:
                fid = report(game)["fid"]
            shown = sum(trainer.settings.batch_size_at(step) for step in range(trainer.step))
            for what, value in (("seconds", seconds(trainer)), ("images", shown), ("fid", fid)):
                figures[f"{arm}_{what}"].append(value)
    figures |= {f"{arm}_last_fid": figures[f"{arm}_fid"][-1] for arm in arms}
    figures["time_ratio"] = time_ratio(
        figures["grown_seconds"], figures["grown_fid"], figures["full_seconds"], figures["full_fid"]
    )
    images = torch.cat([trainer.sample(16) for trainer in arms.values()])
    notes = (
        "pictures: above of the growing arm, below of the other",
        "the rates are the recipe's, chosen for the growing arm on seed 0 with its FID in view; they are "
        "constant here, where the recipe's fall after the growth",
    )
    return Outcome(figures, arms["grown"].history, images, notes=notes)


def _trainer(budget: Budget, data: Images, grown: Growth, seed: int) -> Trainer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        game = play(budget, data.images.shape[1], grown)
    return Trainer(game, data, replace(settings(budget, grown), seed=seed), progress=False)


def marks(growth: Growth) -> list[int]:
    """The rounds after which both arms are looked at: the middle and the end of every phase."""
    found, begin = [], 0
    for level, rounds in enumerate(growth.phases):
        for _ in range(1 if level == 0 else 2):
            found += [begin + (rounds + 1) // 2, begin + rounds]
            begin += rounds
    return sorted(set(found))


def keep_pace(leader: Trainer, follower: Trainer, steps: int) -> None:
    """Play ``leader`` to round ``steps`` and ``follower`` for as many seconds, in turns of :data:`ROUNDS`."""
    while leader.step < steps:
        fit(leader, min(steps, leader.step + ROUNDS))
        while seconds(follower) < seconds(leader):  # its clock stands still between two calls
            fit(follower, follower.step + 1)


def seconds(trainer: Trainer) -> float:
    """Seconds of training so far."""
    return trainer.history[-1]["seconds"] if len(trainer.history) else 0.0


def time_ratio(
    grown_seconds: Sequence[float],
    grown_fid: Sequence[float],
    full_seconds: Sequence[float],
    full_fid: Sequence[float],
) -> float:
    """How often faster growing was: seconds at full size over seconds of the growing arm to one FID.

    That is the worse of the two last ones, which both have reached; each curve is taken to be straight
    between its points.
    """
    target = max(grown_fid[-1], full_fid[-1])
    return _reached(full_seconds, full_fid, target) / _reached(grown_seconds, grown_fid, target)


def _reached(seconds: Sequence[float], fid: Sequence[float], target: float) -> float:
    first = next(i for i, value in enumerate(fid) if value <= target)
    if first == 0:
        return seconds[0]
    share = (fid[first - 1] - target) / (fid[first - 1] - fid[first])
    return seconds[first - 1] + share * (seconds[first] - seconds[first - 1])
