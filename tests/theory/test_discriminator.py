"""D*, C(G) and the generators' gradients against other routes to the same numbers; D* by training."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn
from torch.nn.functional import logsigmoid

from ganlib.losses import Minimax, NonSaturating
from ganlib.theory import discriminator as dc
from ganlib.theory import divergences as dv

LOG4 = math.log(4)
ROUNDING = 1e-12  # sums of order one in float64

PAIRS = [(0.0, 1.0, 2.0, 1.0), (0.3, 0.5, -1.0, 2.0), (0.0, 1.0, 0.5, 0.4), (1.0, 2.0, 5.0, 0.5)]
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=str)
labels = pytest.mark.parametrize(
    ("real_label", "fake_label"), [(1.0, 0.0), (0.9, 0.0), (0.9, 0.1), (0.8, 0.3)]
)


def simplex(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


# D*


@labels
def test_no_discriminator_scores_higher_at_any_point(real_label, fake_label):
    """Pointwise, against a numerical search that knows nothing of the formula."""
    p, q = simplex(6), simplex(6, seed=1)
    best = dc.optimal_discriminator(p, q, real_label, fake_label)
    for a, b, d in zip(p, q, best, strict=True):
        up, down = real_label * a + fake_label * b, (1 - real_label) * a + (1 - fake_label) * b
        found = minimize_scalar(
            lambda y, up=up, down=down: -up * math.log(y) - down * math.log1p(-y),
            bounds=(1e-9, 1 - 1e-9),
            method="bounded",
            options={"xatol": 1e-10},
        )
        assert d == pytest.approx(found.x, abs=1e-6)  # a maximum is flat: 1e-16 of value is 1e-8 of y


@labels
def test_value_is_highest_at_the_best_discriminator(real_label, fake_label):
    p, q, smoothed = simplex(6), simplex(6, seed=1), {"real_label": real_label, "fake_label": fake_label}
    d = dc.optimal_discriminator(p, q, **smoothed)
    rivals = np.clip(d + 0.05 * np.random.default_rng(2).normal(size=(200, 6)), 0.001, 0.999)
    assert (dc.value(p, q, rivals, **smoothed) < dc.value(p, q, d, **smoothed)).all()


@labels
def test_value_is_minus_the_discriminators_loss(real_label, fake_label):
    """The expected loss of ganlib.losses, sample by sample with the frequencies of p and q."""
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.125, 0.125, 0.75])
    logits = torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64)
    real, fake = (logits.repeat_interleave(torch.tensor((8 * m).astype(int))) for m in (p, q))
    expected = -Minimax(real_label, fake_label).discriminator(real, fake).item()
    found = dc.value(p, q, logits.sigmoid(), real_label=real_label, fake_label=fake_label)
    assert found == pytest.approx(expected, rel=ROUNDING)


def test_optimal_discriminator_by_hand():
    found = dc.optimal_discriminator([0.5, 0.5, 0.0, 0.0], [0.5, 0.0, 0.5, 0.0])
    assert found[:3].tolist() == [0.5, 1.0, 0.0]
    assert math.isnan(found[3])  # nobody goes there, nothing follows
    np.testing.assert_allclose(
        dc.optimal_discriminator([0.3, 0.0], [0.1, 0.2], real_label=0.9, fake_label=0.1), [0.28 / 0.4, 0.1]
    )


def test_optimal_discriminator_of_gaussians_is_the_sigmoid_of_their_log_ratio():
    x = np.linspace(-5, 6, 100)
    found = dc.optimal_discriminator(dv.gaussian_density(x, 0, 1), dv.gaussian_density(x, 1, 2))
    expected = 1 / (1 + np.exp(-dv.gaussian_log_ratio(x, 0, 1, 1, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_value_of_the_certain():
    p, q = [0.5, 0.5], [0.5, 0.5]
    assert dc.value(p, q, [1.0, 0.0]) == -math.inf
    assert dc.value([1.0, 0.0], [0.0, 1.0], [1.0, 0.0]) == 0
    assert dc.value(p, q, [0.5, 0.5]) == pytest.approx(-LOG4, rel=ROUNDING)
    assert dc.value([1.0, 0.0], [1.0, 0.0], [0.5, math.nan]) == pytest.approx(-LOG4, rel=ROUNDING)


# C(G)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1), st.booleans())
def test_criterion_is_twice_jsd_minus_log_4(n, seed, sparse):
    rng = np.random.default_rng(seed)
    p, q = rng.dirichlet(np.full(n, 0.05 if sparse else 1.0), 2)  # at 0.05 most entries underflow to 0
    found = dc.generator_criterion(p, q)
    assert found == pytest.approx(2 * dv.jsd(p, q) - LOG4, abs=ROUNDING)
    assert -LOG4 - ROUNDING <= found <= 0
    assert dc.generator_criterion(p, p) == pytest.approx(-LOG4, abs=ROUNDING)


@every_pair
def test_criterion_of_gaussians(pair):
    x = np.linspace(-30, 30, 6001)
    p, q = dv.gaussian_density(x, *pair[:2]), dv.gaussian_density(x, *pair[2:])
    found = dc.generator_criterion(p, q, widths=x[1] - x[0])
    assert found == pytest.approx(2 * dv.gaussian_jsd(*pair) - LOG4, abs=1e-9)  # the grid's tails


def test_criterion_is_the_best_of_many_discriminators():
    p, q = simplex(5), simplex(5, seed=3)
    rivals = np.random.default_rng(0).uniform(0.001, 0.999, (5000, 5))
    best = dc.value(p, q, rivals).max()
    assert dc.generator_criterion(p, q) == pytest.approx(
        dc.value(p, q, dc.optimal_discriminator(p, q)), rel=ROUNDING
    )
    assert best < dc.generator_criterion(p, q) < best + 0.2  # random search in five dimensions is coarse


# What the generators descend


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 8), st.integers(0, 2**32 - 1))
def test_nonsaturating_criterion_is_kl_minus_twice_jsd(n, seed):
    p, q = np.random.default_rng(seed).dirichlet(np.ones(n), 2)
    found = dc.nonsaturating_criterion(p, q)
    assert found == pytest.approx(dv.kl(q, p) - 2 * dv.jsd(p, q), rel=1e-9, abs=ROUNDING)
    assert found >= 0
    assert dc.nonsaturating_criterion(p, p) == 0


def test_nonsaturating_criterion_forbids_going_where_no_data_is_and_allows_missing_data():
    assert dc.nonsaturating_criterion([1.0, 0.0], [0.5, 0.5]) == math.inf
    # A forgotten half costs log(32/27), by hand: m = (3/4, 1/4) against p = (1/2, 1/2), twice.
    expected = 2 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert dc.nonsaturating_criterion([0.5, 0.5], [1.0, 0.0]) == pytest.approx(expected, rel=ROUNDING)


@every_pair
def test_minimax_gradient_is_that_of_twice_jsd(pair):
    """Through D on the left; by the score function, and by differences of the quadrature, on the right."""
    mean_p, std_p, mean_q, std_q = pair
    found, step = dc.minimax_gradient(*pair), 1e-4
    assert found == pytest.approx(2 * dv.gaussian_jsd_gradient(*pair), rel=1e-9)
    ends = [dv.gaussian_jsd(mean_p, std_p, mean_q + s * step, std_q) for s in (1, -1)]
    assert found == pytest.approx(2 * (ends[0] - ends[1]) / (2 * step), abs=1e-6)  # step^2 = 1e-8, times f'''


@every_pair
def test_nonsaturating_gradient_is_theorem_2_5(pair):
    mean_p, std_p, mean_q, std_q = pair
    found, step = dc.nonsaturating_gradient(*pair), 1e-4
    reverse_kl = dv.gaussian_kl_gradient(*pair)[1]
    assert found == pytest.approx(reverse_kl - 2 * dv.gaussian_jsd_gradient(*pair), rel=1e-9)

    def criterion(mean):
        x = np.linspace(-16, 18, 3401)  # further out p rounds to zero and q does not
        p, q = dv.gaussian_density(x, mean_p, std_p), dv.gaussian_density(x, mean, std_q)
        return dc.nonsaturating_criterion(p, q, widths=x[1] - x[0])

    numeric = (criterion(mean_q + step) - criterion(mean_q - step)) / (2 * step)
    assert found == pytest.approx(numeric, rel=1e-5, abs=1e-5)  # step^2 = 1e-8, times f''' of tens


@every_pair
@pytest.mark.parametrize("loss", [Minimax(), NonSaturating()], ids=lambda loss: type(loss).__name__)
def test_autograd_through_the_actual_loss_agrees(pair, loss):
    """The expected generator loss, by quantiles of z, differentiated by torch with D* held fixed."""
    mean_p, std_p, mean_q, std_q = pair
    n = 100_000
    z = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    mean = torch.tensor(mean_q, dtype=torch.float64, requires_grad=True)
    fake = mean + std_q * z
    real, frozen = (
        torch.distributions.Normal(torch.tensor(m, dtype=torch.float64), s)
        for m, s in ((mean_p, std_p), (mean_q, std_q))
    )
    loss.generator(real.log_prob(fake) - frozen.log_prob(fake)).backward()
    analytic = dc.nonsaturating_gradient if isinstance(loss, NonSaturating) else dc.minimax_gradient
    # Equal quantiles leave out some of the tails, where the logit's slope grows: 1e-4 of it at this count.
    assert mean.grad.item() == pytest.approx(analytic(*pair), rel=3e-4)


def test_far_away_one_gradient_vanishes_and_the_other_grows():
    distance = np.array([1.0, 2.0, 4.0, 8.0])
    minimax, other = (g(0, 1, distance, 1) for g in (dc.minimax_gradient, dc.nonsaturating_gradient))
    assert minimax[-1] < 1e-3 * minimax[0]
    assert (np.diff(other) > 0).all()
    assert other[-1] == pytest.approx(8, rel=1e-3)  # the reverse KL's own slope, distance / variance
    np.testing.assert_allclose(minimax + other, distance, rtol=1e-9)  # D + (1 - D) = 1


def test_both_rest_where_generator_and_data_agree():
    assert dc.minimax_gradient(0.5, 1.3, 0.5, 1.3) == pytest.approx(0, abs=1e-14)
    assert dc.nonsaturating_gradient(0.5, 1.3, 0.5, 1.3) == pytest.approx(0, abs=1e-14)


# D* by training


class Quadratic(nn.Module):
    """Logistic regression on x and x², which contains the best discriminator of any two Gaussians."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 1)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(torch.cat([x, x.square()], 1)).squeeze(1)


