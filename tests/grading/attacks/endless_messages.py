# Exceptions with endless messages, names and representations, some of which never come.
# stock: no score
# solves: scale
# %% + scale
class Endless(Exception):
    def __str__(self):
        while True:
            pass

    __repr__ = __str__


Endless.__name__ = Endless.__qualname__ = "E" * 10**6
# %% + centre
raise ValueError("m" * 2**28)
# %% centre
def centre(rows):
    raise ValueError("m" * 2**28) from Endless()
# %% count
def count(text):
    raise Endless
