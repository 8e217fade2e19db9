"""What runs in the student's process: it executes the student's cells and answers the judge's questions.

`serve` obeys four requests, dicts that came through :mod:`ganlib.grading.wire`:

    {"do": "begin", "contract": [name, ...]}                    the names that solution cells define
    {"do": "setup", "cell": id, "source": str, "limit": int}    a locked cell: into two namespaces, see below
    {"do": "run", "cell": id, "source": str, "limit": int}      a cell of the student's, as in JupyterLab
    {"do": "ask", "name": str, "args": list, "kwargs": dict}    calls a function ask_... of the setup cell

and answers {"id": that of the request, "error": None or a dict, "value" or "outputs": ...}. Every request
brings its "seed" for the random generators and the "seconds" after which an alarm interrupts it, as Ctrl-C
would.

The functions that are asked live in a namespace of their own, into which only the contract's names are copied
from the student's. A student who redefines `np`, `same` or `ask_x` in the notebook breaks nothing.

Nothing here guards anything: the student's code can change all of it. The guards are the sandbox around this
process, and the judge, who believes none of its answers.
"""

from __future__ import annotations

import builtins
import contextlib
import linecache
import os
import signal
import socket
import sys
from collections.abc import Iterator
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from ganlib.grading import wire
from ganlib.grading.alarm import SIGNAL, set_alarm
from ganlib.grading.seeds import seed_all
from ganlib.grading.shell import Shell, Stream, describe


class TimeLimit(KeyboardInterrupt):
    """The request took longer than it may; no `except Exception` catches it."""


class Student:
    """The two namespaces, and what the judge may request; each method returns a part of the answer."""

    def __init__(self) -> None:
        InteractiveShell.clear_instance()
        self.shell = Shell.instance()
        self.asked: dict[str, Any] = {"__name__": "__main__"}  # where the setup cell's functions live
        self.contract: list[str] = []

    def begin(self, contract: list[str]) -> dict:
        """Takes the names that a question finds as the student has last defined them."""
        self.contract = contract
        return {}

    def setup(self, cell: str, source: str, limit: int) -> dict:
        """Executes a locked cell in both namespaces."""
        answer = self.run(cell, source, limit)
        name = f"<locked {cell}>"
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
        with _silence():
            exec(compile(source, name, "exec"), self.asked)
        return answer

    def run(self, cell: str, source: str, limit: int) -> dict:
        """Executes one of the student's cells."""
        outputs, error = self.shell.run(cell, source, limit)
        return {"outputs": outputs, "error": error}

    def ask(self, name: str, args: list, kwargs: dict) -> dict:
        """Calls a function of the setup cell on the student's current solutions; prints are dropped."""
        for graded in self.contract:
            self.asked.pop(graded, None)
            if graded in self.shell.user_ns:
                self.asked[graded] = self.shell.user_ns[graded]
        with _silence():
            return {"value": self.asked[name](*args, **kwargs)}


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    with contextlib.redirect_stdout(Stream()), contextlib.redirect_stderr(Stream()):
        yield


def _expire(*_: Any) -> None:
    raise TimeLimit("out of time")


def _no_input(prompt: object = "") -> str:
    raise RuntimeError("input() has nobody to ask while grading")


def serve(sock: socket.socket) -> None:
    """Answers the judge's requests until the judge hangs up."""
    builtins.input = _no_input
    here = os.getcwd()
    sys.path[:] = [*(folder for folder in sys.path if folder not in ("", here)), here]  # shadows no module
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(SIGNAL, _expire)
    student = Student()
    actions = {"begin": student.begin, "setup": student.setup, "run": student.run, "ask": student.ask}
    while True:
        try:
            request = wire.receive(sock)
            answer = {"id": request.pop("id"), "error": None}
            try:
                seed_all(request.pop("seed"))
                set_alarm(request.pop("seconds"))
                answer |= actions[request.pop("do")](**request)
                wire.send(sock, answer)  # encoding runs methods of the student's objects: still timed
            except wire.Closed:
                return
            except BaseException as error:
                set_alarm(0)
                wire.send(sock, {"id": answer["id"], "error": describe(error)})
            finally:
                set_alarm(0)
        except wire.Closed:
            return


def main(argument: Any, fds: list[int]) -> None:
    """The student's end of a fork server: fds holds the socket to the judge."""
    serve(socket.socket(fileno=fds[0]))
