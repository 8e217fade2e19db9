"""The judge on a notebook: points, messages, and what a hostile process of the student's can do to them."""

import json
import os
import re
import socket
import textwrap
import time

import nbformat
import pytest
from nbgrader.utils import determine_grade

from ganlib.grading import judge, remote, verdict, wire
from ganlib.grading.forkserver import ForkServer
from ganlib.grading.seeds import derive

LIMITS = {"cell_seconds": 20.0, "total_seconds": 100.0, "output": 2**16}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    environment = {**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))}
    with ForkServer("ganlib.grading.student:main", environment=environment) as server:
        yield server


class Host:
    """Starts and ends the student's processes, as the Station does."""

    def __init__(self, server):
        self.server, self.child, self.started = server, None, 0

    def start(self):
        self.end()
        ours, theirs = socket.socketpair()
        self.child = self.server.fork(None, [theirs.fileno()])
        theirs.close()
        self.started += 1
        return ours

    def end(self):
        if self.child is None:
            return ""
        with self.child:
            code = self.child.wait(0.2)
        self.child = None
        return "" if code is None else f"exit status {code}"


@pytest.fixture
def host(server):
    host = Host(server)
    yield host
    host.end()


def request(cells, contract=(), barred=None, seed=7, **limits):
    """cells: (id, kind, source) or, for tests, (id, "test", source, points)."""
    listed = []
    for name, kind, source, *points in cells:
        about = {"points": points[0], "part": name.split("-")[0]} if points else {}
        listed.append({"id": name, "kind": kind, "source": textwrap.dedent(source).strip("\n"), **about})
    return {
        "cells": listed,
        "contract": list(contract),
        "barred": barred or {},
        "seed": seed,
        "limits": LIMITS | limits,
    }


@pytest.fixture
def grade(tiny, host):
    """Judges the tiny homework, solved but for `replaced`; first, last: more (id, kind, source, points)."""

    def grade(replaced=None, first=(), last=(), **options):
        cells = []
        for name, kind, points, source in tiny.cells:
            if name in ("intro", "reason"):
                continue
            if kind == "solution":
                source = (replaced or {}).get(name, source)
            cells.append((name, kind, source, points) if kind == "test" else (name, kind, source))
        at = next(i for i, cell in enumerate(cells) if cell[1] == "setup") + 1
        cells = [*cells[:at], *first, *cells[at:], *last]
        asked = request(cells, ("scale", "centre", "count"), **options)
        found = judge.judge(asked, host)
        found["by id"] = {cell["id"]: out for cell, out in zip(asked["cells"], found["outputs"], strict=True)}
        assert_nbgrader_agrees(asked, found)
        return found

    return grade


def assert_nbgrader_agrees(asked, found):
    """nbgrader reads the verdict's points from the outputs, which are valid in a notebook."""
    notebook = nbformat.v4.new_notebook()
    for cell, outputs in zip(asked["cells"], found["outputs"], strict=True):
        notebook.cells.append(nbformat.v4.new_code_cell(cell["source"], outputs=outputs))
        if cell["kind"] == "test":
            meta = {"grade": True, "solution": False, "points": cell["points"], "grade_id": cell["id"]}
            notebook.cells[-1].metadata["nbgrader"] = meta
            read = nbformat.from_dict(json.loads(json.dumps(notebook.cells[-1])))
            about = found["cells"][cell["id"]]
            assert determine_grade(read) == (about["points"], about["max"])
            assert about["passed"] == (about["points"] == about["max"]) == (about["message"] == "")
    nbformat.validate(notebook)


def points(found):
    return {name: cell["points"] for name, cell in found["cells"].items()}


FULL = {"scale-values": 1.0, "centre-columns": 2.0, "count-words": 1.0, "count-hidden": 3.0}
NO_COUNT = FULL | {"count-words": 0.0, "count-hidden": 0.0}


def test_the_solution_gets_full_marks(grade):
    found = grade()
    assert points(found) == FULL and found["restarts"] == 0 and found["log"] == ""
    assert found["by id"]["demo"] == [{"output_type": "stream", "name": "stdout", "text": "[2. 4.]\n"}]


