r"""Moving probability: the earth mover's distance, its plan, its dual, and what approximates it.

Masses are non-negative arrays of one total, a pile or a probability each; they need not sum to one. Cost
is mass times distance: ten shovelfuls moved by half a metre cost 5, and so does the probability 1 moved by
5. For probabilities, all this is the Wasserstein distance of the lectures.

Read in this order: :func:`emd_lp` (the definition), :func:`cdf_area` (the line), :func:`c_transform` (the
dual).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import sparse
from scipy.optimize import linprog
from scipy.spatial.distance import cdist
from scipy.special import erf, logsumexp
from torch import Tensor, nn

from ganlib.losses import gradient_norms
from ganlib.theory.divergences import gaussian_jsd

__all__ = [
    "Comparison",
    "Plan",
    "c_transform",
    "cdf_area",
    "critic_1d",
    "directions",
    "emd",
    "emd_lp",
    "lipschitz_constant",
    "lipschitz_lower_bound",
    "lipschitz_upper_bound",
    "monotone_plan",
    "pairwise_distances",
    "parallel_lines",
    "shifted_gaussians",
    "shovels",
    "sinkhorn",
    "sliced_wasserstein",
    "two_deltas",
    "wasserstein_1d",
]


@dataclass(frozen=True)
class Plan:
    r"""A way to move the masses ``a`` (n piles) onto ``b`` (m piles), and the prices that go with it.

    Attributes:
        cost: :math:`\langle C, \Gamma \rangle = \sum_{ij} C_{ij} \Gamma_{ij}`.
        plan: :math:`\Gamma`, ``(n, m)``: how much goes from pile i to pile j. Rows sum to ``a``, columns to
            ``b``.
        duals: potentials ``(f, g)``, ``(n,)`` and ``(m,)``, with :math:`f_i + g_j \le C_{ij}`. Their value
            :math:`\langle f, a \rangle + \langle g, b \rangle` is at most the cost of any plan; the two are
            equal where plan and potentials are optimal.
    """

    cost: float
    plan: np.ndarray
    duals: tuple[np.ndarray, np.ndarray]


# On the line


def cdf_area(
    x: ArrayLike, y: ArrayLike, x_weights: ArrayLike | None = None, y_weights: ArrayLike | None = None
) -> float:
    r"""The area between two cumulative distribution functions, which is W1 on the line.

    .. math:: W_1(P, Q) = \int |F_P(t) - F_Q(t)| \, dt

    What must cross the point t, in either direction, is the difference of what lies to the left of it.

    Args:
        x: positions ``(n,)``, in any order.
        y: positions ``(m,)``.
        x_weights: masses ``(n,)``, not negative; 1/n each if None.
        y_weights: masses ``(m,)`` of the same total.

    Raises:
        ValueError: if an argument is no vector of finite numbers, is empty, or the masses are negative, all
            zero or of different totals.

    Source: Vallender 1974. Lecture: MIT "Wasserstein Distance" (1-d, discrete and continuous).
    """
    (x, p), (y, q) = _samples(x, y, x_weights, y_weights)
    points = np.sort(np.concatenate([x, y]))
    # Sums up to each point, with a zero in front for the points left of every sample.
    below_p = np.append(0, p.cumsum())[x.searchsorted(points, side="right")]
    below_q = np.append(0, q.cumsum())[y.searchsorted(points, side="right")]
    return float(np.abs(below_p - below_q)[:-1] @ np.diff(points))


def wasserstein_1d(
    x: ArrayLike,
    y: ArrayLike,
    p: float = 1.0,
    x_weights: ArrayLike | None = None,
    y_weights: ArrayLike | None = None,
) -> float:
    r"""The Wasserstein-p distance on the line: sort both and move rank to rank.

    .. math:: W_p(P, Q) = \Big( \int_0^1 |F_P^{-1}(u) - F_Q^{-1}(u)|^p \, du \Big)^{1/p}

    For p = 1 this is the same area as :func:`cdf_area`, cut into horizontal slices rather than vertical ones.
    With masses of total M the integral runs to M.

    Args:
        x: positions ``(n,)``, in any order.
        y: positions ``(m,)``.
        p: exponent, at least 1.
        x_weights: masses ``(n,)``, not negative; 1/n each if None.
        y_weights: masses ``(m,)`` of the same total.

    Raises:
        ValueError: for p below 1 or not finite, and as :func:`cdf_area` does.

    Source: Villani, *Topics in Optimal Transportation*, 2003, theorem 2.18; Peyré and Cuturi, *Computational
    Optimal Transport*, 2019, remark 2.30.
    Lectures: UBC "One can generalize it to Wasserstein-p Distance:"; MIT "Wasserstein Distance".
    """
    if not 1 <= p < math.inf:
        raise ValueError(f"p must be at least 1 and finite, got {p}")
    (x, a), (y, b) = _samples(x, y, x_weights, y_weights)
    ranks_a, ranks_b = a.cumsum(), b.cumsum()
    ranks = np.sort(np.concatenate([ranks_a, ranks_b]))
    quantiles_x = x[ranks_a.searchsorted(ranks).clip(max=len(x) - 1)]
    quantiles_y = y[ranks_b.searchsorted(ranks).clip(max=len(y) - 1)]
    gaps = np.abs(quantiles_x - quantiles_y)
    longest = gaps.max()  # taken out, so that a large p neither overflows nor vanishes
    return float(longest * (np.diff(ranks, prepend=0) @ (gaps / (longest or 1.0)) ** p) ** (1 / p))


def monotone_plan(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    r"""The plan that keeps order: the leftmost earth goes to the leftmost place. On the line it is optimal.

    Pile i holds the ranks from :math:`A_{i-1} = a_0 + \dots + a_{i-1}` to :math:`A_i`; what it sends to j is
    the overlap :math:`\Gamma_{ij} = \max(0, \min(A_i, B_j) - \max(A_{i-1}, B_{j-1}))`.

    Args:
        a: masses ``(n,)``, from left to right.
        b: masses ``(m,)`` of the same total, from left to right.

    Returns:
        ``(n, m)``; optimal for every cost :math:`|x - y|^p` with p >= 1, and for p > 1 the only one that is.

    Raises:
        ValueError: if the masses are negative, not finite, all zero or of different totals.

    Source: the north-west corner rule; Peyré and Cuturi 2019, section 3.4.2. Lecture: MIT "Running example:
    Wasserstein Distance".
    """
    a, b = _masses(a, b)
    ends_a, ends_b = np.append(0, a.cumsum()), np.append(0, b.cumsum())
    ends = np.minimum.outer(ends_a[1:], ends_b[1:])
    starts = np.maximum.outer(ends_a[:-1], ends_b[:-1])
    return (ends - starts).clip(min=0)


def critic_1d(a: ArrayLike, b: ArrayLike, positions: ArrayLike | None = None) -> np.ndarray:
    r"""The best 1-Lipschitz critic of two histograms on the line, from their cumulative sums alone.

    .. math:: f' = \operatorname{sign}(F_b - F_a), \qquad
        \langle f, a \rangle - \langle f, b \rangle = \int f' (F_b - F_a) = \int |F_b - F_a| = W_1(a, b)

    It rises as steeply as it may towards ``a`` wherever earth has to cross, and is level where none has to.

    Args:
        a: masses ``(n,)``; the critic scores these high, as it does data.
        b: masses ``(n,)`` of the same total, scored low, as fakes are.
        positions: where the bins stand ``(n,)``, increasing; 0, 1, 2, ... if None.

    Returns:
        Values ``(n,)`` at the positions, of mean zero. Any constant may be added.

    Raises:
        ValueError: if a and b differ in shape, positions do not increase, or the masses are not as in
            :func:`monotone_plan`.

    Source: integration by parts in the Kantorovich-Rubinstein duality. Lectures: MIT "W-GAN optimizes for
    Wasserstein Distance"; Aalto "Wasserstein GAN".
    """
    a, b = _masses(a, b)
    if a.shape != b.shape:
        raise ValueError(f"a and b must have one shape, got {a.shape} and {b.shape}")
    positions = np.arange(len(a)) if positions is None else np.asarray(positions, dtype=float)
    if positions.shape != a.shape or not (np.diff(positions) > 0).all():
        raise ValueError(f"positions must be {len(a)} increasing numbers, got {positions}")
    missing = (b - a).cumsum()[:-1]
    missing[np.abs(missing) < 1e-12 * a.sum()] = 0  # what rounding leaves of a zero has no sign
    values = np.append(0, (np.sign(missing) * np.diff(positions)).cumsum())
    return values - values.mean()


# Anywhere: a linear programme


def emd_lp(a: ArrayLike, b: ArrayLike, cost: ArrayLike) -> Plan:
    r"""The earth mover's distance as the lecture writes it: a linear programme in the plan's n m entries.

    .. math:: \min_{\Gamma \ge 0} \sum_{ij} C_{ij} \Gamma_{ij}
        \quad\text{so that}\quad \sum_j \Gamma_{ij} = a_i, \quad \sum_i \Gamma_{ij} = b_j

    The multipliers of the two families of constraints are the potentials f and g; f is returned as the most
    that g allows (:func:`c_transform`), so that the pair is feasible whatever the solver has rounded.
    :func:`emd` solves the same problem far faster; this one is to be read.

    Args:
        a: masses ``(n,)``, not negative.
        b: masses ``(m,)`` of the same total.
        cost: ``(n, m)``, the cost of moving a unit of mass from i to j.

    Raises:
        ValueError: if a or b is negative, not finite or all zero, their totals differ, or cost has another
            shape or is not finite.

    Source: Peyré and Cuturi 2019, equations 2.11 and 2.20. Lecture: UBC "Transportation Plan: we split the
    "dirt" (probability) and move it to different locations to match them."
    """
    a, b, cost = _problem(a, b, cost)
    n, m = cost.shape
    rows = sparse.kron(sparse.eye_array(n), np.ones((1, m)))  # of the plan, laid out row after row
    columns = sparse.kron(np.ones((1, n)), sparse.eye_array(m))
    constraints = sparse.vstack([rows, columns], format="csr")
    result = linprog(cost.ravel(), A_eq=constraints, b_eq=np.concatenate([a, b]), method="highs")
    if not result.success:
        raise RuntimeError(f"the linear programme was not solved: {result.message}")
    plan, g = result.x.reshape(n, m), result.eqlin.marginals[n:]
    return Plan(float((plan * cost).sum()), plan, (c_transform(cost, g), g))


def emd(a: ArrayLike, b: ArrayLike, cost: ArrayLike) -> Plan:
    """The earth mover's distance by the network simplex of POT (Python Optimal Transport).

    Same problem, arguments and result as :func:`emd_lp`, in a fraction of the time. Needs the package
    ``pot``.

    Args:
        a: masses ``(n,)``, not negative.
        b: masses ``(m,)`` of the same total.
        cost: ``(n, m)``, the cost of moving a unit of mass from i to j.

    Raises:
        ValueError: as :func:`emd_lp`.
        RuntimeError: if POT is not installed, or did not finish.

    Source: Bonneel et al., "Displacement interpolation using Lagrangian mass transport", 2011 (the solver);
    Flamary et al., "POT: Python Optimal Transport", 2021. Lectures: UBC, MIT, OUC, Aalto, Purdue.
    """
    try:
        import ot
    except ModuleNotFoundError:
        raise RuntimeError("emd needs POT: pip install pot. emd_lp does without, slowly") from None
    a, b, cost = _problem(a, b, cost)
    plan, log = ot.emd(a, b, cost, numItermax=10_000_000, log=True)
    if log["warning"] is not None:
        raise RuntimeError(f"the network simplex did not finish: {log['warning']}")
    return Plan(float((plan * cost).sum()), plan, (c_transform(cost, log["v"]), log["v"]))


def c_transform(cost: ArrayLike, g: ArrayLike) -> np.ndarray:
    r"""The largest potential that the prices ``g`` allow, at any points x: the critic of a finished plan.

    .. math:: f(x) = \min_j \; c(x, y_j) - g_j

    A minimum of functions :math:`|x - y_j| + \text{const}`, each of slope 1, is 1-Lipschitz. So a plan's
    potential, which the solver gives at the piles alone, becomes a critic on the whole space, and
    :math:`\langle f, a \rangle - \langle f, b \rangle` is still W1 when c is a distance.

    Args:
        cost: ``(k, m)``, from k points x, any points, to the m places :math:`y_j`.
        g: ``(m,)``, the second of a plan's duals.

    Returns:
        ``(k,)``.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Villani, *Topics in Optimal Transportation*, 2003, section 1.1 and theorem 1.14. Lectures: UBC
    "Wasserstein distance (using Kantorovich-Rubinstein duality, see, e.g., [8]):"; MIT; Aalto.
    """
    cost, g = np.asarray(cost, dtype=float), np.asarray(g, dtype=float)
    if cost.ndim != 2 or g.shape != cost.shape[1:]:
        raise ValueError(f"cost and g must be (k, m) and (m,), got {cost.shape} and {g.shape}")
    return (cost - g).min(axis=1)


def pairwise_distances(x: ArrayLike, y: ArrayLike) -> np.ndarray:
    """Euclidean distances ``(n, m)`` of points ``(n, d)`` and ``(m, d)``, or numbers ``(n,)`` and ``(m,)``.

    Raises:
        ValueError: for other shapes.
    """
    x, y = (np.asarray(points, dtype=float) for points in (x, y))
    if x.ndim == y.ndim == 1:
        x, y = x[:, None], y[:, None]
    if not (x.ndim == y.ndim == 2 and x.shape[1] == y.shape[1]):
        raise ValueError(f"x and y must be (n, d) and (m, d), got {x.shape} and {y.shape}")
    return cdist(x, y)


# What scales


def sinkhorn(
    a: ArrayLike,
    b: ArrayLike,
    cost: ArrayLike,
    epsilon: float,
    *,
    tolerance: float = 1e-9,
    max_iterations: int = 10_000,
) -> Plan:
    r"""Entropic transport by Sinkhorn's iteration, in the log domain.

    .. math:: \min_{\Gamma} \langle C, \Gamma \rangle + \epsilon \sum_{ij} \Gamma_{ij} \log \Gamma_{ij},
        \qquad \Gamma_{ij} = e^{(f_i + g_j - C_{ij}) / \epsilon}

    Each half-step sets one potential so that its marginal is right. No entry of a probability plan exceeds 1,
    so :math:`f_i + g_j \le C_{ij}`: the potentials are feasible in the problem *without* entropy. The exact
    distance therefore lies between ``<f, a> + <g, b>`` and ``cost``, at most :math:`\epsilon \log(nm)` apart
    for probabilities; for a total M, M times that (a small :math:`\epsilon` is exact but slow).

    Args:
        a: masses ``(n,)``, positive: leave places without mass out.
        b: masses ``(m,)`` of the same total, positive.
        cost: ``(n, m)``.
        epsilon: the price of order, in units of cost; positive.
        tolerance: the iteration ends when the row sums miss ``a`` by this share of the total.
        max_iterations: after which it gives up.

    Raises:
        ValueError: for a mass or epsilon that is not positive, and as :func:`emd_lp`.
        RuntimeError: if the tolerance was not reached.

    Source: Cuturi 2013, algorithm 1; Peyré and Cuturi 2019, equations 4.43 and 4.44 and proposition 4.4.
    """
    a, b, cost = _problem(a, b, cost)
    if not epsilon > 0:
        raise ValueError(f"epsilon must be positive, got {epsilon}")
    for name, masses in (("a", a), ("b", b)):
        if not (masses > 0).all():
            raise ValueError(f"{name} must be positive everywhere, got {masses.min():g}")
    total = a.sum()
    log_a, log_b = np.log(a / total), np.log(b / total)
    g = np.zeros(len(b))
    for _ in range(max_iterations):
        f = epsilon * (log_a - logsumexp((g - cost) / epsilon, axis=1))
        g = epsilon * (log_b - logsumexp((f[:, None] - cost) / epsilon, axis=0))
        plan = np.exp((f[:, None] + g - cost) / epsilon)
        if np.abs(plan.sum(axis=1) - a / total).sum() <= tolerance:
            plan *= total
            return Plan(float((plan * cost).sum()), plan, (f, g))
    raise RuntimeError(
        f"not within {tolerance:g} after {max_iterations} iterations: raise epsilon ({epsilon:g}) or them"
    )


def directions(n: int, dimension: int, seed: int | np.random.Generator) -> np.ndarray:
    """n unit vectors ``(n, dimension)``, uniform on the sphere.

    Raises:
        ValueError: if n or dimension is below 1.
    """
    if n < 1 or dimension < 1:
        raise ValueError(f"n and dimension must be at least 1, got {n} and {dimension}")
    vectors = np.random.default_rng(seed).standard_normal((n, dimension))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def sliced_wasserstein(
    x: ArrayLike, y: ArrayLike, *, seed: int | np.random.Generator, p: float = 2.0, projections: int = 100
) -> float:
    r"""Project two clouds on random lines, where sorting solves transport, and average.

    .. math:: SW_p(P, Q) = \big( E_\theta \, W_p(\theta^\top P, \theta^\top Q)^p \big)^{1/p},
        \qquad \theta \text{ uniform on the sphere}

    Costs ``O(n log n)`` a line. No projection lengthens a distance, so :math:`SW_p \le W_p`; a shift by t
    counts :math:`|t| / \sqrt d` when p = 2.

    Args:
        x: points ``(n, d)``, of mass 1/n each.
        y: points ``(m, d)``.
        seed: of the lines, which are ``directions(projections, d, seed)``.
        p: exponent, at least 1.
        projections: number of lines; the estimate's error falls with its square root.

    Raises:
        ValueError: if the clouds are no finite matrices of one width, or p or projections is below 1.

    Source: Bonneel et al., "Sliced and Radon Wasserstein barycenters of measures", 2015, section 3.
    """
    x, y = (np.asarray(points, dtype=float) for points in (x, y))
    if not (x.ndim == y.ndim == 2 and x.shape[1] == y.shape[1]):
        raise ValueError(f"x and y must be (n, d) and (m, d), got {x.shape} and {y.shape}")
    lines = directions(projections, x.shape[1], seed)
    powers = [wasserstein_1d(s, t, p) ** p for s, t in zip(lines @ x.T, lines @ y.T, strict=True)]
    return float(np.mean(powers) ** (1 / p))


# How steep a function is


def lipschitz_constant(x: ArrayLike, values: ArrayLike) -> float:
    r"""The steepest slope between any two samples, :math:`\max_{i \ne j} |f(x_i) - f(x_j)| / |x_i - x_j|`.

    A lower bound on the function's Lipschitz constant, exact for a piecewise linear function on the line
    sampled at its kinks; ``inf`` if two values are given at one point.

    Args:
        x: points ``(n, d)``, or ``(n,)`` on the line; n at least 2.
        values: ``(n,)``.

    Raises:
        ValueError: for other shapes or fewer points.

    Lectures: MIT "W-GAN optimizes for Wasserstein Distance"; OUC "Lipschitz Continuity"; Aalto.
    """
    values = np.asarray(values, dtype=float)
    distances = pairwise_distances(x, x)
    if values.shape != distances.shape[:1] or len(values) < 2:
        raise ValueError(
            f"values must be one for each of at least 2 points, got {values.shape} for {len(distances)}"
        )
    rises = np.abs(np.subtract.outer(values, values))
    differ = rises > 0
    with np.errstate(divide="ignore"):
        return float((rises[differ] / distances[differ]).max(initial=0.0))


def lipschitz_upper_bound(network: nn.Sequential) -> float:
    r"""A slope that a network nowhere exceeds, the product of spectral norms :math:`\prod_k \|W_k\|_2`.

    An activation contributes the steepest slope it has. The bound is attained only if the layers' strongest
    directions line up, so that it grows loose with depth.

    Args:
        network: linear layers and ReLU, LeakyReLU, Tanh, Sigmoid, Softplus, Flatten, Identity; may be nested.

    Raises:
        ValueError: for any other layer.

    Source: Miyato et al. 2018, section 2.1. Lecture: Aalto, spectral normalization.
    """
    slopes = {
        nn.ReLU: 1.0,
        nn.Tanh: 1.0,
        nn.Sigmoid: 0.25,
        nn.Softplus: 1.0,
        nn.Flatten: 1.0,
        nn.Identity: 1.0,
    }
    bound = 1.0
    for layer in network:
        if isinstance(layer, nn.Sequential):
            bound *= lipschitz_upper_bound(layer)
        elif isinstance(layer, nn.Linear):
            bound *= torch.linalg.matrix_norm(layer.weight.detach(), 2).item()
        elif isinstance(layer, nn.LeakyReLU):
            bound *= max(1.0, abs(layer.negative_slope))
        elif type(layer) in slopes:
            bound *= slopes[type(layer)]
        else:
            raise ValueError(f"network must be made of linear layers and known activations, got {layer}")
    return bound


def lipschitz_lower_bound(function: Callable[[Tensor], Tensor], x: Tensor) -> float:
    r"""A slope that a function does reach: :math:`\max_i \|\nabla f(x_i)\|` over points ``(n, ...)``.

    Args:
        function: maps ``(n, ...)`` to one value per point, each from its own point alone.
        x: where to look; the more points, the closer.

    Raises:
        ValueError: if x is empty.

    Source: Gulrajani et al. 2017, section 2.3: 1-Lipschitz means a gradient of norm at most 1 everywhere.
    """
    if len(x) == 0:
        raise ValueError(f"x must not be empty, got shape {tuple(x.shape)}")
    return gradient_norms(function, x).max().item()


# The lectures' examples, with their answers


@dataclass(frozen=True)
class Comparison:
    """Four ways to compare two distributions P and Q, each an array over a parameter; in nats.

    Attributes:
        kl: KL(P || Q), which is KL(Q || P) too in the examples here.
        jsd: Jensen-Shannon divergence, with the halves.
        total_variation: the largest difference in the probability of any event, in [0, 1].
        wasserstein: W1.
    """

    kl: np.ndarray
    jsd: np.ndarray
    total_variation: np.ndarray
    wasserstein: np.ndarray


def parallel_lines(theta: ArrayLike) -> Comparison:
    r"""P uniform on the segment {0} x [0, 1], Q on {theta} x [0, 1]: the example of every WGAN lecture.

    For :math:`\theta \ne 0` the segments share no point, and the event "on P's segment" has probability 1
    under P and 0 under Q:

    .. math:: KL = \infty, \qquad JSD = \log 2, \qquad TV = 1, \qquad W_1 = |\theta|

    At :math:`\theta = 0` the two are one distribution, so **all four are 0**. (A slide of Purdue's has
    TV = 1 there as well; the paper has 0.)

    Args:
        theta: distance, of any shape.

    Source: Arjovsky et al. 2017, example 1. Lectures: UBC "Why Wasserstein Distance?"; Purdue "Learning
    parallel lines."; Aalto "Wasserstein GAN".
    """
    theta = np.asarray(theta, dtype=float)
    apart = theta != 0
    kl = np.where(apart, np.inf, 0.0)
    return Comparison(kl, math.log(2) * apart, 1.0 * apart, np.abs(theta))


def two_deltas(theta: ArrayLike) -> Comparison:
    r"""P all at 0, Q all at theta: parallel lines seen end on, with the same four answers.

    .. math:: KL = \infty, \qquad JSD = \log 2, \qquad TV = 1, \qquad W_1 = |\theta|; \qquad
        \text{all } 0 \text{ at } \theta = 0

    The second coordinate of :func:`parallel_lines` has one distribution in P and Q and is independent of the
    first, so it adds nothing to a divergence; and earth moves straight across, so it adds nothing to W1.

    Args:
        theta: distance, of any shape.

    Lecture: MIT "Problems of $D_{JS}$" and "Wasserstein Distance" (delta functions).
    """
    return parallel_lines(theta)


def shifted_gaussians(distance: ArrayLike) -> Comparison:
    r"""P = N(0, 1) and Q = N(d, 1).

    .. math:: KL = \tfrac{d^2}{2}, \qquad TV = \operatorname{erf} \tfrac{d}{2 \sqrt 2}, \qquad W_1 = |d|

    The JSD has no closed form and is integrated: 0.337 at d = 2, 0.633 at d = 4, and log 2 = 0.693 far apart,
    the three values on the slide.

    Args:
        distance: d, of any shape.

    Raises:
        ValueError: if a distance is not finite.

    Lecture: MIT "Problems of $D_{JS}$".
    """
    d = np.asarray(distance, dtype=float)
    if not np.isfinite(d).all():
        raise ValueError(f"distance must be finite, got {d}")
    return Comparison(d**2 / 2, gaussian_jsd(0.0, 1.0, d, 1.0), erf(np.abs(d) / math.sqrt(8)), np.abs(d))


def shovels() -> tuple[np.ndarray, np.ndarray, float]:
    """The piles of the running example, P = (3, 2, 1, 4) and Q = (1, 2, 4, 3), and what moving them costs: 5.

    From left to right: the first pile must hand 2 shovelfuls to the second, which hands 2 on to the third,
    which still lacks 1 and takes it from the fourth. 2 + 2 + 1 = 5, each over one step.

    The slides say "2 shovelfuls" and "5" and show the piles in a picture only; these are the piles of the
    picture's source.

    Source: Weng, "From GAN to WGAN", arXiv:1904.08994, section "What is Wasserstein Distance?". Lecture: MIT
    "Running example: Wasserstein Distance".
    """
    return np.array([3.0, 2.0, 1.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0]), 5.0


# Checks of arguments


def _problem(a: ArrayLike, b: ArrayLike, cost: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b = _masses(a, b)
    cost = np.ascontiguousarray(cost, dtype=float)
    if cost.shape != (len(a), len(b)):
        raise ValueError(f"cost must be {(len(a), len(b))}, a row for each of a, got {cost.shape}")
    if not np.isfinite(cost).all():
        raise ValueError("cost must be finite, got NaN or infinity")
    return a, b, cost


def _masses(a: ArrayLike, b: ArrayLike, names: tuple[str, str] = ("a", "b")) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64 vectors of exactly one total."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    for name, masses in zip(names, (a, b), strict=True):
        if masses.ndim != 1 or not np.isfinite(masses).all() or (masses < 0).any() or masses.sum() == 0:
            raise ValueError(
                f"{name} must be a vector of masses, not negative and not all zero, got {masses}"
            )
    if not math.isclose(a.sum(), b.sum(), rel_tol=1e-6):  # float32 probabilities are within this
        raise ValueError(f"{names[0]} and {names[1]} must have one total, got {a.sum():g} and {b.sum():g}")
    return a, b * (a.sum() / b.sum())


def _samples(
    x: ArrayLike, y: ArrayLike, x_weights: ArrayLike | None, y_weights: ArrayLike | None
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Positions in increasing order with their masses, for both."""
    positions = [np.asarray(points, dtype=float) for points in (x, y)]
    for name, points in zip("xy", positions, strict=True):
        if points.ndim != 1 or points.size == 0 or not np.isfinite(points).all():
            raise ValueError(f"{name} must be a vector of finite numbers, got shape {points.shape}: {points}")
    weights = [
        np.full(points.shape, 1 / points.size) if given is None else given
        for points, given in zip(positions, (x_weights, y_weights), strict=True)
    ]
    weights = _masses(*weights, names=("x_weights", "y_weights"))
    for name, points, masses in zip("xy", positions, weights, strict=True):
        if points.shape != masses.shape:
            raise ValueError(f"{name}_weights must be {points.shape}, as {name}, got {masses.shape}")
    orders = [points.argsort(kind="stable") for points in positions]
    return tuple((x[order], w[order]) for x, w, order in zip(positions, weights, orders, strict=True))
