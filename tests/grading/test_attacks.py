"""Hostile submissions: none gets more than its honest work, harms or delays another, or leaves a trace.

Each file in attacks/ is one submission of the tiny homework (see conftest.py):

    # What it tries.
    # stock: what it gets from a plain `nbgrader autograde` (0.9.6), of 7 points
    # solves: the parts that it solves honestly; they and nothing else must earn points
    # needs: sandbox     if only the sandbox stops it, not the judge alone
    # %% grade_id        the source of that solution cell
    # %% + grade_id      a cell of the student's own, in front of that one
    # %% file NAME       a file handed in beside the notebook
    # %% tamper          Python of ours that edits `notebook` or `files`, see `Attack.write`
    # %% folder          Python of ours that edits `folder`, which lies in submitted/

Words like @COURSE@ stand for what a student may know or guess: where the course lies, a port that is open.

The attacks are graded a few at a time by one Station, each time beside a student who did nothing wrong.
"""

from __future__ import annotations

import contextlib
import ctypes
import glob
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil
import pytest
from nbgrader.api import Gradebook

from ganlib.grading import submissions
from ganlib.grading.homework import Homework
from ganlib.grading.run import grade_class
from ganlib.grading.sandbox import Limits
from ganlib.grading.station import Station

if str(Path(__file__).parent) not in sys.path:  # `import courses`, here and in worker processes
    sys.path.insert(0, str(Path(__file__).parent))

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="a Station forks its processes")

ATTACKS = Path(__file__).parent / "attacks"
NAMES = sorted(path.stem for path in ATTACKS.glob("*.py"))
# These last until a limit ends them: they are graded first, and beside those that last as long.
PATIENT = """
    slow_on_purpose endless_messages never_answers never_returns_from_c
    memory_bomb hard_to_parse never_ends_a_cell fork_bomb
    forged_sender forged_outputs floods_output crowd
    exits_in_cells million_items huge_answers kills_itself
    mail_drop mail_reader
""".split()  # noqa: SIM905
LIMITS = Limits(cell_seconds=1, total_seconds=14, memory=1 << 30, processes=32, disk=16 << 20, output=1 << 16)
AT_ONCE = 4  # attacks, and one honest student
CANARIES = "/tmp /var/tmp /dev/shm /dev/mqueue /run /run/lock ~ ~/.config / /usr /etc".split()  # noqa: SIM905


@dataclass(frozen=True)
class Attack:
    """One hostile submission."""

    name: str
    solves: tuple[str, ...]
    needs_sandbox: bool
    sections: tuple[tuple[str, str], ...]

    @classmethod
    def load(cls, path: Path, words: dict[str, object]) -> Attack:
        """Read from attacks/, with each @WORD@ replaced by what it stands for."""
        text = path.read_text(encoding="utf-8")
        for word, value in words.items():
            text = text.replace(f"@{word}@", str(value))
        head, *rest = re.split(r"^# %% (.+)\n", text, flags=re.MULTILINE)
        solves = re.search(r"^# solves:(.*)$", head, flags=re.MULTILINE)[1].replace(",", " ").split()
        needs_sandbox = re.search(r"^# needs: sandbox$", head, flags=re.MULTILINE) is not None
        return cls(path.stem, tuple(solves), needs_sandbox, tuple(zip(rest[::2], rest[1::2], strict=True)))

    def write(self, tiny, course: Path, student: str) -> Path:
        """Hands it in: writes submitted/<student>/tiny; the path of that folder."""
        sources = {title: source for title, source in self.sections if title in tiny.right}
        notebook = tiny.submission(self.solves, sources)
        for title, source in self.sections:
            if title.startswith("+ "):
                self._insert(notebook["cells"], title[2:], source)
        files = {title[5:]: source.encode() for title, source in self.sections if title.startswith("file ")}
        self._run("tamper", notebook=notebook, files=files, **_named(notebook))
        folder = tiny.write_submission(course, student, notebook)
        for name, data in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        self._run("folder", folder=folder, course=course)
        return folder

    def _insert(self, cells: list[dict], before: str, source: str) -> None:
        [index] = [
            i
            for i, cell in enumerate(cells)
            if cell["metadata"].get("nbgrader", {}).get("grade_id") == before
        ]
        own = {
            "id": f"own-{len(cells)}",
            "cell_type": "code",
            "metadata": {},
            "outputs": [],
            "execution_count": None,
        }
        cells.insert(index, own | {"source": source})

    def _run(self, title: str, **names) -> None:
        for found, source in self.sections:
            if found == title:
                exec(compile(source, f"{self.name}, {title}", "exec"), {"json": json, **names})


