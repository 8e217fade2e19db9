"""Grading where nothing can fork: the same points, from processes that are started anew.

Windows itself is not at hand: :data:`WINDOWS` takes away, before ganlib is imported, what it lacks.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ganlib.grading import alarm, spawn, wire
from ganlib.grading import station as module
from ganlib.grading.homework import Homework
from ganlib.grading.sandbox import Limits, StudentSandbox
from ganlib.grading.spawn import Meeting, Spawner
from ganlib.grading.station import Station

ROOT = Path(__file__).resolve().parents[2]
if str(Path(__file__).parent) not in sys.path:  # `import courses`
    sys.path.insert(0, str(Path(__file__).parent))
if sys.platform != "linux":
    pytest.skip("it is Linux from which things are taken away", allow_module_level=True)

RUN_CODE = "ganlib.grading.confine:run_code"
FULL = {"scale-values": 1.0, "centre-columns": 2.0, "count-words": 1.0, "count-hidden": 3.0}

# A sitecustomize.py, for the grader and, since it hands itself on, for judges and students. Really gone is
# what the libraries can do without; the rest is hidden from ganlib, or they would have to be Windows' own.
WINDOWS = '''
import builtins, ctypes, os, pkgutil, select, signal, socket, subprocess, sys, types

GONE = {
    os: "fork forkpty killpg setsid pidfd_open memfd_create sched_getaffinity sched_setaffinity pread",
    signal: "setitimer getitimer alarm SIGALRM ITIMER_REAL pidfd_send_signal pthread_kill",
    select: "poll",
    socket: "send_fds recv_fds",
}
HIDDEN = {
    os: "getuid geteuid getgid getegid getgroups setgroups setresuid setresgid WNOHANG uname statvfs sysconf",
    signal: "SIGKILL SIGHUP SIGCHLD SIGUSR1 SIGUSR2 SIGPIPE pthread_sigmask",
    select: "epoll",
    socket: "AF_UNIX socketpair",
}
NO_MODULES = {"resource", "fcntl", "pwd", "grp", "termios", "tty", "pty"}

for module, names in GONE.items():
    for name in names.split():
        delattr(module, name)


class View(types.ModuleType):
    """A module as ganlib sees it."""

    def __init__(self, module, **instead):
        super().__init__(module.__name__)
        self.__dict__.update(instead, real=module, hidden=HIDDEN.get(module, "").split())

    def __getattr__(self, name):
        if name in self.hidden:
            raise AttributeError(f"Windows has no {self.__name__}.{name}")
        return getattr(self.real, name)


class Popen(subprocess.Popen):
    def __init__(self, command, *, pass_fds=(), preexec_fn=None, creationflags=0, env=None, **more):
        assert not pass_fds and preexec_fn is None
        if env is not None:
            env = {**env, "PYTHONPATH": f"{os.path.dirname(__file__)}{os.pathsep}{env.get('PYTHONPATH', '')}"}
        super().__init__(command, env=env, **more)


def no_library(name, *rest, **more):
    if name is None:
        raise TypeError("bad argument type for built-in operation")
    return CDLL(name, *rest, **more)


CDLL = ctypes.CDLL
views = {module.__name__: View(module) for module in (select, signal, socket)}
views["ctypes"] = View(ctypes, CDLL=no_library)
views["os"] = View(os, name="nt")
views["sys"] = View(sys, platform="win32")
views["subprocess"] = View(subprocess, Popen=Popen, CREATE_NEW_PROCESS_GROUP=0x200)
real_import = builtins.__import__


def seen_from(name, globals=None, locals=None, fromlist=(), level=0):
    if not (globals or {}).get("__name__", "").startswith("ganlib"):
        return real_import(name, globals, locals, fromlist, level)
    if name in NO_MODULES:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return views.get(name) or real_import(name, globals, locals, fromlist, level)


def warmed(name):
    return None if name.startswith(("torch", "matplotlib")) else resolve_name(name)


builtins.__import__ = seen_from
resolve_name, pkgutil.resolve_name = pkgutil.resolve_name, warmed  # the tiny homework needs no torch
'''

DRIVER = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from ganlib.grading.homework import Homework
from ganlib.grading.sandbox import Limits
from ganlib.grading.station import Station

asked = json.load(sys.stdin)

def grade(name):
    homework = Homework.from_notebook(asked["source"], "tiny")
    files = {"tiny.ipynb": json.dumps(asked["notebooks"][name]).encode(), "data/three.txt": b"3"}
    return station.grade(homework, files, name, 3)

if __name__ == "__main__":
    with Station(Limits(**asked["limits"])) as station, ThreadPoolExecutor(2) as pool:
        print(json.dumps(dict(zip(asked["notebooks"], pool.map(grade, asked["notebooks"])))))
"""

