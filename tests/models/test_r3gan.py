"""R3GAN: the blocks' start, the networks without normalization, the loss and both penalties, settings."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

from ganlib import systems
from ganlib.data import Images
from ganlib.layers import mixes_samples
from ganlib.losses import R1, R2, RelativisticPairing
from ganlib.models.r3gan import GAIN, R3GAN, SLOPE, Discriminator, Generator, Residual
from ganlib.training import Budget

WIDTHS, BLOCKS = [16, 8, 8], [1, 2, 1]


def pictures(n: int = 16, size: int = 16) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, size, size, generator=rng) * 2 - 1, torch.zeros(n, dtype=torch.int64))


def game() -> R3GAN:
    return R3GAN(Generator(6, WIDTHS, BLOCKS), Discriminator(WIDTHS, BLOCKS), gamma=2.0)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# Networks


def test_gain_keeps_the_second_moment():
    """E phi(x)^2 for a standard normal x and leaky slope 0.2, by quadrature, is 1 / gain^2."""
    moment, _ = quad(lambda x: max(x, SLOPE * x) ** 2 * norm.pdf(x), -12, 12, points=[0])
    assert moment * GAIN**2 == pytest.approx(1.0, rel=1e-8)


@pytest.mark.parametrize("blocks", [1, 8])
def test_a_block_starts_as_the_identity_with_scaled_weights(blocks):
    block = Residual(64, blocks)
    x = torch.randn(2, 64, 4, 4)
    assert torch.equal(block(x), x)
    wide, grouped, narrow = (m for m in block.branch if isinstance(m, nn.Conv2d))
    assert (wide.out_channels, grouped.groups, narrow.out_channels) == (128, 8, 64)
    assert not narrow.weight.any() and narrow.bias is None
    for layer, inputs in ((wide, 64), (grouped, 16 * 9)):
        values = layer.weight.detach().flatten().double()
        wanted = math.sqrt(2 / 1.04) * blocks**-0.25 / math.sqrt(inputs)
        # Five standard errors of a deviation, sigma / sqrt(2 n).
        assert values.std().item() == pytest.approx(wanted, abs=5 * wanted / math.sqrt(2 * len(values)))
        assert not layer.bias.any()


def test_a_block_learns_from_its_first_step():
    """The zero layer has a gradient at once, and hands one on to the others from the second step."""
    block = Residual(8, 1)
    step = torch.optim.SGD(block.parameters(), lr=0.1)
    for some in (False, True):
        step.zero_grad()
        block(torch.randn(4, 8, 4, 4)).square().sum().backward()
        assert block.branch[-1].weight.grad.any()
        assert bool(block.branch[0].weight.grad.any()) is some
        step.step()


@pytest.mark.parametrize("channels", [1, 3])
def test_shapes(channels):
    images = Generator(6, WIDTHS, BLOCKS, channels)(torch.randn(5, 6))
    assert images.shape == (5, channels, 16, 16)
    assert Discriminator(WIDTHS, BLOCKS, channels)(images).shape == (5,)


def test_no_normalization_and_every_block_is_there():
    for network in (Generator(6, WIDTHS, BLOCKS), Discriminator(WIDTHS, BLOCKS)):
        assert not mixes_samples(network)
        assert not any("Norm" in type(m).__name__ for m in network.modules())
        assert sum(isinstance(m, Residual) for m in network.modules()) == sum(BLOCKS)


@pytest.mark.parametrize("network", [lambda *a: Generator(6, *a), Discriminator])
def test_stages_must_match(network):
    with pytest.raises(ValueError, match=r"one entry per stage, got \[8, 8\] and \[1\]"):
        network([8, 8], [1])


# The game


def test_discriminators_terms_by_hand():
    """Softplus of fake minus real, pair by pair, and gamma/2 times mean squared slopes on either side."""
    each, real = game(), pictures(4).images
    seen = []
    handle = each.discriminator.register_forward_hook(lambda *call: seen.append(call[1][0].detach()))
    terms = each.loss("discriminator", (real,))
    handle.remove()
    assert set(terms) == {"adversarial", "R1", "R2"}
    fake = seen[0][4:]
    outputs = [each.discriminator(x).detach().double() for x in (real, fake)]
    logits = (outputs[1] - outputs[0]).numpy()
    # float32 outputs
    assert terms["adversarial"].item() == pytest.approx(
        sum(math.log1p(math.exp(v)) for v in logits) / 4, rel=1e-5
    )
    for name, points in (("R1", real), ("R2", fake)):
        points = points.clone().requires_grad_()
        (slope,) = torch.autograd.grad(each.discriminator(points).sum(), points)
        assert terms[name].item() == pytest.approx(
            2.0 / 2 * slope.square().flatten(1).sum(1).mean().item(), rel=1e-4
        )


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_go_to_the_player_alone(player):
    each = game()
    sum(each.loss(player, (pictures(4).images,)).values()).backward()
    moved = {n.split(".")[0] for n, p in each.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {player}


def test_samples_are_cut_off():
    each = game()
    with torch.no_grad():
        each.generator.leave.weight.mul_(100)
    samples = each.sample(20, torch.Generator().manual_seed(0))
    assert samples.abs().max() == 1.0


def test_constants():
    """Huang et al. 2024, the published CIFAR-10 settings: widths 768, two blocks a stage, Adam (0, 0.99)."""
    with torch.device("meta"):  # a hundred million weights, of which only the shapes are looked at
        experiment = systems.get("r3gan").recipe(Budget.GPU, pictures(size=32))
    game = experiment.game
    assert isinstance(game.adversarial, RelativisticPairing)
    first, second = game.regularizers
    assert isinstance(first, R1) and isinstance(second, R2) and first.weight == second.weight == 0.05
    blocks = [m for m in game.modules() if isinstance(m, Residual)]
    assert len(blocks) == 16
    grouped = blocks[0].branch[2]
    assert (grouped.in_channels, grouped.groups) == (2 * 768, 96)
    assert game.generator.latent_dim == 64 and experiment.settings.batch_size == 512
    for make in experiment.settings.optimizers.values():
        defaults = make([nn.Parameter(torch.zeros(1))]).defaults
        assert defaults["lr"] == 2e-4 and defaults["betas"] == (0.0, 0.99)
