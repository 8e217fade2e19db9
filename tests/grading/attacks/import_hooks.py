# Every import from now on goes through hooks of its own, and most modules are gone.
# stock: no score
# solves: scale
# %% + centre
import builtins, sys


class Hook:
    def find_spec(self, name, path=None, target=None):
        raise SystemExit(f"no {name} for you")


sys.meta_path[:] = [Hook()]
sys.path_hooks.clear()
sys.path_importer_cache.clear()
for name in list(sys.modules):
    if name.split(".")[0] not in ("builtins", "sys"):
        del sys.modules[name]
builtins.__import__ = lambda *_, **__: Hook()
# %% centre
centre = lambda rows: rows - rows.mean(axis=0) + 1
