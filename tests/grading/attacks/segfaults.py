# Reads the address 0.
# stock: no score
# solves: scale, centre
# %% count
def count(text):
    import ctypes

    return ctypes.string_at(0)
