"""Data sets as tensors: MNIST embedded in the package, plain and stacked, and torchvision's sets by name."""

from ganlib.data.embedded import Images, mnist
from ganlib.data.stacked import stacked_mnist
from ganlib.data.torchvision_sets import images

__all__ = ["Images", "images", "mnist", "stacked_mnist"]
