# Handlers that refuse to let the process end.
# stock: 7 of 7; aims at time and what stays behind
# solves: scale, centre, count
# %% + scale
import atexit, signal


def stay(*_):
    while True:
        pass


atexit.register(stay)
signal.signal(signal.SIGTERM, stay)
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
