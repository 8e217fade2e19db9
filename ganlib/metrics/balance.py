"""Are all classes generated equally often?"""

import torch
from torch import Tensor


def class_balance(labels: Tensor, classes: int = 10) -> float:
    """Total variation between the mix of classes and the uniform one: ``1/2 sum_k |n_k / N - 1 / K|``.

    0 when every class comes equally often, ``1 - m/K`` when m classes share the samples equally, ``1 - 1/K``
    when all samples are of one class: the first thing to look at when mode collapse is suspected. A fair
    sampler does not reach 0 either: with N samples about ``sqrt((K - 1) / (2 pi N))`` is chance (0.012 for
    10,000 samples of 10 classes). MNIST's own splits are a little uneven: 0.019 and 0.021.

    Args:
        labels: integers ``(N,)`` in 0..classes-1, such as ``ClassifierFeatures().predict(images)``.
        classes: K.

    Returns:
        A float in [0, 1 - 1/K].

    Raises:
        ValueError: if labels are not a non-empty vector of integers in range.

    Source: the mode counting of Metz et al., "Unrolled Generative Adversarial Networks", 2017, section 3.3,
    with the total variation in place of their KL divergence, for its plain scale.
    """
    if labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels must be a non-empty vector of integers, got {labels.dtype} {tuple(labels.shape)}"
        )
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= classes:
        raise ValueError(f"labels must be in 0..{classes - 1}, got {low}..{high}")
    shares = torch.bincount(labels.cpu().long(), minlength=classes).double() / len(labels)
    return (shares - 1 / classes).abs().sum().item() / 2
