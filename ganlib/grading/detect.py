"""Which parts of a submission use ganlib's own answers, and what else an instructor may want to look at."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ganlib.grading.hints import hints, import_paths
from ganlib.grading.homework import Homework, defined_names
from ganlib.grading.parsing import parse_cell
from ganlib.grading.tracing import Tangled, Trace

if TYPE_CHECKING:
    from nbformat import NotebookNode

MOST_FLAGS = 50


@dataclass(frozen=True)
class Findings:
    """barred: part -> why it gets no points, for the student. flags: hints for the instructor alone."""

    barred: dict[str, str]
    flags: tuple[str, ...]


def detect(homework: Homework, notebook: NotebookNode) -> Findings:
    """Look through a sanitised notebook; nothing in it is executed.

    A part is barred if the function that it asks for, when the part's last test calls it, leads to one of
    ganlib's barred modules through whatever names, imports and helper functions. Importing such a module and
    not using it, naming it in a text, or using it in a demonstration bars nothing. Raises nothing for any
    student's code; what is too deep or too much to be followed is flagged (in the sandbox, ganlib's answers
    are not there at all: a part that uses them fails even unseen).
    """
    given = {cell.cell_id: cell.released for cell in homework.cells if cell.kind == "text"}
    tests = {cell.grade_id for cell in homework.cells if cell.kind == "test"}
    setup = {cell.grade_id for cell in homework.cells if cell.kind == "setup"}
    trace, trees, flags, ends, locked = Trace(), [], [], {}, {}
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id in tests:
            ends[homework.part(grade_id)] = trace.order
        if cell.cell_type != "code" or grade_id in tests or given.get(cell.get("id")) == cell.source:
            continue
        name = grade_id or cell.get("id", "?")
        tree = parse_cell(cell.source)
        if tree is None:
            continue
        try:
            trace.read(name, tree)
        except Tangled:
            flags.append(f"cell {name}: nested too deeply to be looked through")
            continue
        if grade_id in setup:
            locked |= {n: None for n in defined_names(cell.source)} | import_paths([tree])
        else:
            trees.append((name, tree))
    barred = dict(_barred(homework, trace, ends, flags))
    flags += _flags(trees, import_paths([tree for _, tree in trees]) | _only_paths(locked), locked)
    return Findings(barred, tuple(dict.fromkeys(flags))[:MOST_FLAGS])


def _only_paths(locked: dict[str, str | None]) -> dict[str, str]:
    return {name: path for name, path in locked.items() if path is not None}


def _barred(
    homework: Homework, trace: Trace, ends: dict[str, int], flags: list[str]
) -> Iterable[tuple[str, str]]:
    for cell in homework.cells:
        part = homework.part(cell.grade_id or "")
        for name in cell.defines if part in ends else ():
            try:
                found = trace.origin(name, ends[part])
            except Tangled:
                flags.append(f"cell {cell.grade_id}: too entangled to be followed")
                continue
            if found is not None:
                path, where = found
                yield part, f"{name} uses {path} ({where}). The task is to write this part yourself."


def _flags(
    trees: list[tuple[str, ast.Module]], paths: dict[str, str], locked: dict[str, str | None]
) -> Iterable[str]:
    for name, tree in trees:
        try:
            for line, text in sorted(hints(tree, paths, locked)):
                yield f"cell {name}, line {line}: {text}"
        except RecursionError:
            yield f"cell {name}: nested too deeply to be looked through"
