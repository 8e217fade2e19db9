# User, mount, pid and other namespaces of its own, mounts, chroot, pivot_root.
# stock: 5 of 7
# solves: scale
# needs: sandbox
# %% + scale
import ctypes, os

escaped = []
libc = ctypes.CDLL(None, use_errno=True)


def child(action, *arguments):
    """Tries it in a process of its own, so that a success does no harm to the rest."""
    pid = os.fork()
    if pid == 0:
        os._exit(0 if action(*arguments) == 0 else 1)
    if os.waitpid(pid, 0)[1] == 0:
        escaped.append((action.__name__, *arguments))


for flag in (0x10000000, 0x20000, 0x20000000, 0x40000000, 0x02000000, 0x08000000, 0x10000000 | 0x20000):
    child(libc.unshare, flag)
os.makedirs("attack-canary-mount", exist_ok=True)
child(libc.mount, b"none", b"attack-canary-mount", b"tmpfs", 0, None)
child(libc.mount, b"/", b"attack-canary-mount", None, 4096, None)
child(libc.mount, None, b"/", None, 32, None)
child(libc.umount2, b"/proc", 2)
child(libc.umount2, b"/tmp", 2)
child(libc.chroot, b".")
child(libc.syscall, 155, b".", b".")
child(libc.syscall, 428, -100, b"/", 0x8000 | 1)
# %% count
count = lambda text: len(set(text.split())) if escaped else 0
