"""Adversarial losses: values against torch and scipy, gradients against closed forms, far into saturation."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_expit
from torch import nn
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from ganlib.losses import (
    EnergyMargin,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)

LATER = [LeastSquares(), LeastSquares.pearson(), Hinge(), EnergyMargin(1.5), RelativisticPairing()]
ALL = [Minimax(0.9, 0.1), NonSaturating(), Wasserstein(), *LATER]
SMOOTHED = [(1.0, 0.0), (0.9, 0.0), (0.9, 0.1), (0.7, 0.2)]
EXTREME = [-100.0, -40.0, -30.0, -20.0, -1.0, 0.0, 1.0, 20.0, 30.0, 40.0, 100.0]


def logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def name(loss: object) -> str:
    return type(loss).__name__


def sides(loss, real: torch.Tensor, fake: torch.Tensor):
    """Both sides of a loss with their inputs; the generator's are those that the loss asks for."""
    pairs = getattr(loss, "relativistic", False)
    return (loss.discriminator, (real, fake)), (loss.generator, (fake, real) if pairs else (fake,))


def gradient(loss, *inputs: torch.Tensor) -> list[torch.Tensor]:
    inputs = [x.clone().requires_grad_() for x in inputs]
    return list(torch.autograd.grad(loss(*inputs), inputs))


# Values


@pytest.mark.parametrize("loss", [Minimax, NonSaturating])
@pytest.mark.parametrize(("a", "b"), SMOOTHED)
def test_discriminator_is_binary_cross_entropy_on_probabilities(loss, a, b):
    real, fake = logits(7, seed=1), logits(11, seed=2)
    expected = binary_cross_entropy(real.sigmoid(), torch.full_like(real, a)) + binary_cross_entropy(
        fake.sigmoid(), torch.full_like(fake, b)
    )
    # float64 throughout: only rounding separates the two ways of writing it.
    torch.testing.assert_close(loss(a, b).discriminator(real, fake), expected, rtol=1e-12, atol=0)


def test_generator_values_against_scipy():
    fake = logits(50)
    minimax, flipped = Minimax().generator(fake), NonSaturating().generator(fake)
    # log(1 - sigma(l)) = log sigma(-l); scipy's log_expit is stable on its own.
    np.testing.assert_allclose(minimax.item(), log_expit(-fake.numpy()).mean(), rtol=1e-13)
    np.testing.assert_allclose(flipped.item(), -log_expit(fake.numpy()).mean(), rtol=1e-13)


def test_undecided_discriminator_scores_log_4():
    zeros = torch.zeros(5)
    assert Minimax().discriminator(zeros, zeros).item() == pytest.approx(math.log(4), rel=1e-6)
    assert Minimax().generator(zeros).item() == pytest.approx(-math.log(2), rel=1e-6)
    assert NonSaturating().generator(zeros).item() == pytest.approx(math.log(2), rel=1e-6)


def test_minimax_is_zero_sum_in_the_fakes():
    """Moving the fakes changes what D pays and what G pays by opposite amounts."""
    real, fake = logits(9, seed=3), logits(9, seed=4)
    (d,) = gradient(lambda f: Minimax().discriminator(real, f), fake)
    (g,) = gradient(Minimax().generator, fake)
    torch.testing.assert_close(d, -g)


def test_wasserstein_is_a_difference_of_means():
    real, fake = logits(4, seed=5), logits(6, seed=6)
    loss = Wasserstein()
    np.testing.assert_allclose(loss.discriminator(real, fake), fake.numpy().mean() - real.numpy().mean())
    np.testing.assert_allclose(loss.generator(fake), -fake.numpy().mean())
    # The scores have no natural zero: adding a constant to the critic changes nothing in D's loss.
    torch.testing.assert_close(loss.discriminator(real + 5, fake + 5), loss.discriminator(real, fake))


def test_drift_holds_the_critic_near_zero_on_real_data_alone():
    real, fake = logits(4, seed=5).requires_grad_(), logits(6, seed=6).requires_grad_()
    plain, loss = Wasserstein(), Wasserstein(drift=0.3)
    x = real.detach().numpy()
    extra = loss.discriminator(real, fake) - plain.discriminator(real, fake)
    np.testing.assert_allclose(extra.item(), 0.3 * (x**2).mean())
    on_real, on_fake = torch.autograd.grad(loss.discriminator(real, fake), (real, fake))
    np.testing.assert_allclose(on_real, -1 / 4 + 0.3 * 2 * x / 4)
    np.testing.assert_allclose(on_fake, np.full(6, 1 / 6))
    # Among critics that differ by a constant the loss now chooses: mean f = 0 on real data.
    shifts = [
        loss.discriminator(real + c, fake + c).item() for c in (-x.mean() - 0.1, -x.mean(), 0.1 - x.mean())
    ]
    assert shifts[1] < min(shifts[0], shifts[2])
    with pytest.raises(ValueError, match="drift must be at least 0, got -1"):
        Wasserstein(drift=-1)


