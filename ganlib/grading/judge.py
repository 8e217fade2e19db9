"""What runs in the judge's process: it walks through a notebook, runs the tests and writes the verdict.

The student's cells are sent to the student's process (:mod:`ganlib.grading.student`). The locked setup cell
and the test cells run here, where each function `ask_...` of the setup cell is replaced by one that sends
its arguments over and returns the plain data that comes back. Expected values, hidden tests and the seed
never leave this process, and no code of the student's enters it.

If the student's process ends, hangs or sends nonsense, the test that asked fails and the next ones go on
with a new process (:mod:`ganlib.grading.remote`): other parts keep their points.
"""

from __future__ import annotations

import contextlib
import functools
import io
import linecache
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any

from ganlib.grading import remote, verdict, wire
from ganlib.grading.alarm import SIGNAL, set_alarm
from ganlib.grading.remote import Host, Remote
from ganlib.grading.seeds import derive, seed_all
from ganlib.grading.spawn import Meeting
from ganlib.grading.verdict import Ended, Overtime, Refused, StudentError

try:
    import resource
except ImportError:  # Windows
    resource = None

STRIKES = 2  # a part that ended the process so often is asked no more, or it would use up all restarts
ROOM = 8  # cells' full outputs in a notebook
LOG = 20_000  # characters


def judge(request: dict, host: Host) -> dict:
    """Grades a submission.

    request: "cells" (dicts of id, kind, source, and for tests points and part), "contract" (names that the
    solution cells define), "barred" ({part: reason}), "seed", "limits" (cell_seconds, total_seconds; output
    in bytes).

    Returns "cells" ({id: points, max, passed, message, hidden, seconds} of the tests), "outputs" (nbformat,
    for each cell), "restarts", "log". Raises what the setup cell raises here: then the homework is broken.
    """
    work = Judge(request, host)
    actions = {"setup": work.setup, "test": work.test}
    outputs = [actions.get(cell["kind"], work.student_cell)(cell) for cell in request["cells"]]
    log = verdict.clean("\n".join(work.log), LOG)
    restarts = max(0, work.remote.starts - 1)
    return {"cells": work.cells, "outputs": outputs, "restarts": restarts, "log": log}


