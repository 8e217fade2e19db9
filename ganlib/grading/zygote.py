"""The process behind a fork server: it imports the heavy modules, then forks one child per request.

Run as ``python -m ganlib.grading.zygote FD SETTINGS`` by :class:`ganlib.grading.forkserver.ForkServer`,
whose socket is inherited as descriptor FD. One thread; it only waits, forks and reaps. A request is the
target's argument as JSON with descriptors (``SCM_RIGHTS``): where to report the exit status, the log, then
the target's own. The answer is the child's number with a *pidfd*, which means this child even across pid
namespaces and never a later process of the same number. The process ends, with all its children, when the
socket closes, and by ``PDEATHSIG`` when its parent is killed.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["die_with_parent", "main", "receive", "send"]

_LENGTH = struct.Struct("!I")
_MOST_FDS = 32
_CLONE_NEWPID = 0x20000000
_PR_SET_PDEATHSIG = 1
Target = Callable[[Any, list[int]], Any]


def die_with_parent() -> None:
    """Ask Linux to kill this process when the thread that started it ends. A change of uid cancels it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def send(connection: socket.socket, value: Any, fds: Sequence[int] = ()) -> None:
    data = json.dumps(value).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(data))], fds)
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[Any, list[int]]:
    """One message and the descriptors that came with it, not inheritable; EOFError if the other end is
    gone."""
    start, fds, _, _ = socket.recv_fds(connection, _LENGTH.size, _MOST_FDS)
    for fd in fds:
        os.set_inheritable(fd, False)
    (size,) = _LENGTH.unpack(_complete(connection, start, _LENGTH.size))
    return json.loads(_complete(connection, b"", size)), fds


def _complete(connection: socket.socket, data: bytes, size: int) -> bytes:
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise EOFError("the other end of the fork server's socket is closed")
        data += part
    return data


def main() -> None:
    """The server: import, report, then fork one child per request until the control socket closes."""
    die_with_parent()
    control = socket.socket(fileno=int(sys.argv[1]))
    control.set_inheritable(False)
    settings = json.loads(sys.argv[2])
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent that ignores it would pass that on
    for name in settings["warm"]:
        found = _find(name)
        if callable(found):
            found()
    target = _find(settings["target"])
    if sys.platform == "linux" and len(os.listdir("/proc/self/task")) > 1:
        raise RuntimeError("a warm module started a thread: a fork would copy its locks, held for ever")
    gc.collect()
    gc.freeze()  # the collector leaves the shared pages alone
    _Server(control, target, settings["pid_namespaces"]).run()
    os._exit(0)  # to take all the modules down in order takes half a second


def _find(name: str) -> Any:
    """The module "package.module", or the object "package.module:name"."""
    module, _, attribute = name.partition(":")
    found = importlib.import_module(module)
    return getattr(found, attribute) if attribute else found


class _Server:
    """The server's loop; `running` maps a child's pid to the pipe on which its end is reported."""

    def __init__(self, control: socket.socket, target: Target, pid_namespaces: bool) -> None:
        self.control, self.target, self.pid = control, target, os.getpid()
        self.own_pids = os.open("/proc/self/ns/pid", os.O_RDONLY) if pid_namespaces else None
        if pid_namespaces:  # a child's number means nothing outside: without pidfds it could not be killed
            os.close(os.pidfd_open(self.pid))
        self.running: dict[int, int] = {}
        self.wake, self.woken = socket.socketpair()
        for end in (self.wake, self.woken):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # without a handler there is no wake-up
        signal.set_wakeup_fd(self.woken.fileno(), warn_on_full_buffer=False)

    def run(self) -> None:
        send(self.control, "ready")
        while True:
            ready, _, _ = select.select([self.control, self.wake], [], [])
            if self.wake in ready:
                self.wake.recv(4096)
                self.reap()
            if self.control in ready:
                try:
                    argument, fds = receive(self.control)
                except (EOFError, OSError):
                    break
                self.fork(argument, fds)
        for pid in self.running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self.end_group(pid)

    def fork(self, argument: Any, fds: list[int]) -> None:
        status, log, *others = fds
        try:
            if self.own_pids is not None:
                _new_pid_namespace(self.own_pids)
            pid = os.fork()
        except OSError as error:
            os.close(status)
            send(self.control, {"error": str(error)})
        else:
            if pid == 0:
                self.become(argument, status, log, others)
            self.running[pid] = status
            pidfd = []
            with contextlib.suppress(AttributeError, OSError):  # macOS, Linux before 5.3
                pidfd.append(os.pidfd_open(pid))
            send(self.control, {"pid": pid}, pidfd)
            others += pidfd
        for fd in (log, *others):
            os.close(fd)

    def reap(self) -> None:
        """Report every child that has ended, and end what is left of its process group."""
        while self.running:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self.end_group(pid)
            pipe = self.running.pop(pid, None)
            if pipe is None:  # not made by fork(): a warm module's
                continue
            with contextlib.suppress(BrokenPipeError):
                os.write(pipe, str(os.waitstatus_to_exitcode(status)).encode())
            os.close(pipe)

    def end_group(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)

    def become(self, argument: Any, status: int, log: int, fds: list[int]) -> None:
        """In the child: drop everything of the server's, run the target, never return."""
        code = 70
        try:
            os.setsid()
            die_with_parent()
            if self.own_pids is None and os.getppid() != self.pid:
                os._exit(70)  # the server has died before it was asked for
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for end in (self.control, self.wake, self.woken):
                end.close()
            for fd in (status, self.own_pids, *self.running.values()):
                if fd is not None:
                    os.close(fd)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.close(log)
            self.target(argument, fds)
            code = 0
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
            if code != stop.code and stop.code is not None:
                print(stop.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code & 0xFF)


def _new_pid_namespace(own: int) -> None:
    """Make the next fork process 1 of a new pid namespace; `own` is this process's namespace.

    Linux lets a process ask for this only while its children go to its own namespace, so that is restored
    first.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(own, _CLONE_NEWPID) or libc.unshare(_CLONE_NEWPID):
        raise OSError(ctypes.get_errno(), f"no new pid namespace: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
