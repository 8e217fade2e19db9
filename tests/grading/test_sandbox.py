"""The sandbox from inside: what a student's code sees, what it may use, and what is left when it ends.

The guarantees that `ganlib grade --doctor` tries are tested by test_doctor.py, which runs the same attacks.
"""

import ctypes
import os
import platform
import select
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytest.importorskip("psutil")
if sys.platform != "linux":
    pytest.skip("the sandbox is Linux's", allow_module_level=True)

import psutil

from ganlib.grading import bubblewrap, cgroup, confine
from ganlib.grading.sandbox import ANSWERS, Limits, StudentSandbox

ROOT = Path(__file__).parents[2]
RUN_CODE = "ganlib.grading.confine:run_code"
SMALL = Limits(total_seconds=60, memory=300 << 20, processes=16, disk=8 << 20)
BWRAP = ["bwrap", "--unshare-pid", "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "true"]


def bwrap_works():
    return shutil.which("bwrap") is not None and subprocess.run(BWRAP, capture_output=True).returncode == 0


needs_bwrap = pytest.mark.skipif(
    not bwrap_works(), reason="bubblewrap is missing or may not make namespaces here"
)
needs_cgroup = pytest.mark.skipif(not cgroup.available(), reason="no writable cgroup here")


@pytest.fixture(scope="module")
def sandbox():
    with StudentSandbox(RUN_CODE, [], SMALL, confined=True, hide=[Path(sqlite3.__file__).parent]) as started:
        yield started


@pytest.fixture(scope="module")
def watched():
    """A sandbox whose sums only the watchdog bounds, as on a machine without writable cgroups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cgroup, "available", lambda: False)
        with StudentSandbox(RUN_CODE, [], SMALL, confined=True) as started:
            yield started


@pytest.fixture(scope="module")
def degraded():
    with StudentSandbox(RUN_CODE, ["tempfile:gettempdir"], SMALL, confined=False) as started:
        yield started


def run(sandbox, code, seconds=20, **kwargs):
    """What `code` printed; it must end well."""
    with sandbox.fork(textwrap.dedent(code), **kwargs) as child:
        status = child.wait(seconds)
        assert status == 0, (status, child.reason, child.log())
        return child.log().strip()


def until(condition, seconds=5):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


# ---- what it sees ----------------------------------------------------------------------------------------


@needs_bwrap
def test_it_starts_in_its_home_with_the_files_handed_in(sandbox):
    code = """
        import os, tempfile
        print(os.getcwd(), os.environ["HOME"], tempfile.gettempdir(), open("data/a.txt").read(), os.listdir())
    """
    printed = run(sandbox, code, files={"data/a.txt": b"content"})
    assert printed == "/sandbox/home /sandbox/home /sandbox/tmp content ['data']"


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "", "nul\0"])
def test_a_path_out_of_the_folder_is_refused(degraded, name):
    with pytest.raises(ValueError, match="is not a path inside the folder"):
        degraded.fork("pass", files={name: b""})


def test_files_larger_than_the_disk_limit_are_refused(degraded):
    with pytest.raises(ValueError, match="more than the disk limit"):
        degraded.fork("pass", files={"big": bytes(SMALL.disk + 1)})


@needs_bwrap
def test_of_ganlib_only_the_allowed_parts_are_there(sandbox):
    code = """
        import ganlib, os, sys
        print(ganlib.__path__[0])
        print(*sorted(os.listdir(ganlib.__path__[0])))
        print(*os.listdir(ganlib.__path__[0] + "/grading"))
        print([path for path in sys.path[1:] if os.path.isdir(path) and "ganlib" in os.listdir(path)])
    """
    place, parts, serving, others = run(sandbox, code).splitlines()
    assert place == "/opt/course/ganlib"
    assert parts.split() == sorted({"grading", *bubblewrap.ALLOWED})
    assert {"zygote.py", "confine.py"} <= set(serving.split())
    assert not {"judge.py", "verdict.py", "station.py", "sandbox.py", "sanitise.py"} & set(serving.split())
    assert others == "[]"
    run(sandbox, f"import os; assert not os.path.exists({str(ROOT / 'ganlib')!r})")


@needs_bwrap
def test_a_folder_to_hide_is_empty_even_inside_the_environment(sandbox):
    run(sandbox, f"import os; assert os.listdir({str(Path(sqlite3.__file__).parent)!r}) == []")
    run(sandbox, "import json, ctypes")


@needs_bwrap
def test_the_file_system_is_read_only_but_for_its_own(sandbox):
    code = """
        import os
        mounts = [line.split() for line in open("/proc/self/mounts")]
        print(sorted({place for _, place, kind, how, *_ in mounts if how[:2] == "rw" and kind != "devtmpfs"}))
        for folder in (FOLDERS, "/var/tmp", "/dev/shm", os.environ["HOME"]):
            open(folder + "/x", "w").close()
    """
    # Where the interpreter itself lies below /tmp, that must stay visible, and temporary files go elsewhere.
    below = any(str(folder).startswith("/tmp/") for folder in (sys.prefix, sys.base_prefix, ROOT))
    code = code.replace("FOLDERS", 'os.environ["TMPDIR"]' if below else '"/tmp"')
    assert run(sandbox, code) == "['/dev/pts', '/proc', '/sandbox']"


@needs_bwrap
def test_terminals_and_shared_memory_work(sandbox):
    """IPython runs "!command" in a terminal, and a DataLoader's workers share memory."""
    code = """
        import multiprocessing, os, pty
        os.close(pty.openpty()[0])
        multiprocessing.Semaphore().acquire()
    """
    run(sandbox, code)


@needs_bwrap
def test_children_are_process_1_of_machines_of_their_own(sandbox):
    code = """
        import os, socket
        print(os.getpid(), socket.gethostname(), [name for name in os.listdir("/proc") if name.isdigit()])
        print(socket.if_nameindex())
    """
    assert run(sandbox, code) == "1 sandbox ['1']\n[(1, 'lo')]"


@needs_bwrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has uids to give")
def test_as_root_each_child_has_a_uid_of_its_own(sandbox):
    assert sandbox.mode == "root"
    code = "import os; assert os.getuid() == os.geteuid() == os.getgid(); print(os.getuid(), flush=True)"
    with sandbox.fork(f"{code}; import time; time.sleep(60)") as other:
        assert until(other.log)
        uid = psutil.Process(other.pid).uids().real
        assert uid == int(other.log())
        assert len({0, uid, int(run(sandbox, code))}) == 3
    assert run(sandbox, "import os; print(os.getgroups())") == "[]"


@needs_bwrap
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may choose its groups")
def test_roots_groups_are_dropped():
    program = f"""
import os
from ganlib.grading.sandbox import StudentSandbox
os.setgroups([0, 4, 12345])
with StudentSandbox({RUN_CODE!r}, confined=True) as sandbox:
    with sandbox.fork("import os; print(os.getgroups())") as child:
        child.wait(20)
        print(child.log())
"""
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"


@needs_bwrap
def test_the_environment_is_the_same_for_everyone(sandbox):
    printed = run(sandbox, "import os; print(sorted(os.environ))")
    expected = {*bubblewrap.environment(), "PYTHONPATH", "PWD"}
    assert set(eval(printed)) <= {*expected, "LC_CTYPE"}
    assert (
        run(sandbox, "import os; print(os.environ['NBGRADER_EXECUTION'], os.environ['OMP_NUM_THREADS'])")
        == "autograde 1"
    )


@needs_bwrap
def test_the_graders_keys_are_out_of_reach(sandbox):
    """Kernel keyrings hold tickets and passwords, and who inherits a session may read them."""
    keyctl = confine._KEYCTL.get(platform.machine(), 0)
    libc = ctypes.CDLL(None, use_errno=True)
    key = libc.syscall(
        keyctl - 2, b"user", b"ganlib-test", b"secret", 6, -3
    )  # add_key to the session's keyring
    if key == -1:
        pytest.skip("this machine keeps no keys for us")
    try:
        with StudentSandbox(RUN_CODE, [], SMALL, confined=True) as inheriting:
            code = f"""
                import ctypes
                libc, found = ctypes.CDLL(None), ctypes.create_string_buffer(20)
                assert libc.syscall({keyctl}, 10, -3, b"user", b"ganlib-test", 0) == -1  # search
                assert libc.syscall({keyctl}, 11, {key}, found, 20) == -1, found.value  # read
            """
            run(inheriting, code)
    finally:
        libc.syscall(keyctl, 3, key)  # revoke


# ---- what it may use -------------------------------------------------------------------------------------

SHARED = """
import mmap, time
kept = mmap.mmap(-1, {size})  # shared memory is in no limit per process
for place in range(0, len(kept), 4096):
    kept[place] = 1
time.sleep(20)
"""

BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


@needs_bwrap
@pytest.mark.parametrize("kind", [pytest.param("sandbox", marks=needs_cgroup), "watched"])
def test_memory_outside_the_limits_per_process_is_bounded(request, kind):
    with request.getfixturevalue(kind).fork(SHARED.format(size=600 << 20)) as child:
        assert (child.wait(20), child.reason) == (-signal.SIGKILL, "memory"), child.log()


@needs_bwrap
def test_pages_that_processes_share_count_once(watched):
    """Six processes with 150 MiB in common are within 300 MiB; adding up what is resident would say 1 GiB."""
    code = """
        import os, time
        kept = bytearray(b"1") * (150 << 20)
        pids = []
        for _ in range(6):
            pids.append(os.fork())
            if not pids[-1]:
                time.sleep(1)
                os._exit(0)
        assert not any(os.waitpid(pid, 0)[1] for pid in pids)
    """
    run(watched, code)


@needs_bwrap
@pytest.mark.parametrize("kind", [pytest.param("sandbox", marks=needs_cgroup), "watched"])
def test_a_fork_bomb_is_killed_and_does_not_touch_others(request, kind):
    sandbox = request.getfixturevalue(kind)
    with sandbox.fork(BOMB) as child:
        run(sandbox, "import subprocess; subprocess.run(['true'], check=True)")
        assert (child.wait(20), child.reason) == (-signal.SIGKILL, "processes"), child.log()


@needs_cgroup
@needs_bwrap
def test_a_bomb_is_noticed_even_if_few_of_it_run_at_a_look(sandbox, monkeypatch):
    monkeypatch.setattr(cgroup.Cgroup, "tasks", property(lambda self: 0))
    with sandbox.fork(BOMB) as child:
        child.wait(20)
        assert child.reason == "processes"


@needs_bwrap
def test_threads_count_as_processes(watched):
    code = """
        import threading, time
        for _ in range(SMALL):
            threading.Thread(target=time.sleep, args=[20]).start()
        time.sleep(20)
    """
    with watched.fork(textwrap.dedent(code.replace("SMALL", str(SMALL.processes)))) as child:
        child.wait(20)
        assert child.reason == "processes", child.log()


@needs_bwrap
def test_names_of_files_are_bounded_too(sandbox):
    code = """
        import os
        for number in range(100_000):
            try:
                os.close(os.open(f"/tmp/{number}", os.O_CREAT))
            except OSError:
                break
        else:
            raise AssertionError("100,000 empty files")
    """
    run(sandbox, code)


@needs_bwrap
def test_all_it_started_dies_when_it_is_killed(sandbox):
    code = """
        import os, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
                os.write(fds[0], b"x")
        time.sleep(60)
    """
    ours, theirs = os.pipe()
    with sandbox.fork(textwrap.dedent(code), [theirs]) as child:
        os.close(theirs)
        assert os.read(ours, 1) == b"x"
        child.kill()
        assert select.select([ours], [], [], 5)[0]  # the pipe is closed: nobody holds it any more
    os.close(ours)


@needs_cgroup
def test_a_group_ends_even_what_left_the_process_group(degraded):
    code = "import os, time\nos.fork() or (os.setsid(), print(os.getpid(), flush=True))\ntime.sleep(60)"
    with degraded.fork(code) as child:
        assert until(child.log)
        detached = int(child.log())
    assert until(lambda: not psutil.pid_exists(detached))


@needs_cgroup
@needs_bwrap
def test_groups_are_removed_with_the_child(sandbox):
    def groups():
        return [
            path
            for parent in cgroup._parents().values()
            for path in parent.glob(f"ganlib-grading-{os.getpid()}-*")
        ]

    with sandbox.fork("import time; time.sleep(60)") as child:
        assert groups()
        child.kill()
    assert groups() == []


@needs_bwrap
def test_kill_9_of_the_grader_leaves_nothing_in_the_sandbox():
    program = f"""
import time
from ganlib.grading.sandbox import Limits, StudentSandbox
sandbox = StudentSandbox({RUN_CODE!r}, [], Limits(), confined=True)
child = sandbox.fork("import os, time; os.fork() or os.setsid(); time.sleep(60)")
time.sleep(0.3)
print(child.pid, sandbox._server._process.pid, flush=True)
time.sleep(60)
"""
    grader = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    child, server = (int(word) for word in grader.stdout.readline().split())
    family = [
        child,
        server,
        *(each.pid for pid in (child, server) for each in psutil.Process(pid).children(recursive=True)),
    ]
    assert len(set(family)) >= 4
    grader.kill()
    grader.communicate()
    assert until(lambda: not any(map(psutil.pid_exists, family)), 2)
    if cgroup.available():  # to ask sweeps up
        assert not [
            path for parent in cgroup._parents().values() for path in parent.glob(f"*-{grader.pid}-*")
        ]


def test_only_groups_of_dead_graders_are_swept_up(tmp_path):
    dead, living = tmp_path / "ganlib-grading-999999999-0", tmp_path / f"ganlib-grading-{os.getpid()}-0"
    for folder in (dead, living):
        folder.mkdir()
    cgroup._sweep(tmp_path)
    assert list(tmp_path.iterdir()) == [living]


# ---- degraded --------------------------------------------------------------------------------------------


def test_without_bubblewrap_it_is_degraded_and_says_so(monkeypatch, capfd):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="bubblewrap"):
        StudentSandbox(RUN_CODE, confined=True)
    with StudentSandbox(RUN_CODE) as sandbox:
        assert sandbox.mode == "degraded"
        assert any("gradebook" in line for line in sandbox.lacks)
    printed = capfd.readouterr().err
    assert "WARNING: student code runs in degraded mode (bubblewrap" in printed
    assert all(line in printed for line in sandbox.lacks)


