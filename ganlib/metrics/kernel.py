"""Kernel distance between two sets of features: KID."""

import torch
from torch import Tensor

from ganlib.metrics.features import BLOCK, Estimate, matrices


def kernel_distance(real: Tensor, generated: Tensor) -> float:
    r"""Unbiased estimate of the squared maximum mean discrepancy with the cubic kernel.

    .. math::
        \frac{1}{N (N - 1)} \sum_{i \neq j} k(x_i, x_j) + \frac{1}{M (M - 1)} \sum_{i \neq j} k(y_i, y_j)
        - \frac{2}{N M} \sum_{i, j} k(x_i, y_j), \qquad k(x, y) = \Big(\frac{x \cdot y}{d} + 1\Big)^3

    The kernel compares means, second and third moments. The estimate's expectation is the distance itself
    whatever the number of samples, where FID's is above it. For two sets of one distribution it therefore
    scatters around 0, on both sides.

    Args:
        real: features ``(N, d)``, N at least 2.
        generated: features ``(M, d)``, M at least 2.

    Raises:
        ValueError: for features that are not finite, differ in width, or are fewer than 2.

    Source: Gretton et al., "A Kernel Two-Sample Test", 2012, Lemma 6; the kernel of Bińkowski et al.,
    "Demystifying MMD GANs", 2018, section 4.
    """
    x, y = _checked(real, generated)
    return _mmd(x, y).item()


def kid(real: Tensor, generated: Tensor, subsets: int = 100, size: int = 1000, seed: int = 0) -> Estimate:
    """Kernel Inception distance: :func:`kernel_distance` of random subsets, which gives it a spread.

    Both sides of a subset are drawn without replacement. The subsets overlap, so that the standard deviation
    is that of one subset of this size and not the error of the mean.

    Args:
        real: features ``(N, d)``, such as ``extract_features(images, ClassifierFeatures())``; Inception's
            give the published metric its name.
        generated: features ``(M, d)``.
        subsets: how many.
        size: features per side and subset, 2 to min(N, M).
        seed: of the subsets.

    Returns:
        Mean and population standard deviation over the subsets.

    Raises:
        ValueError: as in :func:`kernel_distance`, or for counts out of range.

    Source: Bińkowski et al. 2018, section 4.
    """
    x, y = _checked(real, generated)
    if subsets < 1:
        raise ValueError(f"subsets must be at least 1, got {subsets}")
    if not 2 <= size <= min(len(x), len(y)):
        raise ValueError(f"size must be in 2..{min(len(x), len(y))}, the smaller set, got {size}")
    generator = torch.Generator().manual_seed(seed)

    def subset(matrix: Tensor) -> Tensor:
        return matrix[torch.randperm(len(matrix), generator=generator)[:size].to(matrix.device)]

    return Estimate.over(torch.stack([_mmd(subset(x), subset(y)) for _ in range(subsets)]))


def _checked(real: Tensor, generated: Tensor) -> tuple[Tensor, Tensor]:
    x, y = matrices(real=real, generated=generated)
    for name, matrix in (("real", x), ("generated", y)):
        if len(matrix) < 2:
            raise ValueError(f"{name} must have at least 2 rows, got {len(matrix)}")
    return x, y


def _mmd(x: Tensor, y: Tensor) -> Tensor:
    def within(m: Tensor) -> Tensor:
        own = _cubic(m.square().sum(1), m.shape[1]).sum()  # k(x, x), which would bias the mean
        return (_kernel_sum(m, m) - own) / (len(m) * (len(m) - 1))

    return within(x) + within(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    parts = x.split(max(1, BLOCK // len(y)))
    return torch.stack([_cubic(rows @ y.T, x.shape[1]).sum() for rows in parts]).sum()


def _cubic(product: Tensor, dimension: int) -> Tensor:
    return (product / dimension + 1) ** 3
