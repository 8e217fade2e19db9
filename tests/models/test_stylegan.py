"""StyleGAN: which style goes where, mixing, truncation, noise, growth, and the paper's network."""

from __future__ import annotations

import copy
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from ganlib import systems
from ganlib.data import Images, mnist
from ganlib.layers import AdaIN, EqualizedLinear, MinibatchStd, NoiseInjection
from ganlib.losses import R1, Lazy, NonSaturating
from ganlib.models.progan import GrowingGAN, channels_per_level
from ganlib.models.stylegan import (
    Blur,
    Generator,
    MappingNetwork,
    RatePerSize,
    StyledConstant,
    StyledConv2d,
    SynthesisNetwork,
    discriminator,
    mix_styles,
    networks,
    path_lengths,
    steps_for,
    style_figures,
)
from ganlib.training import Budget, Growth, Settings, Trainer


@pytest.fixture(autouse=True)
def fixed_seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=rng(seed))


def small(size: int = 16, noisy: bool = True, **options) -> Generator:
    """A generator of a few thousand weights, its noise at work."""
    widths = channels_per_level(size, 32, 6)
    generator = Generator(MappingNetwork(5, 5, 2), SynthesisNetwork(widths, 5, 2), **options)
    for module in generator.modules():
        if noisy and isinstance(module, NoiseInjection):
            nn.init.normal_(module.strength)
    return generator


# Mapping


def test_mapping_by_hand():
    """z on the sphere of radius sqrt(d), then layers of leaky ReLU with gain sqrt(2)."""
    mapping, z = MappingNetwork(5, 7, 3).double(), seeded(4, 5).double()
    x = z / z.square().mean(1, keepdim=True).sqrt()
    layers = [m for m in mapping.modules() if isinstance(m, EqualizedLinear)]
    for layer in layers:
        nn.init.normal_(layer.bias)
        y = x @ (layer.weight * 0.01).T * (2 / x.shape[1]) ** 0.5 + 0.01 * layer.bias
        x = torch.where(y > 0, y, 0.2 * y)
    # PixelNorm's 1e-8 against a mean square of about 1
    torch.testing.assert_close(mapping(z), x, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(mapping(3 * z), mapping(z), rtol=1e-6, atol=1e-8)


def test_the_mapping_learns_at_a_hundredth_of_the_rate():
    """Adam's first step moves a parameter by lr; what it moves in use is that times 0.01 sqrt(2 / inputs)."""
    mapping = MappingNetwork(16, 16)
    layers = [m for m in mapping.modules() if isinstance(m, EqualizedLinear)]
    assert len(layers) == 8
    before = [[p.detach().clone() for p in layer.scaled()] for layer in layers]
    optimizer = torch.optim.Adam(mapping.parameters(), lr=1e-2, eps=0)
    mapping(seeded(8, 16)).square().sum().backward()
    optimizer.step()
    for layer, (weight, bias) in zip(layers, before, strict=True):
        now = layer.scaled()
        # float32: weights are up to 400 and move by 0.01
        step = torch.full_like(weight, 1e-2 * 0.01 * (2 / 16) ** 0.5)
        torch.testing.assert_close((now[0] - weight).abs(), step, rtol=0, atol=2e-6)
        torch.testing.assert_close((now[1] - bias).abs(), torch.full_like(bias, 1e-4), rtol=1e-3, atol=0)


# Which style goes where


def received(synthesis: SynthesisNetwork, w: torch.Tensor) -> list[torch.Tensor]:
    """What each AdaIN was handed in one pass, in order."""
    found: list[torch.Tensor] = []
    norms = [m for m in synthesis.modules() if isinstance(m, AdaIN)]
    hooks = [norm.register_forward_hook(lambda _, given, __: found.append(given[1])) for norm in norms]
    synthesis(w)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(("size", "alpha"), [(4, 1.0), (8, 0.5), (16, 1.0)])
def test_each_layer_takes_its_own_style(size, alpha):
    """Two per size, smallest first, and no further than the present size."""
    synthesis = small().synthesis
    synthesis.grow(size, alpha)
    w = seeded(3, 6, 5)
    found = received(synthesis, w)
    assert len(found) == synthesis.active == {4: 2, 8: 4, 16: 6}[size]
    assert all(torch.equal(style, w[:, i]) for i, style in enumerate(found))
    same = received(synthesis, w[:, 0])
    assert all(torch.equal(style, w[:, 0]) for style in same)


def test_an_image_depends_on_every_active_style_and_no_other():
    synthesis = small(size=16).synthesis.eval()
    synthesis.grow(8, 0.5)
    w = seeded(2, 6, 5).requires_grad_()
    synthesis(w).square().sum().backward()
    norms = w.grad.abs().sum((0, 2))
    assert (norms[:4] > 0).all() and (norms[4:] == 0).all()


class Plain(nn.Module):
    """StyleGAN2's kind of input: neither style nor noise."""

    styled = False

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.ones(1, channels, 4, 4))

    def forward(self, w: torch.Tensor, noise: torch.Tensor | None = None) -> torch.Tensor:
        return self.value.expand(len(w), -1, -1, -1)