def samples(mean: float, std: float, seed: int, n: int = 20_000) -> torch.Tensor:
    return mean + std * torch.randn(n, 1, generator=torch.Generator().manual_seed(seed))


REAL, FAKE = (0.0, 1.0), (1.5, 0.7)
POINTS = np.linspace(-2.0, 3.0, 101)  # where there are samples enough to learn from


@pytest.mark.parametrize(
    ("network", "real_label"),
    # With smoothed labels the best logit is no parabola any more, so logistic regression must miss it.
    [(None, 1.0), (None, 0.9), (Quadratic, 1.0)],
    ids=["mlp", "mlp, smoothed", "logistic regression"],
)
def test_training_finds_the_formula(network, real_label):
    judge = dc.fit_discriminator(
        samples(*REAL, seed=1),
        samples(*FAKE, seed=2),
        network and network(),
        loss=NonSaturating(real_label),
        steps=600,
        learning_rate=0.03 if network else 0.01,
    )
    with torch.no_grad():
        found = judge(torch.tensor(POINTS, dtype=torch.float32).unsqueeze(1)).sigmoid().numpy()
    p, q = dv.gaussian_density(POINTS, *REAL), dv.gaussian_density(POINTS, *FAKE)
    error = np.abs(found - dc.optimal_discriminator(p, q, real_label))
    # 20,000 samples a side leave about 0.01 of noise where they lie, several times that at the ends; the
    # constant 1/2 is off by 0.5, unsmoothed labels by 0.1.
    assert error.mean() < 0.02
    assert error.max() < 0.08


