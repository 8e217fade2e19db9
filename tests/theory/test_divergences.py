"""Divergences against scipy, closed forms, quadrature and the lectures' numbers; their laws by hypothesis."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from scipy.integrate import quad
from scipy.spatial.distance import jensenshannon
from scipy.special import expit

from ganlib.theory import divergences as dv

RNG = np.random.default_rng(0)
LOG2 = math.log(2)
# Sums of at most a few hundred terms of order one, in float64.
ROUNDING = 1e-12

EVERY_F = {
    dv.KULLBACK_LEIBLER: lambda p, q: dv.kl(p, q),
    dv.REVERSE_KL: lambda p, q: dv.kl(q, p),
    dv.JENSEN_SHANNON: lambda p, q: dv.jsd(p, q),
    dv.TOTAL_VARIATION: lambda p, q: dv.total_variation(p, q),
    dv.CHI_SQUARE: lambda p, q: ((p - q) ** 2 / q).sum(-1),
    dv.SQUARED_HELLINGER: lambda p, q: 1 - np.sqrt(p * q).sum(-1),
}
every_f = pytest.mark.parametrize("f", EVERY_F, ids=lambda f: f.name)


def simplex(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])


@st.composite
def distributions(draw, count=2):
    """Distributions over the same few outcomes, zeros and tiny entries included."""
    n = draw(st.integers(1, 6))
    weights = st.one_of(st.just(0.0), st.floats(1e-12, 1.0), st.floats(5e-324, 1e-300))
    found = []
    for _ in range(count):
        masses = draw(arrays.arrays(np.float64, n, elements=weights))
        if masses.sum() < 1e-12:
            masses[draw(st.integers(0, n - 1))] = 1.0
        found.append(masses / masses.sum())
    return found


laws = settings(deadline=None, max_examples=50)


# Discrete distributions


def test_scipy_agrees():
    p, q = simplex(5, 7), simplex(5, 7, seed=1)
    np.testing.assert_allclose(dv.entropy(p), stats.entropy(p, axis=-1), rtol=ROUNDING)
    np.testing.assert_allclose(dv.kl(p, q), stats.entropy(p, q, axis=-1), rtol=ROUNDING)
    np.testing.assert_allclose(dv.jsd(p, q), jensenshannon(p, q, axis=-1) ** 2, rtol=ROUNDING)
    np.testing.assert_allclose(dv.kl(p, q, base=2), stats.entropy(p, q, base=2, axis=-1), rtol=ROUNDING)
    np.testing.assert_allclose(dv.jsd(p, q, base=10), jensenshannon(p, q, 10, axis=-1) ** 2, rtol=ROUNDING)


def test_torch_agrees_on_cross_entropy():
    """Between softmax outputs and probabilities as targets; float32 input is welcome."""
    logits, p = torch.randn(4, 6, generator=torch.Generator().manual_seed(0)), simplex(4, 6)
    expected = torch.nn.functional.cross_entropy(
        logits, torch.tensor(p, dtype=torch.float32), reduction="none"
    )
    found = dv.cross_entropy(p, logits.softmax(-1))
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # float32's 1e-7, through a sum of logs


def test_by_hand():
    """The fair coin against one that falls on heads with probability 1/4, in bits."""
    fair, bent = [0.5, 0.5], [0.25, 0.75]
    assert dv.entropy(fair, base=2) == 1
    assert dv.cross_entropy(fair, bent, base=2) == pytest.approx(
        0.5 * 2 + 0.5 * math.log2(4 / 3), rel=ROUNDING
    )
    assert dv.kl(fair, bent, base=2) == pytest.approx(0.5 + 0.5 * math.log2(2 / 3), rel=ROUNDING)
    assert dv.total_variation(fair, bent) == 0.25


def test_shapes_broadcast_over_leading_axes():
    p, q = simplex(4, 1, 3), simplex(5, 3, seed=1)
    for divergence in (dv.kl, dv.jsd, dv.total_variation, dv.cross_entropy):
        found = divergence(p, q)
        assert found.shape == (4, 5)
        assert found[2, 3] == divergence(p[2, 0], q[3])
    assert dv.entropy(p).shape == (4, 1)
    assert dv.f_divergence(p, q, dv.JENSEN_SHANNON).shape == (4, 5)


def test_where_supports_part():
    p, q = [0.5, 0.5, 0.0], [0.0, 0.5, 0.5]
    assert dv.kl(p, q) == dv.kl(q, p) == dv.cross_entropy(p, q) == math.inf
    assert dv.jsd(p, q) == pytest.approx(LOG2 / 2, rel=ROUNDING)
    assert dv.total_variation(p, q) == 0.5
    assert dv.kl([1.0, 0.0], [0.5, 0.5]) == pytest.approx(LOG2, rel=ROUNDING)  # 0 log 0 = 0
    assert dv.jsd([1.0, 0.0], [0.0, 1.0]) == pytest.approx(LOG2, rel=ROUNDING)
    assert dv.jsd([1.0, 0.0], [0.0, 1.0], base=2) == 1
    assert math.copysign(1, dv.entropy([1.0, 0.0])) == 1  # 0, not -0


def test_parallel_lines_and_two_deltas():
    """Purdue's and Arjovsky's examples as points on a line: any distance apart is the same, 0 is not."""
    for shift in (1, 2, 3):
        p, q = np.eye(5)[0], np.eye(5)[shift]
        assert dv.kl(p, q) == dv.kl(q, p) == math.inf
        assert dv.jsd(p, q) == pytest.approx(LOG2, rel=ROUNDING)
        assert dv.total_variation(p, q) == 1
    p = np.eye(5)[0]
    assert dv.kl(p, p) == dv.jsd(p, p) == dv.total_variation(p, p) == 0  # Purdue's slide has 1 for TV


def test_extremes_of_the_float_range():
    """Entries whose ratio, square or half leaves the range of float64."""
    p, q = [1.0 - 1e-300, 1e-300], [1e-320, 1.0]
    assert dv.kl(p, q) == pytest.approx(-math.log(1e-320), rel=1e-5)  # 1e-320 has four digits itself
    smallest = 5e-324
    assert dv.jsd([1.0, smallest], [1.0, 0.0]) == 0
    assert dv.jsd([1.0, smallest], [smallest, 1.0]) == pytest.approx(LOG2, rel=ROUNDING)
    assert dv.f_divergence([1.0, 0.0], [smallest, 1.0], dv.JENSEN_SHANNON) == pytest.approx(LOG2)


def test_kl_is_not_negative_however_the_sums_are_rounded():
    """Within the tolerance q may sum to more than one, and the textbook sum then falls below zero."""
    p, q = np.array([0.5, 0.5]), np.array([0.5, 0.5]) + 4e-7
    assert (p * np.log(p / q)).sum() < 0
    assert dv.kl(p, q) >= 0


@laws
@given(distributions())
def test_bounds_symmetry_and_pinsker(pair):
    p, q = pair
    divergences = dv.kl(p, q), dv.jsd(p, q), dv.total_variation(p, q)
    assert all(d >= 0 for d in divergences)
    kl, jsd, tv = divergences
    assert jsd <= LOG2 + ROUNDING
    assert tv <= 1 + ROUNDING
    assert jsd == pytest.approx(dv.jsd(q, p), abs=ROUNDING)
    assert tv == dv.total_variation(q, p)
    assert tv <= math.sqrt(kl / 2) + 1e-7  # Pinsker; a root turns 1e-15 of rounding into 3e-8
    assert tv**2 / 2 <= jsd + ROUNDING  # Pinsker on both halves of JSD
    assert jsd <= tv * LOG2 + ROUNDING  # Lin 1991, theorem 3
    assert dv.kl(p, p) == dv.jsd(p, p) == 0


@laws
@given(distributions())
def test_cross_entropy_is_entropy_plus_kl(pair):
    p, q = pair
    assert dv.cross_entropy(p, q) == pytest.approx(dv.entropy(p) + dv.kl(p, q), rel=1e-9, abs=1e-9)
    assert 0 <= dv.entropy(p) <= math.log(len(p)) + ROUNDING


@laws
@given(distributions(3))
def test_root_of_jsd_and_total_variation_obey_the_triangle_inequality(three):
    p, q, r = three
    # Rounding of 1e-16 under the root is 1e-8.
    assert math.sqrt(dv.jsd(p, r)) <= math.sqrt(dv.jsd(p, q)) + math.sqrt(dv.jsd(q, r)) + 1e-7
    assert dv.total_variation(p, r) <= dv.total_variation(p, q) + dv.total_variation(q, r) + ROUNDING


@laws
@given(distributions(), st.data())
def test_merging_outcomes_brings_distributions_closer(pair, data):
    """Data processing: no function of the outcome tells p from q better than the outcome itself."""
    labels = np.array(data.draw(st.lists(st.integers(0, 2), min_size=len(pair[0]), max_size=len(pair[0]))))
    p, q = (np.array([m[labels == k].sum() for k in range(3)]) for m in pair)
    for divergence in (dv.kl, dv.jsd, dv.total_variation):
        assert divergence(p, q) <= divergence(*pair) + 1e-9  # merged masses are rounded sums


@laws
@given(distributions(), st.randoms())
def test_order_of_outcomes_and_splitting_a_cell_change_nothing(pair, random):
    p, q = pair
    order = list(range(len(p)))
    random.shuffle(order)
    for divergence in (dv.kl, dv.jsd, dv.total_variation):
        expected = pytest.approx(divergence(p, q), rel=1e-9, abs=ROUNDING)
        assert divergence(p[order], q[order]) == expected
        # Each outcome of width 1 becomes two cells of width 1/4 and 3/4 with the same density.
        halves = {"widths": np.tile([0.25, 0.75], len(p))}
        assert divergence(np.repeat(p, 2), np.repeat(q, 2), **halves) == expected


# Densities on a grid

X = np.linspace(-16, 20, 3601)
STEP = X[1] - X[0]


@pytest.mark.parametrize("q", [(1.0, 1.0), (2.0, 1.0), (-1.5, 0.7), (0.5, 1.6)])
def test_densities_on_a_grid_have_the_gaussian_values(q):
    """The midpoint rule on an analytic function that dies out at both ends errs below rounding."""
    densities = dv.gaussian_density(X, 0, 1), dv.gaussian_density(X, *q)
    # The total variation's |p - q| has kinks, where the rule errs by step^2 = 1e-4 of a slope below one.
    for on_grid, exact, error in (
        (dv.kl, dv.gaussian_kl, 1e-10),
        (dv.jsd, dv.gaussian_jsd, 1e-10),
        (dv.total_variation, dv.gaussian_total_variation, 1e-4),
    ):
        assert on_grid(*densities, widths=STEP) == pytest.approx(exact(0, 1, *q), abs=error)
    normal = stats.norm(*q)
    assert dv.entropy(densities[1], widths=STEP) == pytest.approx(normal.entropy(), abs=1e-10)


def test_uneven_widths():
    """Piecewise constant densities on cells of different widths, against the masses by hand."""
    widths = np.array([0.5, 2.0, 1.0])
    p, q = np.array([0.2, 0.6, 0.2]), np.array([0.5, 0.25, 0.25])
    assert dv.kl(p / widths, q / widths, widths=widths) == pytest.approx(dv.kl(p, q), rel=ROUNDING)
    assert dv.jsd(p / widths, q / widths, widths=widths) == pytest.approx(dv.jsd(p, q), rel=ROUNDING)
    assert dv.entropy(p / widths, widths=widths) == pytest.approx(
        dv.entropy(p) + (p * np.log(widths)).sum(), rel=ROUNDING
    )


# f-divergences


@every_f
def test_f_divergence_is_what_it_is_called(f):
    p, q = simplex(20, 6), simplex(20, 6, seed=1)
    np.testing.assert_allclose(dv.f_divergence(p, q, f), EVERY_F[f](p, q), rtol=1e-9, atol=ROUNDING)


@laws
@given(distributions())
def test_f_divergences_with_zeros_anywhere(pair):
    """The term f'(inf) P(q = 0), and f(0) where p = 0, by the definitions that need no ratio."""
    for f in (
        dv.KULLBACK_LEIBLER,
        dv.REVERSE_KL,
        dv.JENSEN_SHANNON,
        dv.TOTAL_VARIATION,
        dv.SQUARED_HELLINGER,
    ):
        p, q = (np.where(m < 1e-290, 0.0, m) for m in pair)  # ratios beyond the float range count as infinite
        expected = EVERY_F[f](p, q)
        assert dv.f_divergence(p, q, f) == pytest.approx(expected, rel=1e-9, abs=1e-9), f.name


