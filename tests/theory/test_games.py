"""Two-parameter games: closed forms, known values, and autograd on the losses that train networks."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganlib.losses import GradientPenalty, Minimax, NonSaturating, Wasserstein
from ganlib.theory.games import (
    BILINEAR,
    MINIMAX,
    NON_SATURATING,
    WASSERSTEIN,
    Consensus,
    DiracGAN,
    Penalty,
    alternating,
    discriminator_in_inner_loop,
    eigenvalues,
    extragradient,
    generator_in_inner_loop,
    gradient_penalty,
    growth,
    r1,
    r2,
    simultaneous,
    trajectory,
)

LOSSES = {"minimax": MINIMAX, "non-saturating": NON_SATURATING, "wasserstein": WASSERSTEIN}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
GAMES = {
    "minimax": DiracGAN(),
    "non-saturating": DiracGAN(NON_SATURATING),
    "wasserstein": DiracGAN(WASSERSTEIN),
    "r1": DiracGAN(penalty=r1(0.3)),
    "gradient penalty": DiracGAN(WASSERSTEIN, gradient_penalty(0.35)),
    "noise": DiracGAN(noise=0.7),
    "noise, non-saturating, r1": DiracGAN(NON_SATURATING, r1(0.2), noise=1.2),
}
every_game = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)

number = st.floats(-2, 2).filter(lambda x: abs(x) > 1e-3)
fast = settings(deadline=None, max_examples=50)


def final_radius(game, **play):
    return float(np.linalg.norm(trajectory(game, **play)[-1]))


def finite_difference(game, point, h=1e-5):
    columns = [(game.field(point + d) - game.field(point - d)) / (2 * h) for d in h * np.eye(2)]
    return np.stack(columns, axis=-1)


# The known values: step 0.2, start (1, 1), 500 rounds


@pytest.mark.parametrize(
    ("game", "rule", "radius"),
    [
        (DiracGAN(), simultaneous, 3.10),
        (DiracGAN(), alternating, 1.42),
        (DiracGAN(WASSERSTEIN, clip=1.0), simultaneous, 1.00),
        (DiracGAN(WASSERSTEIN, gradient_penalty(0.35)), simultaneous, 1.80),
        (DiracGAN(penalty=r1(0.3)), simultaneous, 2.6e-6),
        (DiracGAN(penalty=r1(1.0)), simultaneous, 1e-21),
    ],
    ids=["gan", "gan alternating", "wgan clipped", "wgan-gp", "r1 0.3", "r1 1.0"],
)
def test_final_radius_is_the_known_one(game, rule, radius):
    # The values are known to two or three digits, the last to one.
    assert final_radius(game, rule=rule) == pytest.approx(radius, rel=0.05 if radius < 1e-10 else 0.02)


def test_sampled_instance_noise_ends_in_a_small_cloud():
    radii = [final_radius(DiracGAN(noise=0.7), rng=np.random.default_rng(seed)) for seed in range(20)]
    # Near rest a round kicks psi by eta sigma / sqrt(2 n) (slopes 1/2 on n fakes and n data), while the
    # energy changes by the factor 1 - eta sigma^2 / 2 + eta^2 / 4. Their balance is the "about 0.02".
    eta, variance, n = 0.2, 0.49, 512
    balance = math.sqrt(eta**2 * variance / (2 * n) / (eta * variance / 2 - eta**2 / 4))
    assert balance == pytest.approx(0.02, abs=0.005)
    # The mean square of 20 exponential variables is off by 22 %, its root by 11 %: three of these.
    assert np.sqrt(np.mean(np.square(radii))) == pytest.approx(balance, rel=0.35)
    assert final_radius(DiracGAN(noise=0.7)) < 1e-4, "without sampling nothing holds it back"


def test_sampling_is_of_the_expected_field():
    game = DiracGAN(noise=0.7, batch=1_000_000)
    point = np.array([0.8, -1.1])
    # The deviation of a mean of a million terms of size one is 0.001.
    np.testing.assert_allclose(game.field(point, np.random.default_rng(0)), game.field(point), atol=0.005)


def test_one_seed_gives_one_path():
    paths = [trajectory(DiracGAN(noise=0.7), rng=np.random.default_rng(s), steps=20) for s in (0, 0, 1)]
    assert (paths[0] == paths[1]).all()
    assert (paths[0] != paths[2]).any()


# The bilinear game in closed form


def test_bilinear_is_the_game_xy():
    points = np.random.default_rng(0).normal(size=(5, 7, 2))
    np.testing.assert_array_equal(BILINEAR.field(points), np.stack([-points[..., 1], points[..., 0]], -1))


@fast
@given(x=number, y=number, step=st.floats(0.01, 0.9))
def test_bilinear_radii_per_round(x, y, step):
    expected = {
        simultaneous: math.sqrt(1 + step**2),
        extragradient: math.sqrt(1 - step**2 + step**4),
    }
    for rule, factor in expected.items():
        assert final_radius(BILINEAR, start=(x, y), rule=rule, step=step, steps=30) == pytest.approx(
            factor**30 * math.hypot(x, y), rel=1e-12
        )
    # v - w J'v = v - w p, so the step is (1 - eta w) p + eta v.
    consensus = final_radius(Consensus(BILINEAR, 0.7), start=(x, y), step=step, steps=30)
    factor = math.sqrt((1 - 0.7 * step) ** 2 + step**2)
    assert consensus == pytest.approx(factor**30 * math.hypot(x, y), rel=1e-12)


@fast
@given(x=number, y=number, step=st.floats(0.01, 1.5))
def test_alternating_keeps_an_ellipse(x, y, step):
    path = trajectory(BILINEAR, (x, y), rule=alternating, step=step, steps=300)
    invariant = path[:, 0] ** 2 - step * path[:, 0] * path[:, 1] + path[:, 1] ** 2
    # Rounding: 300 rounds on an ellipse that is up to 7 times longer than wide.
    np.testing.assert_allclose(invariant, invariant[0], rtol=1e-9)


def test_lecture_example_oscillates_ever_wider():
    """UBC: xy with eta = 0.1."""
    path = trajectory(BILINEAR, step=0.1, steps=400)
    radii = np.linalg.norm(path, axis=1)
    assert (np.diff(radii) > 0).all()
    assert radii[-1] == pytest.approx(math.sqrt(2) * 1.01**200, rel=1e-12)


# The Dirac-GAN's field and its derivative


TORCH = {MINIMAX: Minimax(), NON_SATURATING: NonSaturating(), WASSERSTEIN: Wasserstein()}


@every_loss
@pytest.mark.parametrize("target", [None, 0.0, 1.0])
def test_field_is_autograd_on_the_losses_that_train_networks(loss, target):
    """ganlib's discriminators are high on data, the paper's on fakes: the logit of x is -psi x."""
    penalty = None if target is None else GradientPenalty(0.35, target)
    game = DiracGAN(loss, None if target is None else gradient_penalty(0.35, target))
    for point in np.random.default_rng(0).uniform(-2, 2, (10, 2)):
        theta, psi = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in point)

        def discriminator(x, psi=psi):
            return (-psi * x).flatten()

        real, fake = torch.zeros(1, 1, dtype=torch.float64), theta.reshape(1, 1)
        d_loss = TORCH[loss].discriminator(discriminator(real), discriminator(fake))
        if penalty is not None:
            d_loss = d_loss + penalty(discriminator, real, fake.detach(), torch.Generator().manual_seed(0))
        (of_psi,) = torch.autograd.grad(d_loss, psi, retain_graph=True)
        (of_theta,) = torch.autograd.grad(TORCH[loss].generator(discriminator(fake)), theta)
        # Both sides are exact to rounding.
        np.testing.assert_allclose(game.field(point), [-of_theta, -of_psi], rtol=1e-12)


def test_noisy_field_is_the_integral_over_the_noise():
    game, (theta, psi), std = DiracGAN(NON_SATURATING, noise=0.7), (0.8, -1.3), 0.7
    e = np.linspace(-9, 9, 20001)  # the trapezoidal rule is exact here: the integrand vanishes at both ends
    density = np.exp(-(e**2) / 2) / math.sqrt(2 * math.pi) * (e[1] - e[0])
    sigmoid = lambda t: 1 / (1 + np.exp(-t))  # noqa: E731
    x, y = std * e, theta + std * e
    expected = [
        -psi * np.sum(density * sigmoid(psi * y)),
        np.sum(density * (sigmoid(-psi * y) * y - sigmoid(psi * x) * x)),
    ]
    np.testing.assert_allclose(game.field(np.array([theta, psi])), expected, rtol=1e-9)


@every_game
def test_jacobian_by_finite_differences(game):
    for point in np.random.default_rng(1).uniform(-2, 2, (20, 2)):
        # Central differences with h = 1e-5 leave h^2 of a third derivative and 1e-16 / h of rounding.
        np.testing.assert_allclose(game.jacobian(point), finite_difference(game, point), atol=1e-8)


@pytest.mark.parametrize("inner", [DiracGAN(), DiracGAN(NON_SATURATING, r1(0.3)), DiracGAN(noise=0.7)])
def test_jacobian_of_consensus_at_rest(inner):
    game = Consensus(inner, 0.8)
    np.testing.assert_allclose(game.jacobian(np.zeros(2)), finite_difference(game, np.zeros(2)), atol=1e-8)


def test_consensus_descends_the_length_of_the_field():
    inner, point, h = DiracGAN(noise=0.5), np.array([0.7, -0.4]), 1e-5
    energy = lambda p: 0.5 * np.sum(inner.field(p) ** 2)  # noqa: E731
    slope = [(energy(point + d) - energy(point - d)) / (2 * h) for d in h * np.eye(2)]
    step = Consensus(inner, 2.0).field(point) - inner.field(point)
    np.testing.assert_allclose(step, -2 * np.array(slope), atol=1e-8)


@every_game
def test_fields_take_points_of_any_shape(game):
    points = np.random.default_rng(2).normal(size=(3, 4, 2))
    together, apart = game.field(points), [[game.field(p) for p in row] for row in points]
    np.testing.assert_allclose(together, apart, rtol=1e-12)
    assert game.jacobian(points).shape == (3, 4, 2, 2)


# Eigenvalues at the equilibrium


@fast
@given(weight=st.floats(0, 3), noise=st.floats(0, 1.5))
def test_eigenvalues_are_those_of_the_paper(weight, noise):
    """Mescheder et al. 2018, lemmas 2.3, 3.2, 3.3: f'(0) = 1/2, f''(0) = -1/4 of the minimax loss."""
    damping = weight + noise**2 / 2
    root = np.sqrt(complex(damping**2 / 4 - 1 / 4))
    found = eigenvalues(DiracGAN(penalty=r1(weight), noise=noise))
    # Two eigenvalues that nearly coincide are off by the root of the rounding error.
    np.testing.assert_allclose(found, [-damping / 2 + root, -damping / 2 - root], atol=1e-7)


