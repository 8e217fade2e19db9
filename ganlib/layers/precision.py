"""Computing in the precision that was asked for, whatever autocast is in force around."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def without_autocast(tensor: Tensor) -> AbstractContextManager[object]:
    """A context in which products on the tensor's device are computed in the dtype of their arguments.

    For numbers that eight bits would spoil: norms, singular values, demodulation. On the ``meta`` device,
    which has shapes and no numbers, there is nothing to switch off, and torch refuses to try.
    """
    return nullcontext() if tensor.is_meta else torch.autocast(tensor.device.type, enabled=False)
