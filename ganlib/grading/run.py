"""Grading a class: what has to be graded, by how many at once, and what becomes of each verdict.

A verdict goes to the journal first and to nbgrader second; both can be done twice without harm, so that a run
which is killed at any moment is taken up by the next. A verdict stays valid as long as neither the submission
nor the homework changes.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganlib.grading import cluster, submissions
from ganlib.grading.gradebook import Course
from ganlib.grading.homework import Homework
from ganlib.grading.imports import import_quickly
from ganlib.grading.journal import Journal
from ganlib.grading.progress import Progress, Summary
from ganlib.grading.station import Station, failed

if TYPE_CHECKING:
    from distributed import Client, Future

PATIENCE = 1500.0  # seconds; a Station tries twice for 660 at most, unless told otherwise
BLAMELESS = "The grader failed, not the submission; it will be graded again."


def grade_class(
    course_dir: Path | str,
    assignment: str,
    students: Iterable[str] | None = None,
    force: bool = False,
    workers: int | None = None,
    scheduler: str | None = None,
    db_url: str | None = None,
    station: Callable[[], Any] | None = None,
    patience: float = PATIENCE,
) -> Summary:
    """Grade what was handed in of an assignment and enter it into nbgrader's gradebook.

    students: only these; force: also what has a valid verdict; workers: how many at once (default: the
    cores); scheduler: a running Dask cluster, ``tcp://host:port``; db_url: the gradebook, if not the course's
    own. station: called in each worker process, returns a context manager with ``grade(homework, files,
    student, seed) -> result`` (default: `ganlib.grading.station.Station`). patience: seconds without any
    verdict after which the workers are started anew.

    A failure of a submission, or of a worker, is a row with a reason and no points. Raises ValueError for
    what the caller can mend (a course, an assignment or a student that is not there, another run under way),
    OSError where the gradebook or the cluster cannot be reached, `cluster.StationError` where no Station
    starts.
    """
    began = time.monotonic()
    station = station or partial(Station, hide=[Path(course_dir).resolve()])
    with ExitStack() as stack:
        connected = partial(stack.enter_context, cluster.connect(workers, scheduler, station))
        client = connected() if _surely_grades(Path(course_dir), assignment) else None
        course = Course(course_dir, db_url)
        homework = Homework.load(course.source(assignment), course.config)
        course.check_released(assignment, homework)
        folders = _chosen(course.handed_in(assignment), students, assignment)
        run = _Run(course, assignment, homework, folders, Journal(course.folder / "grading" / assignment))
        with run.journal.lock():
            waiting = run.plan(force)
            if waiting:
                run.grade(client or connected(), waiting, station, patience)
    if folders:
        run.report()
    run.summary.wall = time.monotonic() - began
    return run.summary


def _surely_grades(course: Path, assignment: str) -> bool:
    """Whether this is a first run: then the cluster can start at once, while nbgrader is imported.

    Both take seconds, and on the usual folders; elsewhere the run learns of its work from nbgrader.
    """
    if not (course / "source" / assignment).is_dir() or (course / "grading" / assignment).is_dir():
        return False
    threading.Thread(target=import_quickly, args=["nbgrader.apps.baseapp"], daemon=True).start()
    return True


def _chosen(folders: dict[str, Path], students: Iterable[str] | None, assignment: str) -> dict[str, Path]:
    if students is None:
        return folders
    missing = sorted(set(students) - set(folders))
    if missing:
        raise ValueError(f"students: {', '.join(missing)} handed in no {assignment}")
    return {student: folders[student] for student in students}


class _Run:
    """One assignment being graded: where everything lies, and the summary so far."""

    def __init__(
        self, course: Course, assignment: str, homework: Homework, folders: dict[str, Path], journal: Journal
    ) -> None:
        self.course = course
        self.assignment = assignment
        self.homework = homework
        self.homework_text = json.dumps(homework.to_json(), sort_keys=True)
        self.folders = folders
        self.journal = journal
        self.points = {cell.grade_id: cell.points for cell in homework.cells if cell.kind == "test"}
        self.summary = Summary(assignment, sum(self.points.values()))
        # The instructor's files lie beside each submission, as nbgrader has it.
        given, _ = submissions.read(course.source(assignment).parent)
        self.given = {name: data for name, data in given.items() if not name.endswith(".ipynb")}

    def read(self, student: str) -> tuple[dict[str, bytes], dict[str, Any]]:
        """A submission's files, and what the run adds to its result."""
        files, remarks, when = {}, (), None
        try:
            files, remarks = submissions.read(self.folders[student])
            when = submissions.handed_in_at(files)
        except (ValueError, OSError) as error:  # no folder, or no timestamp: it counts as in time
            remarks = (*remarks, str(getattr(error, "strerror", None) or error))
        files = {**files, **self.given}
        return files, {
            "student": student,
            "assignment": self.assignment,
            "seed": self.journal.seed(student),
            "digest": submissions.digest(files, self.homework_text),
            "timestamp": when.isoformat() if when else None,
            "remarks": list(remarks),
        }

    def plan(self, force: bool) -> list[str]:
        """Those who must be graded, the oldest submission first; the others' verdicts are seen to."""
        scores = self.course.scores(self.assignment)
        waiting = []
        for student, folder in self.folders.items():
            _, about = self.read(student)
            result = self.journal.read(student)
            if force or result is None or result.get("digest") != about["digest"]:
                handed_in = datetime.fromtimestamp(folder.stat().st_mtime, timezone.utc).replace(tzinfo=None)
                waiting.append((about["timestamp"] or handed_in.isoformat(), student))
                continue
            self.summary.kept += 1
            self._count(result)
            with self._noted(student):
                if self.course.holds(result, self.homework.name, scores.get(student)):
                    self.course.settle_penalty(student, self.assignment, self.homework.name)
                else:
                    self._record(result)
        return [student for _, student in sorted(waiting)]

    def grade(self, client: Client, waiting: list[str], station: Callable[[], Any], patience: float) -> None:
        """Grade all at once; then, alone, whatever lost its worker: there nobody else can be to blame."""
        about: dict[str, dict] = {}
        with Progress(len(waiting), self.assignment) as progress:
            suspects = []
            for abreast, students in ((None, waiting), (1, suspects)):
                tasks = self._tasks(station, students, about)
                for student, future in cluster.each(client, tasks, abreast, patience):
                    reason = cluster.lost(future)
                    if reason and abreast is None:
                        suspects.append(student)
                    else:
                        self._finish(self._verdict(future, reason, about.pop(student)), progress)

    def _tasks(
        self, station: Callable[[], Any], students: list[str], about: dict
    ) -> Iterator[tuple[str, tuple]]:
        for student in students:
            files, about[student] = self.read(student)
            yield student, (station, self.homework_text, files, student, about[student]["seed"])

    def _verdict(self, future: Future, lost: str, about: dict) -> dict:
        """The result of a submission, whatever came back of it."""
        trouble = lost
        if not trouble and future.status == "error":
            error = future.exception()
            if isinstance(error, cluster.StationError):
                raise error
            trouble = f"{type(error).__name__}: {error}"
        if not trouble:
            result = future.result()
            trouble = self._objection(result)
        if trouble:
            result = failed(self.homework, BLAMELESS) | {"log": trouble, "retry": True}
            result |= {"barred": {}, "flags": [], "remarks": [], "restarts": 0, "seconds": 0.0}
        if result.get("retry"):  # it holds for nothing: the next run tries again
            about = about | {"digest": ""}
        return result | about | {"remarks": [*about["remarks"], *result["remarks"]]}

    def _objection(self, result: dict) -> str:
        """What is wrong with a result, "" if nothing: nbgrader must read the same points in its notebook."""
        import nbformat
        from nbgrader.utils import determine_grade

        try:
            read = {
                cell.metadata.nbgrader.grade_id: determine_grade(cell)[0]
                for cell in nbformat.from_dict(result["notebook"]).cells
                if cell.metadata.get("nbgrader", {}).get("grade")
            }
            points = {name: cell["points"] for name, cell in result["cells"].items()}
            missing = {"status", "reason", "remarks", "seconds", "log"} - set(result)
            if missing:
                return f"the grader's result has no {', '.join(sorted(missing))}"
            if set(points) != set(self.points) or any(read[name] != points[name] for name in points):
                return "the grader's notebook does not show the points that it gave"
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            return f"the grader's result cannot be read: {type(error).__name__}: {error}"
        return ""

    def _finish(self, result: dict, progress: Progress) -> None:
        student = result["student"]
        self.summary.graded += 1
        with self._noted(student):
            self.journal.write(result)
            self._record(result)
        self._count(result)
        points = f"{self.summary.scores[student]:g} of {self.summary.best:g}"
        progress.step(student, result["seconds"], points, self.summary.failed.get(student, ""))

    def _record(self, result: dict) -> None:
        files, _ = self.read(result["student"])
        files = {name: data for name, data in files.items() if not name.endswith(".ipynb")}
        self.course.record(result, self.homework.name, files)

    @contextmanager
    def _noted(self, student: str) -> Iterator[None]:
        """A verdict that cannot be entered stops no other; the next run enters it."""
        try:
            yield
        except Exception as error:
            message = str(error).partition("\n")[0]
            self.summary.unrecorded[student] = f"{type(error).__name__}: {message}"

    def _count(self, result: dict) -> None:
        student = result["student"]
        self.summary.scores[student] = sum(cell["points"] for cell in result["cells"].values())
        self.summary.seconds[student] = result["seconds"]
        if result["status"] != "graded":  # what the machine did wrong is for the instructor, in the log
            details = result["log"].split("\n") if result.get("retry") else []
            self.summary.failed[student] = next(
                (line for line in reversed(details) if line), result["reason"]
            )

    def report(self) -> None:
        """The instructor's page; that it fails is said, and changes no grade."""
        from ganlib.grading.report import report

        try:
            self.summary.report = report(self.course.folder, self.assignment, self.course.settings.db_url)
        except Exception as error:
            print(f"no report: {type(error).__name__}: {error}", file=sys.stderr)
