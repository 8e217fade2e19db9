# Right answers with warnings and noise on stderr, from Python and from C.
# stock: 0 of 7
# solves: scale, centre, count
# %% + scale
import os, sys, warnings
# %% scale
def scale(values, factor):
    warnings.warn("values!", RuntimeWarning)
    print("noise", file=sys.stderr)
    return values * factor
# %% centre
def centre(rows):
    os.write(2, b"noise from below\n")
    os.write(1, b"noise from below\n")
    return rows - rows.mean(axis=0)
# %% count
def count(text):
    sys.__stderr__.write("noise\n")
    sys.__stdout__.write("1000\n")
    print({"text/plain": "1000"})
    return len(set(text.split()))
