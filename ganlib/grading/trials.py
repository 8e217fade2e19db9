"""The pieces of Python that :mod:`ganlib.grading.doctor` runs in the sandbox, each an attack on one
guarantee.

A trial exits 0 if it was stopped, and else says what it could do. Before each goes :data:`PRELUDE`, which
defines `known` (what the grader tells it), `limits`, and `tries(action, *arguments)`: whether the system
lets it. `fds` are descriptors.
"""

from __future__ import annotations

__all__ = ["CROWD", "DETACHED", "ENDLESS", "LOOKS", "PRELUDE", "TRIALS", "WRITES"]

PRELUDE = """
import ctypes, json, os, socket, sys, time
known, limits = json.loads({known!r}), json.loads({limits!r})

def tries(action, *arguments):
    try:
        action(*arguments)
    except OSError:
        return False
    return True
"""

TRIALS = {
    "cannot read the course folder": """
for path in known["secrets"]:
    if tries(os.lstat, path):
        sys.exit("it finds " + path)
""",
    "cannot write outside its own folder": """
own = os.path.dirname(os.environ["HOME"])
library = os.path.dirname(os.__file__)
for folder in [*known["folders"], "/", "/usr", "/etc", "/dev", "/opt/course", sys.prefix, library]:
    path = os.path.join(os.path.realpath(folder), known["mark"])
    if not path.startswith(own) and tries(os.mkdir, path):
        os.rmdir(path)
        sys.exit("it can write in " + folder)
""",
    "reaches no network and no socket of the machine": """
for family, address in known["listening"]:
    connection = socket.socket(family)
    connection.settimeout(2)
    if tries(connection.connect, tuple(address) if isinstance(address, list) else address):
        sys.exit(f"it connects to {address!r}")
""",
    "sees no process but its own": """
try:
    os.kill(known["pid"], 0)
except ProcessLookupError:
    sys.exit(0)
except PermissionError:
    pass
sys.exit("it sees the grader's process")
""",
    "finds none of the grader's environment variables": """
if known["mark"] in os.environ:
    sys.exit("it finds one")
""",
    "holds no descriptor of the fork server": """
held = [fd for fd in range(3, 256) if fd not in fds and tries(os.fstat, fd)]
if held:
    sys.exit(f"it holds {held}")
""",
    "has no capability and can get none": """
if not os.path.exists("/proc/self/status"):
    sys.exit("not on this system")
status = dict(line.split(":", 1) for line in open("/proc/self/status").read().splitlines())
for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
    if int(status[name], 16):
        sys.exit(f"{name} is {status[name].strip()}")
if int(status["NoNewPrivs"]) != 1:
    sys.exit("a set-uid program would give it rights")
""",
    "cannot make a user namespace": """
if not hasattr(ctypes.CDLL(None), "unshare"):
    sys.exit("not on this system")
if ctypes.CDLL(None).unshare(0x10000000) == 0:
    sys.exit("it makes one")
""",
    "does not find the modules that hold answers": """
import importlib
for name in known["barred"]:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        continue
    sys.exit("it imports " + name)
for folder, _, files in os.walk(known["package"]):
    if files:
        sys.exit("it finds " + os.path.join(folder, files[0]))
""",
    "is stopped at the disk limit": """
block = bytes(1 << 20)
for number in range(2 * limits["disk"] // len(block)):
    with open(f"file{number}", "wb") as file:
        if not tries(lambda: (file.write(block), file.flush())):
            sys.exit(0)
sys.exit("it writes twice the limit")
""",
    "is stopped at the memory limit": """
try:
    kept = bytearray(2 * limits["memory"])
except MemoryError:
    sys.exit(0)
sys.exit("it gets twice the limit")
""",
    "is stopped at the memory limit with several processes": """
pids = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        kept = bytearray(b"1") * (limits["memory"] // 2)
        time.sleep(1)
        os._exit(0)
    pids.append(pid)
if not any(os.waitpid(pid, 0)[1] for pid in pids):
    sys.exit("four processes hold half the limit each")
""",
    "is stopped at the process limit": """
for number in range(2 * limits["processes"]):
    try:
        if os.fork() == 0:
            time.sleep(2)
            os._exit(0)
    except OSError:
        sys.exit(0)
time.sleep(1)
sys.exit("it starts twice the limit")
""",
}

ENDLESS = """
import signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
    signal.signal(number, signal.SIG_IGN)
while True:
    pass
"""

DETACHED = """
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(30)
    os._exit(0)
time.sleep(0.2)
"""

_PLACES = """
places = {os.getcwd(), os.environ["TMPDIR"], "/tmp", "/var/tmp", "/dev/shm"}
address = known["abstract"]
"""

CROWD = """
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
for number in range(known["crowd"]):
    if os.fork() == 0:
        os.setsid()
        break
end = time.monotonic() + 1
while time.monotonic() < end:
    pass
print(time.process_time(), flush=True)
time.sleep(0.5)
"""

WRITES = (
    _PLACES
    + """
for place in places:
    tries(lambda: open(os.path.join(place, known["mark"]), "x").close())
shared = ctypes.CDLL(None).shmget(known["key"], 4096, 0o1666)
listening = socket.socket(socket.AF_UNIX)
tries(listening.bind, address)
tries(listening.listen)
os.write(fds[0], b"x")
os.read(fds[1], 1)
ctypes.CDLL(None).shmctl(shared, 0, None)
for place in places:
    tries(os.unlink, os.path.join(place, known["mark"]))
"""
)

LOOKS = (
    _PLACES
    + """
for place in places:
    if tries(os.lstat, os.path.join(place, known["mark"])):
        sys.exit("it finds a file of another in " + place)
if tries(socket.socket(socket.AF_UNIX).connect, address):
    sys.exit("it connects to another's socket")
if ctypes.CDLL(None).shmget(known["key"], 0, 0) != -1:
    sys.exit("it finds another's shared memory")
"""
)
