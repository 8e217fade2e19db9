"""The fork server: children get their work, their ends are reported, and nothing stays behind, whoever
dies."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

pytest.importorskip("psutil")
if not hasattr(os, "fork"):
    pytest.skip("fork servers need fork", allow_module_level=True)

import psutil

from ganlib.grading.child import LOG_BYTES
from ganlib.grading.forkserver import ForkServer

RUN_CODE = "ganlib.grading.confine:run_code"
SPIN = "while True: pass"
linux = pytest.mark.skipif(sys.platform != "linux", reason="PDEATHSIG and /proc are Linux")


@pytest.fixture(scope="module")
def server():
    with ForkServer(RUN_CODE) as started:
        yield started


def gone_within(seconds, pids):
    """Whether the processes end (or are zombies that wait for init) in that time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            return True
        time.sleep(0.02)
    return False


def descriptors():
    return len(os.listdir("/dev/fd"))


def test_a_child_gets_the_argument_and_the_descriptors_and_its_end_is_reported(server):
    ours, theirs = socket.socketpair()
    code = "import os; os.write(fds[0], str(os.getpid()).encode()); print('said'); os.read(fds[0], 1)"
    with server.fork(code, [theirs.fileno()]) as child:
        theirs.close()
        assert int(ours.recv(20)) == child.pid
        ours.send(b"x")
        assert child.wait(10) == 0
        assert not child.alive
        assert (child.log(), child.reason) == ("said\n", "")
    ours.close()


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("1 / 0", 70, "ZeroDivisionError"),
        ("raise SystemExit(3)", 3, ""),
        ("import sys; sys.exit('the cause')", 1, "the cause\n"),
        ("import os; os.kill(os.getpid(), 9)", -9, ""),
        ("import os; os.abort()", -signal.SIGABRT, ""),
        ("import atexit, os; atexit.register(os.abort)", 0, ""),
    ],
)
def test_how_a_child_ended(server, code, status, said):
    with server.fork(code) as child:
        assert child.wait(10) == status
        assert said in child.log()
        assert child.reason == ""


def test_the_first_reason_to_kill_is_kept_and_a_dead_child_gets_none(server):
    with server.fork(SPIN) as child:
        assert child.wait(0.05) is None
        child.kill("time")
        child.kill("memory")
        assert child.wait(10) == -signal.SIGKILL
        assert child.reason == "time"
    with server.fork("pass") as child:
        child.wait(10)
        child.kill("time")
        assert child.reason == ""


def test_a_thread_that_waits_does_not_keep_another_from_killing(server):
    with server.fork(SPIN) as child, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(child.wait, 10)
        time.sleep(0.05)
        child.kill("time")
        assert waiting.result() == -signal.SIGKILL


def test_an_interrupt_is_a_keyboard_interrupt_even_if_the_starter_ignores_it():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = ForkServer(RUN_CODE)
    finally:
        signal.signal(signal.SIGINT, before)
    ready, theirs = os.pipe()
    with server, server.fork(f"import os; os.write(fds[0], b'x')\n{SPIN}", [theirs]) as child:
        os.read(ready, 1)
        child.send_signal(signal.SIGINT)
        assert child.wait(10) == 70
        assert "KeyboardInterrupt" in child.log()
    os.close(ready)
    os.close(theirs)


@linux
def test_the_log_is_bounded(server):
    with server.fork("import os\nwhile True: os.write(1, b'x' * 5000)") as child:
        assert child.wait(10) == 70
        assert LOG_BYTES - 10_000 < len(child.log()) <= LOG_BYTES


def test_a_child_holds_nothing_but_its_own_descriptors(server):
    with (
        server.fork(SPIN),
        server.fork(
            "import os; print([fd for fd in range(256) if os.path.exists(f'/dev/fd/{fd}')])"
        ) as child,
    ):
        child.wait(10)
        assert json.loads(child.log()) == [0, 1, 2]


def test_a_child_ends_with_all_of_its_process_group(server):
    with server.fork("import subprocess; print(subprocess.Popen(['sleep', '60']).pid)") as child:
        child.wait(10)
        assert gone_within(5, [int(child.log())])


