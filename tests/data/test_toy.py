"""Targets in the plane: densities against scipy and quadrature, samples against densities."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.integrate import quad

from ganlib.data import toy

BLURRED = {
    "ring": toy.ring(std=0.1),
    "grid": toy.grid(spacing=1.0),
    "roll": toy.swiss_roll(std=0.1),
    "lines": toy.two_lines(),
    "unequal": toy.Segments(torch.tensor([[[-2.0, -1.0], [1.0, -1.0]], [[0.0, 1.0], [0.5, 1.5]]]), 0.1),
    "drawn": toy.drawn([[[-1, -1], [0, 1], [1, -1]], [[0.2, 0.0]]], std=0.15),
}
every_target = pytest.mark.parametrize("target", BLURRED.values(), ids=BLURRED)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def lattice(half, n):
    """Midpoints of n x n cells on [-half, half]^2, and a cell's area."""
    ticks = (torch.arange(n, dtype=torch.float64) + 0.5) * (2 * half / n) - half
    return torch.cartesian_prod(ticks, ticks), (2 * half / n) ** 2


@every_target
def test_density_integrates_to_one(target):
    # Midpoints 0.05 apart: for Gaussians of std s the rule is out by 2 exp(-2 (pi s / 0.05)^2), which is
    # 5e-9 at s = 0.05; no target has more than 1e-15 of its mass outside the square.
    points, area = lattice(3.5, 140)
    assert float(target.density(points).sum() * area) == pytest.approx(1, abs=2e-8)


@pytest.mark.parametrize("target", [toy.ring(), toy.grid(), toy.ring(3, 1.0, 0.5), BLURRED["drawn"]])
def test_mixture_density_is_scipys(target):
    points = target.sample(50, rng()) + 0.01
    expected = sum(
        stats.multivariate_normal(centre.numpy(), target.std**2).pdf(points.double().numpy())
        for centre in target.centres
    ) / len(target.centres)
    # Two float64 evaluations of the same sum.
    np.testing.assert_allclose(target.density(points), expected, rtol=1e-9)


def test_segment_density_is_the_integral_along_the_segment():
    target = toy.Segments(torch.tensor([[[0.0, 0.0], [3.0, 4.0]], [[1.0, 0.0], [1.0, 1.0]]]), 0.3)
    for point in ([1.0, 1.0], [-0.2, 0.1], [3.2, 4.3], [1.1, 0.5]):
        total = 0.0
        for start, end in target.ends.numpy():
            length = math.dist(start, end)

            def along(t, start=start, end=end, point=point):
                return stats.multivariate_normal(start + t * (end - start), 0.09).pdf(point)

            total += length * quad(along, 0, 1, epsabs=1e-12)[0]
        assert float(target.density(torch.tensor([point], dtype=torch.float64))) == pytest.approx(
            total / 6, rel=1e-8
        )  # 5 + 1


def test_swiss_roll_density_is_the_integral_along_the_spiral():
    target = toy.swiss_roll()
    for u in (0.0, 0.31, 1.0):
        point = (target.curve(torch.tensor([u]).double()) + 0.02).numpy()[0]

        def along(v, point=point):
            t = 1.5 * math.pi * (1 + 2 * v)
            centre = 2 / (4.5 * math.pi) * t * np.array([math.cos(t), math.sin(t)])
            return stats.multivariate_normal(centre, 0.035**2).pdf(point)

        near = [v for v in (u - 0.05, u, u + 0.05) if 0 < v < 1]
        expected = quad(along, 0, 1, points=near, limit=500, epsabs=1e-9)[0]
        assert float(target.density(torch.tensor(point[None]))) == pytest.approx(expected, rel=1e-6)


@every_target
def test_samples_fall_where_the_density_says(target):
    # Masses of 7 x 7 cells, each integrated on 20 x 20 points, against the shares of 20,000 samples.
    samples = target.sample(20_000, rng(1))
    assert samples.dtype == torch.float32
    counts = np.histogram2d(*samples.T.numpy(), bins=7, range=[(-3.5, 3.5)] * 2)[0].ravel()
    points, area = lattice(3.5, 140)
    mass = (target.density(points) * area).view(7, 20, 7, 20).sum((1, 3)).flatten().numpy()
    likely = mass * 20_000 > 5  # what the chi-square approximation asks for
    assert likely.sum() >= 4
    rest = max(1e-9, 1 - mass[likely].sum())
    expected = np.append(mass[likely], rest) * 20_000
    observed = np.append(counts[likely], 20_000 - counts[likely].sum())
    keep = expected > 5
    chi2 = ((observed - expected)[keep] ** 2 / expected[keep]).sum()
    # One chance in 10,000 for a right sampler, and the seed is fixed.
    assert stats.chi2.sf(chi2, keep.sum()) > 1e-4


@every_target
def test_three_standard_deviations(target):
    """P(within 3 std of its own centre) = 1 - exp(-9/2) in the plane, more where centres are near."""
    within = (target.distance(target.sample(20_000, rng(2))) <= 3 * target.std).double().mean().item()
    exact = 1 - math.exp(-4.5)
    if len(target.modes):
        # Four standard errors of a share of 20,000.
        assert within == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    else:
        # A long line loses only across it: P(|N(0, 1)| <= 3) = 0.9973; ends and bends lie in between.
        assert exact - 0.003 <= within <= 1


