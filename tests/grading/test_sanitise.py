"""From whatever was handed in to a notebook that is safe to grade, or a reason why there is none."""

from __future__ import annotations

import copy
import json

import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ganlib.grading import student_notebook
from ganlib.grading.homework import Homework
from ganlib.grading.sanitise import Sanitised, Unreadable, sanitise

STUB = "*Your answer goes here.*"


@pytest.fixture(scope="module")
def homework(tiny):
    """The tiny homework; its stubs are those of nbgrader's defaults."""
    return Homework.from_notebook(tiny.source(), "tiny")


@pytest.fixture
def submission(homework, tiny):
    """A notebook as a student hands it in, all solved; the tests spoil it."""
    notebook = tiny.submission(tiny.right)
    for cell, ours in zip(notebook["cells"], homework.cells, strict=True):
        if ours.kind == "written":
            cell["source"] = "Because it is a sum."
        elif ours.kind != "solution":
            cell["source"] = ours.released
    return notebook


def clean(homework, notebook, name="tiny.ipynb", **files):
    """Sanitised, and checked for what always holds."""
    data = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
    came = sanitise(homework, {name: data, **files})
    check(homework, came)
    return came


def check(homework, came):
    """Each cell of the homework once, locked ones as they were, each behind the answers before it."""
    nbformat.validate(came.notebook)
    true = {c.metadata.nbgrader.grade_id: c for c in homework.notebook().cells if "nbgrader" in c.metadata}
    mine = [cell for cell in came.notebook.cells if "nbgrader" in cell.metadata]
    order = [cell.metadata.nbgrader.grade_id for cell in mine]
    assert sorted(order) == sorted(true)
    for cell in mine:
        wanted = true[cell.metadata.nbgrader.grade_id]
        assert cell.metadata == wanted.metadata and cell.cell_type == wanted.cell_type
        if not cell.metadata.nbgrader.solution:
            assert cell == wanted
    for index, cell in enumerate(homework.cells):
        if cell.kind == "test":
            before = {c.grade_id for c in homework.cells[:index] if c.kind in ("solution", "setup")}
            assert before <= set(order[: order.index(cell.grade_id)])
    first_code = next(cell for cell in came.notebook.cells if cell.cell_type == "code")
    assert first_code.metadata.nbgrader.grade_id == "setup"
    assert all(not c.get("outputs") and c.get("execution_count") is None for c in came.notebook.cells)
    assert all(isinstance(remark, str) and remark.isprintable() for remark in came.remarks)


def answer(came, grade_id):
    """Source of one cell of the homework."""
    return next(
        c.source for c in came.notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id
    )


def own(came):
    """Sources of the student's own code cells."""
    return [c.source for c in came.notebook.cells if not c.metadata.get("nbgrader") and c.cell_type == "code"]


def find(notebook, grade_id):
    """Index of a cell in the submission."""
    ids = [cell["metadata"].get("nbgrader", {}).get("grade_id") for cell in notebook["cells"]]
    return ids.index(grade_id)


def test_an_honest_notebook_stays_as_it_is(homework, submission, tiny):
    came = clean(homework, submission)
    assert came.remarks == ()
    assert [c.source for c in came.notebook.cells if "nbgrader" not in c.metadata] == [
        cell.source for cell in homework.cells if cell.kind == "text"
    ]
    assert {name: answer(came, name) for name in tiny.right} == tiny.right
    assert answer(came, "reason") == "Because it is a sum."
    unsolved = copy.deepcopy(homework.notebook())
    for cell, ours in zip(unsolved.cells, homework.cells, strict=True):
        cell.source = ours.released
    assert clean(homework, unsolved).notebook == homework.notebook(), "nothing written: the skeleton"


# --- metadata and locked cells ---------------------------------------------------------------------


def test_metadata_is_the_instructors(homework, submission):
    for cell in submission["cells"]:
        cell["metadata"] |= {"tags": ["skip-execution", "raises-exception"], "editable": True, "hostile": 1}
        cell["metadata"].get("nbgrader", {}).update(points=100, grade=False, locked=False, solution=True)
        if cell["cell_type"] == "code":
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "x" * 1000}]
            cell["execution_count"] = 7
    submission["metadata"] = {"kernelspec": {"name": "evil", "display_name": "evil"}, "widgets": {}}
    came = clean(homework, submission)
    assert came.notebook.metadata == homework.notebook().metadata
    assert "scale-values: metadata changed (grade, locked, points, solution): ignored" in came.remarks
    assert "scale-values: tags removed (raises-exception, skip-execution)" in came.remarks