def test_eigenvalues_without_a_cure_are_imaginary():
    for game, size in [(DiracGAN(), 0.5), (DiracGAN(NON_SATURATING), 0.5), (BILINEAR, 1.0)]:
        np.testing.assert_allclose(eigenvalues(game), [1j * size, -1j * size], atol=1e-15)


def test_consensus_moves_both_eigenvalues_left():
    np.testing.assert_allclose(eigenvalues(Consensus(DiracGAN(), 0.8)), [-0.2 + 0.5j, -0.2 - 0.5j])


@pytest.mark.parametrize("game", [DiracGAN(penalty=r1(0.3)), DiracGAN(noise=0.7), Consensus(DiracGAN(), 0.5)])
def test_growth_is_the_rate_of_a_path_near_rest(game):
    # From a start this close the field is linear to 1e-8 of itself. A rotating path wobbles by a third
    # around the rate, which its 500th root brings down to 6e-4.
    radius = final_radius(game, start=(1e-4, 0.0), steps=500)
    assert (radius / 1e-4) ** (1 / 500) == pytest.approx(growth(game, 0.2), rel=1e-3)


def test_wgan_gp_has_no_eigenvalues_and_no_rest():
    game = DiracGAN(WASSERSTEIN, gradient_penalty(0.35))
    with pytest.raises(ValueError, match="kink"):
        eigenvalues(game)
    for rule in (simultaneous, partial(alternating, n_critic=5)):
        tail = trajectory(game, rule=rule)[-100:]
        assert np.linalg.norm(tail, axis=1).max() > 0.5, "it must not converge, however many critic steps"


