r"""Spectral normalization: a layer's weight divided by its largest singular value."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.nn.utils import parametrize

from ganlib.layers.precision import without_autocast
from ganlib.random import derived_seed


class SpectralNorm(nn.Module):
    r"""The map :math:`W \mapsto W / \sigma(W)`, with :math:`\sigma` followed by power iteration.

    A weight is read as a matrix :math:`d_{out} \times (d_{in} h w)`, and two vectors follow its leading
    singular pair, moved at each use in training mode:

    .. math:: v \leftarrow \frac{W^\top u}{\|W^\top u\|}, \qquad u \leftarrow \frac{W v}{\|W v\|}, \qquad
              \sigma(W) \approx u^\top W v

    Since the weight moves little between two steps, one iteration per step suffices. The gradient runs
    through W in :math:`u^\top W v`, and u and v count as constants: that is the gradient of the largest
    singular value, :math:`\partial\sigma/\partial W = u v^\top`.

    Args:
        weight: the tensor to normalise, at least two-dimensional.
        iterations: power iterations per use in training mode, at least 1.
        axis: the weight's axis of output channels: 0, or 1 for transposed convolutions.

    Raises:
        ValueError: for a weight of fewer than two dimensions or fewer than one iteration.

    Source: Miyato et al. 2018, eqs. 8 to 11, Algorithm 1. Lecture: Aalto "Spectral Normalization".
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, iterations: int = 1, axis: int = 0) -> None:
        super().__init__()
        if weight.ndim < 2:
            raise ValueError(f"weight must have at least two dimensions, got shape {tuple(weight.shape)}")
        if iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {iterations}")
        self.iterations, self.axis = iterations, axis
        matrix = self.matrix(weight.detach())
        # From a random start in general position; fifteen iterations as torch has them, so that the first
        # training steps do not see a sigma that is far too small.
        rng = torch.Generator().manual_seed(derived_seed(*matrix.shape))
        start = torch.randn(len(matrix), generator=rng)
        self.register_buffer("u", normalize(start.to(matrix), dim=0))
        self.register_buffer("v", torch.zeros_like(matrix[0]))
        if not matrix.is_meta:
            self.iterate(matrix, 15)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as a matrix, output channels by everything else."""
        return weight.movedim(self.axis, 0).flatten(1)

    @torch.no_grad()
    def iterate(self, matrix: Tensor, n: int) -> None:
        """Move u and v by ``n`` power iterations, in place."""
        for _ in range(n):
            self.v.copy_(normalize(matrix.T @ self.u, dim=0, eps=1e-12))
            self.u.copy_(normalize(matrix @ self.v, dim=0, eps=1e-12))

    def sigma(self, weight: Tensor) -> Tensor:
        r"""The estimate :math:`u^\top W v` of the largest singular value, a scalar with a gradient."""
        # Clones, because a second use before the backward pass moves the vectors that autograd has kept.
        return torch.dot(self.u.clone(), torch.mv(self.matrix(weight), self.v.clone()))

    def forward(self, weight: Tensor) -> Tensor:
        with without_autocast(weight):
            if self.training:
                self.iterate(self.matrix(weight.detach()), self.iterations)
            return weight / self.sigma(weight)


def spectral_norm(module: nn.Module, iterations: int = 1) -> nn.Module:
    """Normalise the weight of a linear layer or a convolution spectrally from now on; returns the module.

    ``module.weight`` is then computed at each use, by :class:`SpectralNorm` from
    ``module.parametrizations.weight.original``, which is what the optimizer moves. The bias is left as it is.

    Args:
        module: with a parameter ``weight``: linear layers, convolutions, transposed convolutions, embeddings.
        iterations: power iterations per use in training mode.

    Raises:
        ValueError: if the module has no such parameter, or it is normalised already.

    A convolution with this weight need not be 1-Lipschitz: the paper's matrix leaves the overlap of the
    windows out.
    """
    if parametrize.is_parametrized(module, "weight"):
        raise ValueError(f"module must not be normalised already, got {type(module).__name__}")
    if not isinstance(getattr(module, "weight", None), nn.Parameter):
        raise ValueError(f"module must have a parameter called weight, got {type(module).__name__}")
    transposed = isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d)
    norm = SpectralNorm(module.weight, iterations, axis=1 if transposed else 0)
    parametrize.register_parametrization(module, "weight", norm)
    return module
