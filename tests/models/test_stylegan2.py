"""StyleGAN2: published weight counts, the skip sum, residual gains, when penalties come, gradients."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ganlib import systems
from ganlib.data import Images
from ganlib.layers import MinibatchStd, blur, downsample, upsample
from ganlib.losses import R1, Lazy, NonSaturating, PathLength, jacobian_lengths
from ganlib.models import stylegan
from ganlib.models.progan import GrowingGAN
from ganlib.models.stylegan import AdaIN, Generator, MappingNetwork
from ganlib.models.stylegan2 import (
    CONFIGS,
    Config,
    DemodulatedConv2d,
    Discriminator,
    ModulatedToImage,
    PlainConstant,
    ResidualHalving,
    SkipSynthesis,
    StyleGAN2,
    experiment,
    networks,
    styled,
)
from ganlib.training import Budget, Trainer

WIDTHS = (8, 8, 4)  # 4, 8 and 16 pixels


def pictures(n: int = 32, size: int = 16) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, size, size, generator=rng) * 2 - 1, torch.zeros(n, dtype=torch.int64))


def generator(mixing: float = 0.9) -> Generator:
    return Generator(MappingNetwork(6, 6, 2), SkipSynthesis(WIDTHS, 6, 1), mixing=mixing)


def game(**options) -> StyleGAN2:
    return StyleGAN2(generator(), Discriminator(WIDTHS, 1), **options)


def weights(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# Published sizes


def test_weights_at_1024_are_the_published_ones():
    """Layer listings printed by the authors' code for F at 1024 x 1024 with eight mapping layers: generator
    30,370,060, discriminator 29,012,513 (the paper: 30 million)."""
    with torch.device("meta"):
        g, d = networks(1024, 3)
    assert (weights(g), weights(d)) == (30_370_060, 29_012_513)
    assert weights(g.mapping) == 8 * 262_656 and g.synthesis.styles == 18
    convolutions, images = g.synthesis.convolutions, g.synthesis.to_image
    assert [weights(c) for c in convolutions] == (
        [2_622_465] * 9 + [1_442_561, 721_409, 426_369, 213_249, 139_457, 69_761, 51_297, 25_665]
    )
    assert [weights(i) for i in images] == [264_195] * 5 + [132_099, 66_051, 33_027, 16_515]
    blocks = [m for m in d.modules() if isinstance(m, ResidualHalving)]
    assert [weights(b.past) for b in blocks[:4]] == [2_048, 8_192, 32_768, 131_072]
    assert [weights(b.first) for b in blocks[:4]] == [9_248, 36_928, 147_584, 590_080]
    assert [weights(b.second) for b in blocks[:4]] == [18_496, 73_856, 295_168, 1_180_160]


def test_paper_size_runs_on_meta():
    """Shapes through both networks, second derivatives and all, without a number computed."""
    with torch.device("meta"):
        g, d = networks(1024, 3)
        images = g(torch.empty(4, 512))
        assert images.shape == (4, 3, 1024, 1024) and d(images).shape == (4,)


def test_configurations_are_table_1():
    """Each row has one change more; A is StyleGAN itself, E has F's layers with half the channels at 1024."""
    rows = [tuple(vars(config).values()) for config in CONFIGS.values()]
    assert [sum(row) for row in rows] == [0, 1, 2, 3, 4, 5]
    assert all(row == tuple(sorted(row, reverse=True)) for row in rows)
    with torch.device("meta"):
        sizes = {name: [weights(n) for n in networks(1024, 3, c)] for name, c in CONFIGS.items()}
        baseline = [weights(n) for n in stylegan.networks(1024, 3)]
        adain = networks(64, 3, CONFIGS["a"])[0]
        demodulated = networks(64, 3, CONFIGS["b"])[0]
    assert sizes["a"] == baseline
    assert sizes["b"] == sizes["c"] == sizes["d"]
    assert sizes["d"][0] == sizes["e"][0], "the skip generator has the same layers, used otherwise"
    assert sizes["e"][1] > sizes["d"][1] and sizes["f"][0] > sizes["e"][0]
    kinds = {type(m) for m in adain.modules()}
    assert AdaIN in kinds and DemodulatedConv2d not in kinds
    kinds = {type(m) for m in demodulated.modules()}
    assert AdaIN not in kinds and {DemodulatedConv2d, ModulatedToImage, PlainConstant} <= kinds
    with pytest.raises(ValueError, match="redesigned needs demodulation"):
        Config(demodulation=False)


# The generator's layers


