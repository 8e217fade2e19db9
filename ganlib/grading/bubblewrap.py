"""The bubblewrap command around the student's fork server: what there is to see in the sandbox.

The file system is a list of folders that are let in, never the machine's own with some taken out: the
system's programs and libraries, the Python environment, and, at a path of its own, the part of ganlib that
holds no homework's answer. Every copy of ganlib that lies inside those folders is covered by an empty
folder.
"""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from ganlib.grading.confine import BASE, FOLDERS, places
from ganlib.grading.forkserver import single_threaded

__all__ = ["ALLOWED", "command", "environment"]

ALLOWED = ("__init__.py", "random.py", "data", "metrics", "plots", "theory")
"""The parts of ganlib that a student's code finds, besides those of the grading package that serve it."""

_SERVING = tuple(
    f"grading/{name}.py"
    for name in ("__init__", "zygote", "confine", "wire", "student", "shell", "seeds", "alarm")
)
_PACKAGE = Path(__file__).parents[1]
_INSIDE = Path("/opt/course")
_ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "alternatives", "fonts", "localtime", "mime.types")
_DEVICES = ("null", "zero", "full", "random", "urandom")
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "shm": f"{BASE}/shm",
}
# The server's rights, for what its children do to themselves before they run a student's code.
_KEPT = ("SYS_ADMIN", "SETUID", "SETGID", "SETPCAP", "KILL")
_SERVER_FILES = 64 << 20  # for what its imports write


def command(mode: str, hide: Iterable[str | Path] = ()) -> list[str]:
    """bubblewrap and its options, to be put before a Python command; `mode` is "root" or "user".

    `hide`: folders to cover should they lie inside the ones that are let in.
    """
    if mode == "root":
        rights = ["--cap-drop", "ALL", *(word for name in _KEPT for word in ("--cap-add", f"CAP_{name}"))]
    else:  # all capabilities, but of a namespace that holds nothing
        rights = ["--unshare-user", "--cap-add", "ALL"]
    alone = ["--unshare-pid", "--unshare-ipc", "--unshare-net", "--unshare-uts", "--die-with-parent"]
    return ["bwrap", *rights, *alone, *_variables(), *_files(hide), "--chdir", "/", "--"]


def environment(base: str = BASE) -> dict[str, str]:
    """The variables of a student's process, whose writable folders lie in `base`: the same for everyone,
    none of ours."""
    return single_threaded(
        {
            "PATH": f"{sys.prefix}/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "USER": "student",
            "LOGNAME": "student",
            **places(base),
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "NBGRADER_EXECUTION": "autograde",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONHASHSEED": "0",  # the order of a set is the same on every run
        }
    )


def _variables() -> list[str]:
    path = os.pathsep.join(filter(None, (str(_INSIDE), _user_site())))
    pairs = {**environment(), "PYTHONPATH": path}
    return ["--clearenv", *(word for pair in pairs.items() for word in ("--setenv", *pair))]


def _user_site() -> str:
    return site.getusersitepackages() if site.ENABLE_USER_SITE else ""


def _files(hide: Iterable[str | Path]) -> Iterator[str]:
    """The file system. All of it is read-only but BASE, which each child covers with its own."""
    let_in = {Path(path): Path(path) for path in _roots()}
    covered = {folder for path in (_PACKAGE, *hide) for folder in _both(path) if _within(folder, let_in)}
    let_in = {path: path for path in let_in if not _within(path, let_in)}
    parts = (_PACKAGE / part for part in (*ALLOWED, *_SERVING))
    let_in |= {_INSIDE / "ganlib" / part.relative_to(_PACKAGE): part for part in parts if part.exists()}
    made = {Path("/")}
    for path in sorted({*let_in, *covered}, key=lambda path: len(path.parts)):
        yield from _parents(path, made, let_in)
        if path in covered:
            yield from ("--tmpfs", str(path), "--remount-ro", str(path))
        else:
            yield from ("--ro-bind", str(let_in[path]), str(path))
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):  # links into /usr on most systems
        if os.path.islink(f"/{name}"):
            yield from ("--symlink", os.readlink(f"/{name}"), f"/{name}")
    yield from _empty_places(made)


def _empty_places(made: set[Path]) -> Iterator[str]:
    """What the server needs in order to run and its children to mount their own over."""
    yield from ("--perms", "0755", "--tmpfs", "/dev")
    yield from _folder("/dev/pts")
    yield from _folder("/var")
    for name in _DEVICES:
        yield from ("--dev-bind", f"/dev/{name}", f"/dev/{name}")
    yield from ("--perms", "0755", "--size", str(_SERVER_FILES), "--tmpfs", BASE)
    for name in FOLDERS:
        yield from _folder(f"{BASE}/{name}", "1777")
    links = {f"/dev/{name}": target for name, target in _LINKS.items()}
    # /tmp is there already if this Python lies in it.
    links |= {path: f"{BASE}/tmp" for path in ("/tmp", "/var/tmp") if Path(path) not in made}
    for link, target in links.items():
        yield from ("--symlink", target, link)
    yield from ("--proc", "/proc", "--remount-ro", "/dev", "--remount-ro", "/")


def _roots() -> Iterator[str]:
    """Folders and files of the machine that are let in: the system's, and those of this Python."""
    yield from (path for path in ("/usr", *(f"/etc/{name}" for name in _ETC)) if os.path.exists(path))
    yield from (
        f"/{name}" for name in ("bin", "sbin", "lib", "lib32", "lib64") if _is_real_folder(f"/{name}")
    )
    python = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values(), _user_site()}
    for folder in _both(*filter(os.path.isdir, python), sys.executable):
        if not folder.is_relative_to("/usr"):
            yield str(folder)


def _is_real_folder(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _both(*paths: str | Path) -> set[Path]:
    """Each path as it is written and with its links followed."""
    return {Path(os.path.abspath(path)) for path in paths} | {Path(path).resolve() for path in paths}


def _within(path: Path, roots: Iterable[Path]) -> bool:
    return any(path != root and path.is_relative_to(root) for root in roots)


def _parents(path: Path, made: set[Path], let_in: Iterable[Path]) -> Iterator[str]:
    """Make the folders above `path` that nothing let in brings along; bubblewrap alone would make them
    0700."""
    for parent in reversed(path.parents):
        if parent not in made and not _within(parent, let_in) and parent not in let_in:
            made.add(parent)
            yield from _folder(str(parent))


def _folder(path: str, permissions: str = "0755") -> tuple[str, ...]:
    return "--perms", permissions, "--dir", path
