"""Where no process can fork (Windows): children that are started anew, for the same targets.

:class:`Spawner` stands in for :class:`ganlib.grading.forkserver.ForkServer`, :class:`Spawned` for its
children. A start costs the imports, so there is always a *spare*: a process that imports what the next
submission needs while this one is graded.

A process that is started anew inherits no descriptor. Where a fork's child gets one end of a socket pair,
this one gets the address of a :class:`Meeting` on the loopback device and a token, and connects. So it does
first of all with the process that started it; when that connection breaks, its starter is gone, and it ends.

Tried on a Linux without what Windows lacks, not on a Windows: see tests/grading/test_spawn.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ganlib.grading.child import LOG_BYTES
from ganlib.grading.forkserver import for_python

__all__ = ["NEEDED", "Meeting", "Spawned", "Spawner", "connect", "main"]

NEEDED = not hasattr(os, "fork")
"""Whether this system knows no other way."""

_PATIENCE = 300.0  # seconds to import everything, on a busy machine with a virus scanner
_PROGRAM = "from ganlib.grading.spawn import main; main()"
_OWN_GROUP = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)  # Windows: Ctrl-C is for the run


# ---- meeting on the loopback device ----------------------------------------------------------------------


class Meeting:
    """Where one other process, told the `address`, connects to this one. A context manager."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._token = secrets.token_hex(16)
        self.address = [self._listener.getsockname()[1], self._token]
        """What :func:`connect` needs; whoever has it is believed to be the one."""

    def accept(self, child: Spawned | None = None) -> socket.socket:
        """The connection to the one who has the token; others are sent away.

        RuntimeError if none comes within some minutes, or while the `child` who should lives.
        """
        self._listener.settimeout(0.1)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and (child is None or child.alive):
            with contextlib.ExitStack() as strangers, contextlib.suppress(OSError):
                sock = strangers.enter_context(self._listener.accept()[0])
                sock.settimeout(20)
                if secrets.compare_digest(sock.recv(100), self._token.encode()):
                    strangers.pop_all()
                    return _prompt(sock)
        raise RuntimeError(f"no process connected\n{child.log()[-4000:] if child else ''}")

    def close(self) -> None:
        self._listener.close()

    def __enter__(self) -> Meeting:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def connect(address: Sequence[Any]) -> socket.socket:
    """The connection to a :class:`Meeting`, from another process. OSError if it is closed."""
    port, token = address
    sock = socket.create_connection(("127.0.0.1", port))
    sock.sendall(token.encode())
    return _prompt(sock)


def _prompt(sock: socket.socket) -> socket.socket:
    sock.settimeout(None)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # a frame is sent in pieces
    return sock


# ---- the process that starts them ------------------------------------------------------------------------


