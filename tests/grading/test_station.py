"""The Station: from files that were handed in to a result, whatever is in them and whatever breaks."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ganlib.grading import station as module
from ganlib.grading.forkserver import ForkServer
from ganlib.grading.homework import Homework
from ganlib.grading.sandbox import Limits
from ganlib.grading.station import Station

HERE = Path(__file__).parent
FULL = {"scale-values": 1.0, "centre-columns": 2.0, "count-words": 1.0, "count-hidden": 3.0}
NO_COUNT = FULL | {"count-words": 0.0, "count-hidden": 0.0}
KEYS = {
    "student",
    "assignment",
    "status",
    "reason",
    "seed",
    "cells",
    "barred",
    "flags",
    "remarks",
    "restarts",
}
KEYS |= {"seconds", "log", "notebook"}


@pytest.fixture
def light(monkeypatch):
    """The tiny homework needs no torch: fork servers without it start in a fraction of the time."""
    monkeypatch.setattr(module, "JUDGE_WARM", ())
    monkeypatch.setattr(module, "STUDENT_WARM", ())


@pytest.fixture(scope="module")
def station():
    """A light one, confined where this machine can do that."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "JUDGE_WARM", ())
        patch.setattr(module, "STUDENT_WARM", ())
        station = Station(Limits(cell_seconds=20, total_seconds=100, disk=1 << 20))
    with station:
        yield station


@pytest.fixture(scope="module")
def homework(tiny):
    return Homework.from_notebook(tiny.source(), "tiny")


@pytest.fixture
def grade(tiny, homework, station):
    def grade(replaced=None, files=None, seed=3, station=station):
        notebook = tiny.submission([n for n in tiny.right if n not in (replaced or {})], replaced)
        return station.grade(
            homework, {"tiny.ipynb": json.dumps(notebook).encode()} | (files or {}), "ada", seed
        )

    return grade


def points(result):
    return {name: cell["points"] for name, cell in result["cells"].items()}


def test_a_result_says_all(grade):
    result = grade()
    assert set(result) == KEYS
    about = {name: result[name] for name in ("student", "assignment", "status", "reason", "seed", "restarts")}
    assert about == {
        "student": "ada",
        "assignment": "tiny",
        "status": "graded",
        "reason": "",
        "seed": 3,
        "restarts": 0,
    }
    assert points(result) == FULL and json.loads(json.dumps(result)) == result
    executed = {
        cell["metadata"].get("nbgrader", {}).get("grade_id"): cell for cell in result["notebook"]["cells"]
    }
    assert "BEGIN HIDDEN TESTS" in executed["count-hidden"]["source"]


def test_nbgrader_reads_the_same_points_from_the_notebook(grade):
    from nbgrader.utils import determine_grade, is_grade, is_solution

    result = grade({"count": "def count(text):\n    return 4"})
    read = {
        cell.metadata.nbgrader.grade_id: determine_grade(cell)[0]
        for cell in result["notebook"].cells
        if is_grade(cell) and not is_solution(cell)
    }
    assert read == points(result) == FULL | {"count-hidden": 0.0}


def test_it_is_light():
    """A Dask worker starts it: it must not load what its fork servers load."""
    check = "import sys, ganlib.grading.station; print({'torch', 'IPython', 'nbgrader'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, cwd=HERE.parents[1])
    assert done.stdout == "set()\n", done.stderr


@pytest.mark.parametrize(
    "files",
    [{}, {"tiny.ipynb": b""}, {"tiny.ipynb": b"\xff\xfe{"}, {"tiny.ipynb": b'{"cells": 3}'}, {"a.txt": b"x"}],
)
def test_what_cannot_be_read_is_a_result_with_a_reason(station, homework, files):
    result = station.grade(homework, files, "bob", 1)
    assert set(result) == KEYS
    assert result["status"] == "failed" and result["reason"] and points(result) == dict.fromkeys(FULL, 0.0)
    assert {cell["message"] for cell in result["cells"].values()} == {result["reason"]}


def test_files_beside_the_notebook_are_there_and_notebooks_are_not(grade):
    look = (
        "import os\ndef count(text):\n    return sorted(os.listdir()) == ['data', 'mine.py'] and look(text)"
    )
    count = "from mine import count as look\n" + look + "\nprint(open('data/x.txt').read())"
    files = {"mine.py": b"def count(text): return len(set(text.split()))", "data/x.txt": b"7"}
    result = grade({"count": count}, files | {"old.ipynb": b"{}"})
    assert "7" in json.dumps(result["notebook"]["cells"]) and points(result)["count-hidden"] in (0.0, 3.0)
    result = grade({"count": count.replace("sorted(os.listdir()) == ['data', 'mine.py'] and ", "")}, files)
    assert points(result) == FULL
    result = grade({}, {"large.bin": bytes(2 << 20)})
    assert points(result) == FULL and any("left out" in remark for remark in result["remarks"])


