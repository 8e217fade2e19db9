"""`ganlib grade`: what it says, its exit codes, and `make grade`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
from functools import partial
from pathlib import Path

import psutil
import pytest

from ganlib.__main__ import main
from ganlib.grading import cli, doctor, run
from ganlib.grading.cluster import StationError
from ganlib.grading.progress import Progress, Summary
from ganlib.grading.sandbox import Limits

ROOT = Path(__file__).resolve().parents[2]
if str(Path(__file__).parent) not in sys.path:  # `import courses`
    sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def folder(tiny, tmp_path, tmp_path_factory) -> Path:
    """A course folder of the test's own."""
    import courses

    return Path(shutil.copytree(courses.released(tiny, tmp_path_factory), tmp_path / "course"))


@pytest.fixture
def asked(monkeypatch) -> dict:
    """What the command asks of `grade_class`, which does nothing here but raise the error in `raises`."""
    seen = {"raises": None, "summary": Summary("tiny", 7.0)}

    def grade_class(course_dir, assignment, **settings):
        seen.update(settings, course_dir=course_dir, assignment=assignment)
        if seen["raises"]:
            raise seen["raises"]
        return seen["summary"]

    monkeypatch.setattr(run, "grade_class", grade_class)
    return seen


def test_options_reach_the_run(asked, tmp_path):
    words = [
        "grade",
        "tiny",
        "--course-dir",
        str(tmp_path),
        "--students",
        "ada",
        "bob",
        "--force",
        "--workers",
        "3",
    ]
    words += [
        "--scheduler",
        "tcp://h:1",
        "--db-url",
        "postgresql://x/y",
        "--limits",
        "total_seconds=7.5",
        "memory=2e9",
    ]
    assert main(words) == 0
    assert (asked["course_dir"], asked["assignment"], asked["students"]) == (tmp_path, "tiny", ["ada", "bob"])
    assert (asked["force"], asked["workers"], asked["scheduler"]) == (True, 3, "tcp://h:1")
    assert asked["db_url"] == "postgresql://x/y"
    assert asked["station"].args == (Limits(total_seconds=7.5, memory=2_000_000_000),)
    assert asked["patience"] == 315
    assert asked["station"].keywords == {"confined": True, "hide": [tmp_path]}  # no sandbox, no grades
    main(["grade", "tiny", "--degraded"])
    assert asked["station"].keywords["confined"] is None


