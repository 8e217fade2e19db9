r"""How much an image says about the code it was made from: InfoGAN's lower bound, and the codes themselves.

A code c is drawn, handed to the generator beside its noise, and guessed from the image by a network Q. The
better the guess can be, the more the generator has used the code. Mutual information says how good, in nats:

.. math:: I(c; x) = H(c) - H(c \mid x) = H(c) + E_{x = G(z, c)} E_{c' \sim P(c \mid x)} \log P(c' \mid x)

The posterior P(c | x) of a generator is out of reach. Any other distribution Q(c | x) in its place gives
less:

.. math::
    L_I(G, Q) = E_{c, \; x = G(z, c)} \log Q(c \mid x) + H(c)
              = I(c; x) - E_x \, KL\big( P(c \mid x) \,\|\, Q(c \mid x) \big) \le I(c; x)

The pair (c, x) is drawn the way it comes about, code first, so that nothing is sampled from a posterior. And
the bound has a gradient in *both* networks: Q's parameters, and through x the generator's.

Source: Chen et al. 2016, "InfoGAN", sections 4 and 5. Lecture: OUC "InfoGAN".
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import log_softmax, one_hot

from ganlib.random import uniform


class Code(Protocol):
    """A part of the generator's input that is to be read off the image again.

    Attributes:
        name: of the term in the players' losses.
        weight: lambda, of the bound in the players' losses.
        inputs: numbers that the generator gets.
        outputs: numbers that Q gives per image.
        entropy: H(c) of the prior in nats, differential where the code is continuous.
    """

    name: str
    weight: float

    @property
    def inputs(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    @property
    def entropy(self) -> float: ...

    def draw(
        self, n: int, device: torch.device | None = None, rng: torch.Generator | None = None
    ) -> Tensor: ...

    def encode(self, values: Tensor) -> Tensor: ...

    def log_likelihood(self, outputs: Tensor, values: Tensor) -> Tensor: ...


def information_bound(code: Code, outputs: Tensor, values: Tensor) -> Tensor:
    r"""The bound on a batch, :math:`\frac1N \sum_i \log Q(c_i \mid x_i) + H(c)`: a scalar in nats.

    Args:
        code: what was drawn.
        outputs: of Q on the images, ``(N, code.outputs)``: logits, or means and log variances, and *no*
            probabilities.
        values: the codes from which the images were made, as :meth:`Code.draw` gives them.

    Returns:
        At most H(c) for a categorical code. A continuous one has no such limit: its information grows as
        images tell it more exactly. Below 0 the bound says nothing, for information never is.

    Raises:
        ValueError: if shapes or the dtype of ``values`` do not fit the code.

    Source: Chen et al. 2016, section 5.
    """
    return code.log_likelihood(outputs, values).mean() + code.entropy


@dataclass(frozen=True)
class CategoricalCode:
    r"""One of K classes, all equally likely; Q gives K logits.

    .. math:: \log Q(c \mid x) = \ell_c(x) - \log \sum_k \exp \ell_k(x), \qquad H(c) = \log K

    The softmax is in here, once: a network that ends in another one could give no class more than
    e / (e + K - 1), less than a quarter for K = 10, and hardly a gradient.

    Args:
        classes: K, at least 2.
        weight: of the bound, not negative.
        gain: what the generator gets for the class drawn, where a one-hot vector has 1; positive. Beside tens
            of noise inputs a single 1 is little, and large differences between images come to hang on the
            noise; a larger number makes them hang on the class.
        name: of the term.

    Raises:
        ValueError: for numbers out of these ranges.

    Source: Chen et al. 2016, sections 5 and 6.
    """

    classes: int = 10
    weight: float = 1.0
    gain: float = 1.0
    name: str = "categorical code"

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")
        if not 0 < self.gain < math.inf:
            raise ValueError(f"gain must be positive, got {self.gain}")
        _check_weight(self.weight)

    @property
    def inputs(self) -> int:
        return self.classes

    @property
    def outputs(self) -> int:
        return self.classes

    @property
    def entropy(self) -> float:
        return math.log(self.classes)

    def draw(self, n: int, device: torch.device | None = None, rng: torch.Generator | None = None) -> Tensor:
        """``n`` classes, int64 ``(n,)`` in 0..K - 1; ``rng`` as of :func:`ganlib.random.uniform`."""
        return (self.classes * uniform(n, device=device, rng=rng)).long()

    def encode(self, values: Tensor) -> Tensor:
        """Classes ``(N,)`` as the generator gets them, ``gain`` times one-hot, float32 ``(N, K)``."""
        self._check(values)
        return self.gain * one_hot(values, self.classes).float()

    def log_likelihood(self, outputs: Tensor, values: Tensor) -> Tensor:
        """log Q of each class in ``values``, ``(N,)``, under logits ``(N, K)``; in nats."""
        self._check(values)
        _check_outputs(outputs, len(values), self.outputs)
        return log_softmax(_floats(outputs), dim=1).gather(1, values[:, None])[:, 0]

    def _check(self, values: Tensor) -> None:
        # Not the range: on a GPU the host would wait for it, and one_hot and gather refuse what is outside.
        if values.ndim != 1 or values.dtype != torch.int64:
            raise ValueError(f"values must be int64 (N,), got {values.dtype} {tuple(values.shape)}")


@dataclass(frozen=True)
class ContinuousCode:
    r"""d independent numbers uniform on [-1, 1]; Q is a Gaussian with independent entries.

    .. math::
        \log Q(c \mid x) = -\frac12 \sum_{j=1}^d \Big( \log 2 \pi \sigma_j^2
                           + \frac{(c_j - \mu_j(x))^2}{\sigma_j^2} \Big), \qquad H(c) = d \log 2

    Q gives d means and, unless ``std`` fixes :math:`\sigma`, d logarithms of variances. The authors' code for
    digits has :math:`\sigma = 1`: then the gradient in :math:`\mu` is that of half the squared error. A
    variance of its own per image rewards exactness without end, for the gradient grows as
    :math:`1 / \sigma`: what began as a slant may end as a watermark.

    With :math:`\sigma = 1` the number itself says nothing, being at most :math:`\log 2 - \frac12 \log 2 \pi =
    -0.23` nats per entry, even for a code that is read without error. Ask :func:`gaussian_bound`.

    Args:
        dimensions: d, at least 1.
        weight: of the bound, not negative.
        std: sigma, positive; None to have it predicted.
        name: of the term.

    Raises:
        ValueError: for numbers out of these ranges.

    Source: Chen et al. 2016, section 6 (a factored Gaussian for Q); sigma: the authors' published code.
    """

    dimensions: int = 2
    weight: float = 1.0
    std: float | None = None
    name: str = "continuous code"

    def __post_init__(self) -> None:
        if self.dimensions < 1:
            raise ValueError(f"dimensions must be at least 1, got {self.dimensions}")
        if self.std is not None and not 0 < self.std < math.inf:
            raise ValueError(f"std must be positive or None, got {self.std}")
        _check_weight(self.weight)

    @property
    def inputs(self) -> int:
        return self.dimensions

    @property
    def outputs(self) -> int:
        return self.dimensions if self.std is not None else 2 * self.dimensions

    @property
    def entropy(self) -> float:
        return self.dimensions * math.log(2)

    def draw(self, n: int, device: torch.device | None = None, rng: torch.Generator | None = None) -> Tensor:
        """``n`` codes, float32 ``(n, d)`` in [-1, 1); ``rng`` as of :func:`ganlib.random.uniform`."""
        return 2 * uniform(n, self.dimensions, device=device, rng=rng) - 1

    def encode(self, values: Tensor) -> Tensor:
        """The codes themselves, ``(N, d)``: numbers need no encoding."""
        self._check(values)
        return values

    def log_likelihood(self, outputs: Tensor, values: Tensor) -> Tensor:
        """log Q, ``(N,)``, of codes ``(N, d)`` under means, then log variances: ``(N, outputs)``."""
        self._check(values)
        _check_outputs(outputs, len(values), self.outputs)
        outputs = _floats(outputs)
        mean = outputs[:, : self.dimensions]
        if self.std is None:
            log_variance = outputs[:, self.dimensions :]
        else:
            log_variance = torch.full_like(mean, 2 * math.log(self.std))
        squares = (values - mean).square() * torch.exp(-log_variance)
        return -0.5 * (math.log(2 * math.pi) + log_variance + squares).sum(1)

    def _check(self, values: Tensor) -> None:
        if values.ndim != 2 or values.shape[1] != self.dimensions or not values.is_floating_point():
            raise ValueError(
                f"values must be floating point (N, {self.dimensions}), got {values.dtype} "
                f"{tuple(values.shape)}"
            )


def gaussian_bound(mean: Tensor, values: Tensor) -> Tensor:
    r"""The bound per entry of a :class:`ContinuousCode` for the best :math:`\sigma` that all images share.

    .. math:: L_j = \log 2 - \tfrac12 \log \big( 2 \pi e \, E (c_j - \mu_j(x))^2 \big)

    The Gaussian's likelihood is highest where :math:`\sigma_j^2` is the mean squared error. A Q that knows
    nothing says 0, errs by 1/3 on average, and gets -0.18 nats: a Gaussian is no uniform distribution.

    Args:
        mean: of Q, ``(N, d)``.
        values: the codes, ``(N, d)``.

    Returns:
        ``(d,)`` in nats.

    Raises:
        ValueError: if the shapes differ.
    """
    if mean.shape != values.shape or mean.ndim != 2:
        raise ValueError(
            f"mean and values must be (N, d) both, got {tuple(mean.shape)} and {tuple(values.shape)}"
        )
    errors = (values - _floats(mean)).square().mean(0)
    return math.log(2) - 0.5 * torch.log(2 * math.pi * math.e * errors)


def _check_weight(weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight must be at least 0, got {weight}")


def _check_outputs(outputs: Tensor, rows: int, columns: int) -> None:
    if outputs.shape != (rows, columns):
        raise ValueError(f"outputs must be ({rows}, {columns}), got {tuple(outputs.shape)}")


def _floats(outputs: Tensor) -> Tensor:
    # Under autocast Q ends in bfloat16, whose 8 bits are too few for logarithms and a mean.
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))
