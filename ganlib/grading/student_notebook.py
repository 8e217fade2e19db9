"""The cells of the notebook that a student handed in, in whatever state the files are."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganlib.grading.homework import Cell, Homework

MAX_NOTEBOOK = 64 * 2**20  # bytes of a notebook; animations in outputs make honest ones large
MAX_ITEMS = 2_000_000  # commas and brackets of a notebook: a list of empty lists grows thirtyfold in memory
MAX_CELLS = 1000
MAX_CODE = 2**18  # characters in all code cells together: five times what a homework with its tests has
MAX_TEXT = 2**20  # characters in all other cells together


# Folders that programs fill with copies of notebooks.
IGNORED = {".ipynb_checkpoints", "__MACOSX", ".git"}

ANSWERS = ("solution", "written")


class Unreadable(Exception):
    """No notebook to grade; `reason` tells the student why, in a sentence."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class StudentCell:
    """What is kept of a student's cell: all else, outputs above all, is dropped unread."""

    cell_type: str
    source: str
    cell_id: str | None = None
    grade_id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)  # of nbgrader: compared, never used
    tags: tuple[str, ...] = ()


def choose(homework: Homework, files: Mapping[str, bytes]) -> tuple[str, list[StudentCell], tuple[str, ...]]:
    """Name, cells and remarks of the notebook that is the submission.

    A notebook in which an answer was begun comes before one that only has the homework's ids, that before
    others; among equals the right name, then the right name in other letters or another folder. Raises
    Unreadable if that leaves several that differ, or none.
    """
    names = [name for name in files if name.lower().endswith(".ipynb") and not IGNORED & set(name.split("/"))]
    if not names:
        there = ", ".join(short(name) for name in sorted(files)[:5]) or "nothing"
        raise Unreadable(f"There is no notebook {homework.name}.ipynb among the files; handed in: {there}.")
    names.sort(key=lambda name: (-_name_fits(homework, name), name))
    found, failed = {}, {}
    for name in names[:20]:
        try:
            found[name] = read_cells(files[name])
        except Unreadable as error:
            failed[name] = error.reason
    if not found:
        raise Unreadable(f"{short(names[0])}: {failed[names[0]]}")
    ranks = {
        name: (*_progress(homework, cells), _name_fits(homework, name)) for name, (cells, _) in found.items()
    }
    best = [name for name in found if ranks[name] == max(ranks.values())]
    if any(found[name] != found[best[0]] for name in best):
        listed = ", ".join(short(name) for name in best)
        raise Unreadable(
            f"Which notebook is the homework? Hand in one, called {homework.name}.ipynb, not {listed}."
        )
    cells, remarks = found[best[0]]
    unread = tuple(f"{short(name)} cannot be read: {reason}" for name, reason in failed.items())
    return best[0], cells, (*remarks, *unread)


def _name_fits(homework: Homework, name: str) -> int:
    expected = f"{homework.name}.ipynb"
    return (name == expected) + (name.rsplit("/", 1)[-1].lower() == expected.lower())


def _progress(homework: Homework, cells: Sequence[StudentCell]) -> tuple[bool, bool]:
    """Whether an answer was begun, and whether there is an id of the homework at all."""
    known = {cell.grade_id: cell for cell in homework.cells if cell.grade_id}
    ours = [(known[cell.grade_id], cell) for cell in cells if cell.grade_id in known]
    return any(ask.kind in ANSWERS and not untouched(ask, cell) for ask, cell in ours), bool(ours)


def renamed(name: str, homework: Homework, files: Mapping[str, bytes]) -> list[str]:
    others = [short(n) for n in sorted(files) if n.lower().endswith(".ipynb") and n != name]
    remarks = [] if name == f"{homework.name}.ipynb" else [f"the notebook is called {short(name)}"]
    return remarks + ([f"not graded: {', '.join(others[:5])}"] if others else [])


def untouched(cell: Cell, student: StudentCell) -> bool:
    """Nothing was written: as released, or blank."""
    text = student.source.replace("\r\n", "\n").strip()
    return text in ("", cell.released.strip())


def read_cells(data: bytes) -> tuple[list[StudentCell], tuple[str, ...]]:
    """The cells of a notebook file and remarks on its state.

    Formats 2 to 4 and any later one that has cells are read, with a byte order mark, in UTF-16 or with stray
    bytes. Raises Unreadable, and nothing else, if there is no notebook in it.
    """
    if len(data) > MAX_NOTEBOOK:
        raise Unreadable(
            f"The file is larger than {MAX_NOTEBOOK // 2**20} MiB. Clear the outputs and hand it in again."
        )
    text, remarks = _decode(data)
    if sum(map(text.count, ",[{")) > MAX_ITEMS:
        raise Unreadable("The file holds millions of entries. Clear the outputs and hand it in again.")
    try:
        content = json.loads(text, strict=False)
    except RecursionError:
        raise Unreadable("The file is nested too deeply to be a notebook.") from None
    except ValueError as error:  # also a number of more digits than Python converts
        raise Unreadable(_not_json(text, error)) from None
    cells = [_cell(cell) for cell in _raw_cells(content) if isinstance(cell, dict)]
    if len(cells) > MAX_CELLS:
        raise Unreadable(f"The notebook has {len(cells)} cells; at most {MAX_CELLS} are read.")
    return _shortened(cells, remarks)


