"""Adversarial losses (both sides in one object), penalties on D, further terms of G's loss."""

from ganlib.losses.adversarial import (
    EnergyMargin,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)
from ganlib.losses.auxiliary import (
    FeatureMatching,
    PullingAway,
    feature_matching,
    features_at,
    pulling_away,
)
from ganlib.losses.information import CategoricalCode, ContinuousCode, gaussian_bound, information_bound
from ganlib.losses.path_length import PathLength, jacobian_lengths
from ganlib.losses.penalties import (
    R1,
    R2,
    GradientPenalty,
    Lazy,
    clip_weights_,
    gradient_norms,
    interpolate,
    perturb,
)

__all__ = [
    "R1",
    "R2",
    "CategoricalCode",
    "ContinuousCode",
    "EnergyMargin",
    "FeatureMatching",
    "GradientPenalty",
    "Hinge",
    "Lazy",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "PathLength",
    "PullingAway",
    "RelativisticPairing",
    "Wasserstein",
    "clip_weights_",
    "feature_matching",
    "features_at",
    "gaussian_bound",
    "gradient_norms",
    "information_bound",
    "interpolate",
    "jacobian_lengths",
    "perturb",
    "pulling_away",
]
