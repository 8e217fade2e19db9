"""The lab's game is what its arguments say, and what it shows is what autograd, POT and closed forms say."""

import math

import numpy as np
import ot
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganlib.data import toy
from ganlib.losses import R1, GradientPenalty, Minimax, NonSaturating, Wasserstein
from ganlib.models import lab
from ganlib.models.gan import GAN
from ganlib.models.unrolled import UnrolledGAN
from ganlib.training import Trainer


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def trainer(game, target=None, **options):
    data = lab.lab_data(target or toy.ring(std=0.1), 2048)
    return Trainer(game, data, lab.lab_settings(**options), progress=False, accelerator="cpu")


class Linear(nn.Module):
    """D(x) = a . x + b, whose every derivative is known."""

    def __init__(self, a, b):
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))
        self.b = nn.Parameter(torch.tensor(float(b)))

    def forward(self, x):
        return x @ self.a + self.b


class Affine(nn.Module):
    """G(z) = M z + m."""

    latent_dim = 2

    def __init__(self, matrix, shift):
        super().__init__()
        self.register_buffer("matrix", torch.tensor(matrix))
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, z):
        return z @ self.matrix.T + self.shift


def by_hand(loss, a=(0.6, -0.8), b=0.3, matrix=((2.0, 0.0), (0.0, 0.5)), shift=(1.0, -1.0)):
    return GAN(Affine(matrix, shift), Linear(a, b), loss)


# The game


def test_one_seed_gives_one_generator_whatever_the_rest():
    plain = lab.lab_game(NonSaturating(), seed=3)
    for other in (
        lab.lab_game(Wasserstein(), [GradientPenalty()], n_critic=5, seed=3),
        lab.lab_game(Minimax(), spectral=True, seed=3),
        lab.lab_game(Minimax(), unrolled=2, seed=3),
    ):
        for mine, theirs in zip(plain.generator.parameters(), other.generator.parameters(), strict=True):
            assert torch.equal(mine, theirs)
    another = lab.lab_game(NonSaturating(), seed=4)
    assert not torch.equal(plain.generator.layers[0].weight, another.generator.layers[0].weight)


def test_the_global_random_state_stays():
    before = torch.get_rng_state()
    lab.lab_data(toy.ring())
    lab.lab_game(NonSaturating(), spectral=True)
    assert torch.equal(torch.get_rng_state(), before)


def test_spectral_layers_stretch_by_at_most_one():
    game = lab.lab_game(Wasserstein(), spectral=True)
    with torch.no_grad():
        for _ in range(200):  # each pass in training mode is one power iteration
            game.discriminator(torch.zeros(1, 2))
    with game.evaluating():
        weights = [m.weight for m in game.discriminator.layers if hasattr(m, "weight")]
    assert len(weights) == 4
    for weight in weights:
        # Neighbouring singular values of a random matrix are close, and power iteration is slow between them.
        assert np.linalg.norm(weight.numpy(), 2) == pytest.approx(1, abs=0.01)


def test_clipping_holds_after_every_step_and_with_any_loss():
    game = lab.lab_game(NonSaturating(), clip=0.05)
    trainer(game).fit(3)
    largest = max(p.abs().max().item() for p in game.discriminator.parameters())
    assert largest == pytest.approx(0.05)  # default weights are up to 0.7: some sit at the bound
    assert max(p.abs().max().item() for p in game.generator.parameters()) > 0.05


def test_unrolled_and_penalties_are_passed_on():
    game = lab.lab_game(NonSaturating(), unrolled=3)
    assert isinstance(game, UnrolledGAN)
    assert game.steps == 3
    game = lab.lab_game(Wasserstein(), [R1(0.1)], n_critic=4)
    assert game.turns == {"discriminator": 4, "generator": 1}
    assert [type(penalty) for penalty in game.regularizers] == [R1]


def test_the_generator_moves_onto_the_target():
    """A quick job for a GAN: a blob of std 0.3, 1.5 away from where the generator begins."""
    target, game = toy.Mixture(torch.tensor([[1.5, 0.0]]), 0.3), lab.lab_game(NonSaturating())
    real = target.sample(512, rng(1))
    before = lab.wasserstein(game.sample(512, rng()), real)
    trainer(game, target).fit(150)
    after = lab.wasserstein(game.sample(512, rng()), real)
    assert before == pytest.approx(1.5, abs=0.5)  # it begins as a small blob near the origin
    assert after < before / 3


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: lab.lab_game(NonSaturating(), clip=0.1, unrolled=2), "clip and unrolled"),
        (lambda: lab.lab_game(NonSaturating(), clip=0.0), "clip must"),
        (lambda: lab.lab_game(NonSaturating(), unrolled=-1), "steps"),
        (lambda: lab.lab_game(NonSaturating(), n_critic=0), "n_critic"),
        (lambda: lab.lab_settings(0.0, 1e-3), "lr_discriminator"),
        (lambda: lab.lab_settings(1e-3, math.nan), "lr_generator"),
        (lambda: lab.sheet(lab.lab_game(NonSaturating(), latent_dim=3)), "dimension 2"),
        (lambda: lab.score(torch.zeros(0, 2), toy.ring(), torch.zeros(3, 2)), "fake and real"),
    ],
)
def test_bad_input_is_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()


# What is shown


