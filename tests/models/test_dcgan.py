"""DCGAN's networks and the critics made from them: Radford's rules, shapes, sizes, initial weights."""

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from ganlib.layers import mixes_samples
from ganlib.losses import Wasserstein
from ganlib.models.dcgan import Discriminator, Generator, initialize_
from ganlib.models.wgan import WGAN
from ganlib.models.wgan_gp import Critic

SIZES = [8, 16, 32, 64]


def layers(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if not list(m.children())]


def kinds(module: nn.Module) -> list[str]:
    return [type(m).__name__ for m in layers(module) if not isinstance(m, nn.Flatten | nn.Unflatten)]


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# Shapes


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(size, channels):
    images = Generator(7, 4, channels, size)(torch.randn(5, 7))
    assert images.shape == (5, channels, size, size)
    for network in (Discriminator(4, channels, size), Critic(4, channels, size)):
        assert network(images).shape == (5,)


@pytest.mark.parametrize("n", [1, 2])
def test_a_batch_of_one_keeps_its_dimension(n):
    """Flatten(0), not squeeze: one image gives one logit, not a scalar."""
    assert Discriminator(4, 1, 16).eval()(torch.randn(n, 1, 16, 16)).shape == (n,)


@pytest.mark.parametrize("size", [0, 4, 7, 28, 48, -8])
@pytest.mark.parametrize("network", [Generator, Discriminator, Critic])
def test_sizes_must_be_powers_of_two(network, size):
    with pytest.raises(ValueError, match=f"size.*{size}"):
        network(size=size)


def test_range_is_that_of_the_images():
    images = Generator(7, 4)(1e4 * torch.randn(50, 7))
    assert images.abs().max() <= 1


# Radford's rules


@pytest.mark.parametrize("size", SIZES)
def test_generator_follows_the_rules(size):
    generator = Generator(width=4, size=size)
    hidden = SIZES.index(size) + 1
    assert kinds(generator) == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * hidden + [
        "ConvTranspose2d",
        "Tanh",
    ]
    convolutions = [m for m in layers(generator) if isinstance(m, nn.ConvTranspose2d)]
    assert all(c.stride == (2, 2) for c in convolutions[1:])
    # Twice the channels at half the resolution, ending in the images' own.
    assert [c.out_channels for c in convolutions] == [*(4 * 2**k for k in reversed(range(hidden))), 1]


@pytest.mark.parametrize("size", SIZES)
def test_discriminator_follows_the_rules(size):
    discriminator = Discriminator(width=4, size=size)
    hidden = SIZES.index(size) + 1
    assert kinds(discriminator) == ["Conv2d", "LeakyReLU"] + ["Conv2d", "BatchNorm2d", "LeakyReLU"] * (
        hidden - 1
    ) + ["Conv2d"]
    convolutions = [m for m in layers(discriminator) if isinstance(m, nn.Conv2d)]
    assert all(c.stride == (2, 2) for c in convolutions[:-1])
    assert [c.in_channels for c in convolutions] == [1] + [4 * 2**k for k in range(hidden)]
    assert {m.negative_slope for m in layers(discriminator) if isinstance(m, nn.LeakyReLU)} == {0.2}


@pytest.mark.parametrize("network", [Generator, Discriminator, Critic])
def test_no_pooling_no_fully_connected_layer_no_sigmoid(network):
    names = " ".join(kinds(network(width=4)))
    for word in ("Pool", "Linear", "Sigmoid", "Upsample", "Dropout"):
        assert word not in names


