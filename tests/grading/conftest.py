"""A homework that needs only numpy, and submissions of it, for the tests of grading.

`tiny` (fixture) is the homework in three parts and a written question: see `Tiny`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

# A line `# %% grade_id kind [points]` opens each cell.
CELLS = '''
# %% intro text
# A tiny homework: `scale` (1 point), `centre` (2), `count` (4), a question (3).
# %% setup setup
# Locked: the tests talk to your functions only through the ask_... functions of this cell.
import numpy as np

SEED = 0  # while grading: another number for every student


def check(condition, message):
    """Fails with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def same(came, wanted, tolerance=1e-9):
    """True if both have the same shape and differ by at most the tolerance."""
    came, wanted = np.asarray(came, dtype=float), np.asarray(wanted, dtype=float)
    return came.shape == wanted.shape and np.allclose(came, wanted, rtol=tolerance, atol=tolerance)


def ask_scale(values, factor=2.0):
    """Your scale on an array."""
    return scale(np.array(values), factor)


def ask_centre(rows):
    """Your centre on a matrix."""
    return centre(np.array(rows))


def ask_count(text):
    """Your count on a text."""
    return count(text)
# %% scale solution
def scale(values, factor):
    """The array `values` times the number `factor`."""
    ### BEGIN SOLUTION
    return values * factor
    ### END SOLUTION
# %% scale-values test 1
check(same(ask_scale([1.0, -2.0, 0.5], 3.0), [3.0, -6.0, 1.5]), "Every entry is multiplied by the factor.")
# %% centre solution
def centre(rows):
    """The matrix `rows` (n, m) less the mean of each column."""
    ### BEGIN SOLUTION
    return rows - rows.mean(axis=0)
    ### END SOLUTION
# %% centre-columns test 2
came = ask_centre([[1.0, 10.0], [3.0, 30.0]])
wanted = [[-1.0, -10.0], [1.0, 10.0]]
check(same(came, wanted), f"The columns' means are taken off.\\n  expected: {wanted}\\n  came:     {came}")
### BEGIN HIDDEN TESTS
rows = np.random.default_rng([SEED, 1]).normal(size=(5, 3))
wanted = rows - np.ones((5, 5)) @ rows / 5
check(same(ask_centre(rows), wanted), "another shape: a mean for each column")
### END HIDDEN TESTS
# %% count solution
def count(text):
    """How many different words the text holds; words are separated by spaces."""
    ### BEGIN SOLUTION
    return len(set(text.split()))
    ### END SOLUTION
# %% count-words test 1
wanted = 4
check(ask_count("to be or not to be") == wanted, "Each word counts once.")
# %% count-hidden test 3
### BEGIN HIDDEN TESTS
rng = np.random.default_rng([SEED, 2])
for _ in range(3):
    drawn = rng.integers(0, 30, size=20)
    wanted = int((np.bincount(drawn, minlength=30) > 0).sum())
    check(ask_count(" ".join(f"w{i}" for i in drawn)) == wanted, "words in a long text")
### END HIDDEN TESTS
# %% demo text
print(scale(np.array([1.0, 2.0]), 2.0))
# %% reason written 3
*Why does a mean not change when all values are shifted?*
'''

_ROLES = {  # what nbgrader writes into a cell's metadata: grade, solution, locked
    "setup": (False, False, True),
    "solution": (False, True, False),
    "test": (True, False, True),
    "written": (True, True, False),
}
_SOLUTION = re.compile(r"^([ \t]*)### BEGIN SOLUTION.*?### END SOLUTION[^\n]*", re.DOTALL | re.MULTILINE)
_HIDDEN = re.compile(r"[^\n]*### BEGIN HIDDEN TESTS.*?### END HIDDEN TESTS[^\n]*\n?", re.DOTALL)


class Tiny:
    """The tiny homework: what the instructor holds and what a student hands in, as plain notebook dicts.

    Parts: scale (1 point, visible test), centre (2, visible and hidden), count (1 visible, 3 hidden), and a
    written question of 3 points.
    """

    name = "tiny"

    def __init__(self) -> None:
        self.cells = []
        for head, source in re.findall(r"^# %% (.+)\n((?:(?!# %%).*\n?)*)", CELLS, flags=re.MULTILINE):
            grade_id, kind, *points = head.split()
            self.cells.append((grade_id, kind, float(points[0]) if points else None, source.strip("\n")))
        self.points = {grade_id: points for grade_id, kind, points, _ in self.cells if kind == "test"}
        self.right = {grade_id: source for grade_id, kind, _, source in self.cells if kind == "solution"}

    def source(self) -> dict:
        """The instructor's notebook: solutions and hidden tests inside."""
        return self._notebook(lambda source: source)

    def released(self) -> dict:
        """What the student receives: neither solutions nor hidden tests."""
        return self._notebook(self._release)

    def submission(self, solves: Iterable[str] = (), replaced: Mapping[str, str] | None = None) -> dict:
        """What a student hands in: `solves` are solved rightly, other solution cells are as in `replaced`."""
        sources = {name: self.right[name] for name in solves} | dict(replaced or {})
        notebook = self.released()
        for cell in notebook["cells"]:
            grade_id = cell["metadata"].get("nbgrader", {}).get("grade_id")
            cell["source"] = sources.pop(grade_id, cell["source"])
        if sources:
            raise ValueError(f"replaced: no such cells: {sorted(sources)}")
        return notebook

    def earned(self, solves: Iterable[str]) -> dict[str, float]:
        """Points of each test cell for someone who solves these parts and no other."""
        parts = set(solves)
        return {name: best if name.split("-")[0] in parts else 0.0 for name, best in self.points.items()}

    def write_source(self, course: Path) -> Path:
        """Writes source/tiny/tiny.ipynb into the course folder; the path of the notebook."""
        path = course / "source" / self.name / f"{self.name}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(self.source()), encoding="utf-8")
        return path

    def write_submission(self, course: Path, student: str, notebook: dict | None = None) -> Path:
        """Writes submitted/<student>/tiny/tiny.ipynb, all parts solved by default; the path of its folder."""
        folder = course / "submitted" / student / self.name
        folder.mkdir(parents=True)
        notebook = self.submission(self.right) if notebook is None else notebook
        (folder / f"{self.name}.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
        return folder

    def _release(self, source: str) -> str:
        return _HIDDEN.sub(
            "", _SOLUTION.sub(r"\1# Your code goes here.\n\1raise NotImplementedError", source)
        )

    def _notebook(self, change) -> dict:
        cells = []
        for index, (grade_id, kind, points, source) in enumerate(self.cells):
            cell = {"id": f"cell-{index}", "cell_type": "code", "metadata": {}, "source": change(source)}
            if grade_id in ("intro", "reason"):
                cell["cell_type"] = "markdown"
            else:
                cell |= {"execution_count": None, "outputs": []}
            if kind in _ROLES:
                grade, solution, locked = _ROLES[kind]
                cell["metadata"]["nbgrader"] = {
                    "grade_id": grade_id,
                    "schema_version": 3,
                    "grade": grade,
                    "solution": solution,
                    "locked": locked,
                    "task": False,
                } | ({"points": points} if points else {})
            cells.append(cell)
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    """A homework that needs only numpy; see `Tiny`."""
    return Tiny()