@every_f
def test_f_is_convex_vanishes_at_one_and_has_its_slopes(f):
    t = np.linspace(0.01, 6, 500)
    values = f.f(t)
    assert f.f(np.array(1.0)) == 0
    assert np.diff(values, 2).min() > -ROUNDING
    step = 1e-6
    numeric = (f.f(t + step) - f.f(t - step)) / (2 * step)
    kink = np.abs(t - 1) < 2 * step
    # Central differences err by step^2 f''' (at most 1e6 here) and rounding by 1e-16 / step.
    np.testing.assert_allclose(numeric[~kink], f.derivative(t)[~kink], atol=1e-5, rtol=1e-5)
    huge = 1e12
    slope = f.f(np.array(huge)) / huge
    assert slope == pytest.approx(f.slope, abs=1e-5) if math.isfinite(f.slope) else slope > 20


@every_f
def test_conjugate_is_the_supremum(f):
    """f*(u) = sup_t (u t - f(t)), by brute force over t."""
    t = np.linspace(0, 60, 600_001)
    with np.errstate(divide="ignore"):
        values = f.f(t)
    for u in f.derivative(np.array([0.3, 0.8, 1.7, 4.0])):
        # Spacing h = 1e-4 of t misses the maximum by at most h^2 f''/8 < 1e-7.
        assert float(f.conjugate(u)) == pytest.approx(np.max(u * t - values), abs=1e-6)