def test_a_visible_failure_shows_the_check_and_its_message(grade):
    found = grade({"centre": "def centre(rows):\n    return rows"})
    cell = found["cells"]["centre-columns"]
    assert points(found) == FULL | {"centre-columns": 0.0} and not cell["hidden"]
    assert cell["message"].startswith(
        "The columns' means are taken off.\n  expected: [[-1.0, -10.0], [1.0, 10.0]]"
    )
    assert cell["message"].endswith(
        "\n\n"
        + next(
            line for line in found["log"].splitlines() if line.strip().startswith("check(same(came")
        ).strip()
    )


def test_a_hidden_failure_shows_the_message_alone(grade):
    wrong = "def centre(rows):\n    return rows - rows.mean(0) * (rows.shape == (2, 2))"
    cell = grade({"centre": wrong})["cells"]["centre-columns"]
    assert cell["hidden"] and cell["message"] == "another shape: a mean for each column"


def test_an_exception_in_a_hidden_test_repeats_nothing(grade):
    """The student's own words could hold the hidden test's numbers."""
    spy = "class {0}(Exception): pass\ndef centre(rows):\n    if len(rows) > 2: raise {0}(rows)\n    return "
    spy += "rows - rows.mean(0)"
    for kind, said in (("Spy", "an exception"), ("OSError", "OSError")):
        cell = grade({"centre": spy.format(kind)})["cells"]["centre-columns"]
        assert (cell["message"], cell["hidden"]) == (
            f"{said} in a hidden test\n  in cell centre, line 3",
            True,
        )
    leave = spy.replace("raise {0}(rows)", "import os; os._exit(int(rows[0, 0]))").replace("{0}", "E")
    cell = grade({"centre": leave})["cells"]["centre-columns"]
    assert cell["message"] == "your code ended or blocked its process in a hidden test"