# Gradients


@pytest.mark.parametrize("logit", EXTREME)
def test_generator_gradients_are_right_far_into_saturation(logit):
    """-sigma(l) and -sigma(-l), in float32: the second is -1 where the discriminator is surest."""
    fake = torch.tensor([logit])
    (saturating,) = gradient(Minimax().generator, fake)
    (flipped,) = gradient(NonSaturating().generator, fake)
    # float32 has 24 bits, of which a softplus may lose a few; below 1e-38 only zero is left.
    assert saturating.item() == pytest.approx(-expit(logit), rel=1e-5, abs=1e-38)
    assert flipped.item() == pytest.approx(-expit(-logit), rel=1e-5, abs=1e-38)


@pytest.mark.parametrize("logit", EXTREME)
@pytest.mark.parametrize(("a", "b"), SMOOTHED)
def test_discriminator_gradients_are_sigmoid_minus_label(logit, a, b):
    x = torch.tensor([logit])
    real, fake = gradient(Minimax(a, b).discriminator, x, x)
    # sigma - a cancels where the two are close: an absolute error of a float32 rounding is all one can ask.
    assert real.item() == pytest.approx(expit(logit) - a, rel=1e-5, abs=1e-7)
    assert fake.item() == pytest.approx(expit(logit) - b, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("logit", [20.0, 30.0, 40.0])
def test_unsmoothed_discriminator_keeps_its_tiny_gradients(logit):
    """sigma(l) - 1 = -sigma(-l) without the cancellation, where 1 - sigma rounds to 0 in float32."""
    real, fake = gradient(NonSaturating().discriminator, torch.tensor([logit]), torch.tensor([-logit]))
    assert real.item() == pytest.approx(-expit(-logit), rel=1e-5)
    assert fake.item() == pytest.approx(expit(-logit), rel=1e-5)


@pytest.mark.parametrize("value", [-100.0, 100.0, -1e4, 1e4])
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(0.9, 0.1), *ALL], ids=name)
def test_everything_stays_finite(loss, value):
    x = torch.full((3,), value)
    for side, inputs in (*sides(loss, x, x), *sides(loss, x, -x)):
        assert side(*inputs).isfinite()
        assert all(g.isfinite().all() for g in gradient(side, *inputs))


@pytest.mark.parametrize("loss", [Minimax(), *ALL], ids=name)
def test_gradients_by_finite_differences(loss):
    real, fake = logits(5, seed=7).requires_grad_(), logits(5, seed=8).requires_grad_()
    for side, inputs in sides(loss, real, fake):
        assert torch.autograd.gradcheck(side, inputs)


def test_wasserstein_gradients():
    real, fake = gradient(Wasserstein().discriminator, logits(4), logits(8))
    assert torch.equal(real, torch.full_like(real, -1 / 4)) and torch.equal(
        fake, torch.full_like(fake, 1 / 8)
    )
    (fake,) = gradient(Wasserstein().generator, logits(8))
    assert torch.equal(fake, torch.full_like(fake, -1 / 8))


@pytest.mark.parametrize("loss", [NonSaturating(0.9), *ALL], ids=name)
def test_both_inputs_receive_a_gradient_and_descent_separates_them(loss):
    """The signs: D's step raises real outputs and lowers fake ones, G's step raises fake ones; energies are
    the other way round."""
    # Between the codes of both kinds of least squares, within the margins, and below Pearson's target.
    outputs = torch.full((3,), -0.1 if isinstance(loss, LeastSquares) and loss.fake < 0 else 0.1)
    up = -1 if isinstance(loss, EnergyMargin) else 1
    (d, inputs), (g, given) = sides(loss, outputs, outputs)
    real, fake = gradient(d, *inputs)
    assert (up * real < 0).all() and (up * fake > 0).all()
    assert (up * gradient(g, *given)[0] < 0).all()


# Label smoothing


