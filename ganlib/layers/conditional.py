"""How a class gets into a network: into a generator's normalization, into a discriminator's last layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConditionalBatchNorm(nn.Module):
    r"""Batch norm whose scale and shift depend on a condition y, such as the class of each sample.

    .. math:: \hat x_{n c} = \frac{x_{n c} - \mu_c}{\sqrt{\sigma_c^2 + \varepsilon}}, \qquad
              h_{n c} = \big(1 + g_c(y_n)\big) \, \hat x_{n c} + b_c(y_n)

    Mean and variance are those of the whole batch, over all classes; what a class owns is the affine map.
    :meth:`per_class` looks g and b up in tables of a row per class, :meth:`from_vector` computes them as
    linear maps of a vector, such as a class embedding that all layers share.

    Args:
        channels: C.
        gain: the module g, conditions -> ``(N, C)``; 0 for a plain scale of 1.
        shift: the module b, likewise.

    Shapes: ``(N, C, H, W)`` and conditions of N rows -> ``(N, C, H, W)``.

    Source: Dumoulin et al. 2017, "A Learned Representation For Artistic Style", section 2.2 (instance norm);
    de Vries et al. 2017, "Modulating early visual processing by language", section 3 (batch norm).
    """

    def __init__(self, channels: int, gain: nn.Module, shift: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain, self.shift = gain, shift

    @classmethod
    def per_class(cls, channels: int, classes: int) -> ConditionalBatchNorm:
        """A scale and a shift of its own for each class; conditions are labels ``(N,)``, int64.

        Source: Miyato and Koyama 2018 (their generator).
        """
        tables = [nn.Embedding(classes, channels) for _ in range(2)]
        for table in tables:
            nn.init.zeros_(table.weight)
        return cls(channels, *tables)

    @classmethod
    def from_vector(cls, channels: int, length: int) -> ConditionalBatchNorm:
        """Scale and shift linear in a vector; conditions are ``(N, length)``.

        With a class embedding shared by all layers, classes cost one table of ``length`` numbers each, and
        not two per channel of every layer.

        Source: Brock et al. 2019 (BigGAN), section 3 and appendix B.
        """
        maps = [nn.Linear(length, channels, bias=False) for _ in range(2)]
        return cls(channels, *maps)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain = (1 + self.gain(condition)).to(x.dtype)[:, :, None, None]
        shift = self.shift(condition).to(x.dtype)[:, :, None, None]
        return torch.addcmul(shift, self.norm(x), gain)


class Projection(nn.Module):
    r"""The last layer of a discriminator that knows the class: features, labels -> outputs ``(N,)``.

    .. math:: D(x, y) = \underbrace{w^\top h + b}_{\text{is x real?}}
              + \underbrace{v_y^\top h}_{\text{is it a } y \text{?}}, \qquad h = \phi(x)

    The best logit is :math:`\log \frac{p(x, y)}{q(x, y)} = \log \frac{p(x)}{q(x)} + \log \frac{p(y | x)}
    {q(y | x)}`. Where both conditionals are log-linear in h, the second term is an inner product of h with a
    vector per class, up to a term that goes with the first: so the class enters by an inner product, not by
    concatenation. The sum is taken in float32 at least.

    Args:
        features: d.
        classes: number of classes.

    Shapes: features ``(N, d)`` and int64 labels ``(N,)`` in 0..classes - 1 -> ``(N,)``.

    Source: Miyato and Koyama 2018, "cGANs with Projection Discriminator", section 3.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.unconditional = nn.Linear(features, 1)
        self.classes = nn.Embedding(classes, features)

    def forward(self, h: Tensor, labels: Tensor) -> Tensor:
        # w + v_y first: one product for both terms, and no matrix product for autocast to round.
        direction = self.unconditional.weight + self.classes(labels)
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        return (wide * direction).sum(1) + self.unconditional.bias