def _named(notebook: dict) -> dict:
    """The notebook's cells as an attack speaks of them: tests, solutions, by_id."""
    marked = [cell for cell in notebook["cells"] if "nbgrader" in cell["metadata"]]
    roles = {id(cell): cell["metadata"]["nbgrader"] for cell in marked}
    return {
        "tests": [cell for cell in marked if roles[id(cell)]["grade"] and not roles[id(cell)]["solution"]],
        "solutions": [
            cell for cell in marked if roles[id(cell)]["solution"] and not roles[id(cell)]["grade"]
        ],
        "by_id": {roles[id(cell)]["grade_id"]: cell for cell in marked},
    }


@dataclass
class Outcome:
    """What became of one attack: its result, that of the honest student beside it, what they left."""

    attack: Attack
    result: dict
    bystander: dict
    traces: set[str]


class Room:
    """A course, a Station, and all that an attack could do harm to. `lacks` says why there is no sandbox."""

    def __init__(self, tiny, folder: Path, confined: bool = True) -> None:
        self.tiny, self.course, self.confined, self.lacks = tiny, folder / "course", confined, ""
        notebook = tiny.write_source(self.course)
        for name in ("gradebook.db", "release/tiny/tiny.ipynb", "autograded/attack/tiny/tiny.ipynb"):
            (self.course / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(notebook, self.course / name)
        self.homework = Homework.load(notebook)
        self.bystander = submissions.read(tiny.write_submission(self.course, "bystander"))[0]

    @contextlib.contextmanager
    def open(self) -> Iterator[Room]:
        """Listens where an attack may knock, adopts the orphans of its processes, and starts the Station."""
        with contextlib.ExitStack() as stack:
            named = f"/tmp/attack-{os.getpid()}"
            port = stack.enter_context(listener(socket.AF_INET, ("127.0.0.1", 0))).getsockname()[1]
            stack.enter_context(listener(socket.AF_UNIX, named))
            stack.callback(os.unlink, named)
            if sys.platform == "linux":
                stack.enter_context(listener(socket.AF_UNIX, f"\0attack-{os.getpid()}"))
            self.words = {
                "COURSE": self.course,
                "PORT": port,
                "ABSTRACT": f"attack-{os.getpid()}",
                "SOCKET": named,
                "CELL_SECONDS": LIMITS.cell_seconds,
                "DISK": LIMITS.disk,
                "PROCESSES": LIMITS.processes,
            }
            adopt_orphans(True)
            stack.callback(adopt_orphans, False)
            self.station = stack.enter_context(self._station())
            self.grade("bystander", self.bystander)  # both servers run and have forked once
            self.before = self.traces()
            yield self

    def _station(self) -> Station:
        """A Station that has started, without the sandbox where the machine cannot have one."""
        station = Station(LIMITS, confined=self.confined, hide=[self.course])
        try:
            return station.__enter__()
        except RuntimeError as error:
            if not self.confined:
                raise
            self.lacks, self.confined = str(error), False
            return self._station()

    def grade(self, student: str, files: dict[str, bytes]) -> dict:
        return self.station.grade(self.homework, files, student, seed=7)

    def grade_all(self, names: list[str]) -> list[Outcome]:
        """Grades these attacks and the honest student at the same time."""
        attacks = [Attack.load(ATTACKS / f"{name}.py", self.words) for name in names if name in NAMES]
        files = {a.name: submissions.read(a.write(self.tiny, self.course, a.name))[0] for a in attacks}
        with ThreadPoolExecutor(len(files) + 1) as pool:
            results = {name: pool.submit(self.grade, name, content) for name, content in files.items()}
            bystander = pool.submit(self.grade, "bystander", self.bystander)
        for name in files:
            shutil.rmtree(self.course / "submitted" / name)
        return [Outcome(a, results[a.name].result(), bystander.result(), set()) for a in attacks]

    def rounds(self, names: list[str]) -> Iterator[Outcome]:
        """Grades all, `AT_ONCE` at a time, and looks for traces after each round."""
        for start in range(0, len(names), AT_ONCE):
            outcomes = self.grade_all(names[start : start + AT_ONCE])
            left = self.new_traces()
            self.before ^= left  # what one round left is not held against the next
            for outcome in outcomes:
                outcome.traces = left
                yield outcome

    def new_traces(self) -> set[str]:
        """What is there and was not before, or the other way round, and stays so for two seconds."""
        end = time.monotonic() + 2
        while (left := self.traces() ^ self.before) and time.monotonic() < end:
            time.sleep(0.05)
        return left

    def traces(self) -> set[str]:
        """Processes below this one, mounts, control groups, shared memory, marked files, the course."""
        found = {f"process {child.pid}" for child in psutil.Process().children(recursive=True)}
        if sys.platform == "linux":
            found |= {f"mount {line}" for line in Path("/proc/self/mountinfo").read_text().splitlines()}
            segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
            found |= {f"shared memory {line}" for line in segments if line.split()[0] == str(0x5EC2E7)}
        found |= {
            f"cgroup {path}" for path in glob.glob(f"/sys/fs/cgroup/**/*-{os.getpid()}-*", recursive=True)
        }
        folders = [*CANARIES, sys.prefix, self.course, self.course / "*", *filter(os.path.isdir, sys.path)]
        for folder in map(str, folders):
            found |= set(glob.glob(f"{os.path.expanduser(folder)}/attack-canary*"))
        for path in self.course.rglob("*"):
            if path.is_file():
                found.add(f"{path} {hashlib.sha256(path.read_bytes()).hexdigest()}")
        return found


def listener(family: int, address: str | tuple) -> socket.socket:
    """A socket that listens there; to be closed."""
    listening = socket.socket(family)
    listening.bind(address)
    listening.listen()
    return listening


def adopt_orphans(on: bool) -> None:
    """Makes this process the parent of orphans below it, so that a process that detached itself is seen."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(36, int(on), 0, 0, 0)


def earned(result: dict) -> dict[str, float]:
    return {name: cell["points"] for name, cell in result["cells"].items()}


@pytest.fixture(scope="module")
def outcomes(tiny, tmp_path_factory) -> dict[str, Outcome | str]:
    """What became of each attack by name, or why it was not tried."""
    with Room(tiny, tmp_path_factory.mktemp("class")).open() as room:
        needing = {name for name in NAMES if Attack.load(ATTACKS / f"{name}.py", {}).needs_sandbox}
        found = {} if room.confined else dict.fromkeys(needing, f"there is no sandbox here: {room.lacks}")
        names = [name for name in [*PATIENT, *NAMES] if name not in found]
        return found | {each.attack.name: each for each in room.rounds(list(dict.fromkeys(names)))}


@pytest.mark.parametrize("name", NAMES)
def test_an_attack_earns_its_honest_work_and_harms_nobody(outcomes, tiny, name):
    if isinstance(outcomes[name], str):
        pytest.skip(outcomes[name])
    outcome = outcomes[name]
    assert earned(outcome.result) == tiny.earned(outcome.attack.solves), outcome.result["log"]
    assert earned(outcome.bystander) == tiny.points, outcome.bystander["log"]
    assert not outcome.traces
    # Its own limit, and what it takes on a busy machine to end its processes and to start others.
    assert outcome.result["seconds"] < 2 * LIMITS.total_seconds + 10
    assert len(json.dumps(outcome.result)) < 3 * 2**20


def test_outputs_hold_text_and_nothing_that_a_browser_runs(outcomes):
    cells = outcomes["hostile_pages"].result["notebook"]["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", ())]
    shown = [output for output in outputs if output["output_type"] == "display_data"]
    assert shown
    assert all(set(output["data"]) == {"text/plain"} for output in shown)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", "".join(flat(outputs)))


def flat(value) -> Iterator[str]:
    """All texts in a tree of lists and dicts."""
    if isinstance(value, (list, dict)):
        for item in value if isinstance(value, list) else [*value, *value.values()]:
            yield from flat(item)
    elif isinstance(value, str):
        yield value


# What lies between a folder in submitted/ and the gradebook: files, notebooks, names, pages.
ON_THE_WAY = """
    bonus_cell duplicated_tests forged_points hostile_pages json_deep link_to_source links_and_pipes
    many_files odd_names stored_outputs surrogates timestamp_of_digits timestamp_zone
    wrong_types
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def class_graded(tiny, tmp_path_factory) -> tuple[Path, dict[str, Attack]]:
    """A course after `ganlib grade`, in which honest students stand between those of ON_THE_WAY."""
    import courses

    released = courses.released(tiny, tmp_path_factory)
    course = Path(shutil.copytree(released, tmp_path_factory.mktemp("class") / "course"))
    words = {"COURSE": course}
    attacks = {name: Attack.load(ATTACKS / f"{name}.py", words) for name in ON_THE_WAY}
    for name, attack in attacks.items():
        attack.write(tiny, course, name)
    for student in ("abel", "kim", "zoe"):
        tiny.write_submission(course, student)
    grade_class(course, "tiny", station=partial(courses.light_station, LIMITS, hide=[course]))
    return course, attacks


def test_a_run_enters_what_each_has_earned_into_the_gradebook(class_graded, tiny):
    course, attacks = class_graded
    wanted = {name: tiny.earned(attack.solves) for name, attack in attacks.items()}
    wanted |= {student: tiny.points for student in ("abel", "kim", "zoe")}
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "gan") as book:
        found = {
            student: {
                grade.name: grade.auto_score
                for grade in book.find_submission_notebook("tiny", "tiny", student).grades
                if grade.name in tiny.points
            }
            for student in wanted
        }
    assert found == wanted


def test_no_script_of_a_student_stands_in_a_page_for_the_instructor(class_graded):
    course, _ = class_graded
    pages = [path for path in course.rglob("*.html") if "submitted" not in path.parts]
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script>document" not in text
        assert not re.search(r"<[^>]*onerror=", text)
