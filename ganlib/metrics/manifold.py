"""Precision, recall, density and coverage: fidelity and diversity apart, by nearest neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib.metrics.features import matrices, squared_distances


@dataclass(frozen=True)
class ManifoldScores:
    """What :func:`manifold_scores` finds.

    Attributes:
        precision: share of generated samples inside some real ball: are they realistic?
        recall: share of real samples inside some generated ball: is everything generated?
        density: in how many real balls a generated sample lies, over k; 1 is what real data get on average,
            and more is possible where they crowd around the typical.
        coverage: share of real balls that hold a generated sample.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(real: Tensor, generated: Tensor, k: int = 5) -> ManifoldScores:
    r"""Fidelity and diversity by balls around the samples that reach to the k-th neighbour of their own set.

    With :math:`B(x_i)` the closed ball around :math:`x_i` up to its k-th nearest neighbour among the other
    real samples, and :math:`B(y_j)` likewise among the generated:

    .. math::
        \text{precision} = \frac{1}{M} \sum_j 1[\exists i: y_j \in B(x_i)], \qquad
        \text{recall} = \frac{1}{N} \sum_i 1[\exists j: x_i \in B(y_j)]

    .. math::
        \text{density} = \frac{1}{k M} \sum_j \sum_i 1[y_j \in B(x_i)], \qquad
        \text{coverage} = \frac{1}{N} \sum_i 1[\exists j: y_j \in B(x_i)]

    One outlier among the real samples has a huge ball, which raises precision; one among the generated
    raises recall. Density and coverage, which rest on the real balls alone, were made to bear that. For two
    sets of one distribution density is 1 on average, and coverage has the expectation
    :math:`1 - \prod_{l=1}^{k} \frac{N - l}{N + M - l}`: 0.97 at k = 5 and N = M.

    Args:
        real: features ``(N, d)``, N above k.
        generated: features ``(M, d)``, M above k.
        k: neighbours; Kynkäänniemi et al. take 3, Naeem et al. 5.

    Raises:
        ValueError: for features that are not finite or differ in width, or k out of range.

    Source: Kynkäänniemi et al., "Improved Precision and Recall Metric for Assessing Generative Models", 2019,
    section 2; Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models", 2020, section 3.
    """
    x, y = matrices(real=real, generated=generated)
    if not 1 <= k < min(len(x), len(y)):
        raise ValueError(f"k must be in 1..{min(len(x), len(y)) - 1}, below the smaller set, got {k}")
    radii_x, radii_y = _squared_radii(x, k), _squared_radii(y, k)
    balls = torch.zeros(len(y), dtype=torch.int64, device=y.device)  # real balls that hold each generated one
    covered = recalled = start = 0
    for block in squared_distances(x, y):
        inside = block <= radii_x[start : start + len(block), None]
        balls += inside.sum(0)
        covered += inside.any(1).sum()
        recalled += (block <= radii_y).any(1).sum()
        start += len(block)
    return ManifoldScores(
        precision=(balls > 0).double().mean().item(),
        recall=recalled.item() / len(x),
        density=balls.sum().item() / (k * len(y)),
        coverage=covered.item() / len(x),
    )


def _squared_radii(points: Tensor, k: int) -> Tensor:
    """Squared distance ``(N,)`` of each point to its k-th nearest neighbour among the others."""
    radii, start = [], 0
    for block in squared_distances(points, points):
        rows = torch.arange(len(block), device=block.device)
        block[rows, start + rows] = torch.inf  # a point is not its own neighbour
        radii.append(block.topk(k, largest=False).values[:, -1])
        start += len(block)
    # The balls are closed, and copies of a neighbour lie on the rim: rounding must not put them outside.
    return torch.cat(radii) + 1e-10 * points.var(0, correction=0).sum()
