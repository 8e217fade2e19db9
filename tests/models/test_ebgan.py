"""EBGAN: the energy, the margin seen from the weights, the pulling-away term on the codes."""

import numpy as np
import pytest
import torch
from torch import nn

from ganlib import systems
from ganlib.data import Images
from ganlib.losses import EnergyMargin, PullingAway
from ganlib.models.dcgan import Generator
from ganlib.models.ebgan import Autoencoder, convolutional_autoencoder
from ganlib.models.gan import GAN
from ganlib.training import Budget


def pictures(n: int = 32, size: int = 16) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, size, size, generator=rng) * 2 - 1, torch.zeros(n, dtype=torch.int64))


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# The energy


def test_energy_is_the_norm_of_the_error_per_sample():
    scaled = Autoencoder(nn.Identity(), nn.ReLU())
    x = torch.randn(5, 2, 3, 4)
    # relu(x) - x is what rectification removes, so numpy needs no network.
    expected = np.linalg.norm(np.minimum(x.numpy(), 0).reshape(5, -1), axis=1)
    found = scaled(x)
    assert found.shape == (5,)
    # Float32 sums of 24 squares.
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_what_is_known_has_no_energy():
    assert torch.equal(Autoencoder(nn.Identity(), nn.Identity())(torch.randn(3, 1, 8, 8)), torch.zeros(3))


def test_another_energy():
    doubled = Autoencoder(nn.Identity(), lambda x: 2 * x, energy=lambda errors: errors.abs().amax(1))
    x = torch.randn(4, 1, 8, 8)
    assert torch.equal(doubled(x), x.abs().flatten(1).amax(1))


def test_energy_is_float32_under_autocast():
    """1,024 errors of 1 + 1/256, which bfloat16 rounds to 1, would lose the fraction; the sum must not."""
    wide = Autoencoder(nn.Identity(), lambda x: torch.zeros_like(x))
    x = torch.ones(2, 1, 32, 32, dtype=torch.bfloat16)
    x[:, :, :16] = 1 / 16
    found = wide(x)
    assert found.dtype == torch.float32
    # 512 + 512/256 = 514 squares; in bfloat16 the nearest numbers are 512 and 516.
    torch.testing.assert_close(found, torch.full((2,), 514.0).sqrt(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (32, 1)])
def test_autoencoder_shapes(size, channels):
    network = convolutional_autoencoder(4, channels, size)
    x = torch.rand(3, channels, size, size)
    assert network(x).shape == (3,)
    levels = size.bit_length() - 3
    assert network.encoder(x).shape == (3, 4 * 2 ** (levels - 1), 4, 4)
    assert network.decoder(network.encoder(x)).shape == x.shape
    assert isinstance(network.encoder[-1], nn.Conv2d), "no activation on the codes"


# The game


def game(margin: float = 10.0, weight: float = 0.1) -> GAN:
    discriminator = convolutional_autoencoder(4, 1, 16)
    term = PullingAway(discriminator.encoder, weight)
    return GAN(Generator(6, 4, 1, 16), discriminator, EnergyMargin(margin), generator_regularizers=[term])


def gradients(loss: torch.Tensor, module: nn.Module) -> torch.Tensor:
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True)
    return torch.cat([g.flatten() for g in found if g is not None])


def test_beyond_the_margin_only_real_data_teach_the_autoencoder():
    real = pictures(8).images
    beyond, within = game(margin=1e-3), game(margin=1e3)
    within.load_state_dict(beyond.state_dict())
    for each in (beyond, within):
        loss = sum(each.loss("discriminator", (real,)).values())
        alone = each.discriminator(real).mean()
        same = torch.allclose(
            gradients(loss, each.discriminator), gradients(alone, each.discriminator), rtol=1e-4
        )
        assert same == (each is beyond)


def test_energies_of_data_fall_and_of_fakes_rise():
    """One small step along each part of the loss, seen in the energies themselves."""
    each, real = game(), pictures(16).images
    with torch.no_grad():
        fake = each.generator(each.latent(16))
    before = [each.discriminator(x).mean().item() for x in (real, fake)]
    step = torch.optim.SGD(each.discriminator.parameters(), lr=1e-3)
    loss = each.adversarial.discriminator(each.discriminator(real), each.discriminator(fake))
    loss.backward()
    step.step()
    after = [each.discriminator(x).mean().item() for x in (real, fake)]
    # An increase of one at the other's expense is possible; their difference is what the loss lowers.
    assert after[0] - after[1] < before[0] - before[1]


def test_pulling_away_is_on_the_codes_of_the_fakes():
    each, real = game(weight=0.1), pictures(8).images
    codes = []
    handle = each.discriminator.encoder.register_forward_hook(lambda *call: codes.append(call[2].detach()))
    terms = each.loss("generator", (real,))
    handle.remove()
    s = codes[-1].flatten(1).double().numpy()
    s /= np.linalg.norm(s, axis=1, keepdims=True)
    squares = (s @ s.T) ** 2
    expected = 0.1 * (squares.sum() - np.trace(squares)) / (8 * 7)
    # Float32 cosines of 128 products.
    assert terms["pulling away"].item() == pytest.approx(expected, rel=1e-4)
    assert gradients(terms["pulling away"], each.generator).abs().max() > 0


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_go_to_the_player_alone(player):
    each = game()
    sum(each.loss(player, (pictures(8).images,)).values()).backward()
    moved = {n.split(".")[0] for n, p in each.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {player}


def test_constants():
    """Zhao et al. 2017: margin 10 on MNIST, pulling-away term with weight 0.1, one step each."""
    experiment = systems.get("ebgan").experiment(Budget.GPU, data=pictures())
    assert experiment.game.adversarial.margin == 10.0
    (term,) = experiment.game.generator_regularizers
    assert term.weight == 0.1 and term.layer is experiment.game.discriminator.encoder
    assert dict(experiment.game.turns) == {"discriminator": 1, "generator": 1}