@pytest.mark.parametrize("spoil", ["edited", "deleted", "doubled", "markdown", "raw", "moved", "no id"])
@pytest.mark.parametrize("grade_id", ["setup", "centre-columns", "count-hidden"])
def test_locked_cells_come_back(homework, submission, spoil, grade_id):
    cells, index = submission["cells"], find(submission, grade_id)
    if spoil == "edited":
        cells[index]["source"] = "pass"
    elif spoil == "deleted":
        del cells[index]
    elif spoil == "doubled":
        cells.insert(0, copy.deepcopy(cells[index]) | {"id": "other", "source": "pass"})
    elif spoil == "moved":
        cells.insert(0 if grade_id != "setup" else len(cells), cells.pop(index))
    elif spoil == "no id":
        cells[index]["metadata"], cells[index]["id"] = {}, "new-id"
    else:
        cells[index] = {key: cells[index][key] for key in ("id", "metadata", "source")} | {"cell_type": spoil}
    came = clean(homework, submission)
    assert own(came) == [
        cell.source for cell in homework.cells if cell.kind == "text" and cell.cell_type == "code"
    ]
    assert any(grade_id in remark or "order" in remark for remark in came.remarks)


def test_all_tests_in_reverse_order_and_no_metadata_at_all(homework, submission, tiny):
    submission["cells"] = submission["cells"][::-1]
    came = clean(homework, submission)
    assert "the cells were in another order" in came.remarks
    for cell in submission["cells"]:
        cell["metadata"], cell["id"] = {}, f"x{submission['cells'].index(cell)}"
    came = clean(homework, submission)
    assert {name: answer(came, name) for name in tiny.right} == tiny.right


# --- answers ---------------------------------------------------------------------------------------


def test_a_split_solution_keeps_all_pieces_in_order(homework, submission):
    index = find(submission, "scale")
    piece = copy.deepcopy(submission["cells"][index])
    submission["cells"].insert(index, piece | {"id": "new", "source": "FACTOR = 2"})
    came = clean(homework, submission)
    sources = [cell.source for cell in came.notebook.cells]
    assert sources.index("FACTOR = 2") == sources.index(answer(came, "scale")) - 1
    assert "scale was there 2 times" in came.remarks


def test_of_copies_the_last_definition_counts_but_never_the_stub(homework, submission):
    index = find(submission, "scale")
    first = submission["cells"][index]
    stub = next(cell.released for cell in homework.cells if cell.grade_id == "scale")
    versions = ["def scale(values, factor): return 1", "def scale(values, factor): return 2", stub, "  \n"]
    submission["cells"][index + 1 : index + 1] = [
        copy.deepcopy(first) | {"id": f"v{i}", "source": source} for i, source in enumerate(versions)
    ]
    came = clean(homework, submission)
    assert answer(came, "scale") == versions[1]
    assert own(came)[:2] == [first["source"], versions[0]] and stub not in own(came)
    # An equal copy counts where it stands last.
    submission["cells"].insert(index + 3, copy.deepcopy(first) | {"id": "again"})
    assert answer(clean(homework, submission), "scale") == first["source"]


@pytest.mark.parametrize("cell_type", ["markdown", "raw"])
def test_a_solution_that_became_text_is_code_again(homework, submission, cell_type, tiny):
    cell = submission["cells"][find(submission, "count")]
    submission["cells"][find(submission, "count")] = {
        key: cell[key] for key in ("id", "metadata", "source")
    } | {"cell_type": cell_type}
    came = clean(homework, submission)
    assert answer(came, "count") == tiny.right["count"]
    assert f"count had become {cell_type}: read as code" in came.remarks


def test_a_deleted_solution_is_empty_and_its_function_is_found_elsewhere(homework, submission, tiny):
    del submission["cells"][find(submission, "scale")]
    came = clean(homework, submission)
    assert answer(came, "scale") == "", "a stub would overwrite what another cell defines"
    both = "X = 1\n\ndef helper():\n    pass\n\n" + tiny.right["scale"]
    submission["cells"].append(
        {"id": "z", "cell_type": "code", "metadata": {}, "source": both, "outputs": []}
    )
    came = clean(homework, submission)
    assert answer(came, "scale") == both
    assert "scale had lost its id: recognised by its content or place" in came.remarks


