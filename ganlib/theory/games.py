r"""Two-parameter games: why gradient descent by two players turns in circles, and what each cure does.

A state is a point :math:`(\theta, \psi)` of the plane, the generator's parameter first. A game says which way
each player wants to move it, :math:`v = (-\partial L_G/\partial\theta,\; -\partial L_D/\partial\psi)`.
Everything is composed: a game is a loss, a penalty, a clip and noise (:class:`DiracGAN`); it may be wrapped
(:class:`Consensus`); a rule of play takes one step in it (:func:`simultaneous`, :func:`alternating`,
:func:`extragradient`). :func:`trajectory` repeats the step, :func:`eigenvalues` tell how it will end.

The last two functions are about games whose generator holds a whole distribution over a few modes, and about
what changes when the players swap the order in which they answer each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit, softmax

__all__ = [
    "BILINEAR",
    "MINIMAX",
    "NON_SATURATING",
    "WASSERSTEIN",
    "Consensus",
    "DiracGAN",
    "Game",
    "Loss",
    "Penalty",
    "Rule",
    "alternating",
    "discriminator_in_inner_loop",
    "eigenvalues",
    "extragradient",
    "generator_in_inner_loop",
    "gradient_penalty",
    "growth",
    "r1",
    "r2",
    "simultaneous",
    "trajectory",
]

Array = NDArray[np.float64]
Function = Callable[[Array], Array]


class Game(Protocol):
    """Two players with one parameter each; see :class:`DiracGAN`."""

    def field(self, points: Array, rng: np.random.Generator | None = None) -> Array:
        """Where the players want to go from ``points`` ``(..., 2)``: minus each one's own gradient."""

    def jacobian(self, points: Array) -> Array:
        """Derivative of the field, ``(..., 2, 2)``; rows are components of the field."""

    def project(self, points: Array) -> Array:
        """The nearest allowed points, applied after every step."""


def _check_number(name: str, value: float, *, at_least: float) -> None:
    if not (at_least <= value < math.inf):
        raise ValueError(f"{name} must be finite and at least {at_least:g}, got {value}")


# Losses


@dataclass(frozen=True)
class Loss:
    r"""An adversarial loss seen from one number, the discriminator's output t.

    The discriminator maximises :math:`E f(t_\text{fake}) + E f(-t_\text{real})`, the generator minimises
    :math:`E g(t_\text{fake})`. So t is large on *fakes*: it is minus the logit of :mod:`ganlib.losses`, the
    paper's sign and the Aalto lecture's. Only derivatives of f and g matter to the players.

    Attributes:
        slope: :math:`f'`.
        curvature: :math:`f''`.
        generator_slope: :math:`g'`.
        generator_curvature: :math:`g''`.

    Source: Mescheder et al. 2018, eq. 1. Lecture: Aalto "A toy problem for studying the convergence of GANs".
    """

    slope: Function
    curvature: Function
    generator_slope: Function
    generator_curvature: Function


def _slope(t: Array) -> Array:
    return expit(-t)  # of f(t) = -log(1 + exp(-t))


def _curvature(t: Array) -> Array:
    return -expit(t) * expit(-t)


MINIMAX = Loss(_slope, _curvature, _slope, _curvature)
r"""The first GAN's zero-sum game: f = g = :math:`-\log(1 + e^{-t})`, as :class:`ganlib.losses.Minimax`."""

NON_SATURATING = Loss(_slope, _curvature, lambda t: _slope(-t), lambda t: -_curvature(-t))
r"""The flipped label, :math:`g(t) = -f(-t) = \log(1 + e^t)`, as :class:`ganlib.losses.NonSaturating`."""

WASSERSTEIN = Loss(np.ones_like, np.zeros_like, np.ones_like, np.zeros_like)
"""f(t) = g(t) = t: the critic's output itself, as :class:`ganlib.losses.Wasserstein`."""


# Penalties


