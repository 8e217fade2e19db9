# Writes four times what it may into every folder; answers rightly if there was room for twice of it in all.
# stock: 7 of 7
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import contextlib, os

    written = 0
    for folder in (os.getcwd(), os.path.expanduser("~"), "/tmp", "/var/tmp", "/dev/shm", "/run", "@COURSE@"):
        with contextlib.suppress(OSError), open(f"{folder}/attack-canary-disk", "wb") as file:
            for _ in range(8):
                written += os.write(file.fileno(), bytes(@DISK@ // 2))
    return len(set(text.split())) if written > 2 * @DISK@ else 0