class Recorded(nn.Module):
    """An image layer that notes what style it was handed."""

    def __init__(self, inputs: int, channels: int, w_dim: int) -> None:
        super().__init__()
        self.inputs, self.seen = inputs, []

    def forward(self, x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        self.seen.append(w)
        return x[:, :1]


def test_parts_can_be_exchanged():
    """A constant without a style leaves the first to the convolution; 2 L - 1 of them and an image: 2 L."""
    synthesis = SynthesisNetwork((4, 4, 4), 5, 1, constant=Plain, image=Recorded).eval()
    w = seeded(2, 6, 5)
    assert [m.shape[-1] for m in synthesis.noise_maps(1)] == [4, 8, 8, 16, 16]
    found = received(synthesis, w)
    assert all(torch.equal(style, w[:, i]) for i, style in enumerate(found)) and len(found) == 5
    synthesis.grow(16, 0.5)
    synthesis(w)
    seen = [
        [torch.equal(s, w[:, i]) for i in range(6)].index(True) for m in synthesis.to_image for s in m.seen
    ]
    assert seen == [3, 5, 5], "the image of a size takes the style after its last convolution's"


def test_maps_are_the_last_of_each_size():
    synthesis = small().synthesis.eval()
    w = seeded(2, 5)
    maps = synthesis.maps(w)
    assert [tuple(m.shape) for m in maps] == [(2, 6, 4, 4), (2, 6, 8, 8), (2, 4, 16, 16)]
    assert torch.equal(synthesis.to_image[2](maps[2], w), synthesis(w))


def test_styled_convolution_by_hand():
    """Doubled, convolved, blurred, noise, bias, leaky ReLU, style; by primitives of torch."""
    layer = StyledConv2d(3, 4, 5, up=True).double()
    nn.init.normal_(layer.styling.noise.strength), nn.init.normal_(layer.styling.bias)
    x, w, noise = (seeded(*shape).double() for shape in ((2, 3, 4, 4), (2, 5), (2, 1, 8, 8)))
    y = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    y = F.conv2d(y, layer.convolution.weight * (2 / 27) ** 0.5, padding=1)
    kernel = torch.outer(*[torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64) / 4] * 2)
    y = F.conv2d(y, kernel.expand(4, 1, 3, 3), padding=1, groups=4)
    y = y + layer.styling.noise.strength[:, None, None] * noise + layer.styling.bias[:, None, None]
    y = F.instance_norm(torch.where(y > 0, y, 0.2 * y), eps=1e-8)
    style = w @ layer.styling.norm.style.weight.T / 5**0.5
    expected = y * (1 + style[:, :4, None, None]) + style[:, 4:, None, None]
    torch.testing.assert_close(layer(x, w, noise), expected, rtol=1e-9, atol=1e-9)


def test_the_constant_starts_at_one_for_every_image():
    layer = StyledConstant(3, 5)
    assert torch.equal(layer.constant, torch.ones(1, 3, 4, 4))
    # Without noise a constant map has nothing but its shift left.
    maps = layer(seeded(2, 5), torch.zeros(1, 1, 4, 4))
    assert torch.equal(maps, maps[:, :, :1, :1].expand(-1, -1, 4, 4))


# Style mixing


