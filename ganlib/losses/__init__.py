"""Adversarial losses (both sides in one object) and penalties on the discriminator."""

from ganlib.losses.adversarial import Minimax, NonSaturating, Wasserstein
from ganlib.losses.penalties import GradientPenalty, clip_weights_, gradient_norms, interpolate

__all__ = [
    "GradientPenalty",
    "Minimax",
    "NonSaturating",
    "Wasserstein",
    "clip_weights_",
    "gradient_norms",
    "interpolate",
]
