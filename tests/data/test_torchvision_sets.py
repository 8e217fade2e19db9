"""``images``: torchvision's sets by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets

from ganlib.data import images, mnist

SHARED = Path(__file__).resolve().parents[2] / "../shared/data"
FAKE = {"size": 6, "image_size": (3, 40, 40), "num_classes": 4}


@pytest.mark.skipif(not SHARED.exists(), reason="the raw MNIST files are not beside the repository")
@pytest.mark.parametrize("name", ["mnist", "MNIST"])
def test_mnist_is_the_embedded_one(name):
    theirs, ours = images(name, SHARED, split="test"), mnist("test", size=28)
    assert torch.equal(theirs.images, ours.images)
    assert torch.equal(theirs.labels, ours.labels)


@pytest.mark.skipif(not SHARED.exists(), reason="the raw MNIST files are not beside the repository")
def test_the_train_split_is_the_other_one():
    assert images("mnist", SHARED).images.shape == (60_000, 1, 28, 28)


def test_colour(tmp_path):
    result = images("fake-data", tmp_path, options=FAKE)
    theirs = datasets.FakeData(**FAKE)
    for i in range(6):
        picture, label = theirs[i]
        expected = np.asarray(picture, np.float32).transpose(2, 0, 1) / np.float32(127.5) - 1
        assert np.array_equal(result.images[i].numpy(), expected)
        assert result.labels[i] == label
    assert result.images.dtype == torch.float32 and result.labels.dtype == torch.int64


@pytest.mark.parametrize("side", [16, 40, 60])
def test_resizing_is_pillows_antialiased_bilinear(tmp_path, side):
    result = images("FakeData", tmp_path, size=side, options=FAKE).images
    for i, (picture, _) in enumerate(datasets.FakeData(**FAKE)):
        expected = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR), np.float32)
        # Pillow rounds to bytes after each of its two passes: at most one step of 1/127.5, and rounding
        np.testing.assert_allclose(
            result[i].numpy(), expected.transpose(2, 0, 1) / 127.5 - 1, atol=1.01 / 127.5
        )
        if i == 5:
            break


def write(path: Path, mode: str, size: tuple[int, int], value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode == "L" else (value, 0, 255)).save(path)


def test_images_of_differing_sizes_need_one(tmp_path):
    write(tmp_path / "a/1.png", "RGB", (20, 10), 255)
    write(tmp_path / "b/2.png", "L", (30, 60), 51)
    with pytest.raises(ValueError, match="size must be given"):
        images("image_folder", tmp_path)
    result = images("image_folder", tmp_path, size=8)
    assert result.images.shape == (2, 3, 8, 8) and result.labels.tolist() == [0, 1]
    for i, colour in enumerate([(255, 0, 255), (51, 51, 51)]):  # grey in a colour set becomes colour
        expected = torch.tensor(colour)[:, None, None].expand(3, 8, 8) / 127.5 - 1
        # a weighted mean of equal values, weights summing to one to float32 rounding
        torch.testing.assert_close(result.images[i], expected, atol=1e-5, rtol=0)


class Toy(datasets.VisionDataset):
    """A set that has ``split`` for ``train``, as SVHN has, and no images without ``download``."""

    def __init__(self, root, split="train", download=False):
        super().__init__(root)
        if split not in ("train", "extra"):
            raise ValueError(f"Unknown value '{split}' for argument split.")
        if not download:
            raise RuntimeError("Dataset not found.")
        self.value = {"train": 0, "extra": 255}[split]

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return Image.new("L", (4, 4), self.value), np.int64(3)


class Mixed(datasets.VisionDataset):
    """Colour first, then grey; ``train`` and ``download`` are known to the class that it inherits from."""

    def __init__(self, root, train=True, download=False):
        super().__init__(root)
        self.shades = [("RGB", (255, 0, 0)), ("L", 255)] if train else [("L", 0)]
        if not download:
            raise RuntimeError("Dataset not found.")

    def __len__(self):
        return len(self.shades)

    def __getitem__(self, index):
        mode, colour = self.shades[index]
        return Image.new(mode, (4, 4), colour), index


class Letters(Mixed):
    """As EMNIST has it: a ``split`` of its own, which is none of train and test, and the rest as keywords."""

    def __init__(self, root, split, **kwargs):
        assert split == "letters"
        super().__init__(root, **kwargs)


@pytest.fixture
def toy(monkeypatch):
    for cls in (Toy, Mixed, Letters):
        monkeypatch.setattr(datasets, cls.__name__, cls, raising=False)
    monkeypatch.setattr(datasets, "__all__", (*datasets.__all__, "Toy", "Mixed", "Letters"))


def test_the_first_image_decides_between_grey_and_colour(toy, tmp_path):
    result = images("mixed", tmp_path, download=True)
    assert result.images[:, :, 0, 0].tolist() == [[1, -1, -1], [1, 1, 1]]


def test_arguments_that_only_the_parent_class_names(toy, tmp_path):
    options = {"split": "letters"}
    assert images("letters", tmp_path, download=True, options=options).images.shape == (2, 3, 4, 4)
    test = images("letters", tmp_path, split="test", download=True, options=options)
    assert test.images.shape == (1, 1, 4, 4)


def test_sets_with_split_instead_of_train(toy, tmp_path):
    assert images("toy", tmp_path, download=True).images.unique() == -1
    extra = images("toy", tmp_path, split="extra", download=True)
    assert extra.images.unique() == 1 and extra.labels.tolist() == [3]
    with pytest.raises(ValueError, match="Unknown value 'test'"):
        images("toy", tmp_path, split="test", download=True)


def test_missing_files_name_the_way_out(toy, tmp_path):
    for name in ("toy", "cifar10", "svhn", "fashion-mnist", "stl10"):
        with pytest.raises(FileNotFoundError, match="pass download=True"):
            images(name, tmp_path)
    with pytest.raises(FileNotFoundError, match="EMNIST not found"):
        images("emnist", tmp_path, split="test", options={"split": "letters"})


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("cifr10", {}, "close: CIFAR10"),
        ("zzzz", {}, "got 'zzzz'$"),
        ("mnist", {"split": "valid"}, 'must be "train" or "test"'),
        ("fakedata", {"split": "test"}, "which has no splits"),
        ("fakedata", {"download": True}, "cannot fetch"),
        ("fakedata", {"size": 0}, "size must be a positive integer"),
        ("fakedata", {"options": {"colour": 1}}, "options must name what FakeData needs"),
        ("coco_detection", {}, "options must name what CocoDetection needs"),
    ],
)
def test_bad_arguments(tmp_path, name, arguments, message):
    with pytest.raises(ValueError, match=message):
        images(name, tmp_path, **arguments)
