"""The instructor's notebook as the grader sees it: cells, parts and points, and what nbgrader makes of it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganlib.grading.parsing import parse

if TYPE_CHECKING:
    from nbformat import NotebookNode
    from traitlets.config import Config


@dataclass(frozen=True)
class Cell:
    """One cell of the homework.

    kind: "setup" (locked, no points), "solution" (the student writes code), "test" (points by machine),
    "written" (points by a person) or "text" (all else, demonstrations in code among it).
    source: with hidden tests, without solutions; released: what the student was given. defines: the names
    that a solution cell is to define: those in it as released or, if that has none, those of the solution.
    grade_id is None only for text; cell_id is the notebook format's own name of the cell.
    """

    grade_id: str | None
    cell_id: str | None
    kind: str
    cell_type: str
    source: str
    released: str
    defines: tuple[str, ...] = ()
    points: float = 0.0


class Homework:
    """A notebook of the course, ready to hold a submission. Made by `load`; travels as `to_json`."""

    def __init__(
        self, name: str, notebook: Mapping[str, Any], released: list[str], defines: list[list[str]]
    ) -> None:
        self.name = name
        self._json = {"name": name, "notebook": notebook, "released": released, "defines": defines}
        self.cells = [_cell(*parts) for parts in zip(notebook["cells"], released, defines, strict=True)]
        self._check()

    @classmethod
    def load(cls, path: Path | str, config: Config | None = None) -> Homework:
        """Read `<course>/source/<assignment>/<name>.ipynb`.

        config: the course's nbgrader settings, which say what stands in a solution's place; if left out,
        the `nbgrader_config.py` of the course folder counts, if it is there. Raises ValueError as
        `from_notebook` does.
        """
        import nbformat

        path = Path(path)
        try:
            notebook = nbformat.read(path, as_version=4)
        except (OSError, ValueError) as error:
            raise ValueError(f"path: {path} is no readable notebook ({error})") from error
        if config is None:
            config = _course_config(path.resolve().parents[2])
        return cls.from_notebook(notebook, path.stem, config)

    @classmethod
    def from_notebook(cls, notebook: Mapping[str, Any], name: str, config: Config | None = None) -> Homework:
        """Apply what nbgrader applies on release, up to the point where it fills its gradebook.

        So cells, points and checksums agree with the gradebook's, and nbgrader accepts the result as one of
        its own autograded notebooks. Raises ValueError if nbgrader would refuse the notebook, if two cells
        share an id, or if a test cell uses a student's function without an `ask_...` function between.
        """
        import nbformat
        from nbgrader import preprocessors as steps
        from nbgrader.nbgraderformat import MetadataValidator

        kept = nbformat.from_dict(copy.deepcopy(dict(notebook)))
        try:
            MetadataValidator().validate_nb(kept)
            for step in (
                steps.LockCells,
                steps.ClearSolutions,
                steps.ClearOutput,
                steps.ComputeChecksums,
            ):
                kept, _ = step(config=config).preprocess(kept, {})
            released, _ = steps.ClearHiddenTests(config=config).preprocess(copy.deepcopy(kept), {})
        except (
            Exception
        ) as error:  # nbgrader raises RuntimeError, ValueError, jsonschema's errors and its own
            raise ValueError(f"notebook: nbgrader refuses {name}: {error}") from error
        texts = [cell.source for cell in released.cells]
        originals = ["".join(cell["source"]) for cell in notebook["cells"]]
        pairs = zip(texts, originals, strict=True)
        return cls(name, _plain(kept), texts, [defined_names(a) or defined_names(b) for a, b in pairs])

    def _check(self) -> None:
        for key in ("grade_id", "cell_id"):
            names = [getattr(cell, key) for cell in self.cells if getattr(cell, key) is not None]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"notebook: {self.name} has more than one cell with the {key} {twice[0]!r}")
        for cell in self.cells:
            if cell.kind == "test" and (direct := _free_names(cell) & self.contract):
                raise ValueError(
                    f"notebook: test cell {cell.grade_id!r} of {self.name} uses {min(direct)} directly; "
                    "the judge has only the ask_... functions of a locked cell"
                )

    @cached_property
    def points(self) -> dict[str, float]:
        """Points of every graded cell, machine's and person's, by grade_id, in the notebook's order."""
        return {cell.grade_id: cell.points for cell in self.cells if cell.kind in ("test", "written")}

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts that have points, in the notebook's order."""
        return tuple(dict.fromkeys(self.part(grade_id) for grade_id in self.points))

    @cached_property
    def contract(self) -> frozenset[str]:
        """The names that a student is asked to define."""
        return frozenset(name for cell in self.cells for name in cell.defines)

    @staticmethod
    def part(grade_id: str) -> str:
        """The part that a cell belongs to: `generator-norm` and `generator` belong to `generator`."""
        return grade_id.split("-", 1)[0]

    def notebook(self) -> NotebookNode:
        """A fresh copy as nbgrader would have it before it is executed: no solutions, all tests."""
        import nbformat

        return nbformat.from_dict(copy.deepcopy(self._json["notebook"]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values, hidden tests among them: for the judge and the instructor only."""
        return self._json

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Homework:
        """The homework that `to_json` was called on; neither nbgrader nor nbformat is imported."""
        return cls(value["name"], value["notebook"], value["released"], value["defines"])


def defined_names(source: str) -> list[str]:
    """Names that a cell's top level binds by def, class or assignment; none if it is not Python."""
    try:
        statements = parse(source).body
    except (SyntaxError, ValueError):
        return []
    names = []
    for statement in statements:
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(statement.name)
        elif isinstance(statement, ast.Assign | ast.AnnAssign):
            targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
            names += [node.id for t in targets for node in ast.walk(t) if isinstance(node, ast.Name)]
    return names


def _cell(cell: Mapping[str, Any], released: str, defines: list[str]) -> Cell:
    meta = cell["metadata"].get("nbgrader", {})
    graded, solution = bool(meta.get("grade")), bool(meta.get("solution"))
    if meta.get("task"):
        raise ValueError(
            f"notebook: cell {meta.get('grade_id')!r} is a task cell; use a written answer instead"
        )
    if not (graded or solution or meta.get("locked")):
        kind = "text"
    elif graded:
        kind = "written" if solution else "test"
    else:
        kind = "solution" if solution else "setup"
    return Cell(
        grade_id=None if kind == "text" else meta["grade_id"],
        cell_id=cell.get("id", meta.get("grade_id")),
        kind=kind,
        cell_type=cell["cell_type"],
        source=cell["source"],
        released=released,
        defines=tuple(defines) if kind == "solution" else (),
        points=float(meta.get("points", 0)) if graded else 0.0,
    )


def _free_names(cell: Cell) -> set[str]:
    """Names that a cell reads and never binds. Raises ValueError if the cell is not Python."""
    try:
        names = [node for node in ast.walk(parse(cell.source)) if isinstance(node, ast.Name)]
    except SyntaxError as error:
        raise ValueError(f"notebook: test cell {cell.grade_id!r} is not plain Python: {error}") from error
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)} | set(
        defined_names(cell.source)
    )
    return {node.id for node in names} - bound


def _course_config(folder: Path) -> Config | None:
    from traitlets.config import PyFileConfigLoader

    if not (folder / "nbgrader_config.py").is_file():
        return None
    return PyFileConfigLoader("nbgrader_config.py", str(folder)).load_config()


def _plain(value: Any) -> Any:
    """Without nbformat's classes."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