COMMAND = """
import sys
from ganlib.__main__ import main

if __name__ == "__main__":
    print("---", main(sys.argv[1:]), file=sys.stderr, flush=True)
    sys.exit(main([*sys.argv[1:], "--degraded"]))
"""

LIMITS = {"cell_seconds": 3, "total_seconds": 60, "memory": 400 << 20, "processes": 16, "disk": 1 << 20}
HOG = """
import time
def count(text):
    kept = []
    while True:
        kept.append(b"x" * 50_000_000)
        time.sleep(0.05)
"""
NAP = f"314.{os.getpid()}"  # seconds
BOMB = f"""
import subprocess
def count(text):
    return len([subprocess.Popen(["sleep", "{NAP}"]) for _ in range(20)]) and time.sleep(1)
import time
"""
READS = """
import os
def scale(values, factor):
    assert os.listdir() == ["data"] and os.path.samefile(os.environ["HOME"], ".")
    assert not hasattr(os, "fork")
    return values * int(open("data/three.txt").read())
"""
BARRED = """
def centre(rows):
    try:
        __import__("ganlib.mod" + "els")
    except ModuleNotFoundError:
        return rows - rows.mean(axis=0)
"""
SUBMISSIONS = {
    "right": {},
    "wrong": {
        "scale": "1 / 0",
        "centre": "def centre(rows):\n    return rows - rows.mean()",
        "count": "def count(text):\n    return 4",
    },
    "broken": {
        "scale": "def scale(values, factor):\n    while True: pass",
        "centre": "import os\ndef centre(rows):\n    os._exit(3)",
        "count": HOG,
    },
    "stubborn": {"centre": "import time\ndef centre(rows):\n    time.sleep(60)", "count": BOMB},
    "after": {"scale": READS, "centre": BARRED},
}


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """The environment of a process for which this is Windows, more or less."""
    folder = tmp_path_factory.mktemp("windows")
    (folder / "sitecustomize.py").write_text(WINDOWS)
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


@pytest.fixture(scope="module")
def notebooks(tiny):
    return {
        name: tiny.submission([part for part in tiny.right if part not in replaced], replaced)
        for name, replaced in SUBMISSIONS.items()
    }


@pytest.fixture(scope="module")
def spawned(windows, tiny, notebooks):
    """The results of all submissions, and what was printed on stderr."""
    source = tiny.source()
    (cell,) = [
        c for c in source["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "scale-values"
    ]
    cell["source"] += (  # the judge is such a process, too
        "\nimport os, sys"
        "\ncheck(not hasattr(os, 'fork') and sys.modules['ganlib.grading.judge'].resource is None, 'Linux')"
    )
    asked = {"source": source, "notebooks": notebooks, "limits": LIMITS}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], input=json.dumps(asked), capture_output=True, text=True, env=windows
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


def points(result):
    return {name: cell["points"] for name, cell in result["cells"].items()}


def test_whoever_is_right_gets_full_marks_and_whoever_comes_after_a_broken_one(spawned):
    results, _ = spawned
    assert points(results["right"]) == points(results["after"]) == FULL
    assert results["right"]["restarts"] == results["after"]["restarts"] == 0


