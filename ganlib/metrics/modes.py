"""Are all modes there? On mixtures whose centres are known, and on classes that a classifier tells apart."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ganlib.metrics.classifier import ClassifierFeatures
from ganlib.metrics.features import matrices


@dataclass(frozen=True)
class MixtureModes:
    """What :func:`mixture_modes` finds.

    Attributes:
        recovered: modes that have a sample within the radius.
        quality: share of the samples that lie within the radius of their nearest mode.
    """

    recovered: int
    quality: float


def mixture_modes(samples: Tensor, centres: Tensor, std: float, radius: float = 3.0) -> MixtureModes:
    """Modes of a Gaussian mixture that samples recover, and the share of high-quality samples.

    A mode is recovered if some sample lies within ``radius`` standard deviations of its centre; a sample is
    of high quality if it lies so near to some centre. A perfect sampler's quality in the plane is not 1 but
    ``1 - exp(-radius^2 / 2)``, 0.989 at 3.

    Args:
        samples: ``(N, d)``; PacGAN takes 2,500.
        centres: ``(k, d)``.
        std: standard deviation of each mode in each direction; at 0 only a centre itself counts as near.
        radius: in standard deviations.

    Raises:
        ValueError: for numbers that are not finite, differing widths, a negative ``std``, or a ``radius``
            that is not positive.

    Source: Lin et al., "PacGAN: The power of two samples in generative adversarial networks", 2018, after
    Srivastava et al., "VEEGAN", 2017, section 5.
    """
    if not (std >= 0 and radius > 0):
        raise ValueError(f"std must be at least 0 and radius positive, got {std} and {radius}")
    samples, centres = matrices(samples=samples, centres=centres)
    near = torch.cdist(samples, centres, compute_mode="donot_use_mm_for_euclid_dist") <= radius * std
    return MixtureModes(int(near.any(0).sum()), near.any(1).double().mean().item())


@dataclass(frozen=True)
class ClassCoverage:
    """What :func:`class_coverage` finds.

    Attributes:
        covered: classes that occur at all.
        kl: divergence in nats of the mix of classes from the reference.
    """

    covered: int
    kl: float


def class_coverage(labels: Tensor, reference: Tensor) -> ClassCoverage:
    r"""How many classes occur, and how far their mix is from the data's.

    .. math:: KL(q \| p) = \sum_k q_k \log \frac{q_k}{p_k}, \qquad q_k = n_k / N

    The generated mix q comes first, as in the literature: the other direction is infinite as soon as a class
    is missing. Of K equally likely classes, m that share the samples equally give log(K / m). A perfect
    sampler's KL is not 0 but about (K - 1) / (2 N) on average: 0.02 for 1,000 classes and 26,000 samples.

    Args:
        labels: integers ``(N,)`` in 0..K-1, such as ``ClassifierFeatures().predict(images)``.
        reference: the data's shares p of the classes, positive ``(K,)`` with sum 1, or their counts.

    Raises:
        ValueError: if labels are not a non-empty vector of integers in range, or a reference is not positive.

    Source: Metz et al., "Unrolled Generative Adversarial Networks", 2017, section 3.3; Lin et al. 2018.
    """
    if reference.ndim != 1 or not len(reference) or not (reference > 0).all():
        raise ValueError(f"reference must be a vector of positive shares (K,), got {tuple(reference.shape)}")
    if labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point() or labels.is_complex():
        raise ValueError(
            f"labels must be a non-empty vector of integers, got {labels.dtype} {tuple(labels.shape)}"
        )
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= len(reference):
        raise ValueError(f"labels must be in 0..{len(reference) - 1}, got {low}..{high}")
    counts = torch.bincount(labels.cpu().long(), minlength=len(reference))
    q, p = counts.double() / len(labels), reference.cpu().double() / reference.sum().item()
    # Rounding may leave a mix that equals the reference below 0 by 1e-17.
    return ClassCoverage(int((counts > 0).sum()), max(torch.xlogy(q, q / p).sum().item(), 0.0))


def stacked_labels(images: Tensor, features: ClassifierFeatures | None = None) -> Tensor:
    """The mode of each stacked image, int64 ``(N,)``: 100 a + 10 b + c for digits a, b, c in its channels.

    Args:
        images: ``(N, 3, 32, 32)`` or ``(N, 3, 28, 28)`` in [-1, 1].
        features: the classifier of one channel, the shipped one by default.

    Raises:
        ValueError: for another shape or an integer dtype.

    Source: Metz et al. 2017, section 3.3.
    """
    if images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"images must be (N, 3, H, W), got {tuple(images.shape)}")
    features = ClassifierFeatures().to(images.device) if features is None else features
    digits = features.predict(images.flatten(0, 1)[:, None]).view(-1, 3)
    return digits @ digits.new_tensor([100, 10, 1])


def stacked_modes(images: Tensor, features: ClassifierFeatures | None = None) -> ClassCoverage:
    """How many of the 1,000 modes of stacked MNIST occur, and the KL from the uniform mix of them.

    Args and errors as of :func:`stacked_labels`. The literature scores 26,000 samples. MNIST's digits are not
    quite equally frequent, which costs a perfect sampler 0.004 nats beside those of :func:`class_coverage`.
    """
    labels = stacked_labels(images, features)
    return class_coverage(labels, torch.ones(1000))