def test_training_is_logistic_regression():
    """The same coefficients as the convex problem's own minimum, by scipy."""
    from scipy.optimize import minimize

    real, fake = samples(*REAL, seed=1, n=2000), samples(*FAKE, seed=2, n=2000)
    x = torch.cat(
        [torch.ones(4000, 1), torch.cat([real, fake]), torch.cat([real, fake]).square()], 1
    ).double()
    signs = torch.cat([torch.ones(2000), -torch.ones(2000)]).double()
    best = minimize(
        lambda w: -logsigmoid(signs * (x @ torch.tensor(w))).mean().item(), np.zeros(3), tol=1e-10
    )
    judge = dc.fit_discriminator(real, fake, Quadratic(), steps=800, batch_size=500, learning_rate=0.1)
    found = [judge.linear.bias.item(), *judge.linear.weight[0].tolist()]
    np.testing.assert_allclose(found, best.x, atol=0.1)  # coefficients of 1 to 3; batches are noise


def test_training_depends_on_the_seed_alone_and_leaves_the_global_state():
    arguments = samples(*REAL, seed=1, n=100), samples(*FAKE, seed=2, n=100)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = dc.fit_discriminator(*arguments, steps=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again, other = (dc.fit_discriminator(*arguments, steps=5, seed=s) for s in (0, 1))
    weights = [torch.cat([p.flatten() for p in n.parameters()]) for n in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# Bad input


def test_bad_densities_are_refused():
    for function in (dc.optimal_discriminator, dc.generator_criterion, dc.nonsaturating_criterion):
        with pytest.raises(ValueError, match="p must be non-negative and finite, got -1"):
            function([-1.0, 2.0], [0.5, 0.5])
        with pytest.raises(ValueError, match="q must be non-negative and finite, got nan"):
            function([0.5, 0.5], [math.nan, 0.5])
        with pytest.raises(ValueError, match=r"q must broadcast with p of shape \(2,\), got shape \(3,\)"):
            function([0.5, 0.5], [0.5, 0.25, 0.25])
        with pytest.raises(ValueError, match="p must not be empty"):
            function([], [])


@pytest.mark.parametrize("bad", [(0.0, 0.0), (0.2, 0.5), (1.1, 0.0), (0.9, -0.1), (math.nan, 0.0)])
def test_bad_labels_are_refused(bad):
    with pytest.raises(ValueError, match="labels must satisfy"):
        dc.optimal_discriminator([1.0], [1.0], *bad)
    with pytest.raises(ValueError, match="labels must satisfy"):
        dc.value([1.0], [1.0], [0.5], real_label=bad[0], fake_label=bad[1])


def test_bad_discriminators_are_refused():
    for d in ([1.1, 0.5], [-0.1, 0.5], [math.nan, 0.5]):
        with pytest.raises(ValueError, match=r"d must lie in \[0, 1\]"):
            dc.value([0.5, 0.5], [0.5, 0.5], d)
    with pytest.raises(ValueError, match=r"d must fit p of shape \(2,\), got shape \(3,\)"):
        dc.value([0.5, 0.5], [0.5, 0.5], [0.5, 0.5, 0.5])


def test_bad_widths_are_refused():
    for function in (dc.generator_criterion, lambda p, q, **more: dc.value(p, q, p, **more)):
        with pytest.raises(ValueError, match=r"widths must be a number or of shape \(2,\)"):
            function([0.5, 0.5], [0.5, 0.5], widths=[1.0, 1.0, 1.0])
        with pytest.raises(ValueError, match="widths must be positive"):
            function([0.5, 0.5], [0.5, 0.5], widths=-1.0)
        with pytest.raises(ValueError, match="p must have a last axis"):
            function(0.5, 0.5)


def test_bad_samples_are_refused():
    good = torch.zeros(3, 1)
    for bad in (torch.zeros(3), torch.zeros(0, 1), torch.full((3, 1), math.nan)):
        with pytest.raises(ValueError, match="real must be finite samples"):
            dc.fit_discriminator(bad, good)
        with pytest.raises(ValueError, match="fake must be finite samples"):
            dc.fit_discriminator(good, bad)
    with pytest.raises(ValueError, match=r"fake must be \(M, 1\)"):
        dc.fit_discriminator(good, torch.zeros(3, 2))
    for bad in ({"steps": 0}, {"batch_size": 0}):
        with pytest.raises(ValueError, match="steps and batch_size must be at least 1"):
            dc.fit_discriminator(good, good, **bad)
