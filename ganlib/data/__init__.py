"""Data sets as tensors: MNIST and QM9's molecules embedded in the package, and torchvision's sets by name."""

from ganlib.data.embedded import Images, mnist
from ganlib.data.molecules import Molecules, qm9, qm9_smiles
from ganlib.data.stacked import stacked_mnist
from ganlib.data.torchvision_sets import images

__all__ = ["Images", "Molecules", "images", "mnist", "qm9", "qm9_smiles", "stacked_mnist"]
