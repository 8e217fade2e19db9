"""A folder for what takes seconds to make: arrays of bytes, checked when read, stored whole or not at all."""

import os
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np


def folder() -> Path:
    """The folder named by the environment variable ``GANLIB_CACHE``, or the user's cache folder."""
    named = os.environ.get("GANLIB_CACHE")
    if named:
        return Path(named)
    from platformdirs import user_cache_dir

    return Path(user_cache_dir("ganlib"))


def cached(path: Path, make: Callable[[], np.ndarray], is_intact: Callable[[np.ndarray], bool]) -> np.ndarray:
    """The array in ``path``, mapped into memory; made, and stored there, if it is not there or not intact.

    Where nothing can be written, what was made in memory serves as well. The mapping is copy-on-write, for
    torch warns of arrays that it may not write to.
    """
    try:
        data = np.load(path, mmap_mode="c")
        if is_intact(data):
            return data
    except (OSError, ValueError, EOFError):  # none yet, unreadable, or not an array
        pass
    data = make()
    with suppress(OSError):  # read-only folder, full disk
        _store(path, data)
    return data


def _store(path: Path, data: np.ndarray) -> None:
    """Write under a name of our own, then rename: another process sees the whole file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.stem}-{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            np.save(file, data)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