@pytest.mark.parametrize(("a", "b"), [(1.0, 0.0), (0.9, 0.0), (0.9, 0.1)])
@pytest.mark.parametrize(("p", "q"), [(0.8, 0.3), (0.2, 1.5)])
def test_optimal_output_under_smoothing(a, b, p, q):
    """With densities p, q at a point the best D there is (a p + b q) / (p + q) (Salimans et al. 2016)."""

    def risk(logit: float) -> float:
        x = torch.tensor([logit], dtype=torch.float64)
        real, fake = Minimax(a, b), Minimax(a, b)
        # The loss is linear in each side's density, so weigh the two sides apart.
        far = torch.tensor([0.0], dtype=torch.float64)
        real_part = real.discriminator(x, far) - real.discriminator(far, far)
        fake_part = fake.discriminator(far, x) - fake.discriminator(far, far)
        return p * real_part.item() + q * fake_part.item()

    optimum = minimize_scalar(risk, bounds=(-20, 20), method="bounded", options={"xatol": 1e-9}).x
    wanted = math.log((a * p + b * q) / ((1 - a) * p + (1 - b) * q))
    # A minimum is flat: its place is only determined to the square root of the value's precision.
    assert optimum == pytest.approx(wanted, abs=1e-6)


def test_one_sided_smoothing_leaves_the_fakes_alone():
    x = logits(6)
    (plain,) = gradient(lambda f: Minimax().discriminator(x, f), x)
    (smoothed,) = gradient(lambda f: Minimax(real_label=0.9).discriminator(x, f), x)
    assert torch.equal(plain, smoothed)


def test_smoothing_leaves_the_generator_alone():
    x = logits(6)
    assert torch.equal(NonSaturating(0.9, 0.1).generator(x), NonSaturating().generator(x))
    assert torch.equal(Minimax(0.9, 0.1).generator(x), Minimax().generator(x))


# Shapes, types, input


@pytest.mark.parametrize("loss", ALL, ids=name)
@pytest.mark.parametrize("shape", [(), (1,), (12, 1), (3, 1, 2, 2)])
def test_any_shape_gives_the_scalar_mean_over_all_elements(loss, shape):
    for side, inputs in sides(loss, logits(*shape, seed=1), logits(*shape, seed=2)):
        assert side(*inputs).shape == ()
        torch.testing.assert_close(side(*inputs), side(*(x.reshape(-1) for x in inputs)))


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_a_repeated_batch_costs_the_same(loss):
    """A mean, not a sum: the batch's size does not change the step."""
    for side, inputs in sides(loss, logits(8, seed=1), logits(8, seed=2)):
        torch.testing.assert_close(side(*(x.repeat(3) for x in inputs)), side(*inputs))


@pytest.mark.parametrize("loss", [x for x in ALL if not hasattr(x, "relativistic")], ids=name)
def test_sides_of_different_sizes_weigh_the_same(loss):
    real, fake = logits(8, seed=1), logits(8, seed=2)
    torch.testing.assert_close(
        loss.discriminator(real.repeat(3), fake.repeat(5)), loss.discriminator(real, fake)
    )


