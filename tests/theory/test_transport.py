"""Transport against closed forms, scipy and POT, and the properties that make it a distance."""

import builtins
import math

import numpy as np
import ot
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganlib.theory.divergences import jsd, kl, total_variation
from ganlib.theory.transport import (
    c_transform,
    cdf_area,
    critic_1d,
    directions,
    emd,
    emd_lp,
    lipschitz_constant,
    lipschitz_lower_bound,
    lipschitz_upper_bound,
    monotone_plan,
    pairwise_distances,
    parallel_lines,
    shifted_gaussians,
    shovels,
    sinkhorn,
    sliced_wasserstein,
    two_deltas,
    wasserstein_1d,
)

# Everything here is float64 arithmetic on numbers near 1, a few hundred at most in a sum.
EXACT = {"rel": 1e-9, "abs": 1e-9}

positions = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=12)
histograms = st.lists(st.integers(0, 9), min_size=5, max_size=5).filter(sum).map(np.array)
several = settings(deadline=None, max_examples=40)


def cloud(n, d=2, seed=0, shift=0.0):
    return np.random.default_rng(seed).standard_normal((n, d)) + shift


def weights(n, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(n))


def random_problem(n=17, m=23, seed=0):
    x, y = cloud(n, seed=seed), cloud(m, seed=seed + 1, shift=1.0)
    return weights(n, seed), weights(m, seed + 1), pairwise_distances(x, y)


def check_plan(result, a, b, cost):
    """A plan of the right marginals, potentials that are feasible, and no gap between the two."""
    assert (result.plan >= 0).all()
    assert result.plan.sum(axis=1) == pytest.approx(np.asarray(a), **EXACT)
    assert result.plan.sum(axis=0) == pytest.approx(np.asarray(b), **EXACT)
    assert result.cost == pytest.approx((result.plan * cost).sum(), **EXACT)
    f, g = result.duals
    assert (f[:, None] + g <= cost + 1e-12).all()  # rounding of one subtraction
    assert (f == (cost - g).min(axis=1)).all()  # the most that g allows
    assert f @ a + g @ b == pytest.approx(result.cost, **EXACT)


# The lecture's numbers


def test_shovels_cost_five_in_every_way_there_is():
    p, q, answer = shovels()
    places = np.arange(4)
    cost = pairwise_distances(places, places)
    assert answer == 5
    assert p.sum() == q.sum() == 10
    assert np.abs(np.cumsum(p) - np.cumsum(q)).tolist() == [
        2,
        2,
        1,
        0,
    ]  # the shovelfuls that cross each border
    assert cdf_area(places, places, p, q) == pytest.approx(5, **EXACT)
    assert wasserstein_1d(places, places, 1, p, q) == pytest.approx(5, **EXACT)
    assert (monotone_plan(p, q) * cost).sum() == 5
    assert critic_1d(p, q) @ (p - q) == pytest.approx(5, **EXACT)
    for solve in (emd, emd_lp):
        result = solve(p, q, cost)
        assert result.cost == pytest.approx(5, **EXACT)
        check_plan(result, p, q, cost)
    assert 10 * scipy.stats.wasserstein_distance(places, places, p, q) == pytest.approx(5, **EXACT)


@pytest.mark.parametrize("example", [parallel_lines, two_deltas])
def test_disjoint_examples_have_the_lectures_answers(example):
    result = example(np.array([-0.5, 0.0, 0.25, 1.0]))
    assert result.kl.tolist() == [math.inf, 0, math.inf, math.inf]
    assert result.jsd.tolist() == [math.log(2), 0, math.log(2), math.log(2)]
    assert result.total_variation.tolist() == [1, 0, 1, 1]
    assert result.wasserstein.tolist() == [0.5, 0, 0.25, 1]


@pytest.mark.parametrize("theta", [0.0, 0.3, -0.8])
def test_two_deltas_follow_from_the_definitions(theta):
    """The two places as outcomes of a coin that never flips; at theta = 0 they are one outcome."""
    p, q = (np.array([1.0]), np.array([1.0])) if theta == 0 else (np.array([1.0, 0]), np.array([0, 1.0]))
    expected = two_deltas(theta)
    assert kl(p, q) == expected.kl == kl(q, p)
    assert jsd(p, q) == pytest.approx(expected.jsd, **EXACT)
    assert total_variation(p, q) == expected.total_variation
    assert wasserstein_1d([0.0], [theta]) == pytest.approx(expected.wasserstein, **EXACT)


