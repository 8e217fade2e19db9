"""Time a class: serial `nbgrader autograde` against `ganlib grade`; time and memory of a large class.

    python benchmarks/grade_class.py                          both homeworks, 24 submissions, three ways
    python benchmarks/grade_class.py --without fit-distance   the same without some test cells
    python benchmarks/grade_class.py --classes 50 100 200     only `ganlib grade`, by class size

Submissions are the right and wrong variants of tests/assignments. All ways grade copies of one course, one
after another, on the cores that the script may use (`taskset -c 0,1` for two). The time of `ganlib grade`
includes its start, that of its workers, and the report. Memory is the proportional set size of all its
processes together.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from ganlib.grading.gradebook import Course

ROOT = Path(__file__).resolve().parents[1]
# Stock nbgrader: no configuration but where its tool `alembic` lies.
PLAIN = """
import os, sys
from pathlib import Path
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
"""


def variants(homework: str) -> list[tuple[str, dict[str, str]]]:
    """Names of the variants and their sources by cell, every third a right one while there are such."""
    found = {}
    for kind in ("right", "wrong"):
        found[kind] = []
        for path in sorted((ROOT / "tests" / "assignments" / homework / kind).glob("*.py")):
            _, *parts = re.split(r"^# %% (\S+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            found[kind].append((path.stem, dict(zip(parts[::2], parts[1::2], strict=True))))
    mixed = []
    for index, variant in enumerate(found["wrong"]):
        mixed += [found["right"][index // 2]] if index % 2 == 0 and index // 2 < len(found["right"]) else []
        mixed.append(variant)
    return mixed


def make_course(folder: Path, homework: str, submissions: int, without: list[str]) -> None:
    """A released course in which so many students have handed in, less some test cells."""
    source = folder / "source" / homework
    source.mkdir(parents=True)
    notebook = json.loads((ROOT / "assignments" / "source" / homework / f"{homework}.ipynb").read_text())
    notebook["cells"] = [cell for cell in notebook["cells"] if grade_id(cell) not in without]
    (source / f"{homework}.ipynb").write_text(json.dumps(notebook))
    shutil.copy(ROOT / "assignments" / "nbgrader_config.py", folder)
    nbgrader(folder, "generate_assignment", homework)
    solved = {grade_id(cell): cell["source"] for cell in notebook["cells"]}
    released = (folder / "release" / homework / f"{homework}.ipynb").read_text()
    pool = variants(homework)
    for number in range(submissions):
        name, own = pool[number % len(pool)]
        notebook = json.loads(released)
        for cell in notebook["cells"]:
            about = cell["metadata"].get("nbgrader", {})
            if about.get("solution") and not about.get("grade"):
                cell["source"] = own.get(grade_id(cell), solved[grade_id(cell)])
        path = folder / "submitted" / f"{number:03d}-{name}" / homework / f"{homework}.ipynb"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(notebook))


def grade_id(cell: dict) -> str | None:
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def nbgrader(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "nbgrader", *words, "--course-dir", str(folder)]
    subprocess.run(command, cwd=folder, capture_output=True, check=words[0] != "autograde")


def ganlib(folder: Path, homework: str) -> None:
    command = [sys.executable, "-m", "ganlib", "grade", homework, "--course-dir", str(folder)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)


def contenders(course: Path, homework: str, scratch: Path) -> dict[str, float]:
    """Seconds of each way; how far their scores agree is printed."""
    seconds, scores = {}, {}
    for way in ("nbgrader autograde, stock", "nbgrader autograde, our settings", "ganlib grade"):
        folder = Path(shutil.copytree(course, scratch / re.sub(r"\W+", "-", way)))
        if "stock" in way:
            (folder / "nbgrader_config.py").write_text(PLAIN)
        began = time.perf_counter()
        if way.startswith("ganlib"):
            ganlib(folder, homework)
        else:
            nbgrader(folder, "autograde", homework)
        seconds[way] = time.perf_counter() - began
        scores[way] = {student: score.auto for student, score in Course(folder).scores(homework).items()}
        print(f"  {way}: {seconds[way]:.1f} s, {len(scores[way])} graded", flush=True)
    ours = scores.pop("ganlib grade")
    for way, theirs in scores.items():
        other = [f"{s}/{c}" for s in ours for c, x in ours[s].items() if theirs.get(s, {}).get(c) != x]
        print(f"  cells scored otherwise by {way}: {len(other)} {other[:6]}")
    return seconds


def slowest_cells(folder: Path, homework: str) -> str:
    """The test cells that took most of the time, and their share of the time of all."""
    spent: dict[str, float] = {}
    total = 0.0
    for path in (folder / "grading" / homework / "results").glob("*.json"):
        result = json.loads(path.read_text())
        total += result["seconds"]
        for name, cell in result["cells"].items():
            spent[name] = spent.get(name, 0.0) + cell["seconds"]
    largest = sorted(spent, key=spent.get, reverse=True)[:4]
    return ", ".join(f"{name} {spent[name] / total:.0%}" for name in largest)


class Memory(threading.Thread):
    """Watches what this process's descendants hold, in MiB: a sample every half second."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: list[float] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.5):
            held = 0
            for process in psutil.Process().children(recursive=True):
                try:
                    held += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.samples.append(held / 2**20)

    def quarters(self) -> str:
        """The largest sample of each quarter of the time."""
        self.done.set()
        size = max(len(self.samples) // 4, 1)
        return ", ".join(f"{max(self.samples[i : i + size]):.0f}" for i in range(0, 4 * size, size))


def classes(homework: str, sizes: list[int], without: list[str]) -> None:
    for size in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            course = Path(scratch, "course")
            make_course(course, homework, size, without)
            memory = Memory()
            memory.start()
            began = time.perf_counter()
            ganlib(course, homework)
            seconds = time.perf_counter() - began
            held = memory.quarters()
            own = [json.loads(p.read_text())["seconds"] for p in course.glob("grading/*/results/*.json")]
        print(
            f"  {size} submissions: {seconds:.1f} s, {seconds / size:.2f} s each (median of their own times "
            f"{statistics.median(own):.2f} s); at most {held} MiB in the quarters of the run",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--homework", nargs="+", default=["dcgan", "wgan_gp"])
    parser.add_argument("--submissions", type=int, default=24)
    parser.add_argument("--without", nargs="+", default=[], metavar="CELL", help="test cells to leave out")
    parser.add_argument(
        "--classes", nargs="+", type=int, metavar="N", help="only `ganlib grade`, of N submissions"
    )
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}, Python {sys.version.split()[0]}")
    for homework in options.homework:
        left_out = f" without {', '.join(options.without)}" if options.without else ""
        print(f"{homework}{left_out}")
        if options.classes:
            classes(homework, options.classes, options.without)
            continue
        with tempfile.TemporaryDirectory() as scratch:
            course = Path(scratch, "course")
            make_course(course, homework, options.submissions, options.without)
            seconds = contenders(course, homework, Path(scratch))
            ours = seconds["ganlib grade"]
            for way, other in seconds.items():
                print(f"  {way}: {other / ours:.1f} times ours")
            print(f"  slowest cells: {slowest_cells(Path(scratch, 'ganlib-grade'), homework)}")


if __name__ == "__main__":
    main()
