"""What a run leaves in nbgrader is what nbgrader's own commands would have left, and they go on from it."""

from __future__ import annotations

import csv
import json
import logging
import os
import shutil
import stat
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_output
from nbgrader import preprocessors
from nbgrader.api import Gradebook
from nbgrader.apps.api import NbGraderAPI
from nbgrader.converters import Autograde, GenerateFeedback
from nbgrader.plugins import CsvExportPlugin
from sqlalchemy import event
from sqlalchemy.engine import Engine

from ganlib.grading.gradebook import Course
from ganlib.grading.homework import Homework

if str(Path(__file__).parent) not in sys.path:  # `import courses`
    sys.path.insert(0, str(Path(__file__).parent))
LATE = """
c.AssignLatePenalties.plugin_class = "nbgrader.plugins.LateSubmissionPlugin"
c.LateSubmissionPlugin.penalty_method = "zero"
"""


@pytest.fixture
def folder(tiny, tmp_path, tmp_path_factory) -> Path:
    """A course folder of the test's own."""
    import courses

    return Path(shutil.copytree(courses.released(tiny, tmp_path_factory), tmp_path / "course"))


def convert(course: Course, converter: type, student: str = "*") -> None:
    """Runs one of nbgrader's commands in the course."""
    course.settings.assignment_id, course.settings.student_id = "tiny", student
    logging.getLogger("traitlets").setLevel(logging.CRITICAL)
    converter(coursedir=course.settings, parent=course.app, force=True).start()
    course.settings.student_id = "*"


