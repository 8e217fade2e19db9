"""What a discriminator can be wrapped in: several samples judged together, or each under noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ganlib.random import normal


class Packed(nn.Module):
    r"""A discriminator that judges m samples at once: all real, or all fake.

    .. math:: D(x_1, \dots, x_m)

    m samples of a collapsed distribution look alike, and m of a full one do not, so what one sample cannot
    show a pack can: the discriminator compares :math:`p_r^m` with :math:`p_g^m`, where lost modes weigh more.

    Args:
        discriminator: takes samples with m times the channels, ``(N / m, m C, ...)``.
        m: samples per pack, at least 1; batches must be multiples of it.

    Shapes: ``(N, C, ...)`` -> what the discriminator gives for ``(N / m, m C, ...)``.

    Raises:
        ValueError: if m is less than 1, or on a call if N is not a multiple of m.

    Source: Lin et al. 2018, "PacGAN: The power of two samples in generative adversarial networks", section 2.
    Lecture: Purdue "PacGAN".
    """

    mixes_samples = True

    def __init__(self, discriminator: nn.Module, m: int = 2) -> None:
        super().__init__()
        if m < 1:
            raise ValueError(f"m must be at least 1, got {m}")
        self.discriminator = discriminator
        self.m = m

    def forward(self, x: Tensor) -> Tensor:
        if len(x) % self.m:
            raise ValueError(f"x must hold whole packs of {self.m} samples, got {len(x)} samples")
        return self.discriminator(x.reshape(-1, self.m * x.shape[1], *x.shape[2:]))


class InstanceNoise(nn.Module):
    r"""A discriminator that sees its samples, real and fake, under fresh normal noise.

    .. math:: D(x + \sigma_t \epsilon), \qquad \epsilon \sim N(0, I), \qquad
              \sigma_t = \sigma \max(0, 1 - t / T)

    With the noise both distributions have densities everywhere, so no discriminator can be perfect. It can be
    annealed away over T discriminator steps.

    Args:
        discriminator: samples ``(N, ...)`` -> logits.
        std: :math:`\sigma`, the noise's standard deviation at the start, in units of the data; not negative.
        steps: T; None keeps the noise as it is.

    Raises:
        ValueError: if ``std`` is negative, or ``steps`` less than 1.

    Source: Arjovsky & Bottou 2017, section 3; Sonderby et al. 2017, section 3 (annealed).
    """

    step: Tensor

    def __init__(self, discriminator: nn.Module, std: float, steps: int | None = None) -> None:
        super().__init__()
        if not std >= 0:
            raise ValueError(f"std must be at least 0, got {std}")
        if steps is not None and steps < 1:
            raise ValueError(f"steps must be at least 1 or None, got {steps}")
        self.discriminator = discriminator
        self.std, self.steps = std, steps
        if steps is not None:
            self.register_buffer("step", torch.zeros(()))

    def after_step(self) -> None:
        """One discriminator step was taken; :meth:`ganlib.models.gan.GAN.after_step` calls this."""
        if self.steps is not None:
            self.step += 1

    def forward(self, x: Tensor) -> Tensor:
        noise = normal(len(x), *x.shape[1:], device=x.device).to(x.dtype)
        std = self.std if self.steps is None else self.std * (1 - self.step / self.steps).clamp(min=0)
        return self.discriminator(x + std * noise)