class Spawner:
    """Starts processes for `target`; :meth:`fork` gives the next one its work. As
    :class:`~ganlib.grading.forkserver.ForkServer`, whose `target`, `warm` and `environment` these are.

    RuntimeError, with what the process printed, if the first one does not come up.
    """

    def __init__(
        self, target: str, warm: Sequence[str] = (), *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._settings = {"target": target, "warm": list(warm)}
        # UTF-8 as everywhere else, not the code page of this Windows
        self._environment = for_python(environment) | {"PYTHONUTF8": "1"}
        self._folder = tempfile.TemporaryDirectory(prefix="ganlib-", ignore_cleanup_errors=True)
        self._lock = threading.Lock()
        self._made: list[Spawned] = []
        self._closed = False
        self._spare = self._start()
        try:
            self._spare.meet()
        except RuntimeError:
            self.close()
            raise

    def _start(self) -> Spawned:
        child = Spawned(self._settings, self._environment, Path(self._folder.name))
        self._made = [each for each in self._made if each.alive] + [child]
        return child

    @property
    def alive(self) -> bool:
        """Whether it can be asked for children."""
        return not self._closed

    def fork(self, argument: Any = None, ends: Sequence[str | Sequence[Any]] = ()) -> Spawned:
        """A process that runs the target with `argument` (JSON) and, as descriptors, `ends`: files by
        their path, connections by the address of their meeting.

        RuntimeError if it cannot be started.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("no process is started any more: closed")
            child = self._spare if self._spare.alive else self._start()
            self._spare = self._start()
        try:
            child.work({"argument": argument, "ends": list(ends)})
        except BaseException:
            child.close()
            raise
        return child

    def close(self) -> None:
        """End every process that it started."""
        with self._lock:
            self._closed = True
            for child in self._made:
                child.close()
            self._folder.cleanup()

    def __enter__(self) -> Spawner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Spawned:
    """One process that a :class:`Spawner` started, to be used like a :class:`~ganlib.grading.child.Child`.

    It imports what the `settings` name, then waits for its work.
    """

    def __init__(self, settings: dict, environment: Mapping[str, str], folder: Path) -> None:
        self.reason = ""
        """Why it was killed (the first reason counts), empty if it was not."""
        self.cleanup = contextlib.ExitStack()
        """Closed by :meth:`close`, after the process has ended."""
        self._target = settings["target"]
        self._lock = threading.RLock()
        self._control: socket.socket | None = None
        self._meeting = Meeting()
        handle, self._log = tempfile.mkstemp(suffix=".log", dir=folder)
        with open(handle, "wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=folder,
                creationflags=_OWN_GROUP,
                start_new_session=True,  # the same elsewhere
            )
        self.pid = self._process.pid
        first = json.dumps({**settings, "address": self._meeting.address})
        with contextlib.suppress(OSError), self._process.stdin as pipe:  # no argument: others could read it
            pipe.write(first.encode() + b"\n")

    def meet(self) -> socket.socket:
        """The connection to it, once it has imported everything. RuntimeError if it ends before."""
        if self._control is None:
            try:
                self._control = self._meeting.accept(self)
            except RuntimeError as error:
                self.close()
                raise RuntimeError(f"the process for {self._target} did not start: {error}") from None
            self._meeting.close()
        return self._control

    def work(self, request: dict) -> None:
        """Tell it what to do. RuntimeError if it has ended."""
        try:
            self.meet().sendall(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise RuntimeError(f"the process for {self._target} is gone: {error}\n{self.log()}") from error

    def wait(self, timeout: float | None = None) -> int | None:
        """Exit status, -n if signal n ended it; None if it still runs after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def kill(self, reason: str = "killed") -> None:
        """Kill it and its descendants, now; `reason` is kept in :attr:`reason` if it was still alive. Who
        has lost its parent is no descendant any more."""
        import psutil

        with self._lock:
            if not self.alive:
                return
            self.reason = self.reason or reason
            family = []
            with contextlib.suppress(psutil.Error):
                family = psutil.Process(self.pid).children(recursive=True)
            self._process.kill()
            for each in family:
                with contextlib.suppress(psutil.Error):
                    each.kill()

    def log(self) -> str:
        """The beginning of what the process wrote to file descriptors 1 and 2; empty once it is closed."""
        with contextlib.suppress(OSError), open(self._log, "rb") as file:
            return file.read(LOG_BYTES).decode(errors="replace")
        return ""

    def close(self) -> None:
        """Kill it if it runs, wait for its end, free everything. May be called twice."""
        self.kill("closed")
        self.wait(10)
        self._meeting.close()
        if self._control is not None:
            self._control.close()
        with contextlib.suppress(OSError):
            os.unlink(self._log)
        self.cleanup.close()

    def __enter__(self) -> Spawned:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# ---- the process that is started -------------------------------------------------------------------------


def main() -> None:
    """Import what the starter names, connect to it, and run the target on what it then asks for."""
    settings = json.loads(sys.stdin.readline())
    for name in settings["warm"]:
        found = pkgutil.resolve_name(name)
        if callable(found):
            found()
    target = pkgutil.resolve_name(settings["target"])
    control = connect(settings["address"])
    with control.makefile() as lines:
        request = json.loads(lines.readline() or "null")
    if request is None:
        return
    threading.Thread(target=_end_with, args=[control], daemon=True).start()
    target(request["argument"], [_opened(end) for end in request["ends"]])


def _end_with(control: socket.socket) -> None:
    """What PDEATHSIG does for a fork's child: nothing is ever sent here, so this returns when the starter
    is gone."""
    with contextlib.suppress(OSError):
        control.recv(1)
    os._exit(1)


def _opened(end: str | Sequence[Any]) -> int:
    if isinstance(end, str):
        return os.open(end, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    return connect(end).detach()