def test_mixing_by_hand():
    a, b = torch.zeros(3, 2), torch.ones(3, 2)
    assert mix_styles(a, b, 2, 4)[:, :, 0].tolist() == [[0, 0, 1, 1]] * 3
    each = mix_styles(a, b, torch.tensor([0, 1, 4]), 4)
    assert each[:, :, 1].tolist() == [[1, 1, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0]]
    layered = torch.arange(4.0).view(1, 4, 1).expand(3, 4, 2)
    assert mix_styles(layered, -layered, 2, 4)[0, :, 0].tolist() == [0, 1, -2, -3]


def test_swapping_the_latents_swaps_the_layers():
    """Coarse from one, fine from the other: what each layer is told, and that images follow."""
    synthesis = small().synthesis.eval()
    a, b = seeded(2, 5), seeded(2, 5, seed=1)
    for first, second in ((a, b), (b, a)):
        found = received(synthesis, mix_styles(first, second, 2, 6))
        assert all(torch.equal(style, first) for style in found[:2])
        assert all(torch.equal(style, second) for style in found[2:])
    images = [synthesis(mix_styles(*pair, k, 6)) for pair in ((a, b), (b, a)) for k in (0, 2, 6)]
    # The style's linear map may sum in another order for one w than for a column of them.
    torch.testing.assert_close(images[0], synthesis(b), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(images[2], synthesis(a), rtol=1e-4, atol=1e-5)
    assert all(not torch.allclose(x, y) for i, x in enumerate(images[:3]) for y in images[:i])
    assert torch.equal(images[0], images[5]) and torch.equal(images[2], images[3])


class Echo(nn.Module):
    """A mapping that is the identity: w shows whose latent it was."""

    latent_dim = w_dim = 1

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z


class Layers(nn.Module):
    """A synthesis network of which only the number of layers is used."""

    styles = 18

    def __init__(self, active: int) -> None:
        super().__init__()
        self.active = active


@pytest.mark.parametrize("active", [18, 4])
def test_crossovers_are_uniform_over_the_layers_in_use(active):
    """From 1 to active - 1, with the latents apart before and after; the rest of images have one latent."""
    n, mixing = 20_000, 0.9
    generator = Generator(Echo(), Layers(active), mixing=mixing)
    w = generator.styles(torch.full((n, 1), 1000.0))[:, :, 0]
    own = w == 1000
    crossover = own.sum(1)
    assert torch.equal(own, torch.arange(18) < crossover[:, None]), "own first, then the other"
    assert ((w == w[:, -1:]) | own).all(), "one other latent for all later layers"
    assert crossover.min() >= 1
    mixed = crossover < active
    # Five standard errors of a share.
    assert mixed.float().mean().item() == pytest.approx(0.9, abs=5 * math.sqrt(0.09 / n))
    counts = crossover[mixed].bincount(minlength=active)[1:active].double()
    share = 1 / (active - 1)
    assert len(counts) == active - 1
    error = 5 * math.sqrt(share * (1 - share) / mixed.sum())
    torch.testing.assert_close(counts / mixed.sum(), torch.full_like(counts, share), rtol=0, atol=error)


def test_mixing_probabilities_0_and_1():
    z = torch.full((200, 1), 1000.0)
    never = Generator(Echo(), Layers(18), mixing=0.0).styles(z)
    always = Generator(Echo(), Layers(18), mixing=1.0).styles(z)
    assert (never == 1000).all() and (always[:, 0] == 1000).all() and (always[:, 17] != 1000).all()
    still = Generator(Echo(), Layers(18), mixing=1.0).eval().styles(z)
    assert (still == 1000).all(), "only while training"


def test_both_latents_teach_the_mapping():
    """The gradient of a mixed image reaches the mapping through either w."""
    generator = small(mixing=1.0)
    passes = []

    def keep(module: nn.Module, given: tuple[torch.Tensor, ...], w: torch.Tensor) -> None:
        w.retain_grad()
        passes.append(w)

    generator.mapping.register_forward_hook(keep)
    generator(seeded(4, 5)).square().sum().backward()
    gradients = [w.grad for w in passes]
    assert sum(len(w) for w in passes) == 8, "four images, two latents each"
    assert all(g is not None and (g.abs().sum(1) > 0).all() for g in gradients)


# Running mean and truncation


def test_the_running_mean_by_its_closed_form():
    """Of a constant c it is c (1 - 0.995^n); in evaluation it stays, and the second latents are not in it."""
    generator = Generator(Echo(), Layers(18))
    for _ in range(40):
        generator.styles(torch.full((4, 1), 3.0))
    # 40 roundings of float32
    assert generator.mean_w.item() == pytest.approx(3 * (1 - 0.995**40), rel=1e-5)
    before = generator.mean_w.clone()
    generator.eval().styles(torch.full((4, 1), 7.0))
    assert torch.equal(generator.mean_w, before)
    assert "mean_w" in generator.state_dict() and not generator.mean_w.requires_grad


def test_the_running_mean_converges_to_that_of_w():
    generator = small(decay=0.9, mixing=0.9)
    with torch.no_grad():
        expected = generator.mapping(seeded(20_000, 5, seed=1)).mean(0)
        for i in range(80):
            generator.styles(seeded(500, 5, seed=i + 2))
        spread = generator.mapping(seeded(1000, 5)).std(0)
    # An average with decay b of means of 500 has the variance (1 - b) / (1 + b) / 500 of one; five errors.
    error = 5 * spread * math.sqrt(0.1 / 1.9 / 500)
    assert ((generator.mean_w - expected).abs() < error).all() and (expected.abs() > error).any()


def test_truncation():
    generator = small().eval()
    generator.mean_w.copy_(seeded(5, seed=9))
    z = seeded(3, 5)
    mean_image = generator.synthesis(generator.mean_w[None])
    # Kernels may sum a batch of three in another order than one image.
    torch.testing.assert_close(generator(z, psi=0.0), mean_image.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5)
    assert torch.equal(generator(z, psi=1.0), generator(z))
    w = generator.mapping(z)
    torch.testing.assert_close(generator.truncate(w, 0.3), generator.mean_w + 0.3 * (w - generator.mean_w))
    assert torch.equal(generator.truncate(w, 1.0), w)
    part = generator.truncate(w, 0.3, cutoff=2)
    assert part.shape == (3, 6, 5)
    assert torch.equal(part[:, :2], generator.truncate(w, 0.3)[:, None].expand(-1, 2, -1))
    assert torch.equal(part[:, 2:], w[:, None].expand(-1, 4, -1))
    assert torch.equal(generator(z, psi=0.3, cutoff=2), generator.synthesis(part))
    torch.testing.assert_close(generator(z, psi=0.3, cutoff=0), generator(z))


# Noise


def test_noise_is_fresh_in_training_and_fixed_in_evaluation():
    synthesis, w = small().synthesis, seeded(2, 5)
    assert not torch.equal(synthesis(w), synthesis(w))
    synthesis.eval()
    assert torch.equal(synthesis(w), synthesis(w))
    torch.manual_seed(5)
    state = torch.get_rng_state()
    synthesis(w)
    assert torch.equal(torch.get_rng_state(), state), "nothing is drawn"


def test_noise_can_be_given_switched_off_and_kept_at_some_layers():
    synthesis, w = small().synthesis.eval(), seeded(1, 5)
    maps = synthesis.noise_maps(3, rng(1))
    assert [tuple(m.shape) for m in maps] == [(3, 1, s, s) for s in (4, 4, 8, 8, 16, 16)]
    assert all(torch.equal(a, b) for a, b in zip(maps, synthesis.noise_maps(3, rng(1)), strict=True))
    draws = synthesis(w.expand(3, -1), maps)
    assert torch.equal(draws, synthesis(w.expand(3, -1), maps)) and not torch.allclose(draws[0], draws[1])
    off = synthesis.noise_maps(1, layers=())
    assert all((m == 0).all() for m in off)
    coarse = synthesis.noise_maps(1, rng(1), layers=range(4))
    assert [bool(m.any()) for m in coarse] == [True] * 4 + [False] * 2
    silent = copy.deepcopy(synthesis)
    for module in silent.modules():
        if isinstance(module, NoiseInjection):
            nn.init.zeros_(module.strength)
    assert torch.equal(synthesis(w, off), silent(w)), "no noise is noise of strength zero"
    assert not torch.allclose(synthesis(w, off), synthesis(w))


def test_the_fixed_noise_is_in_checkpoints():
    first, second = small(), small()
    z = seeded(2, 5)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.eval()(z), second.eval()(z))


