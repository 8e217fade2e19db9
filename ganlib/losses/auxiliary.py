r"""Further terms of the generator's loss that read the discriminator's features.

Each is called like a penalty, ``term(discriminator, real, fake)``, so that a game can add it to any
adversarial loss; but here the gradient is meant for the fakes. The features are the output of one of the
discriminator's submodules, caught on its way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from ganlib.layers.precision import without_autocast


def feature_matching(real: Tensor, fake: Tensor) -> Tensor:
    r"""Squared distance between the mean features of real data and of fakes.

    .. math:: \Big\| E_x f(x) - E_z f(G(z)) \Big\|_2^2

    The means are taken over the batch *first*: matching sample by sample would pull every fake to the average
    image.

    Args:
        real: features ``(N, ...)``, flattened to ``(N, d)``; treated as constants.
        fake: features ``(M, ...)`` of the same trailing shape.

    Returns:
        A scalar, at least 0.

    Raises:
        ValueError: if the trailing shapes differ or a batch is empty.

    Source: Salimans et al. 2016, section 3.1. Lecture: Purdue "Feature matching".
    """
    if real.shape[1:] != fake.shape[1:] or not len(real) or not len(fake):
        raise ValueError(
            f"real and fake must be batches of one shape, got {tuple(real.shape)} and {tuple(fake.shape)}"
        )
    return (_rows(real.detach()).mean(0) - _rows(fake).mean(0)).square().sum()


def pulling_away(embeddings: Tensor) -> Tensor:
    r"""The mean squared cosine between different samples' embeddings: how alike a batch of fakes is.

    .. math:: \frac{1}{N (N - 1)} \sum_{i \ne j} \left(
              \frac{s_i^\top s_j}{\|s_i\| \, \|s_j\|} \right)^2

    0 for orthogonal embeddings, 1 for identical ones.

    Args:
        embeddings: ``(N, ...)``, flattened to ``(N, d)``, at least two.

    Returns:
        A scalar in [0, 1].

    Raises:
        ValueError: for fewer than two embeddings.

    Source: Zhao et al. 2017 (EBGAN), section 2.4. Lecture: MIT "Brief: LSGAN, EBGAN".
    """
    n = len(embeddings)
    if n < 2:
        raise ValueError(f"embeddings must hold at least two samples, got {n}")
    directions = normalize(_rows(embeddings), dim=1)
    with without_autocast(directions):
        cosines = directions @ directions.T
    # The diagonal is left out by masking: subtracting its sum would leave rounding where the rest is 0.
    others = ~torch.eye(n, dtype=torch.bool, device=cosines.device)
    return (cosines.square() * others).sum() / (n * (n - 1))


def _rows(features: Tensor) -> Tensor:
    """``(N, ...)`` as ``(N, d)``, in float32 at least: bfloat16 has too few bits for a mean."""
    return features.reshape(len(features), -1).to(torch.promote_types(features.dtype, torch.float32))


def features_at(layer: nn.Module, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What ``layer``, a submodule of ``network``, gives out while the network runs on ``x``.

    Raises:
        ValueError: if the layer did not run.
    """
    caught: list[Tensor] = []
    handle = layer.register_forward_hook(lambda module, inputs, output: caught.append(output))
    try:
        network(x)
    finally:
        handle.remove()
    if not caught:
        raise ValueError("layer must be a submodule of the discriminator that runs in its forward pass")
    return caught[-1]


@dataclass(frozen=True)
class FeatureMatching:
    """:func:`feature_matching` on a layer of the discriminator, as a term of the generator's loss.

    Args:
        layer: the submodule of the discriminator whose output is matched. It must not be overwritten by an
            in-place activation after it: take the activation itself.
        weight: of the term.
    """

    layer: nn.Module
    weight: float = 1.0
    name: str = "feature matching"

    def __call__(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted term, a scalar; gradients reach ``fake`` and what made it."""
        with torch.no_grad():
            wanted = features_at(self.layer, discriminator, real)
        return self.weight * feature_matching(wanted, features_at(self.layer, discriminator, fake))


@dataclass(frozen=True)
class PullingAway:
    """:func:`pulling_away` on a layer of the discriminator, as a term of the generator's loss.

    Args:
        layer: the submodule of the discriminator whose output is the embedding; an autoencoder's encoder.
        weight: of the term (0.1 in the paper).
    """

    layer: nn.Module
    weight: float = 0.1
    name: str = "pulling away"

    def __call__(self, discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted term, a scalar; gradients reach ``fake`` and what made it. ``real`` is not used."""
        return self.weight * pulling_away(features_at(self.layer, discriminator, fake))