def test_a_moved_solution_stays_where_the_student_put_it(homework, submission):
    index = find(submission, "count")
    submission["cells"].insert(2, submission["cells"].pop(index))
    came = clean(homework, submission)
    ids = [cell.metadata.get("nbgrader", {}).get("grade_id") for cell in came.notebook.cells]
    assert ids.index("setup") < ids.index("count") < ids.index("scale")


def test_own_cells_stay_and_blank_ones_go(homework, submission):
    index = find(submission, "centre")
    texts = ["helper = 1\r\n# with a carriage return", "", " \n", "x = 'ünï\u2028code'\t\n\n"]
    for number, source in enumerate(texts):
        cell = {"id": f"own{number}", "cell_type": "code", "metadata": {"nbgrader": {"grade_id": "made-up"}}}
        submission["cells"].insert(index + number, cell | {"source": source, "outputs": []})
    came = clean(homework, submission)
    assert own(came)[:2] == [texts[0], texts[3]], "exactly as written"
    ids = [cell.id for cell in came.notebook.cells]
    assert "student-1" in ids and "student-2" in ids and len(set(ids)) == len(ids)
    assert ids == [cell.id for cell in clean(homework, submission).notebook.cells], "the same ids each time"


def test_no_code_of_the_student_comes_before_the_setup(homework, submission):
    first = {"id": "first", "cell_type": "code", "metadata": {}, "source": "import os", "outputs": []}
    submission["cells"].insert(0, first)
    assert own(clean(homework, submission))[0] == "import os"


def test_a_demonstration_that_the_student_changed_replaces_the_instructors(homework, submission):
    demo = next(cell for cell in submission["cells"] if cell["source"].startswith("print(scale"))
    demo["source"] = "print('mine')"
    assert own(clean(homework, submission)) == ["print('mine')"]


def test_a_written_answer_is_found_in_its_place(homework, submission):
    index, stub = find(submission, "reason"), homework.cells[-1].released
    cell = submission["cells"][index]
    cell["source"] = stub + "\n"
    assert answer(clean(homework, submission), "reason") == stub, "untouched: nbgrader gives it 0"
    cell["source"] = " "
    assert answer(clean(homework, submission), "reason") == stub
    beside = {"id": "b", "cell_type": "markdown", "metadata": {}, "source": "My answer."}
    cell["source"] = stub
    submission["cells"].append(beside)
    assert answer(clean(homework, submission), "reason") == "My answer."
    del submission["cells"][index]
    assert answer(clean(homework, submission), "reason") == "My answer."
    submission["cells"][-1] = beside | {"metadata": cell["metadata"]}
    submission["cells"].append(beside | {"id": "c", "metadata": cell["metadata"], "source": "And more."})
    assert answer(clean(homework, submission), "reason") == "My answer.\n\nAnd more."


def test_what_a_student_writes_as_text_cannot_run_in_the_instructors_browser(homework, submission):
    script = "<script>alert(1)</script>"
    submission["cells"][find(submission, "reason")]["source"] = f"yes {script}"
    for cell_type in ("markdown", "raw"):
        cell = {
            "id": cell_type,
            "cell_type": cell_type,
            "metadata": {"format": "text/html"},
            "source": script,
        }
        submission["cells"].insert(3, cell | {"attachments": {"a.svg": {"image/svg+xml": script}}})
    came = clean(homework, submission)
    text = json.dumps(came.notebook)
    assert "<script>" not in text and "alert(1)" in text and "attachments" not in text
    assert {cell.cell_type for cell in came.notebook.cells} == {"code", "markdown"}


# --- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Tiny.IPYNB", "work/tiny.ipynb", "homework (final) ü.ipynb"])
def test_a_renamed_notebook_is_taken_if_it_is_the_only_one(homework, submission, name):
    came = clean(homework, submission, name)
    assert came.remarks == (f"the notebook is called {name}",)


