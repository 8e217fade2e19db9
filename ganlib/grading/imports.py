"""nbformat and nbgrader, imported without what takes most of the time and serves no notebook."""

from __future__ import annotations

import sys
from importlib import import_module

# jsonschema builds a grammar of internationalised addresses from it when it is imported; without it, that
# one check of a format is left out.
GRAMMAR = "rfc3987_syntax"


def import_quickly(*names: str) -> None:
    """Import modules, a second faster each process if jsonschema is among what they need."""
    if GRAMMAR not in sys.modules:
        sys.modules[GRAMMAR] = None  # an ImportError, which jsonschema expects
    try:
        for name in names:
            import_module(name)
    finally:
        if sys.modules.get(GRAMMAR, ...) is None:
            del sys.modules[GRAMMAR]