def test_batch_norm_can_be_left_out():
    for network in (Generator(width=4, batch_norm=False), Discriminator(width=4, batch_norm=False)):
        assert "BatchNorm2d" not in kinds(network)
        convolutions = [m for m in layers(network) if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
        assert all(c.bias is not None for c in convolutions), "nothing stands in for the bias then"


def test_parameter_counts():
    """By hand for 32 x 32 and width 64: 16 weights per pair of channels, two per batch norm's channel."""
    z, w = 100, 64
    generator = z * 4 * w * 16 + 4 * w * 2 * w * 16 + 2 * w * w * 16 + w * 16 + 1
    generator += 2 * (4 * w + 2 * w + w)
    discriminator = w * 16 + w + w * 2 * w * 16 + 2 * w * 4 * w * 16 + 4 * w * 16 + 1
    norms, biases = 2 * (2 * w + 4 * w), 2 * w + 4 * w
    assert sum(p.numel() for p in Generator().parameters()) == generator
    assert sum(p.numel() for p in Discriminator().parameters()) == discriminator + norms
    assert sum(p.numel() for p in Critic().parameters()) == discriminator + biases


# Initial weights


@pytest.mark.parametrize("network", [Generator, Discriminator, Critic])
def test_initial_weights(network):
    module = network(width=64)
    weights = [m.weight for m in layers(module) if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    scales = [m.weight for m in layers(module) if isinstance(m, nn.BatchNorm2d)]
    for tensors, mean in ((weights, 0.0), (scales, 1.0)):
        if not tensors:
            continue
        for tensor in tensors:
            values = tensor.detach().flatten().double()
            n = len(values)
            # Five standard errors, 0.02/sqrt(n) of a mean and 0.02/sqrt(2n) of a deviation: 1 in 2 million.
            assert values.mean().item() == pytest.approx(mean, abs=5 * 0.02 / n**0.5)
            assert values.std().item() == pytest.approx(0.02, abs=5 * 0.02 / (2 * n) ** 0.5)
        values = torch.cat([t.detach().flatten() for t in tensors])[:20_000]
        assert kstest(((values - mean) / 0.02).numpy(), "norm").pvalue > 1e-4
    biases = [p for name, p in module.named_parameters() if name.endswith("bias")]
    assert biases and all((b == 0).all() for b in biases)


def test_initialize_touches_nothing_else_and_returns_its_module():
    linear = nn.Linear(3, 3)
    before = linear.weight.detach().clone()
    module = nn.Sequential(linear, nn.Conv2d(1, 1, 3), nn.BatchNorm2d(1, affine=False))
    assert initialize_(module) is module
    assert torch.equal(linear.weight, before)


# Critics


def test_critic_scores_each_sample_by_itself():
    """D(x)[0] does not depend on x[1:], which a per-sample penalty presumes; batch norm breaks it."""
    x = torch.randn(4, 1, 16, 16)
    other = torch.cat([x[:1], 5 * torch.randn(3, 1, 16, 16)])
    critic, normalized = Critic(4, 1, 16), Discriminator(4, 1, 16)
    assert not mixes_samples(critic) and mixes_samples(normalized)
    torch.testing.assert_close(critic(other)[0], critic(x)[0])
    assert (normalized(other)[0] - normalized(x)[0]).abs() > 1e-4, "the control is no control"


def test_wgan_clips_the_critic_after_its_steps_alone():
    game = WGAN(Generator(3, 4, 1, 16), Discriminator(4, 1, 16), clip=0.015)
    assert isinstance(game.adversarial, Wasserstein)
    assert dict(game.turns) == {"discriminator": 5, "generator": 1}
    weights = {n: p.detach().clone() for n, p in game.named_parameters()}
    game.after_step("generator")
    assert all(torch.equal(p, weights[n]) for n, p in game.named_parameters())
    game.after_step("discriminator")
    for name, parameter in game.named_parameters():
        bounds = (-0.015, 0.015) if name.startswith("discriminator") else (-9, 9)
        assert torch.equal(parameter, weights[name].clamp(*bounds))
    assert max(p.abs().max().item() for p in game.discriminator.parameters()) == pytest.approx(0.015)


@pytest.mark.parametrize("clip", [0.0, -1.0])
def test_wgan_clip_must_be_positive(clip):
    with pytest.raises(ValueError, match="clip"):
        WGAN(Generator(3, 4, 1, 16), Discriminator(4, 1, 16), clip=clip)