def test_which_of_several_notebooks_counts(homework, submission, tiny):
    begun = json.dumps(submission).encode()
    untouched = copy.deepcopy(submission)
    for cell, ours in zip(untouched["cells"], homework.cells, strict=True):
        cell["source"] = ours.released
    untouched = json.dumps(untouched).encode()
    foreign = json.dumps({"cells": [{"cell_type": "code", "source": "1"}], "nbformat": 4}).encode()

    def counts(**files):
        files = {name.replace("__", "/").replace("_ipynb", ".ipynb"): data for name, data in files.items()}
        came = sanitise(homework, files)
        check(homework, came)
        return answer(came, "scale") == tiny.right["scale"], came.remarks

    assert counts(tiny_ipynb=begun, other_ipynb=begun.replace(b"Because", b"As"))[0]
    assert counts(tiny_ipynb=untouched, copy_ipynb=begun) == (
        True,
        ("the notebook is called copy.ipynb", "not graded: tiny.ipynb"),
    )
    assert counts(a_ipynb=foreign, b_ipynb=begun)[0]
    assert counts(tiny_ipynb=b"{", b_ipynb=begun)[0]
    assert counts(a_ipynb=begun, b_ipynb=begun)[0], "equal copies are one"
    assert not counts(**{"tiny_ipynb": untouched, ".ipynb_checkpoints__tiny_ipynb": begun})[0]
    with pytest.raises(Unreadable, match=r"Which notebook is the homework\? .* not a.ipynb, b.ipynb"):
        counts(a_ipynb=begun, b_ipynb=begun.replace(b"Because", b"As"))


@pytest.mark.parametrize(
    "files, reason",
    [
        ({}, "no notebook tiny.ipynb among the files; handed in: nothing"),
        ({"tiny.zip": b"PK", "a\n.txt": b""}, "handed in: a�.txt, tiny.zip"),
        ({".ipynb_checkpoints/tiny.ipynb": b"{}"}, "no notebook"),
        ({"tiny.ipynb": b""}, "empty"),
        ({"tiny.ipynb": b"\0" * 5000}, "empty"),
        ({"tiny.ipynb": b"not a notebook"}, "not JSON"),
        ({"tiny.ipynb": b"\x89PNG\r\n\x1a\n\0\0"}, "not JSON"),
        ({"tiny.ipynb": b"<!DOCTYPE html><html>"}, "web page"),
        ({"tiny.ipynb": b'{"cells": [\n<<<<<<< HEAD\n'}, "merge conflict"),
        ({"tiny.ipynb": b'{"cells": [{"source": ["x'}, "ends in the middle"),
        ({"tiny.ipynb": b'{"cells": [],,}'}, "damaged at line 1"),
        ({"tiny.ipynb": b"[1, 2]"}, "no list of cells"),
        ({"tiny.ipynb": b'{"cells": {"a": 1}}'}, "no list of cells"),
        ({"tiny.ipynb": b"[" * 100_000}, "nested too deeply"),
        ({"tiny.ipynb": b'{"a": ' * 100_000}, "nested too deeply"),
        ({"tiny.ipynb": b'{"cells": ' + b"9" * 100_000 + b"}"}, "not JSON"),
        ({"tiny.ipynb": b'{"cells": [' + b"{}," * 2000 + b"{}]}"}, "2001 cells"),
        ({"tiny.ipynb": b"[" + b"[]," * 2_100_000 + b"1]"}, "millions of entries"),
    ],
)
def test_no_notebook_has_a_reason_that_a_student_understands(homework, files, reason):
    with pytest.raises(Unreadable, match=reason) as caught:
        sanitise(homework, files)
    assert caught.value.reason[0].isupper() or caught.value.reason.startswith("tiny.ipynb: ")
    assert caught.value.reason.endswith(".") and caught.value.reason.isprintable()


def test_too_large_files_and_texts(homework, submission, monkeypatch, tiny):
    submission["cells"].insert(
        4, {"id": "t", "cell_type": "code", "source": "table = '" + "1 " * 200_000 + "'"}
    )
    came = clean(homework, submission)
    assert answer(came, "count") == tiny.right["count"], "an answer does not suffer from an overlong cell"
    assert "the text of cell 5, 400010 characters, was left out" in came.remarks
    assert not any("table" in source for source in own(came))
    monkeypatch.setattr(student_notebook, "MAX_NOTEBOOK", 1000)
    with pytest.raises(Unreadable, match="larger than 0 MiB"):
        clean(homework, submission)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_other_encodings(homework, submission, encoding, tiny):
    text = json.dumps(submission, ensure_ascii=False)
    assert answer(clean(homework, text.encode(encoding)), "scale") == tiny.right["scale"]


