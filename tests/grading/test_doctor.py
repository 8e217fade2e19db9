"""`ganlib grade --doctor`: every attack of :mod:`ganlib.grading.trials`, where it must fail and where it
must succeed."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytest.importorskip("psutil")
if sys.platform != "linux":
    pytest.skip("the sandbox is Linux's", allow_module_level=True)

import psutil

from ganlib.grading import cgroup, doctor, trials

ROOT = Path(__file__).parents[2]
OPEN = ["--ro-bind", "/", "/", "--proc", "/proc", "true"]
NOBODY = 65533
NEEDS_CGROUP = "leaves others their part of the processor"


def failures(printed):
    return {line.split(":")[0].removeprefix("  FAIL  ") for line in printed.splitlines() if "FAIL" in line}


def works(*command):
    return (
        shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0
    )


@pytest.mark.skipif(
    not works("bwrap", "--unshare-pid", "--unshare-net", *OPEN),
    reason="bubblewrap is missing or may not work here",
)
def test_every_guarantee_holds_in_the_sandbox(tmp_path, capsys):
    (tmp_path / "source").mkdir()
    status = doctor.main(tmp_path, confined=True)
    printed = capsys.readouterr().out
    assert failures(printed) <= (set() if cgroup.available() else {NEEDS_CGROUP}), printed
    assert status == bool(failures(printed))
    assert len(printed.splitlines()) == 2 + len(trials.TRIALS) + 5
    assert os.listdir(tmp_path) == ["source"]


def test_a_course_must_be_a_folder(tmp_path):
    with pytest.raises(ValueError, match=r"course: .* is not a folder"):
        doctor.doctor(tmp_path / "missing")


def as_nobody(*command):
    """An ordinary user: without a home, in no group."""
    ids = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    return [
        "setpriv",
        *ids,
        "env",
        "-i",
        "-C",
        "/",
        "PATH=/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE=1",
        *command,
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="the test above is this one for whoever is not root")
@pytest.mark.skipif(
    not works(*as_nobody("/usr/bin/python3", "-c", "import sys; sys.exit(sys.version_info < (3, 10))")),
    reason="no system Python of 3.10 or later that an ordinary user may run",
)
@pytest.mark.skipif(
    not works(*as_nobody("bwrap", "--unshare-user", *OPEN)), reason="users may make no namespace here"
)
def test_every_guarantee_holds_for_an_ordinary_user():
    """On a copy, since root's Python and this folder may be closed to others; without cgroups, which are
    root's."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "ganlib/grading", f"{folder}/ganlib/grading")
        shutil.copytree(Path(psutil.__file__).parent, f"{folder}/psutil")
        shutil.copy(ROOT / "ganlib/__init__.py", f"{folder}/ganlib")
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)
        code = "from ganlib.grading import doctor; raise SystemExit(doctor.main('/etc/ssl', confined=True))"
        command = as_nobody(f"PYTHONPATH={folder}", "/usr/bin/python3", "-c", code)
        finished = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert finished.stdout.endswith("guarantees hold on this machine.\n"), finished.stdout + finished.stderr
    assert failures(finished.stdout) <= {NEEDS_CGROUP}, finished.stdout


def test_the_doctor_sees_what_degraded_mode_does_not_hold(tmp_path, capfd):
    """The same attacks succeed where nothing stops them: the trials really try."""
    (tmp_path / "source").mkdir()
    assert doctor.main(tmp_path, confined=False) == 1
    printed, warned = capfd.readouterr()
    failed = failures(printed)
    assert failed >= {
        "runs confined by bubblewrap",
        "cannot read the course folder",
        "cannot write outside its own folder",
        "reaches no network and no socket of the machine",
        "sees no process but its own",
        "does not find the modules that hold answers",
        "is stopped at the disk limit",
        "sees nothing of another student's",
    }
    assert not failed & {
        "finds none of the grader's environment variables",
        "holds no descriptor of the fork server",
        "is stopped at the memory limit",
        "is stopped at the time limit",
    }
    assert "degraded mode" in warned
