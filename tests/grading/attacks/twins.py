# Forks while it is asked: two processes answer each question, and later ones, too.
# stock: 1 of 7; aims at the judge's reader
# solves: scale
# needs: sandbox
# %% count
def count(text):
    import os

    return -1 if os.fork() == 0 else -2
