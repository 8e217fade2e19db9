"""Control groups: the kernel's own limits on what a process and all it starts use together.

Optional: they need a writable hierarchy (root, or one that systemd delegated to the user), version 1 or 2.
Where there is none, :mod:`ganlib.grading.watchdog` alone watches the sums.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["Cgroup", "available"]

_PREFIX = "ganlib-grading"
_counter = itertools.count()


class Cgroup:
    """One group per controller (version 1) or one for both (version 2); :meth:`close` removes it.

    `memory` in bytes, `tasks` counts processes and threads. OSError if the groups cannot be made.
    """

    def __init__(self, memory: int, tasks: int) -> None:
        self._folders: list[Path] = []
        name = f"{_PREFIX}-{os.getpid()}-{next(_counter)}"
        settings = {
            "pids": [("pids.max", tasks)],
            "memory": [("memory.limit_in_bytes", memory), ("memory.max", memory), ("memory.oom.group", 1)],
            "cpu": [],  # groups get equal shares, however many processes are in them
        }
        try:
            for controller, parent in _parents().items():
                folder = parent / name
                if folder not in self._folders:
                    folder.mkdir()
                    self._folders.append(folder)
                written = [self._set(folder / file, value) for file, value in settings[controller]]
                if settings[controller] and not any(written):
                    raise OSError(f"no {controller} limit in {folder}")
        except OSError:
            self.close()
            raise

    @staticmethod
    def _set(file: Path, value: int) -> bool:
        if not file.exists():
            return False
        file.write_text(str(value))
        return True

    @contextlib.contextmanager
    def opened(self) -> Iterator[list[int]]:
        """Descriptors of the groups' cgroup.procs; a process that writes "0" to each joins, even inside a
        sandbox."""
        with contextlib.ExitStack() as files:
            yield [
                files.enter_context((folder / "cgroup.procs").open("wb")).fileno() for folder in self._folders
            ]

    @property
    def tasks(self) -> int:
        """How many processes and threads are in the group; 0 once it is closed."""
        for folder in list(self._folders):
            with contextlib.suppress(OSError):
                return int((folder / "pids.current").read_text())
        return 0

    @property
    def refused(self) -> bool:
        """Whether the kernel has refused the group a process or thread."""
        return self._counted("max", ("pids.events",))

    @property
    def out_of_memory(self) -> bool:
        """Whether the kernel has killed a process of the group for its memory."""
        return self._counted("oom_kill", ("memory.oom_control", "memory.events"))

    def _counted(self, event: str, files: Sequence[str]) -> bool:
        """Whether one of `files`, lines of a name and a number each, has counted the event."""
        for folder, file in itertools.product(list(self._folders), files):
            with contextlib.suppress(OSError):
                counts = dict(line.split() for line in (folder / file).read_text().splitlines())
                if int(counts.get(event, 0)):
                    return True
        return False

    def close(self) -> None:
        """Kill what is left in the groups and remove them. One that stays busy for long is left to a later
        run."""
        for folder in self._folders:
            for _ in range(100):
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError:  # busy
                    self._kill(folder)
                    time.sleep(0.01)
                else:
                    break
        self._folders = []

    @staticmethod
    def _kill(folder: Path) -> None:
        with contextlib.suppress(OSError):
            for pid in (folder / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)


def available() -> bool:
    """Whether this process may make groups and start processes in them (it tries). Removes what dead runs
    left."""
    try:
        for folder in set(_parents().values()):
            _sweep(folder)
        group = Cgroup(memory=1 << 28, tasks=8)
    except OSError:
        return False
    try:
        with group.opened() as fds:  # each echo moves itself
            trials = [
                subprocess.run(["echo", "0"], stdout=fd, stderr=subprocess.DEVNULL, check=False) for fd in fds
            ]
        return not any(trial.returncode for trial in trials)
    finally:
        group.close()


def _sweep(folder: Path) -> None:
    for old in folder.glob(f"{_PREFIX}-*-*"):
        if not Path("/proc", old.name.removeprefix(_PREFIX).split("-")[1]).exists():
            with contextlib.suppress(OSError):  # another run may be sweeping, too
                old.rmdir()


def _parents() -> dict[str, Path]:
    """The folders in which to make groups for "pids", "memory" and, if it can be had, "cpu". OSError if there
    is none for one of the first two."""
    found = {}
    for controller in ("pids", "memory", "cpu"):
        folder = next((place for place in _own(controller) if os.access(place, os.W_OK)), None)
        if folder is not None:
            found[controller] = folder
        elif controller != "cpu":
            raise OSError(f"no writable cgroup for {controller}")
    return found


def _own(controller: str) -> Iterator[Path]:
    """This process's group for `controller`, then those above it, as far as groups inside can have limits."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        version_2 = names == ""
        if not version_2 and controller not in names.split(","):
            continue
        top = _mounted("cgroup2" if version_2 else "cgroup", "" if version_2 else controller)
        if top is None:
            continue
        start = top / path.lstrip("/")
        for folder in (start, *start.parents):
            if not folder.is_relative_to(top):
                break
            handed_down = folder / "cgroup.subtree_control"
            # With version 2 a process is in one group: the one place must do for all.
            if folder.is_dir() and (
                not version_2 or {"pids", "memory"} <= {*handed_down.read_text().split()}
            ):
                yield folder


def _mounted(kind: str, option: str) -> Path | None:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        found, _, options = right.split(" ")
        if found == kind and (not option or option in options.split(",")):
            return Path(left.split(" ")[4])
    return None
