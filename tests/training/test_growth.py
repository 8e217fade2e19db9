"""The schedule of progressive growing, and what the trainer does with it."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from ganlib.training import Game, Growth, Settings, Trainer


@pytest.mark.parametrize(
    "growth",
    [
        Growth((4, 8, 16, 32), (64, 32, 32, 16), images=1000),
        Growth((8, 16), (3, 5), images=7),
        Growth((4,), (2,), images=5),
    ],
    ids=["four", "two", "one"],
)
def test_alpha_is_the_share_of_a_phase_that_was_shown(growth):
    """Walk through every round counting images, as the paper does, and compare."""
    size, batch, shown, phase = growth.sizes[0], growth.batch_sizes[0], 0, "stable"
    level, starts, batches = 0, [], {0: batch}
    for step in range(growth.rounds + 3):
        if shown >= growth.images:  # a phase ends with the round that completes its images
            if phase == "fade":
                phase, shown = "stable", 0
            elif level + 1 < len(growth.sizes):
                level, phase, shown = level + 1, "fade", 0
                size, batch = growth.sizes[level], growth.batch_sizes[level]
                starts.append(step)
                batches[step] = batch
        rounds = -(-growth.images // batch)
        expected = 1.0 if phase == "stable" else shown / batch / rounds
        assert growth.at(step).size == size
        assert growth.at(step).alpha == pytest.approx(expected, abs=1e-12)
        shown += batch
    assert growth.starts == tuple(starts)
    assert growth.batches == batches


def test_the_papers_schedule():
    """600 thousand real images at 4, then 1.2 million for each size, as in the authors' code."""
    growth = Growth((4, 8, 16), (16, 16, 16), images=600_000)
    assert growth.starts == (37_500, 112_500)
    assert growth.rounds * 16 == 3_000_000
    assert growth.at(37_499) == (4, 1.0)
    assert growth.at(37_500) == (8, 0.0)
    assert growth.at(56_250) == (8, 0.5)
    assert growth.at(75_000) == (8, 1.0)
    assert growth.at(10**9) == (16, 1.0)
    slopes = {round(b.alpha - a.alpha, 9) for a, b in pairwise(growth.at(s) for s in range(37_500, 37_600))}
    assert slopes == {round(1 / 37_500, 9)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (((4, 12), (2, 2)), r"sizes must double .* got \(4, 12\)"),
        (((), ()), "sizes must double"),
        (((4, 8), (2,)), "batch_sizes must have one entry for each of 2 sizes"),
        (((4, 8), (2, 0)), "batch_sizes must be positive"),
        (((4, 8), (2, 2), 0), "images must be at least 1, got 0"),
    ],
    ids=["triple", "none", "batch", "zero", "images"],
)
def test_bad_schedules_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        Growth(*arguments)


class Seen(Game):
    """A player with one weight, who notes every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.player = nn.Linear(1, 1, bias=False)
        self.turns = {"player": 1}
        self.batches: list[list[float]] = []

    def terms(self, player, batch):
        self.batches.append(batch[0].flatten().tolist())
        return {"loss": self.player(batch[0]).square().mean()}


def play(steps: int, folder=None, rows: int = 10, **options) -> Trainer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        game = Seen()
    settings = Settings({"player": partial(torch.optim.Adam, lr=0.01)}, precision="32-true", **options)
    data = torch.arange(float(rows))[:, None]
    trainer = Trainer(game, data, settings, out=folder, progress=False)
    if folder is not None:
        trainer.resume()
    trainer.fit(steps)
    return trainer


def test_batches_change_their_size_and_an_epoch_still_shows_each_row_at_most_once():
    seen = play(9, batch_size={0: 4, 2: 3, 5: 1}).game.batches
    assert [len(b) for b in seen] == [4, 4, 3, 3, 3, 1, 1, 1, 1]
    # Rows 0..7 of the first epoch, then three batches of three of the second (the first has two rows left),
    # and its last row alone; then a third epoch begins.
    assert len({row for b in seen[:2] for row in b}) == 8
    assert len({row for b in seen[2:6] for row in b}) == 10


@pytest.mark.parametrize("stop", [1, 2, 4, 6])
def test_a_run_resumed_at_any_round_sees_the_same_batches_and_ends_with_the_same_weights(stop, tmp_path):
    options = {"batch_size": {0: 4, 2: 3, 5: 1}, "restarts": (2, 5)}
    whole = play(8, **options)
    play(stop, tmp_path, **options)
    resumed = play(8, tmp_path, **options)
    assert resumed.game.batches == whole.game.batches[stop:]
    torch.testing.assert_close(resumed.game.player.weight, whole.game.player.weight, rtol=0, atol=0)


def test_a_restart_is_adam_begun_anew():
    """The reference is torch's own optimizer, made again at rounds 3 and 5, on the batches that were seen."""
    trainer = play(7, batch_size=2, restarts=(3, 5))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weight = Seen().player.weight
    kept = weight.detach().clone().requires_grad_()
    for reference, restarts in ((weight, (3, 5)), (kept, ())):
        optimizer = torch.optim.Adam([reference], lr=0.01)
        for step, batch in enumerate(trainer.game.batches):
            if step in restarts:
                optimizer = torch.optim.Adam([reference], lr=0.01)
            optimizer.zero_grad()
            (torch.tensor(batch)[:, None] @ reference.T).square().mean().backward()
            optimizer.step()
    torch.testing.assert_close(trainer.game.player.weight, weight, rtol=1e-6, atol=0)
    assert (trainer.game.player.weight - kept).abs().item() > 1e-4


def test_another_schedule_is_another_run(tmp_path):
    play(2, tmp_path, batch_size={0: 4, 2: 3})
    with pytest.raises(ValueError, match="batch_size was"):
        play(4, tmp_path, batch_size={0: 4, 3: 3})
    with pytest.raises(ValueError, match=r"restarts was \[\], is \[3\]"):
        play(4, tmp_path, batch_size={0: 4, 2: 3}, restarts=(3,))


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({1: 4}, "from round 0 on, got {1: 4}"),
        ({}, "from round 0 on"),
        ({0: 4, -1: 2}, "from round 0 on"),
        ({0: 4, 3: 0}, "batch_size must be at least 1"),
        ({0: 4, 3: 11}, "batch_size 11 exceeds the 10 samples"),
    ],
    ids=["late", "empty", "negative", "zero", "large"],
)
def test_bad_batch_sizes_are_named(sizes, words):
    with pytest.raises(ValueError, match=words):
        play(1, batch_size=sizes)
