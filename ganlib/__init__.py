"""ganlib: every model, loss and metric of the GAN lectures, small enough to read.

One idea carries the package: a GAN is networks x an adversarial loss x regularizers x a schedule of turns.
Start with :mod:`ganlib.models.gan` (the two-player game), :mod:`ganlib.losses` and :mod:`ganlib.training`;
``ganlib systems`` lists what can be trained.
"""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

__all__ = ["data", "layers", "losses", "metrics", "models", "plots", "random", "systems", "training"]


def __getattr__(name: str) -> ModuleType:
    """Import a subpackage on first use, so that ``import ganlib`` costs next to nothing."""
    if name in __all__:
        return importlib.import_module(f"ganlib.{name}")
    raise AttributeError(f"module 'ganlib' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
