"""Archives go through `nbgrader zip_collect`; what hostile ones hold reaches nobody else."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ganlib.grading import submissions
from ganlib.grading.gradebook import Course

if str(Path(__file__).parent) not in sys.path:  # `import courses`
    sys.path.insert(0, str(Path(__file__).parent))
EXTRA = {"ada": {"points.txt"}, "zoe": {"notes.txt"}}
LINK = 0o120777 << 16  # the attributes that make an archive's member a symbolic link


def zipped(path: Path | io.BytesIO, members: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, LINK
            archive.writestr(info, target)


def tarred(path: Path, members: dict[str, bytes], links: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for name, target in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)


@pytest.fixture(scope="module")
def collected(tiny, tmp_path_factory) -> Path:
    """A course into which honest and hostile archives were collected, by nbgrader's own command."""
    import courses

    folder = Path(
        shutil.copytree(courses.released(tiny, tmp_path_factory), tmp_path_factory.mktemp("zip") / "c")
    )
    honest = (folder / "release/tiny/tiny.ipynb").read_bytes()
    theirs = honest.replace(b"raise NotImplementedError", b"return 'stolen'")
    archives = folder / "downloaded" / "tiny" / "archive"
    archives.mkdir(parents=True)
    zipped(archives / "ada_tiny.zip", {"tiny.ipynb": honest, "data/points.txt": b"1 2 3"})
    out = "../../../../submitted/ada/tiny"
    zipped(
        archives / "bob_tiny.zip",
        {"tiny.ipynb": theirs, f"{out}/tiny.ipynb": theirs, "../../evil.py": b"evil"},
    )
    zipped(archives / "cyd_tiny.zip", {"tiny.ipynb": theirs, f"{folder}/source/tiny/tiny.ipynb": theirs})
    zipped(
        archives / "dan_tiny.zip",
        {"tiny.ipynb": theirs, "zeros.bin": bytes(submissions.MAX_BYTES + 1)},  # a thousandth of it zipped
        {
            "gradebook.txt": str(folder / "gradebook.db"),
            "source.ipynb": str(folder / "source/tiny/tiny.ipynb"),
        },
    )
    tarred(
        archives / "eve_tiny.tar.gz",
        {"tiny.ipynb": theirs, f"{out}/tiny.ipynb": theirs},
        {"secret": str(folder / "source" / "tiny" / "tiny.ipynb"), "up": "../../.."},
    )
    (archives / "fox_tiny.zip").write_bytes(b"PK\x03\x04 and no more")
    class_of = io.BytesIO()
    zipped(class_of, {"tiny.ipynb": honest, "notes.txt": b"mine"})
    zipped(archives / "platform.zip", {"zoe_tiny.zip": class_of.getvalue()})  # archives in an archive
    before = {path: path.read_bytes() for path in (*folder.glob("source/*/*"), folder / "gradebook.db")}
    names = r"--FileNameCollectorPlugin.named_regexp=.*/(?P<student_id>[a-z]+)_tiny/(?P<file_id>.*)"
    command = ["-m", "nbgrader", "zip_collect", "tiny", f"--CourseDirectory.root={folder}", names]
    subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    assert {path: path.read_bytes() for path in before} == before
    return folder


def test_nothing_of_an_archive_lies_outside_its_owners_folder(collected, tiny):
    honest = (collected / "release/tiny/tiny.ipynb").read_bytes()
    assert (collected / "submitted/ada/tiny/tiny.ipynb").read_bytes() == honest
    assert not list(collected.parent.rglob("evil.py"))
    stolen = [path for path in collected.rglob("*.ipynb") if b"stolen" in path.read_bytes()]
    owners = {path.relative_to(collected).parts[:2] for path in stolen} - {("downloaded", "tiny")}
    assert owners <= {("submitted", name) for name in ("bob", "cyd", "dan", "eve")}
    assert ("submitted", "bob") in owners


def test_what_is_read_of_them_is_theirs(collected):
    course = Course(collected)
    folders = course.handed_in("tiny")
    assert set(folders) == {"ada", "bob", "cyd", "dan", "eve", "zoe"}  # nothing could be read of fox's
    secret = (collected / "source/tiny/tiny.ipynb").read_bytes()
    for student, folder in folders.items():
        files, remarks = submissions.read(folder)
        assert secret not in files.values()
        assert all(len(data) <= submissions.MAX_BYTES for data in files.values())
        assert not remarks and set(files) - EXTRA.get(student, set()) == {"tiny.ipynb"}
