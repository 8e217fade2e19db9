"""From whatever a student handed in to a notebook that is safe to grade.

The instructor's notebook is the skeleton. Out of the student's file come sources alone: those of the answers,
and of cells of the student's own. Locked cells, metadata, points and ids are always the instructor's.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ganlib.grading.defuse import defused
from ganlib.grading.homework import Cell, Homework
from ganlib.grading.student_notebook import ANSWERS, StudentCell, Unreadable, choose, renamed, untouched

if TYPE_CHECKING:
    from nbformat import NotebookNode

__all__ = ["Sanitised", "Unreadable", "sanitise"]


@dataclass(frozen=True)
class Sanitised:
    """A notebook to grade, not executed yet, and what the instructor should know about the one handed in."""

    notebook: NotebookNode
    remarks: tuple[str, ...]


def sanitise(homework: Homework, files: Mapping[str, bytes]) -> Sanitised:
    """The student's answers and own cells in the instructor's notebook.

    files: what was handed in, by path ("dcgan.ipynb", "data/points.txt").

    - Locked cells come back whatever happened to them, each behind all answers that it stands behind in the
      homework. The student's cells keep the student's order, which Jupyter runs from top to bottom.
    - Several cells with one answer's id (a cell that was split or copied) all stay, less those that still are
      as released: the last definition counts, as it does in Jupyter. That last cell is nbgrader's answer.
    - An answer without its id is known by what it defines, a written one by its place.
    - A missing solution stays empty rather than released: a stub would overwrite what another cell defines.

    Raises Unreadable if there is no notebook in the files, or no telling which; nothing else for any files.
    """
    name, written, remarks = choose(homework, files)
    remarks = [*remarks, *renamed(name, homework, files)]
    owners = _recognise(homework, written)
    remarks += _remarks(homework, written, owners)
    return Sanitised(_assemble(homework, written, owners), tuple(remarks[:100]))


def _changed(cell: Cell, student: StudentCell) -> bool:
    same_text = student.source.replace("\r\n", "\n").strip() == cell.released.strip()
    return not same_text or student.cell_type != cell.cell_type


# --- whose cell is whose ---------------------------------------------------------------------------


def _recognise(homework: Homework, written: Sequence[StudentCell]) -> list[Cell | None]:
    """For each of the student's cells the homework's that it was once, None if it is the student's own."""
    by_grade_id = {cell.grade_id: cell for cell in homework.cells if cell.grade_id}
    by_cell_id = {cell.cell_id: cell for cell in homework.cells if cell.cell_id}
    by_text = {
        (cell.cell_type, cell.released.strip()): cell
        for cell in homework.cells
        if cell.kind not in ANSWERS and cell.released.strip()
    }
    owners: list[Cell | None] = []
    for student in written:
        text = (student.cell_type, student.source.replace("\r\n", "\n").strip())
        owners.append(
            by_grade_id.get(student.grade_id) or by_cell_id.get(student.cell_id) or by_text.get(text)
        )
    for cell in homework.cells:
        if cell.kind == "solution" and cell not in owners:
            for i in _defining(cell, written, owners):
                owners[i] = cell
        elif cell.kind == "written" and not _begun(cell, written, owners):
            for i in _beside(homework, cell, written, owners):
                owners[i] = cell
    return owners


def _begun(cell: Cell, written: Sequence[StudentCell], owners: Sequence[Cell | None]) -> bool:
    return any(owner is cell and not untouched(cell, w) for w, owner in zip(written, owners, strict=True))


def _defining(cell: Cell, written: Sequence[StudentCell], owners: Sequence[Cell | None]) -> list[int]:
    """The student's own code cells that define what the solution cell should."""
    names = "|".join(map(re.escape, cell.defines))
    pattern = re.compile(rf"^(?:(?:async\s+)?def|class)\s+(?:{names})\b|^(?:{names})\s*=[^=]", re.MULTILINE)
    own = [i for i, owner in enumerate(owners) if owner is None and written[i].cell_type == "code"]
    return [i for i in own if names and pattern.search(written[i].source)]


def _beside(
    homework: Homework, cell: Cell, written: Sequence[StudentCell], owners: Sequence[Cell | None]
) -> list[int]:
    """The student's own texts between a written answer's neighbours."""
    index = homework.cells.index(cell)
    before, after = homework.cells[:index], homework.cells[index + 1 :]
    start = max((i for i, owner in enumerate(owners) if owner is not None and owner in before), default=None)
    if start is None:
        return []
    end = min((i for i, owner in enumerate(owners) if i > start and owner in after), default=len(owners))
    return [i for i in range(start + 1, end) if owners[i] is None and written[i].cell_type != "code"]


# --- the notebook ----------------------------------------------------------------------------------


def _kept(cell: Cell, written: Sequence[StudentCell], owners: Sequence[Cell | None]) -> list[int]:
    """Which of the student's cells make up an answer, in order; of equal ones the last."""
    mine = [i for i, owner in enumerate(owners) if owner is cell]
    begun = [i for i in mine if not untouched(cell, written[i])]
    last = {written[i].source: i for i in begun}
    return sorted(last.values()) or mine[-1:]


