r"""Keeping a discriminator smooth: penalties on its gradient, and weight clipping.

A penalty is called with the discriminator itself, because it needs a gradient *inside* the loss:
``penalty(discriminator, real, fake)`` returns a scalar to add to the discriminator's loss. Clipping is no
penalty but a projection, done after the discriminator's step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganlib.random import uniform


def gradient_norms(discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    r"""The norm :math:`\|\nabla_x D(x_i)\|_2` of every sample, over all but the batch dimension.

    Args:
        discriminator: maps ``(N, ...)`` to one or several outputs per sample, which are summed.
        x: points ``(N, ...)``; treated as constants.

    Returns:
        ``(N,)`` norms with a graph back to the discriminator's parameters: a loss made of them can be
        minimised ("double backward"). Where a gradient is exactly zero the norm's subgradient 0 is taken,
        so that no NaN arises.

    The outputs of one sample must not depend on the others, so batch norm in the discriminator makes these
    norms wrong: the gradient of the sum then mixes samples.
    """
    x = x.detach().requires_grad_()
    with torch.enable_grad():
        outputs = discriminator(x)
        (gradient,) = torch.autograd.grad(outputs.sum(), x, create_graph=True)
    return torch.linalg.vector_norm(gradient.flatten(1), dim=1)


def interpolate(real: Tensor, fake: Tensor, rng: torch.Generator | None = None) -> Tensor:
    r"""Points drawn uniformly on the lines between pairs, :math:`\hat x_i = u_i x_i + (1 - u_i) \tilde x_i`.

    One weight :math:`u_i \sim U[0, 1]` for each sample, shared by all its pixels and channels.

    Args:
        real: ``(N, ...)``.
        fake: of the same shape.
        rng: source of the weights; torch's global state if None.

    Raises:
        ValueError: if the shapes differ.

    Source: Gulrajani et al. 2017, Algorithm 1, lines 4 and 6.
    """
    if real.shape != fake.shape:
        raise ValueError(
            f"real and fake must have one shape, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    weights = uniform(len(real), device=real.device, rng=rng).to(real.dtype)
    return torch.lerp(fake, real, weights.view(-1, *[1] * (real.ndim - 1)))


def perturb(real: Tensor, fake: Tensor, rng: torch.Generator | None = None) -> Tensor:
    r"""Points around the data, :math:`\hat x_i = x_i + \tfrac12 \operatorname{std}(x) u_i`.

    ``fake`` is not used.
    :math:`u_i \sim U[0, 1]` for each entry; the standard deviation is that of all entries of the batch.
    ``GradientPenalty(points=perturb)`` is DRAGAN's local penalty.

    Source: Kodali et al. 2017, "On Convergence and Stability of GANs". The noise is that of the authors'
    code, which then draws a point between :math:`x_i` and :math:`\hat x_i`; here it is left at the end.
    """
    noise = uniform(len(real), *real.shape[1:], device=real.device, rng=rng).to(real.dtype)
    return real + 0.5 * real.std() * noise


@dataclass(frozen=True)
class GradientPenalty:
    r"""The penalty of WGAN-GP: the critic's slope is pulled to ``target`` between real data and fakes.

    .. math:: \lambda \, E_{\hat x} \big( \|\nabla_{\hat x} D(\hat x)\|_2 - t \big)^2

    The square is taken per sample, then averaged: :math:`(E\|\nabla D\| - t)^2` would be satisfied by a
    critic that is steep here and flat there. It is two-sided: a slope below t costs too, since an optimal
    critic has slope 1 almost everywhere between coupled points (Gulrajani et al. 2017, Proposition 1).
    One-sided, only slopes above t cost: :math:`\max(0, \|\nabla D\| - t)^2`, which is all that the Lipschitz
    condition asks.

    Args:
        weight: :math:`\lambda`, not negative.
        target: t, not negative.
        one_sided: penalise slopes above the target alone.
        points: ``(real, fake, rng)`` -> where the slope is looked at; :func:`interpolate` or :func:`perturb`.

    Raises:
        ValueError: if an argument is negative, or on a call if ``real`` and ``fake`` differ in shape.

    Source: Gulrajani et al. 2017, eq. 3; one-sided: Petzka et al. 2018, "On the regularization of Wasserstein
    GANs". Lectures: Aalto, UBC, OUC, Purdue ("gradient penalty").
    """

    weight: float = 10.0
    target: float = 1.0
    one_sided: bool = False
    points: Callable[[Tensor, Tensor, torch.Generator | None], Tensor] = interpolate
    name: str = "gradient penalty"

    def __post_init__(self) -> None:
        for argument in ("weight", "target"):
            if not getattr(self, argument) >= 0:
                raise ValueError(f"{argument} must be at least 0, got {getattr(self, argument)}")

    def __call__(
        self,
        discriminator: Callable[[Tensor], Tensor],
        real: Tensor,
        fake: Tensor,
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """The weighted penalty, a scalar; gradients reach the discriminator's parameters, not the fakes."""
        excess = gradient_norms(discriminator, self.points(real, fake, rng)) - self.target
        if self.one_sided:
            excess = excess.clamp(min=0)
        return self.weight * excess.square().mean()


