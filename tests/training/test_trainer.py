"""The trainer against loops written out by hand, and everything it promises around them."""

import copy
import ctypes
import json
import math
import os
import platform
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from toys import Mean, adam, dcgan, mean_settings, pictures, settings, wgan_gp

import ganlib.losses.penalties
from ganlib.models.wgan import WGAN
from ganlib.training import Budget, History, LinearDecay, NonFiniteLossError, Settings, Trainer
from ganlib.training.checkpoint import read
from ganlib.training.trainer import _keep_freed_memory


def weights(game) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in game.state_dict().items()}


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    assert not [name for name in a if not torch.equal(a[name], b[name])]


def trainer(game=None, data=None, chosen=None, **arguments) -> Trainer:
    return Trainer(
        game or dcgan(),
        pictures() if data is None else data,
        chosen or settings(),
        progress=False,
        **arguments,
    )


def numbers(n: int = 12) -> torch.Tensor:
    return torch.arange(float(n)).view(n, 1)


# Against a textbook loop


def recorded(game, monkeypatch) -> tuple[list, list, list]:
    """The batches, latents and interpolation weights that the trainer's game uses, in order."""
    batches, latents, mixing = [], [], []
    terms, latent, uniform = game.terms, game.latent, ganlib.losses.penalties.uniform

    def spy_terms(player, batch):
        batches.append(batch[0].clone())
        return terms(player, batch)

    def spy_latent(n, rng=None):
        latents.append(latent(n, rng))
        return latents[-1]

    def spy_uniform(*args, **kwargs):
        mixing.append(uniform(*args, **kwargs))
        return mixing[-1]

    game.terms, game.latent = spy_terms, spy_latent
    monkeypatch.setattr(ganlib.losses.penalties, "uniform", spy_uniform)
    return batches, latents, mixing


