r"""Divergences between two distributions: discrete, on a grid, and between Gaussians in closed form.

A density on a grid and a discrete distribution are one thing here, a density with respect to some measure,
and ``widths`` is the measure of a cell. With the default 1 the entries of ``p`` are probabilities and sums
are sums; with the cells' widths they are densities and sums are integrals (midpoint rule):

>>> x = np.linspace(-10, 10, 2001)
>>> p, q = gaussian_density(x, 0, 1), gaussian_density(x, 2, 1)
>>> round(float(jsd(p, q, widths=x[1] - x[0])), 3)
0.337

Conventions of the course: natural logarithm unless ``base`` says otherwise, :math:`0 \log 0 = 0`, and the
Jensen-Shannon divergence with its halves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import erf, ndtr, xlogy

__all__ = [
    "CHI_SQUARE",
    "JENSEN_SHANNON",
    "KULLBACK_LEIBLER",
    "REVERSE_KL",
    "SQUARED_HELLINGER",
    "TOLERANCE",
    "TOTAL_VARIATION",
    "FDivergence",
    "cross_entropy",
    "entropy",
    "f_divergence",
    "gaussian_density",
    "gaussian_jsd",
    "gaussian_jsd_gradient",
    "gaussian_kl",
    "gaussian_kl_gradient",
    "gaussian_log_ratio",
    "gaussian_nodes",
    "gaussian_total_variation",
    "gaussian_wasserstein1",
    "gaussian_wasserstein1_gradient",
    "gaussian_wasserstein2",
    "jsd",
    "kl",
    "total_variation",
    "variational_bound",
]

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""How far from 1 a distribution may sum: float32 probabilities pass, a forgotten normalisation does not."""


# Any two distributions


def entropy(p: ArrayLike, *, widths: ArrayLike = 1.0, base: float = math.e) -> Array:
    r"""Entropy :math:`H(p) = -\sum_x p(x) \log p(x)`; for a density, the differential entropy.

    Args:
        p: ``(..., n)``, over the last axis a distribution: non-negative, summing to one when weighted with
            ``widths``, within :data:`TOLERANCE`. It is not normalised again.
        widths: measure of the cells, positive, a number or ``(n,)``; 1 for probabilities.
        base: of the logarithm, greater than 1; 2 for bits.

    Returns:
        ``(...)``. In [0, log n] for probabilities; any sign for a density.

    Raises:
        ValueError: for anything else.

    Source: Cover and Thomas 2006, sections 2.1 and 8.1. Lecture: OUC "Understanding KL&JS".
    """
    p, widths = _distribution("p", p, widths)
    return _integral(-xlogy(p, p), widths, base)


def cross_entropy(p: ArrayLike, q: ArrayLike, *, widths: ArrayLike = 1.0, base: float = math.e) -> Array:
    r"""Cross-entropy :math:`H(p, q) = -\sum_x p(x) \log q(x)`: what a code made for q costs on data from p.

    ``inf`` where q is zero and p is not. OUC writes it :math:`H_q(p)`, the code's distribution as the index.
    Arguments and errors are those of :func:`kl`.

    Source: Cover and Thomas 2006, theorem 5.4.3. Lecture: OUC "Understanding KL&JS".
    """
    p, q, widths = _pair(p, q, widths)
    return _integral(-xlogy(p, q), widths, base)


def kl(p: ArrayLike, q: ArrayLike, *, widths: ArrayLike = 1.0, base: float = math.e) -> Array:
    r"""Kullback-Leibler divergence :math:`KL(p \| q) = \sum_x p(x) \log \frac{p(x)}{q(x)} = H(p, q) - H(p)`.

    In [0, inf]; zero only for equal distributions, ``inf`` where q is zero and p is not, not symmetric.

    Args:
        p: ``(..., n)``, over the last axis a distribution: non-negative, summing to one when weighted with
            ``widths``, within :data:`TOLERANCE`. It is not normalised again.
        q: likewise; the last axes must agree, leading ones broadcast.
        widths: measure of the cells, positive, a number or ``(n,)``; 1 for probabilities.
        base: of the logarithm, greater than 1; 2 for bits.

    Returns:
        ``(...)``.

    Raises:
        ValueError: for a negative, infinite or NaN entry, a sum other than one, or shapes that do not fit.

    Source: Kullback and Leibler 1951, section 2. Lectures: OUC "Understanding KL&JS"; Purdue "Different
    distances."; UBC.
    """
    p, q, widths = _pair(p, q, widths)
    # The last two terms sum to zero. With them no cell is negative (log t <= t - 1), nor is the rounded sum.
    return _integral(np.maximum(xlogy(p, p) - xlogy(p, q) - p + q, 0.0), widths, base)