def test_the_process_is_named_when_it_ends(grade):
    result = grade({"count": "import os, signal\ndef count(text):\n    os.abort()"})
    assert points(result) == NO_COUNT and result["restarts"] == 2
    message = result["cells"]["count-words"]["message"]
    assert message.startswith("your code ended its process: SIG")  # ABRT; for process 1 of a namespace SEGV
    result = grade({"count": "def count(text):\n    return [0] * 10**12"})
    assert points(result) == NO_COUNT


def test_ganlibs_own_answers_count_nothing(grade):
    result = grade({"count": "from ganlib.models import dcgan\ncount = dcgan.Generator"})
    assert points(result) == NO_COUNT and list(result["barred"]) == ["count"]
    assert result["cells"]["count-words"]["message"] == result["barred"]["count"]


def test_threads_share_it(grade):
    """Each submission is answered for itself."""
    wrong = {"scale": "scale = None", "centre": "centre = None", "count": "count = None"}
    asked = [{}, {"scale": wrong["scale"]}, {"centre": wrong["centre"]}, {"count": wrong["count"]}, wrong] * 2
    found = [None] * len(asked)

    def work(index):
        found[index] = points(grade(asked[index], seed=index))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for replaced, came in zip(asked, found, strict=True):
        assert came == {name: 0.0 if name.split("-")[0] in replaced else best for name, best in FULL.items()}


@pytest.mark.parametrize("name", ["judge", "student"])
def test_a_fork_server_that_died_is_started_again(grade, station, name):
    before = station._servers[name]
    before.close()
    assert points(grade()) == FULL
    assert station._servers[name] is not before


class Broken:
    """A fork server whose children end at once."""

    alive = True

    def __init__(self, server):
        self.server, self.forks = server, 0

    def fork(self, argument, fds):
        self.forks += 1
        child = self.server.fork(None, fds)
        child.kill()
        return child

    def close(self):
        self.server.close()


def test_a_judge_that_dies_twice_is_the_graders_failure(grade, station):
    broken = station._servers["judge"] = Broken(station._ready()["judge"])
    try:
        result = grade()
    finally:
        station._servers["judge"] = broken.server
    assert broken.forks == module.TRIES
    assert result["status"] == "failed" and result["retry"] is True and "broke off" in result["log"]
    assert "broke off" not in result["reason"] and points(result) == dict.fromkeys(FULL, 0.0)
    assert points(grade()) == FULL


def test_a_broken_homework_is_the_graders_failure(tiny, station):
    source = tiny.source()
    setup = next(c for c in source["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "setup")
    setup["source"] += "\n1 / 0"
    homework = Homework.from_notebook(source, "tiny")
    files = {"tiny.ipynb": json.dumps(tiny.submission(tiny.right)).encode()}
    result = station.grade(homework, files, "ada", 1)
    assert result["retry"] is True and "ZeroDivisionError" in result["log"]


def test_a_fork_server_that_cannot_start_raises(light, monkeypatch):
    monkeypatch.setattr(module, "JUDGE_WARM", ("no_such_module",))
    station = Station(confined=False)
    with pytest.raises(RuntimeError, match="no_such_module"):
        station.__enter__()
    assert set(station._servers) <= {"student"}
    station.close()


def test_without_confinement_the_points_are_the_same(light, grade):
    with Station(Limits(cell_seconds=20), confined=False) as degraded:
        assert points(grade(station=degraded)) == FULL
        replaced = {"count": "import os\ndef count(text):\n    os._exit(1)"}
        assert points(grade(replaced, station=degraded)) == NO_COUNT


# --- the same verdict as in JupyterLab -------------------------------------------------------------

CHOSEN = {
    "dcgan": ["generator_loss_sign", "train_step_g_gradient_kept", "functional"],
    "wgan_gp": ["penalty_one_sided", "round_off_by_one", "explicit_gradients"],
}


@pytest.fixture(scope="module")
def jupyter():
    path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
    with ForkServer(
        "plain:main", ["torch._dynamo"], environment={**os.environ, "PYTHONPATH": path}
    ) as server:
        yield server


@pytest.mark.parametrize(("name", "variant"), [(name, v) for name, all_ in CHOSEN.items() for v in all_])
def test_the_verdict_is_that_of_jupyterlab(jupyter, monkeypatch, name, variant):
    """The homework's tests say the same when they run in one process with the student's code."""
    monkeypatch.syspath_prepend(str(HERE.parent / "assignments"))
    import harness  # its Station may run already

    path = harness.SOURCE / name / f"{name}.ipynb"
    folder = HERE.parent / "assignments" / name
    variants = {
        v.name: v for v in harness.load_variants(folder / "wrong") + harness.load_variants(folder / "right")
    }
    replaced = variants[variant].replacements
    cells = [cell | {"source": replaced.get(cell["id"], cell["source"])} for cell in harness.code_cells(path)]
    reader, writer = os.pipe()
    with jupyter.fork(cells, [writer]), os.fdopen(reader) as answer:
        os.close(writer)
        expected = json.load(answer)

    report = harness.run(path, replaced)
    assert {grade_id: grade_id not in report.errors for grade_id in report.points} == expected
