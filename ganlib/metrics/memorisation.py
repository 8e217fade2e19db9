"""Are samples copies of the training set? By their distance to it, against that of held-out data."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib.metrics.features import matrices, squared_distances


def nearest(samples: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest reference point of each sample.

    Args:
        samples: ``(N, d)`` features, or images ``(N, C, H, W)``, whose pixels are compared.
        reference: ``(M, d)`` or images, such as the training set.

    Returns:
        Euclidean distances float64 ``(N,)`` and indices int64 ``(N,)``.

    Raises:
        ValueError: for numbers that are not finite or differing widths.
    """
    samples, reference = matrices(samples=samples, reference=reference)
    found = [block.min(1) for block in squared_distances(samples, reference)]
    return torch.cat([f.values for f in found]).sqrt(), torch.cat([f.indices for f in found])


@dataclass(frozen=True)
class Memorisation:
    """What :func:`memorisation` finds.

    Attributes:
        ratio: median distance of samples to the training set over that of held-out data: about 1 for new
            samples of the same distribution, 0 for copies, above 1 for samples far from the data.
        z: the same comparison as a Mann-Whitney test, in standard deviations: about N(0, 1) where the two
            sets of distances are alike, far below 0 for copies, far above for samples far from the data.
    """

    ratio: float
    z: float


def memorisation(samples: Tensor, train: Tensor, heldout: Tensor) -> Memorisation:
    r"""Do samples lie nearer to the training set than new data do?

    With distances L to the nearest training point, U counts over the pairs of a sample and a held-out
    point how often the sample is farther, ties as one half:

    .. math::
        z = \frac{U - n m / 2}{\sqrt{n m (n + m + 1) / 12}}, \qquad
        U = \sum_{i, j} 1[L(s_i) > L(h_j)] + \tfrac{1}{2} 1[L(s_i) = L(h_j)]

    In pixel space a copy that is shifted by a pixel is far from its original; in features it is not. Blurred
    samples, and those from the middle of a class, lie near the training set without being copies of it: read
    the figures beside recall or coverage.

    Args:
        samples: n features ``(n, d)`` or images ``(n, C, H, W)``.
        train: what the generator was trained on.
        heldout: m points of the same distribution that it was not trained on, such as the test set.

    Raises:
        ValueError: for numbers that are not finite or differing widths, or if held-out data are copies of
            training data.

    Source: Meehan, Chaudhuri and Dasgupta, "A Non-Parametric Test to Detect Data-Copying in Generative
    Models", 2020: their statistic on the whole space, without its average over cells.
    """
    samples, train, heldout = matrices(samples=samples, train=train, heldout=heldout)
    (a, _), (b, _) = nearest(samples, train), nearest(heldout, train)
    median = b.median().item()
    # Equal points come out about 1e-7 apart on the scale of the data.
    if median <= 1e-6 * train.var(0, correction=0).sum().sqrt().item():
        raise ValueError("heldout must not be copies of train, got a median distance of 0")
    n, m = len(a), len(b)
    b = b.sort().values
    below, upto = torch.searchsorted(b, a), torch.searchsorted(b, a, right=True)
    u = (below + upto).sum().item() / 2
    z = (u - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return Memorisation(a.median().item() / median, z)
