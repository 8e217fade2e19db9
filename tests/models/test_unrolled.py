"""The unrolled generator's gradient: a closed form, finite differences, and who receives it."""

import copy

import pytest
import torch
from torch import nn

from ganlib import systems
from ganlib.losses import NonSaturating, Wasserstein
from ganlib.models.gan import GAN
from ganlib.models.unrolled import UnrolledGAN
from ganlib.training import Budget


class Point(nn.Module):
    """A generator whose every sample is theta."""

    latent_dim = 1

    def __init__(self, theta: float) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta], dtype=torch.float64))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.theta.expand(len(z), 1)


class Slope(nn.Module):
    """D(x) = psi x."""

    def __init__(self, psi: float) -> None:
        super().__init__()
        self.psi = nn.Parameter(torch.tensor(psi, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.psi * x.flatten()


def networks(inputs: int = 2) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, inputs)).double()
        generator.latent_dim = 3
        critic = nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)).double()
    return generator, critic


def reals(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_gradient_on_the_dirac_game_is_exact(steps):
    """Wasserstein, D = psi x, data at 0: psi_K = psi - K eta theta, so that L_G = -(psi - K eta theta) theta
    and its derivative is -psi + 2 K eta theta. Without the graph through the updates it would be
    -psi + K eta theta."""
    theta, psi, rate = 0.7, 0.4, 0.3
    game = UnrolledGAN(Point(theta), Slope(psi), Wasserstein(), steps=steps, rate=rate)
    (loss,) = game.loss("generator", (torch.zeros(5, 1, dtype=torch.float64),)).values()
    loss.backward()
    ahead = steps * rate * theta
    assert loss.item() == pytest.approx(-(psi - ahead) * theta, abs=1e-12)
    assert game.generator.theta.grad.item() == pytest.approx(-psi + 2 * ahead, abs=1e-12)
    assert game.discriminator.psi.grad is None and game.discriminator.psi.item() == psi


def test_gradient_by_finite_differences():
    generator, critic = networks()
    game = UnrolledGAN(generator, critic, NonSaturating(), steps=3, rate=0.5)
    latents = torch.randn(8, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    names = [name for name, _ in generator.named_parameters()]

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        fake = torch.func.functional_call(generator, dict(zip(names, parameters, strict=True)), (latents,))
        logits = torch.func.functional_call(critic, game.unrolled(reals(), fake), (fake,))
        return game.adversarial.generator(logits)

    assert torch.autograd.gradcheck(loss, tuple(generator.parameters()))


def test_updates_are_those_of_an_optimizer():
    """K functional updates equal K steps of torch's SGD on a copy."""
    generator, critic = networks()
    game = UnrolledGAN(generator, critic, NonSaturating(), steps=3, rate=0.5)
    fake = generator(reals().new_ones(8, 3)).detach()
    twin = copy.deepcopy(critic)
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        game.adversarial.discriminator(twin(reals()), twin(fake)).backward()
        optimizer.step()
    found = game.unrolled(reals(), fake)
    for name, parameter in twin.named_parameters():
        torch.testing.assert_close(found[name].detach(), parameter.detach())


def test_turns_move_their_own_player():
    generator, critic = (module.float() for module in networks())
    game = UnrolledGAN(generator, critic, NonSaturating(), steps=2)
    for player in game.turns:
        game.zero_grad()
        sum(game.loss(player, (reals().float(),)).values()).backward()
        for name, module in game.players.items():
            got = [p.grad is not None and bool(p.grad.any()) for p in module.parameters()]
            assert all(got) if name == player else not any(got)


def test_no_step_ahead_is_the_plain_game():
    generator, critic = (module.float() for module in networks())
    losses = []
    for game in (
        UnrolledGAN(generator, critic, NonSaturating(), steps=0),
        GAN(generator, critic, NonSaturating()),
    ):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            losses.append(game.loss("generator", (reals().float(),))["adversarial"])
    assert torch.equal(*losses)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"steps": -1}, "steps must not be negative, got -1"), ({"rate": 0.0}, "rate must be positive, got 0")],
)
def test_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        UnrolledGAN(*networks(), NonSaturating(), **arguments)


def test_refuses_batch_norm():
    generator, critic = networks()
    with pytest.raises(ValueError, match="must not hold batch norm"):
        UnrolledGAN(generator, nn.Sequential(nn.BatchNorm1d(2), critic), NonSaturating())


def test_system_looks_five_steps_ahead_on_a_ring_of_eight():
    experiment = systems.get("unrolled-gan").experiment(Budget.SMOKE)
    assert isinstance(experiment.game, UnrolledGAN) and experiment.game.steps == 5
    (points,) = experiment.data
    assert points.shape == (1000, 2)
    # eight modes, each with an eighth of the points: the authors' published ring has one of them twice
    angles = torch.atan2(points[:, 1], points[:, 0]) / (2 * torch.pi) * 8
    shares = torch.bincount(angles.round().long() % 8, minlength=8) / 1000
    assert shares.max() < 0.125 + 5 * (0.125 * 0.875 / 1000) ** 0.5  # five standard errors
    assert set(experiment.evaluate(experiment.game)) == {"modes", "quality", "reverse_kl"}
