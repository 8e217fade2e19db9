"""Grading a class: everyone has a row, nothing is done twice, nobody's file stops another's grading.

The Station is a stand-in (`quick_station`); Dask, the journal, nbgrader and the tiny homework are real.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from nbgrader.api import Gradebook

from ganlib.grading import cluster, submissions
from ganlib.grading.gradebook import Course
from ganlib.grading.journal import Journal
from ganlib.grading.run import grade_class

if str(Path(__file__).parent) not in sys.path:  # worker processes inherit it, and find the stand-in
    sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def running():
    """The address of a cluster that most tests share: to start one takes a second."""
    with LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1", dashboard_address=":0") as dask:
        yield dask.scheduler_address


@pytest.fixture
def folder(tiny, tmp_path, tmp_path_factory) -> Path:
    """A course folder of the test's own."""
    import courses

    return Path(shutil.copytree(courses.released(tiny, tmp_path_factory), tmp_path / "course"))


def quick(folder: Path, **settings) -> partial:
    """The stand-in, as a factory that is sent to the workers."""
    from quick_station import QuickStation

    return partial(QuickStation, notes=folder, **settings)


def grade(folder: Path, seconds: float = 0.0, **settings):
    return grade_class(folder, "tiny", station=quick(folder, seconds=seconds), **settings)


def calls(folder: Path) -> Counter:
    """How often each student was graded."""
    path = folder / "calls"
    return Counter(line.split()[0] for line in path.read_text().splitlines()) if path.exists() else Counter()


def scores(folder: Path) -> dict[str, float]:
    """What the gradebook has, by student."""
    return {name: sum(filter(None, s.auto.values())) for name, s in Course(folder).scores("tiny").items()}


def stored(folder: Path, student: str) -> dict:
    return json.loads((folder / "grading/tiny/results" / f"{student}.json").read_text())


def test_a_class_is_graded_once_and_then_only_what_changed(folder, tiny, running):
    for number, solves in enumerate([tiny.right, ["scale"], ["centre", "count"], []]):
        path = tiny.write_submission(folder, f"s{number}", tiny.submission(solves))
        (path / "timestamp.txt").write_text(f"2026-03-0{9 - number} 10:00:00 UTC")
    first = grade(folder, workers=1)
    assert (first.graded, first.kept, first.failed, first.unrecorded) == (4, 0, {}, {})
    assert first.scores == scores(folder) == {"s0": 7.0, "s1": 1.0, "s2": 6.0, "s3": 0.0}
    order = [line.split() for line in (folder / "calls").read_text().splitlines()]
    assert [student for student, _ in order] == ["s3", "s2", "s1", "s0"]  # the oldest first
    seeds = {student: int(seed) for student, seed in order}
    assert len(set(seeds.values())) == 4
    for student, seed in seeds.items():
        result = stored(folder, student)
        assert (result["student"], result["assignment"], result["seed"]) == (student, "tiny", seed)
    assert stored(folder, "s0")["timestamp"] == "2026-03-09T10:00:00"
    assert (folder / "closed").exists()  # the Station was ended in order
    assert "mean 3.5 of 7 points" in next(first.lines())

    again = grade(folder)
    assert (again.graded, again.kept) == (0, 4)
    assert again.scores == first.scores
    assert sum(calls(folder).values()) == 4

    notebook = folder / "submitted/s1/tiny/tiny.ipynb"
    notebook.write_text(json.dumps(tiny.submission(["scale", "centre"])))
    tiny.write_submission(folder, "s4")
    third = grade(folder, scheduler=running)
    assert (third.graded, third.kept) == (2, 3)
    assert calls(folder) == {"s0": 1, "s1": 2, "s2": 1, "s3": 1, "s4": 1}
    assert scores(folder) == {"s0": 7.0, "s1": 3.0, "s2": 6.0, "s3": 0.0, "s4": 7.0}

    grade(folder, students=["s0", "s2"], force=True, scheduler=running)
    assert calls(folder) == {"s0": 2, "s1": 2, "s2": 2, "s3": 1, "s4": 1}
    assert {line for line in (folder / "calls").read_text().splitlines() if line.startswith("s0")} == {
        f"s0 {seeds['s0']}"  # the same seed every time
    }
    with pytest.raises(ValueError, match=r"students: eve, s9 handed in no tiny"):
        grade(folder, students=["s0", "eve", "s9"])

    source = folder / "source/tiny/tiny.ipynb"
    source.write_text(source.read_text().replace("Every entry is multiplied", "Every number is multiplied"))
    import courses

    courses.release(folder)
    assert grade(folder, scheduler=running).graded == 5  # by other tests than before


