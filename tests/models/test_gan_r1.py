"""GAN with R1: the penalty in the game, what it does to the slope at data, the paper's settings."""

import pytest
import torch

from ganlib import systems
from ganlib.data import Images
from ganlib.layers import mixes_samples
from ganlib.losses import R1, NonSaturating, gradient_norms
from ganlib.training import Budget


def pictures(n: int = 64, size: int = 8) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, size, size, generator=rng) * 2 - 1, torch.zeros(n, dtype=torch.int64))


def test_the_penalty_is_the_slope_by_finite_differences():
    """gamma/2 E |grad D|^2 with gamma 10, each partial derivative by a central difference in float64."""
    game = systems.get("gan-r1").experiment(Budget.SMOKE, data=pictures()).game.double()
    real = pictures(4).images.double()
    h = 1e-5
    with torch.no_grad():
        steps = h * torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
        slopes = [(game.discriminator(x + steps) - game.discriminator(x - steps)) / (2 * h) for x in real]
    expected = 5 * torch.stack(slopes).square().sum(1).mean()
    found = game.regularizers[0](game.discriminator, real, real)
    # A difference's error is h^2 times a third derivative, 1e-10, and 1e-16/h of rounding; a kink of a leaky
    # rectifier between the two points is what the tolerance allows for.
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


def test_descending_the_penalty_flattens_the_discriminator_on_data():
    game = systems.get("gan-r1").experiment(Budget.SMOKE, data=pictures()).game
    real = pictures(16).images
    before = gradient_norms(game.discriminator, real).square().mean().item()
    step = torch.optim.SGD(game.discriminator.parameters(), lr=0.01)
    game.loss("discriminator", (real,))["R1"].backward()
    step.step()
    after = gradient_norms(game.discriminator, real).square().mean().item()
    assert after < before


def test_no_batch_norm_where_slopes_at_single_samples_are_penalised():
    game = systems.get("gan-r1").experiment(Budget.SMOKE, data=pictures()).game
    assert not mixes_samples(game.discriminator)


def test_constants():
    """Mescheder et al. 2018 and its published settings: gamma 10, RMSprop 1e-4 (0.99), n_critic 1, m = 64."""
    experiment = systems.get("gan-r1").experiment(Budget.GPU, data=pictures())
    assert type(experiment.game.adversarial) is NonSaturating
    assert experiment.game.adversarial.real_label == 1.0
    (penalty,) = experiment.game.regularizers
    assert isinstance(penalty, R1) and penalty.weight == 10.0
    assert dict(experiment.game.turns) == {"discriminator": 1, "generator": 1}
    assert experiment.settings.batch_size == 64 and experiment.settings.ema == {"generator": 0.999}
    assert experiment.game.generator.latent_dim == 256
    for player, make in experiment.settings.optimizers.items():
        optimizer = make(experiment.game.players[player].parameters())
        assert isinstance(optimizer, torch.optim.RMSprop)
        assert optimizer.defaults["lr"] == 1e-4 and optimizer.defaults["alpha"] == pytest.approx(0.99)
