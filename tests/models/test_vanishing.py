"""The vanishing-gradient experiment, on a game so small that its numbers are known."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from ganlib.layers import InstanceNoise
from ganlib.losses import GradientPenalty, Minimax, NonSaturating, Wasserstein
from ganlib.models.gan import GAN
from ganlib.models.vanishing import (
    FrozenGeneratorGame,
    generator_gradient_norm,
    snapshots,
    trace,
    vanishing,
)


class Shift(nn.Module):
    """All fakes at one learned point; the gradient that reaches it is the discriminator's, undiluted."""

    latent_dim = 1

    def __init__(self, *point):
        super().__init__()
        self.point = nn.Parameter(torch.tensor(point))

    def forward(self, z):
        return self.point.expand(len(z), -1)


def linear(weight, bias=0.0):
    layer = nn.Linear(len(weight), 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([weight]))
        layer.bias.fill_(bias)
    return nn.Sequential(layer, nn.Flatten(0))


@pytest.fixture
def images():
    return torch.rand(128, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


# The gradient norm


@pytest.mark.parametrize("logit", [-30.0, -8.0, 0.0, 3.0])
def test_gradient_norm_is_the_slope_of_the_loss_times_that_of_the_logit(logit):
    fakes, weight = Shift(0.0, 0.0), (3.0, 4.0)
    sigmoid = 1 / (1 + math.exp(-logit))
    expected = {Minimax(): sigmoid, NonSaturating(): 1 - sigmoid, Wasserstein(): 1.0}
    for loss, slope in expected.items():
        found = generator_gradient_norm(GAN(fakes, linear(weight, logit), loss), n=7)
        # 5 is the length of the weight; float32 keeps 1e-6 of a number of any size.
        assert found == pytest.approx(5 * slope, rel=1e-5)


def test_gradient_norm_is_over_all_parameters_together():
    generator = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    generator.latent_dim = 3
    game = GAN(generator, linear((1.0, -2.0)), NonSaturating())
    found = generator_gradient_norm(game, n=5, seed=3)
    torch.manual_seed(3)
    game.loss("generator", (torch.zeros(5, 2),))["adversarial"].backward()
    together = torch.cat([p.grad.flatten() for p in generator.parameters()])
    assert found == pytest.approx(together.norm().item(), rel=1e-5)


def test_measuring_leaves_no_trace():
    game = GAN(Shift(1.0), InstanceNoise(linear((1.0,)), 0.5), Minimax())
    torch.manual_seed(5)
    state = torch.get_rng_state()
    norms = [generator_gradient_norm(game, seed=seed) for seed in (0, 0, 1)]
    assert (torch.get_rng_state() == state).all()
    assert all(p.grad is None for p in game.parameters())
    assert norms[0] == norms[1] != norms[2]


# Instance noise


def test_instance_noise_has_its_standard_deviation_and_is_fresh():
    torch.manual_seed(0)
    noisy = InstanceNoise(nn.Identity(), 0.7)
    x = torch.full((20_000, 2), 3.0)
    first, second = noisy(x), noisy(x)
    # Standard deviations of 40,000 draws are off by 0.35 %: four of these.
    assert (first - x).std().item() == pytest.approx(0.7, rel=0.015)
    assert (first - second).std().item() == pytest.approx(0.7 * math.sqrt(2), rel=0.015)
    with pytest.raises(ValueError, match="std"):
        InstanceNoise(nn.Identity(), -0.1)


# Training against a frozen generator: data at 0, fakes at 1, a linear discriminator


def run(discriminator, losses, generator=None, **keywords):
    play = {"steps": 600, "every": 100, "lr": 0.05, "batch_size": 512} | keywords
    return trace(generator or Shift(1.0), discriminator, torch.zeros(512, 1), losses, **play)


def test_minimax_vanishes_and_non_saturating_grows():
    discriminator = linear((0.0,))
    losses = {"minimax": Minimax(), "non-saturating": NonSaturating()}
    norms = run(discriminator, losses, lr=0.3, steps=300, every=30).norms
    minimax, non_saturating = norms["minimax"][1:], norms["non-saturating"][1:]
    # Two separable points: the logits grow without end, and the minimax slope falls as their exponential.
    assert (np.diff(minimax) < 0).all() and minimax[-1] < minimax[0] / 10
    assert (np.diff(non_saturating) > 0).all()
    # One discriminator, one logit l: the slopes sigma(l) and sigma(-l) share its weight.
    weight = discriminator[0].weight.abs().item()
    assert minimax[-1] + non_saturating[-1] == pytest.approx(weight, rel=1e-5)  # float32


def test_instance_noise_ends_at_the_optimal_discriminators_gradient():
    norms = run(InstanceNoise(linear((0.0,)), 1.0), {"minimax": Minimax()}, lr=0.02).norms["minimax"]
    # Between N(0, 1) and N(1, 1) the optimal logit is log p/q = 1/2 - x, so the gradient at the fakes is
    # E sigma(1/2 - x) for x from N(1, 1), which is E sigma(-1/2 + e).
    e = np.linspace(-8, 8, 4001)
    density = np.exp(-(e**2) / 2) / math.sqrt(2 * math.pi) * (e[1] - e[0])
    expected = np.sum(density / (1 + np.exp(0.5 - e)))
    # The logit's weights are learned from 512 samples a step, and the mean is over 256: some 5 % each.
    assert norms[-1] == pytest.approx(expected, rel=0.2)


def test_critic_with_penalty_ends_at_its_optimal_slope():
    norms = run(linear((0.0,)), {"w": Wasserstein()}, regularizers=[GradientPenalty(10.0)]).norms["w"]
    # w m + 10 (|w| - 1)^2 with fakes at m = 1 is least at w = -(1 + 1/20).
    assert norms[-1] == pytest.approx(1.05, rel=0.01)  # Adam's last steps are of the order of 0.1 %


def test_measures_before_the_first_step_and_at_every_interval():
    discriminator = linear((0.5,), bias=-1.0)
    record = run(discriminator, {"w": Wasserstein()}, steps=7, every=3)
    assert record.steps == [0, 3, 6, 7]
    assert record.norms["w"][0] == pytest.approx(0.5)


def test_only_the_discriminator_moves(images):
    (generator,) = snapshots(images, [1], width=2, latent_dim=4)
    before = copy.deepcopy(generator.state_dict())
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    weights = discriminator[1].weight.detach().clone()
    trace(generator, discriminator, images, {"minimax": Minimax()}, steps=3, every=1, batch_size=16)
    assert (discriminator[1].weight != weights).all()
    for name, tensor in generator.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} moved"