def test_any_failure_is_a_row_and_stops_nobody(folder, tiny, running, monkeypatch):
    monkeypatch.setattr(cluster, "DEATHS", 0)
    for student, mark in (("crash", "# crash"), ("kill", "# kill"), ("lie", "# lie")):
        tiny.write_submission(folder, student, tiny.submission(replaced={"scale": f"{mark}\n"}))
    torn = tiny.write_submission(folder, "torn") / "tiny.ipynb"
    torn.write_text(torn.read_text()[:500])
    (folder / "submitted/nothing/tiny").mkdir(parents=True)
    (folder / "submitted/link").mkdir()
    (folder / "submitted/link/tiny").symlink_to(folder / "source/tiny")
    late = tiny.write_submission(folder, "nodate")
    (late / "timestamp.txt").write_text("yesterday, I think")
    for number in range(4):
        tiny.write_submission(folder, f"s{number}")
    tiny.write_submission(folder, "locked")
    read = submissions.read

    def locked(path: Path):
        if path.parent.name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(submissions, "read", locked)
    summary = grade(folder)
    assert set(summary.failed) == {"crash", "kill", "lie", "torn", "nothing", "link", "locked"}
    assert stored(folder, "locked")["remarks"] == ["Permission denied"]
    assert summary.failed["crash"] == "RuntimeError: the station crashed"
    assert summary.failed["kill"].startswith("the worker that graded it died")
    assert summary.failed["lie"] == "the grader's notebook does not show the points that it gave"
    assert scores(folder) == dict.fromkeys(summary.failed, 0.0) | dict.fromkeys(
        ["nodate", "s0", "s1", "s2", "s3"], 7.0
    )
    assert calls(folder)["kill"] == 2  # once among others, once alone
    assert stored(folder, "nodate")["timestamp"] is None
    assert "timestamp.txt holds no date" in stored(folder, "nodate")["remarks"][0]
    for student in summary.failed:
        result = stored(folder, student)
        assert result["status"] == "failed"
        assert set(result["cells"]) == set(tiny.points)
        assert (folder / "autograded" / student / "tiny/tiny.ipynb").exists()
        for cell in result["cells"].values():  # what the student reads
            assert cell["message"] == "The grader failed, not the submission; it will be graded again."
    assert any(line.startswith("failed: kill: ") for line in summary.lines())

    # These failures were the machine's: they hold for nothing, and the next run tries again.
    (folder / "submitted/kill/tiny/tiny.ipynb").write_text(json.dumps(tiny.submission(tiny.right)))
    before = calls(folder)
    again = grade(folder, scheduler=running)
    assert again.kept == 5
    assert {s for s in calls(folder) if calls(folder)[s] > before[s]} == {
        "crash",
        "kill",
        "lie",
        *again.failed,
    }
    assert again.scores["kill"] == 7


def test_a_grader_that_hangs_is_given_up(folder, tiny, running):
    tiny.write_submission(folder, "ada")
    summary = grade(folder, seconds=1000, patience=1.0, scheduler=running)
    assert list(summary.failed) == ["ada"]
    assert scores(folder) == {"ada": 0.0}


def test_no_station_ends_the_run(folder, tiny, running):
    tiny.write_submission(folder, "ada")
    tiny.write_submission(folder, "bob")
    with pytest.raises(cluster.StationError, match=r"TypeError: .*no_such_argument"):
        grade_class(folder, "tiny", station=quick(folder, no_such_argument=1), scheduler=running)
    assert scores(folder) == {}
    assert not list((folder / "grading/tiny/results").iterdir())
    assert grade(folder, scheduler=running).graded == 2