def test_an_answer_of_another_form_says_nothing_of_a_hidden_test(grade):
    wrong = "def centre(rows):\n    return rows - rows.mean(0) if len(rows) == 2 else {'no': 'array'}"
    cell = grade({"centre": wrong})["cells"]["centre-columns"]
    assert cell["hidden"]
    assert cell["message"] == "your answer does not have the form that the test expects (TypeError)"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("def count(text)\n    return 1", "NameError: name 'count' is not defined"),
        (
            "def count(text):\n    assert not text, 'mine'\n    return 1",
            "mine\n  in cell count, line 2, count",
        ),
        (
            "def count(text):\n    raise OSError('/etc/passwd/x is gone\\x1b[2J')",
            "OSError: x is gone\n  in cell count",
        ),
        ("class E(Exception): pass\ndef count(text):\n    raise E", "E\n  in cell count, line 3"),
        ("def count(text):\n    import sys\n    sys.exit(0)", "SystemExit: 0"),
        ("def count(text):\n    return object()", "WireError: object cannot travel"),
        ("def count(text):\n    raise KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_what_the_students_code_raises_is_told(grade, source, said):
    found = grade({"count": source})
    assert points(found) == NO_COUNT and found["restarts"] == 0
    assert found["cells"]["count-words"]["message"].startswith(said)
    assert "check(" not in found["cells"]["count-hidden"]["message"]


def test_a_cells_error_is_its_output(grade):
    found = grade({"count": "print('before')\n1 / 0"})
    stream, error = found["by id"]["count"]
    assert stream["text"] == "before\n"
    assert (error["ename"], error["evalue"]) == (
        "ZeroDivisionError",
        "ZeroDivisionError: division by zero\n  in cell count, line 2, <module>",
    )


def test_a_check_inside_ask_keeps_its_message(host):
    setup = """
        def check(condition, message):
            if not condition:
                raise AssertionError(message)
        def ask_f():
            check(f() == 1, "f must give 1")
            return 1
        """
    cells = [
        ("setup", "setup", setup),
        ("f", "solution", "def f(): return 2"),
        ("f-one", "test", "ask_f()", 1),
    ]
    found = judge.judge(request(cells, ["f"]), host)
    assert found["cells"]["f-one"]["message"] == "f must give 1\n\nask_f()"


def test_a_test_may_expect_an_exception(host):
    setup = "def ask_f(x):\n    return f(x)"
    test = """
        for x, kind in ((0, ZeroDivisionError), (1, ValueError), (2, KeyError)):
            try:
                ask_f(x)
            except kind:
                pass
            else:
                raise AssertionError("no error")
        """
    solution = "def f(x):\n    if x == 0: 1 / 0\n    raise ValueError if x == 1 else KeyError('k')"
    cells = [("setup", "setup", setup), ("f", "solution", solution), ("f-raises", "test", test, 1)]
    assert points(judge.judge(request(cells, ["f"]), host)) == {"f-raises": 1.0}


@pytest.mark.parametrize(
    "value",
    [
        "type('E', (int,), {'__eq__': lambda self, other: True, '__hash__': None})(0)",
        "type('E', (float,), {'__eq__': lambda self, other: True, '__hash__': None})(0)",
        "type('E', (np.ndarray,), {'__eq__': lambda self, other: True})(1)",
        "type('E', (), {'__eq__': lambda self, other: True})()",
        "type('E', (str,), {'__eq__': lambda self, other: True, '__hash__': None})('4')",
        "[4]",
        "'4'",
        "None",
        "np.full((3, 3), 4)",
        "float('nan')",
        "{'id': 1, 'value': 4, 'error': None}",
    ],
)
def test_no_object_passes_for_an_answer(grade, value):
    assert points(grade({"count": f"def count(text):\n    return {value}"})) == NO_COUNT


END = "import os\nos._exit(3)"
WRITE = """
import os
for fd in range(3, 64):
    try: os.write(fd, {bytes})
    except OSError: pass
"""


def frames(*answers):
    """What an honest process would send for these answers."""
    found = b""
    for answer in answers:
        text, _ = wire.encode(answer)
        found += len(text).to_bytes(4, "big") + bytes(4) + text
    return found


HOSTILE = {
    "exit": END,
    "abort": "import os\nos.abort()",
    "hang up": "import os\nos.closerange(3, 64)",
    "noise": WRITE.format(bytes="b'\\xff' * 100"),
    "half a frame": WRITE.format(bytes="bytes([0, 0, 0, 9])") + "while True: pass",
    "another's answer": WRITE.format(bytes=frames({"id": 999, "value": 4, "error": None})),
    "no dict": WRITE.format(bytes=frames([4])),
    "no error": WRITE.format(bytes=frames({"id": 1, "error": "text"})),
    "deaf": "import time\nwhile True:\n    try: time.sleep(9)\n    except BaseException: pass",
}


@pytest.mark.parametrize("attack", HOSTILE)
def test_who_breaks_the_process_in_a_cell_loses_that_cell(grade, monkeypatch, attack):
    monkeypatch.setattr(remote, "GRACE", 0.5)
    found = grade({"count": HOSTILE[attack]}, cell_seconds=1.0)
    assert points(found) == NO_COUNT and found["restarts"] == 1
    assert found["by id"]["count"][0]["ename"] == "NotExecuted"


@pytest.mark.parametrize("attack", HOSTILE)
def test_who_breaks_the_process_when_asked_loses_that_part(grade, monkeypatch, attack):
    monkeypatch.setattr(remote, "GRACE", 0.5)
    body = textwrap.indent(HOSTILE[attack], "    ")
    found = grade({"count": f"def count(text):\n{body}\n    return 1"}, cell_seconds=1.0)
    assert points(found) == NO_COUNT and found["restarts"] == 2
    assert found["by id"]["demo"][0]["text"] == "[2. 4.]\n"  # a fresh process has repeated the cells


def test_forged_answers_sent_ahead_earn_nothing(grade):
    ahead = frames(
        *({"id": n, "value": 1, "error": None} for n in range(3, 30))
    )  # 3 is this cell's own number
    found = grade(first=[("student-1", "text", WRITE.format(bytes=ahead))])
    assert points(found) == dict.fromkeys(FULL, 0.0) and found["restarts"] == 0


def test_a_process_that_always_ends_is_given_up(grade):
    cells = [(f"student-{i}", "text", END) for i in range(9)]
    found = grade(first=cells)
    assert sum(points(found).values()) == 0 and found["restarts"] == remote.RESTARTS
    assert "ended or blocked its process 6 times" in found["cells"]["count-words"]["message"]
    found = grade(first=cells[: remote.RESTARTS])
    assert points(found) == FULL


def test_a_part_that_ends_the_process_is_asked_twice_only(grade, host):
    more = [(f"scale-{i}", "test", "ask_scale([1.0])", 1) for i in range(4)]
    found = grade(
        {"scale": f"def scale(values, factor):\n    {END.splitlines()[0]}\n    os._exit(3)"}, last=more
    )
    assert points(found) == FULL | {"scale-values": 0.0} | {name: 0.0 for name, *_ in more}
    assert host.started == 3 and "not run" in found["cells"]["scale-3"]["message"]
    assert found["cells"]["scale-values"]["message"].startswith(
        "your code ended its process: exit status 3\n\n"
    )


def test_a_part_that_is_slow_gets_less_time_each_time(grade):
    slow = "def count(text):\n    while True: pass"
    found = grade({"count": slow}, cell_seconds=0.5)
    assert points(found) == NO_COUNT and found["restarts"] == 0
    said = [found["cells"][name]["message"].splitlines()[0] for name in ("count-words", "count-hidden")]
    assert all(re.fullmatch(r"not done after 0\.\d+ s", line) for line in said)
    assert found["cells"]["count-words"]["seconds"] > 0.4 and found["cells"]["count-hidden"]["seconds"] < 0.45


def test_the_judges_own_work_is_timed(host, monkeypatch):
    monkeypatch.setattr(remote, "GRACE", 0.1)
    cells = [("a-endless", "test", "while True: pass", 1), ("b-fine", "test", "pass", 1)]
    found = judge.judge(request(cells, cell_seconds=0.3), host)
    assert points(found) == {"a-endless": 0.0, "b-fine": 1.0}


def test_a_busy_machine_does_not_turn_an_end_into_overtime(grade, host, monkeypatch):
    """Ending a process may take longer than a test has; the talk with the host must not be cut in two."""
    monkeypatch.setattr(remote, "GRACE", 0.1)
    end = host.end
    monkeypatch.setattr(host, "end", lambda: (time.sleep(1), end())[1])
    found = grade({"count": "import os\ndef count(text):\n    os._exit(3)"}, cell_seconds=0.5)
    assert "ended its process: exit status 3" in found["cells"]["count-words"]["message"]
    assert found["restarts"] == 2 and found["by id"]["demo"][0]["text"] == "[2. 4.]\n"


def test_the_whole_notebook_is_timed_and_cells_leave_half_for_the_tests(grade):
    endless = [(f"student-{i}", "text", "while True: pass") for i in range(3)]
    found = grade(first=endless, total_seconds=6.0, cell_seconds=2.0)
    assert points(found) == FULL
    found = grade(first=endless, total_seconds=2.0, cell_seconds=2.0)
    assert sum(points(found).values()) == 0
    assert "the whole notebook took more than 2 s" in found["cells"]["scale-values"]["message"]


def test_a_barred_part_gets_nothing_and_is_told_why(grade):
    found = grade(barred={"count": "ganlib.models was used"})
    assert points(found) == NO_COUNT
    assert found["cells"]["count-hidden"]["message"] == "ganlib.models was used"


def test_the_seed_reaches_the_tests_and_not_the_student(grade, monkeypatch):
    test = "check(SEED == 4321 and ask_scale([0.0], 1.0) == 0, 'seed')\nassert np.random.randint(10**9) != 0"
    last = [("scale-seed", "test", test, 1), ("look", "text", "print(SEED)")]
    found = grade(last=last, seed=4321)
    assert found["cells"]["scale-seed"]["passed"]
    assert found["by id"]["look"][0]["text"] == "0\n"


def test_neither_tests_nor_expected_values_are_sent(grade, tiny, monkeypatch):
    sent, send = [], wire.send

    def record(sock, value, deadline=None):
        sent.append(repr(value))
        send(sock, value, deadline)

    monkeypatch.setattr(wire, "send", record)
    grade()
    assert len(sent) > 12
    for *_, source in (cell for cell in tiny.cells if cell[1] == "test"):
        for line in source.splitlines():
            assert len(line) < 12 or not any(line.strip() in frame for frame in sent)


def test_the_verdict_is_the_same_every_time(grade):
    noisy = "import random\ndef count(text):\n    return 4 if random.random() < 0.5 else np.random.randint(5)"
    assert len({json.dumps(points(grade({"count": noisy}))) for _ in range(3)}) == 1
    kinds = {json.dumps(points(grade({"count": noisy}, seed=seed))) for seed in range(6)}
    assert len(kinds) > 1  # so it was a matter of the seed


def test_a_broken_homework_is_not_the_students_fault(host):
    with pytest.raises(ZeroDivisionError):
        judge.judge(request([("setup", "setup", "1 / 0")]), host)


def test_prints_of_a_test_cost_nothing(host):
    test = "import sys\nprint('a')\nprint('b', file=sys.stderr)\n0.25"
    found = judge.judge(request([("a-prints", "test", test, 1)]), host)
    assert points(found) == {"a-prints": 1.0} and found["outputs"] == [[]]


# --- words -----------------------------------------------------------------------------------------


def test_text_is_cleaned():
    assert verdict.clean("a\x00b\x1b[31mc\u202ed\ud800e\r\nf\tg") == "abcde\nf\tg"
    assert verdict.clean("x" * 5000, 100) == "x" * 100 + " [...]"
    assert (
        verdict.clean("in /srv/ada/lib/torch/nn.py: 1/2 of https://x.org/a/b")
        == "in nn.py: 1/2 of https://x.org/a/b"
    )


def test_only_harmless_outputs_are_kept():
    png = "iVBORw0KGgo="
    data = {"text/html": "<script>", "image/svg+xml": "<svg/>", "text/plain": "p", "image/png": png, 3: "x"}
    outputs = [
        {"output_type": "stream", "name": "stdout", "text": "a\x07b"},
        {"output_type": "stream", "name": "other", "text": "a"},
        {"output_type": "display_data", "data": data, "metadata": {"isolated": True}},
        {"output_type": "display_data", "data": {"image/png": "<script>"}},
        {"output_type": "error", "ename": "x"},
        {"output_type": "stream", "name": "stdout", "text": 3},
        "text",
    ]
    assert verdict.clean_outputs(outputs, 1000) == [
        {"output_type": "stream", "name": "stdout", "text": "ab"},
        {"output_type": "display_data", "data": {"text/plain": "p", "image/png": png}, "metadata": {}},
    ]
    assert verdict.clean_outputs({"no": "list"}, 1000) == []
    long = [{"output_type": "stream", "name": "stdout", "text": "x" * 99}] * 99
    assert sum(len(output["text"]) for output in verdict.clean_outputs(long, 500)) < 600
    empty = [{"output_type": "stream", "name": "stdout", "text": ""}] * 30_000
    assert len(verdict.clean_outputs(empty, 5000)) == 50 and len(verdict.clean_outputs(empty, 10**6)) == 200
    large = [{"output_type": "display_data", "data": {"text/plain": "small"}}, outputs[2]]
    assert len(verdict.clean_outputs(large, 210)) == 1  # no room for the image


def test_all_cells_together_are_bounded(grade):
    cells = [(f"student-{i}", "text", "print('x' * 10**6)") for i in range(20)]
    found = grade(first=cells, output=3000)
    assert points(found) == FULL
    assert len(json.dumps(found["outputs"])) < (judge.ROOM + 2) * 3000


def test_seeds_do_not_tell_the_seed():
    seen = derive(5, "student", "cell", secret="tests")
    assert seen == derive(5, "student", "cell", secret="tests") < 2**32
    assert len({seen, derive(5, "student", "cell"), derive(6, "student", "cell", secret="tests")}) == 3


def test_a_statement_is_shown_whole_and_a_loop_by_its_head():
    source = "a = 1\nfor x in (\n    1,\n):\n    check(\n        x,\n    )\nwith a:\n    pass"
    assert verdict.statement(source, 6) == "    check(\n        x,\n    )"
    assert verdict.statement(source, 2) == "for x in (\n    1,\n):"
    assert verdict.statement(source, 99) == ""


def test_hidden_lines():
    source = "a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\nc\n  ### BEGIN HIDDEN TESTS\nd"
    assert verdict.hidden_lines(source) == {2, 3, 4, 6, 7}
