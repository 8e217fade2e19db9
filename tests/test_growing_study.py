"""The study of growing: equal seconds for both arms, and nothing but the growth between them."""

import pytest
import torch

from ganlib import studies
from ganlib.studies.growing import ROUNDS, keep_pace, marks, time_ratio
from ganlib.training import Budget, Growth


class Clockwork:
    """Stands in for a trainer: every round takes the seconds that are written beside it."""

    interrupted = False

    def __init__(self, cost) -> None:
        self.cost, self.step, self.history, self.other = cost, 0, [], None
        self.ahead = []

    def fit(self, steps: int) -> None:
        now = self.history[-1]["seconds"] if self.history else 0.0
        now += sum(self.cost(step) for step in range(self.step, steps))
        self.step = steps
        self.history.append({"seconds": now})
        if self.other is not None and self.other.history:
            self.ahead.append(now - self.other.history[-1]["seconds"])


@pytest.mark.parametrize("machine", [lambda step: 1.0, lambda step: 1.0 + step % 7], ids=["steady", "loaded"])
def test_the_full_size_arm_gets_the_growing_arms_seconds(machine):
    """A growing arm whose rounds cost 1 s and then 3 s, against 3 s a round, on a machine that may falter."""
    grown = Clockwork(lambda step: machine(step) * (1 if step < 100 else 3))
    full = Clockwork(lambda step: machine(step) * 3)
    grown.other, full.other = full, grown
    longest = 3 * max(machine(step) for step in range(10))
    for mark in (60, 100, 210):
        keep_pace(grown, full, mark)
        assert grown.step == mark
        # Never less than the growing arm had; what was too much is made up for in the next turn.
        assert 0 <= full.history[-1]["seconds"] - grown.history[-1]["seconds"] <= 2 * longest
    assert max(grown.ahead) <= ROUNDS * longest, "they take turns"


def test_marks_are_the_middles_and_ends_of_phases():
    """24 images are 3 rounds of 8 at sizes 4 and 8, and 6 rounds of 4 at size 16."""
    growth = Growth((4, 8, 16), (8, 8, 4), images=24)
    assert marks(growth) == [2, 3, 5, 6, 8, 9, 12, 15, 18, 21] and growth.rounds == 21


def test_time_ratio_by_hand():
    """To an FID of 40 the first needs 20 + 10 (50 - 40) / (50 - 20) = 70/3 seconds, the second all its 30."""
    seconds, quick, slow = [10.0, 20.0, 30.0], [100.0, 50.0, 20.0], [90.0, 80.0, 40.0]
    assert time_ratio(seconds, quick, seconds, slow) == pytest.approx(9 / 7)
    assert time_ratio(seconds, slow, seconds, quick) == pytest.approx(7 / 9)
    assert time_ratio(seconds, slow, seconds, slow) == 1.0
    # Below it from the first look on, though it rose later.
    assert time_ratio(seconds, [30.0, 20.0, 35.0], seconds, slow) == pytest.approx(3.0)


def test_arms_differ_in_their_growth_alone(monkeypatch):
    arms = []

    def watched(leader, follower, steps):
        if not arms:
            arms.extend([leader, follower])
            states = (arm.game.state_dict() for arm in arms)
            assert all(torch.equal(a, b) for a, b in zip(*(s.values() for s in states), strict=True))
        keep_pace(leader, follower, steps)

    monkeypatch.setattr("ganlib.studies.growing.keep_pace", watched)
    (cell,) = studies.get("growing").cells(Budget.SMOKE)
    outcome = cell.run(1)
    grown, full = arms
    assert grown.game.growth.sizes[0] == 4 and tuple(full.game.growth.sizes) == (32,)
    assert grown.step == grown.game.growth.rounds and grown.game.stage == full.game.stage == (32, 1.0)
    for name in ("ema", "schedule", "precision", "seed", "channels_last"):
        assert getattr(grown.settings, name) == getattr(full.settings, name)
    defaults = [{n: o.defaults for n, o in arm.optimizers.items()} for arm in arms]
    assert defaults[0] == defaults[1]
    assert grown.settings.schedule is None and grown.settings.seed == 1
    assert grown.settings.batch_size_at(grown.step) == full.settings.batch_size_at(0) == 16
    found = outcome.figures
    looks = len(marks(grown.game.growth))
    for arm, trainer in (("grown", grown), ("full", full)):
        lists = [found[f"{arm}_{what}"] for what in ("seconds", "images", "fid")]
        assert [len(values) for values in lists] == [looks] * 3
        assert lists[0] == sorted(lists[0]) and lists[1][-1] == 16 * trainer.step
        assert found[f"{arm}_last_fid"] == lists[2][-1]
    assert found["time_ratio"] > 0 and outcome.images.shape == (32, 1, 32, 32)
    assert studies.get("growing").seeds == (0, 1, 2)