@pytest.mark.parametrize("theta", [0.0, 0.3, -1.5])
def test_parallel_lines_by_moving_a_fine_grid_of_them(theta):
    z = np.linspace(0, 1, 40)
    line = [np.stack([np.full_like(z, x), z], axis=1) for x in (0.0, theta)]
    uniform = np.full(40, 1 / 40)
    plan = emd(uniform, uniform, pairwise_distances(*line))
    assert plan.cost == pytest.approx(parallel_lines(theta).wasserstein, **EXACT)


def test_gaussians_have_the_slides_divergences():
    result = shifted_gaussians([0.0, 2.0, 4.0, -4.0, 30.0])
    assert result.jsd.round(3).tolist() == [0, 0.337, 0.633, 0.633, 0.693]  # MIT, to the slide's three digits
    assert result.wasserstein.tolist() == [0, 2, 4, 4, 30]
    assert result.kl.tolist() == [0, 2, 8, 8, 450]
    normal = scipy.stats.norm
    assert result.total_variation == pytest.approx(2 * normal.cdf(np.array([0, 1, 2, 2, 15])) - 1, **EXACT)


def test_gaussians_jsd_and_distance_by_a_riemann_sum():
    x = np.linspace(-12, 16, 20001)
    p, q = scipy.stats.norm.pdf(x), scipy.stats.norm.pdf(x, 4)
    m = (p + q) / 2
    step = x[1] - x[0]
    # Trapezoids on a smooth integrand that has died out at both ends: far better than 1e-8.
    integral = step * (scipy.special.rel_entr(p, m) + scipy.special.rel_entr(q, m)).sum() / 2
    result = shifted_gaussians(4.0)
    assert result.jsd == pytest.approx(integral, abs=1e-8)
    assert cdf_area(x, x, p / p.sum(), q / q.sum()) == pytest.approx(result.wasserstein, abs=1e-8)


# On the line


@several
@given(positions, positions, st.data())
def test_cdfs_and_quantiles_agree_with_scipy(x, y, data):
    u = data.draw(st.lists(st.integers(1, 9), min_size=len(x), max_size=len(x)).map(np.array))
    v = data.draw(st.lists(st.integers(1, 9), min_size=len(y), max_size=len(y)).map(np.array))
    expected = scipy.stats.wasserstein_distance(x, y, u, v)
    assert cdf_area(x, y, u / u.sum(), v / v.sum()) == pytest.approx(expected, **EXACT)
    assert wasserstein_1d(x, y, 1, u / u.sum(), v / v.sum()) == pytest.approx(expected, **EXACT)
    assert cdf_area(x, y) == pytest.approx(scipy.stats.wasserstein_distance(x, y), **EXACT)


@pytest.mark.parametrize("p", [1, 1.5, 2, 5])
def test_wasserstein_p_is_pots(p):
    x, y = cloud(30, 1)[:, 0], cloud(20, 1, seed=5, shift=1.0)[:, 0]
    a, b = weights(30), weights(20, 1)
    expected = ot.wasserstein_1d(x, y, a, b, p=p) ** (1 / p)
    assert wasserstein_1d(x, y, p, a, b) == pytest.approx(expected, **EXACT)


def test_wasserstein_p_of_a_shift_is_the_shift_and_of_a_stretch_its_norm():
    x = cloud(50, 1)[:, 0]
    for p in (1, 2, 7, 400):  # 400: powers alone would overflow
        assert wasserstein_1d(x, x + 30, p) == pytest.approx(30, **EXACT)
    assert wasserstein_1d(x, 3 * x, 2) == pytest.approx(2 * np.sqrt((x**2).mean()), **EXACT)