@dataclass(frozen=True)
class _ZeroCentred:
    """What R1 and R2 share: ``weight / 2`` times the mean squared slope at given points."""

    weight: float = 10.0

    def __post_init__(self) -> None:
        if not self.weight >= 0:
            raise ValueError(f"weight must be at least 0, got {self.weight}")

    def at(self, discriminator: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        return self.weight / 2 * gradient_norms(discriminator, x).square().mean()


@dataclass(frozen=True)
class R1(_ZeroCentred):
    r"""The discriminator's slope is pulled to zero at real data.

    .. math:: \frac{\gamma}{2} E_{x \sim p_r} \|\nabla_x D(x)\|_2^2

    At the equilibrium D is flat on the data, so a slope there is what keeps players circling. With this
    penalty training converges locally, also where data lie on a thin set; that of WGAN-GP does not.

    Args:
        weight: :math:`\gamma`, not negative.

    Raises:
        ValueError: if ``weight`` is negative.

    Source: Mescheder et al. 2018, eq. 9 (gamma 10 on images) and Theorem 4.1. Lecture: Aalto
    "Zero-centered gradient penalties".
    """

    name: str = "R1"

    def __call__(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty, a scalar; ``fake`` is not used."""
        return self.at(discriminator, real)


@dataclass(frozen=True)
class R2(_ZeroCentred):
    r"""The discriminator's slope is pulled to zero at generated samples.

    .. math:: \frac{\gamma}{2} E_{x \sim p_g} \|\nabla_x D(x)\|_2^2

    Arguments, errors as of :class:`R1`. Source: Mescheder et al. 2018, eq. 10. Lecture:
    Aalto "Zero-centered gradient penalties".
    """

    name: str = "R2"

    def __call__(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty, a scalar; gradients reach the discriminator alone. ``real`` is not used."""
        return self.at(discriminator, fake)


class Lazy(nn.Module):
    r"""A regularizer that acts on every k-th call only, k times as strongly.

    .. math:: k \, R(D, x, \tilde x) \text{ on calls } 0, k, 2k, \dots; \text{ nothing in between}

    The mean over calls is that of the regularizer, for a k-th of its cost; a penalty's second backward pass
    costs about as much as the rest of a discriminator's step. It counts its calls: one object for one game.
    (StyleGAN2 gives the regularizer steps of its own and rescales Adam for them; here both share a step.)

    Args:
        regularizer: ``(discriminator, real, fake)`` -> scalar, with a ``name``.
        every: k, at least 1.

    Raises:
        ValueError: if ``every`` is less than 1.

    Source: Karras et al. 2020 (StyleGAN2), section 3.1 (k = 16 for R1).
    """

    calls: Tensor

    def __init__(self, regularizer: Callable[..., Tensor], every: int = 16) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.regularizer, self.every, self.name = regularizer, every, regularizer.name
        # The buffer goes into checkpoints. The number beside it spares the host a wait for the device.
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self._calls = 0
        self.register_load_state_dict_post_hook(Lazy._loaded)

    def _loaded(self, keys: object) -> None:
        self._calls = int(self.calls)

    def forward(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor | None:
        """``every`` times the regularizer's value when it is due, else None."""
        due = self._calls % self.every == 0
        self._calls += 1
        self.calls += 1
        return self.every * self.regularizer(discriminator, real, fake) if due else None


@torch.no_grad()
def clip_weights_(module: nn.Module, bound: float) -> None:
    """Clamp every parameter of ``module`` to [-bound, bound], in place.

    With all weights in a box the critic is K-Lipschitz for some K that depends on the box and the
    architecture: crude, as the paper says itself, and it drives many weights to the box's edges. Batch-norm
    scales are parameters too and are clamped from about 1 to ``bound``, as Algorithm 1 has it.

    Raises:
        ValueError: if ``bound`` is not positive.

    Source: Arjovsky et al. 2017, Algorithm 1, line 7 (bound 0.01). Lectures: MIT "W-GAN algorithm annotated".
    """
    if not bound > 0:
        raise ValueError(f"bound must be positive, got {bound}")
    for parameter in module.parameters():
        parameter.clamp_(-bound, bound)
