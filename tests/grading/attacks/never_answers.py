# Loops for ever, catches everything, ignores every signal that can be ignored.
# stock: no score
# solves: scale, centre
# %% count
def count(text):
    import signal

    for number in range(1, 65):
        try:
            signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError):
            pass
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
