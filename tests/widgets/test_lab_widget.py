"""The GAN lab without a browser: it trains as the trainer does, loses nothing, and lets the kernel live."""

import asyncio

import numpy as np
import pytest
import torch
from torch import nn

from ganlib.data import toy
from ganlib.losses import NonSaturating, Wasserstein
from ganlib.models.gan import GAN, MLPDiscriminator, MLPGenerator
from ganlib.models.lab import ClippedGAN, PlaneDiscriminator, lab_data, lab_game, lab_settings, surface
from ganlib.models.unrolled import UnrolledGAN
from ganlib.training import Trainer
from ganlib.widgets import lab as module
from ganlib.widgets.lab import EXAMPLES, GANLab


@pytest.fixture
def sent(monkeypatch):
    """What labs send to the browser."""
    messages = []
    monkeypatch.setattr(
        GANLab, "send", lambda self, content, buffers=None: messages.append((content, buffers))
    )
    return messages


def weights(game):
    return torch.cat([p.detach().flatten() for p in game.parameters()])


def ask(lab, **content):
    """A message from the browser."""
    lab._handle_custom_msg(content, [])


def test_pauses_single_turns_and_frames_leave_the_run_as_it_is():
    """Six rounds by any mixture of buttons are six rounds of the trainer, to the bit."""
    lab = GANLab(seed=5)
    ask(lab, do="round")
    for player in ("discriminator", "generator"):
        ask(lab, do=player)
    lab.figure()
    lab.advance(3)
    lab.speed = 0
    for _ in range(2):
        lab._next_frame()
    assert lab.moves == {"discriminator": 6, "generator": 6}

    game = lab_game(NonSaturating(), seed=5)
    data = lab_data(module.TARGETS["ring of 8"], seed=5)
    Trainer(game, data, lab_settings(seed=5), progress=False, accelerator="cpu").fit(6)
    assert torch.equal(weights(lab.game), weights(game))


def test_one_player_alone_moves_alone():
    lab = GANLab()
    for player, other in (("discriminator", "generator"), ("generator", "discriminator")):
        mine, theirs = (weights(getattr(lab.game, name)) for name in (player, other))
        ask(lab, do=player)
        assert not torch.equal(weights(getattr(lab.game, player)), mine)
        assert torch.equal(weights(getattr(lab.game, other)), theirs)
        assert lab.last == player


def test_playing_lets_the_event_loop_run_and_pausing_stops():
    async def play():
        lab = GANLab()
        lab.speed = 1
        lab.play()
        turns = 0
        while lab.moves["generator"] < 5:
            await asyncio.sleep(0)  # what a student's cell would get
            turns += 1
        assert turns >= 5
        random = torch.get_rng_state()
        lab.pause()
        await lab._task
        after = dict(lab.moves)
        await asyncio.sleep(0.2)
        assert lab.moves == after
        assert torch.equal(torch.get_rng_state(), random)
        # Pressing play twice starts one task, and it goes on from where it was.
        lab.play()
        task = lab._task
        lab.playing = True
        assert lab._task is task
        while lab.moves["generator"] < after["generator"] + 2:
            await asyncio.sleep(0)
        lab.pause()
        await task
        assert lab.scores[-1][0] == lab.moved

    asyncio.run(play())


def test_playing_without_a_loop_says_what_to_do():
    lab = GANLab()
    with pytest.raises(RuntimeError, match="advance"):
        lab.play()
    assert not lab.playing


def test_a_frame_holds_what_the_game_says(sent):
    lab = GANLab()
    lab.advance(2)
    content, buffers = sent[-1]
    heat, fake, arrows, corners = buffers
    assert content["kind"] == "frame"
    assert content["moves"] == {"discriminator": 2, "generator": 2}
    heat = np.frombuffer(heat, np.uint8).reshape(48, 48)
    exact = surface(lab.game, lab.half, 48).sigmoid().numpy()
    np.testing.assert_allclose(heat / 255, exact, atol=0.5001 / 255)  # rounded to bytes
    fake = np.frombuffer(fake, np.float32).reshape(-1, 2)
    with lab.game.evaluating():
        np.testing.assert_array_equal(fake, lab.game.generator(lab.latents[: len(fake)]))
    np.testing.assert_array_equal(np.frombuffer(arrows, np.float32).reshape(-1, 4)[:, :2], fake[:80])
    assert len(corners) == 21 * 21 * 2 * 4
    # A frame is small: at 15 a second, about a quarter of a megabyte.
    assert sum(map(len, buffers)) < 20_000


