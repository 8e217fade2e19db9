"""Several processes that compute what one process with the whole batch would.

The trainer does not wrap players in ``DistributedDataParallel``: its gradient hooks belong to the forward
pass of one wrapped module, while a turn calls several modules several times and a gradient penalty
differentiates twice, which those hooks do not see - the ranks then drift apart without an error. Averaging
the gradients once they are complete is explicit, needs one message per step, and cannot miss a term.

Dropout is the exception: its masks are drawn for a process's own rows, alike on every process, so a network
with dropout trains as well on two processes, but not to the same weights as on one.
"""

from __future__ import annotations

import torch
import torch.distributed
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ganlib.random import place


def average_gradients(module: nn.Module) -> None:
    """Replace every gradient in ``module`` by its mean over the processes, in one message per dtype."""
    world = place()[1]
    if world == 1:
        return
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    for dtype in {g.dtype for g in gradients}:
        group = [g for g in gradients if g.dtype == dtype]
        flat = torch.cat([g.reshape(-1) for g in group])
        torch.distributed.all_reduce(flat)
        flat /= world
        for gradient, mean in zip(group, flat.split([g.numel() for g in group]), strict=True):
            gradient.copy_(mean.view(gradient.shape))


class _SynchronizedBatchNorm(_BatchNorm):
    """Batch norm with the statistics of all processes' batches; torch's own needs a GPU.

    Biased variance normalises, unbiased variance goes to the running average, as in ``nn.BatchNorm2d``.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        return None

    def forward(self, input: Tensor) -> Tensor:
        world = place()[1]
        if not self.training or world == 1:
            return super().forward(input)
        x = input.float()
        over = [d for d in range(x.ndim) if d != 1]
        count = x.numel() / x.shape[1] * world
        total = torch.distributed.nn.functional.all_reduce(x.sum(over))
        mean = total / count
        shape = (1, -1, *[1] * (x.ndim - 2))
        centred = x - mean.view(shape)
        variance = torch.distributed.nn.functional.all_reduce(centred.square().sum(over)) / count
        if self.track_running_stats and self.running_mean is not None:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * count / (count - 1)).to(self.running_var.dtype), share)
        y = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(input.dtype)


def synchronize_batch_norm_(module: nn.Module) -> None:
    """Make every batch norm in ``module`` use the statistics of all processes; keeps its parameters."""
    if place()[1] == 1:
        return
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            # Same attributes, another forward: parameters, buffers and state-dict names stay as they are.
            child.__class__ = _SynchronizedBatchNorm
