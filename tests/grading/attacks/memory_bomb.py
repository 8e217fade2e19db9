# Takes all memory, in several processes.
# stock: no score
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import os

    for _ in range(3):
        os.fork()
    held = []
    while True:
        held.append(bytearray(b"x" * 2**26))
