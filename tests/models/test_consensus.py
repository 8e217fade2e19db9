"""Consensus optimization: the two-parameter theory, finite differences for both players, who gets what."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

from ganlib.losses import R1, Minimax, NonSaturating, RelativisticPairing, Wasserstein
from ganlib.models.consensus import ConsensusGAN
from ganlib.models.gan import GAN
from ganlib.theory import games


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


ZEROS = (torch.zeros(3, 1, dtype=torch.float64),)
# The theory's discriminator is large on fakes: its psi is minus ours.
THEORY = [
    (Wasserstein(), games.WASSERSTEIN),
    (Minimax(), games.MINIMAX),
    (NonSaturating(), games.NON_SATURATING),
]


def direction(game: GAN) -> np.ndarray:
    """Minus each player's gradient in its own turn, in the theory's coordinates."""
    found = []
    for player in ("generator", "discriminator"):
        game.zero_grad()
        sum(game.loss(player, ZEROS).values()).backward()
        (parameter,) = game.players[player].parameters()
        found.append(-parameter.grad.item())
    return np.array([found[0], -found[1]])


@pytest.mark.parametrize(("loss", "theory"), THEORY, ids=["bilinear", "minimax", "non-saturating"])
@pytest.mark.parametrize(("theta", "psi"), [(0.7, 0.4), (-1.2, 0.8), (0.0, 1.5), (2.0, -0.1)])
def test_field_on_the_dirac_game_is_the_theorys(loss, theory, theta, psi):
    """v - w J^T v, whose Jacobian is written out by hand in ganlib.theory.games."""
    game = ConsensusGAN(Point(theta), Slope(-psi), loss, weight=0.6)
    wanted = games.Consensus(games.DiracGAN(theory), 0.6).field(np.array([theta, psi]))
    np.testing.assert_allclose(direction(game), wanted, rtol=1e-10, atol=1e-12)


def test_bilinear_by_hand():
    """L_D = psi theta, L_G = -psi theta: v = (theta, -psi), half its square (theta^2 + psi^2) / 2, and each
    player's share of the gradient is its own parameter."""
    theta, psi, weight = 0.7, 0.4, 3.0
    game = ConsensusGAN(Point(theta), Slope(psi), Wasserstein(), weight=weight)
    for player, adversarial, own in (("discriminator", theta, psi), ("generator", -psi, theta)):
        game.zero_grad()
        terms = game.loss(player, ZEROS)
        assert list(terms) == ["adversarial", "consensus"]
        assert terms["consensus"].item() == pytest.approx(weight * (theta**2 + psi**2) / 2, rel=1e-12)
        sum(terms.values()).backward()
        (parameter,) = game.players[player].parameters()
        assert parameter.grad.item() == pytest.approx(adversarial + weight * own, rel=1e-12)


def play(game: GAN, rounds: int = 200, rate: float = 0.1) -> list[float]:
    """Distances from the equilibrium under alternating gradient descent."""
    distances = []
    for _ in range(rounds):
        for player in game.turns:
            game.zero_grad()
            sum(game.loss(player, ZEROS).values()).backward()
            with torch.no_grad():
                for parameter in game.players[player].parameters():
                    parameter -= rate * parameter.grad
        distances.append(sum(p.item() ** 2 for p in game.parameters()) ** 0.5)
    return distances


@pytest.mark.parametrize("loss", [Wasserstein(), NonSaturating()], ids=["bilinear", "non-saturating"])
def test_converges_on_the_dirac_game_where_the_plain_gan_circles(loss):
    circling = play(GAN(Point(1.0), Slope(1.0), loss))
    converging = play(ConsensusGAN(Point(1.0), Slope(1.0), loss, weight=1.0))
    assert min(circling[-50:]) > 0.5
    assert converging[-1] < 1e-2


# Networks


def networks() -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2)).double()
        generator.latent_dim = 2
        critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0)).double()
    return generator, critic


def drawn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


REAL, LATENT = drawn(6, 2, seed=1), drawn(6, 2, seed=2)


@pytest.mark.parametrize("loss", [NonSaturating(), Wasserstein(), RelativisticPairing()])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradient_by_finite_differences(loss, player, monkeypatch):
    """Half of |v|^2, with v itself by autograd on an ordinary graph, differentiated numerically."""
    game = ConsensusGAN(*networks(), loss, weight=1.0)
    monkeypatch.setattr(game, "latent", lambda n: LATENT)
    names = [name for name, _ in game.players[player].named_parameters()]

    def half_square(*parameters: torch.Tensor) -> torch.Tensor:
        weights = {name: dict(module.named_parameters()) for name, module in game.players.items()}
        weights[player] = dict(zip(names, parameters, strict=True))
        fake = functional_call(game.generator, weights["generator"], (LATENT,))
        on_real, on_fake = (
            functional_call(game.discriminator, weights["discriminator"], (x,)) for x in (REAL, fake)
        )
        sides = (on_fake, on_real) if isinstance(loss, RelativisticPairing) else (on_fake,)
        pairs = (
            (loss.discriminator(on_real, on_fake), weights["discriminator"]),
            (loss.generator(*sides), weights["generator"]),
        )
        gradients = [torch.autograd.grad(value, list(w.values()), create_graph=True) for value, w in pairs]
        return sum(g.square().sum() for side in gradients for g in side) / 2

    own = tuple(p.detach().clone().requires_grad_() for p in game.players[player].parameters())
    assert torch.autograd.gradcheck(half_square, own)
    # Wasserstein's |v|^2 does not change with the critic's last bias.
    wanted = torch.autograd.grad(half_square(*own), own, allow_unused=True, materialize_grads=True)
    term = game.loss(player, (REAL,))["consensus"]
    torch.testing.assert_close(term, half_square(*own))
    term.backward()
    for parameter, gradient in zip(game.players[player].parameters(), wanted, strict=True):
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, gradient)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_go_to_the_player_alone(player):
    """Though the term holds the other player's gradient too."""
    game = ConsensusGAN(*(module.float() for module in networks()), NonSaturating(), [R1()])
    sum(game.loss(player, (REAL.float(),)).values()).backward()
    for name, module in game.players.items():
        for parameter in module.parameters():
            assert parameter.requires_grad
            assert (parameter.grad is not None) == (name == player)


def test_both_players_pay_for_both_gradients():
    """Beside a flat discriminator the generator's own gradient vanishes, and yet it pays for the other's."""
    game = ConsensusGAN(Point(0.5), Slope(0.0), Wasserstein(), weight=2.0)
    for player in game.turns:
        assert game.loss(player, ZEROS)["consensus"].item() == pytest.approx(0.25, rel=1e-12)


def test_weight_zero_is_the_plain_game(monkeypatch):
    real = REAL.float()
    for player in ("discriminator", "generator"):
        gradients = []
        for make in (lambda *a: ConsensusGAN(*a, weight=0.0), GAN):
            game = make(*(module.float() for module in networks()), NonSaturating())
            monkeypatch.setattr(game, "latent", lambda n: LATENT.float())
            sum(game.loss(player, (real,)).values()).backward()
            gradients.append([p.grad for p in game.players[player].parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_default_weight_and_refusal():
    assert ConsensusGAN(*networks(), NonSaturating()).weight == 10.0
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        ConsensusGAN(*networks(), NonSaturating(), weight=-1.0)