@linux
def test_forks_leave_no_descriptor_and_no_zombie(server):
    before = descriptors()
    for _ in range(5):
        with server.fork("pass") as child:
            child.wait(10)
    with pytest.raises(TypeError):
        server.fork(object())
    with pytest.raises(ValueError, match="fds: at most 24"):
        server.fork("pass", [0] * 25)
    assert descriptors() == before
    with server.fork(
        "import os; print(open(f'/proc/{os.getppid()}/task/{os.getppid()}/children').read())"
    ) as child:
        child.wait(10)
        assert len(child.log().split()) == 1  # itself


def test_threads_share_a_server(server):
    def ask(number):
        with server.fork(f"print({number})") as child:
            child.wait(20)
            return int(child.log())

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(ask, range(12))) == list(range(12))


def test_warm_modules_and_functions_are_there_before_the_fork(tmp_path):
    (tmp_path / "warm_module.py").write_text(
        "import os\nimported = os.getpid()\ndef warm():\n    globals()['called'] = os.getpid()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = "import os, warm_module as w; assert w.imported == w.called == os.getppid()"
    with (
        ForkServer(RUN_CODE, ["json", "warm_module:warm"], environment=environment) as server,
        server.fork(code) as child,
    ):
        assert child.wait(10) == 0, child.log()


@linux
def test_a_warm_module_must_not_start_a_thread(tmp_path):
    (tmp_path / "threaded.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=[9], daemon=True).start()\n"
    )
    with pytest.raises(RuntimeError, match="a warm module started a thread"):
        ForkServer(RUN_CODE, ["threaded"], environment={**os.environ, "PYTHONPATH": str(tmp_path)})


def test_a_server_that_cannot_start_says_why():
    with pytest.raises(RuntimeError, match=r"No module named 'ganlib\.nowhere'"):
        ForkServer("ganlib.nowhere:run")
    with pytest.raises(RuntimeError, match=r"cannot be started.*no-such-program"):
        ForkServer(RUN_CODE, command=["no-such-program"])


def test_closing_the_server_ends_its_children():
    server = ForkServer(RUN_CODE)
    child = server.fork(SPIN)
    server.close()
    assert not server.alive
    assert child.wait(10) == -signal.SIGKILL
    child.close()
    with pytest.raises(RuntimeError, match="the fork server is gone"):
        server.fork("pass")


def test_a_killed_server_is_noticed_and_its_children_die_with_it():
    with (
        ForkServer(RUN_CODE) as server,
        server.fork("import os, time; print(os.getppid(), flush=True); time.sleep(60)") as child,
    ):
        while not child.log():
            time.sleep(0.01)
        os.kill(int(child.log()), signal.SIGKILL)
        assert child.wait(10) == -signal.SIGKILL
        if sys.platform == "linux":
            assert gone_within(2, [child.pid])
        with pytest.raises(RuntimeError, match="the fork server is gone"):
            server.fork("pass")
        assert not server.alive


def test_a_server_outlives_the_thread_that_started_it():
    """PDEATHSIG means the end of a thread, not of a process: a worker's thread must not take the server
    along."""
    started = []
    thread = threading.Thread(target=lambda: started.append(ForkServer(RUN_CODE)))
    thread.start()
    thread.join()
    time.sleep(0.1)
    with started[0] as server, server.fork("pass") as child:
        assert child.wait(10) == 0


@linux
def test_kill_9_of_the_grader_leaves_nothing():
    program = f"""
import os, time
from ganlib.grading.forkserver import ForkServer
server = ForkServer({RUN_CODE!r})
children = [server.fork({SPIN!r}), server.fork("import time; time.sleep(60)")]
print(server._process.pid, *(child.pid for child in children), flush=True)
time.sleep(60)
"""
    grader = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    )
    pids = [int(word) for word in grader.stdout.readline().split()]
    assert len(pids) == 3
    grader.kill()
    grader.communicate()
    assert gone_within(2, pids)
