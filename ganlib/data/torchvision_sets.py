"""Any labelled image set of torchvision, by name, as two tensors."""

import difflib
import inspect
import os
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from ganlib.data.embedded import Images


def images(
    name: str,
    root: str | os.PathLike,
    split: str = "train",
    size: int | None = None,
    download: bool = False,
    options: Mapping[str, Any] | None = None,
) -> Images:
    """An image set of torchvision as tensors: ``images("cifar10", root="~/data", download=True)``.

    Args:
        name: the class in ``torchvision.datasets``; capitals, hyphens and underscores do not matter.
        root: the folder that holds the files, or is to hold them.
        split: ``"train"``, ``"test"`` or what else the set offers; a set without splits has ``"train"`` only.
        size: side in pixels. The shorter side is resized to it (bilinear, antialiased) and the middle square
            kept. None keeps the size that the set has.
        download: fetch missing files. Nothing is fetched unasked.
        options: further arguments of the class, such as ``{"split": "letters"}`` for EMNIST.

    Returns:
        Images float32 ``(N, C, H, W)`` in [-1, 1], C being 1 or 3, and labels int64 ``(N,)``.

    Raises:
        ValueError: for an unknown name or split, for images of differing sizes when ``size`` is None, and for
            a set that does not pair an image with a class.
        FileNotFoundError: if the files are not there and ``download`` is False.
    """
    if size is not None and (not isinstance(size, int) or size < 1):
        raise ValueError(f"size must be a positive integer or None, got {size!r}")
    dataset = _open(_find(name), os.path.expanduser(root), split, download, dict(options or {}))
    mode = None
    for i in range(len(dataset)):
        image, label = _pair(name, dataset[i])
        # Some sets mix grey and colour files: the first one decides for all.
        mode = mode or ("L" if image.mode in ("1", "L", "I;16") else "RGB")
        pixels = _tensor(image.convert(mode), size)
        if i == 0:
            out = torch.empty(len(dataset), *pixels.shape)
            labels = torch.empty(len(dataset), dtype=torch.int64)
        elif pixels.shape != out.shape[1:]:
            raise ValueError(
                f"size must be given for {name!r}, whose images differ in size: "
                f"{tuple(out.shape[1:])} and {tuple(pixels.shape)}"
            )
        out[i], labels[i] = pixels, label
    return Images(out, labels)


def _find(name: str) -> type:
    """The torchvision class of that name."""
    from torchvision import datasets

    members = {key.lower(): getattr(datasets, key) for key in datasets.__all__}
    known = {
        key: member
        for key, member in members.items()
        if inspect.isclass(member) and issubclass(member, datasets.VisionDataset)
    }
    key = str(name).lower().replace("-", "").replace("_", "")
    if key not in known:
        close = difflib.get_close_matches(key, known, n=3, cutoff=0.5)
        hint = f"; close: {', '.join(known[c].__name__ for c in close)}" if close else ""
        raise ValueError(f"name must be an image set of torchvision.datasets, got {name!r}{hint}")
    return known[key]


def _open(cls: type, root: str, split: str, download: bool, options: dict[str, Any]) -> Any:
    """Construct the set, saying split, root and download in the words that its constructor knows."""
    # EMNIST takes `train` through the keywords it hands to its parent, hence the walk over the bases.
    accepted = {p for base in cls.__mro__ if base is not object for p in inspect.signature(base).parameters}
    arguments = {"root": root} if "root" in inspect.signature(cls).parameters else {}
    if "train" in accepted:
        if split not in ("train", "test"):
            raise ValueError(f'split of {cls.__name__} must be "train" or "test", got {split!r}')
        arguments["train"] = split == "train"
    elif "split" in accepted:
        arguments["split"] = split
    elif split != "train":
        raise ValueError(f'split must be "train" for {cls.__name__}, which has no splits, got {split!r}')
    if "download" in accepted:
        arguments["download"] = download
    elif download:
        raise ValueError(f"download must be False for {cls.__name__}, which torchvision cannot fetch")
    try:
        return cls(**(arguments | options))
    except TypeError as error:
        raise ValueError(f"options must name what {cls.__name__} needs: {error}") from error
    except (RuntimeError, OSError) as error:
        if download:
            raise
        raise FileNotFoundError(
            f"{cls.__name__} not found in root={root!r}: pass download=True to fetch it ({error})"
        ) from error


def _pair(name: str, sample: Any) -> tuple[Any, int]:
    from PIL import Image

    if isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[0], Image.Image):
        image, label = sample
        if isinstance(label, Integral) or (isinstance(label, Tensor) and label.ndim == 0):
            return image, int(label)
    raise ValueError(
        f"name must be a set of images with a class each, which {name!r} is not as it was opened"
    )


def _tensor(image: Any, size: int | None) -> Tensor:
    """``(C, H, W)`` float32 in [-1, 1]."""
    from torchvision.transforms.functional import center_crop, pil_to_tensor, resize

    pixels = pil_to_tensor(image).float()
    if size is not None:
        pixels = center_crop(resize(pixels, [size], antialias=True), [size, size])
    return pixels.div_(127.5).sub_(1).clamp_(-1, 1)