@dataclass(frozen=True)
class Penalty:
    r"""The penalty :math:`\lambda (\|\nabla_x D\| - t)^2` on a discriminator :math:`D(x) = \psi x`.

    Its slope is :math:`\psi` at every x, so it makes no difference where the penalty looks: on data, on fakes
    or between them it is :math:`\lambda (|\psi| - t)^2`. Made by :func:`gradient_penalty`, :func:`r1` and
    :func:`r2`.

    Raises:
        ValueError: if an argument is negative or not finite.
    """

    weight: float
    target: float

    def __post_init__(self) -> None:
        for argument in ("weight", "target"):
            _check_number(argument, getattr(self, argument), at_least=0.0)

    def slope(self, psi: Array) -> Array:
        r"""Derivative in psi, :math:`2\lambda (|\psi| - t)\operatorname{sign}\psi`; 0 at 0."""
        return 2 * self.weight * (psi - self.target * np.sign(psi))

    def curvature(self, psi: Array) -> Array:
        r"""Second derivative, :math:`2\lambda`, but NaN where a target above 0 leaves a kink at psi = 0."""
        kink = (psi == 0) & (self.weight * self.target > 0)
        return np.where(kink, np.nan, 2 * self.weight)


def gradient_penalty(weight: float = 10.0, target: float = 1.0) -> Penalty:
    r"""WGAN-GP's :math:`\lambda (|\psi| - t)^2`, as :class:`ganlib.losses.GradientPenalty`.

    "psi step minus 0.7 (|psi| - 1) sign psi" is ``gradient_penalty(0.35)``: the square brings down a 2.

    Source: Gulrajani et al. 2017, eq. 3. Lecture: Aalto "Convergence of Wasserstein GAN".
    """
    return Penalty(weight, target)


def r1(weight: float) -> Penalty:
    r"""R1, :math:`\frac\gamma2 E_\text{data} \|\nabla D\|^2 = \frac\gamma2 \psi^2`: psi steps by
    :math:`-\gamma\psi` more.

    Source: Mescheder et al. 2018, eq. 9. Lecture: Aalto "Zero-centered gradient penalties".
    """
    return Penalty(weight / 2, 0.0)


def r2(weight: float) -> Penalty:
    r"""R2, :math:`\frac\gamma2 E_\text{fake} \|\nabla D\|^2`: equal to R1 here, as a line has one slope.

    Source: Mescheder et al. 2018, eq. 10. Lecture: Aalto "Zero-centered gradient penalties".
    """
    return r1(weight)


# Games


@dataclass(frozen=True)
class DiracGAN:
    r"""The smallest GAN: all data at 0, all fakes at :math:`\theta`, a discriminator :math:`D(x) = \psi x`.

    .. math::
        \dot\theta = -\psi\, E\,g'(\psi y), \qquad
        \dot\psi = E\,f'(\psi y)\,y - E\,f'(-\psi x)\,x - R'(\psi)

    with fakes :math:`y = \theta + \sigma\epsilon'`, data :math:`x = \sigma\epsilon`, and penalty R. The only
    equilibrium is (0, 0): the fakes lie on the data and the discriminator has nothing to say.

    Instance noise is normal noise of standard deviation :math:`\sigma` added to data and fakes alike. The
    field is the expectation over it (Gauss-Hermite quadrature); given a random generator, it is an average
    over ``batch`` draws each of data and of fakes, as in training.

    Args:
        loss: ``MINIMAX``, ``NON_SATURATING`` or ``WASSERSTEIN``.
        penalty: on the discriminator's slope; None for none.
        clip: psi is put back into [-clip, clip] after each step.
        noise: standard deviation of the instance noise, not negative.
        batch: draws of noise per step, where noise is drawn.

    Raises:
        ValueError: for an argument out of range.

    Source: Mescheder et al. 2018, section 2 (definition 2.1); noise: section 3.2 and Sonderby et al. 2017.
    Lecture: Aalto "A toy problem for studying the convergence of GANs".
    """

    loss: Loss = MINIMAX
    penalty: Penalty | None = None
    clip: float = math.inf
    noise: float = 0.0
    batch: int = 512

    def __post_init__(self) -> None:
        if not self.clip > 0:
            raise ValueError(f"clip must be positive, got {self.clip}")
        _check_number("noise", self.noise, at_least=0.0)
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")

    def field(self, points: Array, rng: np.random.Generator | None = None) -> Array:
        """Direction of each player, ``(..., 2)``; ``rng`` draws the noise that is otherwise averaged over."""
        theta, psi = points[..., 0], points[..., 1]
        if not self.noise:
            v_theta = -psi * self.loss.generator_slope(theta * psi)
            v_psi = theta * self.loss.slope(theta * psi)  # data at 0 pull at no slope
        else:
            x, y, weights = self._noisy(theta, rng)
            psi_ = psi[..., None]
            v_theta = -psi * (self.loss.generator_slope(psi_ * y) @ weights)
            v_psi = (self.loss.slope(psi_ * y) * y - self.loss.slope(-psi_ * x) * x) @ weights
        if self.penalty is not None:
            v_psi = v_psi - self.penalty.slope(psi)
        return np.stack([v_theta, v_psi], axis=-1)

    def jacobian(self, points: Array) -> Array:
        r"""Derivative of the expected field, ``(..., 2, 2)``; at the equilibrium

        .. math:: J = \begin{pmatrix} 0 & -g'(0) \\ f'(0) & 2\sigma^2 f''(0) - R''(0) \end{pmatrix}.

        NaN where the penalty has a kink, which WGAN-GP's has at psi = 0.
        """
        theta, psi = points[..., 0], points[..., 1]
        x, y, weights = self._noisy(theta, None)
        psi_ = psi[..., None]
        t = psi_ * y
        slope, curvature = self.loss.slope(t), self.loss.curvature(t)
        g_slope, g_curvature = self.loss.generator_slope(t), self.loss.generator_curvature(t)
        of_psi = (curvature * y**2 + self.loss.curvature(-psi_ * x) * x**2) @ weights
        if self.penalty is not None:
            of_psi = of_psi - self.penalty.curvature(psi)
        rows = [
            [-(psi**2) * (g_curvature @ weights), -((g_slope + t * g_curvature) @ weights)],
            [(slope + t * curvature) @ weights, of_psi],
        ]
        return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)

    def project(self, points: Array) -> Array:
        """``points`` with psi clipped."""
        if self.clip == math.inf:
            return points
        return np.stack([points[..., 0], points[..., 1].clip(-self.clip, self.clip)], axis=-1)

    def _noisy(self, theta: Array, rng: np.random.Generator | None) -> tuple[Array, Array, Array]:
        """Data and fakes under noise, ``(..., K)`` each, and the weight ``(K,)`` of each of the K values."""
        if not self.noise:
            return np.zeros(1), theta[..., None], np.ones(1)
        if rng is None:
            return self.noise * _NODES, theta[..., None] + self.noise * _NODES, _WEIGHTS
        x, y = self.noise * rng.standard_normal((2, *theta.shape, self.batch))
        return x, theta[..., None] + y, np.full(self.batch, 1 / self.batch)