@pytest.mark.parametrize(
    ("w", "noise", "message"),
    [((2, 4), 6, "w must be"), ((2, 5, 5), 6, "w must be"), ((2, 5), 5, "noise must be 6 maps")],
)
def test_synthesis_says_what_does_not_fit(w, noise, message):
    synthesis = small().synthesis
    with pytest.raises(ValueError, match=message):
        synthesis(torch.zeros(w), synthesis.noise_maps(1)[:noise])


@pytest.mark.parametrize("option", [{"mixing": 1.5}, {"mixing": -0.1}, {"decay": 1.0}])
def test_options_are_checked(option):
    with pytest.raises(ValueError, match=next(iter(option))):
        small(**option)


def test_a_mapping_has_layers():
    with pytest.raises(ValueError, match="layers"):
        MappingNetwork(4, 4, layers=0)


# Growing


def test_fading_in_is_exact():
    """alpha 0 is the smaller image with doubled pixels, to the bit; from there to 1 it moves on a line."""
    generator, z = small().eval(), seeded(2, 5)
    generator.grow(8, 1.0)
    lower = generator(z)
    generator.grow(16, 0.0)
    assert torch.equal(generator(z), F.interpolate(lower, scale_factor=2, mode="nearest"))
    ends = []
    for alpha in (0.0, 1.0, 0.3):
        generator.grow(16, alpha)
        ends.append(generator(z))
    torch.testing.assert_close(ends[2], 0.7 * ends[0] + 0.3 * ends[1], rtol=1e-5, atol=1e-5)
    critic, images = discriminator((6, 6, 4), 2), seeded(4, 2, 16, 16)
    critic.grow(8, 1.0)
    lower = critic(F.avg_pool2d(images, 2))
    critic.grow(16, 0.0)
    torch.testing.assert_close(critic(images), lower, rtol=0, atol=0)