@every_f
def test_variational_bound_is_below_and_tight_at_the_best_critic(f):
    p, q = simplex(10, 6), simplex(10, 6, seed=1)
    best, exact = f.derivative(p / q), dv.f_divergence(p, q, f)
    np.testing.assert_allclose(dv.variational_bound(best, p, q, f), exact, rtol=1e-9, atol=ROUNDING)
    for critic in (best * 0.9, best - 0.05, RNG.normal(size=p.shape) - 1):
        assert (dv.variational_bound(critic, p, q, f) <= exact + ROUNDING).all()


# Gaussians

PAIRS = [
    (0.0, 1.0, 1.0, 1.0),
    (0.0, 1.0, 0.0, 1.0),
    (0.0, 1.0, 0.0, 2.0),
    (0.3, 0.5, -1.0, 2.0),
    (0.0, 1.0, 6.0, 1.0),
    (0.0, 0.05, 0.5, 3.0),
    (2.0, 10.0, 2.1, 0.01),
]
every_pair = pytest.mark.parametrize("pair", PAIRS, ids=str)


def integral(f, pair):
    """By scipy's adaptive quadrature, told where to look."""
    mean_p, std_p, mean_q, std_q = pair
    marks = sorted({m + k * s for m, s in ((mean_p, std_p), (mean_q, std_q)) for k in range(-12, 13, 2)})
    pieces = [quad(f, a, b, epsabs=1e-13, epsrel=1e-12, limit=200)[0] for a, b in pairwise(marks)]
    return math.fsum(pieces)


