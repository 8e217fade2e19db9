r"""The optimal discriminator, what the game is worth against it, and what it tells the generator.

p is the data's density, q the generator's (:math:`p_\text{data}` and :math:`p_g` of the lectures). Against
the best discriminator, a generator that plays

- the minimax loss descends :math:`2 JSD(p, q)`;
- the non-saturating loss descends :math:`KL(q \| p) - 2 JSD(p, q) = 2 KL(\frac{p + q}2 \| p)`.

Both are checked here on Gaussians whose mean moves: the left sides as the gradients that flow through D, the
right sides by :mod:`ganlib.theory.divergences`.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import expit, xlogy
from torch import Tensor, nn

from ganlib.losses import Minimax, NonSaturating
from ganlib.theory.divergences import (
    Array,
    checked_widths,
    gaussian_density,
    gaussian_log_ratio,
    gaussian_nodes,
    kl,
)

__all__ = [
    "fit_discriminator",
    "generator_criterion",
    "minimax_gradient",
    "nonsaturating_criterion",
    "nonsaturating_gradient",
    "optimal_discriminator",
    "value",
]


# Any two distributions


def optimal_discriminator(
    p: ArrayLike, q: ArrayLike, real_label: float = 1.0, fake_label: float = 0.0
) -> Array:
    r"""The best discriminator against a fixed generator, point by point.

    .. math:: D^*(x) = \frac{p(x)}{p(x) + q(x)}, \qquad
              \text{with smoothed labels}\quad \frac{\alpha\, p(x) + \beta\, q(x)}{p(x) + q(x)}

    :math:`y \mapsto a \log y + b \log(1 - y)` has its maximum on [0, 1] at :math:`a / (a + b)`, for a and b
    not negative and not both zero. Where neither distribution goes nothing follows: NaN there.

    Args:
        p: the data's density or probabilities, at any points, any shape, not negative.
        q: the generator's at the same points; broadcasts with p.
        real_label: :math:`\alpha`, the target on real data.
        fake_label: :math:`\beta`, the target on fakes.

    Returns:
        D* in [fake_label, real_label], of the broadcast shape.

    Raises:
        ValueError: for a negative, infinite or NaN density, shapes that do not broadcast, or labels that do
            not satisfy ``0 <= fake_label < real_label <= 1``.

    Source: Goodfellow et al. 2014, proposition 1; labels: Salimans et al. 2016, section 3.4. Lectures: UBC
    "Optimal discriminator"; MIT "Theoretical Results"; Aalto; OUC; Purdue "Global optimality." and "One-sided
    label smoothing."
    """
    Minimax(real_label, fake_label)  # the check is the loss's
    p, q = _densities(p, q)
    total = p + q
    mixed = real_label * p + fake_label * q
    return np.divide(mixed, total, out=np.full(total.shape, np.nan), where=total > 0)


def value(
    p: ArrayLike,
    q: ArrayLike,
    d: ArrayLike,
    *,
    real_label: float = 1.0,
    fake_label: float = 0.0,
    widths: ArrayLike = 1.0,
) -> Array:
    r"""What a discriminator scores, :math:`V(D, G) = E_p \log D + E_q \log(1 - D)`, in nats.

    With smoothed labels :math:`E_p [\alpha \log D + (1 - \alpha) \log(1 - D)]
    + E_q [\beta \log D + (1 - \beta) \log(1 - D)]`: minus the discriminator's loss in
    :class:`ganlib.losses.Minimax`.

    Args:
        p: ``(..., n)``, the data's density or probabilities over the last axis, not negative. They need not
            sum to one: the value of a part of the line is a value too.
        q: the generator's; broadcasts with p.
        d: D at the same points, in [0, 1]; it may be NaN where p and q are both zero.
        real_label: :math:`\alpha`.
        fake_label: :math:`\beta`.
        widths: measure of the cells, see :func:`ganlib.theory.divergences.kl`.

    Returns:
        ``(...)``, in [-inf, 0]; -inf for a discriminator that is certain and wrong.

    Raises:
        ValueError: as :func:`optimal_discriminator`, or for a D outside of [0, 1].

    Source: Goodfellow et al. 2014, eq. 1 and 3. Lectures: all five.
    """
    Minimax(real_label, fake_label)
    p, q = _densities(p, q)
    d = np.asarray(d, dtype=np.float64)
    try:
        p, q, d = np.broadcast_arrays(p, q, d)
    except ValueError:
        raise ValueError(f"d must fit p of shape {p.shape}, got shape {d.shape}") from None
    d = np.where((p + q == 0) & np.isnan(d), 0.5, d)
    if not ((d >= 0) & (d <= 1)).all():
        raise ValueError(f"d must lie in [0, 1], got {d.min()} to {d.max()}")
    called_real = real_label * p + fake_label * q
    called_fake = (1 - real_label) * p + (1 - fake_label) * q
    cells = xlogy(called_real, d) + xlogy(called_fake, 1 - d)
    return _integral(cells, widths)


def generator_criterion(p: ArrayLike, q: ArrayLike, *, widths: ArrayLike = 1.0) -> Array:
    r"""What the generator faces against the best discriminator, in nats.

    .. math:: C(G) = \max_D V(D, G) = V(D^*, G) = 2\, JSD(p, q) - \log 4

    In [-log 4, 0]: -log 4 only for q = p, 0 only for disjoint distributions. The middle is computed; that it
    equals the right side is a test. UBC's slide lacks the factor 2. Arguments are those of :func:`value`.

    Source: Goodfellow et al. 2014, eq. 4 and theorem 1. Lectures: UBC "Global minimum"; MIT "Theoretical
    Results"; OUC "Non convergence(original G function)"; Purdue "Global optimality."
    """
    p, q = _densities(p, q)
    real, fake = optimal_discriminator(p, q), optimal_discriminator(q, p)
    # fake = 1 - real, computed apart: where D* rounds to 1, log(1 - D*) would be -inf.
    cells = np.where(p + q > 0, xlogy(p, real) + xlogy(q, fake), 0.0)
    return _integral(cells, widths)


def nonsaturating_criterion(p: ArrayLike, q: ArrayLike, *, widths: ArrayLike = 1.0) -> Array:
    r"""What a non-saturating generator descends against the best discriminator, in nats.

    .. math:: KL(q \| p) - 2\, JSD(p, q) = 2\, KL\!\left(\tfrac{p + q}2 \,\middle\|\, p\right)

    The left side is Arjovsky and Bottou's, "minimise one, maximise the other". The right side, which is what
    is computed, says that the two together are a divergence after all: not negative, zero only for q = p, and
    ``inf`` where the generator goes and the data does not.

    Its *gradient* is the generator's, with D* held fixed; its value is not the generator's loss. Arguments
    and errors are those of :func:`ganlib.theory.divergences.kl`.

    Source: Arjovsky and Bottou 2017, theorem 2.5; the right side: Shannon et al. 2020. Lectures: OUC
    "Unstable & Mode missing"; Purdue "Towards Principled Methods for Training GANs".
    """
    p, q = _densities(p, q)
    return 2 * kl((p + q) / 2, p, widths=widths)


# A Gaussian generator that can only move its mean: G(z) = mean_q + std_q z


def minimax_gradient(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> Array:
    r"""The minimax generator's gradient by its mean, with D* held fixed.

    .. math:: \nabla_\mu E_z \log(1 - D^*(\mu + \sigma z)) = - E_{x \sim q} [D^*(x)\, \ell^{*\prime}(x)]
              = \nabla_\mu\, 2\, JSD(p, q)

    The middle is computed, by quadrature. Where the fakes are, :math:`D^* \approx 0`: the gradient vanishes.

    Args:
        mean_p, std_p: the data's.
        mean_q, std_q: the generator's; all four broadcast.

    Raises:
        ValueError: for a std that is not positive, or a parameter that is not finite.

    Source: Goodfellow et al. 2014, section 4.2 (proposition 2). Lectures: UBC; MIT "Problems of D_JS".
    """
    q, logit, slope, weights = _along(mean_p, std_p, mean_q, std_q)
    return -np.sum(weights * q * expit(logit) * slope, axis=-1)


def nonsaturating_gradient(mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike) -> Array:
    r"""The non-saturating generator's gradient by its mean, with D* held fixed.

    .. math:: \nabla_\mu E_z [-\log D^*(\mu + \sigma z)] = - E_{x \sim q} [(1 - D^*(x))\, \ell^{*\prime}(x)]
              = \nabla_\mu \left[ KL(q \| p) - 2\, JSD(p, q) \right]

    The middle is computed, by quadrature; it is the minimax gradient with the weight D* replaced by 1 - D*,
    close to 1 where the fakes are seen through. Arguments are those of :func:`minimax_gradient`.

    Source: Arjovsky and Bottou 2017, theorem 2.5. Lectures: OUC "Unstable & Mode missing"; Purdue
    "Towards Principled Methods for Training GANs".
    """
    q, logit, slope, weights = _along(mean_p, std_p, mean_q, std_q)
    return -np.sum(weights * q * expit(-logit) * slope, axis=-1)


# By training


def fit_discriminator(
    real: Tensor,
    fake: Tensor,
    network: nn.Module | None = None,
    *,
    loss: Minimax | None = None,
    steps: int = 1000,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> nn.Module:
    """Train a discriminator against a generator that stands still: the D-step, repeated.

    Logistic regression of "real" against "fake", by Adam with a learning rate that falls to zero, which
    averages the noise of the batches away. With samples enough and a network that can follow, its sigmoid
    comes near :func:`optimal_discriminator`, without ever seeing a density.

    Args:
        real: samples ``(N, d)``.
        fake: samples ``(M, d)``.
        network: ``(n, d)`` -> logits, one per sample, trained in place; None takes two hidden layers of 32
            tanh units, and logits ``(n,)``.
        loss: :class:`ganlib.losses.NonSaturating` by default, or with smoothed labels.
        steps: of Adam.
        batch_size: samples per step from either side, drawn with replacement.
        learning_rate: at the start.
        seed: of the batches and of the default network's weights. Torch's global state is left alone.

    Returns:
        The network.

    Raises:
        ValueError: for samples that are empty, not finite or not two matrices of equal width, or ``steps`` or
            ``batch_size`` below 1.

    Source: Goodfellow et al. 2014, Algorithm 1, the inner loop. Lectures: all five.
    """
    for name, samples in (("real", real), ("fake", fake)):
        if samples.ndim != 2 or samples.numel() == 0 or not samples.isfinite().all():
            raise ValueError(f"{name} must be finite samples (N, d), got shape {tuple(samples.shape)}")
    if real.shape[1] != fake.shape[1]:
        raise ValueError(f"fake must be (M, {real.shape[1]}) as real is, got {tuple(fake.shape)}")
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps and batch_size must be at least 1, got {steps} and {batch_size}")
    rng = torch.Generator().manual_seed(seed)
    network = _mlp(real.shape[1], seed) if network is None else network
    loss = NonSaturating() if loss is None else loss
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(steps):
        batches = (x[torch.randint(len(x), (batch_size,), generator=rng)] for x in (real, fake))
        optimizer.zero_grad()
        loss.discriminator(*(network(x) for x in batches)).backward()
        optimizer.step()
        schedule.step()
    return network


def _mlp(inputs: int, seed: int, width: int = 32) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Linear(inputs, width),
            nn.Tanh(),
            nn.Linear(width, width),
            nn.Tanh(),
            nn.Linear(width, 1),
            nn.Flatten(0),
        )


def _along(
    mean_p: ArrayLike, std_p: ArrayLike, mean_q: ArrayLike, std_q: ArrayLike
) -> tuple[Array, Array, Array, Array]:
    """q, the best logit and its slope at the nodes, and the nodes' weights."""
    x, weights = gaussian_nodes(mean_p, std_p, mean_q, std_q)
    mean_p, std_p, mean_q, std_q = (np.asarray(v)[..., None] for v in (mean_p, std_p, mean_q, std_q))
    logit = gaussian_log_ratio(x, mean_p, std_p, mean_q, std_q)
    slope = (x - mean_q) / std_q**2 - (x - mean_p) / std_p**2
    return gaussian_density(x, mean_q, std_q), logit, slope, weights


def _integral(cells: Array, widths: ArrayLike) -> Array:
    if cells.ndim == 0:
        raise ValueError(f"p must have a last axis to integrate over, got shape {cells.shape}")
    return (cells * checked_widths(widths, cells.shape[-1])).sum(axis=-1)


def _densities(p: ArrayLike, q: ArrayLike) -> tuple[Array, Array]:
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    for name, density in (("p", p), ("q", q)):
        if density.size == 0:
            raise ValueError(f"{name} must not be empty, got shape {density.shape}")
        if not (np.isfinite(density).all() and (density >= 0).all()):
            raise ValueError(
                f"{name} must be non-negative and finite, got {density.min()} to {density.max()}"
            )
    try:
        return tuple(np.broadcast_arrays(p, q))
    except ValueError:
        raise ValueError(f"q must broadcast with p of shape {p.shape}, got shape {q.shape}") from None