def jsd(p: ArrayLike, q: ArrayLike, *, widths: ArrayLike = 1.0, base: float = math.e) -> Array:
    r"""Jensen-Shannon divergence :math:`\frac12 KL(p \| m) + \frac12 KL(q \| m)` with the mean m of p and q.

    Symmetric, and in [0, log 2]: 0 only for equal distributions, log 2 (1 bit) only for disjoint ones,
    however far apart. Its square root is a metric. Aalto, and Purdue in "Different distances.", leave the
    halves out: twice this. Arguments and errors are those of :func:`kl`.

    Source: Lin 1991, eq. 4.1. Lectures: MIT "Background: Jensen–Shannon divergence"; UBC, OUC, Aalto, Purdue.
    """
    p, q, widths = _pair(p, q, widths)
    cells = xlogy(p, 2 * _share(p, q)) + xlogy(q, 2 * _share(q, p))  # p/m = 2 p/(p + q), at most 2
    return _integral(np.maximum(cells, 0.0) / 2, widths, base)


def total_variation(p: ArrayLike, q: ArrayLike, *, widths: ArrayLike = 1.0) -> Array:
    r"""Total variation :math:`\sup_A |P(A) - Q(A)| = \frac12 \sum_x |p(x) - q(x)|`, in [0, 1].

    The best accuracy of a classifier between p and q, equally frequent, is :math:`(1 + TV)/2`. Arguments and
    errors are those of :func:`kl`.

    Source: Arjovsky et al. 2017, section 2. Lecture: Purdue "Different distances."
    """
    p, q, widths = _pair(p, q, widths)
    return _integral(np.abs(p - q) / 2, widths)


# One formula for them all


@dataclass(frozen=True)
class FDivergence:
    r"""A convex f with f(1) = 0, which makes the divergence :math:`D_f(p \| q) = \sum_x q(x) f(p(x)/q(x))`.

    Args:
        name: as printed.
        f: of the ratio t = p/q in [0, inf), elementwise.
        slope: :math:`f'(\infty) = \lim f(t)/t`, what each unit of p's mass costs where q is zero.
        derivative: :math:`f'(t)`, the best critic in :func:`variational_bound`.
        conjugate: :math:`f^*(u) = \sup_t ut - f(t)`, ``inf`` where that is unbounded.

    Source: Ali and Silvey 1966; Nowozin et al. 2016 (f-GAN), table 1 (other constants for JSD and Hellinger).
    """

    name: str
    f: Callable[[Array], Array]
    slope: float
    derivative: Callable[[Array], Array]
    conjugate: Callable[[Array], Array]


