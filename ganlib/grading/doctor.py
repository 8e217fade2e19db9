"""What holds on this machine: each guarantee of the sandbox tried for real, by code that attacks it from
inside.

The trials (:mod:`ganlib.grading.trials`) are bounded (the "fork bomb" stops at twice the limit), so that
they do no harm where a guarantee does not hold.
"""

from __future__ import annotations

import json
import os
import secrets
import select
import socket
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from ganlib.grading import spawn, trials
from ganlib.grading.sandbox import ANSWERS, Limits, StudentSandbox

__all__ = ["Finding", "doctor", "main"]

_LIMITS = Limits(total_seconds=30, memory=384 << 20, processes=24, disk=16 << 20)


class Finding(NamedTuple):
    """One guarantee, whether it holds here, and what was seen if it does not."""

    what: str
    holds: bool
    says: str = ""


def doctor(course: str | Path = ".", confined: bool | None = None) -> list[Finding]:
    """Try every guarantee on this machine, with `course` as the folder that must not be seen. Takes some
    seconds.

    `confined` as for :class:`~ganlib.grading.sandbox.StudentSandbox`. ValueError if `course` is no folder.
    """
    if not Path(course).is_dir():
        raise ValueError(f"course: {course} is not a folder")
    if spawn.NEEDED:  # nothing holds, and the trials are for systems that fork
        with StudentSandbox("ganlib.grading.confine:run_code", [], _LIMITS, confined=confined) as sandbox:
            return [Finding("runs confined by bubblewrap", False, "; ".join(sandbox.lacks))]
    with ExitStack() as stack:
        known = stack.enter_context(_bait(Path(course).resolve()))
        target = "ganlib.grading.confine:run_code"
        sandbox = stack.enter_context(StudentSandbox(target, [], _LIMITS, confined=confined, hide=[course]))
        bare = "; ".join(sandbox.lacks[:1])
        findings = [Finding("runs confined by bubblewrap", sandbox.mode != "degraded", bare)]
        endless = stack.enter_context(sandbox.fork(_code(trials.ENDLESS, known), seconds=2))
        with ThreadPoolExecutor(4) as pool:
            findings += pool.map(
                lambda each: _try(sandbox, each[0], _code(each[1], known)), trials.TRIALS.items()
            )
        findings += [each(sandbox, known) for each in (_detached, _neighbours, _crowded)]
        endless.wait(_LIMITS.total_seconds)
        findings.append(Finding("is stopped at the time limit", endless.reason == "time", "it runs on"))
    return [Finding(what, holds, "" if holds else says) for what, holds, says in findings]


@contextmanager
def _bait(course: Path) -> Iterator[dict[str, Any]]:
    """Something to steal: a file, a variable, listening sockets. Yields what the trials are told of it."""
    mark = f"ganlib-doctor-{secrets.token_hex(8)}"
    with ExitStack() as stack:
        secret = stack.enter_context(tempfile.NamedTemporaryFile(prefix=mark))
        internet = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        local = stack.enter_context(socket.socket(socket.AF_UNIX))
        local.bind(f"{secret.name}.s")
        stack.callback(os.unlink, f"{secret.name}.s")
        local.listen()
        os.environ[mark] = "1"
        stack.callback(os.environ.pop, mark)
        # The folders above this Python are there inside, with nothing else in them.
        pythons = [Path(path) for path in (sys.prefix, sys.base_prefix)]
        entries = [
            path for path in course.iterdir() if not any(each.is_relative_to(path) for each in pythons)
        ]
        yield {
            "mark": mark,
            "secrets": [secret.name, *map(str, entries)],
            "folders": [str(course), os.path.expanduser("~"), tempfile.gettempdir()],
            "listening": [[socket.AF_INET, internet.getsockname()], [socket.AF_UNIX, f"{secret.name}.s"]],
            "abstract": f"\0{mark}",
            "key": secrets.randbelow(1 << 30) + 1,
            "pid": os.getpid(),
            "barred": ANSWERS,
            "package": str(Path(__file__).parents[1]),
        }


def _code(trial: str, known: dict[str, Any]) -> str:
    return trials.PRELUDE.format(known=json.dumps(known), limits=json.dumps(asdict(_LIMITS))) + trial


def _try(sandbox: StudentSandbox, what: str, trial: str) -> Finding:
    """It holds if the trial says so, or if the sandbox killed it for what it did."""
    with sandbox.fork(trial) as child:
        code = child.wait(_LIMITS.total_seconds)
        if code == 0 or child.reason in ("memory", "processes"):
            return Finding(what, True)
        said = child.log().strip().splitlines() or [f"no answer, {child.reason or code}"]
        return Finding(what, False, said[-1])


def _detached(sandbox: StudentSandbox, known: dict[str, Any]) -> Finding:
    """Start a process that leaves its session; it holds a pipe, so the pipe's end is its end."""
    ours, theirs = os.pipe()
    with sandbox.fork(_code(trials.DETACHED, known), [theirs]) as child:
        os.close(theirs)
        child.wait(_LIMITS.total_seconds)
    ended = bool(select.select([ours], [], [], 2)[0])
    os.close(ours)
    return Finding("leaves no process behind", ended, "one that left its session still runs")


def _crowded(sandbox: StudentSandbox, known: dict[str, Any]) -> Finding:
    """One busy process against sixteen of another submission, on one processor: it should get half."""
    what, used = "leaves others their part of the processor", []
    with ExitStack() as stack:
        children = [
            stack.enter_context(sandbox.fork(_code(trials.CROWD, {**known, "crowd": size})))
            for size in (15, 0)
        ]
        for child in children:
            child.wait(_LIMITS.total_seconds)
            try:
                used.append(sum(map(float, child.log().split())))
            except ValueError:
                return Finding(what, False, child.log().strip().splitlines()[-1])
    share = used[1] / (sum(used) or 1)
    return Finding(what, share > 0.25, f"one process of sixteen and one gets {share:.0%}")


def _neighbours(sandbox: StudentSandbox, known: dict[str, Any]) -> Finding:
    """Two at a time: one leaves traces, the other looks for them."""
    ready, written = os.pipe()
    wait, go = os.pipe()
    with sandbox.fork(_code(trials.WRITES, known), [written, wait]) as writer:
        os.close(written)
        os.close(wait)
        os.read(ready, 1)
        finding = _try(sandbox, "sees nothing of another student's", _code(trials.LOOKS, known))
        os.close(go)
        writer.wait(_LIMITS.total_seconds)
    os.close(ready)
    return finding


def main(course: str | Path = ".", confined: bool | None = None) -> int:
    """Print a line for each guarantee; returns 0 if all hold, else 1."""
    findings = doctor(course, confined)
    print("A student's code ...")
    for finding in findings:
        print("  ok    " + finding.what if finding.holds else f"  FAIL  {finding.what}: {finding.says}")
    failed = sum(not finding.holds for finding in findings)
    print(f"{len(findings) - failed} of {len(findings)} guarantees hold on this machine.")
    return int(failed > 0)