def test_a_verdict_that_misses_the_gradebook_is_kept_and_entered_later(folder, tiny, running, monkeypatch):
    for student in ("ada", "bob"):
        tiny.write_submission(folder, student)
    record = Course.record

    def sometimes(self, result, *rest):
        if result["student"] == "ada":
            raise OSError("the disk is full")
        record(self, result, *rest)

    monkeypatch.setattr(Course, "record", sometimes)
    first = grade(folder, scheduler=running)
    assert first.unrecorded == {"ada": "OSError: the disk is full"}
    assert scores(folder) == {"bob": 7.0}
    monkeypatch.setattr(Course, "record", record)
    assert grade(folder).kept == 2
    assert scores(folder) == {"ada": 7.0, "bob": 7.0}
    assert calls(folder) == {"ada": 1, "bob": 1}

    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:  # as if restored from an old copy
        book.remove_submission("tiny", "bob")
    shutil.rmtree(folder / "autograded/ada")
    grade(folder)
    assert scores(folder) == {"ada": 7.0, "bob": 7.0}
    assert (folder / "autograded/ada/tiny/tiny.ipynb").exists()
    assert calls(folder) == {"ada": 1, "bob": 1}


def test_penalties_follow_the_due_date_without_grading_again(folder, tiny, running):
    with open(folder / "nbgrader_config.py", "a") as config:
        config.write('c.AssignLatePenalties.plugin_class = "nbgrader.plugins.LateSubmissionPlugin"\n')
        config.write('c.LateSubmissionPlugin.penalty_method = "zero"\n')
    (tiny.write_submission(folder, "ada") / "timestamp.txt").write_text("2026-03-02 10:00:00 UTC")
    grade(folder, scheduler=running)
    assert Course(folder).scores("tiny")["ada"].penalty == 0
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        book.update_or_create_assignment("tiny", duedate="2026-03-01 10:00:00 UTC")
    grade(folder)
    assert Course(folder).scores("tiny")["ada"].penalty == 7
    assert calls(folder) == {"ada": 1}


def test_one_run_at_a_time_and_a_dead_one_locks_nothing(folder, tiny, running):
    tiny.write_submission(folder, "ada")
    holds = "import sys, time; from pathlib import Path; from ganlib.grading.journal import Journal\n"
    holds += "with Journal(Path(sys.argv[1])).lock(): print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", holds, str(folder / "grading/tiny")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="tiny is being graded by another run"):
            grade(folder)
        other.kill()
    (folder / "grading/tiny/results/.new-torn").write_text("{")
    assert grade(folder, scheduler=running).graded == 1
    assert os.listdir(folder / "grading/tiny/results") == ["ada.json"]


def test_a_running_cluster_does_the_work_and_lives_on(folder, tiny, running, monkeypatch):
    for number in range(3):
        tiny.write_submission(folder, f"s{number}")
    assert grade(folder, scheduler=running).graded == 3
    assert (folder / "closed").exists()
    with Client(running) as client:
        assert client.submit(sum, [1, 2]).result(timeout=30) == 3
    monkeypatch.setattr(cluster, "ANSWERS_WITHIN", 0.5)
    with pytest.raises(OSError, match=r"127\.0\.0\.1:9"):
        grade(folder, scheduler="tcp://127.0.0.1:9", force=True)


def test_submissions_are_read_no_faster_than_they_are_graded(running):
    read, done = [], []

    def tasks():
        for number in range(20):
            read.append(number)
            yield str(number), (number,)
            assert len(read) - len(done) <= 4

    with cluster.connect(scheduler=running) as client:
        for name, future in cluster.each(client, tasks(), None, patience=60):
            done.append(name)
            assert future.status == "error"  # an int is no Station's factory
    assert sorted(map(int, done)) == list(range(20))


def test_what_was_sent_is_not_kept():
    with cluster.connect(workers=1) as client:
        tasks = ((str(number), (number, chr(97 + number) * 300_000)) for number in range(3))
        assert len(list(cluster.each(client, tasks, 1, patience=60))) == 3
        until = time.monotonic() + 5  # what is on its way is let go soon
        while (held := _large_frames()) and time.monotonic() < until:
            time.sleep(0.2)
    assert not held


def _large_frames() -> int:
    gc.collect()
    lists = [each for each in gc.get_objects() if type(each) is list]
    return sum(isinstance(part, bytes | memoryview) and len(part) > 200_000 for all in lists for part in all)


