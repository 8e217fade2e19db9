"""Unpacking what students hand in, for `nbgrader zip_collect`: one archive can neither stop the others nor
leave its folder.

nbgrader's own extractor ends at the first archive that is broken or whose files point elsewhere, and unpacks
a few kilobytes of zeros into gigabytes. The course's configuration names this one in its place::

    c.ZipCollectApp.extractor_plugin = "ganlib.grading.collect.Extractor"
"""

from __future__ import annotations

import itertools
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO

from nbgrader.plugins import ExtractorPlugin

from ganlib.grading.submissions import MAX_BYTES, MAX_FILES, check_name

GROWTH = 20  # times an archive's own size, besides MAX_BYTES: what a learning platform packs grows less
DEPTH = 3  # archives in archives: a platform's holds those of the students
BROKEN = (OSError, ValueError, RuntimeError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error)


class Extractor(ExtractorPlugin):
    """Unpacks each archive into a folder of its name; what cannot be unpacked is left out, and logged.

    As nbgrader's, but for archives that are broken, encrypted or too large (then what came before that is
    kept), links and other members that are no files, and names that lead out of the folder.
    """

    def extract(self, archive_path: str, extracted_path: str) -> None:
        for path in sorted(Path(archive_path).rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            folder = Path(extracted_path, path.parent.relative_to(archive_path))
            if path.suffix in self.zip_ext:
                self._unpack(path, folder / _stem(path), DEPTH)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, folder / path.name)

    def _unpack(self, path: Path, folder: Path, depth: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        room = MAX_BYTES + GROWTH * path.stat().st_size
        taken: set[str] = set()
        try:
            for name, file in itertools.islice(_members(path), 100 * MAX_FILES):
                try:
                    target = folder / _inside(name, taken)
                    data = file.read(min(room, MAX_BYTES) + 1) if file else b""
                    if file is None or len(data) > min(room, MAX_BYTES):
                        raise ValueError("it is a link" if file is None else "it is too large")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
                except BROKEN as error:
                    self.log.error(f"{path.name}: {ascii(name)[:80]} was left out: {error}")
                    continue
                taken.add(name)
                room -= len(data)
                if depth > 1 and target.suffix in self.zip_ext:
                    self._unpack(target, target.parent / _stem(target), depth - 1)
        except BROKEN as error:
            self.log.error(f"{path.name} was not unpacked to its end: {error}")


def _stem(path: Path) -> str:
    return path.stem.removesuffix(".tar")


def _inside(name: str, taken: set[str]) -> str:
    """The name, if it stays in its folder on any system. Raises ValueError otherwise."""
    check_name(name, taken)
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive or not path.name:
        raise ValueError("its name leads out of the folder")
    return name


def _members(path: Path) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Names and open files of an archive, zip or tar; None in place of what is no file, such as a link."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for about in archive.infolist():
                if not about.is_dir():
                    plain = stat.S_IFMT(about.external_attr >> 16) in (0, stat.S_IFREG)
                    yield about.filename, archive.open(about) if plain else None
        return
    with tarfile.open(path) as archive:
        for about in archive:
            if not about.isdir():
                yield about.name, archive.extractfile(about) if about.isreg() else None
