"""The memory of a run: one result per student on the disk, written whole or not at all.

``grading/<assignment>/`` in the course folder holds ``key`` (from which each student's seed is made),
``lock`` and ``results/<student>.json``. A run that is killed at any moment leaves every finished result
there, and the next one goes on from them. Nothing in this folder is for students: the results quote hidden
tests.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Journal:
    """The results, the key and the lock of one assignment.

    Raises OSError if the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.results.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps a second run of the assignment out; the system frees the lock of a process that died.

        Raises ValueError while another run holds it.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / "lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise ValueError(f"{self.folder.name} is being graded by another run") from None
        try:
            for torn in [*self.folder.glob(".new-*"), *self.results.glob(".new-*")]:
                torn.unlink()  # a run was killed while it wrote this
            yield
        finally:
            lock.release()

    def seed(self, student: str) -> int:
        """The student's seed, below 2**32: the same in every run, and not to be guessed without the key."""
        path = self.folder / "key"
        if not path.exists():
            write_whole(path, secrets.token_hex(32).encode(), mode=0o600, durable=True)
        mac = hmac.new(path.read_bytes(), os.fsencode(student), hashlib.sha256)
        return int.from_bytes(mac.digest()[:4], "big")

    def read(self, student: str) -> dict | None:
        """The result of a student, None if there is none that can be read."""
        try:
            return json.loads((self.results / f"{student}.json").read_bytes())
        except (OSError, ValueError):
            return None

    def write(self, result: dict) -> None:
        """Stores a result: once this returns, it survives any end of this process.

        Where the machine itself crashes within seconds, the file may be torn; it is then read as none, and
        graded again under the same seed.
        """
        path = self.results / f"{result['student']}.json"
        write_whole(path, json.dumps(result).encode(), mode=0o600)


def write_whole(path: Path, data: bytes, mode: int = 0o644, durable: bool = False) -> None:
    """Replaces a file at once: a reader, or a kill, finds the old content or the new, never a part.

    durable: wait until the disk has it, so that a crash of the machine cannot tear it either.
    """
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with open(handle, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