@every_pair
def test_gaussian_divergences_are_their_integrals(pair):
    p, q = stats.norm(*pair[:2]), stats.norm(*pair[2:])

    def kl_cell(x):
        return p.pdf(x) * (p.logpdf(x) - q.logpdf(x))

    def jsd_cell(x):
        logit = p.logpdf(x) - q.logpdf(x)
        return (p.pdf(x) * (LOG2 - np.logaddexp(0, -logit)) + q.pdf(x) * (LOG2 - np.logaddexp(0, logit))) / 2

    kl = integral(kl_cell, pair)
    assert dv.gaussian_kl(*pair) == pytest.approx(kl, rel=1e-9, abs=1e-9)
    assert dv.gaussian_jsd(*pair) == pytest.approx(integral(jsd_cell, pair), abs=1e-10)  # promised: 1e-8
    tv = integral(lambda x: abs(p.pdf(x) - q.pdf(x)) / 2, pair)
    assert dv.gaussian_total_variation(*pair) == pytest.approx(tv, abs=1e-8)  # quad meets kinks
    w1 = integral(lambda x: abs(p.cdf(x) - q.cdf(x)), pair)
    assert dv.gaussian_wasserstein1(*pair) == pytest.approx(w1, rel=1e-8, abs=1e-9)


@every_pair
def test_torch_agrees_on_gaussian_kl(pair):
    one, two = (
        torch.distributions.Normal(*torch.tensor(v, dtype=torch.float64)) for v in (pair[:2], pair[2:])
    )
    expected = torch.distributions.kl_divergence(one, two).item()
    assert dv.gaussian_kl(*pair) == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


