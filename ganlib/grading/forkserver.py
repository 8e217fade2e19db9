"""A fork server, seen from its client: a process that has imported the heavy modules, forked once per
request.

Importing torch costs more than a second, a fork of a process that has it a few milliseconds.
:class:`ForkServer` starts such a process (:mod:`ganlib.grading.zygote`) and asks it for children,
:class:`Child` is one of them. What a child does, its *target*, is named when the server starts. The two
talk over a socket pair that the server inherits, so no name in the file system leads to it. Windows cannot
fork: there :mod:`ganlib.grading.spawn` stands in.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from ganlib.grading.child import Child, log_file
from ganlib.grading.zygote import receive, send

__all__ = ["Child", "ForkServer", "for_python", "single_threaded"]

_MOST_FDS = 24
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class ForkServer:
    """Start a fork server; :meth:`fork` makes children. Threads may share it. A context manager.

    `target` is "module:function"; a child calls it with the request's argument and its list of file
    descriptors, and exits 0 when it returns. `warm` names modules to import, and functions
    ("module:function") to call, before the first fork. `command` is put before the Python command
    (bubblewrap and its options, say); it must pass file descriptors and signals on. `pid_namespaces` gives
    each child a pid namespace in which it is process 1 (needs CAP_SYS_ADMIN). `environment` (default: this
    process's) gets the thread limits; the folder that holds ganlib goes first on PYTHONPATH. A `command`
    that clears the environment must set its own.

    RuntimeError, with what the server printed, if it does not come up within `patience` seconds.
    """

    def __init__(
        self,
        target: str,
        warm: Sequence[str] = (),
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        pid_namespaces: bool = False,
        patience: float = 120,
    ) -> None:
        if not hasattr(os, "fork"):
            raise RuntimeError("no process can fork here: ganlib.grading.spawn starts them anew")
        settings = {"target": target, "warm": list(warm), "pid_namespaces": pid_namespaces}
        environment = for_python(environment)
        self._lock = threading.Lock()
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._control, theirs = socket.socketpair()
        program = [sys.executable, "-m", "ganlib.grading.zygote", str(theirs.fileno()), json.dumps(settings)]
        self._process = self._start([*command, *program], environment, theirs)
        theirs.close()
        self._control.settimeout(patience)
        try:
            receive(self._control)
        except (EOFError, OSError) as error:
            self.close()
            raise RuntimeError(
                f"the fork server for {target} did not start: {error}\n{self._said}"
            ) from error

    def _start(
        self, command: list[str], environment: dict[str, str], theirs: socket.socket
    ) -> subprocess.Popen:
        """Run the server from a thread that lives as long: PDEATHSIG means the end of the starting
        *thread*."""
        started: Future[subprocess.Popen] = Future()

        def keep() -> None:
            try:
                process = subprocess.Popen(
                    command,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=self._printed,
                    stderr=self._printed,
                    env=environment,
                    cwd="/",
                    start_new_session=True,  # Ctrl-C is for the run, which ends the server in order
                )
            except OSError as error:
                started.set_exception(RuntimeError(f"the fork server cannot be started: {error}"))
            else:
                started.set_result(process)
                process.wait()

        threading.Thread(target=keep, name="fork server's keeper", daemon=True).start()
        return started.result()

    @property
    def alive(self) -> bool:
        """Whether it can be asked for children."""
        return self._control.fileno() >= 0 and self._process.poll() is None

    @property
    def _said(self) -> str:
        size = os.fstat(self._printed.fileno()).st_size
        return os.pread(self._printed.fileno(), 4000, max(0, size - 4000)).decode(errors="replace")

    def fork(self, argument: Any = None, fds: Sequence[int] = ()) -> Child:
        """Fork a child that runs the target with `argument` (JSON) and copies of `fds`; the caller keeps
        its own.

        RuntimeError if the server is gone or cannot fork; ValueError for more than 24 descriptors.
        """
        if len(fds) > _MOST_FDS:
            raise ValueError(f"fds: at most {_MOST_FDS} can be passed, got {len(fds)}")
        with contextlib.ExitStack() as undo:
            status, theirs = os.pipe()
            undo.callback(os.close, status)
            log = log_file()
            undo.callback(os.close, log)
            try:
                with self._lock:
                    send(self._control, argument, [theirs, log, *fds])
                    answer, received = receive(self._control)
            except (OSError, EOFError) as error:
                self._control.close()  # a late answer must not be taken for the next request's
                raise RuntimeError(f"the fork server is gone: {error}\n{self._said}") from error
            finally:
                os.close(theirs)
            if "error" in answer:
                raise RuntimeError(f"the fork server cannot fork: {answer['error']}")
            undo.pop_all()
        return Child(answer["pid"], received[0] if received else None, status, log)

    def close(self) -> None:
        """End the server and every child it made."""
        self._control.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> ForkServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def for_python(environment: Mapping[str, str] | None) -> dict[str, str]:
    """`environment` (None: this process's) in which Python finds ganlib and starts no threads."""
    environment = single_threaded(os.environ if environment is None else environment)
    roots = [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
    return environment | {"PYTHONPATH": os.pathsep.join(filter(None, roots))}


def single_threaded(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` with the numerical libraries told to start no threads: a fork copies only one."""
    return {**environment, **dict.fromkeys(_THREADS, "1")}