def test_what_breaks_costs_its_own_part(spawned):
    results, _ = spawned
    broken, told = results["broken"], {k: c["message"] for k, c in results["broken"]["cells"].items()}
    assert points(broken) == dict.fromkeys(FULL, 0.0)
    assert re.match(r"not done after (3|2\.\d+) s\n", told["scale-values"])
    assert told["centre-columns"].startswith("your code ended its process: exit status 3")
    assert re.search(r"used more than 0\.4 GiB|not done after", told["count-words"])  # on a busy machine
    assert broken["restarts"] >= 1
    stubborn, told = results["stubborn"], {k: c["message"] for k, c in results["stubborn"]["cells"].items()}
    assert points(stubborn) == dict.fromkeys(FULL, 0.0) | {"scale-values": 1.0}
    assert "it could not be interrupted" in told["centre-columns"]
    assert "it started more than 16 processes" in told["count-words"]


def test_nothing_is_left_running_or_lying_about(spawned):
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if NAP in line]


def test_the_verdicts_are_those_of_forked_processes(spawned, tiny, notebooks, monkeypatch):
    """Cell by cell: points, and what is said but for the seconds."""

    def said(result, name):
        return re.sub(r"\d\S* s\b", "", result["cells"][name]["message"])

    monkeypatch.setattr(module, "JUDGE_WARM", ())
    monkeypatch.setattr(module, "STUDENT_WARM", ())
    homework = Homework.from_notebook(tiny.source(), "tiny")
    with Station(Limits(**LIMITS), confined=False, spawned=False) as station:
        for name in ("right", "wrong", "broken"):
            files = {"tiny.ipynb": json.dumps(notebooks[name]).encode()}
            result, other = station.grade(homework, files, name, 3), spawned[0][name]
            assert points(result) == points(other)
            # Memory is limited by the kernel here, by the watchdog there: that is said in other words.
            alike = set(FULL) - ({"count-words", "count-hidden"} if name == "broken" else set())
            assert {cell: said(result, cell) for cell in alike} == {cell: said(other, cell) for cell in alike}


def test_the_warning_says_what_is_lacking(spawned):
    _, printed = spawned
    assert "WARNING: student code runs in degraded mode (bubblewrap is for Linux" in printed
    for lack in ("hidden tests", "gradebook", "network", "what it writes", "watchdog", "judge", "outlive"):
        assert lack in printed
    assert "cgroup" not in printed


