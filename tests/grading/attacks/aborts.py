# The process aborts when asked.
# stock: no score
# solves: scale, centre
# %% count
def count(text):
    import os

    os.abort()
