# Arrays of forbidden kinds: objects, records, strings, pickles; one that lies about shape and type.
# stock: 5 of 7
# solves: scale
# %% + scale
import os


class Pickled:
    def __reduce__(self):
        return os.system, ("touch /tmp/attack-canary-pickle",)

    __eq__ = lambda self, other: True


class Lying(np.ndarray):
    shape = (2, 2)
    dtype = np.dtype(float)
    size = property(lambda self: 4)
    nbytes = property(lambda self: 10**15)
    __eq__ = lambda self, other: True
    tobytes = lambda self, *_: b"\x80\x04cos\nsystem\n"
# %% centre
def centre(rows):
    if len(rows) == 2:
        return np.array([Pickled(), Pickled()]).view(Lying)
    return np.zeros(5, dtype=[("a", "O"), ("b", "M8[ns]")])
# %% count
count = lambda text: Pickled()