def test_the_command_grades_only_if_degraded_is_asked_for(windows, tiny, tmp_path, tmp_path_factory):
    import courses

    folder = Path(shutil.copytree(courses.released(tiny, tmp_path_factory), tmp_path / "course"))
    tiny.write_submission(folder, "ada")
    tiny.write_submission(folder, "bob", tiny.submission(["scale"]))
    command = [sys.executable, "-c", COMMAND, "grade", "tiny", "--course-dir", str(folder), "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, env=windows, cwd=ROOT)
    refused, graded = done.stderr.split("--- 1\n")
    assert re.fullmatch(
        "ganlib: RuntimeError: bubblewrap is for Linux.*; --degraded grades without it\n", refused
    )
    assert done.returncode == 0, graded
    assert done.stdout.startswith("tiny: 2 graded, 0 kept from before, 0 failed; mean 4.0 of 7 points;")
    assert "WARNING: student code runs in degraded mode" in graded
    result = json.loads((folder / "grading/tiny/results/bob.json").read_text())
    assert points(result) == tiny.earned(["scale"])


# ---- the parts -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sandbox():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("A_SECRET", "1")
        sandbox = StudentSandbox(RUN_CODE, [], Limits(**LIMITS), spawned=True)
    with sandbox:
        yield sandbox


def test_on_a_system_that_forks_it_must_be_asked_for(sandbox):
    assert not spawn.NEEDED and sandbox.mode == "spawned"
    with pytest.raises(RuntimeError, match="bubblewrap is for Linux"):
        StudentSandbox(RUN_CODE, confined=True, spawned=True)


def test_it_is_ended_with_its_descendants_at_the_time_limit(sandbox):
    code = f"import subprocess; subprocess.Popen(['sleep', '{NAP}']).wait()"
    with sandbox.fork(code, seconds=1) as child:
        assert (child.wait(20), child.reason) == (-signal.SIGKILL, "time")
        child.kill("later")
        assert child.reason == "time"
    lines = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    assert not [line for line in lines if NAP in line]


def test_it_is_ended_at_the_memory_limit(sandbox):
    code = """
import mmap, time
kept = mmap.mmap(-1, 600 << 20)  # shared, which Linux limits for no single process
for place in range(0, len(kept), 4096):
    kept[place] = 1
time.sleep(40)
"""
    with sandbox.fork(code) as child:
        assert (child.wait(50), child.reason) == (-signal.SIGKILL, "memory")


def test_it_has_a_clean_environment_and_its_folder_is_removed(sandbox):
    code = "import os, tempfile; print(os.getcwd(), tempfile.gettempdir(), open('a').read(), *os.environ)"
    with sandbox.fork(code, files={"a": b"content"}) as child:
        assert child.wait(20) == 0, child.log()
        home, temporary, content, *names = child.log().split()
    assert (content, Path(home).parent) == ("content", Path(temporary).parent)
    assert not Path(home).exists() and child.log() == ""
    assert "A_SECRET" not in names and "PATH" in names


def test_a_target_that_is_not_there_is_told():
    with pytest.raises(RuntimeError, match=r"did not start(.|\n)*No module named 'ganlib\.nowhere'"):
        Spawner("ganlib.nowhere:run")


def test_a_spare_that_died_is_replaced_and_a_closed_one_gives_none():
    spawner = Spawner(RUN_CODE)
    with spawner:
        spawner._spare.kill()
        spawner._spare.wait(20)
        with spawner.fork("print(1 + 1)") as child:
            assert child.wait(20) == 0 and child.log() == "2\n"
        with (
            spawner.fork("import time; time.sleep(60)") as child,
            pytest.raises(RuntimeError, match="closed"),
        ):
            spawner.close()
            assert not child.alive
            spawner.fork()
    assert not spawner.alive and not Path(spawner._folder.name).exists()


def test_kill_9_of_the_grader_leaves_no_process(tmp_path):
    program = f"""
import time
from ganlib.grading.spawn import Spawner
spawner = Spawner({RUN_CODE!r})
child = spawner.fork("while True: pass")
spawner._spare.meet()
print(child.pid, spawner._spare.pid, flush=True)
time.sleep(60)
"""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # its folder stays
    command = [sys.executable, "-c", program]
    grader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=environment)
    family = [psutil.Process(int(word)) for word in grader.stdout.readline().split()]
    assert len(family) == 2
    grader.kill()
    grader.communicate()
    _, alive = psutil.wait_procs(family, timeout=5)
    assert all(each.status() == psutil.STATUS_ZOMBIE for each in alive)


def test_only_who_has_the_token_is_met():
    with Meeting() as meeting:
        port, token = meeting.address
        strangers = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(2)]
        strangers[0].sendall(b"a guess")
        strangers[1].close()
        with spawn.connect([port, token]) as ours, meeting.accept() as theirs, strangers[0] as stranger:
            wire.send(ours, "hello")
            assert wire.receive(theirs, deadline=time.monotonic() + 20) == "hello"
            with contextlib.suppress(ConnectionResetError):
                assert stranger.recv(1) == b""


def test_an_alarm_without_the_systems(monkeypatch):
    monkeypatch.delattr(signal, "setitimer")

    def rings(*_):
        raise TimeoutError

    before = signal.signal(alarm.SIGNAL, rings)
    try:
        assert alarm.set_alarm(0.05) == 0
        with pytest.raises(TimeoutError):
            end = time.monotonic() + 10
            while time.monotonic() < end:
                pass
        assert alarm.set_alarm(5) == 0  # the one that rang is over
        assert 4 < alarm.set_alarm(0.05) <= 5
        assert 0 < alarm.set_alarm(0) <= 0.05
        time.sleep(0.1)  # and that one is off
        alarm._ring()  # nor does it ring if it is too late to be cancelled
    finally:
        signal.signal(alarm.SIGNAL, before)