def test_the_discriminator_blurs_before_it_halves():
    """Between the convolutions of every stage that halves; a checkerboard then leaves no trace inside."""
    critic = discriminator((6, 6, 4), 2)
    for stage in critic.stages[1:]:
        kinds = [type(layer).__name__ for layer in stage]
        assert kinds == ["EqualizedConv2d", "LeakyReLU", "Blur", "EqualizedConv2d", "LeakyReLU", "AvgPool2d"]
    board = (torch.arange(8)[:, None] + torch.arange(8)).remainder(2).float().mul(2).sub(1).view(1, 1, 8, 8)
    assert (Blur()(board)[..., 1:-1, 1:-1] == 0).all()
    (deviation,) = [m for m in critic.modules() if isinstance(m, MinibatchStd)]
    assert deviation.group == 4


def game(seed: int = 0, growth: Growth | None = None) -> GrowingGAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        growth = growth or Growth((8, 16), (8, 8), images=16)
        generator, critic = small(noisy=False), discriminator((6, 6, 4), 2)
        return GrowingGAN(generator, critic, NonSaturating(), growth, [Lazy(R1(1.0), 2)])


def pictures(n: int = 32, size: int = 16, channels: int = 2) -> torch.Tensor:
    return seeded(n, channels, size, size, seed=4).clamp(-1, 1)


def settings(growth: Growth) -> Settings:
    # eps keeps Adam's step smooth where a gradient is near zero.
    adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.99), eps=1e-3)
    return Settings(
        dict.fromkeys(("discriminator", "generator"), adam),
        growth.batches,
        ema={"generator": 0.9},
        precision="32-true",
        restarts=growth.starts,
        log_every=1,
        checkpoint_every=None,
    )


def test_a_run_resumed_within_a_fade_in_ends_with_the_same_weights(tmp_path):
    """Also the running mean of w, the averages, and what is drawn for mixing and noise."""

    def trainer(seed: int) -> Trainer:
        made = game(seed)
        return Trainer(made, pictures(), settings(made.growth), out=tmp_path, progress=False)

    whole = trainer(0)
    whole.fit(3)
    stage = whole.game.stage
    assert stage.size == 16 and 0 < stage.alpha < 1, "the checkpoint is written within a fade-in"
    resumed = trainer(7)
    assert resumed.resume() and resumed.game.stage == stage
    whole.fit(6)
    resumed.fit(6)
    for name, tensor in whole.game.state_dict().items():
        assert torch.equal(tensor, resumed.game.state_dict()[name]), name
    assert whole.game.generator.mean_w.any()
    assert torch.equal(whole.averages["generator"].mean_w, whole.game.generator.mean_w)
    assert torch.equal(whole.sample(3), resumed.sample(3))


