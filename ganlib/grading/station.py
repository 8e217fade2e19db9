"""One machine's place to grade: two fork servers, and for each submission a judge and a student's process.

The judge's processes are trusted and never run student code; the student's are confined
(:mod:`ganlib.grading.sandbox`). The Station starts them, gives the judge a socket to the student's process,
and a fresh one when it asks. It imports neither torch nor IPython itself.

    with Station() as station:
        result = station.grade(homework, files, "ada", seed=1)
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganlib.grading import spawn, verdict, wire
from ganlib.grading.detect import detect
from ganlib.grading.forkserver import Child, ForkServer
from ganlib.grading.homework import Homework
from ganlib.grading.imports import import_quickly
from ganlib.grading.sandbox import Limits, StudentSandbox
from ganlib.grading.sanitise import Unreadable, sanitise
from ganlib.grading.spawn import Meeting, Spawned, Spawner

if TYPE_CHECKING:
    from nbformat import NotebookNode

PATIENCE = 60.0  # seconds that a judge may take beyond a submission's total
TRIES = 2  # for a submission whose judge or fork server breaks
LOG = 20_000  # characters
# Imported before the first fork. The first optimiser and the first dispatch mode would import torch._dynamo.
JUDGE_WARM = ("torch._dynamo",)
STUDENT_WARM = ("torch._dynamo", "torch.utils.data", "matplotlib.pyplot", "matplotlib_inline.backend_inline")
_ENVIRONMENT = {"NBGRADER_EXECUTION": "autograde", "PYTHONHASHSEED": "0", "CUDA_VISIBLE_DEVICES": ""}


class Station:
    """Grades submissions, one per thread that calls `grade`.

    limits: of one submission. confined, hide, spawned: as for
    :class:`~ganlib.grading.sandbox.StudentSandbox`; hide should name the course's folder, and spawned holds
    for the judges, too. The fork servers start with the context or with the first submission,
    and again when one has ended. RuntimeError if one cannot be started.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        confined: bool | None = None,
        hide: Sequence[str | Path] = (),
        spawned: bool = spawn.NEEDED,
    ) -> None:
        self.limits, self.spawned = limits or Limits(), spawned
        warm = (*STUDENT_WARM, "ganlib.grading.shell:warm")
        start_judges = partial(Spawner if spawned else ForkServer, "ganlib.grading.judge:main", JUDGE_WARM)
        start_students = partial(StudentSandbox, "ganlib.grading.student:main", warm, self.limits)
        self._makers: dict[str, Callable[[], Any]] = {
            "judge": partial(start_judges, environment=os.environ | _ENVIRONMENT),
            "student": partial(start_students, confined=confined, hide=hide, spawned=spawned),
        }
        self._servers: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Station:
        self._ready()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends both fork servers and all that they started."""
        with self._lock:
            while self._servers:
                self._servers.popitem()[1].close()

    def _ready(self) -> dict[str, Any]:
        """Both servers, those started anew that do not run."""
        with self._lock:
            missing = [name for name in self._makers if not getattr(self._servers.get(name), "alive", False)]
            for name in missing:
                if name in self._servers:
                    self._servers.pop(name).close()
            with ThreadPoolExecutor(3) as pool:
                pool.submit(import_quickly, "nbformat")  # of use to the first submission
                started = {name: pool.submit(self._makers[name]) for name in missing}
            self._servers |= {name: f.result() for name, f in started.items() if f.exception() is None}
            for future in started.values():
                future.result()  # raises what kept it from starting
            return dict(self._servers)

    def grade(self, homework: Homework, files: Mapping[str, bytes], student: str, seed: int) -> dict:
        """The result of one submission as JSON values; a failure of any kind is a result, too.

        files: what was handed in, by path; seed: below 2**32. The executed notebook under "notebook" holds
        hidden tests, and like "log" it is for the instructor only.
        """
        from nbformat import from_dict

        start = time.monotonic()
        result = {
            "student": student,
            "assignment": homework.name,
            "status": "graded",
            "reason": "",
            "seed": seed,
            "barred": {},
            "flags": [],
            "remarks": [],
            "restarts": 0,
            "log": "",
        }
        try:
            clean = sanitise(homework, files)
            findings = detect(homework, clean.notebook)
            result |= {
                "remarks": list(clean.remarks),
                "barred": findings.barred,
                "flags": list(findings.flags),
            }
            others = {name: data for name, data in files.items() if not name.lower().endswith(".ipynb")}
            request = request_for(homework, clean.notebook, findings.barred, seed, self.limits)
            found, left_out = self._judged(request, others)
            result["remarks"] += left_out
            for cell, outputs in zip(_code(clean.notebook), found.pop("outputs"), strict=True):
                cell.outputs = from_dict(outputs)
            result |= found | {"notebook": clean.notebook}
        except Unreadable as error:
            result |= failed(homework, error.reason)
        except Exception as error:
            log = verdict.clean(traceback.format_exc(), LOG)
            reason = f"The grader failed ({type(error).__name__}), not the submission: it will run again."
            result |= failed(homework, reason) | {"log": log, "retry": True}
        return result | {"seconds": round(time.monotonic() - start, 3)}

    def _judged(self, request: dict, files: Mapping[str, bytes]) -> tuple[dict, list[str]]:
        """What the judge found, by a second judge if the first one ends, and remarks on the files."""
        for left in reversed(range(TRIES)):
            try:
                servers = self._ready()
                with _Pupil(servers["student"], files, self.limits) as pupil:
                    return self._serve(servers["judge"], request, pupil), pupil.remarks
            except (RuntimeError, OSError):
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _serve(self, server: ForkServer, request: dict, pupil: _Pupil) -> dict:
        """One judge's work: it has the request, is served with student's processes, and gives the result."""
        deadline = time.monotonic() + self.limits.total_seconds + PATIENCE
        with _joined(server, self.spawned) as (judge, ours):
            pupil.prepare()
            try:
                wire.send(ours, wire.to_bytes(request), deadline)
                while True:
                    message = wire.receive(ours, limit=wire.TRUSTED, deadline=deadline)
                    if "address" in message:
                        pupil.fork([message["address"]])
                    elif message["do"] == "start":
                        with pupil.start() as sock:
                            socket.send_fds(ours, [b"S"], [sock.fileno()])
                    elif message["do"] == "end":
                        wire.send(ours, pupil.end(), deadline)
                    else:
                        return wire.from_bytes(message["result"])
            except (wire.WireError, OSError) as error:
                raise RuntimeError(f"the judge broke off: {error}; {judge.log()[-LOG:]}") from error


@contextmanager
def _joined(server: ForkServer | Spawner, spawned: bool) -> Iterator[tuple[Child | Spawned, socket.socket]]:
    """A judge's process, and a socket to it."""
    if spawned:
        meeting = Meeting()
        with meeting, server.fork(None, [meeting.address]) as judge, meeting.accept(judge) as ours:
            yield judge, ours
    else:
        ours, theirs = socket.socketpair()
        with ours, theirs, server.fork(None, [theirs.fileno()]) as judge:
            theirs.close()
            yield judge, ours