@every_pair
def test_gaussian_wasserstein_is_the_distance_of_quantiles(pair):
    u = (np.arange(200_000) + 0.5) / 200_000
    difference = stats.norm.ppf(u, *pair[:2]) - stats.norm.ppf(u, *pair[2:])
    # The midpoint rule in u misses some of the tails: below 1e-4 of the variance at this count.
    assert dv.gaussian_wasserstein2(*pair) == pytest.approx(
        math.sqrt((difference**2).mean()), rel=1e-4, abs=1e-12
    )
    assert dv.gaussian_wasserstein1(*pair) == pytest.approx(np.abs(difference).mean(), rel=1e-4, abs=1e-12)


def test_numbers_of_the_lectures():
    """MIT's "Problems of D_JS": 0.337, 0.633, 0.693; UBC's pair N(0, 1), N(1, 1)."""
    assert [round(float(v), 3) for v in dv.gaussian_jsd(0, 1, [2.0, 4.0, 20.0], 1)] == [0.337, 0.633, 0.693]
    assert dv.gaussian_jsd(0, 1, 40.0, 1, base=2) == pytest.approx(1, abs=ROUNDING)
    assert dv.gaussian_kl(0, 1, 1, 1) == dv.gaussian_kl(1, 1, 0, 1) == 0.5  # symmetric for equal stds
    assert dv.gaussian_kl(0, 1, 1, 2) != pytest.approx(dv.gaussian_kl(1, 2, 0, 1), rel=0.1)


def test_equal_stds_have_their_simple_forms():
    distance, std = np.array([0.0, 1e-9, 0.3, 2.0, 15.0]), 0.7
    pair = (0.0, std, distance, std)
    np.testing.assert_allclose(dv.gaussian_wasserstein1(*pair), distance, rtol=ROUNDING)
    np.testing.assert_allclose(dv.gaussian_wasserstein2(*pair), distance, rtol=ROUNDING)
    np.testing.assert_allclose(dv.gaussian_kl(*pair), distance**2 / (2 * std**2), rtol=ROUNDING)
    expected = 2 * stats.norm.cdf(distance / (2 * std)) - 1
    np.testing.assert_allclose(dv.gaussian_total_variation(*pair), expected, rtol=1e-7, atol=1e-15)


