# As many processes as it may have, all of them busy, each in a session of its own.
# stock: 7 of 7; aims at the time of others
# solves: scale, centre, count
# needs: sandbox
# %% + scale
import os, time

end = time.time() + @CELL_SECONDS@ * 1.5
for _ in range(@PROCESSES@ - 4):
    if os.fork() == 0:
        os.setsid()
        while time.time() < end:
            pass
        os._exit(0)
time.sleep(@CELL_SECONDS@ * 0.7)
