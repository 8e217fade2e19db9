"""The homework as the grader reads it, against nbgrader's own release, gradebook and feedback."""

from __future__ import annotations

import copy
import json
import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from ganlib.grading.homework import Homework, defined_names

COURSE = Path(__file__).resolve().parents[2] / "assignments"
NAMES = ("dcgan", "wgan_gp")


def marked(grade_id, kind="solution", source="", cell_type="code", **marks):
    """A notebook cell with nbgrader's metadata."""
    grade, solution, locked = {
        "solution": (False, True, False),
        "test": (True, False, True),
        "written": (True, True, False),
        "setup": (False, False, True),
    }[kind]
    true = {"grade_id": grade_id, "grade": grade, "solution": solution, "locked": locked, "schema_version": 3}
    true |= {"task": False} | ({"points": 2} if grade else {}) | marks
    cell = {"id": f"id-{grade_id}", "cell_type": cell_type, "metadata": {"nbgrader": true}, "source": source}
    return cell | ({"outputs": [], "execution_count": None} if cell_type == "code" else {})


def of(*cells):
    """A notebook of these cells."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {"cells": [*cells], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.mark.parametrize("name", NAMES)
def test_the_assignments_are_read(name):
    path = COURSE / "source" / name / f"{name}.ipynb"
    homework = Homework.load(path)
    raw = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    marks = [cell["metadata"].get("nbgrader", {}) for cell in raw]
    assert homework.name == name
    assert homework.points == {m["grade_id"]: m["points"] for m in marks if m.get("grade")}
    assert homework.parts[-1] == "question" and "fit" in homework.contract
    assert len(homework.parts) == 8 and set(homework.parts) == {homework.part(g) for g in homework.points}
    assert [cell.kind for cell in homework.cells].count("written") == 1
    assert homework.cells[[c.grade_id for c in homework.cells].index("setup")].kind == "setup"
    sources = ["".join(cell["source"]) for cell in raw]
    for cell, source in zip(homework.cells, sources, strict=True):
        assert "SOLUTION" not in cell.source and "HIDDEN TESTS" not in cell.released
        if cell.kind in ("test", "setup", "text"):
            assert cell.source == source, "what is not an answer stays as it is, hidden tests included"
    assert any("BEGIN HIDDEN TESTS" in cell.source for cell in homework.cells)
    assert "raise NotImplementedError" in homework.cells[3 if name == "dcgan" else 4].source
    nbformat.validate(homework.notebook())


def test_it_travels_as_json_and_is_never_changed(tiny):
    homework = Homework.from_notebook(tiny.source(), "tiny")
    again = Homework.from_json(json.loads(json.dumps(homework.to_json())))
    assert again.cells == homework.cells and again.notebook() == homework.notebook()
    taken = homework.notebook()
    taken.cells[1].source = "changed"
    assert homework.notebook().cells[1].source != "changed"
    assert homework.contract == {"scale", "centre", "count"}
    assert homework.parts == ("scale", "centre", "count", "reason")


def test_top_level_names():
    source = (
        "def f(): inner = 1\nclass C: pass\na = b, c = 1, 2\nd: int = 1\nx[0] = e = 1\nasync def g(): pass"
    )
    assert set(defined_names(source)) == {"f", "C", "a", "b", "c", "d", "e", "g", "x"}
    assert defined_names("def f(:") == defined_names("\0") == []


@pytest.mark.parametrize(
    "notebook, message",
    [
        (of(marked("a", source="def f(): pass"), marked("a")), "Duplicate|more than one"),
        (
            of(marked("a", source="def f(): pass"), marked("a-b", "test", "assert f() is None")),
            "uses f directly",
        ),
        (of(marked("a-b", "test", "def (")), "not plain Python"),
        (of(marked("a", source="### BEGIN SOLUTION")), "no end solution"),
        (
            of(marked("a", "test", points=1) | {"cell_type": "markdown", "source": "x"}),
            "not marked as a solution",
        ),
        (of(marked("a", "setup", "x", "markdown", task=True, locked=False, points=1)), "task"),
        (of(marked("a", schema_version=1)), "schema"),
    ],
)
def test_what_cannot_be_graded_is_refused(notebook, message):
    with pytest.raises(ValueError, match=message):
        Homework.from_notebook(notebook, "broken")


def test_a_name_that_the_test_binds_itself_is_its_own():
    test = marked("a-b", "test", "f = ask_f()\nassert [g for g in (1,)] and f")
    homework = Homework.from_notebook(of(marked("a", source="def f(): pass\ndef g(): pass"), test), "fine")
    assert homework.points == {"a-b": 2.0}
    assert homework.contract == {"f", "g"}, "a cell that is released empty asks for what its solution defines"


def test_a_missing_or_broken_file_is_named(tmp_path):
    (tmp_path / "a.ipynb").write_text("{", encoding="utf-8")
    for name in ("a.ipynb", "b.ipynb"):
        with pytest.raises(ValueError, match=f"path: .*{name} is no readable notebook"):
            Homework.load(tmp_path / name)


# --- against nbgrader ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def course(tiny, tmp_path_factory):
    """A course with both assignments and the tiny one, released by nbgrader."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import PyFileConfigLoader

    root = tmp_path_factory.mktemp("course")
    shutil.copytree(COURSE / "source", root / "source")
    shutil.copy(COURSE / "nbgrader_config.py", root)
    tiny.write_source(root)
    patch = pytest.MonkeyPatch()  # nbgrader runs alembic by its bare name
    patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    # The settings may need modules beside them, or the library that this test tests.
    patch.setenv("PYTHONPATH", os.pathsep.join([str(COURSE.parent), os.environ.get("PYTHONPATH", "")]))
    config = PyFileConfigLoader("nbgrader_config.py", str(root)).load_config()
    config.CourseDirectory.root = str(root)
    api = NbGraderAPI(config=config)
    for name in (*NAMES, "tiny"):
        assert api.generate_assignment(name)["success"]
    yield root, api, config
    patch.undo()


