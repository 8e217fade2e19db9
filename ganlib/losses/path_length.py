r"""Path-length regularization: equal steps in w change the image equally much, wherever they are taken."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ganlib.layers.precision import without_autocast
from ganlib.random import mean_over_processes, normal


def jacobian_lengths(images: Tensor, w: Tensor, directions: Tensor) -> Tensor:
    r"""How much each image moves along a direction y of image space, per unit of w: :math:`\|J_w^\top y\|_2`.

    :math:`J_w = \partial g(w) / \partial w` is the generator's Jacobian. It is never formed:
    :math:`J_w^\top y = \nabla_w \langle g(w), y \rangle`, one backward pass for the whole batch.

    Args:
        images: :math:`g(w)`, ``(N, C, H, W)``, with a graph back to ``w``.
        w: ``(N, d)``; or ``(N, L, d)``, one per layer, for the root of the layers' mean square.
        directions: y, of the images' shape.

    Returns:
        ``(N,)``, with a graph of its own, so that a loss made of them can be minimised.

    Raises:
        ValueError: if the shapes do not fit.

    Source: Karras et al. 2020 (StyleGAN2), section 3.2; the mean over layers is that of the authors' code.
    """
    if directions.shape != images.shape or w.ndim not in (2, 3) or len(w) != len(images):
        raise ValueError(
            "w must be (N, d) or (N, L, d), directions of the images' shape, "
            f"got {tuple(w.shape)}, {tuple(directions.shape)} and images {tuple(images.shape)}"
        )
    (slope,) = torch.autograd.grad((images * directions).sum(), w, create_graph=True)
    # Not the root of a sum of squares: a norm has a subgradient at 0, where the root's slope is infinite.
    lengths = torch.linalg.vector_norm(slope.flatten(1), dim=1)
    return lengths if w.ndim == 2 else lengths / math.sqrt(w.shape[1])


class PathLength(nn.Module):
    r"""The generator's path lengths are pulled to one number, which is their own running mean.

    .. math:: \gamma \, E_{w, \, y} \big( \|J_w^\top y\|_2 - a \big)^2, \qquad
              y \sim N\big(0, \tfrac{1}{HW} I\big), \qquad a \leftarrow 0.99 \, a + 0.01 \, E \|J_w^\top y\|_2

    At its minimum :math:`J_w` is, at every w, orthogonal up to a scale: a step in w of a given length changes
    the image by about the same amount wherever and in whatever direction it is taken. a is a constant in the
    gradient. It starts as the plain mean of the first lengths (in the authors' code at 0, which first pulls
    all paths towards no length; a run of minutes would be over before a had come up).

    Directions are divided by the root of the number of pixels, as in the authors' code: lengths, and a weight
    of 2, then mean the same at every size.

    A further term of the generator's loss; wrap it in :class:`ganlib.losses.Lazy` with ``every=8``. It draws
    latents of its own, a part of the batch in number, and computes in float32 under autocast too: second
    derivatives of bfloat16 activations are mostly rounding. ``discriminator`` and ``fake`` are not used, so
    the gradient reaches the generator alone.

    Args:
        paths: n -> (w, images), n samples with w, or w per layer, in the images' graph.
        weight: :math:`\gamma`, not negative.
        decay: of the running mean, in [0, 1).
        shrink: the batch's size is divided by this, at least 1.

    Attributes:
        mean: a, a buffer.
        updates: how often it has been updated, a buffer.

    Raises:
        ValueError: if an argument is out of range.

    Source: Karras et al. 2020 (StyleGAN2), section 3.2, eq. 4; the weight, the decay and half of the batch as
    in the authors' code.
    """

    name = "path length"
    mean: Tensor
    updates: Tensor

    def __init__(
        self,
        paths: Callable[[int], tuple[Tensor, Tensor]],
        weight: float = 2.0,
        decay: float = 0.99,
        shrink: int = 2,
    ) -> None:
        super().__init__()
        if not weight >= 0:
            raise ValueError(f"weight must be at least 0, got {weight}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        if shrink < 1:
            raise ValueError(f"shrink must be at least 1, got {shrink}")
        self.paths, self.weight, self.decay, self.shrink = paths, weight, decay, shrink
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("updates", torch.zeros(()))

    def forward(self, discriminator: object, real: Tensor, fake: Tensor) -> Tensor:
        """The weighted penalty, a scalar; of ``real`` only the number of samples counts."""
        with without_autocast(real):
            w, images = self.paths(max(1, len(real) // self.shrink))
            spread = 1 / math.sqrt(math.prod(images.shape[2:]))
            directions = spread * normal(len(images), *images.shape[1:], device=images.device)
            lengths = jacobian_lengths(images, w, directions.to(images.dtype))
        self._follow(lengths)
        return self.weight * (lengths - self.mean).square().mean()

    @torch.no_grad()
    def _follow(self, lengths: Tensor) -> None:
        # Each process has seen its own samples, and all must follow the same number.
        mean = mean_over_processes(lengths.mean())
        self.updates += 1
        self.mean.lerp_(mean.to(self.mean), (1 / self.updates).clamp(min=1 - self.decay))