@several
@given(histograms, histograms, histograms)
def test_wasserstein_is_a_metric(p, q, r):
    p, q, r = (masses / masses.sum() for masses in (p, q, r))
    places = np.array([0.0, 1.0, 2.5, 3.0, 7.0])

    def distance(a, b):
        return cdf_area(places, places, a, b)

    assert distance(p, q) == pytest.approx(distance(q, p), **EXACT)
    assert distance(p, r) <= distance(p, q) + distance(q, r) + 1e-9
    assert distance(p, p) == 0
    assert (distance(p, q) > 1e-9) == (np.abs(p - q).max() > 1e-9)


@several
@given(positions, positions, st.floats(-5, 5), st.floats(0.1, 5))
def test_wasserstein_moves_and_scales_with_space(x, y, shift, scale):
    x, y = np.array(x), np.array(y)
    assert wasserstein_1d(scale * x + shift, scale * y + shift) == pytest.approx(
        scale * wasserstein_1d(x, y), **EXACT
    )
    assert wasserstein_1d(-x, -y) == pytest.approx(wasserstein_1d(x, y), **EXACT)
    assert wasserstein_1d(x, y, 2) >= wasserstein_1d(x, y, 1) - 1e-9  # Jensen
    assert wasserstein_1d(x, y) >= abs(x.mean() - y.mean()) - 1e-9  # f(x) = x is 1-Lipschitz


@several
@given(histograms, histograms)
def test_monotone_plan_and_critic_close_the_gap_on_the_line(p, q):
    """Primal and dual by two formulas that share nothing, at one value; POT has the same."""
    p, q = p / p.sum(), q / q.sum()
    places = np.array([0.0, 1.0, 2.5, 3.0, 7.0])
    cost = pairwise_distances(places, places)
    plan, f = monotone_plan(p, q), critic_1d(p, q, places)
    assert plan.sum(axis=1) == pytest.approx(p, **EXACT)
    assert plan.sum(axis=0) == pytest.approx(q, **EXACT)
    assert (plan * cost).sum() == pytest.approx(ot.emd2(p, q, cost), **EXACT)
    assert f @ (p - q) == pytest.approx((plan * cost).sum(), **EXACT)
    assert lipschitz_constant(places, f) <= 1 + 1e-9
    # For squared distance the same plan is optimal, and W_2 is its root.
    assert (plan * cost**2).sum() ** 0.5 == pytest.approx(wasserstein_1d(places, places, 2, p, q), **EXACT)


def test_critic_is_level_where_only_rounding_crosses():
    """0.7 + 0.1 and 0.6 + 0.2 are not one float64."""
    assert np.diff(critic_1d([0.7, 0.1, 0.2], [0.6, 0.2, 0.2])).tolist() == [-1, 0]


# The linear programme and the network simplex


@pytest.mark.parametrize("seed", range(3))
def test_programme_and_simplex_agree_and_prove_their_optimum(seed):
    a, b, cost = random_problem(seed=seed)
    teaching, fast = emd_lp(a, b, cost), emd(a, b, cost)
    assert teaching.cost == pytest.approx(fast.cost, abs=1e-9)  # issue 3 asks for this digit
    assert fast.cost == pytest.approx(ot.emd2(a, b, cost), abs=1e-9)
    check_plan(teaching, a, b, cost)
    check_plan(fast, a, b, cost)


def test_hundred_by_hundred():
    uniform = np.full(100, 0.01)
    cost = pairwise_distances(cloud(100), cloud(100, seed=1, shift=2.0))
    teaching, fast = emd_lp(uniform, uniform, cost), emd(uniform, uniform, cost)
    assert teaching.cost == pytest.approx(fast.cost, abs=1e-9)
    check_plan(teaching, uniform, uniform, cost)
    # Equal numbers of equal masses: some optimal plan is a permutation, found by another algorithm.
    rows, columns = scipy.optimize.linear_sum_assignment(cost)
    assert fast.cost == pytest.approx(cost[rows, columns].mean(), abs=1e-9)


@pytest.mark.parametrize("solve", [emd, emd_lp])
def test_places_without_mass_get_a_feasible_price(solve):
    cost = pairwise_distances(cloud(6), cloud(5, seed=1))
    a, b = np.array([0, 0.5, 0, 0.25, 0.25, 0]), np.array([0.5, 0, 0, 0.5, 0])
    check_plan(solve(a, b, cost), a, b, cost)


