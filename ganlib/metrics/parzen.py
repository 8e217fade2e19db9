"""Parzen-window log-likelihood: how the first GAN papers scored samples."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib.metrics.features import matrices, squared_distances


@dataclass(frozen=True)
class LogLikelihood:
    """Mean of a log density over N points, in nats, and its standard error."""

    mean: float
    error: float


def parzen_log_density(samples: Tensor, points: Tensor, sigma: float) -> Tensor:
    r"""Log density at ``points`` of a Gaussian around every sample.

    .. math::
        \log \frac{1}{n} \sum_{i=1}^{n} \exp\Big(-\frac{\|x - s_i\|^2}{2 \sigma^2}\Big)
        - \frac{d}{2} \log (2 \pi \sigma^2)

    In high dimensions one or a few nearest samples make up the sum, so that what is scored is how close they
    are. :mod:`ganlib.studies.parzen` shows what scores higher than the data themselves.

    Args:
        samples: ``(n, d)``; images are flattened.
        points: ``(N, d)``.
        sigma: standard deviation of the kernel, positive, in the samples' units.

    Returns:
        float64 ``(N,)``, in nats.

    Raises:
        ValueError: for numbers that are not finite, differing widths, or a sigma that is not positive.

    Source: Breuleux, Bengio and Vincent, "Quickly Generating Representative Samples from an RBM-Derived
    Process", 2011; Goodfellow et al. 2014, section 5; lecture: Purdue, "Experiments".
    """
    return _log_densities(samples, points, [sigma])[0]


def parzen_sigma(samples: Tensor, validation: Tensor, sigmas: Sequence[float] | None = None) -> float:
    """The kernel width of those given under which ``validation`` points are likeliest.

    Args:
        samples: ``(n, d)``.
        validation: points ``(N, d)``, not those that are scored.
        sigmas: candidates; by default ten from 0.1 to 1 evenly in the logarithm, as in the program that
            Goodfellow et al. published. If an end of the range is chosen, the range was too narrow.

    Raises:
        ValueError: as in :func:`parzen_log_density`, or if there are no candidates.
    """
    sigmas = torch.logspace(-1, 0, 10).tolist() if sigmas is None else list(sigmas)
    means = _log_densities(samples, validation, sigmas).mean(1)
    return sigmas[int(means.argmax())]


def parzen_log_likelihood(samples: Tensor, points: Tensor, sigma: float) -> LogLikelihood:
    """Mean of :func:`parzen_log_density` over ``points``, a test set, with its standard error.

    Goodfellow et al. report 225 +- 2 for 10,000 samples, MNIST's test set with pixels in [0, 1] and the sigma
    of :func:`parzen_sigma` on a thousand images of the validation set. The error is that of the choice of
    points alone; other samples, their number and another sigma move the mean by more.

    Raises:
        ValueError: as in :func:`parzen_log_density`.
    """
    densities = parzen_log_density(samples, points, sigma)
    error = densities.std(correction=0) / math.sqrt(len(densities))
    return LogLikelihood(densities.mean().item(), error.item())


def _log_densities(samples: Tensor, points: Tensor, sigmas: Sequence[float]) -> Tensor:
    """``(len(sigmas), N)``: the distances, which cost most, are taken once for all sigmas."""
    if not len(sigmas) or not all(0 < sigma < math.inf for sigma in sigmas):
        raise ValueError(f"sigma must be positive and finite, got {', '.join(map(str, sigmas)) or 'none'}")
    samples, points = matrices(samples=samples, points=points)
    n, d = samples.shape
    blocks = [
        torch.stack([(block / (-2 * sigma**2)).logsumexp(1) for sigma in sigmas])
        for block in squared_distances(points, samples)
    ]
    constants = [math.log(n) + d / 2 * math.log(2 * math.pi * sigma**2) for sigma in sigmas]
    return torch.cat(blocks, 1) - points.new_tensor(constants)[:, None]
