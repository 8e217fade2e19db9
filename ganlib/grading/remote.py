"""The student's process as the judge sees it: requests and answers, deadlines, restarts.

Nothing that comes from there is believed: an answer has a deadline and a form, and whatever has not ends
the process. A new one then repeats the cells that had been run, except those that end it.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ganlib.grading import wire
from ganlib.grading.alarm import set_alarm
from ganlib.grading.verdict import Ended, Overtime, StudentError, student_error

RESTARTS = 5  # in one submission
GRACE = 3.0  # seconds between the alarm in the student's process and the end of the judge's patience


class Host(Protocol):
    """Whoever starts and ends the student's process: the Station, or a test."""

    def start(self) -> socket.socket:
        """A socket to a new process in which :func:`ganlib.grading.student.serve` runs."""

    def end(self) -> str:
        """Ends the process now, if it still runs; why it had ended, "" if there is nothing to say."""


class Remote:
    """One submission's student processes, one at a time.

    begin: the first request to each of them. seed_of: from a request's key to the seed of the random
    numbers that the student's code then draws, the same when the request is repeated. total: seconds for
    all requests.
    """

    def __init__(self, host: Host, begin: dict, seed_of: Callable[[str], int], total: float) -> None:
        self.host, self.seed_of, self.total = host, seed_of, total
        self.deadline = time.monotonic() + total
        self.starts = 0
        self._sock: socket.socket | None = None
        self._count = 0
        self._kept = [(begin, "begin", total)]  # what a new process has to do first

    def keep(self, request: dict, key: str, seconds: float) -> dict:
        """Like `call`, for a request that a new process has to repeat if it was done: a cell."""
        try:
            answer = self.call(request, key, seconds)
        except StudentError:
            self._kept.append((request, key, seconds))  # what it did before the error counts
            raise
        self._kept.append((request, key, seconds))
        return answer

    def call(self, request: dict, key: str, seconds: float) -> dict:
        """The answer to a request.

        Raises StudentError if the student's code raised; Overtime if it was interrupted; Ended if the
        process is gone or had to be ended; wire.WireError if the request cannot travel.
        """
        if self._sock is None:
            self._start()
        return self._exchange(request, key, seconds)

    def _start(self) -> None:
        while self.starts <= RESTARTS:
            self.starts += 1
            with _alarm_paused():
                self._sock = self.host.start()
            for kept in list(self._kept):
                try:
                    with contextlib.suppress(StudentError, Overtime):
                        self._exchange(*kept)
                except Ended:  # it had not ended the first process: try without it
                    self._kept.remove(kept)
                    break
            else:
                return
        raise Ended(f"your code ended or blocked its process {self.starts} times: nothing more is run")

    def _exchange(self, request: dict, key: str, seconds: float) -> dict:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Overtime(f"the whole notebook took more than {self.total:g} s")
        seconds = max(0.01, min(seconds, left))
        self._count += 1
        frame = request | {"id": self._count, "seconds": seconds, "seed": self.seed_of(key)}
        wire.encode(frame)  # a WireError from here is the question's fault, not the student's
        try:
            deadline = time.monotonic() + seconds + GRACE
            wire.send(self._sock, frame, deadline)
            return _checked(wire.receive(self._sock, deadline=deadline), self._count, seconds)
        except wire.Late:
            self._hang_up()
            raise Ended(f"not done after {seconds:.3g} s, and it could not be interrupted") from None
        except wire.Closed:
            reason = self._hang_up()
            raise Ended("your code ended its process" + (reason and f": {reason}")) from None
        except wire.WireError as error:
            self._hang_up()
            raise Ended(f"what came from your process is no answer: {error}") from None

    def _hang_up(self) -> str:
        with _alarm_paused():
            self._sock.close()
            self._sock = None
            return self.host.end()


@contextlib.contextmanager
def _alarm_paused() -> Iterator[None]:
    """A test's alarm must not cut the talk with the host in two, which takes seconds on a busy machine."""
    left = set_alarm(0)
    try:
        yield
    finally:
        set_alarm(left)


def _checked(answer: Any, number: int, seconds: float) -> dict:
    """The answer, if it has the form that an honest process gives it; raises what it says was raised."""
    if not isinstance(answer, dict) or answer.get("id") != number:
        raise wire.WireError("an answer to another question")
    match answer.get("error"):
        case None:
            return answer
        case {"type": str(kind), "message": str(message), "frames": list(frames)}:
            if kind == "TimeLimit":
                raise Overtime(f"not done after {seconds:.3g} s")
            raise student_error(kind, message, frames, answer.get("outputs"))
    raise wire.WireError("an error of no known form")