@pytest.mark.parametrize("solve", [emd, emd_lp])
def test_cost_may_be_any_matrix(solve):
    """Negative costs and no metric: the worst plan is the best one for the negative cost."""
    a, b, cost = random_problem(7, 9)
    worst = solve(a, b, -cost)
    check_plan(worst, a, b, -cost)
    assert -worst.cost > solve(a, b, cost).cost


@pytest.mark.parametrize("solve", [emd, emd_lp])
def test_totals_other_than_one_scale_the_cost(solve):
    a, b, cost = random_problem(7, 9)
    assert solve(30 * a, 30 * b, cost).cost == pytest.approx(30 * solve(a, b, cost).cost, **EXACT)
    float32 = solve(a.astype(np.float32), b.astype(np.float32), cost.astype(np.float32))
    # 2^-24 of relative rounding in each entry of a, b and cost.
    assert float32.cost == pytest.approx(solve(a, b, cost).cost, rel=1e-6)


@pytest.mark.parametrize("solve", [emd, emd_lp])
def test_totals_that_differ_by_rounding_are_made_one(solve):
    a, b, cost = random_problem(7, 9)
    off = b * (1 + 8e-7)  # more than a solver's own tolerance, within the 1e-6 of ours
    check_plan(solve(a, off, cost), a, b, cost)


@several
@given(st.integers(0, 10_000))
def test_kantorovich_rubinstein(seed):
    """The plan's potential is 1-Lipschitz on the plane and attains W1; others of slope 1 do not beat it."""
    rng = np.random.default_rng(seed)
    x, y, elsewhere = (
        rng.standard_normal((6, 2)),
        rng.standard_normal((8, 2)) + 1,
        rng.uniform(-4, 4, (30, 2)),
    )
    a, b = rng.dirichlet(np.ones(6)), rng.dirichlet(np.ones(8))
    result = emd(a, b, pairwise_distances(x, y))
    everywhere = np.concatenate([x, y, elsewhere])
    f = c_transform(pairwise_distances(everywhere, y), result.duals[1])
    assert lipschitz_constant(everywhere, f) <= 1 + 1e-9
    assert f[:6] @ a - f[6:14] @ b == pytest.approx(result.cost, **EXACT)
    slope = directions(1, 2, rng)[0]
    for other in (
        everywhere @ slope,
        np.linalg.norm(everywhere - elsewhere[0], axis=1),
        np.sin(everywhere[:, 0]),
    ):
        assert abs(other[:6] @ a - other[6:14] @ b) <= result.cost + 1e-9


