"""Data sets as tensors: MNIST embedded in the package, and every image set of torchvision by name."""

from ganlib.data.embedded import Images, mnist
from ganlib.data.torchvision_sets import images

__all__ = ["Images", "images", "mnist"]