@pytest.mark.parametrize("loss", ALL, ids=name)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_outputs_are_averaged_in_float32(loss, dtype):
    """1,000 values: a bfloat16 mean could be off by 1 in 256, the float32 mean of them is exact to 1e-6."""
    real, fake = logits(1000, seed=1).to(dtype), logits(1000, seed=2).to(dtype)
    for side, inputs in sides(loss, real, fake):
        value = side(*inputs)
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), side(*(x.double() for x in inputs)), rtol=1e-5, atol=1e-6)
        assert all(g.dtype == dtype and g.isfinite().all() for g in gradient(side, *inputs))


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_autocast_agrees_with_float32(loss):
    """A discriminator under bfloat16, as the trainer runs it, and its loss."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        discriminator = nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    real, fake = logits(256, 8, seed=1).float(), logits(256, 8, seed=2).float() + 1
    exact = [side(*inputs) for side, inputs in sides(loss, discriminator(real), discriminator(fake))]
    with torch.autocast("cpu", torch.bfloat16):
        found = [side(*inputs) for side, inputs in sides(loss, discriminator(real), discriminator(fake))]
    # Outputs near 1 are off by 1 in 256 each way, at random: 256 of them average to far less than 0.01.
    torch.testing.assert_close(found, exact, rtol=0.01, atol=0.01)


def test_float32_against_torch():
    real, fake = logits(100, seed=1, dtype=torch.float32), logits(100, seed=2, dtype=torch.float32)
    expected = binary_cross_entropy_with_logits(real, torch.ones(100)) + binary_cross_entropy_with_logits(
        fake, torch.zeros(100)
    )
    torch.testing.assert_close(NonSaturating().discriminator(real, fake), expected)


@pytest.mark.parametrize(
    ("a", "b"),
    [(0.0, 0.0), (0.5, 0.5), (0.1, 0.9), (1.1, 0.0), (0.9, -0.1), (math.nan, 0.0), (1.0, math.nan)],
)
@pytest.mark.parametrize("loss", [Minimax, NonSaturating])
def test_impossible_labels_are_refused(loss, a, b):
    with pytest.raises(ValueError, match=r"real_label.*fake_label"):
        loss(a, b)


@pytest.mark.parametrize("loss", ALL, ids=name)
def test_empty_outputs_are_refused(loss):
    """The mean of nothing would be NaN."""
    some, none = torch.zeros(3, 1), torch.zeros(0, 1)
    paired = hasattr(loss, "relativistic")
    for real, fake in ((none, none),) if paired else ((none, some), (some, none)):
        with pytest.raises(ValueError, match=r"empty.*\(0, 1\)"):
            loss.discriminator(real, fake)
    with pytest.raises(ValueError, match=r"empty.*\(0, 1\)"):
        loss.generator(*((none, none) if paired else (none,)))


# Least squares


def counted(shares: list[int]) -> tuple[torch.Tensor, np.ndarray]:
    """A discrete distribution: the states of a batch that has it exactly, and its probabilities."""
    states = torch.repeat_interleave(torch.arange(len(shares)), torch.tensor(shares))
    return states, np.asarray(shares) / sum(shares)


P, Q = [5, 3, 2, 0], [1, 1, 2, 4]  # one state that only fakes have


def test_least_squares_by_hand():
    real, fake = torch.tensor([2.0, 0.0]), torch.tensor([1.0, -1.0])
    # (2-1)^2 and (0-1)^2, halved and averaged: 0.5; 1 and 1 alike: 0.5; (1-1)^2 and (-1-1)^2: 1.
    assert LeastSquares().discriminator(real, fake).item() == 1.0
    assert LeastSquares().generator(fake).item() == 1.0
    # a, b, c = -1, 1, 0: 0.5, then (1+1)^2 and (-1+1)^2: 1; 1 and 1: 0.5.
    assert LeastSquares.pearson().discriminator(real, fake).item() == 1.5
    assert LeastSquares.pearson().generator(fake).item() == 0.5


@pytest.mark.parametrize(("a", "b"), [(0.0, 1.0), (-1.0, 1.0), (0.3, -2.0)])
def test_optimal_least_squares_discriminator(a, b):
    """(b p + a q) / (p + q) in each state, found by scipy from values and gradients alone."""
    (x, p), (y, q) = counted(P), counted(Q)
    loss = LeastSquares(a, b)

    def risk(d: np.ndarray) -> tuple[float, np.ndarray]:
        outputs = torch.tensor(d, requires_grad=True)
        value = loss.discriminator(outputs[x], outputs[y])
        value.backward()
        return value.item(), outputs.grad.numpy()

    best = minimize(risk, np.zeros(4), jac=True, tol=1e-12).x
    np.testing.assert_allclose(best, (b * p + a * q) / (p + q), atol=1e-6)  # a flat minimum, as above


def test_pearson_codes_make_a_chi_square_divergence():
    """With the optimal D, G's loss and the same on real data (which G cannot move) make half of
    chi^2(p + q || 2 q) = sum (p - q)^2 / (p + q)."""
    (x, p), (y, q) = counted(P), counted(Q)
    optimal = torch.from_numpy((p - q) / (p + q))
    found = LeastSquares.pearson().generator(optimal[y]) + LeastSquares.pearson().generator(optimal[x])
    assert found.item() == pytest.approx(((p + q - 2 * q) ** 2 / (p + q)).sum() / 2, rel=1e-12)


def test_least_squares_pulls_at_fakes_that_cross_entropy_has_let_go():
    """A fake far on the real side: D - c, where the non-saturating loss has no slope left."""
    far = torch.tensor([30.0])
    assert gradient(LeastSquares().generator, far)[0].item() == 29.0
    assert abs(gradient(NonSaturating().generator, far)[0].item()) < 1e-12


@pytest.mark.parametrize(
    "codes", [{"fake": 1.0}, {"real": 0.0}, {"real": math.nan}, {"target": math.inf}, {"fake": -math.inf}]
)
def test_codes_that_tell_nothing_apart_are_refused(codes):
    with pytest.raises(ValueError, match="codes must be finite, real and fake distinct"):
        LeastSquares(**codes)


# Hinge


def test_least_hinge_loss_is_two_minus_twice_the_total_variation():
    """Over a grid of discriminators that holds the vertices -1 and 1 of this piecewise linear problem."""
    (x, p), (y, q) = counted(P), counted(Q)
    grid = torch.tensor(list(itertools.product([-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0], repeat=4)))
    values = torch.stack([Hinge().discriminator(d[x], d[y]) for d in grid])
    assert values.min().item() == pytest.approx(2 - np.abs(p - q).sum(), abs=1e-6)
    best = grid[values.argmin()].sign()
    decided = p != q
    assert torch.equal(best[decided], torch.from_numpy(np.sign(p - q)).float()[decided])


def test_hinge_ignores_samples_beyond_the_margin():
    real, fake = gradient(Hinge().discriminator, torch.tensor([1.5, 0.5]), torch.tensor([-1.5, -0.5, 7.0]))
    assert real.tolist() == [0.0, -0.5]
    torch.testing.assert_close(fake, torch.tensor([0.0, 1 / 3, 1 / 3]))
    assert torch.equal(*gradient(Hinge().generator, torch.tensor([-9.0, 9.0])), torch.full((2,), -0.5))


# Energies


def test_energy_margin_by_hand():
    real, fake = torch.tensor([1.0, 3.0]), torch.tensor([4.0, 11.0])
    loss = EnergyMargin(10.0)
    assert loss.discriminator(real, fake).item() == 2.0 + (6.0 + 0.0) / 2
    assert loss.generator(fake).item() == 7.5
    of_real, of_fake = gradient(loss.discriminator, real, fake)
    assert of_real.tolist() == [0.5, 0.5]
    assert of_fake.tolist() == [-0.5, 0.0], "a fake beyond the margin pushes no more"
    assert gradient(loss.generator, fake)[0].tolist() == [0.5, 0.5]


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_margin_must_be_positive(margin):
    with pytest.raises(ValueError, match="margin must be positive"):
        EnergyMargin(margin)


# Relativistic pairs


def test_relativistic_values_against_scipy():
    real, fake = logits(50, seed=1), logits(50, seed=2)
    loss, apart = RelativisticPairing(), (real - fake).numpy()
    np.testing.assert_allclose(loss.discriminator(real, fake), -log_expit(apart).mean(), rtol=1e-13)
    np.testing.assert_allclose(loss.generator(fake, real), -log_expit(-apart).mean(), rtol=1e-13)


def test_relativistic_losses_see_differences_alone():
    """Of pairs: a shift of both changes nothing, another pairing does."""
    real, fake = logits(6, seed=1), logits(6, seed=2)
    loss = RelativisticPairing()
    for side, inputs in sides(loss, real, fake):
        torch.testing.assert_close(side(*(x + 5 for x in inputs)), side(*inputs))
        assert not torch.isclose(side(inputs[0], inputs[1].flip(0)), side(*inputs))


@pytest.mark.parametrize("apart", EXTREME)
def test_relativistic_gradients_far_into_saturation(apart):
    """With t = D(x) - D(G(z)): -sigma(-t) and its negative for D, the mirror image for G, in float32."""
    real, fake = torch.tensor([apart]), torch.tensor([0.0])
    of_real, of_fake = gradient(RelativisticPairing().discriminator, real, fake)
    assert of_real.item() == pytest.approx(-expit(-apart), rel=1e-5, abs=1e-38)
    assert of_fake.item() == -of_real.item()
    of_fake, of_real = gradient(RelativisticPairing().generator, fake, real)
    assert of_fake.item() == pytest.approx(-expit(apart), rel=1e-5, abs=1e-38)
    assert of_real.item() == -of_fake.item()


@pytest.mark.parametrize("shape", [(4, 1), (1,), (3,)])
def test_relativistic_losses_refuse_what_is_not_paired(shape):
    """(4,) with (4, 1) would broadcast, and judge each fake beside every real sample."""
    for call in (RelativisticPairing().discriminator, RelativisticPairing().generator):
        with pytest.raises(ValueError, match="must be paired"):
            call(torch.zeros(4), torch.zeros(shape))
