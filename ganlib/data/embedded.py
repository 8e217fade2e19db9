"""MNIST whole and lossless inside the package: no download, ever.

The asset is one xz stream per digit (``assets/mnist-0.xz`` to ``mnist-9.xz``) and one for the labels;
``build_mnist.py`` wrote it and says why it is laid out so. The first use decodes the streams in parallel into
one memory-mapped file in the user's cache folder; later uses only convert bytes to floats.
"""

import lzma
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ganlib.data import cache

ASSETS = Path(__file__).parent / "assets"
COUNTS = {"train": 60_000, "test": 10_000}
TOTAL = sum(COUNTS.values())
PIXELS = 28 * 28
# CRC-32 of each split's pixels and labels: a cache with a hole in it is noticed within milliseconds.
CRC32 = {"train": (0xF3639B56, 0xBA07E8EF), "test": (0xE4CA5F57, 0xEE8604D9)}


class Images(NamedTuple):
    """Images float32 ``(N, C, H, W)`` in [-1, 1] and labels int64 ``(N,)``."""

    images: Tensor
    labels: Tensor


def mnist(split: str = "train", size: int = 32) -> Images:
    """The MNIST handwritten digits, from the copy embedded in the package.

    A byte ``b`` becomes ``b / 127.5 - 1``, so that black is -1 and white +1; at 32 pixels a border of two
    black pixels is added on each side, which makes the side a power of two for strided convolutions.

    The pixels are decoded once into the folder named by the environment variable ``GANLIB_CACHE`` (by default
    the user's cache folder) and mapped from there afterwards; where that folder cannot be written, they are
    decoded in memory.

    Args:
        split: ``"train"`` (60,000 images) or ``"test"`` (10,000), in the order of the original files.
        size: 32 (padded) or 28 (as published).

    Returns:
        Images float32 ``(N, 1, size, size)`` in [-1, 1] and labels int64 ``(N,)`` in 0..9. Each call returns
        new tensors.

    Raises:
        ValueError: for another split or size.

    Source: LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition",
    1998, section III; the data by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, CC BY-SA 3.0.
    """
    if split not in COUNTS:
        raise ValueError(f'split must be "train" or "test", got {split!r}')
    if size not in (28, 32):
        raise ValueError(f"size must be 28 or 32, got {size!r}")
    pixels, labels = _split(_all_bytes(cache_file()), split)
    pad = (size - 28) // 2
    images = torch.zeros(len(labels), 1, size, size)
    # A few megabytes at a time stay in the processor's cache through all three steps.
    for out, part in zip(images.split(1000), torch.from_numpy(pixels).split(1000), strict=True):
        out[:, 0, pad : pad + 28, pad : pad + 28].copy_(part)
        out.div_(127.5).sub_(1)
    return Images(images, torch.from_numpy(labels).long())


def cache_file() -> Path:
    """Where decoded bytes are kept: ``mnist-<CRC>.npy`` in :func:`ganlib.data.cache.folder`."""
    return cache.folder() / f"mnist-{CRC32['train'][0]:08x}.npy"


def _split(data: np.ndarray, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Views of the flat bytes: pixels ``(N, 28, 28)`` and labels ``(N,)`` of one split."""
    start, stop = (0, COUNTS["train"]) if split == "train" else (COUNTS["train"], TOTAL)
    pixels = data[: TOTAL * PIXELS].reshape(TOTAL, 28, 28)
    return pixels[start:stop], data[TOTAL * PIXELS :][start:stop]


@lru_cache(maxsize=1)
def _all_bytes(path: Path) -> np.ndarray:
    """All pixels and then all labels, uint8 ``(70,000 * 785,)``: mapped from ``path`` where that works."""
    return cache.cached(path, decode, _is_intact)


def _is_intact(data: np.ndarray) -> bool:
    """Whether the bytes are the right ones."""
    if data.dtype != np.uint8 or data.shape != (TOTAL * (PIXELS + 1),):
        return False
    return all(tuple(zlib.crc32(part) for part in _split(data, split)) == CRC32[split] for split in COUNTS)


def decode() -> np.ndarray:
    """Decode the asset: uint8 ``(70,000 * 785,)``, the pixels of both splits and then their labels."""
    data = np.empty(TOTAL * (PIXELS + 1), np.uint8)
    pixels, labels = data[: TOTAL * PIXELS].reshape(TOTAL, 28, 28), data[TOTAL * PIXELS :]
    labels[:] = _unpack("labels")

    def digit(d: int) -> None:
        pairs = _unpack(d).reshape(-1, 14, 28, 2)  # two rows interleaved: see build_mnist.py
        pixels[labels == d] = pairs.transpose(0, 1, 3, 2).reshape(-1, 28, 28)

    with ThreadPoolExecutor(min(10, os.cpu_count() or 1)) as pool:  # lzma releases the interpreter lock
        list(pool.map(digit, range(10)))
    return data


def _unpack(name: str | int) -> np.ndarray:
    return np.frombuffer(lzma.decompress((ASSETS / f"mnist-{name}.xz").read_bytes()), np.uint8)
