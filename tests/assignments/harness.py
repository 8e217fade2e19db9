"""Grade a homework notebook as nbgrader does, in about a second.

`grade(notebook, replacements)` puts sources into the notebook's solution cells, runs all code cells in
order in one fresh namespace, and gives each test cell its points or none: none if it raised, or if anything
reached stderr.

The cells run in a process of their own. One server process per test process has imported torch and ganlib
and forks a child for each submission, so that a submission costs its own tests and nothing that it does
(seeds, threads, patched modules, exit) reaches the next. The server is started fresh, not forked from
pytest: a fork of a process whose OpenMP threads have run hangs at its first parallel region.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import linecache
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "assignments" / "source"

# What the server imports before it forks: a submission finds them there.
WARM = (
    "torch._dynamo",  # the first optimiser and the first dispatch mode import it, for a second
    "ganlib.data",
    "ganlib.losses",
    "ganlib.metrics",
    "ganlib.models.dcgan",
    "ganlib.models.wgan_gp",
)

Edits = Mapping[str, Sequence[tuple[str, str]]]


class Report(NamedTuple):
    """What one submission earned: points and error text per test cell, seconds per test cell."""

    points: dict[str, float]
    errors: dict[str, str]
    seconds: dict[str, float]


@dataclass(frozen=True)
class Variant:
    """A differently written submission: new sources for some solution cells, and the parts that it breaks."""

    name: str
    note: str
    breaks: frozenset[str]
    replacements: dict[str, str]


# --- the homework's cells --------------------------------------------------------------------------


def code_cells(notebook: Path) -> list[dict]:
    """The code cells as dicts of id, source, points (None unless a test cell) and solution (bool)."""
    cells = []
    for index, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] == "code":
            meta = cell["metadata"].get("nbgrader", {})
            cells.append(
                {
                    "id": meta.get("grade_id", f"cell-{index}"),
                    "source": "".join(cell["source"]),
                    "points": meta.get("points") if meta.get("grade") else None,
                    "solution": bool(meta.get("solution")),
                }
            )
    return cells


def max_points(notebook: Path) -> dict[str, float]:
    """Points of every automatically graded cell by grade_id."""
    return {cell["id"]: cell["points"] for cell in code_cells(notebook) if cell["points"] is not None}


def part(grade_id: str) -> str:
    """The part that a test cell belongs to: what stands before the first hyphen of its grade_id."""
    return grade_id.split("-", 1)[0]


def lost(notebook: Path, points: Mapping[str, float]) -> dict[str, float]:
    """Points lost per part, only the parts that lost any."""
    missing: dict[str, float] = {}
    for grade_id, best in max_points(notebook).items():
        if points[grade_id] < best:
            missing[part(grade_id)] = missing.get(part(grade_id), 0) + best - points[grade_id]
    return missing


def skeleton(notebook: Path) -> dict[str, str]:
    """Replacements that turn the instructor's notebook into the one that students receive."""
    region = re.compile(r"^([ \t]*)### BEGIN SOLUTION.*?### END SOLUTION[^\n]*", re.DOTALL | re.MULTILINE)
    return {
        cell["id"]: region.sub(r"\1raise NotImplementedError", cell["source"])
        for cell in code_cells(notebook)
        if cell["solution"]
    }


