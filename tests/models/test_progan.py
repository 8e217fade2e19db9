"""Progressive GAN: fade-ins, what is trained when, checkpoints within a fade-in, the paper's networks."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from ganlib import systems
from ganlib.data import Images
from ganlib.layers import EqualizedConv2d, EqualizedLinear, MinibatchStd, PixelNorm, upsample
from ganlib.losses import GradientPenalty, NonSaturating, Wasserstein
from ganlib.losses.penalties import gradient_norms
from ganlib.models.progan import (
    Critic,
    Generator,
    GrowingGAN,
    batch_sizes,
    channels_per_level,
    experiment,
    fade,
    networks,
    shrink,
)
from ganlib.training import Budget, Growth, LinearDecay, Settings, Stage, Trainer

# Rounds 0-2: 4 x 4. 3-5: 8 x 8 fades in. 6-8: 8 x 8. 9-14: 16 x 16 fades in. 15-20: 16 x 16.
GROWTH = Growth((4, 8, 16), (8, 8, 4), images=24)
ALPHAS = [1, 1, 1, 0, 1 / 3, 2 / 3, 1, 1, 1, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1, 1]


def seeded(make, seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def generator(widths=(6, 5, 4), channels: int = 2) -> Generator:
    return seeded(lambda: Generator(3, widths, channels))


def critic(widths=(6, 5, 4), channels: int = 2, group: int = 4) -> Critic:
    return seeded(lambda: Critic(widths, channels, group))


def game(growth: Growth = GROWTH, seed: int = 0) -> GrowingGAN:
    return seeded(
        lambda: GrowingGAN(
            Generator(3, (6, 5, 4), 1),
            Critic((6, 5, 4), 1),
            Wasserstein(drift=1e-3),
            growth,
            [GradientPenalty()],
        ),
        seed,
    )


def pictures(n: int = 48, size: int = 16, channels: int = 1) -> torch.Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(n, channels, size, size, generator=rng) * 2 - 1


def settings(**changes) -> Settings:
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.99))
    basic = {
        "optimizers": {"discriminator": adam, "generator": adam},
        "batch_size": GROWTH.batches,
        "restarts": GROWTH.starts,
        "ema": {"generator": 0.9},
        "precision": "32-true",
        "log_every": 1,
    }
    return Settings(**basic | changes)


def trainer(seed: int = 0, **arguments) -> Trainer:
    chosen = arguments.pop("settings", settings())
    return Trainer(game(seed=seed), pictures(), chosen, progress=False, **arguments)


def blocks(x: torch.Tensor) -> np.ndarray:
    """The means of 2 x 2 pixels, by numpy."""
    n, c, h, w = x.shape
    return x.double().numpy().reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


# Fading in


@pytest.mark.parametrize(("size", "below"), [(8, 4), (16, 8)])
def test_at_alpha_0_the_generator_shows_the_size_below_upsampled(size, below):
    """To the bit: what is learned is not disturbed when layers come in."""
    network, z = generator(), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    network.grow(below, 1.0)
    small = network(z)
    network.grow(size, 0.0)
    faded = network(z)
    assert small.shape == (5, 2, below, below) and faded.shape == (5, 2, size, size)
    assert np.array_equal(faded.detach().numpy(), small.detach().numpy().repeat(2, 2).repeat(2, 3))


def test_fading_in_half_precision():
    """Exact at alpha = 0 there too, and in one dtype where the two sides have one each, as on a GPU."""
    network, z = generator(), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    shown = []
    with torch.autocast("cpu", torch.bfloat16):
        for stage in ((8, 1.0), (16, 0.0)):
            network.grow(*stage)
            shown.append(network(z).float())
    assert torch.equal(shown[1], upsample(shown[0]))
    mixed = fade(torch.zeros(2), torch.ones(2, dtype=torch.bfloat16), 0.25)
    assert mixed.dtype == torch.bfloat16 and mixed.tolist() == [0.25, 0.25]


def test_alpha_moves_the_generator_on_a_line():
    network, z = generator(), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    shown = {}
    for alpha in (0.0, 0.25, 0.8, 1.0):
        network.grow(16, alpha)
        shown[alpha] = network(z).detach().double()
    assert (shown[1.0] - shown[0.0]).abs().max() > 0.1
    for alpha in (0.25, 0.8):
        expected = (1 - alpha) * shown[0.0] + alpha * shown[1.0]
        # 1e-6: roundings of numbers of about 1 in float32
        torch.testing.assert_close(shown[alpha], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("size", "below"), [(8, 4), (16, 8)])
def test_at_alpha_0_the_critic_sees_the_size_below(size, below):
    network, x = critic(), pictures(8, size, channels=2)
    network.grow(size, 0.0)
    faded = network(x)
    network.grow(below, 1.0)
    small = network(torch.from_numpy(blocks(x)).float())
    # Not to the bit, since numpy sums the four pixels in another order.
    torch.testing.assert_close(faded, small, rtol=0, atol=1e-5)


def test_alpha_moves_what_the_critic_hands_down_on_a_line():
    network, x = critic(), pictures(8, 16, channels=2)
    handed = {}
    for alpha in (0.0, 0.25, 0.8, 1.0):
        network.grow(16, alpha)
        with network.stages[1].register_forward_pre_hook(
            lambda _, inputs, alpha=alpha: handed.update({alpha: inputs[0].detach().double()})
        ):
            network(x)
    assert (handed[1.0] - handed[0.0]).abs().max() > 0.1
    for alpha in (0.25, 0.8):
        expected = (1 - alpha) * handed[0.0] + alpha * handed[1.0]
        torch.testing.assert_close(handed[alpha], expected, rtol=0, atol=1e-6)  # as above


def test_real_images_fade_as_fakes_do():
    x = pictures(3, 16)
    once, twice = blocks(x), blocks(torch.from_numpy(blocks(x)))
    near = partial(np.testing.assert_allclose, rtol=0, atol=1e-6)  # float32 means of numbers below 1
    near(shrink(x, Stage(8, 1.0)), once)
    near(shrink(x, Stage(4, 1.0)), twice)
    near(shrink(x, Stage(8, 0.25)), 0.25 * once + 0.75 * twice.repeat(2, 2).repeat(2, 3))
    assert shrink(x, Stage(16, 1.0)) is x, "full size costs nothing"


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 48, 48), (2, 1, 32, 16)])
def test_images_must_be_as_large_as_the_stage_or_a_doubling(shape):
    with pytest.raises(ValueError, match=rf"images must have 16 pixels.*{shape[3]}"):
        shrink(torch.zeros(shape), Stage(16, 1.0))


@pytest.mark.parametrize(
    ("size", "alpha", "message"),
    [
        (32, 1.0, r"size must be one of \[4, 8, 16\], got 32"),
        (8, 1.5, r"alpha must lie in \[0.0, 1\] at 8 pixels, got 1.5"),
        (8, float("nan"), "alpha.*nan"),
        (4, 0.5, r"alpha must lie in \[1.0, 1\] at 4 pixels, got 0.5"),
    ],
)
def test_networks_refuse_stages_that_they_do_not_have(size, alpha, message):
    for network in (generator(), critic()):
        with pytest.raises(ValueError, match=message):
            network.grow(size, alpha)


def test_a_game_refuses_sizes_that_its_networks_do_not_have():
    with pytest.raises(ValueError, match=r"one of \[4, 8, 16\], got 32"):
        game(Growth((4, 8, 16, 32), (8,) * 4, 24))


# Growing with the rounds


def test_the_rounds_sizes_alphas_and_batches():
    """Against the table at the top, which is the schedule by hand: 24 images are 3 rounds of 8 or 6 of 4."""
    playing, seen = trainer(), []
    with playing.game.discriminator.register_forward_pre_hook(
        lambda network, inputs: seen.append((playing.step, *inputs[0].shape, network.alpha))
    ):
        playing.fit(22)
    for step in range(22):
        size, batch = (4, 8) if step < 3 else (8, 8) if step < 9 else (16, 4)
        alpha = pytest.approx(ALPHAS[min(step, 20)])
        own = [call for call in seen if call[0] == step]
        # Real and fake apart, lest the batch's deviation mix them; the penalty; the generator's turn.
        assert own == [(step, batch, 1, size, size, alpha)] * 4


def test_what_has_not_grown_is_not_touched():
    playing = trainer()
    networks = (playing.game.generator, playing.game.discriminator)
    before = [{n: p.detach().clone() for n, p in m.named_parameters()} for m in networks]

    def moved(module: nn.Module, start: dict[str, torch.Tensor]) -> set[str]:
        changed = {name for name, p in module.named_parameters() if not torch.equal(p, start[name])}
        return {".".join(name.split(".")[:2]) for name in changed}

    for step, levels, rgb in ((3, {0}, {0}), (6, {0, 1}, {0, 1}), (9, {0, 1}, {0, 1})):
        playing.fit(step)
        for module, start, colour in zip(networks, before, ("to_rgb", "from_rgb"), strict=True):
            expected = {f"stages.{level}" for level in levels} | {f"{colour}.{level}" for level in rgb}
            assert moved(module, start) == expected, step
            own = playing.optimizers["generator" if colour == "to_rgb" else "discriminator"].state
            asleep = {
                id(p) for n, p in module.named_parameters() if ".".join(n.split(".")[:2]) not in expected
            }
            assert asleep and not any(id(p) in asleep for p in own), "no moments either"
    # A size whose own pixels are not shown any more learns nothing further.
    kept = playing.game.generator.to_rgb[0].weight.detach().clone()
    playing.fit(12)
    assert torch.equal(kept, playing.game.generator.to_rgb[0].weight)


def test_optimizers_forget_their_moments_at_growth():
    """Adam counts its steps: at each growth every count starts again."""
    playing, counts = trainer(), []
    weight = playing.game.generator.stages[0][2].weight
    for step in range(1, 13):
        playing.fit(step)
        counts.append(int(playing.optimizers["generator"].state[weight]["step"]))
    assert counts == [1, 2, 3, 1, 2, 3, 4, 5, 6, 1, 2, 3]


class Killed(Exception):
    pass


@pytest.mark.parametrize("kill_at", [5, 11])
def test_a_run_killed_while_a_size_fades_in_resumes_exactly(tmp_path, kill_at):
    """Checkpoints are written every second round, of which 4 and 10 lie within fade-ins."""

    def kill(playing: Trainer) -> None:
        if playing.step == kill_at:
            raise Killed

    unbroken = trainer()
    unbroken.fit(13)
    often = settings(checkpoint_every=2)
    with pytest.raises(Killed):
        trainer(settings=often, out=tmp_path, callbacks=[kill]).fit(13)
    again = trainer(seed=7, settings=often, out=tmp_path)
    assert again.game.stage == (4, 1.0) and again.resume() and again.step == kill_at - 1
    assert again.game.stage == GROWTH.at(kill_at - 1)
    for network in (again.game.generator, again.game.discriminator):
        assert (network.size, network.alpha) == again.game.stage and network.alpha < 1
    again.fit(13)
    assert again.game.stage == unbroken.game.stage
    for name, value in unbroken.game.state_dict().items():
        assert torch.equal(value, again.game.state_dict()[name]), name
    assert torch.equal(unbroken.sample(4), again.sample(4))


def test_samples_have_the_full_size_and_colours_that_exist():
    playing = game()
    playing.generator.to_rgb[0].weight.data *= 10
    playing.generator.to_rgb[0].bias.data += 0.5
    images = playing.sample(6, torch.Generator().manual_seed(0))
    raw = playing.generator(playing.latent(6, torch.Generator().manual_seed(0))).detach()
    assert raw.shape[-1] == 4 and raw.abs().max() > 1, "the output has no bound of its own"
    assert np.array_equal(images.numpy(), raw.numpy().clip(-1, 1).repeat(4, 2).repeat(4, 3))


def test_a_single_size_does_not_grow():
    at_once = game(Growth((16,), (8,), 24))
    for _ in range(30):
        at_once.after_step("generator")
    assert at_once.stage == (16, 1.0)


def test_the_host_never_waits():
    """On torch's meta device tensors have no values: whoever asks for one raises."""
    with torch.device("meta"):
        playing = game()
    playing.rounds = playing.rounds.to("meta")
    playing.seek(4)
    batch = (torch.empty(8, 1, 16, 16, device="meta"),)
    for player in ("discriminator", "generator"):
        sum(playing.loss(player, batch).values()).backward()
        playing.after_step(player)
    assert playing.stage == (8, pytest.approx(2 / 3))