def test_total_variation_is_continuous_where_the_stds_meet():
    """The far crossing runs away to infinity there; its coefficients are differences near zero."""
    at, near = (
        dv.gaussian_total_variation(0, 1, [0.0, 1e-3, 1.0], s) for s in (1.0, 1 + np.array([[1e-13]]))
    )
    np.testing.assert_allclose(near[0], at, atol=1e-12)


@pytest.mark.parametrize("pair", [p for p in PAIRS if p[:2] != p[2:]], ids=str)
def test_gradients_are_finite_differences(pair):
    mean_p, std_p, mean_q, std_q = pair
    step = 1e-5 * min(std_p, std_q)

    def slope(f):
        return (f(mean_q + step) - f(mean_q - step)) / (2 * step)

    # Differences err by rounding, 1e-16 of the value over the step, and by step^2 times a third derivative.
    close = {"rel": 1e-5, "abs": 1e-5}
    forward, backward = dv.gaussian_kl_gradient(*pair)
    assert forward == pytest.approx(slope(lambda m: dv.gaussian_kl(mean_p, std_p, m, std_q)), **close)
    assert backward == pytest.approx(slope(lambda m: dv.gaussian_kl(m, std_q, mean_p, std_p)), **close)
    for function, gradient in (
        (dv.gaussian_jsd, dv.gaussian_jsd_gradient),
        (dv.gaussian_wasserstein1, dv.gaussian_wasserstein1_gradient),
    ):
        expected = slope(lambda m, function=function: function(mean_p, std_p, m, std_q))
        assert gradient(*pair) == pytest.approx(expected, **close)


def test_gradients_point_apart_and_die_out():
    """JSD's gradient peaks and then falls by orders of magnitude, its relative size still exact."""
    gradient = dv.gaussian_jsd_gradient(0, 1, [0.0, 1.0, 2.0, 4.0, 8.0, 12.0], 1)
    assert gradient[0] == pytest.approx(0, abs=1e-15)
    assert gradient[2] > gradient[1]
    assert (np.diff(np.log(gradient[2:])) < -1).all()
    # Far apart d JSD / d distance is E_q[(x - mu) (-softplus)] / 2, about the overlap's size e^(-d^2/8).
    assert 1e-9 < gradient[-1] < 1e-6
    assert dv.gaussian_wasserstein1_gradient(0, 1, [-3.0, 0.0, 3.0], 1).tolist() == [-1, 0, 1]


def test_log_ratio_is_the_logit_of_the_best_discriminator():
    x = np.linspace(-3, 4, 50)
    p, q = dv.gaussian_density(x, 0.5, 1.2), dv.gaussian_density(x, -1, 0.8)
    np.testing.assert_allclose(expit(dv.gaussian_log_ratio(x, 0.5, 1.2, -1, 0.8)), p / (p + q), rtol=1e-11)
    assert dv.gaussian_log_ratio(60.0, 0, 1, 1, 1) == 0.5 - 60  # where both densities are 0 in float64


def test_density_is_scipys():
    x = RNG.normal(size=(4, 1))
    np.testing.assert_allclose(
        dv.gaussian_density(x, [0.0, 1.0], [1.0, 0.3]),
        stats.norm.pdf(x, [0.0, 1.0], [1.0, 0.3]),
        rtol=ROUNDING,
    )


def test_nodes_integrate_both_gaussians_whatever_their_scales():
    for pair in PAIRS:
        x, weights = dv.gaussian_nodes(*pair)
        for mean, std in (pair[:2], pair[2:]):
            density = dv.gaussian_density(x, mean, std)
            z = (x - mean) / std
            moments = [(weights * density * z**k).sum() for k in (0, 1, 2, 4)]
            np.testing.assert_allclose(moments, [1, 0, 1, 3], atol=1e-11)
    assert dv.gaussian_nodes(np.zeros((3, 1)), 1, np.zeros(2), 1)[0].shape[:2] == (3, 2)


