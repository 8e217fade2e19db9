"""Kill -9, at random moments: the grader or a worker. The grades are those of a run that nobody disturbed.

``GANLIB_KILLS=20`` sets how often each is killed; random.Random(5) draws the moments.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from ganlib.grading.gradebook import Course

if str(Path(__file__).parent) not in sys.path:  # `import courses`
    sys.path.insert(0, str(Path(__file__).parent))

KILLS = int(os.environ.get("GANLIB_KILLS", "1"))
STATION = Path(__file__).parent / "quick_station.py"
STUDENTS = 8
SECONDS = 0.3  # that a submission takes


@pytest.fixture(scope="module")
def course(tiny, tmp_path_factory) -> Path:
    """A course with a class that handed in, part of it right."""
    import courses

    released = courses.released(tiny, tmp_path_factory)
    folder = Path(shutil.copytree(released, tmp_path_factory.mktemp("course") / "course"))
    for number in range(STUDENTS):
        tiny.write_submission(folder, f"s{number}", tiny.submission(["scale", "count"][: number % 3]))
    return folder


@pytest.fixture(scope="module")
def undisturbed(course, tmp_path_factory) -> tuple[dict, float]:
    """What everyone earns, and how long a run takes."""
    folder = copy(course, tmp_path_factory.mktemp("undisturbed"))
    began = time.monotonic()
    assert start(folder).wait() == 0
    return outcome(folder), time.monotonic() - began


def copy(course: Path, folder: Path) -> Path:
    """A copy with the same key, so that seeds are equal, too."""
    folder = Path(shutil.copytree(course, folder, dirs_exist_ok=True))
    (folder / "grading/tiny").mkdir(parents=True)
    (folder / "grading/tiny/key").write_text("5" * 64)
    return folder


def start(folder: Path) -> subprocess.Popen:
    command = [sys.executable, str(STATION), str(folder), "tiny", str(SECONDS)]
    with open(folder / "said", "a") as said:
        return subprocess.Popen(command, stdout=said, stderr=said)


def outcome(folder: Path) -> dict:
    """All that a run decides, less times: the gradebook, the journal, the autograded notebooks."""
    results = {}
    for path in sorted((folder / "grading/tiny/results").glob("*.json")):
        result = json.loads(path.read_text())
        result.pop("seconds")
        results[path.stem] = result
    graded = sorted(path.parts[-3] for path in folder.glob("autograded/*/tiny/tiny.ipynb"))
    return {"gradebook": Course(folder).scores("tiny"), "results": results, "autograded": graded}


def graded_twice(folder: Path) -> int:
    """How many submissions were begun more than once."""
    calls = Counter(line.split()[0] for line in (folder / "calls").read_text().splitlines())
    return sum(number - 1 for number in calls.values())


def worker(pid: int) -> psutil.Process | None:
    """The Dask worker of a run."""
    for child in psutil.Process(pid).children():
        if "multiprocessing.spawn" in " ".join(child.cmdline()):
            return child
    return None


def test_the_undisturbed_run_is_as_expected(undisturbed, tiny):
    outcome, _ = undisturbed
    assert len(outcome["gradebook"]) == len(outcome["results"]) == len(outcome["autograded"]) == STUDENTS
    for number in range(STUDENTS):
        earned = tiny.earned(["scale", "count"][: number % 3])
        auto = outcome["gradebook"][f"s{number}"].auto
        assert {name: auto[name] for name in earned} == earned


def test_the_grader_is_killed_and_run_again(course, undisturbed, tmp_path):
    wanted, seconds = undisturbed
    rng = random.Random(5)
    folder, killed = copy(course, tmp_path / "0"), 0
    for number in range(1, KILLS + 1):
        run = start(folder)
        try:
            run.wait(rng.uniform(0.1, 1) * seconds)
        except subprocess.TimeoutExpired:
            run.kill()
            killed += run.wait() == -9
        if run.returncode == 0:  # it was done before: from the start, with the next moments
            assert outcome(folder) == wanted
            folder = copy(course, tmp_path / str(number))
    assert killed >= KILLS // 2
    assert start(folder).wait() == 0
    assert outcome(folder) == wanted
    # None but what was in flight: as many as twice the threads, whose results had not reached the journal.
    assert graded_twice(folder) <= 2 * os.cpu_count() * killed
    assert not list(folder.glob("grading/**/.new-*"))


def test_a_worker_is_killed_and_the_run_goes_on(course, undisturbed, tmp_path):
    wanted, seconds = undisturbed
    rng = random.Random(6)
    folder, killed, runs = copy(course, tmp_path / "0"), 0, 1
    run = start(folder)
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.1, 0.6) * seconds)
        if run.poll() is not None:
            assert (run.returncode, outcome(folder)) == (0, wanted)
            folder = copy(course, tmp_path / str(runs))
            run, runs = start(folder), runs + 1
        while (victim := worker(run.pid)) is None and run.poll() is None:
            time.sleep(0.05)
        if victim is not None:
            victim.kill()
            killed += 1
    assert killed >= KILLS // 2
    assert run.wait() == 0
    assert outcome(folder) == wanted