def _shortened(
    cells: list[StudentCell], remarks: tuple[str, ...]
) -> tuple[list[StudentCell], tuple[str, ...]]:
    """At most MAX_CODE of code and MAX_TEXT of other text: the longest cells are emptied for it."""
    for code, limit in ((True, MAX_CODE), (False, MAX_TEXT)):
        mine = [index for index, cell in enumerate(cells) if (cell.cell_type == "code") == code]
        total = sum(len(cells[index].source) for index in mine)
        for index in sorted(mine, key=lambda index: -len(cells[index].source)):
            if total <= limit:
                break
            total -= len(cells[index].source)
            remarks += (f"the text of cell {index + 1}, {len(cells[index].source)} characters, was left out",)
            cells[index] = dataclasses.replace(cells[index], source="")
    return cells, remarks


def _decode(data: bytes) -> tuple[str, tuple[str, ...]]:
    if not data.strip(b"\0\t\r\n "):
        raise Unreadable("The file is empty. It may not have been saved or uploaded completely.")
    encoding, remarks = json.detect_encoding(data), ()
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        text, remarks = data.decode(encoding, "replace"), ("bytes that are no text were replaced by \ufffd",)
    return text.strip("\ufeff\0\t\r\n "), remarks


def _not_json(text: str, error: ValueError) -> str:
    if text.startswith("<<<<<<<") or "\n<<<<<<< " in text:
        return "The file holds the marks of a merge conflict (<<<<<<<). Resolve it and hand it in again."
    if text.startswith("<"):
        return "The file is a web page, not a notebook. Use File > Download in Jupyter."
    if text.startswith("{") and isinstance(error, json.JSONDecodeError):
        if error.pos >= len(text) - 1 or error.msg.startswith("Unterminated"):
            return "The file ends in the middle: it was not saved or uploaded completely."
        return f"The file is damaged at line {error.lineno}: it is not valid JSON."
    return "The file is not a notebook: it is not JSON."


def _raw_cells(content: Any) -> list[Any]:
    """The list of cells of a parsed notebook, as of format 4."""
    if isinstance(content, dict):
        if isinstance(content.get("cells"), list):
            return content["cells"]
        if isinstance(content.get("worksheets"), list):
            return _upgrade(content["worksheets"])
    raise Unreadable("The file is JSON, but not a notebook: it has no list of cells.")


def _upgrade(worksheets: list[Any]) -> list[Any]:
    """Cells of format 2 or 3, brought to format 4 by nbformat. Only what counts is handed to it."""
    import nbformat

    old = []
    for sheet in worksheets:
        cells = sheet.get("cells") if isinstance(sheet, dict) else None
        for cell in cells if isinstance(cells, list) else []:
            if not isinstance(cell, dict):
                continue
            kept = {"metadata": cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}}
            if cell.get("cell_type") == "code":
                kept |= {
                    "cell_type": "code",
                    "input": _source(cell.get("input")),
                    "outputs": [],
                    "language": "python",
                }
            else:
                name = cell.get("cell_type")
                kept["cell_type"] = name if name in ("markdown", "raw", "heading", "html") else "markdown"
                kept |= {"source": _source(cell.get("source")), "level": 1}
            old.append(kept)
    if len(old) > MAX_CELLS:
        raise Unreadable(f"The notebook has {len(old)} cells; at most {MAX_CELLS} are read.")
    old = [{**cell, "metadata": _nbgrader_only(cell["metadata"])} for cell in old]
    notebook = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {},
        "worksheets": [{"metadata": {}, "cells": old}],
    }
    return nbformat.convert(nbformat.from_dict(notebook), 4).cells


def _nbgrader_only(metadata: dict[str, Any]) -> dict[str, Any]:
    marks = metadata.get("nbgrader")
    if not isinstance(marks, dict):
        return {}
    return {"nbgrader": {k: v for k, v in marks.items() if isinstance(v, str | int | float | bool | None)}}


def _cell(cell: Mapping[str, Any]) -> StudentCell:
    metadata = cell.get("metadata") if isinstance(cell.get("metadata"), dict) else {}
    marks, tags = _nbgrader_only(metadata).get("nbgrader", {}), metadata.get("tags")
    return StudentCell(
        cell_type=cell["cell_type"] if cell.get("cell_type") in ("code", "markdown", "raw") else "raw",
        source=_source(cell.get("source")),
        cell_id=_name(cell.get("id")),
        grade_id=_name(marks.get("grade_id")),
        metadata=marks,
        tags=tuple(short(tag) for tag in tags[:10] if isinstance(tag, str)) if isinstance(tags, list) else (),
    )


def _source(value: Any) -> str:
    """Source as written, a string or a list of them; half surrogates, which no file holds, are replaced."""
    if isinstance(value, list):
        value = "".join(part for part in value if isinstance(part, str))
    return re.sub("[\ud800-\udfff]", "\ufffd", value) if isinstance(value, str) else ""


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= 200 else None


def short(text: str, limit: int = 60) -> str:
    """A student's name for something, safe to show: one line, printable, at most `limit` characters."""
    text = "".join(c if c.isprintable() else "\ufffd" for c in text)
    return text if len(text) <= limit else text[: limit - 1] + "…"
