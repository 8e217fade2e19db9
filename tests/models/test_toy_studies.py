"""The studies of the plane: modes, value surfaces, and critics against the exact Wasserstein distance."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ganlib import studies
from ganlib.data.toy import ring
from ganlib.layers import Packed
from ganlib.losses import GradientPenalty, Wasserstein
from ganlib.models.mrgan import ModeRegularizedGAN
from ganlib.models.unrolled import UnrolledGAN
from ganlib.studies import mode_collapse, value_surfaces, wasserstein
from ganlib.theory.transport import lipschitz_upper_bound
from ganlib.training import Budget

# Mode collapse


def cells(name: str) -> dict[str, studies.Cell]:
    return {cell.name: cell for cell in studies.get(name).cells(Budget.SMOKE)}


def test_targets_are_the_published_ones():
    """Radius 1, sigma 0.01, eight different modes; -4 to 4 in steps of 2, sigma 0.05."""
    circle, square = mode_collapse.TARGETS["ring"], mode_collapse.TARGETS["grid"]
    assert circle.std == 0.01 and square.std == 0.05
    torch.testing.assert_close(circle.centres.norm(dim=1), torch.ones(8, dtype=torch.float64))
    # Metz's published ring repeats an end point: eight modes of which two are one.
    assert torch.pdist(circle.centres).min() == pytest.approx(2 * math.sin(math.pi / 8))
    assert set(map(tuple, square.centres.tolist())) == {
        (x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)
    }


def test_each_method_is_its_own_mechanism_on_the_same_networks():
    games = {method: mode_collapse.game(method, 8, 4) for method in mode_collapse.METHODS}
    for m in (2, 3, 4):
        packed = games[f"pacgan{m}"].discriminator
        assert isinstance(packed, Packed) and packed.m == m
        assert packed(torch.zeros(12, 2)).shape == (12 // m,)
    assert isinstance(games["unrolled"], UnrolledGAN) and games["unrolled"].steps == 5
    assert isinstance(games["mrgan"], ModeRegularizedGAN)
    assert games["minibatch-discrimination"].separate_passes and not games["gan"].separate_passes
    assert isinstance(games["wgan-gp"].adversarial, Wasserstein)
    assert [type(r) for r in games["wgan-gp"].regularizers] == [GradientPenalty]
    sizes = {sum(p.numel() for p in game.generator.parameters()) for game in games.values()}
    assert len(sizes) == 1
    with pytest.raises(ValueError, match=r"method must be one of gan, .*, got 'vae'"):
        mode_collapse.game("vae", 8, 4)


@pytest.mark.parametrize("cell", ["ring-gan", "grid-pacgan2", "ring-unrolled", "ring-mrgan"])
def test_mode_collapse_runs(cell):
    first, again = (cells("mode-collapse")[cell].run(3) for _ in range(2))
    assert {"modes", "quality", "reverse_kl"} <= set(first.figures)
    assert first.arrays["points"].shape == (500, 2) and first.arrays["points"].dtype == torch.float16
    # A seed fixes the run, all but its seconds.
    assert torch.equal(first.arrays["points"], again.arrays["points"])
    other = cells("mode-collapse")[cell].run(4)
    assert not torch.equal(first.arrays["points"], other.arrays["points"])


# Value surfaces


def test_fakes_are_the_data_plus_unit_noise():
    """Every coordinate of the noise has variance 1 and so adds 1 to that of the ring, r^2 / 2."""
    real, fake = value_surfaces.pairs(ring(8, math.sqrt(2), 0.01), 50_000, 0)
    # five standard errors: the variance of a sample variance is about 2 sigma^4 / n at most
    assert real.var(0).tolist() == pytest.approx([1, 1], abs=5 * math.sqrt(2 / 50_000))
    assert fake.var(0).tolist() == pytest.approx([2, 2], abs=5 * 2 * math.sqrt(2 / 50_000))


def test_the_critic_alone_learns_and_clipping_holds():
    torch.manual_seed(0)
    game = value_surfaces.CriticGame(value_surfaces.relu_critic(2, 8), clip=0.03)
    real, fake = value_surfaces.pairs(ring(), 16, 0)
    (loss,) = game.loss("discriminator", (real, fake)).values()
    critic = game.discriminator
    assert loss.item() == pytest.approx((critic(fake).mean() - critic(real).mean()).item(), abs=1e-6)
    assert game.estimate(real, fake) == pytest.approx(-loss.item(), abs=1e-6)
    game.after_step("discriminator")
    assert max(p.abs().max().item() for p in critic.parameters()) <= 0.03 + 1e-9
    assert value_surfaces.share_at_bound(critic, 0.03) > 0.5
    free = value_surfaces.CriticGame(value_surfaces.relu_critic(2, 8))
    before = [p.detach().clone() for p in free.parameters()]
    free.after_step("discriminator")
    assert all(torch.equal(a, b) for a, b in zip(before, free.parameters(), strict=True))


def test_share_at_bound_by_hand():
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[0.1, -0.1, 0.05]]))
        layer.bias.fill_(0.0985)
    assert value_surfaces.share_at_bound(layer, 0.1) == 0.5


def test_penalty_joins_any_real_with_any_fake(monkeypatch):
    """The rows of a batch belong together; for the penalty their partners must change."""
    seen = []

    def penalty(critic: nn.Module, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
        seen.append((real, fake))
        return real.sum() * 0

    penalty.name = "penalty"
    torch.manual_seed(0)
    real = torch.arange(32.0).view(16, 2)
    game = value_surfaces.CriticGame(value_surfaces.relu_critic(2, 4), [penalty])
    game.loss("discriminator", (real, real + 100))
    ((x, y),) = seen
    assert torch.equal(x, real) and not torch.equal(y, real + 100)
    assert torch.equal(y.sort(0).values, real + 100)


@pytest.mark.parametrize("cell", ["8-gaussians-clipping", "swiss-roll-penalty"])
def test_value_surfaces_run(cell):
    outcome = cells("value-surfaces")[cell].run(0)
    assert ("at_bound" in outcome.figures) is ("clipping" in cell)
    surface = outcome.arrays["surface"]
    assert surface.shape == (64, 64) and surface.dtype == torch.float16
    assert surface.abs().max() == 1


# Critics against the exact distance


class Linear(nn.Module):
    """x -> s x_1."""

    def __init__(self, s: float) -> None:
        super().__init__()
        self.s = s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.s * x.flatten(1)[:, 0]


def test_a_perfect_critic_reaches_the_distance():
    """Sets shifted by 3 along the first axis: W1 = 3, and -x_1 attains it. Twice as steep it says 6, and
    divided by its slope 3 again."""
    real = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    found = wasserstein.bounds(Linear(-2.0), real, real + torch.tensor([3.0, 0.0]))
    # float32 points and scores
    assert found["w1"] == pytest.approx(3, abs=1e-5)
    assert found["estimate"] == pytest.approx(6, abs=1e-5)
    assert found["lipschitz"] == pytest.approx(2, abs=1e-4)
    assert found["certified"] == pytest.approx(3, abs=1e-3)
    assert found["transformed"] == pytest.approx(3, abs=1e-3)


@pytest.mark.parametrize("method", wasserstein.METHODS)
def test_bounds_are_bounds(method):
    """Untrained critics of every kind: certified <= transformed <= W1, which scipy's assignment gives."""
    from scipy.optimize import linear_sum_assignment

    real, fake = wasserstein.ring_and_noise(24, 1)
    torch.manual_seed(0)
    critic = wasserstein.critic_game(method, 2, 16).discriminator.eval()
    found = wasserstein.bounds(critic, real, fake)
    cost = torch.cdist(real.double(), fake.double(), compute_mode="donot_use_mm_for_euclid_dist").numpy()
    pairs = linear_sum_assignment(cost)
    assert found["w1"] == pytest.approx(cost[pairs].mean(), rel=1e-9)
    assert found["certified"] <= found["transformed"] + 1e-12 <= found["w1"] + 1e-9
    prices = critic(real).detach().double().numpy() / found["lipschitz"]
    best = [min(cost[i, j] - prices[i] for i in range(24)) for j in range(24)]
    assert found["transformed"] == pytest.approx(prices.mean() + np.mean(best), rel=1e-9)