# Networks


def test_the_papers_networks():
    """Table 2 says 23.1M each; to the unit as the authors' code prints them, with every size's RGB layers."""
    with torch.device("meta"):
        players = networks(1024, 3)
        image = players[0](torch.empty(2, 512))
        assert image.shape == (2, 3, 1024, 1024) and players[1](image).shape == (2,)
    assert [sum(p.numel() for p in player.parameters()) for player in players] == [23_079_115, 23_087_249]
    assert channels_per_level(1024) == (512, 512, 512, 512, 256, 128, 64, 32, 16)
    # The CIFAR-10 networks of the authors' code.
    assert channels_per_level(32, 4096, 128) == (128, 128, 128, 128)
    with pytest.raises(ValueError, match="power of two of at least 4, got 48"):
        channels_per_level(48)


def test_every_layer_learns_at_one_rate():
    """Weights are drawn from N(0, 1) in every layer, and Adam's first step moves each by just its rate:
    g / sqrt(g^2). Relative to the layer's scale all layers change alike, as 3 x 3 x 4 inputs or 1 x 1 x 2 do
    not with He's initialization."""
    layers = (EqualizedConv2d, EqualizedLinear)
    playing = seeded(lambda: GrowingGAN(*networks(16, 1, 512, 64), NonSaturating(), Growth((16,), (8,), 8)))
    for player, module in playing.players.items():
        optimizer = torch.optim.Adam(module.parameters(), lr=1e-3, betas=(0.0, 0.99), eps=1e-30)
        seeded(lambda p=player: sum(playing.loss(p, (pictures(8),)).values()).backward())
        found = [layer for layer in module.modules() if isinstance(layer, layers)]
        weights = {id(layer.weight) for layer in found}
        assert all(p.ndim == 1 for p in module.parameters() if id(p) not in weights), "all others are biases"
        before = [layer.weight.detach().clone() for layer in found]
        optimizer.step()
        used = 0
        for layer, old in zip(found, before, strict=True):
            # Five standard errors of a deviation from n draws.
            assert old.std().item() == pytest.approx(1, abs=5 / (2 * old.numel()) ** 0.5)
            if layer.weight.grad is None:
                continue
            used += 1
            moved = (layer.weight.detach() - old)[layer.weight.grad != 0].abs()
            # 1e-6: weights of up to 4 are stored to 2.4e-7
            torch.testing.assert_close(moved, torch.full_like(moved, 1e-3), rtol=0, atol=1e-6)
        assert used == {"generator": 2 * 3 + 1, "discriminator": 2 * 2 + 1 + 3}[player]