def test_distances_by_hand():
    points = torch.tensor([[3.0, 0.0], [1.0, 2.5], [1.0, 0.3], [0.0, 0.0]])
    expected = [math.hypot(2, 0), 1.0, 0.0, 1.0]
    lines = toy.two_lines(distance=2.0, length=3.0)
    torch.testing.assert_close(lines.distance(points), torch.tensor(expected, dtype=torch.float64))
    deltas = toy.two_deltas(2.0).distance(torch.tensor([[1.0, 0.0], [-1.0, 3.0], [0.0, 0.0]]))
    torch.testing.assert_close(deltas, torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64))
    roll = toy.swiss_roll()
    on = roll.curve(torch.linspace(0, 1, 17, dtype=torch.float64))
    assert roll.distance(on).max() < 2 / 2000
    # The outer end is at t = 4.5 pi, where the spiral points straight up: a step up leaves it by that step.
    torch.testing.assert_close(on[-1], torch.tensor([0.0, 2.0], dtype=torch.float64), atol=1e-12, rtol=0)
    assert float(roll.distance(torch.tensor([[0.0, 2.5]]))) == pytest.approx(0.5, abs=0.002)


def test_modes_are_counted_only_where_they_are_apart():
    assert toy.ring().modes.shape == (8, 2)
    assert toy.grid().modes.shape == (25, 2)
    assert toy.two_deltas().modes.tolist() == [[-1, 0], [1, 0]]
    assert toy.ring(std=0.3).modes.shape == (0, 2)  # neighbours are 1.53 apart, 3-std discs 1.8 wide
    assert toy.ring(1).modes.shape == (1, 2)
    for target in (toy.swiss_roll(), toy.two_lines(), BLURRED["drawn"]):
        assert target.modes.shape == (0, 2)


def test_deltas_have_two_values_and_no_density():
    target = toy.two_deltas(3.0)
    samples = target.sample(1000, rng())
    assert set(map(tuple, samples.tolist())) == {(-1.5, 0.0), (1.5, 0.0)}
    with pytest.raises(ValueError, match="std must be positive"):
        target.density(samples)


def test_strokes_are_even_whatever_the_pen_did():
    """Many points on one half of a stroke must not make that half denser."""
    hesitant = [[x / 100, 0.0] for x in range(101)] + [[2.0, 0.0]]
    target = toy.drawn([hesitant], std=0.1)
    gaps = (target.centres[1:] - target.centres[:-1]).norm(dim=1)
    # 2.0 long in pieces of at most 0.1.
    assert len(target.centres) == 21
    torch.testing.assert_close(gaps, torch.full((20,), 0.1, dtype=torch.float64))
    assert toy.drawn([[[0.5, -0.5]]]).centres.tolist() == [[0.5, -0.5]]


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.floats(0.1, 5), st.floats(0.01, 1), st.integers(0, 2**31))
def test_a_ring_looks_the_same_turned_by_one_mode(modes, radius, std, seed):
    target = toy.ring(modes, radius, std)
    points = radius * torch.randn(20, 2, generator=rng(seed), dtype=torch.float64)
    a = 2 * math.pi / modes
    turn = torch.tensor([[math.cos(a), math.sin(a)], [-math.sin(a), math.cos(a)]], dtype=torch.float64)
    # Rounding of the angle is magnified by the slope of the exponent, at most |x - c| |x| / std^2 here.
    torch.testing.assert_close(target.density(points @ turn), target.density(points), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(target.distance(points @ turn), target.distance(points), rtol=1e-6, atol=1e-7)


@every_target
def test_a_generator_fixes_the_sample_and_the_global_state_stays(target):
    before = torch.get_rng_state()
    assert torch.equal(target.sample(64, rng(5)), target.sample(64, rng(5)))
    assert not torch.equal(target.sample(64, rng(5)), target.sample(64, rng(6)))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: toy.ring(0), "modes"),
        (lambda: toy.ring(radius=0), "radius"),
        (lambda: toy.ring(std=-1), "std"),
        (lambda: toy.grid(0), "side"),
        (lambda: toy.grid(spacing=math.nan), "spacing"),
        (lambda: toy.swiss_roll(radius=-1), "radius"),
        (lambda: toy.swiss_roll(std=math.inf), "std"),
        (lambda: toy.two_lines(distance=0), "distance"),
        (lambda: toy.two_deltas(0), "distance"),
        (lambda: toy.drawn([]), "strokes"),
        (lambda: toy.drawn([[[0, 0], [1, math.nan]]]), r"strokes\[0\]"),
        (lambda: toy.drawn([[[0, 0]]], std=0), "std"),
        (lambda: toy.Mixture(torch.zeros(3), 0.1), "centres"),
        (lambda: toy.Segments(torch.zeros(1, 2, 2), 0.1), "ends"),
        (lambda: toy.Segments(torch.zeros(2, 2), 0.1), "ends"),
        (lambda: toy.ring().sample(0, rng()), "n must"),
        (lambda: toy.ring().density(torch.zeros(2, 3)), "points"),
    ],
)
def test_bad_input_is_named(make, name):
    with pytest.raises(ValueError, match=name):
        make()
