# Links out of the folder, to themselves and to the course, pipes, sockets and devices beside the notebook.
# stock: no score
# solves: scale
# %% + scale
def solution(name):
    import json

    for cell in json.load(open("data.json"))["cells"]:
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == name:
            found = {"np": np}
            exec("".join(cell["source"]), found)
            return found[name]
# %% centre
centre = solution("centre")
# %% count
count = solution("count")
# %% folder
import os
import socket

(folder / "data.json").symlink_to(course / "source" / "tiny" / "tiny.ipynb")
(folder / "loop").symlink_to(folder / "loop")
(folder / "all").symlink_to("/")
(folder / "up").symlink_to("..")
os.mkfifo(folder / "pipe")
os.mkfifo(folder / "pipe.py")
try:
    os.mknod(folder / "zero", 0o666 | 0o020000, os.makedev(1, 5))
except OSError:
    pass
