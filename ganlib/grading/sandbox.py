"""Where a student's code runs: a fork server under bubblewrap, each child of it confined on its own.

Three layers, each of which holds by itself:

- **bubblewrap** around the server (:mod:`ganlib.grading.bubblewrap`): a read-only view of a short list of
  folders, no network, no other process, a cleared environment;
- **each child** (:mod:`ganlib.grading.confine`): own namespaces, a small tmpfs as all it can write, own
  uid, no capability, no way to a new user namespace, limits per process;
- **the sums** (:mod:`ganlib.grading.cgroup`, :mod:`ganlib.grading.watchdog`): memory and tasks of a child
  and all it started, and wall clock.

Without bubblewrap (macOS, a container that forbids namespaces) there is a *degraded* mode: limits per
process, the watchdog, a clean environment, a private temporary folder, barred modules hidden. It stops
accidents, not attacks, and says so on standard error. ``ganlib grade --doctor`` tries what holds.

Where nothing forks (Windows) the degraded mode is *spawned*: each process is started anew
(:mod:`ganlib.grading.spawn`), and of the limits only those that the watchdog keeps are left.
"""

from __future__ import annotations

import io
import os
import secrets
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ganlib.grading import bubblewrap, cgroup, spawn
from ganlib.grading.forkserver import Child, ForkServer
from ganlib.grading.spawn import Spawner
from ganlib.grading.watchdog import Watchdog

__all__ = ["ANSWERS", "BARRED", "Limits", "StudentSandbox"]

BARRED = ("models", "losses", "layers", "training", "studies", "systems", "runs", "grading")
"""The parts of ganlib that no student's code may use: those that hold a homework's answer, and the
grading. Confined, they are not there, but for what serves the student's process; degraded, an import hook
hides those with answers."""

ANSWERS = tuple(f"ganlib.{name}" for name in BARRED if name != "grading")
_ENTER = "ganlib.grading.confine:enter"
_LACKING_WITHOUT_CGROUP = (
    "a watchdog limits memory and processes, none shares out the processor: no writable cgroup, which "
    "`systemd-run --user --scope ganlib grade ...` can give an ordinary user",
    "a process that it detaches can outlive the grading",
)
_LACKING_WHEN_DEGRADED = (
    "the student's code can read the course folder, hidden tests included, and all else that you can read",
    "it can change and delete your files, the gradebook among them, and end your processes",
    "it has the network",
    "the size of what it writes is limited per file, not in total",
)
_LACKING_WHEN_SPAWNED = (
    *_LACKING_WHEN_DEGRADED[:-1],
    "the size of what it writes is not limited",
    "a watchdog limits memory, processes and time by a few looks a second; a quick bomb can outrun it",
    "nothing shares out the processor, nor limits the memory of the judge that looks at its answers",
    "a process whose parent has ended can outlive the grading",
)
# Of the grader's environment, what a program needs to start on Windows.
_KEPT = ("PATH", "SYSTEMROOT", "COMSPEC", "PATHEXT")


@dataclass(frozen=True)
class Limits:
    """What one submission may use. Memory, disk and output in bytes. ValueError for a limit that is not
    positive."""

    cell_seconds: float = 120
    """Wall clock of one cell, or of one question of a test."""
    total_seconds: float = 600
    """Wall clock of one submission, and of one sandbox."""
    memory: int = 4 << 30
    """Of all its processes together, and of each."""
    processes: int = 64
    """Its processes and threads together must stay below this number."""
    disk: int = 256 << 20
    """Files in its home, /tmp and /dev/shm together."""
    output: int = 1 << 20
    """Output of one cell."""

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value!r}")


