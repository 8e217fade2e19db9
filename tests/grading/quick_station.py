"""A Station's stand-in for tests of the run: grades a homework by the words in its solution cells.

As a command it grades a course with it: ``python quick_station.py COURSE ASSIGNMENT [SECONDS]``.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from nbformat.v4 import new_output

from ganlib.grading.homework import Homework


class QuickStation:
    """A part earns its points if its solution cell has `return`.

    Comments steer the rest: `# crash` raises, `# kill` ends the worker process, `# lie` gives no points but a
    notebook that shows them. A call takes `seconds` and leaves "student seed" in `notes`/calls.
    """

    def __init__(self, seconds: float = 0.0, notes: Path | None = None) -> None:
        self.seconds = seconds
        self.notes = notes

    def __enter__(self) -> QuickStation:
        return self

    def __exit__(self, *error: object) -> None:
        if self.notes:
            (self.notes / "closed").touch()

    def grade(self, homework: Homework, files: Mapping[str, bytes], student: str, seed: int) -> dict:
        if self.notes:
            with open(self.notes / "calls", "a") as calls:
                calls.write(f"{student} {seed}\n")
        time.sleep(self.seconds)
        handed_in = json.loads(files[f"{homework.name}.ipynb"])
        sources = {c["metadata"].get("nbgrader", {}).get("grade_id"): c["source"] for c in handed_in["cells"]}
        text = "\n".join(sources.values())
        if "# crash" in text:
            raise RuntimeError("the station crashed")
        if "# kill" in text:
            os._exit(1)
        notebook, cells = homework.notebook(), {}
        for cell in notebook.cells:
            about = cell.metadata.get("nbgrader", {})
            name = about.get("grade_id")
            if about.get("solution"):
                cell.source = sources[name]
            elif about.get("grade"):
                passed = "return" in sources[homework.part(name)]
                message = "" if passed else "it does not return"
                if not passed and "# lie" not in text:
                    cell.outputs = [new_output("error", ename="AssertionError", evalue=message, traceback=[])]
                cells[name] = {
                    "points": float(about.points) * passed,
                    "max": float(about.points),
                    "passed": passed,
                    "message": message,
                    "hidden": False,
                    "seconds": 0.0,
                }
        return {
            "student": student,
            "status": "graded",
            "reason": "",
            "seed": seed,
            "cells": cells,
            "barred": {},
            "flags": [],
            "remarks": [],
            "restarts": 0,
            "seconds": self.seconds,
            "log": "",
            "notebook": notebook,
        }


if __name__ == "__main__":
    from ganlib.grading.run import grade_class

    course, assignment, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    sys.path.insert(0, str(Path(__file__).parent))  # the worker process finds this module under its own name
    from quick_station import QuickStation as Station

    print(
        *grade_class(course, assignment, station=functools.partial(Station, seconds, course)).lines(),
        sep="\n",
    )
