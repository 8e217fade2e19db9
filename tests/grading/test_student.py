"""The student's process on its own: cells run as in JupyterLab, questions are answered with data."""

import base64
import os
import signal
import socket
import time

import numpy as np
import pytest

from ganlib.grading import wire
from ganlib.grading.forkserver import ForkServer

SETUP = """
import numpy as np

def same(a, b):
    return a == b

def ask_twice(x):
    print("asked")
    assert same(1, 1)
    return twice(np.asarray(x))

def ask_numbers():
    import random
    return [random.random(), np.random.random()]

def ask_check(message):
    raise AssertionError(message)

def ask_raw(name):
    return raw(name)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    home = str(tmp_path_factory.mktemp("home"))
    environment = {**os.environ, "HOME": home, "MPLBACKEND": "module://matplotlib_inline.backend_inline"}
    with ForkServer("ganlib.grading.student:main", environment=environment) as server:
        yield server


class Pupil:
    """A student's process and the judge's end of its socket."""

    def __init__(self, server):
        self.sock, theirs = socket.socketpair()
        with theirs:
            self.child = server.fork(None, [theirs.fileno()])
        self.count = 0

    def __call__(self, do, *, seconds=20, seed=0, **request):
        self.count += 1
        wire.send(self.sock, {"id": self.count, "do": do, "seconds": seconds, "seed": seed, **request})
        answer = wire.receive(self.sock, deadline=time.monotonic() + 30)
        assert answer["id"] == self.count
        return answer

    def run(self, source, cell="one", limit=2**20, **more):
        return self("run", cell=cell, source=source, limit=limit, **more)

    def ask(self, name, *args, **more):
        return self("ask", name=name, args=list(args), kwargs={}, **more)

    def text(self, source, **more):
        """What a cell that must not fail writes."""
        answer = self.run(source, **more)
        assert answer["error"] is None, answer
        return "".join(o["text"] for o in answer["outputs"] if o["output_type"] == "stream")


@pytest.fixture
def pupil(server):
    pupil = Pupil(server)
    assert pupil("begin", contract=["twice", "raw"])["error"] is None
    assert pupil("setup", cell="setup", source=SETUP, limit=1000)["error"] is None
    with pupil.child, pupil.sock:
        yield pupil


def test_outputs_are_those_of_a_notebook(pupil):
    source = "import sys\nprint('a')\nprint('b', file=sys.stderr)\nprint('c')\ndisplay({'d': 1})\n[1, 2]"
    outputs = pupil.run(source)["outputs"]
    assert [o["output_type"] for o in outputs] == ["stream"] * 3 + ["display_data", "execute_result"]
    assert [(o["name"], o["text"]) for o in outputs[:3]] == [
        ("stdout", "a\n"),
        ("stderr", "b\n"),
        ("stdout", "c\n"),
    ]
    assert [o["data"]["text/plain"] for o in outputs[3:]] == ["{'d': 1}", "[1, 2]"]
    assert pupil.text("print(_, Out, In[2][:6])") == "[1, 2] {2: [1, 2]} import\n"
    assert pupil.run("1;")["outputs"] == []


def test_figures_are_images(pupil):
    pytest.importorskip("matplotlib")
    outputs = pupil.run("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nNone")["outputs"]
    (image,) = [o["data"]["image/png"] for o in outputs if "image/png" in o.get("data", {})]
    assert base64.b64decode(image)[:4] == b"\x89PNG"


def test_magics_commands_and_await(pupil):
    assert "loop" in pupil.text("%timeit -n1 -r1 1")
    assert pupil.text("!echo $((3 + 4))\nprint(_exit_code)") == "7\n0\n"
    assert pupil.text("x = !printf 'a\\nb'\nprint(list(x))") == "['a', 'b']\n"
    assert pupil.text("import asyncio\nawait asyncio.sleep(0)\nprint('awake')") == "awake\n"
    assert pupil.text("%%bash\necho cell") == "cell\n"


def test_outputs_are_bounded(pupil):
    for source in ("while True: print('x' * 1000)", "!yes"):
        (output,) = pupil.run(source, limit=5000, seconds=0.5)["outputs"]
        assert 4800 <= len(output["text"]) < 5100 and "cut" in output["text"]
    (output,) = pupil.run("display('x' * 10000)", limit=5000)["outputs"]
    assert "too large" in output["text"]
    assert len(pupil.text("x = !yes\nprint(len(x))")) < 10


@pytest.mark.parametrize(
    ("source", "kind", "message", "lines"),
    [
        ("1\n1 / 0", "ZeroDivisionError", "division by zero", [2]),
        ("def f():\n    raise ValueError('why')\nf()", "ValueError", "why", [3, 2]),
        ("x = 1\ny = = 2", "SyntaxError", "invalid syntax", [2]),
        (
            "if True:\npass",
            "IndentationError",
            "expected an indented block after 'if' statement on line 1",
            [2],
        ),
        ("import sys\nsys.exit(3)", "SystemExit", "3", [2]),
        ("exit()", "SystemExit", "", [1]),
        ("input('name?')", "RuntimeError", "input() has nobody to ask while grading", [1]),
        ("raise ValueError('x' * 10**6)", "ValueError", "x" * 4000, [1]),
        ("def f():\n    f()\nf()", "RecursionError", None, [3] + [2] * 9),
        ("x\0", "SyntaxError", None, None),
    ],
)
def test_errors_are_data_and_not_the_end(pupil, source, kind, message, lines):
    error = pupil.run(source)["error"]
    assert error["type"] == kind
    assert message is None or error["message"] == message
    assert lines is None or [frame["line"] for frame in error["frames"]] == lines
    assert {frame["cell"] for frame in error["frames"]} <= {"one"}
    assert pupil.text("print('alive')") == "alive\n"


def test_time_is_limited_and_an_interrupt_is_an_error(pupil):
    loop = "n = 0\ntry:\n    while True: n += 1\nexcept Exception:\n    pass"
    start = time.monotonic()
    assert pupil.run(loop, seconds=0.3)["error"]["type"] == "TimeLimit"
    assert pupil.run("!sleep 60", seconds=0.3)["error"]["type"] == "TimeLimit"
    assert pupil.run("x = !sleep 60", seconds=0.3)["error"]["type"] == "TimeLimit"
    assert time.monotonic() - start < 20
    assert pupil.text("print(n > 0)", seconds=5) == "True\n"
    pupil.run("def twice(x):\n    while True: pass")
    assert pupil.ask("ask_twice", 1, seconds=0.2)["error"]["type"] == "TimeLimit"


def test_sigint_interrupts_a_cell(pupil):
    wire.send(
        pupil.sock,
        {"id": 9, "do": "run", "cell": "x", "source": "print(1)\nwhile True: pass", "limit": 999}
        | {"seconds": 30, "seed": 0},
    )
    time.sleep(0.5)
    pupil.child.send_signal(signal.SIGINT)
    answer = wire.receive(pupil.sock, deadline=time.monotonic() + 10)
    assert answer["error"]["type"] == "KeyboardInterrupt" and answer["outputs"][0]["text"] == "1\n"


def test_a_question_finds_the_last_definition_and_nothing_else_of_the_students(pupil):
    assert pupil.ask("ask_twice", 3)["error"]["type"] == "NameError"
    pupil.run("def twice(x):\n    return 2 * x")
    assert pupil.ask("ask_twice", np.array([1.5]))["value"].tolist() == [3.0]
    pupil.run("same = np = ask_twice = None\ndef check(): 0\ndef twice(x):\n    print('!')\n    return 3 * x")
    answer = pupil.ask("ask_twice", 3)
    assert answer["value"] == 9 and answer["error"] is None
    assert pupil.run("None")["outputs"] == []  # what was printed when asked is in no cell's output
    pupil.run("del twice")
    assert pupil.ask("ask_twice", 3)["error"]["type"] == "NameError"


def test_prints_of_a_question_are_dropped(pupil):
    """The process's own standard output is bounded, and a print beyond it would be the student's error."""
    pupil.run("def twice(x):\n    print('!' * 3_000_000, flush=True)\n    return 2 * x")
    assert pupil.ask("ask_twice", 2)["value"] == 4
    assert "!" not in pupil.child.log()


def test_errors_of_questions(pupil):
    assert pupil.ask("ask_check", "a tensor must come")["error"] == {
        "type": "AssertionError",
        "message": "a tensor must come",
        "frames": [],
    }
    pupil.run("def twice(x):\n    return inner(x)\n\ndef inner(x):\n    return x[9]", cell="twice")
    error = pupil.ask("ask_twice", [1.0])["error"]
    assert error["type"] == "IndexError"
    places = [(frame["cell"], frame["line"], frame["function"]) for frame in error["frames"]]
    assert places == [("twice", 2, "twice"), ("twice", 5, "inner")]
    assert pupil.ask("ask_nothing")["error"]["type"] == "KeyError"
    pupil.run("class E(Exception):\n    def __str__(self):\n        1 / 0\n\ndef twice(x):\n    raise E")
    assert pupil.ask("ask_twice", 1)["error"]["message"] == "(a message that cannot be read)"


@pytest.mark.parametrize(
    "source",
    [
        "raw = lambda name: object()",
        "class A:\n    def __array__(self, *a, **k): return np.ones(2)\nraw = lambda name: A()",
        "class L(list):\n    def __iter__(self): raise SystemExit\nraw = lambda name: L()",
        "class D(dict):\n    def __iter__(self):\n        while True: pass\nraw = lambda name: D()",
        "raw = lambda name: [10**400]",
        "def raw(name):\n    x = []\n    x.append(x)\n    return x",
    ],
)
def test_an_answer_that_is_no_data_is_an_error(pupil, source):
    pupil.run("import numpy as np\n" + source)
    assert pupil.ask("ask_raw", "x", seconds=1)["error"] is not None
    assert pupil.text("print('alive')") == "alive\n"


def test_the_random_generators_follow_the_seed(pupil):
    first, again, other = (pupil.ask("ask_numbers", seed=seed)["value"] for seed in (5, 5, 6))
    assert first == again != other


def test_a_file_beside_the_notebook_shadows_no_module(server, tmp_path):
    pupil = Pupil(server)
    with pupil.child, pupil.sock:
        path = pupil.text(
            "import sys, os\nprint(os.getcwd() == sys.path[-1], sys.path.count(os.getcwd()), '' in sys.path)"
        )
    assert path == "True 1 False\n"


def test_it_ends_when_the_judge_hangs_up(server):
    pupil = Pupil(server)
    with pupil.child:
        pupil.run("import builtins\nbuiltins.print = None")
        pupil.sock.close()
        assert pupil.child.wait(10) == 0