def test_bytes_that_are_no_text(homework, submission, tiny):
    submission["cells"][find(submission, "reason")]["source"] = "Because NAME said"
    data = json.dumps(submission).encode().replace(b"NAME", b"Andr\xe9\0\x01") + b"\0\0\n"
    came = clean(homework, data)
    assert answer(came, "reason") == "Because Andr\ufffd\0\x01 said"
    assert answer(came, "scale") == tiny.right["scale"]
    assert came.remarks == ("bytes that are no text were replaced by \ufffd",)
    lone = json.dumps(submission).replace("NAME", "\\ud800!").encode()
    assert answer(clean(homework, lone), "reason") == "Because \ufffd! said"


def test_odd_json_that_is_still_a_notebook(homework, submission, tiny):
    submission["cells"] += [None, 7, [], {"cell_type": 9, "source": {"a": 1}, "metadata": []}, {}]
    submission["cells"].append({"cell_type": "code", "source": ["x = 1\n", 2, None, "y = 2"], "id": 5})
    submission |= {"nbformat": float("nan"), "nbformat_minor": 99}
    came = clean(homework, submission)
    assert answer(came, "scale") == tiny.right["scale"]
    assert own(came)[-1] == "x = 1\ny = 2"


@pytest.mark.parametrize("major, minor", [(2, 0), (3, 0), (4, 0), (4, 4), (4, 9), (5, 0)])
def test_other_versions_of_the_format(homework, submission, major, minor, tiny):
    if major > 3:
        for cell in submission["cells"]:
            del cell["id"]
        old = submission | {"nbformat": major, "nbformat_minor": minor}
    else:
        cells = [
            {"cell_type": "code", "input": c["source"], "outputs": [], "language": "python", "collapsed": 0}
            if c["cell_type"] == "code"
            else {"cell_type": "markdown", "source": c["source"]}
            for c in submission["cells"]
        ]
        sheets = [{"cells": [*cells, {"cell_type": "heading", "level": "x"}, 3]}, None, {"cells": 2}]
        old = {"worksheets": sheets, "nbformat": major, "nbformat_minor": minor, "metadata": {"name": ""}}
    came = clean(homework, old)
    assert {name: answer(came, name) for name in tiny.right} == tiny.right


# --- fuzzing ---------------------------------------------------------------------------------------

ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**30),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["scale", "setup", "code", "raw", "def scale(): pass", "nbgrader", "grade_id", "\ud800"]),
    st.lists(st.text(max_size=3), max_size=3),
    st.dictionaries(st.sampled_from(["cell_type", "source", "metadata", "cells"]), st.integers(), max_size=3),
)


def places(value, path=()):
    """Paths of all values inside."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_damage_gives_a_notebook_or_a_reason(homework, submission, data):
    notebook = copy.deepcopy(submission)
    every = [path for path in places(notebook) if path]
    for _ in range(data.draw(st.integers(1, 4))):
        *parents, last = data.draw(st.sampled_from(every))
        try:
            holder = notebook
            for key in parents:
                holder = holder[key]
            action = data.draw(st.sampled_from(["replace", "delete", "double", "odd key"]))
            if action == "delete":
                del holder[last]
            elif action == "double" and isinstance(holder, list):
                holder.insert(data.draw(st.integers(0, len(holder))), copy.deepcopy(holder[last]))
            elif action == "odd key" and isinstance(holder, dict):
                holder[data.draw(st.text(max_size=5))] = data.draw(ODD)
            else:
                holder[last] = data.draw(ODD)
        except (KeyError, IndexError, TypeError):
            continue  # an earlier damage took this place away
    text = json.dumps(notebook).encode()
    if data.draw(st.booleans()):
        cut = data.draw(st.integers(0, len(text)))
        text = data.draw(st.sampled_from([text[:cut], text[:cut] + b"\xff\xfe" + text[cut:], text[cut:]]))
    try:
        came = sanitise(homework, {"tiny.ipynb": text})
    except Unreadable as error:
        assert error.reason.isprintable()
    else:
        assert isinstance(came, Sanitised)
        check(homework, came)