class StudentSandbox:
    """The students' fork server; :meth:`fork` starts one confined process. Threads may share it. A context
    manager.

    `target` ("module:function") is what a child runs once it is confined, `warm` are modules to import and
    functions to call before; all may use :data:`ganlib.grading.bubblewrap.ALLOWED` of ganlib. `hide` names
    folders, the course's for one, that must not be seen even where they lie inside the Python environment.
    `confined`: None takes the degraded mode, with a warning, where the real one cannot be had; True raises
    RuntimeError instead; False asks for the degraded mode. `spawned`: processes are started anew, which is
    degraded, too; `fds` are then what :meth:`ganlib.grading.spawn.Spawner.fork` calls `ends`.

    `mode` is then "root" (a uid for each child), "user" (an ordinary user's namespaces), "degraded" or
    "spawned"; `lacks` says what does not hold.
    """

    def __init__(
        self,
        target: str,
        warm: Sequence[str] = (),
        limits: Limits | None = None,
        *,
        confined: bool | None = None,
        hide: Sequence[str | Path] = (),
        spawned: bool = spawn.NEEDED,
    ) -> None:
        self.limits = limits or Limits()
        self._target = target
        self._warm = [*warm, target.split(":")[0]]
        self._uids: set[int] = set()
        self._grouped = sys.platform == "linux" and not spawned and cgroup.available()
        self._watchdog = Watchdog()
        self._folder = tempfile.TemporaryDirectory(prefix="ganlib-", ignore_cleanup_errors=True)
        try:
            self.lacks = self._start(confined, hide, spawned)
        except BaseException:
            self._watchdog.close()
            self._folder.cleanup()
            raise

    def _start(self, confined: bool | None, hide: Sequence[str | Path], spawned: bool) -> tuple[str, ...]:
        """Start the server in the best mode that works here; returns what does not hold."""
        lacks = () if self._grouped else _LACKING_WITHOUT_CGROUP
        why = "it was asked for"
        if confined is not False:
            try:
                if spawned:
                    raise RuntimeError("bubblewrap is for Linux; on Windows it works in WSL 2")
                self._start_confined(hide)
            except RuntimeError as error:
                if confined:
                    raise
                why = str(error)
            else:
                return lacks[:1]  # the rest holds by the pid namespace
        environment = bubblewrap.environment(self._folder.name)  # for the imports only
        if spawned:
            self.mode, lacks = "spawned", _LACKING_WHEN_SPAWNED
            environment |= {name: os.environ[name] for name in _KEPT if name in os.environ}
            self._server = Spawner(_ENTER, self._warm, environment=environment)
        else:
            self.mode, lacks = "degraded", (*_LACKING_WHEN_DEGRADED, *lacks)
            self._server = ForkServer(_ENTER, self._warm, environment=environment)
        print(
            f"WARNING: student code runs in degraded mode ({why}):",
            *lacks,
            sep="\n  - ",
            file=sys.stderr,
            flush=True,
        )
        return lacks

    def _start_confined(self, hide: Sequence[str | Path]) -> None:
        """Start the server under bubblewrap and confine one process for trial; RuntimeError if that fails."""
        if sys.platform != "linux" or shutil.which("bwrap") is None:
            raise RuntimeError("bubblewrap (bwrap) is not installed")
        self.mode = "root" if os.geteuid() == 0 else "user"
        if self.mode == "root" and _uids()[1] < 1 << 15:
            raise RuntimeError("this root has no uids to give to students' code")
        command = bubblewrap.command(self.mode, hide)
        self._server = ForkServer(_ENTER, self._warm, command=command, pid_namespaces=True)
        try:
            with self._fork("ganlib.grading.confine:run_code", "pass", (), {}, 60) as trial:
                if trial.wait(30) != 0:
                    said = trial.log().strip().splitlines() or ["it did not end"]
                    raise RuntimeError(f"no process can be confined here: {said[-1]}")
        except RuntimeError:
            self._server.close()
            raise

    @property
    def alive(self) -> bool:
        """Whether the server still runs."""
        return self._server.alive

    def fork(
        self,
        argument: Any = None,
        fds: Sequence[int] = (),
        files: Mapping[str, bytes] | None = None,
        seconds: float | None = None,
    ) -> Child:
        """Start a confined process that runs the target with `argument` (JSON) and copies of `fds`.

        Its home, where it starts, holds `files`: {relative path: content}. Beyond the limits the watchdog
        kills it, and `child.reason` is "time" (after `seconds`, or the limits' total), "memory" or
        "processes". The argument passes through the server, a process that the other students' are copies
        of: it must hold no secret. ValueError for a path that leaves the folder or files larger than the
        disk limit; RuntimeError if the server is gone.
        """
        return self._fork(self._target, argument, fds, files or {}, seconds or self.limits.total_seconds)

    def _fork(
        self, target: str, argument: Any, fds: Sequence[int], files: Mapping[str, bytes], seconds: float
    ) -> Child:
        with ExitStack() as opened, ExitStack() as kept:
            request = {
                "mode": self.mode,
                "limits": asdict(self.limits),
                "target": target,
                "argument": argument,
            }
            archive = opened.enter_context(_archive(files, self.limits.disk))
            passed = [archive.fileno()]
            group = None
            if self._grouped:
                # Files in a tmpfs are memory, too: they get room of their own.
                memory = self.limits.memory + self.limits.disk
                group = kept.enter_context(closing(cgroup.Cgroup(memory, self.limits.processes)))
                passed += opened.enter_context(group.opened())
            if self.mode == "root":
                request["uid"] = kept.enter_context(self._own_uid())
            if self.mode in ("degraded", "spawned"):
                folder = tempfile.TemporaryDirectory(prefix="ganlib-", ignore_cleanup_errors=True)
                request |= {"base": kept.enter_context(folder), "barred": ANSWERS}
            if self.mode == "spawned":
                passed = [os.path.join(request["base"], "handed_in.tar")]
                Path(passed[0]).write_bytes(archive.read())
            child = self._server.fork({**request, "own_fds": len(passed)}, [*passed, *fds])
            child.cleanup = kept.pop_all()
        if group is not None:
            child.explain = lambda: "memory" if group.out_of_memory else ""
        self._watchdog.watch(child, self.limits, group, seconds)
        return child

    @contextmanager
    def _own_uid(self) -> Iterator[int]:
        """A uid that no living child of this server has, and hardly anyone else's."""
        first, count = _uids()
        uid = next(uid for _ in range(1000) if (uid := first + secrets.randbelow(count)) not in self._uids)
        self._uids.add(uid)
        try:
            yield uid
        finally:
            self._uids.discard(uid)

    def close(self) -> None:
        """End the server and all its children."""
        self._server.close()
        self._watchdog.close()
        self._folder.cleanup()

    def __enter__(self) -> StudentSandbox:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _uids() -> tuple[int, int]:
    """(first, count) of the uids to choose from: the upper half of those that exist here, below 2**31."""
    ranges = [
        [int(word) for word in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()
    ]
    first, _, count = max(ranges, key=lambda each: each[2])
    count = min(first + count, 1 << 31) - first
    return first + count - count // 2, count // 2


def _archive(files: Mapping[str, bytes], most: int) -> IO[bytes]:
    """`files` as an open tar file. ValueError for a path that is not inside the folder, or too many bytes."""
    if (size := sum(map(len, files.values()))) > most:
        raise ValueError(f"files: {size} bytes handed in, more than the disk limit of {most}")
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in files.items():
            path = PurePosixPath(name)
            if Path(name).anchor or not path.parts or ".." in path.parts or "\0" in name:
                raise ValueError(f"files: {name!r} is not a path inside the folder")
            member = tarfile.TarInfo(str(path))
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    file.seek(0)
    return file
