"""Images and molecules as tensors: embedded in the package, from torchvision by name, from a folder."""

from ganlib.data.captions import Captioned, Tokenizer, captioned
from ganlib.data.embedded import Images, mnist
from ganlib.data.folders import folder, stored_images, to_floats
from ganlib.data.molecules import Molecules, qm9, qm9_smiles
from ganlib.data.stacked import stacked_mnist
from ganlib.data.torchvision_sets import images

__all__ = [
    "Captioned",
    "Images",
    "Molecules",
    "Tokenizer",
    "captioned",
    "folder",
    "images",
    "mnist",
    "qm9",
    "qm9_smiles",
    "stacked_mnist",
    "stored_images",
    "to_floats",
]