def step(loss, optimizer) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def average(mean, model, decay: float) -> None:
    """One update of a moving average, weights and statistics alike."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            mean[name] = decay * mean[name] + (1 - decay) * value
        else:
            mean[name] = value.clone()


@pytest.mark.parametrize("kind", ["dcgan", "wgan-gp"])
def test_equals_a_loop_written_out(kind, monkeypatch):
    game = dcgan() if kind == "dcgan" else wgan_gp()
    start = copy.deepcopy(game)
    batches, latents, mixing = recorded(game, monkeypatch)
    trained = trainer(game)
    history = trained.fit(7)

    g, d = start.generator, start.discriminator
    g_adam, d_adam = adam(g.parameters()), adam(d.parameters())
    mean = weights(g)
    batches, latents, mixing = iter(batches), iter(latents), iter(mixing)
    losses = []
    for t in range(1, 8):
        row = []
        for _ in range(1 if kind == "dcgan" else 2):
            x, fake = next(batches), g(next(latents)).detach()
            if kind == "dcgan":
                terms = [
                    binary_cross_entropy_with_logits(d(x), torch.ones(8))
                    + binary_cross_entropy_with_logits(d(fake), torch.zeros(8))
                ]
            else:
                u = next(mixing).view(8, 1, 1, 1)
                between = (u * x + (1 - u) * fake).requires_grad_()
                (slope,) = torch.autograd.grad(d(between).sum(), between, create_graph=True)
                norms = slope.square().sum((1, 2, 3)).sqrt()
                terms = [d(fake).mean() - d(x).mean(), 10 * ((norms - 1) ** 2).mean()]
            step(sum(terms), d_adam)
            row.append([term.item() for term in terms])
        next(batches)
        output = d(g(next(latents)))
        loss = binary_cross_entropy_with_logits(output, torch.ones(8)) if kind == "dcgan" else -output.mean()
        step(loss, g_adam)
        average(mean, g, min(0.9, (1 + t) / (10 + t)))
        losses.append([sum(column) / len(column) for column in zip(*row, strict=True)] + [loss.item()])

    # The same sums in another order (fused passes, memory layouts): float32 rounding, 1e-7 relative, grows
    # over 7 rounds of a dozen layers to some 1e-6; a learning rate of 2e-3 makes any true difference 1e-3.
    for name, value in game.state_dict().items():
        torch.testing.assert_close(value, start.state_dict()[name], rtol=1e-4, atol=2e-5, msg=name)
    for name, value in trained.averages["generator"].state_dict().items():
        torch.testing.assert_close(value, mean[name], rtol=1e-4, atol=2e-5, msg=name)
    names = ["discriminator/adversarial", "discriminator/gradient penalty", "generator/adversarial"]
    names = names if kind == "wgan-gp" else names[::2]
    assert history.names == ["step", "seconds", *names]
    found = [[entry[name] for name in names] for entry in history]
    torch.testing.assert_close(torch.tensor(found), torch.tensor(losses), rtol=1e-4, atol=1e-4)


def test_averages_start_at_the_weights_and_warm_up():
    """w goes 0 -> known values by SGD; the average follows with decays 2/11, 3/12, ... up to the set one."""
    chosen = mean_settings(ema={"model": 0.26})
    t = trainer(Mean(), torch.ones(8, 1), chosen)
    w = mean = 0.0
    for k in range(1, 8):
        t.fit(k)
        w += 0.1 * 2 * (1 - w)
        decay = min(0.26, (1 + k) / (10 + k))
        mean = decay * mean + (1 - decay) * w
        assert t.game.model.weight.item() == pytest.approx(w, rel=1e-6)
        assert t.averages["model"].weight.item() == pytest.approx(mean, rel=1e-6)


def test_schedule_scales_every_rate():
    """SGD on (w - 1)^2 by hand, with rates 0.1 x (1, 1, 2/3, 1/3, 0)."""
    t = trainer(Mean(), torch.ones(8, 1), mean_settings(schedule=LinearDecay(1, 4)))
    w = 0.0
    for k, factor in enumerate((1, 1, 2 / 3, 1 / 3, 0, 0), start=1):
        t.fit(k)
        w += 0.1 * factor * 2 * (1 - w)
        assert t.game.model.weight.item() == pytest.approx(w, rel=1e-6)


@pytest.mark.parametrize(("start", "end"), [(3, 3), (4, 3), (-1, 3)])
def test_a_schedule_must_fall_somewhere(start, end):
    with pytest.raises(ValueError, match=f"start={start}, end={end}"):
        LinearDecay(start, end)


def test_only_named_players_are_averaged():
    t = trainer(chosen=settings(ema={}))
    t.fit(1)
    assert t.averages == {} and t.sample(2).shape == (2, 1, 16, 16)


def test_clipping_follows_every_critic_step():
    base = dcgan()
    game = WGAN(base.generator, base.discriminator, clip=0.01, n_critic=3)
    largest = []
    terms = game.terms

    def spy(player, batch):
        largest.append(max(p.abs().max().item() for p in game.discriminator.parameters()))
        return terms(player, batch)

    game.terms = spy
    trainer(game).fit(2)
    assert len(largest) == 8
    assert largest[0] > 0.9 and all(value == pytest.approx(0.01) for value in largest[1:])
    assert max(p.abs().max().item() for p in game.generator.parameters()) > 0.9


def test_turns_are_played_in_order():
    game, played = wgan_gp(), []
    game.after_step = played.append
    trainer(game).fit(2)
    assert played == ["discriminator", "discriminator", "generator"] * 2


# Data


@pytest.mark.parametrize(("rows", "batch"), [(12, 4), (14, 4), (5, 5)])
def test_an_epoch_visits_each_row_at_most_once(rows, batch):
    game = Mean()
    per_epoch = rows // batch
    trainer(game, numbers(rows), mean_settings(batch_size=batch)).fit(4 * per_epoch)
    epochs = [torch.cat(game.seen[i : i + per_epoch]).tolist() for i in range(0, 4 * per_epoch, per_epoch)]
    for epoch in epochs:
        assert len(epoch) == len(set(epoch)) == per_epoch * batch <= rows
        if rows % batch == 0:
            assert sorted(epoch) == numbers(rows).flatten().tolist()
    assert len({tuple(epoch) for epoch in epochs}) == 4, "epochs come in one order"


def test_every_step_of_every_player_takes_the_next_batch():
    game = wgan_gp()
    seen = []
    terms = game.terms
    game.terms = lambda player, batch: seen.append(batch[0][:, 0, 0, 0].tolist()) or terms(player, batch)
    trainer(game).fit(2)  # 2 rounds x 3 turns x 8 rows = the 48 pictures, each once
    assert sorted(value for batch in seen for value in batch) == sorted(pictures()[:, 0, 0, 0].tolist())


def test_rows_of_all_tensors_stay_together():
    game, seen = Mean(), []
    terms = game.terms
    game.terms = lambda player, batch: seen.append(batch) or terms(player, batch)
    trainer(game, (numbers(), 10 * numbers()), mean_settings()).fit(5)
    assert all(torch.equal(10 * x, y) for x, y in seen)


def test_data_are_left_as_they_were():
    data = pictures()
    trainer(data=data).fit(2)
    assert torch.equal(data, pictures())


# Randomness


def test_a_seed_makes_a_run():
    a, b, other = (trainer(chosen=settings(seed=s)) for s in (3, 3, 4))
    for t in (a, b, other):
        t.fit(3)
    assert_equal(weights(a.game), weights(b.game))
    assert_equal(weights(a.averages["generator"]), weights(b.averages["generator"]))
    assert not torch.equal(a.game.generator.layers[1].weight, other.game.generator.layers[1].weight)


@pytest.mark.parametrize("what", ["order", "noise"])
def test_both_order_and_noise_depend_on_the_seed(what, monkeypatch):
    found = []
    for seed in (0, 1):
        game = dcgan()
        batches, latents, _ = recorded(game, monkeypatch)
        trainer(game, chosen=settings(seed=seed)).fit(1)
        found.append(batches[0] if what == "order" else latents[0])
    assert not torch.equal(*found)


def test_global_random_state_is_left_alone():
    state = torch.get_rng_state()
    t = trainer(callbacks=[lambda t: torch.rand(3)])
    t.fit(2)
    t.sample(3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    t.fit(4)
    reference = trainer()
    reference.fit(4)
    assert_equal(weights(t.game), weights(reference.game))
    torch.set_rng_state(state)


def test_global_random_state_comes_back_after_an_error():
    state = torch.get_rng_state()
    game = dcgan()
    game.after_step = lambda player: 1 / 0
    with pytest.raises(ZeroDivisionError):
        trainer(game).fit(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_looking_does_not_change_a_run():
    def look(t):
        t.sample(5)
        torch.rand(7)
        with t.averaged() as game:
            game.sample(2)

    watched, alone = trainer(callbacks=[look]), trainer()
    watched.fit(4)
    alone.fit(4)
    assert_equal(weights(watched.game), weights(alone.game))


def test_fit_in_pieces_equals_fit_at_once():
    pieces, whole = trainer(chosen=settings(log_every=3)), trainer(chosen=settings(log_every=3))
    for steps in (1, 2, 2, 5):
        pieces.fit(steps)
    whole.fit(5)
    assert pieces.step == whole.step == 5
    assert_equal(weights(pieces.game), weights(whole.game))
    assert_equal(weights(pieces.averages["generator"]), weights(whole.averages["generator"]))


# History, callbacks


def test_turns_played_one_by_one_equal_rounds():
    played, whole = trainer(wgan_gp()), trainer(wgan_gp())
    before = torch.get_rng_state()
    for _ in range(3):
        for player in ("discriminator", "discriminator", "generator"):
            played.turn(player)
    assert torch.equal(torch.get_rng_state(), before)
    whole.fit(3)
    assert_equal(weights(played.game), weights(whole.game))
    assert played.step == 0
    with pytest.raises(ValueError, match="player must be one of"):
        played.turn("critic")


def test_history_rows_are_means_over_their_interval():
    game = Mean()
    game.turns = {"model": 2}
    t = trainer(game, numbers(), mean_settings(log_every=3))
    history = t.fit(7)
    assert history["step"] == [3, 6, 7]
    losses = game.losses
    wanted = [sum(losses[:6]) / 6, sum(losses[6:12]) / 6, sum(losses[12:]) / 2]
    assert history["model/fit"] == pytest.approx(wanted, rel=1e-6)  # float32 sums
    assert t.fit(7) is history and history["step"] == [3, 6, 7]


def test_seconds_grow():
    history = trainer().fit(5)
    seconds = history["seconds"]
    assert seconds[0] > 0 and seconds == sorted(seconds)


def test_history_as_a_table(tmp_path):
    history = History([{"step": 1, "a": 0.5}, {"step": 2, "a": 0.25, "b": math.pi}])
    assert history.names == ["step", "a", "b"] and len(history) == 2
    assert history["a"] == [0.5, 0.25] and history[-1]["b"] == math.pi
    assert math.isnan(history["b"][0]) and [row["step"] for row in history] == [1, 2]
    with pytest.raises(KeyError, match="no column 'c'"):
        history["c"]
    history.save(tmp_path / "history.json")
    assert History.load(tmp_path / "history.json").rows == history.rows
    assert json.loads((tmp_path / "history.json").read_text()) == history.rows


def test_callbacks_come_with_each_row():
    seen = []
    t = trainer(
        Mean(), numbers(), mean_settings(log_every=2), callbacks=[lambda t: seen.append((t.step, t.finished))]
    )
    t.fit(5)
    assert seen == [(2, False), (4, False), (5, True)]
    assert not t.interrupted


def test_progress_bar_is_silent_unless_asked_for(capfd):
    trainer().fit(2)
    assert capfd.readouterr() == ("", "")
    Trainer(dcgan(), pictures(), settings()).fit(2)
    assert "2/2" in capfd.readouterr().err


def test_the_host_reads_nothing_between_log_rows(monkeypatch):
    """Reading a tensor makes the host wait for the device: the count must not grow with the steps."""
    reads = []
    for name in ("item", "tolist", "numpy", "__float__", "__bool__", "__int__"):
        original = getattr(torch.Tensor, name)

        def spy(self, *args, name=name, original=original, **kwargs):
            reads.append(name)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, spy)
    counts = []
    fused = partial(torch.optim.Adam, fused=True)
    chosen = settings(log_every=100, optimizers={"discriminator": fused, "generator": fused})
    for steps in (2, 5):
        t = trainer(wgan_gp(), chosen=chosen)
        reads.clear()
        t.fit(steps)
        counts.append(len(reads))
    assert counts[0] == counts[1] > 0


# Sampling


def test_samples_are_those_of_the_averaged_weights():
    t = trainer()
    t.fit(5)
    by_hand = dcgan()
    by_hand.generator.load_state_dict(t.averages["generator"].state_dict())
    expected = by_hand.sample(6, torch.Generator().manual_seed(3))
    # The trainer's weights lie channels-last in memory, which sums in another order.
    torch.testing.assert_close(t.sample(6, seed=3), expected, rtol=1e-4, atol=1e-5)
    current = t.game.sample(6, torch.Generator().manual_seed(3))
    assert not torch.allclose(current, expected, atol=1e-4)


def test_averaged_puts_the_weights_back():
    t = trainer()
    t.fit(3)
    before, mean = weights(t.game), weights(t.averages["generator"])
    with t.averaged() as game:
        assert_equal(weights(game.generator), mean)
        assert_equal(weights(game.discriminator), weights(t.game.discriminator))
    assert_equal(weights(t.game), before)
    assert_equal(weights(t.averages["generator"]), mean)
    with pytest.raises(RuntimeError, match="deliberate"), t.averaged():
        raise RuntimeError("deliberate")
    assert_equal(weights(t.game), before)


# Stopping


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_the_run(bad, tmp_path):
    game = Mean()
    terms = game.terms

    def spoil(player, batch):
        spoiled = terms(player, batch)
        return {"fit": spoiled["fit"], "spoiled": spoiled["fit"] * 0 + (bad if len(game.losses) >= 5 else 0)}

    game.terms = spoil
    t = trainer(game, numbers(), mean_settings(checkpoint_every=2), out=tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"model/spoiled is -?(nan|inf) at step 5"):
        t.fit(9)
    _, metadata = read(tmp_path / "checkpoint.safetensors")
    assert metadata["step"] == 4, "weights past use went over a good checkpoint"


def test_no_checkpoint_is_written_over_a_good_one_between_log_rows(tmp_path):
    """NaN at step 5, the next row at 100, but a checkpoint is due at 6."""
    game = Mean()
    terms = game.terms
    game.terms = lambda p, b: {"fit": terms(p, b)["fit"] * (math.nan if len(game.losses) >= 5 else 1)}
    t = trainer(game, numbers(), mean_settings(checkpoint_every=2, log_every=100), out=tmp_path)
    with pytest.raises(NonFiniteLossError, match="model/fit is nan at step 6"):
        t.fit(9)
    assert read(tmp_path / "checkpoint.safetensors")[1]["step"] == 4


def test_weights_that_are_no_numbers_stop_the_run(tmp_path):
    """The square root of zero has a finite value and an infinite gradient."""
    game = Mean()
    terms = game.terms

    def spoil(player, batch):
        root = (game.model.weight * 0).sum().sqrt() if len(game.losses) >= 4 else 0
        return {"fit": terms(player, batch)["fit"] + root}

    game.terms = spoil
    t = trainer(game, numbers(), mean_settings(checkpoint_every=1), out=tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"model.*nan at step 5"):
        t.fit(9)
    assert read(tmp_path / "checkpoint.safetensors")[1]["step"] == 4


def interrupt_at(step: int, times: int = 1):
    def callback(t):
        if t.step == step:
            for _ in range(times):
                os.kill(os.getpid(), signal.SIGINT)

    return callback


def test_ctrl_c_ends_after_the_round_and_the_run_can_go_on(tmp_path):
    handler = signal.getsignal(signal.SIGINT)
    t = trainer(callbacks=[interrupt_at(2)], out=tmp_path)
    t.fit(6)
    assert t.interrupted and t.step == 3 and t.finished
    assert signal.getsignal(signal.SIGINT) is handler
    assert read(tmp_path / "checkpoint.safetensors")[1]["step"] == 3
    assert t.history[-1]["step"] == 3
    t.fit(6)
    assert not t.interrupted and t.step == 6
    reference = trainer()
    reference.fit(6)
    assert_equal(weights(t.game), weights(reference.game))


def test_a_second_ctrl_c_ends_at_once():
    handler = signal.getsignal(signal.SIGINT)
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt):
        trainer(callbacks=[interrupt_at(2, times=2)]).fit(6)
    assert signal.getsignal(signal.SIGINT) is handler
    assert torch.equal(torch.get_rng_state(), state)


def test_ctrl_c_in_the_last_round_interrupts_nothing():
    game = Mean()
    game.after_step = lambda player: os.kill(os.getpid(), signal.SIGINT) if len(game.losses) == 3 else None
    t = trainer(game, numbers(), mean_settings())
    t.fit(3)
    assert t.step == 3 and not t.interrupted


def test_fit_works_outside_the_main_thread():
    """Signals can only be caught in the main thread; a notebook's executor may run cells in another."""
    t = trainer(Mean(), numbers(), mean_settings())
    thread = threading.Thread(target=t.fit, args=(3,))
    thread.start()
    thread.join(60)
    assert t.step == 3