def test_a_browser_that_lags_gets_fewer_frames_and_every_round(sent):
    lab = GANLab()
    lab.speed = 1
    before = len(sent)
    for _ in range(10):
        lab._next_frame()
    assert lab.moves["generator"] == 10
    assert len(sent) - before < 5
    ask(lab, do="drawn", frame=lab._sent)
    before = len(sent)
    lab._next_frame()
    assert len(sent) == before + 1


def test_a_critic_is_shaded_between_its_extremes():
    lab = GANLab(example="clipping is crude")
    heat = module._heat(surface(lab.game, lab.half), lab.game)
    assert (heat.min(), heat.max()) == (0, 255)


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_set_the_menus_and_train(name):
    lab = GANLab()
    lab.lr_generator = 2e-3
    lab.advance(1)
    assert lab.example == "(changed)"
    lab.example = name
    assert lab.example == name
    assert lab.moved == 0  # afresh
    for key, value in EXAMPLES[name].items():
        assert getattr(lab, key) == value
    assert lab.game.turns["discriminator"] == lab.n_critic
    assert isinstance(lab.game.adversarial, type(module.LOSSES[lab.loss]))
    before = weights(lab.game)
    lab.advance(1)
    assert not torch.equal(weights(lab.game), before)


def test_menus_build_the_game_they_name():
    lab = GANLab()
    lab.regularizer = "weight clipping"
    assert isinstance(lab.game, ClippedGAN)
    lab.regularizer = "unrolled, 5 steps"
    assert isinstance(lab.game, UnrolledGAN)
    assert lab.game.steps == 5
    lab.loss = "Wasserstein"
    assert isinstance(lab.game.adversarial, Wasserstein)
    lab.target = "two lines"
    assert lab.target_now is module.TARGETS["two lines"]


def test_rates_and_n_critic_act_without_a_new_start():
    lab = GANLab()
    lab.advance(2)
    before, trainer = weights(lab.game), lab.trainer
    lab.lr_generator, lab.n_critic = 1e-4, 3
    assert lab.trainer is trainer
    assert torch.equal(weights(lab.game), before)
    assert [group["lr"] for group in trainer.optimizers["generator"].param_groups] == [1e-4]
    assert [group["lr"] for group in trainer.optimizers["discriminator"].param_groups] == [1e-3]
    lab.advance(1)
    assert lab.moves == {"discriminator": 5, "generator": 3}


def test_strokes_become_the_target():
    lab = GANLab()
    lab.target = "drawn by hand"
    lab.strokes = [[[-2.0, 1.0], [2.0, 1.0]]]
    assert isinstance(lab.target_now, toy.Mixture)
    # Points along a line at height 1, blurred by 0.12.
    assert lab.real[:, 1].mean() == pytest.approx(1, abs=0.02)
    assert lab.real[:, 0].std() == pytest.approx(4 / 12**0.5, abs=0.1)


def test_own_target_and_own_game():
    target = toy.Mixture(torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), 0.2)
    game = GAN(
        nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2)),
        PlaneDiscriminator(16),
        NonSaturating(),
        n_critic=2,
    )
    game.generator.latent_dim = 5
    before = weights(game)
    lab = GANLab(target, game)
    assert lab.game is game
    assert lab.menus["own"]
    lab.advance(2)
    assert lab.moves == {"discriminator": 4, "generator": 2}
    assert len(lab.frame()[1]) == 3  # no manifold to draw
    assert lab.floor.modes == 2
    lab.figure()
    lab.reset()
    assert torch.equal(weights(game), before)


def test_divergence_stops_with_a_message():
    lab = GANLab()
    lab.loss = "Wasserstein"
    with torch.no_grad():
        next(lab.game.discriminator.parameters()).fill_(float("nan"))
    ask(lab, do="round")
    assert not lab.playing
    assert "Diverged" in lab.status
    lab.reset()
    assert lab.status == ""


def test_where_no_widget_can_be_shown_there_is_a_picture():
    lab = GANLab()
    lab.advance(2)
    bundle = lab._repr_mimebundle_()
    data = bundle[0] if isinstance(bundle, tuple) else bundle
    assert data["image/png"].startswith("iVBORw0KGgo")  # PNG's signature
    figure = lab.figure()
    assert [axes.get_title() for axes in figure.axes][1:] == ["losses", "distance to the target"]
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)


def test_threads_are_put_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        GANLab().advance(1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="example"):
        GANLab(example="none such")
    with pytest.raises(ValueError, match="game"):
        images = GAN(MLPGenerator(4, 8, (1, 4, 4)), MLPDiscriminator(8, (1, 4, 4)), NonSaturating())
        GANLab(game=images)
    lab = GANLab()
    with pytest.raises(ValueError, match="loss"):
        lab.loss = "none such"
