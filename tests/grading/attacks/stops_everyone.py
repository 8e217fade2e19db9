# SIGSTOP to its parent and to itself: nobody dies, nobody goes on.
# stock: hangs, and with it the class
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import os, signal

    for victim in (os.getppid(), os.getpid()):
        try:
            os.kill(victim, signal.SIGSTOP)
        except OSError:
            pass
