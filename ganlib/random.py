"""Random rows that do not depend on how many processes share a batch.

Every process of a run draws the same numbers for the whole batch and keeps its own rows. Two processes
with 32 rows each therefore see exactly the latents and interpolation weights of one process with 64, and a
checkpoint needs one random state, not one per process.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def place() -> tuple[int, int]:
    """This process's rank and the number of processes, ``(0, 1)`` outside a distributed run."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of a tensor over the processes of a run, on each; the tensor itself where there is but one.

    In place, without gradients: for running means, which must not differ between processes.
    """
    world = place()[1]
    if world > 1:
        torch.distributed.all_reduce(values)
        values /= world
    return values


def derived_seed(*key: int) -> int:
    """A seed that depends on every part of ``key``, such as (seed, stream, epoch); parts are not negative."""
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def normal(
    n: int, *shape: int, device: torch.device | None = None, rng: torch.Generator | None = None
) -> Tensor:
    """Draw ``n`` rows of standard normal numbers, float32 ``(n, *shape)``.

    Without ``rng`` torch's global state is used, which the trainer seeds for a run and gives back after it.
    """
    return _rows(torch.randn, n, shape, device, rng)


def uniform(
    n: int, *shape: int, device: torch.device | None = None, rng: torch.Generator | None = None
) -> Tensor:
    """Draw ``n`` rows of numbers uniform on [0, 1), float32 ``(n, *shape)``; ``rng`` as in :func:`normal`."""
    return _rows(torch.rand, n, shape, device, rng)


def _rows(
    draw: Callable[..., Tensor],
    n: int,
    shape: tuple[int, ...],
    device: torch.device | None,
    rng: torch.Generator | None,
) -> Tensor:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    rank, world = place()
    # A generator lives on one device; its numbers are drawn there, then moved.
    where = device if rng is None else rng.device
    return draw(n * world, *shape, device=where, generator=rng)[rank * n : (rank + 1) * n].to(device)
