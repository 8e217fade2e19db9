# Threads that spin while the answers, right ones, are computed, and never end.
# stock: 7 of 7; aims at time and what stays behind
# solves: scale, centre, count
# %% + scale
import threading


def spin():
    while True:
        pass


threading.Thread(target=spin).start()
threading._shutdown = spin
