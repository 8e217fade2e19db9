"""Disguised copies stand out from a class of independent answers, and honest likeness does not."""

import ast
import json
import random
import re
from pathlib import Path

import pytest

from ganlib.grading import similarity
from ganlib.grading.homework import Homework

ROOT = Path(__file__).resolve().parents[2]
HOMEWORKS = ("dcgan", "wgan_gp")


class Course:
    """A homework, and for each of its solution cells the sources that tests/assignments/ has."""

    def __init__(self, name):
        path = ROOT / "assignments" / "source" / name / f"{name}.ipynb"
        self.notebook = json.loads(path.read_text(encoding="utf-8"))
        self.homework = Homework.load(path)
        self.solution = {
            cell["metadata"]["nbgrader"]["grade_id"]: re.sub(
                r" *### (BEGIN|END) SOLUTION\n?", "", "".join(cell["source"])
            )
            for cell in self.notebook["cells"]
            if cell["cell_type"] == "code" and cell["metadata"].get("nbgrader", {}).get("solution")
        }
        folder = ROOT / "tests" / "assignments" / name
        self.variants = {
            path.stem: dict(re.findall(r"^# %% (\S+)\n(.*?)(?=^# %% |\Z)", path.read_text(), re.M | re.S))
            for path in sorted(folder.glob("*/*.py"))
        }
        self.right = {path.stem for path in folder.glob("right/*.py")}

    def submission(self, sources, own_cell=""):
        cells = []
        for cell in self.notebook["cells"]:
            part = cell["metadata"].get("nbgrader", {}).get("grade_id")
            changed = {"source": (self.solution | sources)[part]} if part in self.solution else {}
            cells.append(cell | changed)
        if own_cell:
            cells.append({"cell_type": "code", "metadata": {}, "source": own_cell, "outputs": []})
        return {"cells": cells}

    def mixed(self, rng):
        """Somebody who writes each part in a way of their own."""
        return {
            part: rng.choice([v[part] for v in self.variants.values() if part in v]) for part in self.solution
        }

    def similar(self, submissions):
        return similarity.similar(
            {student: similarity.answers(x, self.homework) for student, x in submissions.items()}
        )


@pytest.fixture(scope="module", params=HOMEWORKS)
def course(request):
    return Course(request.param)


class Renamed(ast.NodeTransformer):
    """Gives every argument and local variable another name."""

    def __init__(self, tree):
        self.names = {x.arg for x in ast.walk(tree) if isinstance(x, ast.arg)}
        self.names |= {
            x.id for x in ast.walk(tree) if isinstance(x, ast.Name) and isinstance(x.ctx, ast.Store)
        }

    def visit_arg(self, node):
        return ast.arg(f"my_{node.arg}")

    def visit_Name(self, node):
        return ast.Name(f"my_{node.id}" if node.id in self.names else node.id, node.ctx)


def disguised(source):
    """The same code with other names, comments, layout and hints, its functions in another order."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return source
    tree = Renamed(tree).visit(tree)
    tree.body.reverse()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            node.body.insert(0, ast.Expr(ast.Constant("All of this is my own work.")))
            node.returns = ast.Name("float", ast.Load())
    lines = ast.unparse(ast.fix_missing_locations(tree)).splitlines()
    return "\n\n".join(f"{line}  # line {i}, by me" for i, line in enumerate(lines))


def test_differently_written_answers_are_not_reported(course):
    everyone = {name: course.submission(sources) for name, sources in course.variants.items()}
    assert course.similar(everyone) == []
    assert course.similar({name: everyone[name] for name in course.right}) == []


@pytest.mark.parametrize("size", [12, 60])
def test_a_disguised_copy_is_found_and_nobody_else(course, size):
    rng = random.Random(size)
    sources = {f"student{i:02}": course.mixed(rng) for i in range(size)}
    sources["student04"] |= course.variants["functional"]
    sources["copy"] = {part: disguised(text) for part, text in sources["student04"].items()}
    assert course.similar({s: course.submission(x) for s, x in list(sources.items())[:-1]}) == []
    (pair,) = course.similar({s: course.submission(x, f"# {s}\nprint(1)") for s, x in sources.items()})
    assert set(pair.students) == {"copy", "student04"}
    assert pair.likeness > 0.98 and pair.expected <= similarity.EXPECTED
    assert len(pair.parts) >= len(course.solution) - 1  # one answer may be too short to say anything


def test_what_was_handed_out_and_empty_answers_say_nothing(course):
    released = course.notebook | {
        "cells": [
            cell | {"source": original.released}
            for cell, original in zip(course.notebook["cells"], course.homework.cells, strict=True)
        ]
    }
    assert similarity.answers(released, course.homework) == {}
    assert course.similar({f"student{i}": released for i in range(30)}) == []


def a_class(size, seed):
    """Answers of one part that everybody writes alike, and three that everybody writes alone."""
    rng = random.Random(seed)
    short = similarity.normalised("def loss(x):\n    return F.softplus(-x).mean() + F.softplus(x).mean()")
    return {
        f"student{i}": {"short": "\n".join(short)}
        | {part: " ".join(rng.choices("abcdefghijklmnop", k=60)) for part in ("one", "two", "three")}
        for i in range(size)
    }


def test_one_short_answer_shared_by_all_is_no_hint():
    everyone = a_class(40, 1)
    assert similarity.similar(everyone) == []
    everyone["student7"] = everyone["student3"]
    (pair,) = similarity.similar(everyone)
    assert pair.students == ("student3", "student7") and pair.likeness == 1


def test_a_class_too_small_to_compare_with_gets_no_hints():
    everyone = a_class(similarity.SMALLEST - 1, 2)
    everyone["student1"] = everyone["student0"]
    assert similarity.similar(everyone) == []
    everyone |= {"one more": a_class(1, 3)["student0"]}
    assert len(similarity.similar(everyone)) == 1


@pytest.mark.parametrize(
    "source", ["def f(:", "(" * 5000, "x = " + "-" * 9000 + "1", "\0", "+".join("x" * 9000)]
)
def test_no_source_is_too_odd(source):
    assert isinstance(similarity.normalised(source), list)


def test_what_is_the_same_and_what_is_not():
    def equal(a, b):
        return similarity.normalised(a) == similarity.normalised(b)

    assert equal(
        "def f(x: int) -> int:\n    'Text.'\n    return x + 1  # more", "def g(y):\n\n    return y+1"
    )
    assert equal(
        "import a\ndef f(): return 1\ndef g(): return 2", "import a\ndef p(): return 2\ndef q(): return 1"
    )
    assert not equal("def f(x): return x + 1", "def f(x): return x + 2")
    assert not equal("y = torch.relu(x)", "y = torch.tanh(x)")