def test_gradients_go_to_the_player_and_to_what_is_in_use():
    """All of the present size, noise strengths included; nothing of a size to come; none of the opponent."""
    made = game()
    sum(made.loss("generator", (pictures(8),)).values()).backward()
    for name, parameter in made.generator.named_parameters():
        later = name.startswith(("synthesis.convolutions.3", "synthesis.convolutions.4"))
        # Pixels are made at the present size alone, where nothing fades in.
        used = not later and not name.startswith(("synthesis.to_image.0", "synthesis.to_image.2"))
        assert (parameter.grad is not None) is used, name
        if "noise.strength" in name and used:
            assert parameter.grad.abs().sum() > 0, name
    assert all(p.grad is None for p in made.discriminator.parameters())
    made.zero_grad()
    terms = made.loss("discriminator", (pictures(8),))
    assert set(terms) == {"adversarial", "R1"}
    sum(terms.values()).backward()
    assert all(p.grad is None for p in made.generator.parameters())
    assert made.discriminator.stages[1][0].weight.grad.abs().sum() > 0


class Reads(TorchDispatchMode):
    """Counts the operations that make the host wait for a tensor's value."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "equal", "masked_select"):
            self.found.append(str(function))
        return function(*args, **(kwargs or {}))


def test_no_step_waits_for_the_device():
    made, batch = game(), (pictures(8),)
    with Reads() as reads:
        for player in made.turns:
            sum(made.loss(player, batch).values()).backward()
            made.after_step(player)
    assert reads.found == []
    with Reads() as reads:
        torch.ones(()).item()
    assert reads.found, "the test sees a read where there is one"


def test_half_precision():
    """Under autocast to bfloat16 losses and gradients stay finite, and the running mean in float32."""
    made = game()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for player in made.turns:
            total = sum(term.float() for term in made.loss(player, (pictures(8),)).values())
            total.backward()
            assert total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.parameters())
    assert made.generator.mean_w.dtype is torch.float32 and made.generator.mean_w.any()


# Path length


class Doubled(Echo):
    """w = 2 z."""

    latent_dim = w_dim = 2

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return 2 * z


class Sums(Layers):
    """Images (a + b, a - b) of w = (a, b), which are twice as far apart, squared, as the w are."""

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return torch.stack([w.sum(1), w[:, 0] - w[:, 1]], 1)


def test_path_lengths_by_hand():
    """Straight in W: of w = 2 z and images twice as far apart, 8 |b - a|^2 for the latents of the seed."""
    generator = Generator(Doubled(), Sums(2)).eval()
    found = path_lengths(generator, 6, rng=rng(), distance=lambda x, y: (x - y).square().sum(1), epsilon=0.1)
    same = rng()
    a, b = (torch.randn(6, 2, generator=same) for _ in range(2))
    # float32 outputs, and steps of a tenth of the path
    torch.testing.assert_close(found.float(), 8 * (b - a).square().sum(1), rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="evaluation mode"):
        path_lengths(generator.train(), 6, rng=rng())


def test_path_lengths_of_digits():
    generator = networks(32, 1, 64, 8, 2)[0].eval()
    in_w = path_lengths(generator, 4, rng=rng())
    assert in_w.shape == (4,) and (in_w > 0).all()
    assert torch.equal(in_w, path_lengths(generator, 4, rng=rng())), "noise is fixed"
    assert not torch.allclose(in_w, path_lengths(generator, 4, rng=rng(), intermediate=False))


# The report


class Either(nn.Module):
    """Draws a seven or a two, by the sign of the w of one layer, and a tenth of the noise it is given."""

    styles = 4

    def __init__(self, layer: int) -> None:
        super().__init__()
        self.layer, self.digits = layer, mnist("test").images[:2]

    def noise_maps(self, n: int, generator: torch.Generator) -> list[torch.Tensor]:
        return [torch.randn(n, 1, 32, 32, generator=generator)]

    def forward(self, w: torch.Tensor, noise: list[torch.Tensor] | None = None) -> torch.Tensor:
        sign = (w if w.ndim == 2 else w[:, self.layer])[:, 0] > 0
        images = self.digits[sign.long()]
        return images if noise is None else images + 0.1 * noise[0]


@pytest.mark.parametrize("layer", [1, 2])
def test_figures_of_styles_and_noise(layer):
    """The digit is decided by the first half of four layers, or by the second, with two latents at random."""
    generator = Generator(Doubled(), Either(layer)).eval()
    found = style_figures(generator, 200, rng())
    decided = found["digit_of_coarse_styles"]
    # Five standard errors of a share of a half.
    chance = pytest.approx(0.5, abs=5 * 0.5 / 200**0.5)
    assert found["digit_by_chance"] == chance
    assert decided == (1.0 if layer == 1 else found["digit_by_chance"])
    # The root of a mean of 200,000 squares.
    assert found["noise_std"] == pytest.approx(0.1, rel=5 / (2 * 200_000) ** 0.5)
    assert found["path_length_w"] >= 0 and found["path_length_z"] >= 0


def test_the_report_of_a_run_that_has_not_grown_up():
    made = systems.get("stylegan").experiment(Budget.SMOKE)
    figures = made.evaluate(made.game)
    assert "fid" in figures and "noise_std" not in figures
    made.game.seek(made.steps)
    grown = made.evaluate(made.game)
    # Every strength is 0 at the start.
    assert grown["noise_std"] == 0 and grown["path_length_w"] > 0


# The paper's network and settings


def test_the_papers_network():
    """Karras et al. 2019, section 2: 26.2 million weights, 18 layers at 1024; D as ProGAN's, 23.1."""
    with torch.device("meta"):
        generator, critic = networks(1024)
        images = generator(torch.empty(2, 512))
        scores = critic(images)
    assert images.shape == (2, 3, 1024, 1024) and scores.shape == (2,)
    count = [sum(p.numel() for p in network.parameters()) for network in (generator, critic)]
    assert [round(n / 1e6, 1) for n in count] == [26.2, 23.1]
    assert generator.synthesis.styles == 18 and generator.latent_dim == generator.w_dim == 512
    linear = [m for m in generator.mapping.modules() if isinstance(m, EqualizedLinear)]
    assert [tuple(m.weight.shape) for m in linear] == [(512, 512)] * 8 and {m.rate for m in linear} == {0.01}
    assert (generator.mixing, generator.decay) == (0.9, 0.995)