def test_a_worker_that_dies_before_it_has_started_is_started_again(monkeypatch):
    import distributed

    tried, real = [], distributed.LocalCluster

    def sometimes(**settings):
        tried.append(settings)
        if len(tried) == 1:
            raise RuntimeError("Nanny failed to start")
        return real(**settings)

    monkeypatch.setattr(distributed, "LocalCluster", sometimes)
    monkeypatch.setattr(cluster, "PULSE", 0.2)
    with cluster.connect(workers=1) as client:
        assert len(tried) == 2
        (nanny,) = client.cluster.workers.values()
        client.cluster.sync(nanny.close)  # as Dask leaves it when the worker's successor dies at once
        answers = cluster.each(client, [("ada", (0,))], None, patience=60)
        assert [(name, future.status) for name, future in answers] == [("ada", "error")]  # 0 is no factory


def test_what_was_handed_in_is_read_without_trust(tmp_path, monkeypatch):
    monkeypatch.setattr(submissions, "MAX_BYTES", 1000)
    monkeypatch.setattr(submissions, "MAX_FILES", 8)
    (tmp_path / "secret").write_text("not yours")
    folder = tmp_path / "tiny"
    (folder / "data/.ipynb_checkpoints").mkdir(parents=True)
    (folder / "data/a.txt").write_text("a")
    (folder / "data/.ipynb_checkpoints/tiny.ipynb").write_text("{}")
    (folder / "zz.IPYNB").write_text("{}")
    (folder / "large").write_bytes(bytes(1001))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "out").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe")
    (folder / "new\nline").write_text("")
    files, remarks = submissions.read(folder)
    assert files == {"zz.IPYNB": b"{}", "data/a.txt": b"a"}
    assert next(iter(files)) == "zz.IPYNB"  # a notebook first, whatever else there is
    assert {remark.split(" was left out: ")[0] for remark in remarks} == {
        "large",
        "link",
        "out",
        "pipe",
        "new\\nline",
    }
    for number in range(10):
        (folder / f"{number}.txt").write_text("")
    files, remarks = submissions.read(folder)
    assert "more than 8 files: the rest was left out" in remarks
    assert "zz.IPYNB" in files
    deep = tmp_path / "deep"
    for _ in range(40):
        deep = deep / "d"
    deep.mkdir(parents=True)
    assert submissions.read(tmp_path / "deep") == ({}, ())
    with pytest.raises(ValueError, match="link or a file"):
        submissions.read(folder / "out")


def test_a_key_per_course_and_a_seed_per_student(tmp_path):
    one, other = Journal(tmp_path / "a"), Journal(tmp_path / "b")
    assert one.seed("ada") == Journal(tmp_path / "a").seed("ada") < 2**32
    assert len({one.seed("ada"), one.seed("bob"), other.seed("ada")}) == 3
    assert (tmp_path / "a").stat().st_mode & 0o077 == 0
    assert (tmp_path / "a/key").stat().st_mode & 0o077 == 0
    assert one.read("ada") is None
    one.write({"student": "ada", "x": 1})
    assert one.read("ada") == {"student": "ada", "x": 1}
    (one.results / "ada.json").write_text("{")
    assert one.read("ada") is None


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2026-03-01 12:00:00 UTC", "2026-03-01T12:00:00"),
        ("2026-03-01 12:00:00.250000 America/New_York", "2026-03-01T17:00:00.250000"),
        ("2026-03-01T12:00:00+0200\n", "2026-03-01T10:00:00"),
        ("2026-03-01 12:00", "2026-03-01T12:00:00"),
        ("2026-03-01 12:00:00", "2026-03-01T12:00:00"),
    ],
)
def test_timestamps_as_nbgrader_and_its_exchange_write_them(text, when):
    assert submissions.handed_in_at({"timestamp.txt": text.encode()}).isoformat() == when


@pytest.mark.parametrize(
    "text",
    [
        "now",
        "9" * 200_000,
        "2026-03-01 12:00:00 ../../../etc/localtime",
        "2026-03-01 12:00:00 " + "9" * 5000,
        "2026-99-99 12:00",
        "\0",
    ],
)
def test_a_forged_timestamp_is_none(text):
    with pytest.raises(ValueError, match="holds no date"):
        submissions.handed_in_at({"timestamp.txt": text.encode()})
    assert submissions.handed_in_at({"timestamp.txt": b" \n"}) is None
