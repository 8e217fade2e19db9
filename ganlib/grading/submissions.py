"""What students handed in, read without trust: plain files with plain names, bounded, no links followed.

A submission is a mapping of paths in its folder (``data/points.txt``) to bytes. What is left out is said in a
remark, so that the instructor sees why a file was not there.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import stat
import unicodedata
from collections.abc import Container, Iterator, Mapping
from datetime import datetime
from pathlib import Path

MAX_FILES = 500
MAX_DEPTH = 16  # folders in folders
MAX_BYTES = (
    64 * 2**20
)  # of all files together: an honest notebook with animations in its outputs has a quarter
MAX_NAME = 200  # bytes of a path

IGNORED = {".ipynb_checkpoints", "__pycache__", "__MACOSX", ".git", ".DS_Store", "Thumbs.db"}

# A student may have written it: dateutil takes seconds over long digits, and opens a zone's name as a file.
_ZONE = r"Z|[+-]\d\d:?\d\d|[A-Za-z]{1,14}(/[A-Za-z_]{1,14}){0,2}"
_DATE = re.compile(rf"\d{{4}}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d{{1,9}})?)?( ?({_ZONE}))?")


def read(folder: Path) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The plain files of a submission by their path in it, notebooks first, and remarks on what was left out.

    Neither links nor pipes are opened, so that nothing leads out of the folder and nothing blocks. Raises
    ValueError if the folder is none.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ValueError("the submission is a link or a file where its folder should be")
    files: dict[str, bytes] = {}
    remarks: list[str] = []
    room = MAX_BYTES
    for count, (path, name) in enumerate(_walk(folder)):
        if count == MAX_FILES:
            remarks.append(f"more than {MAX_FILES} files: the rest was left out")
            break
        name = unicodedata.normalize("NFC", name)
        try:
            check_name(name, files)
            files[name] = _read_plain(path, room)
            room -= len(files[name])
        except (ValueError, OSError) as problem:
            why = problem.strerror if isinstance(problem, OSError) else problem
            remarks.append(f"{ascii(name)[1:-1][:80]} was left out: {why}")
    return files, tuple(remarks[:20])


def _walk(folder: Path, prefix: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """Paths and names of all but folders: notebooks, then other files, then what lies in folders."""

    def rank(entry: os.DirEntry) -> tuple[bool, bool, str]:
        return entry.is_dir(follow_symlinks=False), not entry.name.lower().endswith(".ipynb"), entry.name

    with os.scandir(folder) as found:  # a folder of a million files shall not be read to its end
        entries = sorted(itertools.islice(found, 20 * MAX_FILES), key=rank)
    for entry in entries:
        name = prefix + entry.name
        if entry.name in IGNORED or entry.name.startswith("._"):  # what systems leave behind
            continue
        if not entry.is_dir(follow_symlinks=False):
            yield entry.path, name
        elif depth < MAX_DEPTH and os.access(entry.path, os.R_OK | os.X_OK):
            yield from _walk(Path(entry.path), f"{name}/", depth + 1)


def check_name(name: str, files: Container[str]) -> None:
    """Raises ValueError for a name that another system could not hold, or that is taken."""
    if name in files:
        raise ValueError("there is another file of this name")
    if len(name.encode(errors="surrogatepass")) > MAX_NAME:
        raise ValueError("its path is too long")
    if "\\" in name or any(unicodedata.category(letter) in ("Cc", "Cs") for letter in name):
        raise ValueError("its name holds control characters, backslashes or bytes that are no text")


def _read_plain(path: str, room: int) -> bytes:
    """The content of a plain file. Raises ValueError if it is none, or larger than `room`."""
    wanted = ("O_BINARY", "O_NOFOLLOW", "O_NONBLOCK")  # a pipe would block whoever opens it
    if os.path.islink(path):
        raise ValueError("it is a link")
    with open(os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in wanted)), "rb") as file:
        about = os.fstat(file.fileno())
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("it is no plain file")
        if about.st_size > room:
            raise ValueError(f"the files hold more than {MAX_BYTES // 2**20} MiB together")
        return file.read(room)


def digest(files: Mapping[str, bytes], homework: str) -> str:
    """SHA-256 of a submission and the homework that it is graded by: a verdict holds while it stays."""
    total = hashlib.sha256(homework.encode())
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            total.update(len(part).to_bytes(8, "big") + part)
    return total.hexdigest()


def handed_in_at(files: Mapping[str, bytes]) -> datetime | None:
    """What ``timestamp.txt`` says, in UTC without a zone as nbgrader keeps it; None without that file.

    Raises ValueError if it holds no date.
    """
    from nbgrader.utils import parse_utc

    text = files.get("timestamp.txt", b"")[:100].decode(errors="replace").strip()
    if not text:
        return None
    try:
        if _DATE.fullmatch(text):
            return parse_utc(text)
    except (ValueError, OverflowError, AttributeError, OSError):  # what dateutil raises
        pass
    raise ValueError(f"timestamp.txt holds no date: {text[:40]!r}")