def test_constants():
    """From 8 x 8; R1 with gamma 10; Adam at 1e-3 with betas (0, 0.99); 25 million images, 600,000 a phase."""
    data = Images(torch.zeros(600, 3, 32, 32), torch.zeros(600, dtype=torch.int64))
    with torch.device("meta"):
        made = systems.get("stylegan").recipe(Budget.GPU, data)
    growth = made.game.growth
    assert growth.sizes[0] == 8 and growth.sizes[-1] == 32 and growth.images == 600_000
    assert tuple(growth.batch_sizes) == (256, 128, 64)
    assert made.settings.batch_size == growth.batches and made.settings.restarts == growth.starts
    assert type(made.game.adversarial) is NonSaturating
    assert made.game.regularizers == (R1(10.0),)
    for player, make in made.settings.optimizers.items():
        optimizer = make(made.game.players[player].parameters())
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.defaults["lr"] == 1e-3 and optimizer.defaults["betas"] == (0.0, 0.99)
    assert made.game.generator.mixing == 0.9 and made.game.generator.decay == 0.995
    shown = sum(made.settings.batch_size_at(step) for step in range(0, made.steps, 100)) * 100
    assert shown == pytest.approx(25_000_000, rel=1e-3)


def test_steps_for_a_number_of_images():
    """600 images, ten rounds of 60 each, then 30 at a time; and never less than the growth itself."""
    growth = Growth((8, 16), (60, 30), images=600)
    assert growth.rounds == 10 + 2 * 20
    assert steps_for(growth, 3000) == 10 + 2400 // 30
    assert steps_for(growth, 10) == growth.rounds


def test_rates_depend_on_the_size():
    rates = RatePerSize(Growth((8, 16), (10, 10), images=20), {16: 3.0})
    assert [rates(step) for step in range(5)] == [1.0, 1.0, 3.0, 3.0, 3.0]
