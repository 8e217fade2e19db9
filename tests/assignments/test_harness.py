"""The harness grades as the class is graded, and no submission reaches another."""

import json

import harness
import pytest


@pytest.fixture
def notebook(tmp_path):
    """A solution cell that defines f, and three test cells of 1, 2 and 4 points."""

    def cell(grade_id, source, points=None, locked=False):
        meta = {"grade_id": grade_id, "schema_version": 3, "task": False, "grade": points is not None}
        meta |= {"solution": points is None and not locked, "locked": locked or points is not None}
        meta |= {} if points is None else {"points": points}
        return {
            "id": grade_id,
            "cell_type": "code",
            "metadata": {"nbgrader": meta},
            "source": source.splitlines(keepends=True),
            "execution_count": None,
            "outputs": [],
        }

    cells = [
        cell("setup", "SEED = 0\ndef ask_f():\n    return f()", locked=True),
        cell("f", "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"),
        cell("f-runs", "ask_f()", 1),
        cell("f-value", "assert ask_f() == 1", 2),
        cell("other-part", "LIMIT = 3\nassert LIMIT and SEED != 7", 4),
    ]
    path = tmp_path / "tiny.ipynb"
    content = {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("source", "lost"),
    [
        ("def f():\n    return 1", {}),
        ("def f():\n    return 2", {"f": 2}),
        ("def f(:", {"f": 3}),
        ("raise SystemExit", {"f": 3}),
        ("import os\n\nos._exit(0)", {"f": 3}),
        ("import sys\n\n\ndef f():\n    print('!', file=sys.stderr)\n    return 1", {}),
    ],
    ids=["right", "wrong", "syntax", "exit", "end", "stderr"],
)
def test_a_test_cell_counts_whole_or_not_at_all(notebook, source, lost):
    assert harness.lost(notebook, harness.grade(notebook, {"f": source})) == lost


def test_the_report_tells_what_the_student_reads(notebook):
    report = harness.run(notebook, {"f": "def f():\n    return 1 / 0"})
    assert set(report.errors) == {"f-runs", "f-value"} and set(report.seconds) == set(report.points)
    assert report.errors["f-value"].startswith("ZeroDivisionError: division by zero\n  in cell f, line 2, f")


def test_the_skeleton_raises_where_the_solution_was(notebook):
    assert harness.skeleton(notebook) == {"f": "def f():\n    raise NotImplementedError"}
    assert harness.lost(notebook, harness.grade(notebook, harness.skeleton(notebook))) == {"f": 3}


def test_a_submission_leaves_nothing_behind(notebook):
    vandal = "import torch, json\n\ntorch.relu = json.loads = None\n\n\ndef f():\n    return 2"
    assert harness.lost(notebook, harness.grade(notebook, {"f": vandal})) == {"f": 3}
    clean = "import torch, json\n\n\ndef f():\n    return 1 if torch.relu and json.loads else 2"
    assert harness.lost(notebook, harness.grade(notebook, {"f": clean})) == {}


def test_edits_change_one_copy(notebook):
    edited = harness.grade(notebook, edits={"other-part": [("LIMIT = 3", "LIMIT = 0")]})
    assert harness.lost(notebook, edited) == {"other": 4}
    assert harness.lost(notebook, harness.grade(notebook)) == {}


def test_the_seed_reaches_the_tests(notebook):
    assert harness.lost(notebook, harness.grade(notebook, seed=7)) == {"other": 4}


def test_what_does_not_fit_the_notebook_is_refused(notebook):
    with pytest.raises(ValueError, match="no solution cell 'g'"):
        harness.grade(notebook, {"g": ""})
    with pytest.raises(ValueError, match="no solution cell 'f-value'"):
        harness.grade(notebook, {"f-value": ""})
    with pytest.raises(ValueError, match="'LIMIT = 9' does not occur"):
        harness.grade(notebook, edits={"other-part": [("LIMIT = 9", "")]})


def test_a_variant_file_is_read_by_cells(tmp_path):
    (tmp_path / "name.py").write_text(
        "# breaks: f, g\n# What is wrong.\n# %% f\nx = 1\n# %% g\ny = 2\n", encoding="utf-8"
    )
    (variant,) = harness.load_variants(tmp_path)
    assert variant.name == "name" and variant.note == "What is wrong."
    assert variant.breaks == {"f", "g"}
    assert variant.replacements == {"f": "x = 1\n", "g": "y = 2\n"}


@pytest.mark.parametrize("homework", ["dcgan", "wgan_gp"])
def test_what_breaks_beside_a_mistake_is_never_the_same_twice(homework):
    wrong = harness.load_variants(harness.ROOT / "tests" / "assignments" / homework / "wrong")
    made = harness.triples(wrong)
    assert len(made) < 0.75 * len(wrong)
    for variant in wrong:
        both = [each for each in made if variant.name in each.name.split("+")]
        assert len(both) == 2 and both[0].breaks & both[1].breaks == variant.breaks
        assert all(variant.replacements.items() <= each.replacements.items() for each in both)