# E h(noise) for standard normal noise is h(_NODES) @ _WEIGHTS, exactly for polynomials up to degree 81. For
# sigmoids the error grows with their slope, here noise times psi: 1e-11 at 1.4, 1e-8 at 2, 1e-5 at 3.
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(41)
_WEIGHTS = _WEIGHTS / math.sqrt(2 * math.pi)

BILINEAR = DiracGAN(WASSERSTEIN)
r"""The game xy: x is moved to make it small, y to make it large; :math:`v = (-y, x)`, a pure rotation.

It is the Dirac-GAN of an unconstrained critic. Lecture: UBC "1) Training instability", with step 0.1.
"""


@dataclass(frozen=True)
class Consensus:
    r"""A game whose players also both descend the length of the field, :math:`w \cdot \frac12\|v\|^2`.

    .. math:: v_\text{consensus} = v - w\, J^\top v

    Unlike R1 this is a cooperation: the generator, too, steps back from where gradients are large. NaN where
    the game's Jacobian is.

    Args:
        game: the game to be played.
        weight: w, not negative.

    Raises:
        ValueError: if ``weight`` is negative or not finite.

    Source: Mescheder et al. 2017, Algorithm 2; on the Dirac-GAN, beside R1 and noise: Mescheder et al. 2018,
    figure 3.
    """

    game: Game
    weight: float

    def __post_init__(self) -> None:
        _check_number("weight", self.weight, at_least=0.0)

    def field(self, points: Array, rng: np.random.Generator | None = None) -> Array:
        """Direction of each player, ``(..., 2)``."""
        v = self.game.field(points, rng)
        return v - self.weight * np.einsum("...ji,...j->...i", self.game.jacobian(points), v)

    def jacobian(self, points: Array) -> Array:
        """Derivative of the field at rest, J - w J^T J; elsewhere it would need second derivatives of v.

        Raises:
            ValueError: at points where a player of the game still wants to move.
        """
        if np.abs(self.game.field(points)).max(initial=0.0) > 1e-9:
            raise ValueError(f"points must be equilibria of the game, got {points.tolist()}")
        j = self.game.jacobian(points)
        return j - self.weight * np.swapaxes(j, -1, -2) @ j

    def project(self, points: Array) -> Array:
        """As the game that is played."""
        return self.game.project(points)


# Rules of play