def test_the_generator_is_normalized_pixel_by_pixel():
    network, z = generator(), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    outputs = []
    for module in network.modules():
        if isinstance(module, PixelNorm):
            module.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
    images = network(z)
    assert len(outputs) == 1 + 2 * 3, "the latent and every convolution"
    for output in outputs:
        # 1e-3: leaky ReLU of few channels can be small, where the 1e-8 of the denominator shows
        torch.testing.assert_close(output.square().mean(1), torch.ones(output[:, 0].shape), rtol=0, atol=1e-3)
    # The latent's length does not matter, only its direction.
    torch.testing.assert_close(network(3 * z), images, rtol=0, atol=1e-5)


def test_the_critic_sees_how_alike_its_batch_is():
    network = critic()
    x = pictures(4, channels=2)
    alike = x[:1].expand(4, -1, -1, -1)
    assert not torch.allclose(network(x)[0], network(alike)[0])
    kinds = [type(module) for module in network.stages[0]]
    assert kinds[0] is MinibatchStd and not any(
        isinstance(m, MinibatchStd) for stage in network.stages[1:] for m in stage
    )


def test_the_penalty_takes_the_slope_of_the_sum_of_scores():
    """As the authors' code; the deviation makes others' scores part of it. Jacobian by finite differences."""
    network, x = critic(widths=(4,), channels=1).double(), pictures(4, 4).double()
    step = 1e-5
    moved = torch.stack([(network(x + d) - network(x - d)) / (2 * step) for d in _nudges(x, step)])
    jacobian = moved.T.unflatten(1, (4, 16))  # score j, sample i, pixel
    together = jacobian.sum(0).norm(dim=1)
    alone = torch.stack([jacobian[i, i] for i in range(4)]).norm(dim=1)
    # 1e-6: central differences of a piecewise smooth function in float64
    torch.testing.assert_close(gradient_norms(network, x), together, rtol=0, atol=1e-6)
    assert (together - alone).abs().max() > 1e-3


