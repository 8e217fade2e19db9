"""Dask: many submissions at once, each graded by the one Station of its worker process.

A worker's threads only wait for the Station's child processes, so that one process per machine is enough.
Where that process dies, Dask's nanny starts another; the submissions it had are tried again, alone in the
end, until it is clear which one is to blame.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

    from ganlib.grading.homework import Homework

# A worker's death counts against all that it had in hand; after more of them, Dask gives a submission back.
DEATHS = 2
ANSWERS_WITHIN = 15.0  # seconds, a running cluster's scheduler
PULSE = 3.0  # seconds between looks at the worker process

_lock = threading.Lock()
_station: Any = None
_broken = ""  # why no Station starts here


class StationError(Exception):
    """A worker cannot grade anything: its Station does not start."""


def grade_one(
    factory: Callable[[], Any], homework: str, files: Mapping[str, bytes], student: str, seed: int
) -> dict:
    """In a worker: grade a submission by the process's Station, which the first call starts.

    homework: as JSON. Raises StationError if the Station does not start.
    """
    return start_station(factory).grade(_homework(homework), files, student, seed)


@functools.lru_cache(maxsize=1)  # it comes with each submission, and to check it takes a while
def _homework(text: str) -> Homework:
    from ganlib.grading.homework import Homework

    return Homework.from_json(json.loads(text))


def start_station(factory: Callable[[], Any]) -> Any:
    """In a worker: its Station, which the first call starts. Raises StationError if it does not start."""
    global _station, _broken
    with _lock:
        if _station is None and not _broken:
            try:
                _station = factory().__enter__()
            except Exception as error:
                _broken = f"{type(error).__name__}: {error}"
        if _broken:
            raise StationError(_broken)
        return _station


def _start_stations(client: Client, factory: Callable[[], Any]) -> list[Future]:
    """One on each worker, meanwhile; what goes wrong is told when a submission needs it."""

    def start() -> None:  # a Station cannot be sent back
        with contextlib.suppress(StationError):
            start_station(factory)

    return [client.submit(start, workers=[each], pure=False) for each in client.nthreads()]


def stop_station() -> None:
    """In a worker: end the Station and its processes."""
    global _station, _broken
    with _lock:
        if _station is not None:
            _station.__exit__(None, None, None)
        _station, _broken = None, ""


@contextlib.contextmanager
def connect(
    workers: int | None = None, scheduler: str | None = None, station: Callable[[], Any] | None = None
) -> Iterator[Client]:
    """A client of a cluster on this machine, or of the running one at ``scheduler`` (``tcp://host:port``).

    With a ``station`` its workers start theirs at once, not with the first submission.

    The own cluster has one worker process of ``workers`` threads, by default as many as there are cores. It
    listens on the loopback address and speaks only with those who hold a key made for it: whoever may send
    Dask tasks runs code as the instructor. Raises OSError if nobody answers at ``scheduler``.
    """
    import dask
    from distributed import Client

    settings = {
        "distributed.logging": {"distributed": "critical"},
        "distributed.admin.low-level-log-length": 0,  # or a thousand messages stay, each with a submission
        "distributed.scheduler.allowed-failures": DEATHS,
        "distributed.scheduler.http.routes": [],  # its web server starts all the same: it serves nothing
        "distributed.worker.http.routes": [],
    }
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(settings))
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", "Sending large graph")  # a notebook with many pictures
        if scheduler is None:
            client = Client(stack.enter_context(_own_cluster(workers or cores())))
        else:
            client = Client(scheduler, timeout=ANSWERS_WITHIN)
        stack.enter_context(client)
        starting = _start_stations(client, station) if station else []
        try:
            yield client
        finally:
            del starting  # Dask would drop a task that nobody waits for
            with contextlib.suppress(Exception):  # a worker that died has no Station to stop
                client.run(stop_station, on_error="ignore")


def _own_cluster(workers: int, tries: int = 5) -> LocalCluster:
    """Raises OSError if its worker process dies before it has started, several times."""
    from distributed import LocalCluster, Security

    with _ctrl_c_ignored():
        for _ in range(tries):
            try:
                return LocalCluster(
                    n_workers=1,
                    threads_per_worker=workers,
                    host="127.0.0.1",
                    scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                    memory_limit=0,
                    silence_logs=logging.CRITICAL,
                    security=Security.temporary(),
                )
            except RuntimeError as error:
                reason = error.__cause__ or error
    raise OSError(f"no worker process starts: {reason}")


@contextlib.contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """What is started meanwhile ignores Ctrl-C, which a terminal sends to all: this one ends the rest."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def each(
    client: Client, tasks: Iterable[tuple[str, tuple]], abreast: int | None, patience: float
) -> Iterator[tuple[str, Future]]:
    """Run ``grade_one(*arguments)`` for (name, arguments) pairs; names with their futures as they come back.

    At most ``abreast`` are in flight, by default twice as many as the cluster has threads, and ``tasks`` is
    read no faster: 200 submissions are never in memory together. When nothing comes back for ``patience``
    seconds, all that is in flight is given up and the workers are started anew. Raises OSError if the cluster
    goes away.
    """
    from distributed import CancelledError, TimeoutError, wait

    tasks = iter(tasks)
    flying: dict[Future, str] = {}
    number = itertools.count()
    heard = time.monotonic()
    while True:
        room = abreast or max(2 * sum(client.nthreads().values()), 1)
        for name, arguments in itertools.islice(tasks, max(room - len(flying), 0)):
            future = client.submit(grade_one, *arguments, pure=False, priority=-next(number))
            flying[future] = name
        if not flying:
            return
        try:
            done = wait(list(flying), timeout=min(PULSE, patience), return_when="FIRST_COMPLETED").done
        except TimeoutError:
            _revive(client.cluster)
            if time.monotonic() - heard < patience:
                continue
            client.restart(wait_for_workers=False)
            done = set(flying)
        except CancelledError:
            raise OSError("the cluster went away; what was graded is kept: run again to go on") from None
        heard = time.monotonic()
        for future in done:
            yield flying.pop(future), future
            future.release()


def _revive(cluster: LocalCluster | None) -> None:
    """Starts another worker process where Dask has given up: it does if one dies before it has started."""
    if cluster is None:  # not ours
        return
    if all(nanny.status.name in ("closed", "failed") for nanny in cluster.workers.values()):
        cluster.scale(0)
        cluster.scale(1)


def lost(future: Future) -> str:
    """Why a worker's death left a submission without a verdict; "" if it has one, or an error of its own."""
    from distributed.scheduler import KilledWorker

    if future.status == "finished":
        return ""
    if future.status != "error":
        return f"the worker was lost ({future.status})"
    error = future.exception()
    return f"the worker that graded it died {DEATHS + 1} times" if isinstance(error, KilledWorker) else ""