class Rule(Protocol):
    """One round of a game: from points ``(..., 2)`` to the next."""

    def __call__(
        self, game: Game, points: Array, step: float, rng: np.random.Generator | None = None
    ) -> Array: ...


def simultaneous(game: Game, points: Array, step: float, rng: np.random.Generator | None = None) -> Array:
    r"""Both players step at once, each by the old place of the other: :math:`p + \eta v(p)`, then projected.

    In the bilinear game each step multiplies the distance from the origin by :math:`\sqrt{1 + \eta^2}`.

    Source: Mescheder et al. 2018, section 2.1. Lecture: UBC "1) Training instability".
    """
    return game.project(points + step * game.field(points, rng))


def alternating(
    game: Game, points: Array, step: float, rng: np.random.Generator | None = None, *, n_critic: int = 1
) -> Array:
    r"""The generator steps, then the discriminator ``n_critic`` times, each seeing where the other now is.

    In the bilinear game with one step each, :math:`x^2 - \eta xy + y^2` never changes: for :math:`\eta < 2`
    the orbit stays on an ellipse.

    Raises:
        ValueError: if ``n_critic`` is less than 1.

    Source: Mescheder et al. 2018, section 2.1 (generator first). Lecture: Aalto "Convergence of Wasserstein
    GAN" (its :math:`n_d` is ``n_critic``).
    """
    if n_critic < 1:
        raise ValueError(f"n_critic must be at least 1, got {n_critic}")
    points = game.project(points + step * game.field(points, rng) * _GENERATOR)
    for _ in range(n_critic):
        points = game.project(points + step * game.field(points, rng) * _DISCRIMINATOR)
    return points


_GENERATOR, _DISCRIMINATOR = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def extragradient(game: Game, points: Array, step: float, rng: np.random.Generator | None = None) -> Array:
    r"""Look ahead, come back, step as one would there: :math:`p + \eta v(p + \eta v(p))`.

    In the bilinear game each step multiplies the distance from the origin by
    :math:`\sqrt{1 - \eta^2 + \eta^4}`, below 1 for :math:`\eta < 1`.

    Source: Korpelevich 1976; for GANs Gidel et al. 2019, section 3.2.
    """
    ahead = simultaneous(game, points, step, rng)
    return game.project(points + step * game.field(ahead, rng))


def trajectory(
    game: Game,
    start: ArrayLike = (1.0, 1.0),
    *,
    rule: Rule = simultaneous,
    step: float = 0.2,
    steps: int = 500,
    rng: np.random.Generator | None = None,
) -> Array:
    """Play ``steps`` rounds by ``rule`` from one start ``(2,)`` or several ``(..., 2)``.

    Args:
        game: what is played.
        start: the generator's parameter and the discriminator's.
        rule: of play.
        step: the learning rate of both players, positive.
        steps: rounds.
        rng: draws instance noise; None takes its expectation.

    Returns:
        ``(steps + 1, ..., 2)``, the start first.

    Raises:
        ValueError: for a start of another shape or not finite, ``step`` not positive, ``steps`` negative.
    """
    points = np.asarray(start, dtype=np.float64)
    if points.ndim < 1 or points.shape[-1] != 2 or not np.isfinite(points).all():
        raise ValueError(f"start must be finite numbers of shape (..., 2), got {start!r}")
    if not (step > 0 and math.isfinite(step)):
        raise ValueError(f"step must be positive and finite, got {step}")
    if steps < 0:
        raise ValueError(f"steps must not be negative, got {steps}")
    path = np.empty((steps + 1, *points.shape))
    path[0] = points
    with np.errstate(over="ignore", invalid="ignore"):  # a path that explodes is worth seeing, not a mistake
        for i in range(steps):
            path[i + 1] = rule(game, path[i], step, rng)
    return path


def eigenvalues(game: Game) -> NDArray[np.complex128]:
    r"""The two eigenvalues of the field's Jacobian at the equilibrium (0, 0), larger real part first.

    Negative real parts pull in, for small enough steps; purely imaginary ones turn in circles, which every
    finite simultaneous step leaves outwards. In the Dirac-GAN with R1,

    .. math:: \lambda = -\tfrac\gamma2 \pm \sqrt{\tfrac{\gamma^2}4 - f'(0)^2},

    and instance noise puts :math:`-2 f''(0)\sigma^2` in the place of :math:`\gamma`.

    Raises:
        ValueError: where the field has no derivative at the equilibrium, as with WGAN-GP.

    Source: Mescheder et al. 2018, lemmas 2.3, 3.2 and 3.3.
    """
    jacobian = game.jacobian(np.zeros(2))
    if not np.isfinite(jacobian).all():
        raise ValueError("the game's field must have a derivative at (0, 0); a penalty has a kink there")
    values = np.linalg.eigvals(jacobian).astype(np.complex128)
    return values[np.lexsort((-values.imag, -values.real))]