def _nudges(x: torch.Tensor, step: float):
    for i in range(x.numel()):
        nudge = torch.zeros_like(x).flatten()
        nudge[i] = step
        yield nudge.view_as(x)


def test_loss_by_hand():
    """E f(G) - E f(x) + 0.001 E f(x)^2 and the penalty, at the present stage; each player's own gradients."""
    playing = game()
    playing.seek(4)
    x = pictures(8)
    terms = seeded(lambda: playing.loss("discriminator", (x,)))
    with torch.no_grad():
        fake = seeded(lambda: playing.generator(playing.latent(8)))
        f, g = playing.discriminator(shrink(x, Stage(8, 1 / 3))), playing.discriminator(fake)
    expected = (g.mean() - f.mean() + 1e-3 * f.square().mean()).item()
    assert terms["adversarial"].item() == pytest.approx(expected, abs=1e-6)
    assert set(terms) == {"adversarial", "gradient penalty"} and terms["gradient penalty"] > 0
    sum(terms.values()).backward()
    assert all(p.grad is None for p in playing.generator.parameters())
    assert playing.discriminator.stages[0][1].weight.grad.abs().sum() > 0
    playing.zero_grad()
    (terms,) = seeded(lambda: playing.loss("generator", (x,))).values()
    assert terms.item() == pytest.approx(-g.mean().item(), abs=1e-6)
    terms.backward()
    assert all(p.grad is None for p in playing.discriminator.parameters())
    assert playing.generator.stages[1][0].weight.grad.abs().sum() > 0


