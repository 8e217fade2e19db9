"""One process that a fork server made, as the process that asked for it sees it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

__all__ = ["LOG_BYTES", "Child", "log_file"]

LOG_BYTES = 1 << 20
"""How much of a child's raw standard output and error is kept."""


class Child:
    """One process that a fork server made.

    Its raw standard output and error are kept up to :data:`LOG_BYTES`. As a context manager it kills what
    still runs; :meth:`close` must be called otherwise. ``select``-able: readable once the process has ended.
    """

    def __init__(self, number: int, pidfd: int | None, status: int, log: int) -> None:
        self.pid = _pid_of(pidfd) if pidfd is not None else number
        """The process's number as this process sees it; -1 if it ended before that could be asked."""
        self.reason = ""
        """Why it was killed (the first reason counts), empty if it was not."""
        self.explain: Callable[[], str] = lambda: ""
        """Asked for :attr:`reason` when something else than :meth:`kill` ended it with SIGKILL."""
        self.cleanup = contextlib.ExitStack()
        """Closed by :meth:`close`, after the process has ended."""
        self._pidfd, self._status, self._log = pidfd, status, log
        self._code: int | None = None
        self._lock = threading.RLock()

    def fileno(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._status

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit status, -n if signal n ended it; None if it still runs after `timeout` seconds (None: wait
        for ever)."""
        if self._code is None and self._status >= 0:
            poll = (
                select.poll()
            )  # outside the lock: the watchdog must get at a process that somebody waits for
            poll.register(self._status, select.POLLIN)
            if not poll.poll(None if timeout is None else max(0, timeout * 1000)):
                return None
        with self._lock:
            if self._code is None and self._status >= 0:
                # The server reports the status; if it was killed first, its children died with it.
                self._code = int(os.read(self._status, 16) or -signal.SIGKILL)
                if self._code == -signal.SIGKILL:
                    self.reason = self.reason or self.explain()
            return self._code

    @property
    def alive(self) -> bool:
        return self.wait(0) is None

    def send_signal(self, number: int) -> None:
        """Send a signal (SIGINT interrupts Python code); nothing happens if the process has ended."""
        with self._lock, contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None and self._pidfd >= 0:
                signal.pidfd_send_signal(self._pidfd, number)
            elif self._pidfd is None and self.alive:
                os.kill(self.pid, number)

    def kill(self, reason: str = "killed") -> None:
        """Kill it and all it started, now; `reason` is kept in :attr:`reason` if it was still alive.

        In a pid namespace of its own nothing can escape; elsewhere the server kills the process group,
        which a process that called ``setsid`` has left.
        """
        with self._lock:
            if self.alive:
                self.reason = self.reason or reason
        self.send_signal(signal.SIGKILL)

    def log(self) -> str:
        """What the process wrote to file descriptors 1 and 2."""
        with self._lock:
            if self._log < 0:
                return ""
            size = min(
                os.lseek(self._log, 0, os.SEEK_CUR), LOG_BYTES
            )  # the offset is shared with the writers
            return os.pread(self._log, size, 0).decode(errors="replace")

    def close(self) -> None:
        """Kill it if it runs, wait for its end, free the descriptors. May be called twice."""
        if self._status >= 0:
            self.kill("closed")
            self.wait(10)
        with self._lock:
            for fd in (self._pidfd, self._status, self._log):
                if fd is not None and fd >= 0:
                    os.close(fd)
            self._pidfd, self._status, self._log = -1, -1, -1
            self._code = -signal.SIGKILL if self._code is None else self._code
        self.cleanup.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _pid_of(pidfd: int) -> int:
    """The number, in this process's pid namespace, of the process behind `pidfd`; -1 if it has ended."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines())
    return int(fields["Pid"])


def log_file() -> int:
    """A file that takes :data:`LOG_BYTES` and no more: writes beyond fail."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    import fcntl

    fd = os.memfd_create("log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, LOG_BYTES)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return fd
