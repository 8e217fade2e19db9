"""Which submissions are alike beyond what their class makes likely: a hint where to look, never a verdict.

Code is compared as its syntax tree says it: names, comments, strings, type hints, layout and the order of
definitions do not count, and what the instructor handed out is taken away. Two answers to one part are as
alike as their longest common subsequence of tokens is long (RapidFuzz's normalised Indel similarity, 0 to 1).

How much that says depends on the class. Everybody writes an answer of one line alike, so the evidence of a
part is how rare such likeness is in this class: -log p with p = (pairs at least as alike) / (pairs). A pair's
evidence is the sum over its parts. It is compared with what the sum would be if everybody had picked each
part from the class's answers independently of the others (the convolution of the parts' distributions), and a
pair is reported if at most `EXPECTED` pairs of such a class would reach as much. So a class is measured by
itself: what a large part of it shares is not reported, nor is anything in a class below `SMALLEST`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from ganlib.grading.parsing import parse

if TYPE_CHECKING:
    from ganlib.grading.homework import Homework

ALIKE = 0.8  # below this likeness of two answers a part is no evidence, however rare it is
SHORTEST = 8  # tokens; an answer with fewer is left out
LONGEST = 20_000  # characters of one cell that are looked at
EXPECTED = 0.01  # chance pairs per class that may be reported
SMALLEST = 8  # students
STEP = 0.05  # width of the bins in which evidence is added up, nats

Answers = Mapping[str, str]


@dataclass(frozen=True)
class Pair:
    """Two students whose submissions are alike, and how unusual that is.

    likeness: share of their tokens that align, in [0, 1], over all parts that both wrote; parts: the same for
    each part that counts as evidence; expected: how many pairs as unusual a class of this size has by chance.
    """

    students: tuple[str, str]
    likeness: float
    parts: dict[str, float]
    expected: float


def answers(notebook: Mapping, homework: Homework) -> dict[str, str]:
    """What a student wrote, normalised, by part: solution cells by grade_id, added code cells as "own cells".

    Locked cells, test cells and every line that was handed out are left out. The values are what `similar`
    compares.
    """
    handed_out = _handed_out(homework)
    found: dict[str, list[str]] = {}
    for cell in notebook["cells"]:
        meta = cell["metadata"].get("nbgrader", {})
        if meta.get("solution") or (not meta and cell["cell_type"] == "code"):
            lines = _lines(cell["cell_type"], "".join(cell["source"])[:LONGEST])
            part = meta.get("grade_id", "own cells")
            found.setdefault(part, []).extend(line for line in lines if line not in handed_out)
    return {part: "\n".join(lines) for part, lines in found.items() if lines}


@lru_cache(maxsize=4)
def _handed_out(homework: Homework) -> frozenset[str]:
    kinds = ("solution", "written", "text")
    given = [(cell.cell_type, cell.released) for cell in homework.cells if cell.kind in kinds]
    return frozenset(line for cell_type, source in given for line in _lines(cell_type, source))


def normalised(source: str) -> list[str]:
    """The code's statements, one a line, with everything removed that is easily changed without a thought.

    Code that Python cannot parse is taken line by line as it stands, without its comments.
    """
    try:
        tree = parse(source)
        tree = _Plain(tree).visit(tree)
        tree.body.sort(key=lambda node: ast.unparse(node) if isinstance(node, _DEFINITIONS) else "")
        text = ast.unparse(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # hostile nesting ends in the last two
        text = re.sub(r"#.*", "", source)
    return [line.strip() for line in text.splitlines() if line.strip()]


def similar(class_answers: Mapping[str, Answers]) -> list[Pair]:
    """The pairs of students that stand out, the most unusual first.

    class_answers: what `answers` returned for each student.
    """
    import numpy as np

    students = sorted(class_answers)
    if len(students) < SMALLEST:
        return []
    first, second = np.triu_indices(len(students), 1)
    evidence, aligned, length = (np.zeros(len(first)) for _ in range(3))
    chance = np.ones(1)  # distribution of the evidence, in steps of STEP
    likenesses = {}
    for part in sorted({part for texts in class_answers.values() for part in texts}):
        texts, sizes = _as_characters([class_answers[student].get(part, "") for student in students])
        both = (sizes[first] >= SHORTEST) & (sizes[second] >= SHORTEST)
        likeness = np.where(both, _likeness(texts)[first, second], 0.0)
        together = both * (sizes[first] + sizes[second])
        # The share of all pairs that are at least as alike, ties counted.
        rarity = 1 - np.searchsorted(np.sort(likeness), likeness, side="left") / len(first)
        steps = np.where(likeness >= ALIKE, -np.log(rarity) / STEP, 0).astype(int)
        chance = np.convolve(chance, np.bincount(steps) / len(first))
        evidence += steps
        aligned += likeness * together
        length += together
        likenesses[part] = likeness
    at_least = np.cumsum(chance[::-1])[::-1]
    expected = len(first) * at_least[evidence.astype(int)]
    likeness = aligned / np.maximum(length, 1)
    chosen = np.flatnonzero(expected <= EXPECTED)
    return [
        Pair(
            students=(students[first[i]], students[second[i]]),
            likeness=float(likeness[i]),
            parts={part: float(x[i]) for part, x in likenesses.items() if x[i] >= ALIKE},
            expected=float(expected[i]),
        )
        for i in chosen[np.lexsort((-likeness[chosen], expected[chosen]))]
    ]


def _likeness(texts: list[str]):
    from rapidfuzz.distance import Indel
    from rapidfuzz.process import cdist

    return cdist(texts, texts, scorer=Indel.normalized_similarity, workers=-1)


def _as_characters(texts: list[str]):
    """Each text as a string with one character per token, and its number of tokens."""
    import numpy as np

    characters: dict[str, str] = {}
    encoded = []
    for text in texts:
        tokens = re.findall(r"\w+|[^\w\s]", text)
        encoded.append("".join(characters.setdefault(t, chr(0x10000 + len(characters))) for t in tokens))
    return encoded, np.array([len(text) for text in encoded])


def _lines(cell_type: str, source: str) -> list[str]:
    if cell_type == "code":
        return normalised(source)
    return [" ".join(re.findall(r"\w+", line.lower())) for line in source.splitlines() if line.strip()]


_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class _Plain(ast.NodeTransformer):
    """Gives every name that the code itself binds the same name; drops docstrings, type hints, texts."""

    def __init__(self, tree: ast.AST) -> None:
        self.own = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.arg):
                self.own.add(node.arg)
            elif isinstance(node, _DEFINITIONS):
                self.own.add(node.name)
            elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
                self.own.add(node.id)
            elif isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
                self.own.add(node.attr)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if getattr(node, "annotation", None) is not None and not isinstance(node, ast.AnnAssign):
            node.annotation = None
        return super().generic_visit(node)

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = "v" if node.id in self.own else node.id
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        return ast.arg("v", None)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = "v" if node.attr in self.own else node.attr
        return self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        return ast.Constant("s") if isinstance(node.value, (str, bytes)) else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.AST:
        return ast.Constant("s")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return self.generic_visit(ast.Assign([node.target], node.value, lineno=node.lineno))

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def _definition(self, node):
        node.name, node.returns = "v", None
        node = self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    visit_FunctionDef = visit_AsyncFunctionDef = _definition

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = "v"
        node = self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node