# System


def test_constants():
    """Karras et al. 2018, appendix A.1, and the authors' settings for one GPU."""
    images = Images(torch.zeros(32, 1, 8, 8), torch.zeros(32, dtype=torch.int64))
    made = systems.get("progan").experiment(Budget.GPU, data=images)
    playing = made.game
    assert playing.growth == Growth([4, 8], (16, 16), 800_000)
    assert made.steps == 3 * 50_000 and made.settings.schedule is None
    assert dict(playing.turns) == {"discriminator": 1, "generator": 1}
    assert playing.generator.latent_dim == 512 and playing.adversarial.drift == 1e-3
    (penalty,) = playing.regularizers
    assert isinstance(penalty, GradientPenalty) and (penalty.weight, penalty.target) == (10.0, 1.0)
    assert made.settings.ema == {"generator": 0.999}
    assert made.settings.batch_size == {0: 16, 50_000: 16} and tuple(made.settings.restarts) == (50_000,)
    for player, make in made.settings.optimizers.items():
        defaults = make(playing.players[player].parameters()).defaults
        assert [defaults[k] for k in ("lr", "betas", "eps")] == [1e-3, (0.0, 0.99), 1e-8]
    assert batch_sizes([4, 64, 128, 256, 512, 1024]) == (16, 16, 16, 14, 6, 3)
    # All of a batch is one group, whatever the size: no batch of the paper has to be cut.
    deviation = playing.discriminator.stages[0][0]
    assert all(deviation(torch.zeros(n, 1)).shape == (n, 2) for n in (16, 14, 6, 3))


def test_images_per_phase_are_an_option():
    images = Images(pictures(32, 8), torch.zeros(32, dtype=torch.int64))
    long, short = experiment(Budget.CPU, images), experiment(Budget.CPU, images, images=64)
    assert short.game.growth.images == 64 < long.game.growth.images
    assert long.steps - long.game.growth.rounds == short.steps - short.game.growth.rounds > 0
    for made in (long, short):
        # Rates fall from where the growth ends to the last round; batches and restarts follow the growth.
        assert made.settings.schedule == LinearDecay(made.game.growth.rounds, made.steps)
        assert made.settings.batch_size == made.game.growth.batches
        assert made.settings.restarts == made.game.growth.starts
    shapes = [[p.shape for p in e.game.parameters()] for e in (short, long)]
    assert shapes[0] == shapes[1]