def test_emd_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without_pot(name, *args, **kwargs):
        if name == "ot":
            raise ModuleNotFoundError("No module named 'ot'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pot)
    with pytest.raises(RuntimeError, match="pip install pot"):
        emd([1.0], [1.0], [[0.0]])
    assert emd_lp([1.0], [1.0], [[2.0]]).cost == 2


# What scales


@pytest.mark.parametrize("epsilon", [0.05, 0.5, 5.0])
def test_sinkhorn_is_pots(epsilon):
    a, b, cost = random_problem()
    ours = sinkhorn(a, b, cost, epsilon, tolerance=1e-12)
    theirs = ot.sinkhorn(a, b, cost, epsilon, method="sinkhorn_log", stopThr=1e-12, numItermax=10_000)
    # Both stop within 1e-12 of the marginals; the potentials amplify that by at most 1 / epsilon.
    assert ours.plan == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("total", [1.0, 10.0])
@pytest.mark.parametrize("epsilon", [0.02, 0.2, 2.0])
def test_sinkhorn_encloses_the_distance(epsilon, total):
    a, b, cost = random_problem(9, 12)
    a, b = total * a, total * b
    result, exact = sinkhorn(a, b, cost, epsilon), emd(a, b, cost).cost
    f, g = result.duals
    below = f @ a + g @ b
    assert (f[:, None] + g <= cost).all()
    # The plan misses its marginals by 1e-9 of the total.
    assert below <= exact + 1e-8 * total
    assert exact <= result.cost + 1e-8 * total
    assert result.cost - below <= epsilon * total * math.log(9 * 12) + 1e-8 * total


def test_sinkhorn_without_order_is_independence():
    a, b, cost = random_problem(9, 12)
    # At this epsilon the exponent varies by 1e-6 only.
    assert sinkhorn(a, b, cost, 1e6).plan == pytest.approx(np.outer(a, b), rel=1e-4)


def test_sinkhorn_gives_up_aloud():
    a, b, cost = random_problem(9, 12)
    with pytest.raises(RuntimeError, match="after 3 iterations"):
        sinkhorn(a, b, cost, 0.001, max_iterations=3)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("d", [2, 5])
def test_sliced_is_pots_on_the_same_lines(p, d):
    x, y = cloud(40, d), 2 * cloud(30, d, seed=1, shift=0.5)
    expected = ot.sliced_wasserstein_distance(x, y, projections=directions(25, d, 3).T, p=p)
    assert sliced_wasserstein(x, y, p=p, projections=25, seed=3) == pytest.approx(expected, **EXACT)


def test_sliced_distance_of_a_shift():
    x, shift = cloud(20, 3), np.array([1.0, -2.0, 2.0])
    result = sliced_wasserstein(x, x + shift, projections=4000, seed=0)
    # E (theta . t)^2 = |t|^2 / d = 3; its standard error with 4,000 lines is 3 sqrt(4/5) / sqrt(4000) = 0.04.
    assert result**2 == pytest.approx(3, abs=0.17)


def test_sliced_is_below_the_distance_and_depends_on_its_seed_alone():
    x, y = cloud(30), cloud(30, seed=1, shift=1.0)
    uniform = np.full(30, 1 / 30)
    for p in (1, 2):
        exact = emd(uniform, uniform, pairwise_distances(x, y) ** p).cost ** (1 / p)
        assert sliced_wasserstein(x, y, p=p, seed=0) < exact
    np.random.seed(0)
    state = np.random.get_state()[1].copy()
    assert sliced_wasserstein(x, y, seed=4) == sliced_wasserstein(x, y, seed=np.random.default_rng(4))
    assert (np.random.get_state()[1] == state).all()
    assert sliced_wasserstein(x, y, seed=4) != sliced_wasserstein(x, y, seed=5)


def test_directions_are_uniform_unit_vectors():
    lines = directions(20_000, 3, 0)
    assert np.linalg.norm(lines, axis=1) == pytest.approx(np.ones(20_000))
    # Second moments 1/3 with a standard error of sqrt(4/45 / 20000) = 0.002; zero off the diagonal.
    assert lines.T @ lines / 20_000 == pytest.approx(np.eye(3) / 3, abs=0.01)


# Slopes


def test_lipschitz_constant_of_samples():
    x = np.linspace(0, 2, 5)
    assert lipschitz_constant(x, np.abs(x - 1)) == pytest.approx(1)
    assert lipschitz_constant(x, -3 * x) == pytest.approx(3)
    assert lipschitz_constant(x, np.ones(5)) == 0
    assert lipschitz_constant([1.0, 1.0], [0.0, 2.0]) == math.inf
    assert lipschitz_constant([1.0, 1.0], [2.0, 2.0]) == 0
    points = cloud(20, 3)
    assert lipschitz_constant(points, points @ [2.0, 3.0, 6.0]) <= 7
    along = np.outer(np.linspace(0, 1, 4), [2.0, 3.0, 6.0])  # points in the steepest direction
    assert lipschitz_constant(along, along @ [2.0, 3.0, 6.0]) == pytest.approx(7)


def test_bounds_meet_for_a_linear_critic_and_enclose_a_deep_one():
    linear = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)).double()
    linear[0].weight.data = torch.tensor([[3.0, 4.0]], dtype=torch.float64)
    points = torch.from_numpy(cloud(200))
    assert lipschitz_upper_bound(linear) == pytest.approx(5)
    assert lipschitz_lower_bound(linear, points) == pytest.approx(5)
    torch.manual_seed(0)
    deep = nn.Sequential(nn.Linear(2, 30), nn.ReLU(), nn.Linear(30, 30), nn.LeakyReLU(2.0), nn.Linear(30, 1))
    deep = nn.Sequential(deep, nn.Flatten(0)).double()
    norms = [
        np.linalg.svd(layer.weight.detach())[1].max() for layer in deep[0] if isinstance(layer, nn.Linear)
    ]
    assert lipschitz_upper_bound(deep) == pytest.approx(2 * np.prod(norms))
    sampled = lipschitz_constant(points.numpy(), deep(points).detach().numpy())
    assert 0 < lipschitz_lower_bound(deep, points) < lipschitz_upper_bound(deep)
    assert 0 < sampled < lipschitz_upper_bound(deep)