# Precision and layout


def test_bfloat16_is_close_and_is_bfloat16():
    runs = {p: trainer(chosen=settings(precision=p)) for p in ("32-true", "bf16-mixed")}
    rows = {p: t.fit(3) for p, t in runs.items()}
    for name in ("discriminator/adversarial", "generator/adversarial"):
        exact, rough = (torch.tensor(rows[p][name]) for p in runs)
        # 8 bits of mantissa: 0.4 % per operation, averaged over 8 logits and followed for 3 rounds.
        torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.02)
        assert not torch.equal(rough, exact), "the second run was not in bfloat16 at all"
    game = runs["bf16-mixed"].game
    assert all(p.dtype == torch.float32 for p in game.parameters()), "weights stay in float32"
    assert runs["bf16-mixed"].precision == "bf16-mixed"


@pytest.mark.parametrize("make", [dcgan, wgan_gp])
def test_memory_layout_changes_rounding_only(make):
    runs = [trainer(make(), chosen=settings(channels_last=flag)) for flag in (True, False)]
    for t, layout in zip(runs, (torch.channels_last, torch.contiguous_format), strict=True):
        weight = t.game.generator.layers[4].weight
        assert weight.is_contiguous(memory_format=layout)
        t.fit(5)
        assert weight.is_contiguous(memory_format=layout)
    # As in test_equals_a_loop_written_out: float32 rounding against steps of 2e-3.
    for name, value in runs[0].game.state_dict().items():
        torch.testing.assert_close(value, runs[1].game.state_dict()[name], rtol=1e-4, atol=2e-5, msg=name)