# Bad input

BAD = [
    ([0.5, 0.6], [0.5, 0.5], {}, "p times widths must sum to 1 within 1e-06, got 1.1"),
    ([0.5, 0.5], [0.5, 0.4], {}, "q times widths must sum to 1"),
    ([1.5, -0.5], [0.5, 0.5], {}, "p must be non-negative"),
    ([0.5, 0.5], [math.nan, 0.5], {}, "q must be non-negative and finite"),
    ([math.inf, 0.5], [0.5, 0.5], {}, "p must be non-negative and finite"),
    ([], [], {}, "p must have a last axis"),
    (1.0, 1.0, {}, "p must have a last axis"),
    ([0.5, 0.5], [1.0], {}, r"q must fit p of shape \(2,\).*got shape \(1,\)"),
    (np.full((2, 2), 0.5), np.full((3, 2), 0.5), {}, "q must fit p"),
    ([0.5, 0.5], [0.5, 0.5], {"widths": [1.0, 1.0, 1.0]}, "widths must be a number or of shape"),
    ([0.5, 0.5], [0.5, 0.5], {"widths": 0.0}, "widths must be positive"),
    ([0.5, 0.5], [0.5, 0.5], {"widths": math.nan}, "widths must be positive"),
    ([[0.5, 0.5], [0.5, 0.4]], [0.5, 0.5], {}, "p times widths must sum to 1 within 1e-06, got 0.9"),
]


@pytest.mark.parametrize(("p", "q", "more", "message"), BAD)
def test_bad_distributions_are_refused(p, q, more, message):
    for divergence in (dv.kl, dv.jsd, dv.total_variation, dv.cross_entropy):
        with pytest.raises(ValueError, match=message):
            divergence(p, q, **more)
    with pytest.raises(ValueError, match=message):
        dv.f_divergence(p, q, dv.JENSEN_SHANNON, **more)


@pytest.mark.parametrize("base", [1.0, 0.5, -2.0, math.nan, math.inf])
def test_bad_bases_are_refused(base):
    for call in (
        lambda: dv.kl([1.0], [1.0], base=base),
        lambda: dv.entropy([1.0], base=base),
        lambda: dv.gaussian_jsd(0, 1, 0, 1, base=base),
    ):
        with pytest.raises(ValueError, match="base must be greater than 1"):
            call()


def test_bad_gaussians_are_refused():
    functions = [getattr(dv, name) for name in dv.__all__ if name.startswith("gaussian_")]
    for function in functions:
        if function in (dv.gaussian_density, dv.gaussian_log_ratio):
            continue
        with pytest.raises(ValueError, match="std_q must be positive, got 0"):
            function(0, 1, 0, 0.0)
        with pytest.raises(ValueError, match="mean_p must be finite"):
            function(math.nan, 1, 0, 1)
        with pytest.raises(ValueError, match="must broadcast"):
            function([0, 0], 1, [0, 0, 0], 1)
    with pytest.raises(ValueError, match="std must be positive"):
        dv.gaussian_density(0, 0, -1)
    with pytest.raises(ValueError, match="std_p must be positive"):
        dv.gaussian_log_ratio(0, 0, -1, 0, 1)


def test_bad_critics_are_refused():
    with pytest.raises(ValueError, match="critic must not be NaN"):
        dv.variational_bound([math.nan, 0], [0.5, 0.5], [0.5, 0.5], dv.JENSEN_SHANNON)
    with pytest.raises(ValueError, match=r"critic must fit p of shape \(2,\), got shape \(3,\)"):
        dv.variational_bound([0, 0, 0], [0.5, 0.5], [0.5, 0.5], dv.JENSEN_SHANNON)
