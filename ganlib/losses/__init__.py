"""Adversarial losses (both sides in one object) and penalties on the discriminator."""

from ganlib.losses.adversarial import Minimax, NonSaturating, Wasserstein
from ganlib.losses.penalties import R1, R2, GradientPenalty, clip_weights_, gradient_norms, interpolate

__all__ = [
    "R1",
    "R2",
    "GradientPenalty",
    "Minimax",
    "NonSaturating",
    "Wasserstein",
    "clip_weights_",
    "gradient_norms",
    "interpolate",
]
