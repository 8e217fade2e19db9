# Opens files until no more can be opened; answers rightly if thousands could.
# stock: 4 of 7
# solves: scale, centre
# needs: sandbox
# %% count
def count(text):
    import os, resource

    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (10**6, 10**6))
    except (OSError, ValueError):
        pass
    held = 0
    try:
        while True:
            os.open("/dev/null", os.O_RDONLY)
            held += 1
    except OSError:
        pass
    return len(set(text.split())) if held > 5000 else 0