def handed_in(folder: Path, tiny, solves) -> dict:
    """The released notebook with the right solution in these parts."""
    notebook = json.loads((folder / "release/tiny/tiny.ipynb").read_text())
    for cell in notebook["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if grade_id in solves:
            cell["source"] = tiny.right[grade_id]
    return notebook


def homework(folder: Path) -> Homework:
    return Homework.load(folder / "source/tiny/tiny.ipynb")


def verdict(folder: Path, tiny, student: str, solves, **more) -> dict:
    """A result as a Station and the run make it, for someone who solves these parts."""
    notebook = homework(folder).notebook()
    points = tiny.earned(solves)
    for cell in notebook.cells:
        about = cell.metadata.get("nbgrader", {})
        if about.get("grade_id") in solves:
            cell.source = tiny.right[about.grade_id]
        elif not points.get(about.get("grade_id"), 1):
            cell.outputs = [new_output("error", ename="AssertionError", evalue="wrong", traceback=["wrong"])]
    cells = {name: {"points": points[name], "max": best} for name, best in tiny.points.items()}
    about = {"student": student, "assignment": "tiny", "status": "graded", "reason": "", "timestamp": None}
    return about | {"cells": cells, "notebook": json.loads(json.dumps(notebook))} | more


def rows(folder: Path, student: str) -> dict[str, tuple]:
    """All that the gradebook says about a submission: by cell, and under "" about the whole."""
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        submission = book.find_submission("tiny", student)
        found = {"": (submission.timestamp, submission.score, submission.late_submission_penalty)}
        for grade in submission.notebooks[0].grades:
            found[grade.name] = (
                grade.auto_score,
                grade.manual_score,
                grade.extra_credit,
                grade.needs_manual_grade,
            )
        for comment in submission.notebooks[0].comments:
            found[f"comment {comment.name}"] = (comment.auto_comment, comment.manual_comment)
    return found


def test_records_what_nbgrader_autograde_records(folder, tiny):
    # The same submission under two names: one by nbgrader's own command, one by us.
    for student in ("theirs", "ours"):
        where = tiny.write_submission(folder, student, handed_in(folder, tiny, ["scale", "count"]))
        (where / "timestamp.txt").write_text("2026-03-01 12:00:00 UTC")
        (where / "notes.txt").write_text("mine")
    course = Course(folder)
    convert(course, Autograde, "theirs")
    result = verdict(folder, tiny, "ours", ["scale", "count"], timestamp="2026-03-01T12:00:00")
    files = {"timestamp.txt": b"2026-03-01 12:00:00 UTC", "notes.txt": b"mine"}
    course.record(result, "tiny", files)

    assert rows(folder, "ours") == rows(folder, "theirs")
    assert rows(folder, "ours")["reason"] == (0.0, None, None, False)  # left unanswered
    ours, theirs = (folder / "autograded" / student / "tiny" for student in ("ours", "theirs"))
    assert (
        sorted(os.listdir(ours)) == sorted(os.listdir(theirs)) == ["notes.txt", "timestamp.txt", "tiny.ipynb"]
    )
    for name in os.listdir(ours):
        assert stat.filemode((ours / name).stat().st_mode) == stat.filemode((theirs / name).stat().st_mode)
    mine, their = (nbformat.read(where / "tiny.ipynb", 4) for where in (ours, theirs))
    for cell in their.cells:
        cell.metadata.pop("execution", None)  # the time of day
    assert [cell.metadata for cell in mine.cells] == [cell.metadata for cell in their.cells]
    assert [cell.source for cell in mine.cells] == [cell.source for cell in their.cells]
    assert mine.metadata.kernelspec == their.metadata.kernelspec


def test_what_a_person_gave_survives_grading_again(folder, tiny):
    course = Course(folder)
    course.record(verdict(folder, tiny, "ada", ["scale"]), "tiny", {})
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        book.find_grade("reason", "tiny", "tiny", "ada").manual_score = 2.5
        book.find_grade("count-hidden", "tiny", "tiny", "ada").extra_credit = 0.5
        book.find_comment("reason", "tiny", "tiny", "ada").manual_comment = "Well put."
        book.find_student("ada").last_name = "Lovelace"
        book.db.commit()
    written = course.scores("tiny")["ada"]
    assert (written.auto["reason"], written.cells["reason"], written.cells["count-hidden"]) == (0.0, 2.5, 0.5)
    course.record(verdict(folder, tiny, "ada", tiny.right), "tiny", {})
    after = rows(folder, "ada")
    assert after["reason"] == (0.0, 2.5, None, True)  # formgrader asks to look again, as it does of autograde
    assert after["comment reason"] == ("No response.", "Well put.")
    assert after["count-hidden"] == (3.0, None, 0.5, False)
    assert after[""][1] == 7 + 2.5 + 0.5
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        assert book.find_student("ada").last_name == "Lovelace"


def test_recording_twice_changes_nothing(folder, tiny):
    course, result = Course(folder), verdict(folder, tiny, "ada", ["scale"])
    course.record(result, "tiny", {"data/a.txt": b"1", "b.txt": b"2"})
    first = rows(folder, "ada")
    course.record(result, "tiny", {"data/a.txt": b"1"})
    assert rows(folder, "ada") == first
    assert not (folder / "autograded/ada/tiny/b.txt").exists()  # no longer handed in
    assert (folder / "autograded/ada/tiny/data/a.txt").read_bytes() == b"1"
    assert not list(folder.glob("grading/**/scratch"))


def test_a_submission_is_entered_whole_or_not_at_all_and_in_one_commit(folder, tiny, monkeypatch):
    course = Course(folder)
    course.record(verdict(folder, tiny, "ada", ["scale"]), "tiny", {})
    before = rows(folder, "ada")
    committed = []
    count = committed.append
    event.listen(Engine, "commit", count)
    try:
        course.record(verdict(folder, tiny, "bob", ["scale"]), "tiny", {})
    finally:
        event.remove(Engine, "commit", count)
    assert len(committed) <= 3  # two when it is opened: nbgrader looks after the tables and the course

    def broken(*_):
        raise RuntimeError("a plugin of the instructor's")

    monkeypatch.setattr(preprocessors.AssignLatePenalties, "preprocess", broken)  # the last step
    with pytest.raises(RuntimeError, match="plugin"):
        course.record(verdict(folder, tiny, "ada", ["scale", "count"]), "tiny", {})
    assert rows(folder, "ada") == before
    monkeypatch.undo()
    course.record(verdict(folder, tiny, "ada", ["scale", "count"]), "tiny", {})  # nbgrader is as it was
    assert rows(folder, "ada") != before


def test_text_that_is_no_unicode_is_entered_all_the_same(folder, tiny):
    result = verdict(folder, tiny, "ada", ["scale"])
    for cell in result["notebook"]["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("solution"):
            cell["source"] += "# \ud800"
    course = Course(folder)
    course.record(result, "tiny", {})
    assert course.scores("tiny")["ada"].auto["scale-values"] == 1.0
    assert course.holds(result, "tiny", course.scores("tiny")["ada"])


def test_late_penalties_by_the_configured_plugin(folder, tiny):
    with open(folder / "nbgrader_config.py", "a") as config:
        config.write(LATE)
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        book.update_or_create_assignment("tiny", duedate="2026-03-01 12:00:00 UTC")
    course = Course(folder)
    for student, when in (("late", "2026-03-01T12:00:01"), ("early", "2026-03-01T11:59:59"), ("never", None)):
        course.record(verdict(folder, tiny, student, ["scale", "centre"], timestamp=when), "tiny", {})
    assert {s: rows(folder, s)[""][2] for s in ("late", "early", "never")} == {
        "late": 3,
        "early": 0,
        "never": 0,
    }

    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:  # points by hand are penalised as well
        book.find_grade("reason", "tiny", "tiny", "late").manual_score = 2
        book.db.commit()
    course.settle_penalty("late", "tiny", "tiny")
    assert rows(folder, "late")[""][2] == 5
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        book.grant_extension("tiny", "late", days=1)
    course.settle_penalty("late", "tiny", "tiny")
    assert rows(folder, "late")[""][2] == 0


def test_holds_only_while_gradebook_and_folder_both_have_the_result(folder, tiny):
    course, result = Course(folder), verdict(folder, tiny, "ada", ["scale"])

    def holds(result=result) -> bool:
        return course.holds(result, "tiny", course.scores("tiny").get("ada"))

    assert not holds()
    course.record(result, "tiny", {})
    assert holds()
    everything = {**tiny.earned(["scale"]), "reason": 0.0}
    assert course.scores("tiny") == {"ada": (everything, everything, 0.0)}
    assert not holds(verdict(folder, tiny, "ada", ["scale"], seed=3))  # the same points, another run's
    with Gradebook(f"sqlite:///{folder}/gradebook.db", "gan") as book:
        book.find_grade("scale-values", "tiny", "tiny", "ada").auto_score = None
        book.db.commit()
    assert not holds()
    course.record(result, "tiny", {})
    shutil.rmtree(folder / "autograded")
    assert not holds()


def test_feedback_export_and_formgrader_go_on_from_it(folder, tiny, monkeypatch):
    tiny.write_submission(folder, "ada", handed_in(folder, tiny, ["scale"]))
    course = Course(folder)
    course.record(verdict(folder, tiny, "ada", ["scale"]), "tiny", {})

    api = NbGraderAPI(coursedir=course.settings, parent=course.app)
    assert api.get_autograded_students("tiny") == {"ada"}
    (row,) = api.get_submissions("tiny")
    assert (row["student"], row["score"], row["autograded"]) == ("ada", 1.0, True)

    convert(course, GenerateFeedback)
    assert "1.0 / 1.0" in (folder / "feedback/ada/tiny/tiny.html").read_text(encoding="utf-8")

    with Gradebook(course.settings.db_url, "gan") as book:
        CsvExportPlugin(to=str(folder / "grades.csv")).export(book)
    (grades,) = csv.DictReader((folder / "grades.csv").open())
    assert (grades["student_id"], grades["score"], grades["max_score"]) == ("ada", "1.0", "10.0")


def test_another_gradebook_by_its_url(folder, tiny, tmp_path):
    shutil.copy(folder / "gradebook.db", tmp_path / "elsewhere.db")
    course = Course(folder, f"sqlite:///{tmp_path}/elsewhere.db")
    course.record(verdict(folder, tiny, "ada", ["scale"]), "tiny", {})
    assert list(course.scores("tiny")) == ["ada"]
    assert Course(folder).scores("tiny") == {}
    assert Course(folder, f"sqlite:///{tmp_path}/none.db").scores("tiny") == {}
    with pytest.raises(ValueError, match="not in the gradebook"):
        Course(folder, f"sqlite:///{tmp_path}/none.db").check_released("tiny", homework(folder))
    (tmp_path / "text.db").write_text("no database " * 100)
    with pytest.raises(OSError, match="the gradebook cannot be used"):
        Course(folder, f"sqlite:///{tmp_path}/text.db").check_released("tiny", homework(folder))
    with pytest.raises(OSError, match="the gradebook cannot be used"):
        Course(folder, "nodatabase://here").check_released("tiny", homework(folder))


def test_a_gradebook_without_the_homework_or_behind_it_is_refused(folder):
    course, source = Course(folder), folder / "source/tiny/tiny.ipynb"
    course.check_released("tiny", homework(folder))
    with pytest.raises(ValueError, match=r"other is not in the gradebook.*make release"):
        course.check_released("other", homework(folder))
    source.write_text(source.read_text().replace('"points": 2.0', '"points": 4.0'))
    with pytest.raises(ValueError, match=r"centre-columns of tiny .*make release"):
        course.check_released("tiny", homework(folder))


def test_who_has_handed_in(folder, tiny):
    tiny.write_submission(folder, "ada")
    tiny.write_submission(folder, "bob.o'neil@x")
    (folder / "submitted/eve/other").mkdir(parents=True)
    (folder / "submitted/file").write_text("")
    with open(folder / "nbgrader_config.py", "a") as config:
        config.write('c.CourseDirectory.student_id_exclude = "guest"\n')
    tiny.write_submission(folder, "guest")
    found = Course(folder).handed_in("tiny")
    assert found == {name: folder / "submitted" / name / "tiny" for name in ("ada", "bob.o'neil@x")}


def test_a_broken_configuration_is_an_error_and_that_of_another_folder_is_not_read(
    folder, tmp_path, monkeypatch
):
    (tmp_path / "nbgrader_config.py").write_text(
        "c = get_config()\nc.CourseDirectory.student_id_exclude = 'ada'\n"
    )
    monkeypatch.chdir(tmp_path)
    assert Course(folder).settings.student_id_exclude == ""
    with open(folder / "nbgrader_config.py", "a") as config:
        config.write("c.AssignLatePenalties.plugin_class = missing\n")
    with pytest.raises(ValueError, match=r"nbgrader_config.py: NameError"):
        Course(folder)
    with pytest.raises(ValueError, match="no course folder"):
        Course(tmp_path / "nowhere")
