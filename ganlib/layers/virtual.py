r"""Virtual batch normalization: batch norm whose statistics come from a fixed reference batch."""

from __future__ import annotations

from contextvars import ContextVar

import torch
from torch import Tensor, nn

_references: ContextVar[int] = ContextVar("references", default=0)


class VirtualBatchNorm(nn.Module):
    r"""Normalises each sample by the statistics of the reference batch and of that sample.

    With R reference samples of channel mean :math:`\mu_r` and mean square :math:`q_r`, a sample with mean
    :math:`\mu_i` and mean square :math:`q_i` is normalised by

    .. math:: \mu = \frac{R \mu_r + \mu_i}{R + 1}, \qquad \sigma^2 = \frac{R q_r + q_i}{R + 1} - \mu^2

    and then scaled and shifted per channel. The reference batch itself is normalised by its own statistics.
    So a sample's output depends on that sample and the references, never on who else is in the batch. Works
    inside :class:`Referenced` only, which puts the reference batch in front.

    Args:
        channels: C of maps ``(N, C, H, W)``, or features of ``(N, C)``.
        eps: added to the variance.

    Raises:
        ValueError: if ``channels`` is less than 1, or on a call outside :class:`Referenced`.

    Source: Salimans et al. 2016, section 3.5; the weight 1 / (R + 1) as in the authors' code. Lecture: Purdue
    "Virtual batch normalization".
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        references = _references.get()
        if not 0 < references <= len(x):
            raise ValueError("VirtualBatchNorm must run inside a Referenced network")
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        values = values.flatten(2) if x.ndim > 2 else values[:, :, None]
        means, variances = values.mean(2), values.var(2, correction=0)
        mean_r = means[:references].mean(0)
        apart = means - mean_r
        variance_r = (variances + apart.square())[:references].mean(0)
        own = values.new_zeros(len(x), 1)
        own[references:] = 1 / (references + 1)  # the references count themselves already
        mean = mean_r + own * apart
        # The docstring's q - mu^2, without the cancellation.
        variance = variance_r + own * (variances - variance_r) + own * (1 - own) * apart.square()
        scale = self.weight * (variance + self.eps).rsqrt()
        shape = (*mean.shape, *[1] * (x.ndim - 2))
        return (x * scale.view(shape) + (self.bias - mean * scale).view(shape)).to(x.dtype)


class Referenced(nn.Module):
    """A network that sees a fixed reference batch in front of each batch, for its virtual batch norms.

    Costs a pass over the references each time, which is why the paper keeps it to the generator.

    Args:
        network: with :class:`VirtualBatchNorm` layers, ``(N, ...)`` -> ``(N, ...)``.
        reference: ``(R, ...)``, chosen once before training: inputs of the network, such as latents for a
            generator and data for a discriminator. Kept in checkpoints.

    Raises:
        ValueError: for fewer than two references.

    Source: Salimans et al. 2016, section 3.5.
    """

    reference: Tensor

    def __init__(self, network: nn.Module, reference: Tensor) -> None:
        super().__init__()
        if len(reference) < 2:
            raise ValueError(f"reference must hold at least two samples, got {len(reference)}")
        self.network = network
        self.register_buffer("reference", reference.clone())
        if hasattr(network, "latent_dim"):
            self.latent_dim = network.latent_dim

    def forward(self, x: Tensor) -> Tensor:
        token = _references.set(len(self.reference))
        try:
            return self.network(torch.cat([self.reference.to(x.dtype), x]))[len(self.reference) :]
        finally:
            _references.reset(token)
