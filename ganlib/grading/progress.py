"""What a run says: how far it is, and in the end what it did."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType


class Progress:
    """A bar on a terminal, a line for each submission elsewhere, on stderr; a context manager.

    total: how many submissions will come.
    """

    def __init__(self, total: int, assignment: str) -> None:
        from tqdm import tqdm

        self.total = total
        self.done = 0
        self.failed = 0
        self.began = time.monotonic()
        self.bar = (
            tqdm(total=total, desc=assignment, unit="", file=sys.stderr) if sys.stderr.isatty() else None
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, student: str, seconds: float, points: str, reason: str = "") -> None:
        """One more is done: whose, in how many seconds, with what result; `reason` if it failed."""
        self.done += 1
        self.failed += bool(reason)
        if self.bar is not None:
            self.bar.set_postfix_str(f"{self.failed} failed, {student} {seconds:.1f} s", refresh=False)
            self.bar.update()
            return
        left = (time.monotonic() - self.began) / self.done * (self.total - self.done)
        what = f"failed: {reason}" if reason else points
        print(
            f"{self.done}/{self.total} {student}: {what} ({seconds:.1f} s; {left:.0f} s to go)",
            file=sys.stderr,
            flush=True,
        )


@dataclass
class Summary:
    """What a run did. `scores` and `seconds` have an entry for each student who has a verdict."""

    assignment: str
    best: float  # points of all test cells
    graded: int = 0
    kept: int = 0  # verdicts of earlier runs that still hold
    failed: dict[str, str] = field(default_factory=dict)  # the reason by student
    unrecorded: dict[str, str] = field(default_factory=dict)  # verdicts that did not reach the gradebook
    scores: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    wall: float = 0.0
    report: Path | None = None

    def lines(self) -> Iterator[str]:
        """The summary as it is printed."""
        if not self.scores:
            yield f"nobody has submitted {self.assignment}"
            return
        counts = f"{self.graded} graded, {self.kept} kept from before, {len(self.failed)} failed"
        mean = f"mean {statistics.mean(self.scores.values()):.1f} of {self.best:g} points"
        median = f"{statistics.median(self.seconds.values()):.1f} s a submission (median)"
        yield f"{self.assignment}: {counts}; {mean}; {self.wall:.1f} s, {median}"
        for what, reasons in (("failed", self.failed), ("not in the gradebook", self.unrecorded)):
            for student, reason in sorted(reasons.items()):
                yield f"{what}: {student}: {reason}"
        if self.report:
            yield f"report: {self.report}"
