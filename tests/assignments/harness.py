"""Grade a homework notebook by the judge that grades the class, in about half a second.

`grade(notebook, replacements)` puts sources into the solution cells and hands the notebook to a Station
(:mod:`ganlib.grading.station`) as if a student had submitted it. The Station starts with the first call of a
test process; where bubblewrap does not work it says so and grades all the same.
"""

from __future__ import annotations

import atexit
import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ganlib.grading.homework import Homework
from ganlib.grading.station import Station

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "assignments" / "source"

Edits = Mapping[str, Sequence[tuple[str, str]]]


class Report(NamedTuple):
    """What one submission earned, by test cell: points, the messages of those that failed, seconds."""

    points: dict[str, float]
    errors: dict[str, str]
    seconds: dict[str, float]


@dataclass(frozen=True, eq=False)  # equal to itself only, so that it can be a key
class Variant:
    """A differently written submission: new sources for some solution cells, and the parts that it breaks."""

    name: str
    note: str
    breaks: frozenset[str]
    replacements: dict[str, str]


# --- the homework's cells --------------------------------------------------------------------------


def code_cells(notebook: Path) -> list[dict]:
    """The code cells as dicts of id, source, points (None unless a test cell) and solution (bool)."""
    cells = []
    for index, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            meta = cell["metadata"].get("nbgrader", {})
            cells.append(
                {
                    "id": meta.get("grade_id", f"cell-{index}"),
                    "source": "".join(cell["source"]),
                    "points": meta.get("points") if meta.get("grade") else None,
                    "solution": bool(meta.get("solution")),
                }
            )
    return cells


def max_points(notebook: Path) -> dict[str, float]:
    """Points of every automatically graded cell by grade_id."""
    return {cell["id"]: cell["points"] for cell in code_cells(notebook) if cell["points"] is not None}


def part(grade_id: str) -> str:
    """The part that a test cell belongs to: what stands before the first hyphen of its grade_id."""
    return grade_id.split("-", 1)[0]


def lost(notebook: Path, points: Mapping[str, float]) -> dict[str, float]:
    """Points lost per part, only the parts that lost any."""
    missing: dict[str, float] = {}
    for grade_id, best in max_points(notebook).items():
        if points[grade_id] < best:
            missing[part(grade_id)] = missing.get(part(grade_id), 0) + best - points[grade_id]
    return missing


def skeleton(notebook: Path) -> dict[str, str]:
    """Replacements that turn the instructor's notebook into the one that students receive."""
    region = re.compile(r"^([ \t]*)### BEGIN SOLUTION.*?### END SOLUTION[^\n]*", re.DOTALL | re.MULTILINE)
    return {
        cell["id"]: region.sub(r"\1raise NotImplementedError", cell["source"])
        for cell in code_cells(notebook)
        if cell["solution"]
    }


