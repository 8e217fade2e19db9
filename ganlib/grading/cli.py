"""The command ``ganlib grade``."""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganlib.grading.sandbox import Limits


def add_command(commands: Any) -> None:
    """Puts ``grade`` among the subcommands of an argparse parser."""
    grade = commands.add_parser(
        "grade",
        help="grade a class: all submissions of an assignment, in parallel, each in a sandbox",
        description="Grades what lies in COURSE/submitted/*/ASSIGNMENT, for nbgrader's gradebook. What was "
        "graded and has not changed stays; a run that was interrupted is taken up.",
    )
    grade.add_argument("assignment", nargs="?", help="a folder of source/, such as dcgan")
    grade.add_argument("--course-dir", type=Path, default=Path("assignments"), help="default: assignments")
    grade.add_argument("--students", nargs="+", metavar="NAME", help="only these")
    grade.add_argument("--force", action="store_true", help="grade again what has not changed, too")
    grade.add_argument("--workers", type=int, metavar="N", help="how many at once (default: the cores)")
    grade.add_argument(
        "--scheduler", metavar="tcp://HOST:PORT", help="a running Dask cluster that does the work"
    )
    grade.add_argument(
        "--db-url", metavar="URL", help="the gradebook, such as postgresql://... (default: as nbgrader)"
    )
    grade.add_argument(
        "--limits",
        nargs="+",
        metavar="KEY=VALUE",
        default=[],
        help="cell_seconds, total_seconds, processes; memory, disk, output of a cell in bytes",
    )
    grade.add_argument("--degraded", action="store_true", help="grade although this machine has no sandbox")
    grade.add_argument(
        "--doctor", action="store_true", help="say what the sandbox holds on this machine, and stop"
    )
    grade.set_defaults(command=command)


def command(options: argparse.Namespace) -> int:
    """Run it: 0 if every submission has its row, a failed one too; 1 if the run could not be finished."""
    if options.doctor:
        from ganlib.grading import doctor

        return doctor.main(options.course_dir)
    if options.assignment is None:
        raise ValueError("which assignment? a folder of source/, such as dcgan")
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {options.workers}")
    from ganlib.grading.cluster import StationError
    from ganlib.grading.run import grade_class
    from ganlib.grading.station import Station

    limits = _limits(options)
    station = functools.partial(
        Station,
        limits,
        confined=None if options.degraded else True,
        hide=[options.course_dir.resolve()],
    )
    try:
        summary = grade_class(
            options.course_dir,
            options.assignment,
            students=options.students,
            force=options.force,
            workers=options.workers,
            scheduler=options.scheduler,
            db_url=options.db_url,
            station=station,
            patience=2 * limits.total_seconds + 300,
        )
    except (OSError, StationError) as error:
        hint = "; --degraded grades without it" if "bubblewrap" in str(error) else ""
        print(f"ganlib: {' '.join(str(error).split())}{hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ganlib: interrupted; what was graded is kept: run it again to go on", file=sys.stderr)
        return 130
    print(*summary.lines(), sep="\n")
    return 1 if summary.unrecorded else 0


def _limits(options: argparse.Namespace) -> Limits:
    """As asked for; without a word on memory, no more than this machine has for so many at once."""
    import dataclasses

    import psutil

    from ganlib.grading.cluster import cores

    limits = parse_limits(options.limits)
    if options.scheduler or any(word.startswith("memory=") for word in options.limits):
        return limits
    free = psutil.virtual_memory().available - 2 * 2**30  # for the fork servers and the judges
    fitting = max(free // (options.workers or cores()), 2**30)
    if fitting >= limits.memory:
        return limits
    print(
        f"ganlib: memory of a submission: {fitting / 2**30:.1f} GiB, as much as is free here", file=sys.stderr
    )
    return dataclasses.replace(limits, memory=fitting)


def parse_limits(words: list[str]) -> Limits:
    """The limits with ``["cell_seconds=60", "memory=2e9"]`` put in. Raises ValueError for what is none."""
    from dataclasses import fields

    from ganlib.grading.sandbox import Limits

    kinds = {field.name: float if field.type == "float" else int for field in fields(Limits)}
    limits = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in kinds:
            raise ValueError(f"--limits: {name!r} is none of {', '.join(kinds)}")
        try:
            limits[name] = kinds[name](float(value))
        except (ValueError, OverflowError):
            raise ValueError(f"--limits: {word!r} is not of the form {name}=NUMBER") from None
    return Limits(**limits)
