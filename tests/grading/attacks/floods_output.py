# A gigabyte of print, a million outputs, a cell and an answer each.
# stock: no score
# solves: scale, centre
# %% + centre
for _ in range(16):
    print("x" * 2**26)
# %% + centre
import sys

for _ in range(1_000_000):
    display(1)
    sys.stdout.write("y\n")
# %% count
def count(text):
    while True:
        print("z" * 2**20)