def _assemble(
    homework: Homework, written: Sequence[StudentCell], owners: Sequence[Cell | None]
) -> NotebookNode:
    import nbformat

    notebook = homework.notebook()
    place = {id(cell): index for index, cell in enumerate(homework.cells)}
    kept = {
        place[id(c)]: _kept(c, written, owners) for c in homework.cells if c.kind in ANSWERS and c in owners
    }
    last = {index: mine[-1] for index, mine in kept.items()}
    rewritten = {  # explanations and demonstrations that the student changed
        i: place[id(owner)]
        for i, owner in enumerate(owners)
        if owner is not None and owner.kind == "text" and _changed(owner, written[i])
    }
    own = {i for i, owner in enumerate(owners) if owner is None} | set(rewritten)
    own |= {i for index, mine in kept.items() if homework.cells[index].kind == "solution" for i in mine[:-1]}
    taken = kept.keys() | set(rewritten.values())
    waiting = [index for index in range(len(homework.cells)) if index not in taken]
    done, out = set(), []

    def let_through(limit: int) -> None:
        """The instructor's next cells up to this one, as far as all answers before them are there."""
        while waiting and waiting[0] <= limit and all(i in done for i in kept if i < waiting[0]):
            index = waiting.pop(0)
            if homework.cells[index].kind == "solution":
                notebook.cells[index].source = ""
            out.append(notebook.cells[index])

    let_through(min((i for i, cell in enumerate(homework.cells) if cell.kind == "setup"), default=-1))
    for i, (student, owner) in enumerate(zip(written, owners, strict=True)):
        index = None if owner is None else place[id(owner)]
        if index is not None:
            let_through(index)
        if last.get(index) == i:
            notebook.cells[index].source = _answer(owner, [written[j].source for j in kept[index]])
            out.append(notebook.cells[index])
            done.add(index)
        elif i in own and student.source.strip():
            out.append(_extra(student))
    let_through(len(homework.cells))
    with_ids = "id" in notebook.cells[0]
    notebook.cells = [nbformat.from_dict(cell) for cell in out]
    if with_ids:
        _number(notebook)
    return notebook


def _answer(cell: Cell, sources: Sequence[str]) -> str:
    if cell.kind == "solution":
        return sources[-1]
    texts = [source for source in sources if source.strip() not in ("", cell.released.strip())]
    # As released, nbgrader knows that there is no answer.
    return defused("\n\n".join(texts)) or cell.released


def _extra(student: StudentCell) -> dict[str, Any]:
    if student.cell_type == "code":
        blank = {"outputs": [], "execution_count": None}
        return {"cell_type": "code", "metadata": {}, "source": student.source} | blank
    return {"cell_type": "markdown", "metadata": {}, "source": defused(student.source)}


def _number(notebook: NotebookNode) -> None:
    """Ids for the student's own cells, the same whenever the same notebook is read."""
    used = {cell.get("id") for cell in notebook.cells}
    fresh = (name for n in range(10**6) if (name := f"student-{n + 1}") not in used)
    for cell in notebook.cells:
        if "id" not in cell:
            cell["id"] = next(fresh)


# --- remarks ---------------------------------------------------------------------------------------


def _remarks(homework: Homework, written: Sequence[StudentCell], owners: Sequence[Cell | None]) -> list[str]:
    """What was not as released, a line each."""
    remarks, count = [], Counter(owner.grade_id for owner in owners if owner is not None)
    for cell in homework.cells:
        mine = [student for student, owner in zip(written, owners, strict=True) if owner is cell]
        if cell.grade_id is None:
            continue
        locked = cell.kind not in ANSWERS
        if not mine:
            back = "it was put back" if locked else "it counts as not answered unless another cell defines it"
            remarks.append(f"{cell.grade_id} was missing: {back}")
        if locked and any(_changed(cell, student) for student in mine):
            remarks.append(f"{cell.grade_id} was changed: the original was used")
        if count[cell.grade_id] > 1:
            remarks.append(f"{cell.grade_id} was there {count[cell.grade_id]} times")
        if not locked and any(student.cell_type != cell.cell_type for student in mine):
            remarks.append(f"{cell.grade_id} had become {mine[-1].cell_type}: read as {cell.cell_type}")
        if mine and all(student.grade_id != cell.grade_id for student in mine):
            remarks.append(f"{cell.grade_id} had lost its id: recognised by its content or place")
        remarks += _metadata_remarks(cell, mine)
    order = [homework.cells.index(owner) for owner in owners if owner is not None and owner.grade_id]
    return remarks + (["the cells were in another order"] if order != sorted(order) else [])


def _metadata_remarks(cell: Cell, mine: Sequence[StudentCell]) -> list[str]:
    graded, solution = cell.kind in ("test", "written"), cell.kind in ANSWERS
    true = {
        "grade": graded,
        "solution": solution,
        "points": cell.points,
        "locked": not solution,
        "task": False,
    }
    wrong = {key for s in mine if s.grade_id for key in true if s.metadata.get(key, true[key]) != true[key]}
    tags = {tag for student in mine for tag in student.tags}
    remarks = [f"{cell.grade_id}: metadata changed ({', '.join(sorted(wrong))}): ignored"] if wrong else []
    return remarks + ([f"{cell.grade_id}: tags removed ({', '.join(sorted(tags))})"] if tags else [])
