"""The instructor's page and table: right numbers, and nothing of what a student writes gets to run."""

import base64
import csv
import hashlib
import html.parser
import json
import os
import random
import re
import sys
from pathlib import Path

import pytest

from ganlib.grading.page import histogram
from ganlib.grading.report import Row, report, visible

HOSTILE = "<script>hacked=1</script><img src=x onerror=hacked=1>\"'&{{7*7}}"


@pytest.fixture(autouse=True)
def alembic_is_found(monkeypatch):
    """nbgrader runs `alembic` by its bare name when it makes a gradebook."""
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))


class Class:
    """A course folder with results as a run leaves them."""

    def __init__(self, folder, tiny):
        self.folder, self.tiny = folder, tiny
        tiny.write_source(folder)
        self.results = folder / "grading" / "tiny" / "results"
        self.results.mkdir(parents=True)
        (folder / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'gan'\n")

    def add(self, student, solves=("scale", "centre", "count"), message="It is wrong.", **changed):
        earned = self.tiny.earned(solves)
        cells = {
            name: {
                "points": earned[name],
                "max": best,
                "passed": earned[name] == best,
                "message": "" if earned[name] == best else message,
                "hidden": False,
                "seconds": 0.1,
            }
            for name, best in self.tiny.points.items()
        }
        result = {
            **{"student": student, "assignment": "tiny", "status": "graded", "reason": "", "seed": 1},
            **{"digest": "", "timestamp": None, "cells": cells, "barred": {}, "flags": [], "remarks": []},
            **{"restarts": 0, "seconds": 1.5, "log": "", "notebook": self.tiny.submission(solves)},
        }
        path = self.results / f"{hashlib.md5(student.encode()).hexdigest()}.json"
        path.write_text(json.dumps(result | changed))

    def report(self):
        """The page's text, the table's rows by student."""
        path = report(self.folder, "tiny")
        with (path.parent / "scores.csv").open(encoding="utf-8", newline="") as file:
            rows = {row["student"]: row for row in csv.DictReader(file)}
        return path.read_text(encoding="utf-8"), rows


@pytest.fixture
def course(tmp_path, tiny):
    return Class(tmp_path, tiny)


class Elements(html.parser.HTMLParser):
    """Tags and attributes of a page, and its text outside of script and style."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text, self._raw = [], [], "", False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        self._raw = tag in ("script", "style")

    def handle_endtag(self, tag):
        self._raw = False

    def handle_data(self, data):
        self.text += "" if self._raw else data


def test_points_of_parts_and_totals(course):
    course.add("ann")
    course.add("bob", solves=["scale"], restarts=2, flags=["reads frames"], remarks=["file renamed"])
    course.add("eve", solves=["scale", "count"], barred={"centre": "imports the answer"})
    course.add("joe", solves=[], status="failed", reason="not JSON", log="line 1", seconds=0.2)
    page, rows = course.report()
    columns = ("points scale", "points centre", "points count", "points reason", "total", "max", "waiting")
    points = {name: " ".join(row[column] for column in columns) for name, row in rows.items()}
    assert points == {
        "ann": "1 2 4 0 7 10 yes",
        "bob": "1 0 0 0 1 10 yes",
        "eve": "1 0 4 0 5 10 yes",
        "joe": "0 0 0 0 0 10 yes",
    }
    joe, bob = rows["joe"], rows["bob"]
    assert (joe["status"], joe["reason"], joe["seconds"]) == ("failed", "not JSON", "0.2")
    assert (bob["restarts"], bob["flags"], bob["remarks"]) == ("2", "reads frames", "file renamed")
    assert rows["eve"]["barred"] == "centre: imports the answer"
    text = Elements(page).text
    for words in ("imports the answer", "reads frames", "not JSON", "line 1", "file renamed", "restarted 2"):
        assert words in text
    assert "../../feedback/joe/tiny/tiny.html" in page and "../../autograded/joe/tiny/tiny.ipynb" in page


def test_the_gradebook_has_the_last_word(course):
    from nbgrader.api import Gradebook

    course.add("ann", solves=["scale"])
    course.add("bob")
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}", "gan") as book:
        book.add_assignment("tiny")
        book.add_notebook("tiny", "tiny")
        for name, points in course.tiny.points.items():
            book.add_grade_cell(name, "tiny", "tiny", max_score=points, cell_type="code")
        book.add_grade_cell("reason", "tiny", "tiny", max_score=3, cell_type="markdown")
        for student, scale in (("ann", 1), ("bob", 1)):
            book.add_student(student)
            submission = book.add_submission("tiny", student)
            for grade in submission.notebooks[0].grades:
                grade.auto_score = {"scale-values": scale, "reason": None}.get(grade.name, 0.0)
        book.find_submission_notebook("tiny", "tiny", "ann").late_submission_penalty = 1.5
        book.find_grade("reason", "tiny", "tiny", "ann").manual_score = 2.5
        book.find_grade("count-hidden", "tiny", "tiny", "ann").manual_score = 3.0
        book.db.commit()
    before = (course.folder / "gradebook.db").read_bytes()
    page, rows = course.report()
    ann, bob = rows["ann"], rows["bob"]
    assert (ann["points count"], ann["points reason"], ann["penalty"], ann["total"]) == (
        "3",
        "2.5",
        "1.5",
        "5",
    )
    assert ann["waiting"] == "no" and bob["waiting"] == "yes" and bob["total"] == "1"
    assert "−1.5" in Elements(page).text
    assert (course.folder / "gradebook.db").read_bytes() == before, "a report writes no grades"


def test_a_late_penalty_takes_no_more_than_there_is():
    assert Row("ann", "graded", "", {"a": 2.0}, penalty=5.0).total == 0


@pytest.mark.parametrize(
    ("seconds", "days"), [(1, 0), (3600, 0), (3601, 1), (86399, 1), (86400, 2), (10 * 86400, 11)]
)
def test_the_course_takes_a_share_per_day_begun(seconds, days):
    from traitlets.config import PyFileConfigLoader

    course = Path(__file__).resolve().parents[2] / "assignments"
    config = PyFileConfigLoader("nbgrader_config.py", str(course)).load_config()
    late = config.AssignLatePenalties.plugin_class()
    assert late.late_submission_penalty("ann", 20.0, seconds) == 0, "nothing until the instructor says so"
    late.SHARE = 0.1
    assert late.late_submission_penalty("ann", 20.0, seconds) == pytest.approx(min(20, 2 * days))


def test_nothing_that_a_student_writes_becomes_markup(course):
    for number in range(3):
        course.add(
            f"{number}{HOSTILE}",
            solves=["count"] * number,
            message=HOSTILE,
            **{"reason": HOSTILE, "log": HOSTILE, "flags": [HOSTILE], "remarks": [HOSTILE], "restarts": 1},
            status="graded" if number else "failed",
            barred={HOSTILE: HOSTILE},
        )
    page, _ = course.report()
    elements = Elements(page)
    assert elements.tags.count("script") == 1 and "img" not in elements.tags
    assert not [name for name, _ in elements.attributes if name.startswith("on")]
    assert HOSTILE[:25] in elements.text and "49" not in elements.text
    # Even markup that got through would not run: only the page's own script may, and nothing may be fetched.
    policy = next(
        value for name, value in elements.attributes if name == "content" and "default-src" in value
    )
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'") and f"script-src 'sha256-{allowed}'" in policy
    assert not re.search(r"(src|href)=\"?(https?:)?//", page)


def test_control_characters_and_writing_direction_are_shown(course):
    course.add("a\u202enna\x07\x1b[31m", message="fl\u2066ip")
    page, rows = course.report()
    assert "a\ufffdnna\ufffd\ufffd[31m" in page and "a\ufffdnna\ufffd\ufffd[31m" in rows
    assert not set("\u202e\x07\x1b\u2066") & set(page)
    assert visible("line\n\ttab \u00e9\u4e2d") == "line\n\ttab \u00e9\u4e2d"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1"])
def test_a_spreadsheet_sees_no_formula(course, text):
    course.add("ann", flags=[text])
    _, rows = course.report()
    assert rows["ann"]["flags"].startswith("'")


def test_the_commonest_failing_check_comes_first(course):
    for student in ("ann", "bob", "joe"):
        course.add(student, solves=["scale", "centre"], message="The count is off.\n  expected: 1")
    course.add("eve", solves=["count", "centre"], message="Each entry counts.")
    course.add("kim", solves=[], status="failed", reason="no file", message="no file")
    page, _ = course.report()
    text = Elements(page[page.index('id="checks"') : page.index('id="alike"')]).text
    assert text.index("The count is off.") < text.index("Each entry counts.")
    assert "expected" not in text and "no file" not in text
    assert re.search(r"3\s*count-words\s*The count is off\.\s*ann, bob, joe", text)


def test_a_result_that_cannot_be_read_is_a_row(course):
    course.add("ann")
    (course.results / "bob.json").write_text('{"student": ')
    (course.results / "joe.json").write_text('{"student": "joe"}')
    page, rows = course.report()
    assert {name: row["status"] for name, row in rows.items()} == {
        "ann": "graded",
        "bob": "failed",
        "joe": "failed",
    }
    assert "bob.json cannot be read" in page


def test_nobody_graded_is_an_error(course):
    with pytest.raises(ValueError, match="nobody"):
        report(course.folder, "tiny")
    with pytest.raises(ValueError, match="other"):
        report(course.folder, "other")


@pytest.mark.parametrize("best", [1, 4, 6, 10, 12, 13, 50, 56, 100, 3.5])
def test_every_score_is_in_one_bar(best):
    scores = [best * i / 40 for i in range(41)] + [best + 1]
    chart = histogram("all", scores, best)
    assert sum(count for *_, count in chart.bars) == len(scores) and len(chart.bars) <= 13
    assert chart.bars[-1] == (best, best, 2)  # full marks alone, with what is beyond
    for low, _, count in chart.bars[:-1]:
        width = chart.bars[1][0]
        assert count == sum(low <= score < min(low + width, best) for score in scores)


def test_similar_students_are_named_in_both_rows(course, tiny):
    words = [f"line_{i} = values.sum({i}) + np.abs(rows[{i}:]).max()" for i in range(40)]
    for number in range(9):
        rng = random.Random(number % 8)  # the last has written what the first has
        notebook = tiny.submission(
            (), {part: "\n".join(rng.sample(words, 12)) for part in ("scale", "centre", "count")}
        )
        course.add(f"student{number}", notebook=notebook)
    page, rows = course.report()
    pairs = {name: row["most similar"] for name, row in rows.items() if row["most similar"]}
    assert pairs == {"student0": "student8", "student8": "student0"}
    assert rows["student0"]["similarity"] == "1.00" and "not a verdict" in page