# What does not fit together


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"log_every": 0}, "log_every must be at least 1, got 0"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"checkpoint_every": 0}, "checkpoint_every must be at least 1 or None, got 0"),
        ({"ema": {"generator": 1.0}}, r"ema decay of generator must lie in \[0, 1\), got 1.0"),
        ({"ema": {"generator": -0.1}}, "ema decay of generator"),
        ({"ema": {"generator": math.nan}}, "ema decay of generator"),
        ({"precision": "16-mixed"}, "precision must be None, '32-true' or 'bf16-mixed', got '16-mixed'"),
    ],
)
def test_settings_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "data", "message"),
    [
        ({"optimizers": {"generator": adam}}, None, r"optimizers.*\['discriminator', .*\['generator'\]"),
        ({"ema": {"critic": 0.9}}, None, r"ema.*\['critic'\]"),
        ({"batch_size": 49}, None, "batch_size 49 exceeds the 48 samples"),
        ({}, (torch.zeros(9, 1), torch.zeros(8)), r"\[8, 9\]"),
        ({}, (), "data must be tensors"),
    ],
)
def test_parts_must_fit_together(changes, data, message):
    with pytest.raises(ValueError, match=message):
        trainer(data=data, chosen=settings(**changes))


def test_settings_are_frozen():
    with pytest.raises(AttributeError):
        Settings({}).seed = 1


