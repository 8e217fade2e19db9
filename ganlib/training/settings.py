"""Everything about a run that is neither the game nor the data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import nn

OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


@dataclass(frozen=True)
class LinearDecay:
    """1 up to step ``start``, then falling on a line to 0 at step ``end``.

    Late in a short run a falling rate does what many more steps at a constant one would: it lets the players
    settle where they circle.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"need 0 <= start < end, got start={self.start}, end={self.end}")

    def __call__(self, step: int) -> float:
        return min(1.0, max(0.0, (self.end - step) / (self.end - self.start)))


@dataclass(frozen=True)
class Settings:
    """Settings of a :class:`ganlib.training.Trainer`.

    Attributes:
        optimizers: player's name -> what makes its optimizer from its parameters, such as
            ``partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))``.
        batch_size: samples per step over all processes together; each of W processes takes a W-th. Where it
            changes with the training, round -> size from then on, such as ``{0: 64, 3000: 16}``.
        ema: player's name -> decay of an exponential moving average of its weights, updated after each of
            its steps, such as ``{"generator": 0.999}``. Averages are what ``Trainer.sample`` and the
            checkpoints' readers use. Early on the decay is at most (1 + t) / (10 + t) at step t.
        precision: ``"32-true"`` or ``"bf16-mixed"`` (Lightning Fabric's names); None takes bfloat16
            autocast where the processor has instructions for it, and float32 elsewhere.
        schedule: step -> factor on every learning rate, such as ``LinearDecay(3000, 6000)``; None for a
            constant rate.
        restarts: rounds before which every optimizer forgets its moments, as when networks have grown.
        channels_last: keep images and convolution weights as NHWC in memory, which convolutions on a
            processor and on tensor cores prefer.
        seed: of the order of the data and of all random numbers; not negative.
        log_every: rounds between rows of the history; the only moment when the host waits for the device.
        checkpoint_every: rounds between checkpoints, None for one at the end only. Without an output folder
            there are none.
    """

    optimizers: Mapping[str, OptimizerFactory]
    batch_size: int | Mapping[int, int] = 64
    ema: Mapping[str, float] = field(default_factory=dict)
    precision: str | None = None
    schedule: Callable[[int], float] | None = None
    restarts: Collection[int] = ()
    channels_last: bool = True
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int | None = 500

    def __post_init__(self) -> None:
        sizes = self.batch_sizes
        if 0 not in sizes or min(sizes) < 0:
            raise ValueError(f"batch_size must say the size from round 0 on, got {self.batch_size}")
        if min(sizes.values()) < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.log_every < 1:
            raise ValueError(f"log_every must be at least 1, got {self.log_every}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, got {self.seed}")
        if self.checkpoint_every is not None and self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every must be at least 1 or None, got {self.checkpoint_every}")
        for player, decay in self.ema.items():
            if not 0 <= decay < 1:
                raise ValueError(f"ema decay of {player} must lie in [0, 1), got {decay}")
        if self.precision not in (None, "32-true", "bf16-mixed"):
            raise ValueError(f"precision must be None, '32-true' or 'bf16-mixed', got {self.precision!r}")

    @property
    def batch_sizes(self) -> Mapping[int, int]:
        """Round -> samples per step from then on."""
        return {0: self.batch_size} if isinstance(self.batch_size, int) else self.batch_size

    def batch_size_at(self, step: int) -> int:
        """Samples per step in round ``step``, counted from 0."""
        sizes = self.batch_sizes
        return sizes[max(start for start in sizes if start <= step)]


def best_precision(device: torch.device) -> str:
    """``"bf16-mixed"`` where the device multiplies bfloat16 in hardware, else ``"32-true"``."""
    if device.type == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device.type == "cpu":
        # Emulated bfloat16 is slower than float32, so ask for the instructions by name.
        can = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return "bf16-mixed" if can.get("avx512_bf16") or can.get("amx_bf16") else "32-true"
    return "32-true"
