# Empty files by the ten thousand; answers rightly if there was room for them.
# stock: 4 of 7
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import os

    made = 0
    for folder in ("/tmp", "/dev/shm", os.getcwd()):
        try:
            for i in range(60_000):
                os.mknod(f"{folder}/attack-canary-{i}")
                made += 1
        except OSError:
            pass
    return len(set(text.split())) if made >= 60_000 else 0