class Judge:
    """One submission: the namespace of the tests, the student's process, what was found so far.

    `setup`, `test` and `student_cell` execute a cell and return its outputs.
    """

    def __init__(self, request: dict, host: Host) -> None:
        self.seed, self.limits, self.barred = request["seed"], request["limits"], request["barred"]
        begin = {"do": "begin", "contract": request["contract"]}
        # What seeds the student's process does not tell the tests' seed: their text is the secret.
        tests = "".join(cell["source"] for cell in request["cells"] if cell["kind"] == "test")
        seed_of = functools.partial(derive, self.seed, "student", secret=tests)
        self.remote = Remote(host, begin, seed_of, self.limits["total_seconds"])
        self.namespace: dict[str, Any] = {"__name__": "__main__"}
        self.lengths = {
            c["id"]: len(c["source"].splitlines()) for c in request["cells"] if c["kind"] != "test"
        }
        self.cells: dict[str, dict] = {}
        self.log: list[str] = []
        self.test_cell, self.asked, self.until = "", 0, 0.0  # the test that runs, its questions, its deadline
        self.for_cells = self.limits["total_seconds"] / 2  # of the student's: the rest is the tests'
        self.room = ROOM * self.limits["output"]  # bytes that the outputs of all cells may still take
        self.slow: Counter[str] = Counter()  # by part: tests that took too long
        self.strikes: Counter[str] = Counter()  # by part: ends of the student's process

    def setup(self, cell: dict) -> list[dict]:
        """Executes a locked cell in both processes, and replaces the functions that ask."""
        exec(_compiled(cell), self.namespace)
        if "SEED" in self.namespace:
            self.namespace["SEED"] = self.seed
        for name, value in list(self.namespace.items()):
            if name.startswith("ask_") and callable(value):
                self.namespace[name] = self._asking(name)
        outputs = self.student_cell(cell, "setup")
        self.log += [f"--- {cell['id']}: {out['evalue']}" for out in outputs if out["output_type"] == "error"]
        return outputs

    def _asking(self, name: str) -> Callable[..., Any]:
        def ask(*args: Any, **kwargs: Any) -> Any:
            self.asked += 1
            request = {"do": "ask", "name": name, "args": list(args), "kwargs": kwargs}
            key, left = f"{self.test_cell}/{self.asked}", self.until - time.monotonic()
            return self.remote.call(request, key, left).get("value")

        return ask

    def student_cell(self, cell: dict, action: str = "run") -> list[dict]:
        """Executes a cell in the student's process."""
        start, seconds = time.monotonic(), max(1.0, min(self.limits["cell_seconds"], self.for_cells))
        limit = self.limits["output"]
        request = {"do": action, "cell": cell["id"], "source": cell["source"], "limit": limit}
        failure: list[dict] = []
        try:
            shown = self.remote.keep(request, cell["id"], seconds).get("outputs")
        except StudentError as error:
            shown, failure = error.outputs, [verdict.as_output(error.kind, verdict.told(error, self.lengths))]
        except (Overtime, Ended, wire.WireError) as error:
            shown, failure = [], [verdict.as_output("NotExecuted", str(error))]
        self.for_cells -= time.monotonic() - start
        outputs = verdict.clean_outputs(shown, min(limit, self.room))
        self.room -= sum(map(verdict.size, outputs))
        return outputs + failure

    def test(self, cell: dict) -> list[dict]:
        """Runs a test cell: no outputs if it passed, an error if not."""
        start, error, part = time.monotonic(), None, cell["part"]
        try:
            if part in self.barred:
                raise Refused(self.barred[part])
            if self.strikes[part] >= STRIKES:
                raise Refused("not run: tests of this part have ended or blocked the process before")
            self._run(cell)
        except Exception as raised:
            error = raised
            self.slow[part] += isinstance(error, Overtime)
            self.strikes[part] += isinstance(error, Ended)
            self.log.append(f"--- {cell['id']}\n" + "".join(traceback.format_exception(error)))
        best, message, hidden = float(cell["points"]), "", False
        if error:
            message, hidden = verdict.explain(error, cell["source"], _name(cell), self.lengths)
        self.cells[cell["id"]] = {
            "points": 0.0 if error else best,
            "max": best,
            "passed": error is None,
            "message": message,
            "hidden": hidden,
            "seconds": round(time.monotonic() - start, 3),
        }
        return [verdict.as_output(type(error).__name__, message)] if error else []

    def _run(self, cell: dict) -> None:
        """Raises what the test raises, or Overtime. Prints are dropped: on stderr they would cost points."""
        self.test_cell, self.asked = cell["id"], 0
        # Each time that a part was too slow halves what it still gets.
        seconds = self.limits["cell_seconds"] / 2 ** self.slow[cell["part"]]
        self.until = min(time.monotonic() + seconds, self.remote.deadline)
        sink = io.StringIO()
        seed_all(derive(self.seed, "judge", cell["id"]))
        with _alarm(seconds), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            exec(_compiled(cell), self.namespace)


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raises Overtime if a test's own work takes so long; a question that does has been ended by then."""

    def expire(*_: Any) -> None:
        raise Overtime(f"not done after {seconds:.3g} s")

    before = signal.signal(SIGNAL, expire)
    set_alarm(seconds + 2 * remote.GRACE)
    try:
        yield
    finally:
        set_alarm(0)
        signal.signal(SIGNAL, before)


def _name(cell: dict) -> str:
    return f"<test {cell['id']}>"


def _compiled(cell: dict) -> CodeType:
    name, source = _name(cell), cell["source"]
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)  # for the log's tracebacks
    return compile(source, name, "exec")


# --- as the Station's child ------------------------------------------------------------------------


class _Station:
    """The Station as a Host, at the other end of the control socket."""

    def __init__(self, control: socket.socket) -> None:
        self.control = control

    def start(self) -> socket.socket:
        if self.control.family == socket.AF_INET:  # started anew: no descriptor can come this way
            with Meeting() as meeting:
                wire.send(self.control, {"do": "start", "address": meeting.address})
                return meeting.accept()
        wire.send(self.control, {"do": "start"})
        _, fds, _, _ = socket.recv_fds(self.control, 1, 1)
        if not fds:
            raise RuntimeError("the Station has no process for the student")
        return socket.socket(fileno=fds[0])

    def end(self) -> str:
        wire.send(self.control, {"do": "end"})
        return wire.receive(self.control)


def main(argument: Any, fds: list[int]) -> None:
    """The judge's target: fds holds the control socket, on which the request comes."""
    control = socket.socket(fileno=fds[0])
    request = wire.from_bytes(wire.receive(control, limit=wire.TRUSTED))
    if resource:
        memory = int(request["limits"]["memory"])  # an answer may make a test's own work explode
        resource.setrlimit(resource.RLIMIT_DATA, (memory, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    found = judge(request, _Station(control))
    wire.send(control, {"do": "result", "result": wire.to_bytes(found)})