def growth(game: Game, step: float) -> float:
    r"""Factor on the distance from the equilibrium, per simultaneous step close to it.

    It is :math:`\max |1 + \eta\lambda|` over the eigenvalues; below 1 the game converges from near by. With
    complex eigenvalues it is :math:`\sqrt{1 + \eta \operatorname{tr} J + \eta^2 \det J}`, for R1
    :math:`\sqrt{1 - \eta\gamma + \eta^2 f'(0)^2}`.

    Source: Mescheder et al. 2017, proposition 3 and lemma 4.
    """
    return float(np.abs(1 + step * eigenvalues(game)).max())


# Min-max against max-min


def discriminator_in_inner_loop(
    p: ArrayLike, start: ArrayLike | None = None, *, step: float = 1.0, steps: int = 500
) -> Array:
    r"""min over G of max over D: the generator descends, and D answers each of its steps at its best.

    The generator holds probabilities q over K modes, as a softmax of logits. With
    :math:`D^* = p/(p + q)` it descends :math:`C(q) = 2\,JSD(p, q) - \log 4`, whose gradient in q is
    :math:`\log(1 - D^*)`, and ends at q = p.

    Args:
        p: the data's probabilities of the modes, ``(K,)``, positive.
        start: the generator's first probabilities, positive; uniform if None.
        step: of its logits.
        steps: how many.

    Returns:
        q after each step, ``(steps + 1, K)``.

    Raises:
        ValueError: unless ``p`` and ``start`` are positive probabilities of one length.

    Source: Goodfellow et al. 2014, section 4. Lecture: OUC "Review mode collapse".
    """
    p = _positive_probabilities("p", p)
    q = np.full_like(p, 1 / len(p)) if start is None else _positive_probabilities("start", start)
    if q.shape != p.shape:
        raise ValueError(f"start must have the shape of p, {p.shape}, got {q.shape}")
    logits, path = np.log(q), [q]
    for _ in range(steps):
        gradient = np.log(q / (p + q))
        logits = logits - step * q * (gradient - q @ gradient)
        q = softmax(logits)
        path.append(q)
    return np.array(path)


def generator_in_inner_loop(
    p: ArrayLike, *, step: float = 0.1, steps: int = 500
) -> tuple[NDArray[np.intp], Array]:
    r"""max over D of min over G: the discriminator climbs, and G answers each of its steps at its best.

    The value :math:`V = \sum_k p_k \log D_k + q_k \log(1 - D_k)` is linear in q, so the best answer to any D
    is to put all mass on the mode that D rates highest. D, on logits, then climbs
    :math:`\partial V/\partial \ell_k = p_k (1 - D_k) - q_k D_k`, rates that mode lower, and the generator
    moves on to another: always collapsed, never at rest. D starts as the best answer to a uniform generator.

    Args:
        p: the data's probabilities of the modes, ``(K,)``, positive.
        step: of the discriminator's logits.
        steps: how many.

    Returns:
        The mode that has all the mass at each step, ``(steps,)``, and D then, ``(steps, K)``. The former's
        frequencies tend to p: the average of the collapsed generators is right, and none of them.

    Raises:
        ValueError: unless ``p`` holds positive probabilities.

    Source: Goodfellow 2016, section 5.1.1. Lecture: OUC "Review mode collapse".
    """
    p = _positive_probabilities("p", p)
    logits = np.log(p * len(p))
    modes, scores = np.empty(steps, dtype=np.intp), np.empty((steps, len(p)))
    for i in range(steps):
        d = expit(logits)
        modes[i], scores[i] = d.argmax(), d
        gradient = p * (1 - d)
        gradient[modes[i]] -= d[modes[i]]
        logits = logits + step * gradient
    return modes, scores


def _positive_probabilities(name: str, values: ArrayLike) -> Array:
    array = np.asarray(values, dtype=np.float64)
    # 1e-9 lets sums of decimal fractions pass.
    if array.ndim != 1 or not (array > 0).all() or abs(array.sum() - 1) > 1e-9:
        raise ValueError(f"{name} must be positive probabilities (K,) that sum to 1, got {values!r}")
    return array