def test_r1_and_r2_are_one_on_a_line():
    assert r1(0.3) == r2(0.3)
    assert Penalty(0.15, 0.0).slope(np.array(2.0)) == pytest.approx(0.6)


# Rules of play


def test_alternating_moves_the_generator_first_and_lets_the_critic_see_it():
    game = DiracGAN(WASSERSTEIN, clip=1.25)
    # theta = 1 - 0.1 * 1, then psi grows by 0.1 * 0.9 a step: 1.09, 1.18, and 1.27 is clipped.
    for n_critic, psi in [(1, 1.09), (2, 1.18), (3, 1.25)]:
        after = alternating(game, np.array([1.0, 1.0]), 0.1, n_critic=n_critic)
        np.testing.assert_allclose(after, [0.9, psi])


def test_clip_holds_at_every_round():
    path = trajectory(DiracGAN(WASSERSTEIN, clip=0.5), (1.0, 0.2), rule=extragradient, steps=200)
    assert np.abs(path[:, 1]).max() == 0.5


def test_many_starts_at_once_are_as_one_by_one():
    starts = np.random.default_rng(3).normal(size=(4, 2))
    together = trajectory(DiracGAN(penalty=r1(0.3)), starts, steps=50)
    assert together.shape == (51, 4, 2)
    for i, start in enumerate(starts):
        np.testing.assert_allclose(
            together[:, i], trajectory(DiracGAN(penalty=r1(0.3)), start, steps=50), rtol=1e-12
        )


