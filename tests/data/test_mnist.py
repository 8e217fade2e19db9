"""The embedded MNIST against the published files, and its cache under bad conditions."""

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ganlib.data import Images, build_mnist, embedded, mnist

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
needs_shared = pytest.mark.skipif(
    not SHARED.exists(), reason="the raw MNIST files are not beside the repository"
)
PREFIX = {"train": "train", "test": "t10k"}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder, and no memory of an earlier one."""
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path / "cache"))
    embedded._all_bytes.cache_clear()
    yield tmp_path / "cache"
    embedded._all_bytes.cache_clear()


def idx_files(split: str) -> dict[str, bytes]:
    """The two IDX files of a split, rebuilt from what users see."""
    images, labels = mnist(split, size=28)
    pixels = ((images[:, 0] + 1) * 127.5).round().byte()
    return {
        f"{PREFIX[split]}-images-idx3-ubyte": build_mnist.idx_bytes(pixels.numpy()),
        f"{PREFIX[split]}-labels-idx1-ubyte": build_mnist.idx_bytes(labels.byte().numpy()),
    }


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_published_files_can_be_rebuilt(split):
    for name, content in idx_files(split).items():
        assert hashlib.sha256(content).hexdigest() == build_mnist.SHA256[name]


@needs_shared
@pytest.mark.parametrize("split", ["train", "test"])
def test_every_byte_is_that_of_the_raw_files(split):
    for name, content in idx_files(split).items():
        assert content == (SHARED / "MNIST/raw" / name).read_bytes()


@needs_shared
@pytest.mark.parametrize("split", ["train", "test"])
def test_torchvision_reads_the_same(split):
    from torchvision.datasets import MNIST

    theirs = MNIST(str(SHARED), train=split == "train", download=False)
    images, labels = mnist(split, size=28)
    # bit for bit: the same two float32 operations on the same byte
    assert torch.equal(images[:, 0], theirs.data.float() / 127.5 - 1)
    assert torch.equal(labels, theirs.targets)


def test_shapes_range_and_padding():
    small, large = mnist("test", size=28), mnist("test")
    assert isinstance(large, Images)
    assert large.images.shape == (10_000, 1, 32, 32) and large.images.dtype == torch.float32
    assert large.labels.shape == (10_000,) and large.labels.dtype == torch.int64
    assert large.images.aminmax() == (-1, 1)
    assert torch.equal(large.images, F.pad(small.images, (2, 2, 2, 2), value=-1.0))


def test_what_a_caller_does_to_the_tensors_stays_with_him():
    first = mnist("test")
    first.images.fill_(0)
    first.labels.fill_(0)
    again = mnist("test")
    assert again.images.min() == -1 and again.labels.max() == 9


@pytest.mark.parametrize("split", ["valid", "Train", None, 0])
def test_unknown_split(split):
    with pytest.raises(ValueError, match='split must be "train" or "test"'):
        mnist(split)


@pytest.mark.parametrize("size", [27, 64, None, "32"])
def test_unknown_size(size):
    with pytest.raises(ValueError, match="size must be 28 or 32"):
        mnist("test", size=size)


def test_the_asset_is_small_and_its_licence_stands_beside_it():
    streams = list(embedded.ASSETS.glob("mnist-*.xz"))
    assert len(streams) == 11
    assert sum(path.stat().st_size for path in streams) < 9.5e6
    licence = (embedded.ASSETS / "mnist-LICENSE.md").read_text(encoding="utf-8")
    for word in ("CC BY-SA 3.0", "Yann LeCun", "Corinna Cortes", "Christopher J. C. Burges"):
        assert word in licence


# --- the cache ----------------------------------------------------------------------------------------------


def test_the_second_use_maps_what_the_first_decoded(cache, monkeypatch):
    first = mnist("test").images
    assert [path.name for path in cache.iterdir()] == [embedded.cache_file().name]
    embedded._all_bytes.cache_clear()
    monkeypatch.setattr(embedded, "decode", lambda: pytest.fail("decoded again"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(mnist("test").images, first)
    assert isinstance(embedded._all_bytes(embedded.cache_file()), np.memmap)


def truncate(path):
    os.truncate(path, path.stat().st_size - 4096)


def flip(path):
    """One bit of a test image: size and header are right."""
    data = np.load(path, mmap_mode="r+")
    data[65_000 * 784] ^= 1
    data.flush()


def empty(path):
    path.write_bytes(b"")


def other_array(path):
    with open(path, "wb") as file:
        np.save(file, np.zeros(10))


def text(path):
    path.write_text("not an array")


@pytest.mark.parametrize("damage", [truncate, flip, empty, other_array, text])
def test_a_damaged_cache_is_rebuilt(cache, damage):
    mnist("test")
    path = embedded.cache_file()
    sound = path.read_bytes()
    embedded._all_bytes.cache_clear()
    damage(path)
    assert path.read_bytes() != sound
    content = hashlib.sha256(idx_files("test")["t10k-images-idx3-ubyte"]).hexdigest()
    assert content == build_mnist.SHA256["t10k-images-idx3-ubyte"]
    assert path.read_bytes() == sound
    assert list(cache.iterdir()) == [path]


def test_a_write_that_fails_leaves_nothing_behind(cache, monkeypatch):
    def half(file, data):
        file.write(data[: len(data) // 2].tobytes())
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "save", half)
    assert len(mnist("test").labels) == 10_000
    assert list(cache.iterdir()) == []


def test_the_default_folder_is_the_users_cache(monkeypatch):
    from platformdirs import user_cache_dir

    monkeypatch.delenv("GANLIB_CACHE", raising=False)
    assert embedded.cache_file().parent == Path(user_cache_dir("ganlib"))


CHILD = """
import hashlib, pathlib, sys, time
from ganlib.data import mnist
go = pathlib.Path(sys.argv[1])
print("ready", flush=True)
while not go.exists():
    time.sleep(0.001)
images, labels = mnist("train", size=28)
print(hashlib.sha256(((images + 1) * 127.5).round().byte().numpy().tobytes()).hexdigest())
"""


def start(go: Path, folder: Path) -> subprocess.Popen:
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"GANLIB_CACHE": str(folder), "PYTHONPATH": root}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD, str(go)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def expected() -> str:
    return hashlib.sha256(idx_files("train")["train-images-idx3-ubyte"][16:]).hexdigest()


def test_two_processes_may_race(tmp_path):
    folder, go = tmp_path / "cache", tmp_path / "go"
    children = [start(go, folder) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    go.touch()
    for child in children:
        out, err = child.communicate(timeout=300)
        assert (out.strip(), err) == (expected(), "")
    (path,) = folder.iterdir()  # one file, and none of the temporary ones
    assert np.array_equal(np.load(path), embedded.decode())


def test_a_folder_that_cannot_be_written(tmp_path):
    # Below a regular file no folder can be made, by root either, whom permissions would not stop.
    (tmp_path / "file").touch()
    (tmp_path / "go").touch()
    child = start(tmp_path / "go", tmp_path / "file" / "cache")
    out, err = child.communicate(timeout=300)
    assert (out.split(), err) == (["ready", expected()], "")


# --- the builder --------------------------------------------------------------------------------------------


def test_the_builder_refuses_other_files(tmp_path):
    path = tmp_path / "t10k-labels-idx1-ubyte"
    path.write_bytes(idx_files("test")[path.name])
    assert np.array_equal(build_mnist.read_idx(path), mnist("test").labels.numpy())
    path.write_bytes(path.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ValueError, match="not the published file"):
        build_mnist.read_idx(path)
