# Capabilities, set-uid programs, other users' ids, raised limits, priority, a debugger allowed in.
# stock: 5 of 7
# solves: scale
# needs: sandbox
# %% + scale
import contextlib, ctypes, os, resource, subprocess

escaped = []
libc = ctypes.CDLL(None, use_errno=True)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
escaped += [name for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb") if int(status[name], 16)]
escaped += ["new privileges"] * (libc.prctl(39, 0, 0, 0, 0) != 1)
for change in (os.setuid, os.setgid, os.seteuid):
    with contextlib.suppress(OSError):
        change(0)
        escaped.append(change.__name__)
with contextlib.suppress(OSError):
    os.setgroups([0])
    escaped.append("groups")
for name in ("NPROC", "AS", "DATA", "FSIZE", "NOFILE", "CPU", "CORE"):
    soft, hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))
    with contextlib.suppress(OSError, ValueError):
        if hard != resource.RLIM_INFINITY:
            resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (hard, hard + 1))
            escaped.append(name)
with contextlib.suppress(OSError):
    os.nice(-5)
    escaped.append("nice")
with contextlib.suppress(OSError):
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    escaped.append("scheduler")
with contextlib.suppress(OSError):
    os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000")
    escaped.append("oom")
for program in (["sudo", "-n", "true"], ["su", "-c", "true"], ["mount"], ["newgrp"]):
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        ids = subprocess.run([*program[:1], *program[1:]], capture_output=True, timeout=1, stdin=subprocess.DEVNULL)
        if program[0] in ("sudo", "su") and ids.returncode == 0:
            escaped.append(program[0])
libc.prctl(4, 1, 0, 0, 0)
libc.prctl(0x59616D61, -1, 0, 0, 0)
# %% count
count = lambda text: len(set(text.split())) if escaped else 0