@pytest.mark.parametrize("strength", [1.0, 30.0])
def test_a_styled_convolution_keeps_the_scale(strength):
    """Unit variance, then leaky ReLU times sqrt 2: a mean square of (1 + 0.2^2), for any style."""
    layer = DemodulatedConv2d(16, 64, 8)
    y = layer(torch.randn(8, 16, 34, 34), strength * torch.randn(8, 8))[..., 1:-1, 1:-1]
    # 64 x 8 maps of 1024 correlated pixels each; channels share inputs, hence a generous 3 %
    assert y.square().mean().item() == pytest.approx(1.04, rel=0.03)


def test_noise_and_bias_are_not_styled():
    """On maps of zeros only they remain: sqrt 2 times leaky ReLU of strength times noise plus bias."""
    layer = DemodulatedConv2d(4, 3, 6)
    with torch.no_grad():
        layer.noise.strength.fill_(0.5)
        layer.bias.copy_(torch.tensor([0.0, 1.0, -2.0]))
    noise, bias = torch.randn(2, 1, 5, 5), torch.tensor([0.0, 1.0, -2.0])[:, None, None]
    for strength in (1.0, 100.0):
        y = layer(torch.zeros(2, 4, 5, 5), strength * torch.randn(2, 6), noise)
        torch.testing.assert_close(y, math.sqrt(2) * F.leaky_relu(0.5 * noise + bias, 0.2))
    assert layer.noise.strength.numel() == 1


def test_the_constant_is_plain():
    constant = PlainConstant(5, 6)
    one = constant(torch.randn(3, 6), torch.randn(3, 1, 4, 4))
    assert torch.equal(one, constant.constant.expand(3, 5, 4, 4)) and weights(constant) == 5 * 16
    # 80 standard normal draws, five standard errors of their deviation
    assert constant.constant.std().item() == pytest.approx(1, abs=5 / math.sqrt(160))


def test_the_image_layer_is_not_demodulated():
    """Three times the style, three times the pixels less the bias."""
    layer = ModulatedToImage(4, 2, 6)
    with torch.no_grad():
        layer.convolution.style.weight.zero_()
        layer.bias.fill_(0.5)
    x, w = torch.randn(2, 4, 5, 5), torch.randn(2, 6)
    one = layer(x, w)
    with torch.no_grad():
        layer.convolution.style.bias.mul_(3)
    torch.testing.assert_close(layer(x, w) - 0.5, 3 * (one - 0.5))


