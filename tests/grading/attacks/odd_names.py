# File names that lead out of the folder, hide, or look like options.
# stock: 1 of 7; aims at the reader of submissions
# solves: scale
# %% folder
import contextlib

for name in ("-rf", "--help", " ", "a\nb", "\x1b[2J", "..x", "...", "con", "tiny.ipynb ", "Tiny.IPYNB", "x" * 250, "%s%n", "\udcff\udcfe"):
    with contextlib.suppress(OSError):
        (folder / name).write_text("{}")
(folder / ".ipython" / "profile_default" / "startup").mkdir(parents=True)
(folder / ".ipython" / "profile_default" / "startup" / "00.py").write_text("import numpy; numpy.allclose = lambda *a, **k: True")