def test_lower_bound_is_the_steepest_gradient():
    x = torch.tensor([[0.5, 0.0], [0.0, -3.0], [1.0, 1.0]], dtype=torch.float64)
    assert lipschitz_lower_bound(lambda x: x.square().sum(1), x) == pytest.approx(6)  # 2 |x| at (0, -3)


# What is refused


ONE = np.ones(1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: emd([0.5, 0.5], [1.0], [[1.0]]), r"cost must be \(2, 1\).*got \(1, 1\)"),
        (lambda: emd_lp([1.0], [1.0], [[math.nan]]), "cost must be finite"),
        (lambda: emd([1.0], [2.0], [[1.0]]), "a and b must have one total, got 1 and 2"),
        (lambda: emd_lp([-1.0, 2.0], [1.0], np.ones((2, 1))), "a must be a vector of masses, not negative"),
        (lambda: emd([1.0], [0.0], [[1.0]]), "b must be a vector of masses.*not all zero"),
        (lambda: emd([1.0], [math.nan], [[1.0]]), "b must be a vector of masses"),
        (lambda: emd([], [1.0], np.ones((0, 1))), "a must be a vector of masses"),
        (lambda: cdf_area([], [1.0]), "x must be a vector of finite numbers"),
        (lambda: cdf_area([1.0], [[1.0]]), "y must be a vector of finite numbers"),
        (lambda: cdf_area([1.0], [1.0], [2.0]), "x_weights and y_weights must have one total"),
        (lambda: wasserstein_1d([1.0, 2.0], [1.0], 1, [1.0]), r"x_weights must be \(2,\), as x, got \(1,\)"),
        (lambda: wasserstein_1d([1.0], [1.0], 0.5), "p must be at least 1 and finite, got 0.5"),
        (lambda: wasserstein_1d([1.0], [math.inf]), "y must be a vector of finite numbers"),
        (lambda: monotone_plan([1.0], [-1.0]), "b must be a vector of masses"),
        (lambda: critic_1d([1.0, 1.0], [2.0]), r"a and b must have one shape, got \(2,\) and \(1,\)"),
        (lambda: critic_1d([1.0, 1.0], [2.0, 0], [1.0, 1.0]), "positions must be 2 increasing numbers"),
        (lambda: sinkhorn(ONE, ONE, [[1.0]], 0.0), "epsilon must be positive, got 0.0"),
        (lambda: sinkhorn([1.0, 0.0], ONE, np.ones((2, 1)), 1.0), "a must be positive everywhere, got 0"),
        (lambda: sliced_wasserstein(np.ones((2, 2)), np.ones((2, 3)), seed=0), r"got \(2, 2\) and \(2, 3\)"),
        (lambda: directions(0, 2, 0), "n and dimension must be at least 1, got 0 and 2"),
        (lambda: pairwise_distances(np.ones((2, 2)), np.ones(2)), r"got \(2, 2\) and \(2,\)"),
        (lambda: c_transform(np.ones((2, 3)), np.ones(2)), r"got \(2, 3\) and \(2,\)"),
        (lambda: lipschitz_constant([1.0], [1.0]), "at least 2 points"),
        (lambda: lipschitz_lower_bound(lambda x: x, torch.ones(0, 2)), "x must not be empty"),
        (
            lambda: lipschitz_upper_bound(nn.Sequential(nn.BatchNorm1d(3))),
            "linear layers and known activations, got BatchNorm1d",
        ),
        (lambda: shifted_gaussians(math.inf), "distance must be finite, got inf"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
