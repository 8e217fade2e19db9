# Cells that end or block the process, each in another way: more restarts than anyone is given.
# stock: no score
# solves: scale
# needs: sandbox
# %% + centre
import os

os._exit(1)
# %% + centre
import os

os.abort()
# %% + centre
import ctypes

ctypes.string_at(0)
# %% + centre
import ctypes

ctypes.CDLL(None).exit(0)
# %% + centre
import os

os.execv("/bin/true", ["true"])
# %% + centre
import os

os.closerange(0, 4096)
# %% + centre
import ctypes

ctypes.CDLL(None).pthread_exit(0)
# %% centre
centre = lambda rows: rows - rows.mean(axis=0)
# %% count
count = lambda text: len(set(text.split()))
