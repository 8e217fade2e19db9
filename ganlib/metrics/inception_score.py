"""Inception score: are the samples sharp to a classifier, and of many classes?"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from ganlib.metrics.features import Estimate


def inception_score(logits: Tensor | Iterable[Tensor], splits: int = 10) -> Estimate:
    r"""How surely each sample has a class, and how evenly the classes come.

    .. math:: IS = \exp \Big( \frac{1}{N} \sum_n KL\big(p(y | x_n) \,\|\, \bar p(y)\big) \Big), \qquad
        \bar p(y) = \frac{1}{N} \sum_n p(y | x_n)

    It lies between 1 (all samples get the same distribution over classes, sure or unsure) and the number of
    classes K (each sample surely of one class, all classes equally often). It never looks at real data: one
    clear image per class, repeated, scores K.

    The mean KL is :math:`\frac{1}{N} \sum_n \sum_y p_n \log p_n - \sum_y \bar p \log \bar p`, so that
    logits can come in a stream and only K + 1 sums are kept. Sums are float64, from log-softmax.

    Args:
        logits: ``(N, K)``, or batches of them, such as ``ClassifierFeatures().logits(images)``. Probabilities
            are given as their logarithms, which may be -inf.
        splits: S parts, each with a marginal of its own; sample n is in part n mod S. Small parts score low,
            for their marginal follows their own samples.

    Returns:
        Mean and population standard deviation over the parts.

    Raises:
        ValueError: for another shape, NaN or +inf, fewer samples than parts, or rows that are
            probabilities, whose softmax would be nearly uniform and the score nearly 1.

    Source: Salimans et al., "Improved Techniques for Training GANs", 2016, section 4; their 50,000 samples
    are cut into 10 consecutive parts, which differs by the order of the samples alone.
    """
    if splits < 1:
        raise ValueError(f"splits must be at least 1, got {splits}")
    seen, probabilities, negentropies = 0, 0.0, 0.0
    for batch in [logits] if isinstance(logits, Tensor) else logits:
        log_p = _log_probabilities(batch)
        part = (torch.arange(len(batch), device=log_p.device) + seen) % splits
        p = log_p.exp()
        sums = p.new_zeros(splits, p.shape[1] + 1)
        # x log x is 0 at 0, where log p is -inf.
        sums.index_add_(0, part, torch.cat([p, torch.xlogy(p, p).sum(1, keepdim=True)], 1))
        probabilities, negentropies = probabilities + sums[:, :-1], negentropies + sums[:, -1]
        seen += len(batch)
    if seen < splits:
        raise ValueError(f"logits must have at least one row per split, got {seen} for {splits}")
    counts = seen // splits + (torch.arange(splits, device=negentropies.device) < seen % splits).double()
    marginals = probabilities / counts[:, None]
    mean_kl = negentropies / counts - torch.xlogy(marginals, marginals).sum(1)
    return Estimate.over(mean_kl.exp())


def _log_probabilities(logits: Tensor) -> Tensor:
    if logits.ndim != 2 or logits.shape[1] < 2 or not logits.is_floating_point():
        raise ValueError(
            f"logits must be real and (N, K) with K >= 2, got {logits.dtype} {tuple(logits.shape)}"
        )
    log_p = (logits.cpu() if logits.device.type == "mps" else logits).detach().double().log_softmax(1)
    if log_p.isnan().any():
        raise ValueError("logits must not be NaN, +inf, or -inf for all classes")
    if len(logits) and (logits >= 0).all() and _close_to_one(logits.double().sum(1)):
        raise ValueError(
            "logits must not be probabilities, which these rows seem to be: give their logarithm"
        )
    return log_p


def _close_to_one(sums: Tensor) -> bool:
    return math.isclose(sums.min().item(), 1, abs_tol=1e-3) and math.isclose(
        sums.max().item(), 1, abs_tol=1e-3
    )
