# Empties the hidden tests in source and release, and the work of all others.
# stock: 1 of 7; those after it: 0 of 7
# solves: scale
# needs: sandbox
# %% + scale
import glob, os, shutil

for path in glob.glob("@COURSE@/*/*") + glob.glob("../../*/*"):
    if "attack" not in path:
        try:
            shutil.rmtree(path)
        except OSError:
            pass
for path in glob.glob("@COURSE@/*"):
    try:
        open(path + "/attack-canary-course", "w").close()
    except OSError:
        pass