class _Pupil:
    """The student's process of one submission: started, ended and started anew as the judge asks."""

    def __init__(self, sandbox: StudentSandbox, files: Mapping[str, bytes], limits: Limits) -> None:
        self.sandbox, self.files, self.limits = sandbox, files, limits
        self.child: Child | Spawned | None = None
        self.sock: socket.socket | None = None
        self.remarks: list[str] = []

    def __enter__(self) -> _Pupil:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def prepare(self) -> None:
        """Starts a process unless one waits to be handed out, or there always is a spare."""
        if self.child is not None or self.sandbox.mode == "spawned":
            return
        self.sock, theirs = socket.socketpair()
        with theirs:
            self.fork([theirs.fileno()])

    def fork(self, ends: Sequence[Any]) -> None:
        """Starts a process with the judge at the other end."""
        try:
            self.child = self.sandbox.fork(None, ends, self.files)
        except ValueError as error:
            self.files, self.remarks = {}, [f"the files beside the notebook were left out: {error}"]
            self.child = self.sandbox.fork(None, ends)

    def start(self) -> socket.socket:
        """The judge's end of the socket to a process that nobody has used; the caller closes it."""
        self.prepare()
        sock, self.sock = self.sock, None
        return sock

    def end(self) -> str:
        """Kills the process with all that it started; why it had ended, "" if it had not."""
        ended = self.child is not None and self.child.wait(0.5) is not None  # its socket may close before it
        reason = _why(self.child, self.limits) if ended else ""
        self._close()
        return reason

    def _close(self) -> None:
        if self.sock is not None:
            self.sock.close()
        if self.child is not None:
            self.child.close()
        self.sock = self.child = None


def _why(child: Child | Spawned, limits: Limits) -> str:
    known = {
        "memory": f"it used more than {limits.memory / 2**30:.1f} GiB of memory",
        "processes": f"it started more than {limits.processes} processes",
        "time": f"it took more than {limits.total_seconds:.0f} s",
    }
    code = child.wait(0)
    how = f"exit status {code}" if code >= 0 else signal.Signals(-code).name
    return known.get(child.reason, how)


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def request_for(
    homework: Homework, notebook: NotebookNode, barred: Mapping[str, str], seed: int, limits: Limits
) -> dict:
    """What the judge needs to know, and nothing else."""
    kinds = {cell.grade_id: cell.kind for cell in homework.cells if cell.grade_id is not None}
    cells = []
    for cell in _code(notebook):
        meta = cell.metadata.get("nbgrader", {})
        grade_id = meta.get("grade_id")
        cells.append(
            {
                "id": grade_id or cell.get("id", f"cell-{len(cells)}"),
                "kind": kinds.get(grade_id, "text"),
                "source": cell.source,
                "points": meta.get("points", 0),
                "part": homework.part(grade_id) if grade_id else "",
            }
        )
    return {
        "cells": cells,
        "contract": sorted(homework.contract),
        "barred": dict(barred),
        "seed": seed,
        "limits": asdict(limits),
    }


def failed(homework: Homework, reason: str) -> dict:
    """A result without points: the homework's notebook in which each test says why."""
    from nbformat import from_dict

    notebook, cells = homework.notebook(), {}
    reason = verdict.clean(reason)
    for cell in _code(notebook):
        meta = cell.metadata.get("nbgrader", {})
        if meta.get("grade") and not meta.get("solution"):
            cell.outputs = from_dict([verdict.as_output("NotGraded", reason)])
            cells[meta.grade_id] = {
                "points": 0.0,
                "max": float(meta.points),
                "passed": False,
                "message": reason,
                "hidden": False,
                "seconds": 0.0,
            }
    return {"status": "failed", "reason": reason, "cells": cells, "notebook": notebook}