def load_variants(folder: Path) -> list[Variant]:
    """The variants of a folder, one per .py file.

    A file opens with `# breaks: part[, part]` (wrong ones only) and a line that says what is different. Each
    `# %% grade_id` line starts the source for that solution cell.
    """
    variants = []
    for path in sorted(folder.glob("*.py")):
        head, *sections = re.split(r"^# %% (\S+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        breaks = re.search(r"^# breaks: (.+)$", head, flags=re.MULTILINE)
        note = " ".join(line.lstrip("# ") for line in head.splitlines() if not line.startswith("# breaks:"))
        variants.append(
            Variant(
                name=path.stem,
                note=note.strip(),
                breaks=frozenset(name.strip() for name in breaks[1].split(",")) if breaks else frozenset(),
                replacements=dict(zip(sections[::2], sections[1::2], strict=True)),
            )
        )
    return variants


# --- grading ---------------------------------------------------------------------------------------


def run(
    notebook: Path,
    replacements: Mapping[str, str] | None = None,
    edits: Edits | None = None,
    timeout: float = 300.0,
) -> Report:
    """Grade one submission.

    replacements: solution cell's grade_id -> the student's source.
    edits: grade_id -> (old, new) pairs of text replaced in that cell of this copy, e.g. fewer training steps.
    Raises ValueError for an id that the notebook does not have or an old text that the cell does not contain,
    and TimeoutError if the submission is not done after `timeout` seconds.
    """
    cells = code_cells(notebook)
    by_id = {cell["id"]: cell for cell in cells}
    for grade_id, source in (replacements or {}).items():
        if grade_id not in by_id or not by_id[grade_id]["solution"]:
            raise ValueError(f"replacements: {notebook.name} has no solution cell {grade_id!r}")
        by_id[grade_id]["source"] = source
    for grade_id, pairs in (edits or {}).items():
        if grade_id not in by_id:
            raise ValueError(f"edits: {notebook.name} has no code cell {grade_id!r}")
        for old, new in pairs:
            if old not in by_id[grade_id]["source"]:
                raise ValueError(f"edits: {old!r} does not occur in cell {grade_id!r} of {notebook.name}")
            by_id[grade_id]["source"] = by_id[grade_id]["source"].replace(old, new)
    return Report(*_server().ask({"cells": cells, "timeout": timeout}))


def grade(
    notebook: Path, replacements: Mapping[str, str] | None = None, edits: Edits | None = None, **kwargs
) -> dict[str, float]:
    """Points per test cell of one submission; see `run`."""
    return run(notebook, replacements, edits, **kwargs).points


class _Server:
    def __init__(self) -> None:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",  # several test processes share the cores
            "NBGRADER_EXECUTION": "autograde",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        }
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: dict) -> list:
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline() or '{"error": "the grading process ended"}')
        if "error" in answer:
            raise TimeoutError(answer["error"])
        return answer["report"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


_running: _Server | None = None


def _server() -> _Server:
    global _running
    if _running is None or _running.process.poll() is not None:
        _running = _Server()
        atexit.register(_running.close)
    return _running


# --- the server process ----------------------------------------------------------------------------


def _run_cells(cells: list[dict]) -> tuple[dict, dict, dict]:
    namespace = {"__name__": "__main__"}
    points, errors, seconds = {}, {}, {}
    with tempfile.TemporaryFile() as stderr, tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        os.dup2(stderr.fileno(), 2)  # a C library's complaint counts, too
        for cell in cells:
            name, source = f"<{cell['id']}>", cell["source"]
            linecache.cache[name] = (len(source), None, source.splitlines(True), name)
            error, start, before = "", time.perf_counter(), os.fstat(2).st_size
            try:
                exec(compile(source, name, "exec"), namespace)
            except BaseException:  # a kernel survives SystemExit as well
                error = traceback.format_exc()
            sys.stderr.flush()
            if not error and os.fstat(2).st_size > before:
                stderr.seek(before)
                error = "on stderr: " + stderr.read().decode(errors="replace")
            if cell["points"] is not None:
                points[cell["id"]] = 0.0 if error else float(cell["points"])
                seconds[cell["id"]] = time.perf_counter() - start
            if error:
                errors[cell["id"]] = error
        os.chdir(ROOT)
    return points, errors, seconds


def _answer(request: dict) -> dict:
    """Run a submission in a forked child: the parent stays as clean as it was."""
    if not hasattr(os, "fork"):  # Windows: slower, and one process serves all
        return {"report": _run_cells(request["cells"])}
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        os.setsid()  # a student's children can be ended together with it
        with os.fdopen(writer, "w") as pipe:
            pipe.write(json.dumps({"report": _run_cells(request["cells"])}))
        os._exit(0)
    os.close(writer)

    def expire(signum, frame):
        os.killpg(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, request["timeout"])
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    signal.setitimer(signal.ITIMER_REAL, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # whatever it left running
    os.waitpid(child, 0)
    return json.loads(text) if text else {"error": f"no grade after {request['timeout']} s"}


def _serve() -> None:
    for name in WARM:
        with contextlib.suppress(ImportError):  # a module that does not import fails the cell that needs it
            importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)  # what a student prints must not mix with the answers
    for line in sys.stdin:
        answers.write(json.dumps(_answer(json.loads(line))) + "\n")
        answers.flush()


if __name__ == "__main__":
    _serve()
