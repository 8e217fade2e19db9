"""What an instructor reads after a run: a page and a table for each assignment.

`report` reads `grading/<assignment>/results/*.json`, one at a time, and what the gradebook adds (scores given
or changed by hand, late penalties), and writes `report.html` (see `page`) and `scores.csv` beside them.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ganlib.grading.gradebook import Course
from ganlib.grading.homework import Homework
from ganlib.grading.journal import write_whole
from ganlib.grading.similarity import Pair, answers, similar


@dataclass
class Row:
    """One student: what the run found, changed by what the gradebook says."""

    student: str
    status: str
    reason: str
    cells: dict[str, float]  # points by grade_id
    seconds: float = 0.0
    restarts: int = 0
    flags: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    barred: dict[str, str] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)  # of the test cells that failed
    log: str = ""
    penalty: float = 0.0  # points taken off for being late
    waiting: bool = False  # a written answer has no grade yet
    alike: list[Pair] = field(default_factory=list)

    @property
    def total(self) -> float:
        """Points of all cells less the late penalty, never below zero."""
        return max(0.0, sum(self.cells.values()) - self.penalty)

    @property
    def marks(self) -> list[str]:
        """Why somebody should look at this submission, in a few words each."""
        restarted = [f"restarted {self.restarts} times" if self.restarts > 1 else "restarted once"]
        return (
            [self.status] * (self.status != "graded")
            + [f"barred: {part}" for part in self.barred]
            + self.flags
            + restarted * bool(self.restarts)
            + [f"like {self.other(pair)}" for pair in self.alike[:1]]
        )

    def part(self, name: str) -> float:
        """Points of the part's cells together."""
        return sum(points for grade_id, points in self.cells.items() if Homework.part(grade_id) == name)

    def other(self, pair: Pair) -> str:
        """Whom the pair says this student's work is like."""
        return next(name for name in pair.students if name != self.student)


def report(course_dir: Path | str, assignment: str, db_url: str | None = None) -> Path:
    """Write the page and the table of an assignment; the page's path.

    db_url: the gradebook, if it is another than the course's configuration says. Where there is none yet, the
    scores are those of the run. Raises ValueError if the assignment has no source or nobody's was graded.
    """
    from ganlib.grading.page import page

    course = Course(course_dir, db_url)
    folder = course.folder / "grading" / assignment
    homework = Homework.load(course.source(assignment))
    rows, written = _read(folder / "results", homework)
    if not rows:
        raise ValueError(
            f"assignment: nobody's {assignment} was graded; run `ganlib grade {assignment}` first"
        )
    _add_gradebook(rows, course, assignment)
    pairs = similar(written)
    for pair in pairs:
        for student in pair.students:
            rows[student].alike.append(pair)
    ordered = sorted(rows.values(), key=lambda row: row.student.casefold())
    write_whole(folder / "scores.csv", table(ordered, homework).encode())
    write_whole(folder / "report.html", page(ordered, pairs, homework, assignment).encode())
    return folder / "report.html"


def _read(results: Path, homework: Homework) -> tuple[dict[str, Row], dict[str, dict[str, str]]]:
    """Rows and normalised answers by student. Notebooks are dropped as soon as they are read."""
    rows, written = {}, {}
    by_hand = any(cell.kind == "written" for cell in homework.cells)
    for path in sorted(results.glob("*.json")):
        try:
            result = json.loads(path.read_bytes())
            row, texts = _row(result), answers(result["notebook"], homework)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            row = Row(path.stem, "failed", f"{path.name} cannot be read ({type(error).__name__})", {})
            texts = {}
        row.waiting = by_hand
        rows[row.student], written[row.student] = row, texts
    return rows, written


def _row(result: Mapping) -> Row:
    cells = result["cells"]
    kept = ("student", "status", "reason", "seconds", "restarts", "flags", "remarks", "barred", "log")
    return Row(
        cells={name: float(cell["points"]) for name, cell in cells.items()},
        messages={name: cell["message"] for name, cell in cells.items() if not cell["passed"]},
        **{name: result[name] for name in kept},
    )


def _add_gradebook(rows: Mapping[str, Row], course: Course, assignment: str) -> None:
    """Take the gradebook's scores, where it has them, and its late penalties."""
    for student, scores in course.scores(assignment).items():
        if student in rows:
            row = rows[student]
            row.cells |= {name: points for name, points in scores.cells.items() if points is not None}
            row.penalty, row.waiting = scores.penalty, None in scores.cells.values()


# --- the table --------------------------------------------------------------------------------------


def table(rows: Iterable[Row], homework: Homework) -> str:
    """The rows as comma-separated values, one line per student."""
    text = io.StringIO(newline="")
    lines = [_line(row, homework) for row in rows]
    writer = csv.DictWriter(text, lines[0])
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _line(row: Row, homework: Homework) -> dict[str, str]:
    alike = row.alike[:1]
    return {
        "student": _cell(row.student),
        "status": row.status,
        "reason": _cell(row.reason),
        **{f"points {part}": number(row.part(part)) for part in homework.parts},
        "total": number(row.total),
        "max": number(sum(homework.points.values())),
        "penalty": number(row.penalty),
        "waiting": "yes" if row.waiting else "no",
        "seconds": f"{row.seconds:.1f}",
        "restarts": str(row.restarts),
        "barred": _cell("; ".join(f"{part}: {reason}" for part, reason in row.barred.items())),
        "flags": _cell("; ".join(row.flags)),
        "remarks": _cell("; ".join(row.remarks)),
        "most similar": _cell("".join(row.other(pair) for pair in alike)),
        "similarity": "".join(f"{pair.likeness:.2f}" for pair in alike),
    }


def _cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    text = visible(text)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def number(value: float) -> str:
    """At most two decimals, and none that are zero."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with a box for each control character, and for those that turn the direction of writing."""
    return _UNSEEN.sub("\ufffd", text)
