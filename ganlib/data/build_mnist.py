"""Build the embedded MNIST from the four published files: ``python -m ganlib.data.build_mnist RAW_FOLDER``.

What was tried, on the 10,000 test images, all with the strongest xz setting: rows as published 1.353 MB;
columns 1.370 MB; the difference to the left or upper neighbour, and PNG's Paeth predictor, worse than either,
for strokes are flat where they are not edges; all images' first pixel, then all second pixels, 1.569 MB;
pairs of rows interleaved, so that the pixel above is one or three bytes away and within reach of the coder's
literal context, 1.345 MB; the same with the images sorted by label, 1.333 MB. The sorting is free: it is
stable, and the labels undo it.
"""

import hashlib
import lzma
import struct
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ganlib.data import embedded

# The files as Yann LeCun, Corinna Cortes and Christopher J. C. Burges published them, unpacked.
SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": 1 << 23,  # one digit's images: 6 MB
        "lc": 3,
        "lp": 1,  # even bytes are of one row and odd bytes of the next: each gets statistics of its own
        "pb": 1,
    }
]


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes; the shape stands in its header.

    Raises:
        ValueError: if the file is not an IDX file of unsigned bytes, or is not the published one.
    """
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != SHA256[path.name]:
        raise ValueError(f"{path} is not the published file: SHA-256 {digest}, expected {SHA256[path.name]}")
    rank = raw[3]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(struct.unpack_from(f">{rank}I", raw, 4))


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX file of an array of bytes: 0, 0, 8 for unsigned bytes, rank; sizes big-endian; data."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def pack(data: bytes) -> bytes:
    return lzma.compress(data, check=lzma.CHECK_CRC32, filters=FILTERS)


def main(folder: Path) -> None:
    images, labels = (
        [read_idx(folder / f"{split}-{kind}-ubyte") for split in ("train", "t10k")]
        for kind in ("images-idx3", "labels-idx1")
    )
    for split, x, y in zip(("train", "test"), images, labels, strict=True):
        print(f"CRC32 {split}: ({zlib.crc32(x):#010x}, {zlib.crc32(y):#010x})")
    pixels, classes = np.concatenate(images), np.concatenate(labels)

    def stream(digit: int) -> bytes:
        rows = pixels[classes == digit].reshape(-1, 14, 2, 28)
        return pack(rows.transpose(0, 1, 3, 2).tobytes())

    embedded.ASSETS.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor() as pool:
        streams = dict(enumerate(pool.map(stream, range(10)))) | {"labels": pack(classes.tobytes())}
    for name, packed in streams.items():
        (embedded.ASSETS / f"mnist-{name}.xz").write_bytes(packed)
    print(f"{sum(map(len, streams.values())):,} bytes in {embedded.ASSETS}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
