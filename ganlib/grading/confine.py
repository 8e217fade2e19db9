"""What a forked child does to itself before a line of the student's code runs.

:func:`enter` is the target of the student's fork server (:mod:`ganlib.grading.sandbox` starts it). The
server has made the child process 1 of a new pid namespace: when it ends, Linux kills all it ever started.
The child then

1. joins the cgroups made for it, where there are any;
2. leaves the server's mounts, network, IPC, host name and keyring for empty ones, and mounts one tmpfs,
   limited in size, as home, /tmp and /dev/shm: all that can be written;
3. takes a uid of its own, when the grader is root;
4. enters a user namespace in which no further one can be made, so that no capability can be had again;
5. sets limits per process, gives up all capabilities for good, and asks to die with the server.

The order matters: each step needs a right that a later one gives up.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.abc
import os
import platform
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganlib.grading.zygote import die_with_parent

try:
    import resource
except ImportError:  # Windows
    resource = None

__all__ = ["BASE", "FOLDERS", "enter", "places", "run_code"]

BASE, FOLDERS = "/sandbox", ("home", "tmp", "shm")
"""The one place in the sandbox that can be written; /tmp and /dev/shm are links into it."""

_NEWNS, _NEWCGROUP, _NEWUTS = 0x20000, 0x2000000, 0x4000000
_NEWIPC, _NEWUSER, _NEWNET = 0x8000000, 0x10000000, 0x40000000
_NOSUID, _NODEV, _NOEXEC, _REC, _PRIVATE = 2, 4, 8, 16384, 1 << 18
_SET_DUMPABLE, _SET_KEEPCAPS, _CAPBSET_DROP, _SET_NO_NEW_PRIVS, _CAP_AMBIENT, _CLEAR_ALL = 4, 8, 24, 38, 47, 4
_CAP_SYS_ADMIN, _LAST_CAPABILITY = 21, 63
_CAPABILITY_VERSION_3 = 0x20080522
_INODES = 20_000  # a tmpfs limits bytes of content, not names: empty files cost kernel memory, too
_KEYCTL = {"x86_64": 250, "aarch64": 219}


def enter(request: dict[str, Any], fds: list[int]) -> None:
    """Confine this process as `request` says, then run its target.

    `request`: "mode" and "limits" (as :class:`ganlib.grading.sandbox.StudentSandbox` has them), "target",
    "argument"; "uid" if the mode is "root"; "base" (its folder) and "barred" (modules to hide) if it is
    "degraded" or "spawned"; "own_fds", how many of `fds` are for this function: a tar file of what was handed
    in, then the cgroup.procs files of groups to join. The rest goes to the target. OSError if a step fails;
    then the target is not run.
    """
    (files, *groups), others = fds[: request["own_fds"]], fds[request["own_fds"] :]
    for fd in groups:
        os.write(fd, b"0")  # 0: the writing process
        os.close(fd)
    confined = request["mode"] in ("root", "user")
    if confined:
        _new_namespaces()
        _mount(request["limits"]["disk"])
        _give_up_rights(request.get("uid"))
    if resource:
        _limit_process(request["limits"], confined)
    if request["mode"] != "spawned":  # which has its own way to end with its parent
        die_with_parent()  # last: a change of uid cancels it
    os.umask(0o022)
    os.chdir(_use_folders(request.get("base", BASE)))
    _unpack(files)
    _clean_imports(request.get("barred", ()))
    module, function = request["target"].split(":")
    getattr(importlib.import_module(module), function)(request["argument"], others)


def run_code(code: str, fds: list[int]) -> None:
    """A target that runs Python `code`, in which `fds` is the list of descriptors: for trials of the
    sandbox itself."""
    exec(compile(code, "<trial>", "exec"), {"__name__": "__main__", "fds": fds})


# ---- system calls that Python lacks ----------------------------------------------------------------------


_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library; OSError if it fails."""
    if getattr(_libc, name)(*arguments) == -1:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}{arguments}: {os.strerror(code)}")