def test_frozen_generator_stays_in_evaluation_mode(images):
    (generator,) = snapshots(images, [1], width=2, latent_dim=4)
    game = FrozenGeneratorGame(generator, linear((1.0,)), Minimax())
    game.train()
    assert game.discriminator.training
    assert not any(module.training for module in game.generator.modules())
    assert list(game.turns) == ["discriminator"]


def test_snapshots_are_stations_of_one_training(images):
    first, second = snapshots(images, [1, 3], width=2, latent_dim=4)
    (alone,) = snapshots(images, [3], width=2, latent_dim=4)
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), alone.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), alone.parameters(), strict=True))


def test_the_comparison_is_reproducible(images):
    (generator,) = snapshots(images, [2], width=2, latent_dim=4)
    torch.manual_seed(9)
    state = torch.get_rng_state()
    records = [vanishing(generator, images, width=2, steps=4, every=2, seed=s) for s in (0, 0, 1)]
    assert records[0] == records[1] != records[2]
    assert (torch.get_rng_state() == state).all()
    assert records[0].steps == [0, 2, 4]
    assert list(records[0].norms) == [
        "minimax",
        "non-saturating",
        "minimax, instance noise 8",
        "Wasserstein, gradient penalty",
    ]
    assert all(len(norms) == 3 for norms in records[0].norms.values())


def test_losses_must_be_named():
    with pytest.raises(ValueError, match="losses"):
        run(linear((0.0,)), {})