@pytest.mark.parametrize("name", [*NAMES, "tiny"])
def test_checksums_and_points_are_those_of_the_gradebook(course, name):
    root, api, _ = course
    homework = Homework.load(root / "source" / name / f"{name}.ipynb")
    cells = {c.metadata.nbgrader.grade_id: c for c in homework.notebook().cells if "nbgrader" in c.metadata}
    with api.gradebook as gradebook:
        stored = gradebook.find_notebook(name, name)
        for source in stored.source_cells:
            cell = cells.pop(source.name)
            assert (source.source, source.checksum) == (cell.source, cell.metadata.nbgrader.checksum)
            assert source.cell_type == cell.cell_type
        assert {cell.name: cell.max_score for cell in stored.grade_cells} == homework.points
    assert cells == {}
    released = nbformat.read(root / "release" / name / f"{name}.ipynb", as_version=4)
    assert [cell.source for cell in released.cells] == [cell.released for cell in homework.cells]


def test_nbgrader_takes_it_for_its_own(course):
    """Scores are what the outputs say; an untouched answer gets 0, a changed one waits for a person."""
    from nbgrader.nbgraderformat import write
    from nbgrader.preprocessors import SaveAutoGrades

    root, api, config = course
    homework = Homework.load(root / "source" / "tiny" / "tiny.ipynb")
    error = nbformat.v4.new_output("error", ename="AssertionError", evalue="no", traceback=["no"])
    for student, answer in (("silent", None), ("writes", "Because it is a sum.")):
        notebook = homework.notebook()
        by_id = {c.metadata.nbgrader.grade_id: c for c in notebook.cells if "nbgrader" in c.metadata}
        by_id["centre-columns"].outputs = [copy.deepcopy(error)]
        if answer:
            by_id["reason"].source = answer
        folder = root / "autograded" / student / "tiny"
        folder.mkdir(parents=True)
        with (folder / "tiny.ipynb").open("w", encoding="utf-8") as file:
            write(notebook, file)  # nbgrader's own check of its metadata
        names = {"notebook": "tiny", "assignment": "tiny", "student": student}
        with api.gradebook as gradebook:
            gradebook.update_or_create_student(student)
            gradebook.update_or_create_submission("tiny", student)
        where = names | {"db_url": api.coursedir.db_url}
        SaveAutoGrades(config=config).preprocess(notebook, {"nbgrader": where})
        with api.gradebook as gradebook:
            submission = gradebook.find_submission_notebook("tiny", "tiny", student)
            grades = {grade.name: grade.auto_score for grade in submission.grades}
            waits = {grade.name for grade in submission.grades if grade.needs_manual_grade}
            comments = {comment.name: comment.auto_comment for comment in submission.comments}
        assert grades == {
            "scale-values": 1,
            "centre-columns": 0,
            "count-words": 1,
            "count-hidden": 3,
            "reason": None if answer else 0,
        }
        assert waits == ({"reason"} if answer else set())
        assert comments["reason"] == (None if answer else "No response.")
    assert api.generate_feedback("tiny")["success"]
    assert (root / "feedback" / "writes" / "tiny" / "tiny.html").is_file()