def _mount_one(source: str, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", *encoded[:3], ctypes.c_ulong(flags), encoded[3])


def _set_capabilities(mask: int) -> None:
    """Make `mask` the permitted and effective capabilities; nothing is inherited."""
    words = (ctypes.c_uint32 * 6)(
        *(word for part in (mask, mask >> 32) for word in (part & 0xFFFFFFFF,) * 2 + (0,))
    )
    _call("capset", (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), words)


def _empty_bounding_set() -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        try:
            _call("prctl", _CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:  # beyond the last capability that this kernel knows
            return


# ---- the steps -------------------------------------------------------------------------------------------


def _new_namespaces() -> None:
    _call("unshare", _NEWNS | _NEWIPC | _NEWNET | _NEWUTS | _NEWCGROUP)
    _call("sethostname", b"sandbox", 7)
    number = _KEYCTL.get(platform.machine())
    if number is not None:
        _call(
            "syscall", number, 1, None
        )  # KEYCTL_JOIN_SESSION_KEYRING: a new one; the grader's may hold tickets


def _mount(disk: int) -> None:
    """One tmpfs of `disk` bytes for all that can be written; terminals and /proc of its own."""
    _mount_one("none", "/", None, _REC | _PRIVATE)
    _mount_one("tmpfs", BASE, "tmpfs", _NOSUID | _NODEV, f"size={disk},nr_inodes={_INODES},mode=0755")
    for name in FOLDERS:
        os.mkdir(f"{BASE}/{name}")
        os.chmod(f"{BASE}/{name}", 0o1777)  # there is nobody else in here
    _mount_one("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    _mount_one("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)


def _give_up_rights(uid: int | None) -> None:
    """Become `uid` (None: keep the uid), forbid user namespaces, drop every capability for good."""
    if uid is not None:
        _call("prctl", _SET_KEEPCAPS, 1, 0, 0, 0)
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        _set_capabilities(1 << _CAP_SYS_ADMIN)  # some systems let only this make a user namespace
        _call("prctl", _SET_DUMPABLE, 1, 0, 0, 0)  # else /proc/self still belongs to root
    _enter_last_user_namespace()
    _call("prctl", _CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    _empty_bounding_set()
    _set_capabilities(0)
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _enter_last_user_namespace() -> None:
    """Enter a user namespace that allows none inside: with all its capabilities, none of which reach
    outside it.

    The mounts and the network belong to the namespace left behind. The limit is written with a capability
    that is given up next, so it cannot be lifted.
    """
    user, group = os.geteuid(), os.getegid()
    _call("unshare", _NEWUSER)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def _counts_tasks_by_namespace() -> bool:
    """Whether RLIMIT_NPROC counts within a user namespace (Linux 5.14), not all that the uid runs
    elsewhere."""
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2]) >= (5, 14)


def _limit_process(limits: dict[str, int], confined: bool) -> None:
    """Limits per process; what all of them together may use is for cgroups and the watchdog."""
    # CORE: with 1 Linux writes no core dump and starts no program to take one; 0 would allow the latter.
    wanted = {"CORE": 1, "FSIZE": limits["disk"], "NOFILE": 1024}
    if sys.platform == "linux":
        wanted["DATA"] = limits["memory"] + _data_size()
    if confined and _counts_tasks_by_namespace():
        wanted["NPROC"] = limits["processes"] + 8  # a little more, so that reaching the limit is noticed
    for name, value in wanted.items():
        number = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(number)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(number, (value, value))


def _data_size() -> int:
    """Bytes of private writable memory that the warm modules have mapped already."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmData:"))


def places(base: str) -> dict[str, str]:
    """The environment variables that say where to write, for folders in `base`."""
    temporary = f"{base}/tmp"
    caches = {"IPYTHONDIR": f"{temporary}/ipython", "MPLCONFIGDIR": f"{temporary}/matplotlib"}
    if sys.platform == "win32":
        caches |= {"USERPROFILE": f"{base}/home", "TEMP": temporary, "TMP": temporary}
    return {"HOME": f"{base}/home", "TMPDIR": temporary, **caches}


def _use_folders(base: str) -> str:
    """Make `base` the place of home and temporary files; returns the home. The server's own imports used
    another."""
    for name in FOLDERS:
        os.makedirs(f"{base}/{name}", exist_ok=True)
    os.environ |= places(base)
    tempfile.tempdir = None  # looked up anew
    return os.environ["HOME"]


def _unpack(fd: int) -> None:
    """Unpack the files handed in, as the student's own uid and within the disk limit."""
    with os.fdopen(fd, "rb") as file, tarfile.open(fileobj=file) as archive:
        for member in archive:
            target = Path(member.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.extractfile(member).read())


class _Barred(importlib.abc.MetaPathFinder):
    """Finds nothing, loudly: where barred modules cannot be left out of the file system, they are not
    importable."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)

    def find_spec(self, name: str, *_: Any) -> None:
        if any(name == barred or name.startswith(barred + ".") for barred in self.names):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def _clean_imports(barred: Sequence[str]) -> None:
    """Take the server's working folder off the search path and hide `barred` modules."""
    sys.path[:] = [path for path in sys.path if path not in ("", "/")]
    if barred:
        sys.meta_path.insert(0, _Barred(barred))