def test_surface_has_x_to_the_right_and_y_upwards():
    game = by_hand(NonSaturating())
    surface = lab.surface(game, 2.0, 4)
    centres = np.array([-1.5, -0.5, 0.5, 1.5])  # of four cells on [-2, 2]
    expected = 0.6 * centres[None, :] - 0.8 * centres[:, None] + 0.3
    np.testing.assert_allclose(surface.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("loss", "slope"),
    [
        # d loss / d logit of one sample: Goodfellow et al. 2014, eq. 1 and section 3.
        (Minimax(), lambda logit: -torch.sigmoid(logit)),
        (NonSaturating(), lambda logit: -torch.sigmoid(-logit)),
        (Wasserstein(), lambda logit: -torch.ones_like(logit)),
    ],
)
def test_pull_is_minus_the_slope_of_each_samples_own_loss(loss, slope):
    game = by_hand(loss)
    points = torch.randn(7, 2, generator=rng())
    logits = points @ torch.tensor([0.6, -0.8]) + 0.3
    expected = -slope(logits)[:, None] * torch.tensor([0.6, -0.8])
    torch.testing.assert_close(lab.pull(game, points), expected)
    assert all(p.grad is None for p in game.parameters())
    assert game.training


def test_pull_of_a_network_by_finite_differences():
    game = lab.lab_game(NonSaturating(), spectral=True).double()
    point = torch.tensor([[0.4, -0.7]], dtype=torch.float64)
    with game.evaluating():
        values = [
            game.adversarial.generator(game.discriminator(point + 1e-5 * torch.tensor(step))).item()
            for step in ([1.0, 0], [-1.0, 0], [0, 1.0], [0, -1.0])
        ]
    expected = -np.array([values[0] - values[1], values[2] - values[3]]) / 2e-5
    # Central differences in float64: truncation 1e-10, rounding 1e-11.
    np.testing.assert_allclose(lab.pull(game, point)[0].numpy(), expected, rtol=1e-5, atol=1e-9)


def test_the_cells_of_the_sheet_are_equally_likely():
    """An affine generator: the corners are the quantiles stretched, and each column holds its share."""
    game = by_hand(NonSaturating())
    corners = lab.sheet(game, cells=4, edge=0.1)
    assert corners.shape == (5, 5, 2)
    quantiles = torch.tensor(
        [-1.281552, -0.524401, 0.0, 0.524401, 1.281552]
    )  # tables of the normal at 0.1, 0.3 ...
    torch.testing.assert_close(corners[:, 2, 0], 2 * quantiles + 1, atol=1e-5, rtol=0)
    torch.testing.assert_close(corners[2, :, 1], 0.5 * quantiles - 1, atol=1e-5, rtol=0)
    samples = game.sample(20_000, rng(3))
    inside = torch.histogram(samples[:, 0], corners[:, 2, 0].contiguous()).hist / 20_000
    # 0.2 each, four standard errors of a share of 20,000.
    torch.testing.assert_close(inside, torch.full((4,), 0.2), atol=4 * math.sqrt(0.16 / 20_000), rtol=0)


# Scores


def test_coverage_by_hand():
    target = toy.ring(4, radius=1.0, std=0.1)  # (1, 0), (0, 1), (-1, 0), (0, -1); discs of radius 0.3
    fake = torch.tensor([[1.29, 0], [1.31, 0], [0, 1], [0.2, 1.2], [0, 0]])
    quality, modes = lab.coverage(fake, target)
    assert quality == pytest.approx(3 / 5)
    assert modes == 2
    assert lab.coverage(torch.zeros(3, 2), target) == (0.0, 0)
    assert lab.coverage(torch.zeros(3, 2), toy.two_lines())[1] is None


def test_a_perfect_generator_scores_what_the_target_scores():
    target = toy.ring(std=0.1)
    fake, real = target.sample(4000, rng(1)), target.sample(4000, rng(2))
    perfect = lab.score(fake, target, real)
    # 1 - exp(-9/2), four standard errors of a share of 4,000.
    assert perfect.quality == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.011 / 4000))
    assert perfect.modes == 8
    shifted = lab.score(fake + torch.tensor([3.0, 4.0]), target, real)
    # Moving everything by v costs |v| = 5, up to what the two samples differ by themselves.
    assert shifted.w1 == pytest.approx(5, abs=perfect.w1)
    assert perfect.w1 < 0.5
    assert shifted.jsd == pytest.approx(math.log(2), abs=0.01)
    assert perfect.jsd < 0.1


@settings(deadline=None, max_examples=20)
@given(st.integers(2, 30), st.integers(0, 2**31))
def test_wasserstein_in_one_dimension_is_the_sorted_difference(n, seed):
    x, y = torch.randn(2, n, generator=rng(seed), dtype=torch.float64)
    on_a_line = [torch.stack([v, torch.zeros(n, dtype=torch.float64)], 1) for v in (x, y)]
    expected = (x.sort().values - y.sort().values).abs().mean().item()
    # cdist loses about half of float64's digits to a difference of squares for larger sets.
    assert lab.wasserstein(*on_a_line) == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(float(ot.wasserstein_1d(x.numpy(), y.numpy())))


def test_histogram_jsd_by_hand():
    # Two bins a side on [-1, 1]^2. Real: a quarter in each cell. Fake: half in each of two cells.
    real = torch.tensor([[-1.0, -1], [-1, 1], [1, -1], [1, 1]])
    fake = torch.tensor([[-0.5, -0.5], [-0.5, 7.0]])  # what lies outside counts at the border
    m = [3 / 8, 3 / 8, 1 / 8, 1 / 8]
    kl_fake = sum(0.5 * math.log(0.5 / m[i]) for i in (0, 1))
    kl_real = sum(0.25 * math.log(0.25 / m[i]) for i in range(4))
    assert lab.histogram_jsd(fake, real, bins=2) == pytest.approx((kl_fake + kl_real) / 2)
    assert lab.histogram_jsd(real, real) == 0
