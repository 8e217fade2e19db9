"""Results into nbgrader, which stays the system of record: rows, autograded folders, late penalties.

What this writes is what `nbgrader autograde` would have written, by nbgrader's own preprocessors, so that
formgrader, manual grading, `nbgrader generate_feedback` and `nbgrader export` go on from here. One process
writes.
"""

from __future__ import annotations

import glob
import hashlib
import json
import logging
import re
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ganlib.grading.imports import import_quickly
from ganlib.grading.journal import write_whole

if TYPE_CHECKING:
    from nbgrader.api import Gradebook

    from ganlib.grading.homework import Homework


class Scores(NamedTuple):
    """A student's points by cell, None where there are none yet, and the penalty for being late."""

    auto: dict[str, float | None]  # by machine
    cells: dict[str, float | None]  # what counts: a person's points before a machine's, extra credit added
    penalty: float


class Course:
    """A course folder with its nbgrader configuration and gradebook.

    db_url: the gradebook, such as ``postgresql://...``; by default the configuration's, or ``gradebook.db``
    in the folder. Raises ValueError for a folder or a configuration that cannot be read.
    """

    def __init__(self, folder: Path | str, db_url: str | None = None) -> None:
        import_quickly("nbgrader.apps.baseapp")
        from nbgrader.apps.baseapp import NbGrader
        from traitlets.config import Config

        self.folder = Path(folder).resolve()
        if not (self.folder / "source").is_dir() and not (self.folder / "nbgrader_config.py").is_file():
            raise ValueError(f"{folder} is no course folder: it has no nbgrader_config.py")
        # A configuration with an error is not passed over: it may hold the late penalties. Another course's,
        # in the folder where the command was given, is none of ours.
        self.app = NbGrader(raise_config_file_errors=True, log_level=logging.ERROR)
        self.app.load_cwd_config = False
        try:
            self.app.initialize([], root=str(self.folder))
        except Exception as error:
            raise ValueError(f"{folder}/nbgrader_config.py: {type(error).__name__}: {error}") from error
        settings = {"root": str(self.folder)} | ({"db_url": db_url} if db_url else {})
        self.app.update_config(Config(CourseDirectory=settings))
        self.settings = self.app.coursedir
        self.config = self.app.config

    def assignments(self) -> list[str]:
        """The names of the homeworks in source/."""
        found = (self.folder / self.settings.source_directory).glob("*/*.ipynb")
        return sorted({path.parent.name for path in found})

    def source(self, assignment: str) -> Path:
        """The instructor's notebook. Raises ValueError unless the assignment has exactly one."""
        folder = self._path(self.settings.source_directory, ".", assignment)
        notebooks = sorted(folder.glob("*.ipynb")) if assignment in self.assignments() else []
        if len(notebooks) != 1:
            known = ", ".join(self.assignments())
            raise ValueError(f"{assignment!r} is none of {known}, or has not one notebook in source/")
        return notebooks[0]

    def handed_in(self, assignment: str) -> dict[str, Path]:
        """The folder of everyone who has handed the assignment in, by student."""
        where, step = self.settings, self.settings.submitted_directory
        pattern = where.directory_structure.format(
            nbgrader_step=step, student_id="*", assignment_id=glob.escape(assignment)
        )
        name = re.compile(
            where.format_path(step, "(?P<student>[^/\\\\]+)", re.escape(assignment), escape=True)
        )
        found, excluded = {}, where.student_id_exclude.split(",")
        for path in sorted(glob.glob(pattern, root_dir=self.folder)):
            match = name.fullmatch(str(self.folder / path))
            if match and (self.folder / path).is_dir() and match["student"] not in excluded:
                found[match["student"]] = self.folder / path
        return found

    def check_released(self, assignment: str, homework: Homework) -> None:
        """Raises ValueError unless the gradebook has this homework's graded cells with these points."""
        from nbgrader.api import MissingEntry

        wanted = {
            cell.metadata.nbgrader.grade_id: float(cell.metadata.nbgrader.points)
            for cell in homework.notebook().cells
            if cell.metadata.get("nbgrader", {}).get("grade")
        }
        missing = ValueError(f"{assignment} is not in the gradebook: `make release` puts it there")
        if not self._gradebook_exists():
            raise missing
        with self._gradebook() as book:
            try:
                notebook = book.find_notebook(homework.name, assignment)
            except MissingEntry:
                raise missing from None
            there = {cell.name: float(cell.max_score) for cell in notebook.grade_cells}
        if there != wanted:
            changed = sorted(name for name in there | wanted if there.get(name) != wanted.get(name))
            raise ValueError(
                f"the test cells {', '.join(changed)} of {assignment} are others than in the gradebook: "
                "`make release` brings it up to date"
            )

    def scores(self, assignment: str) -> dict[str, Scores]:
        """What the gradebook has about each student's submission; {} where there is no gradebook yet."""
        from nbgrader.api import Assignment, SubmittedAssignment, SubmittedNotebook

        if not self._gradebook_exists():
            return {}
        found = {}
        with self._gradebook() as book:
            rows = (
                book.db.query(SubmittedAssignment.student_id, SubmittedNotebook)
                .join(SubmittedNotebook, SubmittedNotebook.assignment_id == SubmittedAssignment.id)
                .join(Assignment, SubmittedAssignment.assignment_id == Assignment.id)
                .filter(Assignment.name == assignment)
            )
            for student, row in rows:
                auto = {grade.name: grade.auto_score for grade in row.grades}
                given = [
                    grade for grade in row.grades if (grade.auto_score, grade.manual_score) != (None, None)
                ]
                cells = dict.fromkeys(auto) | {grade.name: grade.score for grade in given}
                found[student] = Scores(auto, cells, row.late_submission_penalty or 0.0)
        return found

    def holds(self, result: Mapping[str, Any], notebook: str, scores: Scores | None) -> bool:
        """Whether gradebook (its `scores` of the student) and autograded folder both hold a result."""
        auto = scores.auto if scores else {}
        if any(auto.get(name) != cell["points"] for name, cell in result["cells"].items()):
            return False
        folder = self._path(self.settings.autograded_directory, result["student"], result["assignment"])
        try:
            stored = json.loads((folder / f"{notebook}.ipynb").read_bytes())
            return stored["metadata"]["ganlib"]["result"] == fingerprint(result)
        except (OSError, ValueError, LookupError, TypeError):
            return False

    def record(self, result: Mapping[str, Any], notebook: str, files: Mapping[str, bytes]) -> None:
        """Writes a result: the submission's row, its points, its late penalty, last its autograded folder.

        Points and comments that a person gave stay; as after `nbgrader autograde`, formgrader asks to look at
        those again. Doing it twice changes nothing, so a run that was killed in between does it again.
        files: what else was handed in; formgrader shows it beside the notebook.
        """
        import nbformat
        from nbgrader.preprocessors import AssignLatePenalties, LimitOutput, SaveAutoGrades
        from nbgrader.utils import parse_utc

        student, assignment = result["student"], result["assignment"]
        text = nbformat.writes(nbformat.from_dict(dict(result["notebook"])))
        graded = nbformat.reads(text.encode(errors="replace").decode(), as_version=4)  # no half characters
        resources = self._resources(student, assignment, notebook)
        with self._gradebook() as book, _in_one_transaction(book):
            book.update_or_create_student(student)
            book.update_or_create_submission(assignment, student, timestamp=parse_utc(result["timestamp"]))
            for step in (LimitOutput, SaveAutoGrades, AssignLatePenalties):
                graded, resources = step(parent=self.app).preprocess(graded, resources)
        graded.metadata["ganlib"] = {"result": fingerprint(result)}
        target = self._path(self.settings.autograded_directory, student, assignment)
        self._store(target, assignment, {**files, f"{notebook}.ipynb": nbformat.writes(graded).encode()})

    def settle_penalty(self, student: str, assignment: str, notebook: str) -> None:
        """Computes a late penalty anew: the due date, or the points that a person gave, may have changed."""
        import nbformat
        from nbgrader.preprocessors import AssignLatePenalties

        resources = self._resources(student, assignment, notebook)
        AssignLatePenalties(parent=self.app).preprocess(nbformat.v4.new_notebook(), resources)

    def _store(self, target: Path, assignment: str, files: Mapping[str, bytes]) -> None:
        """Makes the folder beside and moves it into place: what formgrader finds is whole."""
        staging = self.folder / "grading" / assignment / "scratch"
        shutil.rmtree(staging, ignore_errors=True)  # of a run that was killed
        mode = 0o664 if self.settings.groupshared else 0o444
        for name, data in files.items():
            path = staging / "new" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, data, mode)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rename(staging / "old")
        (staging / "new").rename(target)
        shutil.rmtree(staging)

    def _path(self, step: str, student: str, assignment: str) -> Path:
        return Path(self.settings.format_path(step, student, assignment))

    def _resources(self, student: str, assignment: str, notebook: str) -> dict:
        about = {
            "student": student,
            "assignment": assignment,
            "notebook": notebook,
            "db_url": self.settings.db_url,
        }
        return {"nbgrader": about}

    def _gradebook_exists(self) -> bool:
        path = self.settings.db_url.removeprefix("sqlite:///")
        return path == self.settings.db_url or Path(path).exists()

    @contextmanager
    def _gradebook(self) -> Gradebook:
        from nbgrader.api import Gradebook
        from sqlalchemy.exc import SAWarning, SQLAlchemyError

        try:
            with warnings.catch_warnings(), Gradebook(self.settings.db_url, self.settings.course_id) as book:
                warnings.simplefilter("ignore", SAWarning)  # nbgrader's own, each time it adds a submission
                yield book
        except (SQLAlchemyError, ImportError) as error:  # the second: no driver for such a database
            raise OSError(f"the gradebook cannot be used: {str(error).splitlines()[0]}") from error


@contextmanager
def _in_one_transaction(book: Gradebook) -> Iterator[None]:
    """What nbgrader writes meanwhile goes through `book`, and all of it at the end or nothing at all.

    By itself each of nbgrader's steps opens the gradebook anew and commits after every cell: some forty times
    for a submission, each of which waits for the disk.
    """
    from nbgrader.preprocessors import latesubmissions, saveautogrades

    def end_of_step() -> None:
        book.db.flush()
        book.db.expire_all()  # as after a commit: sums of points are read anew

    steps = (latesubmissions, saveautogrades)
    commit, close, own = book.db.commit, book.close, [step.Gradebook for step in steps]
    book.db.commit, book.close = end_of_step, lambda: None
    for step in steps:
        step.Gradebook = lambda db_url: book
    try:
        yield
        commit()
    finally:
        book.db.commit, book.close = commit, close
        for step, gradebook in zip(steps, own, strict=True):
            step.Gradebook = gradebook


def fingerprint(result: Mapping[str, Any]) -> str:
    """SHA-256 of a result; the autograded notebook bears that of the result that it was made from."""
    return hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