# Min-max against max-min


@pytest.mark.parametrize("p", [[0.5, 0.5], [0.5, 0.3, 0.2], [0.7, 0.1, 0.1, 0.1]])
def test_discriminator_inside_ends_at_the_data(p):
    """The unique minimum of 2 JSD - log 4 (Goodfellow et al. 2014, theorem 1)."""
    start = np.arange(1, len(p) + 1) / sum(range(1, len(p) + 1))
    path = discriminator_in_inner_loop(p, start, steps=2000)
    np.testing.assert_allclose(path[-1], p, atol=1e-6)  # linear convergence, 2,000 steps
    np.testing.assert_allclose(path.sum(axis=1), 1, atol=1e-12)


@pytest.mark.parametrize("p", [[0.5, 0.5], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
def test_generator_inside_is_collapsed_but_right_on_average(p):
    modes, d = generator_in_inner_loop(p, steps=20_000)
    assert modes[0] == np.argmax(p), "all mass on the most likely point"
    assert (d[np.arange(len(modes)), modes] == d.max(axis=1)).all(), "its best answer"
    assert (np.diff(modes) != 0).sum() > 1000, "it never rests"
    assert d[-1000:].mean() == pytest.approx(0.5, abs=0.01)  # D hovers around its equilibrium
    # Blackwell-like averaging: the error of the average falls as 1 / (step * steps), here 5e-4 times a logit.
    np.testing.assert_allclose(np.bincount(modes, minlength=len(p)) / len(modes), p, atol=2e-3)


# Bad input


@pytest.mark.parametrize(
    ("call", "argument"),
    [
        (lambda: DiracGAN(clip=0.0), "clip"),
        (lambda: DiracGAN(noise=-0.1), "noise"),
        (lambda: DiracGAN(noise=math.nan), "noise"),
        (lambda: DiracGAN(batch=0), "batch"),
        (lambda: r1(-1.0), "weight"),
        (lambda: gradient_penalty(1.0, -1.0), "target"),
        (lambda: Consensus(BILINEAR, -1.0), "weight"),
        (lambda: Consensus(BILINEAR, 1.0).jacobian(np.ones(2)), "points"),
        (lambda: trajectory(BILINEAR, (1.0, 2.0, 3.0)), "start"),
        (lambda: trajectory(BILINEAR, (1.0, math.inf)), "start"),
        (lambda: trajectory(BILINEAR, step=0.0), "step"),
        (lambda: trajectory(BILINEAR, steps=-1), "steps"),
        (lambda: alternating(BILINEAR, np.ones(2), 0.1, n_critic=0), "n_critic"),
        (lambda: discriminator_in_inner_loop([0.5, 0.6]), "p"),
        (lambda: discriminator_in_inner_loop([0.5, 0.5], [0.2, 0.3, 0.5]), "start"),
        (lambda: generator_in_inner_loop([1.0, 0.0]), "p"),
    ],
)
def test_bad_input_is_refused(call, argument):
    with pytest.raises(ValueError, match=argument):
        call()
