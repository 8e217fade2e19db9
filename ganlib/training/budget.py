"""How much a run may cost: seconds for a test, minutes for a laptop, hours for a paper."""

from __future__ import annotations

import os
from enum import Enum
from typing import TypeVar

import torch

T = TypeVar("T")


class Budget(Enum):
    """What a recipe's steps, widths and data are chosen for.

    ``SMOKE`` takes seconds and shows that a system runs; ``CPU`` takes minutes on two cores and shows that
    it works; ``GPU`` is the paper's setting.
    """

    SMOKE = "smoke"
    CPU = "cpu"
    GPU = "gpu"

    @classmethod
    def current(cls) -> Budget:
        """The environment's ``GANLIB_BUDGET`` if set; else ``GPU`` where CUDA is there, ``CPU`` elsewhere.

        Raises:
            ValueError: if ``GANLIB_BUDGET`` names no budget.
        """
        name = os.environ.get("GANLIB_BUDGET")
        if not name:
            return cls.GPU if torch.cuda.is_available() else cls.CPU
        if name not in {budget.value for budget in cls}:
            raise ValueError(f"GANLIB_BUDGET must be smoke, cpu or gpu, got {name!r}")
        return cls(name)

    def pick(self, *, smoke: T, cpu: T, gpu: T) -> T:
        """The one of three values that is this budget's."""
        return {Budget.SMOKE: smoke, Budget.CPU: cpu, Budget.GPU: gpu}[self]
