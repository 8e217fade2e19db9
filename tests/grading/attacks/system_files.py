# Writes into the system and its settings, opens devices, reads what only the system should.
# stock: 5 of 7
# solves: scale
# needs: sandbox
# %% + scale
import contextlib, os, sys

escaped = []
folders = ["/", "/usr", "/usr/lib", "/usr/bin", "/etc", "/opt", "/root", "/var", "/boot", "/sys", "/proc", sys.prefix]
folders += [sys.base_prefix, os.path.dirname(np.__file__), "@COURSE@", *filter(os.path.isdir, sys.path[:-1])]
for folder in folders:
    path = f"{folder}/attack-canary"
    with contextlib.suppress(OSError):
        open(path, "w").close()
        escaped.append(path)
        os.unlink(path)
for path in ("/dev/mem", "/dev/kmsg", "/dev/sda", "/dev/vda", "/dev/fuse", "/dev/kvm", "/dev/net/tun", "/dev/tty"):
    with contextlib.suppress(OSError):
        open(path, "rb").close()
        escaped.append(path)
for path in ("kernel/core_pattern", "kernel/modprobe", "vm/drop_caches", "kernel/hostname"):
    with contextlib.suppress(OSError):
        open(f"/proc/sys/{path}", "r+").close()
        escaped.append(path)
for path in ("/etc/shadow", "/root" + "/.bashrc", "/proc/kcore", "/proc/sysrq-trigger"):
    with contextlib.suppress(OSError):
        open(path, "r+").close()
        escaped.append(path)
with contextlib.suppress(OSError):
    os.mknod("attack-canary-device", 0o020666, os.makedev(1, 1))
    open("attack-canary-device", "rb").close()
    escaped.append("mknod")
# %% count
count = lambda text: len(set(text.split())) if escaped else 0
