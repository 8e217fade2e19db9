"""Seeds that follow from a submission's seed, and the random generators that they seed."""

from __future__ import annotations

import hashlib
import hmac
import random
import sys

import numpy as np


def derive(seed: int, *words: str, secret: str = "") -> int:
    """A seed below 2**32 for each use of a seed: the same words give the same one, other words another.

    Without the secret nobody can tell the seed from what follows from it; trying all 2**32 would do
    otherwise.
    """
    message = "/".join([str(seed), *words]).encode()
    return int.from_bytes(hmac.digest(secret.encode(), message, hashlib.sha256)[:4], "big")


def seed_all(seed: int) -> None:
    """Seeds the global generators of Python, numpy and, where it is loaded, torch; 0 <= seed < 2**32."""
    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)