# Budgets


def test_budget_comes_from_the_environment(monkeypatch):
    for budget in Budget:
        monkeypatch.setenv("GANLIB_BUDGET", budget.value)
        assert Budget.current() is budget
        assert budget.pick(smoke="smoke", cpu="cpu", gpu="gpu") == budget.value
    monkeypatch.setenv("GANLIB_BUDGET", "huge")
    with pytest.raises(ValueError, match=r"GANLIB_BUDGET must be smoke, cpu or gpu, got 'huge'"):
        Budget.current()


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize(("cuda", "budget"), [(True, Budget.GPU), (False, Budget.CPU)])
def test_budget_without_environment(unset, cuda, budget, monkeypatch):
    monkeypatch.delenv("GANLIB_BUDGET", raising=False)
    if unset is not None:
        monkeypatch.setenv("GANLIB_BUDGET", unset)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert Budget.current() is budget


# The process around it


def test_torch_is_not_left_looking_for_a_gpu_at_every_step():
    """Fabric's import sets this variable for good; optimizers then open NVML anew at each step."""
    code = "import os, toys; from ganlib.training import Trainer; "
    code += "Trainer(toys.dcgan(), toys.pictures(), toys.settings(), progress=False); "
    code += "print(os.environ.get('PYTORCH_NVML_BASED_CUDA_CHECK'))"
    assert child(code) == "None"
    assert child(code, PYTORCH_NVML_BASED_CUDA_CHECK="1") == "1", "a user's own choice is kept"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library's allocator")
def test_freed_memory_is_kept_for_the_next_step(monkeypatch):
    """glibc accepts both thresholds (above half its largest heap it would answer 0). Whether pages fault in
    again without them depends on where the system puts things, so that is measured in benchmarks/."""
    answers = {}
    library = ctypes.CDLL(None)

    class Spy:
        def mallopt(self, parameter: int, value: int) -> None:
            answers[parameter, value] = library.mallopt(parameter, value)

    with monkeypatch.context() as patch:
        patch.setattr(ctypes, "CDLL", lambda name: Spy())
        _keep_freed_memory()
    assert answers == {(-3, 32 * 2**20): 1, (-1, 512 * 2**20): 1}
    calls = []
    monkeypatch.setattr("ganlib.training.trainer._keep_freed_memory", lambda: calls.append(1))
    trainer()
    assert calls == [1]


def child(code: str, **environment: str) -> str:
    """What a fresh interpreter prints."""
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTORCH_")} | environment
    environment["PYTHONPATH"] = os.pathsep.join([*paths, environment.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()