def test_memory_fits_the_machine_unless_told_otherwise(asked, monkeypatch, capsys):
    class Small:
        available = 6 * 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Small)
    main(["grade", "tiny", "--workers", "2"])
    assert asked["station"].args[0].memory == 2 * 2**30
    assert "memory of a submission: 2.0 GiB" in capsys.readouterr().err
    main(["grade", "tiny", "--workers", "50"])
    assert asked["station"].args[0].memory == 2**30
    main(["grade", "tiny", "--workers", "1"])
    assert asked["station"].args[0] == Limits()
    main(["grade", "tiny", "--workers", "2", "--limits", "memory=5e9"])
    assert asked["station"].args[0].memory == 5_000_000_000


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "which assignment?"),
        (["tiny", "--workers", "0"], "--workers must be at least 1, got 0"),
        (["tiny", "--limits", "speed=3"], "--limits: 'speed' is none of cell_seconds, "),
        (["tiny", "--limits", "memory=much"], "--limits: 'memory=much' is not of the form memory=NUMBER"),
        (["tiny", "--limits", "memory"], "--limits: 'memory' is not of the form memory=NUMBER"),
        (["tiny", "--limits", "disk=-1"], "disk must be positive, got -1"),
        (["tiny", "--course-dir", "nowhere"], "nowhere is no course folder"),
        (["tiny", "--course-dir", str(ROOT / "assignments")], "'tiny' is none of dcgan, wgan_gp"),
    ],
)
def test_mistakes_of_the_user_are_one_line_and_exit_code_2(words, complaint, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["grade", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ganlib: ") and said.err.count("\n") == 1
    assert complaint in said.err


@pytest.mark.parametrize("error", [OSError("no gradebook"), StationError("no sandbox here")])
def test_exit_code_1_where_the_run_could_not_be_finished(asked, error, capsys):
    asked["raises"] = error
    assert main(["grade", "tiny"]) == 1
    assert capsys.readouterr().err == f"ganlib: {error}\n"


def test_exit_code_130_after_ctrl_c(asked, capsys):
    asked["raises"] = KeyboardInterrupt()
    assert main(["grade", "tiny"]) == 130
    assert capsys.readouterr().err == "ganlib: interrupted; what was graded is kept: run it again to go on\n"


def test_summary_names_failures_and_exit_codes(asked, capsys):
    asked["summary"] = Summary(
        "tiny",
        7.0,
        graded=2,
        kept=1,
        failed={"bob": "no notebook"},
        scores={"ada": 7.0, "bob": 0.0, "cy": 5.0},
        seconds={"ada": 1.0, "bob": 0.0, "cy": 3.0},
        wall=4.0,
        report=Path("report.html"),
    )
    assert main(["grade", "tiny"]) == 0  # a failed student is no failed run
    counts, *others = capsys.readouterr().out.splitlines()
    assert counts.startswith("tiny: 2 graded, 1 kept from before, 1 failed; mean 4.0 of 7 points; 4.0 s, ")
    assert others == ["failed: bob: no notebook", "report: report.html"]
    asked["summary"].unrecorded = {"cy": "OSError: the disk is full"}
    assert main(["grade", "tiny"]) == 1
    assert "not in the gradebook: cy: OSError: the disk is full" in capsys.readouterr().out
    asked["summary"] = Summary("tiny", 7.0)
    assert main(["grade", "tiny"]) == 0
    assert capsys.readouterr().out == "nobody has submitted tiny\n"


def test_doctor_is_asked_about_the_course(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "main", lambda course: 1 if course == tmp_path else 0)
    assert main(["grade", "--doctor", "--course-dir", str(tmp_path)]) == 1


def test_progress_is_lines_in_a_file_and_a_bar_on_a_terminal(capsys, monkeypatch):
    with Progress(2, "tiny") as progress:
        progress.step("ada", 1.25, "7 of 7")
        progress.step("bob", 0.0, "0 of 7", "no notebook")
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("1/2 ada: 7 of 7 (1.2 s; ")
    assert second == "2/2 bob: failed: no notebook (0.0 s; 0 s to go)"

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(2, "tiny") as progress:
            progress.step("ada", 1.25, "7 of 7")
            progress.step("bob", 0.0, "0 of 7", "no notebook")
    parts = []
    with contextlib.suppress(OSError):  # what Linux says at the end, once the other side is closed
        while part := os.read(ours, 100_000):  # as much as has arrived
            parts.append(part)
    os.close(ours)
    shown = b"".join(parts).decode()
    assert "2/2" in shown and "1 failed, bob 0.0 s" in shown


def test_the_command_itself_without_torch_in_it(folder):
    """The process that writes the gradebook, end to end: nothing to grade, and torch is not imported."""
    code = "import sys; from ganlib.__main__ import main; main(); exit(2 * ('torch' in sys.modules))"
    command = [sys.executable, "-c", code, "grade", "tiny", "--course-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "nobody has submitted tiny\n"), done.stderr


def test_ctrl_c_in_a_terminal_ends_everything_in_order(folder, tiny):
    for number in range(6):
        tiny.write_submission(folder, f"s{number}")
    command = [sys.executable, str(Path(__file__).parent / "quick_station.py"), str(folder), "tiny", "0.5"]
    # A shell that runs tests in the background lets them, and all they start, ignore Ctrl-C.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, preexec_fn=heed
    )
    with process:
        assert process.stderr.readline().startswith("1/6 ")
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        said = process.stderr.read()
        assert process.wait(60) == -signal.SIGINT
    assert "Dask" not in said and said.count("Traceback") == 1  # that of the test's own script
    assert (folder / "closed").exists()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive
    assert 1 <= len(list((folder / "grading/tiny/results").glob("*.json"))) < 6


def test_make_grade_releases_what_was_not_and_asks_for_each_homework(tmp_path):
    """On a copy of the Makefile whose Python only notes what it is asked."""
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("one", "two"):
        (tmp_path / "assignments/source" / name).mkdir(parents=True)
        (tmp_path / f"assignments/source/{name}/{name}.ipynb").touch()
    (tmp_path / "assignments/release/two").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\n[ "$2" = pip ] || echo "$*" >> {tmp_path}/asked\n')
    python.chmod(0o755)
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "GRADE"))
    }
    command = ["make", "grade", "GRADE_ARGS=--force --workers 1"]
    subprocess.run(command, cwd=tmp_path, env=clean, check=True, capture_output=True)
    assert (tmp_path / "asked").read_text().splitlines() == [
        "-m nbgrader generate_assignment --force one",
        "-m ganlib grade one --force --workers 1",
        "-m ganlib grade two --force --workers 1",
    ]


def test_the_parser_shows_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["grade", "--help"])
    shown = capsys.readouterr().out
    for option in (
        "--course-dir",
        "--students",
        "--force",
        "--workers",
        "--scheduler",
        "--db-url",
        "--limits",
    ):
        assert option in shown
    assert cli.parse_limits([]) == Limits()