def test_critics_are_held_as_their_names_say():
    torch.manual_seed(0)
    games = {method: wasserstein.critic_game(method, 2, 16) for method in wasserstein.METHODS}
    assert games["clipping"].clip == pytest.approx(0.32)
    assert all(games[m].clip is None for m in games if m != "clipping")
    assert [r.one_sided for r in games["penalty"].regularizers] == [False]
    assert [r.one_sided for r in games["one-sided"].regularizers] == [True]
    spectral = games["spectral"].discriminator
    x = torch.randn(200, 2)
    for parameter in spectral.parameters():
        parameter.data *= 5  # nothing that the norm could not undo
    for _ in range(50):  # each pass is a step of the power iterations
        spectral(x)
    scores = spectral.eval()(x).detach().double().numpy()
    slopes = np.abs(np.subtract.outer(scores, scores)) / (torch.cdist(x, x).double().numpy() + 1e-9)
    assert slopes.max() <= 1 + 1e-3  # 1-Lipschitz, but for the power iterations' last digits
    assert lipschitz_upper_bound(games["penalty"].discriminator) > 0
    with pytest.raises(ValueError, match=r"method must be one of clipping, .*, got 'none'"):
        wasserstein.critic_game("none", 2, 16)


def test_sets_are_disjoint_and_blurring_halves_nothing_but_detail():
    real, fake = wasserstein.two_sets_of_digits(16, 0)
    same, blurred = wasserstein.digits_and_blurred(16, 0)
    assert torch.equal(real, same) and blurred.shape == fake.shape == (16, 1, 32, 32)
    assert not any(torch.equal(a, b) for a in real for b in fake)
    blocks = torch.nn.functional.avg_pool2d(fake, 8).mean((1, 2, 3))
    # bilinear upsampling by 8 keeps the mean but for the clamped borders
    torch.testing.assert_close(blurred.mean((1, 2, 3)), blocks, atol=0.05, rtol=0)


@pytest.mark.parametrize("cell", ["ring-penalty", "digits-spectral"])
def test_wasserstein_estimate_runs(cell):
    figures = cells("wasserstein-estimate")[cell].run(0).figures
    assert figures["certified"] <= figures["transformed"] + 1e-9 <= figures["w1"] + 1e-6
    assert figures["ratio"] == pytest.approx(figures["estimate"] / figures["w1"])
