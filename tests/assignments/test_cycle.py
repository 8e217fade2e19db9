"""The whole cycle on both homeworks: release, validate, submit, grade, feedback, export."""

import csv
import html
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import harness
import pytest

from ganlib.grading.forkserver import ForkServer

COURSE = harness.ROOT / "assignments"

# For each homework a mistake to grade.
HOMEWORKS = {"dcgan": "discriminator_sigmoid", "wgan_gp": "critic_sigmoid"}


def run_module(arguments: list[str], fds: list[int]) -> None:
    """A fork server's target: `python -m` in a folder, in a process that has nbgrader already."""
    folder, *sys.argv[1:] = arguments
    os.chdir(folder)
    runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)


@pytest.fixture(scope="module")
def server():
    """Makes a process for each of nbgrader's commands; None where nothing can fork."""
    if not hasattr(os, "fork"):
        yield None
        return
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    warm = ["nbgrader.apps.nbgraderapp"]  # more than two seconds, in each of the commands
    with ForkServer("test_cycle:run_module", warm, environment=os.environ | {"PYTHONPATH": path}) as server:
        yield server


class Course:
    """A copy of the course folder, in which nbgrader's commands run."""

    def __init__(self, root: Path, assignment: str, server: ForkServer | None) -> None:
        self.root, self.assignment, self.server = root, assignment, server
        shutil.copytree(COURSE / "source" / assignment, root / "source" / assignment)
        shutil.copy(COURSE / "nbgrader_config.py", root)

    def nbgrader(self, *arguments: str) -> str:
        if self.server is None:
            return self.python("nbgrader", *arguments)
        with self.server.fork([str(self.root), "nbgrader", *arguments]) as child:
            assert child.wait() == 0, child.log()
            return child.log()

    def python(self, *arguments: str) -> str:
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(harness.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    @property
    def name(self) -> str:
        return f"{self.assignment}.ipynb"

    def submit(self, student: str, replacements: dict[str, str], drop: str | None = None) -> None:
        """The released notebook with some solution cells filled in, and the test cell `drop` deleted."""
        notebook = json.loads(
            (self.root / "release" / self.assignment / self.name).read_text(encoding="utf-8")
        )
        cells = []
        for cell in notebook["cells"]:
            grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
            if grade_id in replacements:
                cell["source"] = replacements[grade_id]
            if grade_id is None or grade_id != drop:
                cells.append(cell)
        notebook["cells"] = cells
        folder = self.root / "submitted" / student / self.assignment
        folder.mkdir(parents=True)
        (folder / self.name).write_text(json.dumps(notebook), encoding="utf-8")

    def points(self, student: str) -> dict[str, float | None]:
        """Automatic score per graded cell, None where a person has to grade."""
        from nbgrader.api import Gradebook

        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}", "gan") as gradebook:
            submission = gradebook.find_submission_notebook(self.assignment, self.assignment, student)
            return {grade.name: grade.auto_score for grade in submission.grades}


def secrets(notebook: Path, region: str) -> set[str]:
    """Lines that stand in regions of this name (HIDDEN TESTS, SOLUTION) and nowhere else in the notebook."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells)
    pattern = re.compile(rf"### BEGIN {region}\n(.*?)### END {region}", re.DOTALL)
    secret = {line.strip() for match in pattern.findall(text) for line in match.splitlines()}
    public = pattern.sub("", text)
    return {line for line in secret if len(line) > 24 and line not in public}  # shorter ones say nothing


def leaks(text: str, notebook: Path, *regions: str) -> list[str]:
    """What of these regions, or of the comments that mark them, can be read in the text."""
    found = [f"BEGIN {region}" for region in regions if f"BEGIN {region}" in text]
    return found + [line for region in regions for line in secrets(notebook, region) if line in text]


def words(page: str) -> str:
    """The text of an HTML page, whose code is highlighted token by token."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


@pytest.mark.parametrize("assignment", HOMEWORKS)
def test_the_whole_cycle(assignment, tmp_path, server):
    source = harness.SOURCE / assignment / f"{assignment}.ipynb"
    if not source.exists():
        pytest.skip(f"no notebook in assignments/source/{assignment}")
    course = Course(tmp_path, assignment, server)

    course.nbgrader("generate_assignment", "--force", assignment)
    released = (tmp_path / "release" / assignment / course.name).read_text(encoding="utf-8")
    visible = "\n".join("".join(cell["source"]) for cell in json.loads(released)["cells"])
    assert leaks(visible, source, "SOLUTION", "HIDDEN TESTS") == []
    assert "raise NotImplementedError" in visible

    solution = {
        cell["id"]: re.sub(r" *### (BEGIN|END) SOLUTION\n?", "", cell["source"])
        for cell in harness.code_cells(source)
        if cell["solution"]
    }
    variants = {v.name: v for v in harness.load_variants(Path(__file__).parent / assignment / "wrong")}
    wrong = variants[HOMEWORKS[assignment]]
    best = harness.max_points(source)
    (question,) = (
        cell["metadata"]["nbgrader"]
        for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "markdown" and cell["metadata"].get("nbgrader", {}).get("grade")
    )
    answer = {question["grade_id"]: "At the equilibrium D says 1/2 everywhere."}
    course.submit("right", solution | answer, drop=next(iter(best)))  # a deleted test cell comes back
    course.submit("wrong", solution | wrong.replacements)
    course.submit("skeleton", {})
    # The student's own Validate runs the same cells in a plain kernel.
    answered = f"submitted/right/{assignment}/{course.name}"
    assert "Success! Your notebook passes all the tests." in course.nbgrader("validate", answered)
    course.python("ganlib", "grade", assignment, "--course-dir", ".", "--degraded")

    right = course.points("right")
    assert {name: right[name] for name in best} == best
    assert right[question["grade_id"]] is None, "a written answer waits for a person"
    points = course.points("wrong")
    assert set(harness.lost(source, points)) == wrong.breaks
    assert sum(value or 0 for value in course.points("skeleton").values()) == 0

    course.nbgrader("generate_feedback", assignment)
    for student in ("right", "wrong", "skeleton"):
        page = tmp_path / "feedback" / student / assignment / f"{assignment}.html"
        assert leaks(words(page.read_text(encoding="utf-8")), source, "HIDDEN TESTS") == []

    course.nbgrader("export")
    with (tmp_path / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}
    assert float(rows["right"]["score"]) == sum(best.values())
    assert float(rows["wrong"]["score"]) == sum(points[name] for name in best)
    assert float(rows["skeleton"]["score"]) == 0
    assert float(rows["right"]["max_score"]) == sum(best.values()) + question["points"]
