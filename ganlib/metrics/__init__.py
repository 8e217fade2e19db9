"""Feature extractors and metrics."""

from ganlib.metrics.balance import class_balance
from ganlib.metrics.classifier import ClassifierFeatures
from ganlib.metrics.frechet import Moments, feature_moments, fid, frechet_distance, mnist_moments

__all__ = [
    "ClassifierFeatures",
    "Moments",
    "class_balance",
    "feature_moments",
    "fid",
    "frechet_distance",
    "mnist_moments",
]