def load_variants(folder: Path) -> list[Variant]:
    """The variants of a folder, one per .py file.

    A file opens with `# breaks: part[, part]` (wrong ones only) and a line that says what is different. Each
    `# %% grade_id` line starts the source for that solution cell.
    """
    variants = []
    for path in sorted(folder.glob("*.py")):
        head, *sections = re.split(r"^# %% (\S+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        breaks = re.search(r"^# breaks: (.+)$", head, flags=re.MULTILINE)
        note = " ".join(line.lstrip("# ") for line in head.splitlines() if not line.startswith("# breaks:"))
        variants.append(
            Variant(
                name=path.stem,
                note=note.strip(),
                breaks=frozenset(name.strip() for name in breaks[1].split(",")) if breaks else frozenset(),
                replacements=dict(zip(sections[::2], sections[1::2], strict=True)),
            )
        )
    return variants


def triples(variants: Sequence[Variant]) -> list[Variant]:
    """Submissions that make up to three mistakes, in different parts, so that there are fewer to grade.

    Every mistake is in two of them, whose other mistakes are in other parts. If each submission loses exactly
    the parts that its mistakes break, then each mistake alone costs its own part and no other: one that cost
    another part's points, or whose part was lost by another mistake only, would show in the second submission
    of the one or the other, where nothing else breaks that part.
    """
    left = {variant: 2 for variant in variants}  # by variant: in how many submissions it has yet to be
    met = {variant: variant.breaks for variant in variants}  # the parts that it may share none with any more
    made = []
    while any(left.values()):
        # The parts with the most left to do come first, or they alone would be left in the end.
        todo = {v: sum(n for u, n in left.items() if u.breaks & v.breaks) for v in left if left[v]}
        chosen: list[Variant] = []
        for variant in sorted(todo, key=lambda v: (-todo[v], -left[v])):
            if not any(met[variant] & other.breaks or met[other] & variant.breaks for other in chosen):
                chosen.append(variant)
            if len(chosen) == 3:
                break
        breaks = frozenset().union(*(variant.breaks for variant in chosen))
        for variant in chosen:
            left[variant] -= 1
            met[variant] |= breaks
        sources = {cell: source for v in chosen for cell, source in v.replacements.items()}
        made.append(Variant("+".join(v.name for v in chosen), "", breaks, sources))
    return made


# --- grading ---------------------------------------------------------------------------------------


def run(
    notebook: Path,
    replacements: Mapping[str, str] | None = None,
    edits: Edits | None = None,
    seed: int = 0,
) -> Report:
    """Grade one submission.

    replacements: solution cell's grade_id -> the student's source.
    edits: grade_id -> (old, new) pairs of text replaced in that cell of this copy, e.g. fewer training steps.
    seed: the submission's, on which the tests' inputs depend.
    Raises ValueError for an id that the notebook does not have or an old text that the cell does not contain,
    and RuntimeError if it cannot be graded.
    """
    frozen = tuple((grade_id, tuple(map(tuple, pairs))) for grade_id, pairs in (edits or {}).items())
    source, homework = _edited(notebook, notebook.stat().st_mtime_ns, frozen)
    submission = json.loads(source)
    solutions = {cell["id"]: cell for cell in code_cells(notebook) if cell["solution"]}
    for grade_id in replacements or {}:
        if grade_id not in solutions:
            raise ValueError(f"replacements: {notebook.name} has no solution cell {grade_id!r}")
    for cell in submission["cells"]:
        grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
        cell["source"] = (replacements or {}).get(grade_id, cell["source"])
    handed_in = {notebook.name: json.dumps(submission).encode()}
    result = station().grade(homework, handed_in, "student", seed)
    if result["status"] != "graded":
        raise RuntimeError(f"{result['reason']}\n{result['log']}")
    cells = result["cells"].items()
    return Report(
        {grade_id: about["points"] for grade_id, about in cells},
        {grade_id: about["message"] for grade_id, about in cells if not about["passed"]},
        {grade_id: about["seconds"] for grade_id, about in cells},
    )


def grade(
    notebook: Path, replacements: Mapping[str, str] | None = None, edits: Edits | None = None, **kwargs
) -> dict[str, float]:
    """Points per test cell of one submission; see `run`."""
    return run(notebook, replacements, edits, **kwargs).points


@functools.lru_cache(maxsize=16)
def _edited(notebook: Path, changed: int, edits: tuple) -> tuple[str, Homework]:
    """The notebook as JSON and as a homework, with the edits done; `changed` renews it with the file."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    cells = {
        cell["metadata"].get("nbgrader", {}).get("grade_id", f"cell-{index}"): cell
        for index, cell in enumerate(content["cells"])
    }
    for cell in content["cells"]:
        cell["source"] = "".join(cell["source"])
    for grade_id, pairs in edits:
        if grade_id not in cells:
            raise ValueError(f"edits: {notebook.name} has no cell {grade_id!r}")
        for old, new in pairs:
            if old not in cells[grade_id]["source"]:
                raise ValueError(f"edits: {old!r} does not occur in cell {grade_id!r} of {notebook.name}")
            cells[grade_id]["source"] = cells[grade_id]["source"].replace(old, new)
    return json.dumps(content), Homework.from_notebook(content, notebook.stem)


@functools.cache
def station() -> Station:
    """The one of this process, which it starts with the first call: that takes seconds."""
    started = Station()
    atexit.register(started.close)
    return started