def f_divergence(p: ArrayLike, q: ArrayLike, f: FDivergence, *, widths: ArrayLike = 1.0) -> Array:
    r"""The divergence that f makes, :math:`\sum_{q > 0} q f(p/q) + f'(\infty) P(q = 0)`, in nats.

    >>> float(f_divergence([0.5, 0.5], [0.0, 1.0], TOTAL_VARIATION))
    0.5

    Args:
        p: see :func:`kl`.
        q: see :func:`kl`.
        f: one of ``KULLBACK_LEIBLER``, ``REVERSE_KL``, ``JENSEN_SHANNON``, ``TOTAL_VARIATION``,
            ``CHI_SQUARE``, ``SQUARED_HELLINGER``, or your own.
        widths: see :func:`kl`.

    Returns:
        ``(...)``, in [0, inf].

    Raises:
        ValueError: as :func:`kl`.

    Source: Nowozin et al. 2016, eq. 2; the term at q = 0 is in Liese and Vajda 2006, section II.
    """
    p, q, widths = _pair(p, q, widths)
    ratio, outside = _ratio(p, q)
    beyond = np.where(outside, p, 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        inside = np.where(outside, 0.0, q * f.f(ratio))
        return _integral(inside + np.where(beyond > 0, f.slope * beyond, 0.0), widths)


def variational_bound(
    critic: ArrayLike, p: ArrayLike, q: ArrayLike, f: FDivergence, *, widths: ArrayLike = 1.0
) -> Array:
    r"""What a critic T can certify of an f-divergence, :math:`E_p T - E_q f^*(T) \le D_f(p \| q)`.

    Equal for :math:`T = f'(p/q)`. It needs samples of p and q alone, no densities: that is what makes a GAN
    of any f. With ``JENSEN_SHANNON`` and :math:`T = \frac12 \log 2D` it is
    :math:`\frac12 (V(D, G) + \log 4)`: a discriminator's value is a bound of this kind.

    Args:
        critic: T at the points of p and q; its shape must broadcast with theirs.
        p: see :func:`kl`.
        q: see :func:`kl`.
        f: see :func:`f_divergence`.
        widths: see :func:`kl`.

    Returns:
        ``(...)``, in [-inf, D_f].

    Raises:
        ValueError: as :func:`kl`, or for a critic that is NaN or does not fit.

    Source: Nguyen et al. 2010, lemma 1; Nowozin et al. 2016, eq. 4.
    """
    p, q, widths = _pair(p, q, widths)
    critic = np.asarray(critic, dtype=np.float64)
    if np.isnan(critic).any():
        raise ValueError("critic must not be NaN")
    try:
        np.broadcast_shapes(critic.shape, p.shape, q.shape)
    except ValueError:
        raise ValueError(f"critic must fit p of shape {p.shape}, got shape {critic.shape}") from None
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        gained = np.where(p > 0, p * critic, 0.0)
        paid = np.where(q > 0, q * f.conjugate(critic), 0.0)
    return _integral(gained, widths) - _integral(paid, widths)


# Textbook forms. Adding c (t - 1) to an f changes no value; the constants of JSD and Hellinger fit the
# definitions above: JSD with its halves, and H^2 = 1 - sum sqrt(p q) in [0, 1].
KULLBACK_LEIBLER = FDivergence(
    "KL(p‖q)",
    f=lambda t: xlogy(t, t),
    slope=math.inf,
    derivative=lambda t: 1 + np.log(t),
    conjugate=lambda u: np.exp(u - 1),
)
REVERSE_KL = FDivergence(
    "KL(q‖p)",
    f=lambda t: -np.log(t),
    slope=0.0,
    derivative=lambda t: -1 / t,
    conjugate=lambda u: np.where(u < 0, -1 - np.log(np.abs(u)), math.inf),
)
JENSEN_SHANNON = FDivergence(
    "JSD",
    f=lambda t: (xlogy(t, 2 * t / (1 + t)) + np.log(2 / (1 + t))) / 2,
    slope=math.log(2) / 2,
    derivative=lambda t: np.log(2 * t / (1 + t)) / 2,
    conjugate=lambda u: np.where(np.exp(2 * u) < 2, -np.log(np.abs(2 - np.exp(2 * u))) / 2, math.inf),
)
TOTAL_VARIATION = FDivergence(
    "total variation",
    f=lambda t: np.abs(t - 1) / 2,
    slope=0.5,
    derivative=lambda t: np.sign(t - 1) / 2,
    conjugate=lambda u: np.where(u <= 0.5, np.maximum(u, -0.5), math.inf),
)
CHI_SQUARE = FDivergence(
    "Pearson χ²",
    f=lambda t: (t - 1) ** 2,
    slope=math.inf,
    derivative=lambda t: 2 * (t - 1),
    conjugate=lambda u: np.where(u >= -2, u + u**2 / 4, -1.0),
)
SQUARED_HELLINGER = FDivergence(
    "squared Hellinger",
    f=lambda t: (np.sqrt(t) - 1) ** 2 / 2,
    slope=0.5,
    derivative=lambda t: (1 - 1 / np.sqrt(t)) / 2,
    conjugate=lambda u: np.where(u < 0.5, (1 / (1 - 2 * u) - 1) / 2, math.inf),
)


# Two Gaussians on the line. Parameters broadcast; stds are positive, everything finite, or ValueError.


def gaussian_density(x: ArrayLike, mean: ArrayLike, std: ArrayLike) -> Array:
    r"""The density of :math:`N(\mu, \sigma^2)` at x; arguments broadcast.

    Raises:
        ValueError: unless ``mean`` is finite and ``std`` positive and finite.
    """
    mean, std = _parameters(mean=mean, std=std)
    z = (np.asarray(x, dtype=np.float64) - mean) / std
    return np.exp(-(z**2) / 2) / (std * math.sqrt(2 * math.pi))


def gaussian_log_ratio(
    x: ArrayLike, mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> Array:
    r"""The log ratio of two Gaussian densities at x, which is the optimal discriminator's logit.

    .. math:: \ell^*(x) = \log p(x) - \log q(x), \qquad D^*(x) = \sigma(\ell^*(x))

    A parabola in x, a straight line for equal stds, and finite where both densities round to zero. All
    arguments broadcast; errors are those of :func:`gaussian_kl`.

    Lecture: Aalto "Spectral Normalization" (its :math:`f^*`).
    """
    mean_p, std_p, mean_q, std_q = _parameters(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    x = np.asarray(x, dtype=np.float64)
    return (((x - mean_q) / std_q) ** 2 - ((x - mean_p) / std_p) ** 2) / 2 + np.log(std_q / std_p)


def gaussian_kl(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike, *, base: float = math.e
) -> Array:
    r"""Kullback-Leibler divergence of two Gaussians.

    .. math::
        KL(p \| q) = \log \frac{\sigma_q}{\sigma_p}
            + \frac{\sigma_p^2 + (\mu_p - \mu_q)^2}{2 \sigma_q^2} - \frac12

    With equal stds it is :math:`(\mu_p - \mu_q)^2 / 2\sigma^2`, the same both ways: UBC's example, N(0, 1)
    against N(1, 1), gives 1/2 twice. It takes unequal stds to see that KL is not symmetric.

    Args:
        mean_p, std_p, mean_q, std_q: of p and q; they broadcast.
        base: of the logarithm.

    Raises:
        ValueError: for a std that is not positive, a value that is not finite, shapes that do not broadcast.

    Source: Kullback 1959. Lecture: UBC "Global minimum".
    """
    mean_p, std_p, mean_q, std_q = _parameters(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    ratio, distance = std_p / std_q, (mean_p - mean_q) / std_q
    # ratio^2 - 1 - 2 log ratio, factored so that it stays exact near ratio = 1.
    spread = (ratio - 1) * (ratio + 1) - 2 * np.log(ratio)
    return (np.maximum(spread, 0.0) + distance**2) / 2 / _log(base)


def gaussian_kl_gradient(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> tuple[Array, Array]:
    r"""Derivatives by :math:`\mu_q` of :math:`KL(p \| q)` and of :math:`KL(q \| p)`.

    .. math:: (\mu_q - \mu_p) / \sigma_q^2, \qquad (\mu_q - \mu_p) / \sigma_p^2

    Proportional to the distance: far away a KL pulls hardest. Arguments are those of :func:`gaussian_kl`.
    """
    mean_p, std_p, mean_q, std_q = _parameters(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    return (mean_q - mean_p) / std_q**2, (mean_q - mean_p) / std_p**2


def gaussian_total_variation(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> Array:
    r"""Total variation of two Gaussians, from the points where the densities cross.

    With equal stds they cross once, halfway, and
    :math:`TV = \operatorname{erf}(|\mu_p - \mu_q| / \sqrt8 \sigma)`; otherwise twice, and it is the
    difference of the masses between the crossings. Arguments are those of :func:`gaussian_kl`.
    """
    mean_p, std_p, mean_q, std_q = _parameters(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    # In units of p: N(0, 1) against N(d, s^2). log p = log q is a x^2 - 2 h x + c = 0.
    d, s = (mean_q - mean_p) / std_p, std_q / std_p
    a, h, c = (1 - s) * (1 + s) / s**2, d / s**2, (d / s) ** 2 + 2 * np.log(s)
    root = np.sqrt((d / s) ** 2 - 2 * np.log(s) * a)
    far = h + np.copysign(root, h)
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = far / a, c / far  # the first is infinite for equal stds; ndtr(inf) = 1
        inside_p = ndtr(second) - ndtr(first)
        inside_q = ndtr((second - d) / s) - ndtr((first - d) / s)
    return np.where(far == 0, 0.0, np.abs(inside_p - inside_q))  # far = 0 only for equal distributions


def gaussian_wasserstein1(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> Array:
    r"""Wasserstein-1 distance of two Gaussians on the line.

    The quantiles differ by :math:`\Delta\mu + \Delta\sigma Z` with Z standard normal, and W1 is the mean of
    its absolute value:

    .. math::
        W_1 = \Delta\mu \operatorname{erf}\frac{\Delta\mu}{\sqrt2 \Delta\sigma}
              + \Delta\sigma \sqrt{2/\pi}\, e^{-\Delta\mu^2 / 2 \Delta\sigma^2}

    With equal stds just :math:`|\Delta\mu|`. Arguments are those of :func:`gaussian_kl`.

    Source: Villani 2003, theorem 2.18 (cost by quantiles), and the mean of a folded normal.
    """
    difference, spread = _quantile_difference(mean_p, std_p, mean_q, std_q)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / spread)
    return difference * erf(z / math.sqrt(2)) + spread * math.sqrt(2 / math.pi) * np.exp(-(z**2) / 2)


def gaussian_wasserstein1_gradient(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> Array:
    r"""Derivative of W1 by :math:`\mu_q`, :math:`\operatorname{erf}(\Delta\mu / \sqrt2 \Delta\sigma)`.

    Near 1 in size at any distance. Where the two are equal W1 has a kink, and 0 is returned. Arguments are
    those of :func:`gaussian_kl`.
    """
    difference, spread = _quantile_difference(mean_p, std_p, mean_q, std_q)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(difference == 0, 0.0, difference / spread)
    return erf(z / math.sqrt(2))


def gaussian_wasserstein2(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> Array:
    r"""Wasserstein-2 distance :math:`\sqrt{(\mu_p - \mu_q)^2 + (\sigma_p - \sigma_q)^2}`.

    Arguments are those of :func:`gaussian_kl`. Source: Dowson and Landau 1982; the same formula with
    covariance matrices is the FID's.
    """
    return np.hypot(*_quantile_difference(mean_p, std_p, mean_q, std_q))


def gaussian_jsd(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike, *, base: float = math.e
) -> Array:
    r"""Jensen-Shannon divergence of two Gaussians, by quadrature, to 1e-8 or better.

    There is no closed form: the mean of two Gaussian densities is no Gaussian. Unit Gaussians at distance 2
    and 4 have 0.337 and 0.633, far apart log 2. Arguments are those of :func:`gaussian_kl`.

    Lecture: MIT "Problems of D_JS".
    """
    x, weights, parameters = _nodes(mean_p, std_p, mean_q, std_q)
    p, q = gaussian_density(x, *parameters[:2]), gaussian_density(x, *parameters[2:])
    logit = gaussian_log_ratio(x, *parameters)
    # log 2D = log 2 - softplus(-logit): no quotient of densities, which far out is 0/0.
    cells = p * (math.log(2) - np.logaddexp(0, -logit)) + q * (math.log(2) - np.logaddexp(0, logit))
    return np.sum(np.maximum(cells, 0.0) * weights, axis=-1) / 2 / _log(base)


def gaussian_jsd_gradient(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> Array:
    r"""Derivative of the Jensen-Shannon divergence by :math:`\mu_q`, in nats.

    .. math:: \frac12 \int \frac{\partial q}{\partial \mu_q} \log \frac{q}{m}
              = \frac12 E_{x \sim q} \left[ \frac{x - \mu_q}{\sigma_q^2} \log(1 - D^*(x)) \right]

    It rises, peaks and dies out with the distance. Arguments are those of :func:`gaussian_kl`.
    """
    x, weights, parameters = _nodes(mean_p, std_p, mean_q, std_q)
    _, _, mean_q, std_q = parameters
    cells = gaussian_density(x, mean_q, std_q) * np.logaddexp(0, gaussian_log_ratio(x, *parameters))
    return -np.sum(weights * cells * (x - mean_q) / std_q**2, axis=-1) / 2


def gaussian_nodes(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> tuple[Array, Array]:
    r"""Points and weights that integrate what is made of two Gaussians, however different their scales.

    Gauss-Legendre with 16 points on each piece of the line between consecutive points of
    :math:`\mu_p \pm k\sigma_p` and :math:`\mu_q \pm k\sigma_q`, k = 0..12: near either mean no piece is
    longer than that std, and outside all of them there is less than 1e-32 of mass.

    Returns:
        x and weights, both ``(..., 784)``, the parameters' shape in front.
    """
    mean_p, std_p, mean_q, std_q = _parameters(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    k = np.arange(-12, 13)
    edges = [m[..., None] + s[..., None] * k for m, s in ((mean_p, std_p), (mean_q, std_q))]
    edges = np.sort(np.concatenate(edges, axis=-1), axis=-1)[..., None]
    left, half = edges[..., :-1, :], np.diff(edges, axis=-2) / 2
    x, weights = left + half * (1 + _LEGENDRE[0]), half * _LEGENDRE[1]
    return x.reshape(*x.shape[:-2], -1), weights.reshape(*weights.shape[:-2], -1)


_LEGENDRE = np.polynomial.legendre.leggauss(16)


def _nodes(*parameters: ArrayLike) -> tuple[Array, Array, list[Array]]:
    """The nodes, their weights, and the parameters with an axis for them."""
    return *gaussian_nodes(*parameters), [np.asarray(v)[..., None] for v in parameters]


def _quantile_difference(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> tuple[Array, Array]:
    mean_p, std_p, mean_q, std_q = _parameters(mean_p=mean_p, std_p=std_p, mean_q=mean_q, std_q=std_q)
    return mean_q - mean_p, np.abs(std_q - std_p)


# Checks


def _distribution(name: str, p: ArrayLike, widths: ArrayLike) -> tuple[Array, Array]:
    p = np.asarray(p, dtype=np.float64)
    if p.ndim == 0 or p.size == 0:
        raise ValueError(f"{name} must have a last axis of at least one outcome, got shape {p.shape}")
    widths = checked_widths(widths, p.shape[-1])
    if not (np.isfinite(p).all() and (p >= 0).all()):
        raise ValueError(f"{name} must be non-negative and finite, got {p.min()} to {p.max()}")
    sums = (p * widths).sum(axis=-1)
    worst = float(sums.flat[np.argmax(np.abs(sums - 1))])
    if not abs(worst - 1) <= TOLERANCE:
        raise ValueError(f"{name} times widths must sum to 1 within {TOLERANCE:g}, got {worst:.9g}")
    return p, widths


def checked_widths(widths: ArrayLike, n: int) -> Array:
    """The measure of n cells as an array, or ValueError."""
    widths = np.asarray(widths, dtype=np.float64)
    if widths.shape not in ((), (n,)):
        raise ValueError(f"widths must be a number or of shape ({n},), got shape {widths.shape}")
    if not (np.isfinite(widths).all() and (widths > 0).all()):
        raise ValueError(f"widths must be positive and finite, got {widths.min()} to {widths.max()}")
    return widths


def _pair(p: ArrayLike, q: ArrayLike, widths: ArrayLike) -> tuple[Array, Array, Array]:
    (p, widths), (q, _) = _distribution("p", p, widths), _distribution("q", q, widths)
    try:
        np.broadcast_shapes(p.shape, q.shape)
    except ValueError:
        fits = False
    else:
        fits = p.shape[-1] == q.shape[-1]
    if not fits:
        raise ValueError(f"q must fit p of shape {p.shape}, with an equal last axis, got shape {q.shape}")
    return p, q, widths


def _parameters(**values: ArrayLike) -> list[Array]:
    arrays = {name: np.asarray(value, dtype=np.float64) for name, value in values.items()}
    for name, value in arrays.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got {value}")
        if name.startswith("std") and not (value > 0).all():
            raise ValueError(f"{name} must be positive, got {value}")
    try:
        return list(np.broadcast_arrays(*arrays.values()))
    except ValueError:
        shapes = {name: value.shape for name, value in arrays.items()}
        raise ValueError(f"{', '.join(arrays)} must broadcast, got shapes {shapes}") from None


def _log(base: float) -> float:
    if not 1 < base < math.inf:
        raise ValueError(f"base must be greater than 1 and finite, got {base}")
    return math.log(base)


def _integral(values: Array, widths: Array, base: float = math.e) -> Array:
    return (values * widths).sum(axis=-1) / _log(base) + 0.0  # not -0.0


def _share(p: Array, q: Array) -> Array:
    """p / (p + q), and 0 where both are 0."""
    p, q = np.broadcast_arrays(p, q)
    return np.divide(p, p + q, out=np.zeros(p.shape), where=p + q > 0)


def _ratio(p: Array, q: Array) -> tuple[Array, Array]:
    """p / q, and where it is not finite: there q is zero, or so small beside p that it counts as zero."""
    p, q = np.broadcast_arrays(p, q)
    with np.errstate(over="ignore"):
        ratio = np.divide(p, q, out=np.full(p.shape, math.inf), where=q > 0)
    outside = np.isinf(ratio)
    return np.where(outside, 1.0, ratio), outside