@needs_bwrap
def test_where_a_process_cannot_be_confined_it_is_degraded_and_says_why(monkeypatch, capfd):
    monkeypatch.setattr(
        bubblewrap, "_KEPT", ()
    )  # a server without rights, as in a container that forbids them
    monkeypatch.setattr("ganlib.grading.sandbox.os.geteuid", lambda: 0)
    with StudentSandbox(RUN_CODE) as sandbox:
        assert sandbox.mode == "degraded"
    assert "Operation not permitted" in capfd.readouterr().err


def test_degraded_keeps_limits_a_folder_and_a_clean_environment(degraded, monkeypatch):
    monkeypatch.setenv("A_SECRET", "1")
    code = """
        import os, tempfile
        assert "A_SECRET" not in os.environ
        print(os.getcwd(), tempfile.gettempdir(), open("a").read())
    """
    home, temporary, content = run(degraded, code, files={"a": b"content"}).split()
    assert (content, Path(home).parent) == ("content", Path(temporary).parent)
    assert not Path(home).exists()  # removed with the child
    for name in ANSWERS:
        run(
            degraded,
            f"try: import {name}\nexcept ModuleNotFoundError: pass\nelse: raise SystemExit('imported')",
        )
    with degraded.fork(f"import sys\nbytearray({SMALL.memory} * 2)") as child:
        assert child.wait(10) == 70
        assert "MemoryError" in child.log()
    with degraded.fork("while True: pass", seconds=0.2) as child:
        assert (child.wait(10), child.reason) == (-signal.SIGKILL, "time")


@pytest.mark.parametrize("name", ["cell_seconds", "total_seconds", "memory", "processes", "disk", "output"])
def test_limits_must_be_positive(name):
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        Limits(**{name: 0})


@needs_cgroup
def test_the_watchdog_survives_a_failed_look_and_a_closed_group(degraded, monkeypatch, capfd):
    group = cgroup.Cgroup(1 << 28, 8)
    group.close()
    assert group.tasks == 0
    monkeypatch.setattr(cgroup.Cgroup, "tasks", property(lambda self: 1 / 0))
    with degraded.fork("while True: pass", seconds=0.5) as child:
        assert (child.wait(10), child.reason) == (-signal.SIGKILL, "time")
    assert "ZeroDivisionError" in capfd.readouterr().err