def test_images_are_the_sum_over_sizes():
    """y_16 = up(up(rgb_4) + rgb_8) + rgb_16, each rgb from that size's last maps and the style after them."""
    synthesis = SkipSynthesis(WIDTHS, 6, 1).eval()
    w = torch.randn(3, 6, 6)  # 2 styles for each of 3 sizes
    x, seen = synthesis.constant.constant.expand(3, -1, -1, -1), []
    for index, layer in enumerate(synthesis.convolutions):
        x = layer(x, w[:, index], getattr(synthesis, f"noise{index}"))
        if index % 2 == 0:
            seen.append(synthesis.to_image[index // 2](x, w[:, index + 1]))
    assert [tuple(own.shape[1:]) for own in seen] == [(1, 4, 4), (1, 8, 8), (1, 16, 16)]
    wanted = seen[0]
    for own in seen[1:]:
        wanted = blur(upsample(wanted)) + own
    torch.testing.assert_close(synthesis(w), wanted)
    full = synthesis(w)
    synthesis.grow(8)
    torch.testing.assert_close(full, blur(upsample(synthesis(w))) + seen[2])


def test_the_sum_is_float32_under_autocast():
    synthesis = SkipSynthesis(WIDTHS, 6, 1).eval()
    w = torch.randn(3, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert synthesis.maps(w)[-1].dtype == torch.bfloat16
        images = synthesis(w)
    assert images.dtype == torch.float32
    assert not torch.equal(images, images.bfloat16().float())


def test_nothing_fades_in():
    with pytest.raises(ValueError, match=r"alpha must be 1, for nothing fades in here, got 0\.5"):
        SkipSynthesis(WIDTHS, 6).grow(16, 0.5)


def test_every_layer_has_a_style_of_its_own():
    """The image changes with each of the 2 L styles, and the layers below a changed one stay as they are."""
    synthesis = SkipSynthesis(WIDTHS, 6, 1).eval()
    w = torch.randn(2, 6, 6)
    before = synthesis.maps(w)
    for layer in range(6):
        changed = w.clone()
        changed[:, layer] += 1
        assert not torch.allclose(synthesis(changed), synthesis(w))
        untouched = [torch.equal(a, b) for a, b in zip(before, synthesis.maps(changed), strict=True)]
        # the maps of level l are made of styles 0 to 2 l
        assert untouched == [2 * level < layer for level in range(3)]


# The discriminator


def test_a_residual_block_by_hand():
    """Both ways at full size first, then every second pixel of what the filter leaves; their sum / sqrt 2."""
    block = ResidualHalving(4, 6)
    with torch.no_grad():
        block.first.bias.normal_()
        block.second.bias.normal_()
    x = torch.randn(2, 4, 12, 12)
    inner = F.leaky_relu(
        F.conv2d(x, block.first.weight * math.sqrt(2 / 36), block.first.bias, padding=1), 0.2
    )
    second = F.conv2d(inner, block.second.weight * math.sqrt(2 / 36), padding=1)
    halved = downsample(blur(second)) + block.second.bias[:, None, None]
    past = F.conv2d(downsample(blur(x)), block.past.weight / 2)
    wanted = (F.leaky_relu(halved, 0.2) + past) / math.sqrt(2)
    found = block(x)
    assert found.shape == (2, 6, 6, 6)
    # Off the border, where the two orders of filter and convolution differ.
    torch.testing.assert_close(found[..., 2:-2, 2:-2], wanted[..., 2:-2, 2:-2], rtol=1e-4, atol=1e-5)


def test_residual_blocks_keep_the_scale():
    """A smooth signal of mean square 1 through six blocks: of that order still, not 2^3 times as much."""
    x = torch.randn(64, 32, 1, 1).expand(-1, -1, 256, 256)[:4]
    with torch.no_grad():
        for _ in range(6):
            x = ResidualHalving(32, 32)(x)
    assert 0.4 < x[..., 1:-1, 1:-1].square().mean() < 2.5


def test_the_discriminator_ends_as_progressive_gans():
    d = Discriminator(WIDTHS, 1)
    deviation = [m for m in d.modules() if isinstance(m, MinibatchStd)]
    assert len(deviation) == 1 and deviation[0].group == 4
    images = pictures(8).images
    assert d(images).shape == (8,)
    alone = d(images[:4])
    # groups of 8 samples are i and i + 4 of every other: another batch, other logits
    assert not torch.allclose(d(images)[:4], alone)
    assert sum(isinstance(m, ResidualHalving) for m in d.modules()) == 2


# The game


def test_penalties_come_on_their_turns():
    """R1 on discriminator's turns 0 and 16, path lengths on generator's 0, 8, 16."""
    each, real = game(), pictures(4).images
    due = {"discriminator": [], "generator": []}
    for turn in range(17):
        for player, turns in due.items():
            terms = each.loss(player, (real,))
            turns += [turn] if len(terms) > 1 else []
            assert set(terms) <= {"adversarial", "R1", "path length"}
    assert due == {"discriminator": [0, 16], "generator": [0, 8, 16]}
    assert isinstance(each.adversarial, NonSaturating)


def test_the_penalties_strength_by_hand():
    """R1 once every 16 turns is 16 gamma / 2 times the mean squared slope at real images."""
    each, real = game(gamma=3.0), pictures(4).images
    terms = each.loss("discriminator", (real,))
    points = real.clone().requires_grad_()
    (slope,) = torch.autograd.grad(each.discriminator(points).sum(), points)
    wanted = 16 * 3.0 / 2 * slope.square().flatten(1).sum(1).mean().item()
    assert terms["R1"].item() == pytest.approx(wanted, rel=1e-4)  # float32
    lengths = []
    inner = each.generator_regularizers[0].regularizer
    inner.paths = lambda n, paths=inner.paths: lengths.append(n) or paths(n)
    assert each.loss("generator", (real,))["path length"].item() >= 0
    assert lengths == [2], "half of the batch"
    assert (inner.weight, inner.decay) == (2.0, 0.99)


def test_no_penalty_for_a_weight_of_zero():
    each = game(path_weight=0.0, r1_every=1)
    assert each.generator_regularizers == ()
    assert all("R1" in each.loss("discriminator", (pictures(4).images,)) for _ in range(3))


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_reach_the_player_alone(player):
    each = game()
    sum(each.loss(player, (pictures(4).images,)).values()).backward()
    moved = {n.split(".")[0] for n, p in each.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {player}


def test_path_lengths_train_the_synthesis_and_the_mapping():
    """Of that term alone: every weight of the generator has a part in it but the images' biases, which do not
    change with w, and the strengths of noise and the biases before the last rectifier, where they cancel."""
    each = game()
    each.loss("generator", (pictures(4).images,))["path length"].backward()
    silent = {n for n, p in each.generator.named_parameters() if p.grad is None or not p.grad.any()}
    assert {n for n in silent if "to_image" not in n} == set()
    assert {n for n in silent if not n.endswith("bias")} == set()
    assert not any(p.grad is not None and p.grad.any() for p in each.discriminator.parameters())


def test_path_lengths_of_the_generator_against_its_jacobian():
    """Exact Jacobians with respect to every layer's w, in float64 and with fixed noise."""
    g = generator().double().eval()
    z = torch.randn(3, 6, dtype=torch.float64)
    w = g.styles(z).detach().clone().requires_grad_()
    images = g.synthesis(w)
    y = torch.randn_like(images)
    found = jacobian_lengths(images, w, y)
    for n in range(3):
        jacobian = torch.func.jacrev(lambda v: g.synthesis(v[None])[0].flatten())(w[n].detach())
        slope = torch.einsum("pld,p->ld", jacobian, y[n].flatten())
        assert found[n].item() == pytest.approx(slope.square().sum(1).mean().sqrt().item(), rel=1e-10)


def test_styled_samples_share_a_graph_with_w():
    g = generator()
    w, images = styled(g, 5)
    assert w.shape == (5, 6, 6) and images.shape == (5, 1, 16, 16)
    (slope,) = torch.autograd.grad(images.sum(), w)
    assert slope.any(dim=2).all(), "every sample's every layer"


def test_samples_are_cut_off():
    each = game()
    with torch.no_grad():
        for layer in each.generator.synthesis.to_image:
            layer.convolution.weight.mul_(100)
    samples = each.sample(20, torch.Generator().manual_seed(0))
    assert samples.abs().max() == 1.0


# Runs


@pytest.mark.parametrize("name", ["d", "f"])
def test_a_run_resumed_ends_as_one_left_alone(name, tmp_path):
    """Stopped between two path penalties, same weights, same running means, same turns."""

    def trainer(out=None) -> Trainer:
        torch.manual_seed(3)
        made = experiment(Budget.SMOKE, pictures(), CONFIGS[name])
        settings = replace(made.settings, precision="32-true", log_every=5, checkpoint_every=None)
        return Trainer(made.game, made.data, settings, out=out, progress=False)

    whole = trainer()
    whole.fit(10)
    trainer(tmp_path).fit(5)
    resumed = trainer(tmp_path)
    assert resumed.resume()
    resumed.fit(10)
    wanted, found = whole.game.state_dict(), resumed.game.state_dict()
    assert any(key.endswith("regularizer.mean") for key in wanted)
    assert all(torch.equal(value, found[key]) for key, value in wanted.items())
    averages = zip(*(t.averages["generator"].parameters() for t in (whole, resumed)), strict=True)
    assert all(torch.equal(a, b) for a, b in averages)


def test_every_configuration_trains():
    for name, config in CONFIGS.items():
        made = experiment(Budget.SMOKE, pictures(), config)
        assert isinstance(made.game, StyleGAN2 if config.redesigned else GrowingGAN), name
        (penalty,) = made.game.regularizers
        assert isinstance(penalty, Lazy) and isinstance(penalty.regularizer, R1)
        assert penalty.every == (4 if config.lazy else 1), "every 16th on the gpu budget, below"
        paths = made.game.generator_regularizers
        assert len(paths) == config.path_length
        assert all(p.every == 8 and isinstance(p.regularizer, PathLength) for p in paths)
        trainer = Trainer(made.game, made.data, replace(made.settings, log_every=1), progress=False)
        assert all(math.isfinite(v) for v in trainer.fit(2)[-1].values()), name
        assert trainer.sample(2).shape == (2, 1, 16, 16)


def test_constants():
    """Karras et al. 2020 and the authors' code for F on FFHQ: gamma 10, Adam 2e-3 with (0, 0.99), batches of
    32, 25 million images, an average with a half-life of 10,000; and 100 for gamma in E."""
    with torch.device("meta"):
        made = systems.get("stylegan2").recipe(Budget.GPU, pictures())
        e = experiment(Budget.GPU, pictures(), CONFIGS["e"])
    assert made.game.regularizers[0].regularizer.weight == 10.0
    assert made.game.regularizers[0].every == 16 and made.game.generator_regularizers[0].every == 8
    assert made.game.generator_regularizers[0].regularizer.weight == 2.0
    assert e.game.regularizers[0].regularizer.weight == 100.0
    assert made.settings.batch_size == 32 and made.steps * 32 == 25_000_000
    assert made.settings.schedule is None
    assert made.settings.ema["generator"] == pytest.approx(0.5 ** (32 / 10_000), abs=5e-4)
    for make in made.settings.optimizers.values():
        defaults = make([nn.Parameter(torch.zeros(1))]).defaults
        assert defaults["lr"] == 2e-3 and defaults["betas"] == (0.0, 0.99)
