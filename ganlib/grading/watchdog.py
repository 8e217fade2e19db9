"""A thread that ends children which go beyond what they, and all they started, may use together.

Limits that Linux keeps per process do not bound a family of processes. Where cgroups are writable the
kernel bounds the family and the watchdog only notices; elsewhere it adds up the family's memory and tasks
itself, a few times a second, which a quick bomb can outrun by what it allocates in between. It also keeps
the wall clock.
"""

from __future__ import annotations

import contextlib
import threading
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING

from ganlib.grading.cgroup import Cgroup
from ganlib.grading.forkserver import Child

if TYPE_CHECKING:
    from ganlib.grading.sandbox import Limits

__all__ = ["Watchdog"]

_INTERVAL = 0.2


class Watchdog:
    """Watches children until they end; one that it killed has "time", "memory" or "processes" as its
    `reason`."""

    def __init__(self) -> None:
        self._watched: list[tuple[Child, Limits, Cgroup | None, float]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def watch(self, child: Child, limits: Limits, group: Cgroup | None, seconds: float) -> None:
        """Watch `child`, which is in `group` if it has one, from now on and for `seconds`."""
        with self._lock:
            self._watched.append((child, limits, group, time.monotonic() + seconds))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL):
            with self._lock:
                self._watched = [each for each in self._watched if each[0].alive]
                watched = list(self._watched)
            for child, limits, group, end in watched:
                try:
                    reason = "time" if time.monotonic() > end else _excess(child.pid, limits, group)
                except Exception:  # whatever one look meets, the others must be watched
                    traceback.print_exc()
                    continue
                if reason:
                    child.kill(reason)


def _excess(pid: int, limits: Limits, group: Cgroup | None) -> str:
    """Which limit the process and its descendants are beyond, or "". Of a group the kernel limits the
    memory."""
    if group is not None:
        return "processes" if group.refused or group.tasks >= limits.processes else ""
    memory, tasks = _family(pid, limits.memory)
    if tasks >= limits.processes:
        return "processes"
    return "memory" if memory > limits.memory else ""


def _family(pid: int, memory_limit: int) -> tuple[int, int]:
    """Bytes and threads of process `pid` and its descendants, (0, 0) if it has ended.

    Resident memory counts torch's pages, shared with the fork server, for each process anew; only where
    that sum is beyond the limit are the pages divided among those who share them, which takes longer.
    """
    import psutil

    def total(number: Callable[[psutil.Process], int]) -> int:
        result = 0
        for each in family:
            with contextlib.suppress(psutil.Error):  # it has ended
                result += number(each)
        return result

    def fair(process: psutil.Process) -> int:
        full = process.memory_full_info()
        return getattr(full, "pss", full.uss)  # macOS does not divide shared pages

    try:
        parent = psutil.Process(pid)
        family = [parent, *parent.children(recursive=True)]
    except (psutil.Error, ValueError):
        return 0, 0
    memory = total(lambda each: each.memory_info().rss)
    if memory > memory_limit:
        memory = total(fair)
    return memory, total(lambda each: each.num_threads())
