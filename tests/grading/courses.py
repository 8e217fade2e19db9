"""A course whose homework `tiny` was released, made once for all test files, and a Station for it.

To make either of them otherwise takes seconds.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from nbgrader.converters import GenerateAssignment

from ganlib.grading import station
from ganlib.grading.gradebook import Course

CONFIG = Path(__file__).resolve().parents[2] / "assignments" / "nbgrader_config.py"
_made: list[Path] = []


def released(tiny, factory: pytest.TempPathFactory) -> Path:
    """The course's folder, to be copied; with the real course's nbgrader_config.py."""
    if not _made:
        folder = factory.mktemp("released")
        tiny.write_source(folder)
        shutil.copy(CONFIG, folder)
        release(folder)
        _made.append(folder)
    return _made[0]


def release(folder: Path) -> None:
    """As `nbgrader generate_assignment --force tiny`."""
    course = Course(folder)
    course.settings.assignment_id = "tiny"
    GenerateAssignment(coursedir=course.settings, parent=course.app, force=True).start()


def light_station(*args, **kwargs) -> station.Station:
    """A Station without torch, which the tiny homework does not need. In a worker process: it stays so."""
    station.JUDGE_WARM = station.STUDENT_WARM = ()
    return station.Station(*args, **kwargs)
