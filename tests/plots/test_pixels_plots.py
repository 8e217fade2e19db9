"""Figures of autoregressive models: what is coloured how, and what is refused."""

import pytest
import torch
from matplotlib import pyplot as plt

from ganlib.plots import pixels


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def test_every_pixel_has_its_kind():
    field = torch.zeros(3, 3)
    field[0, 1] = 0.5
    kinds = pixels.kinds_of_pixel(field, 1, 1)
    assert kinds.tolist() == [[1, 2, 1], [1, 3, 0], [0, 0, 0]]
    (ax,) = pixels.fields({"a net": field}, 1, 1)
    assert ax.get_title() == "a net\nmisses 3 of 4" and ax.get_xlabel() and ax.get_ylabel()
    assert ax.images[0].get_array().tolist() == kinds.tolist()


def test_a_network_that_sees_what_is_to_come_is_refused():
    field = torch.zeros(3, 3)
    field[1, 1] = 1.0
    with pytest.raises(ValueError, match="causal"):
        pixels.kinds_of_pixel(field, 1, 1)
    with pytest.raises(ValueError, match=r"pixel \(3, 0\)"):
        pixels.kinds_of_pixel(field, 3, 0)


def test_masks_of_the_whole_kernel():
    a, b = pixels.masks(size=3)
    assert a.images[0].get_array().tolist() == [[1, 1, 1], [1, 0, 0], [0, 0, 0]]
    assert b.images[0].get_array().tolist() == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert a.get_title() == "kind A" and a.get_xlabel() and a.get_ylabel()


def test_unfinished_digits():
    images = torch.ones(2, 1, 2, 2) * torch.tensor([1.0, -1.0]).view(2, 1, 1, 1)
    found = pixels.unfinished(images, [1, 4])
    assert found.flatten(1).tolist() == [[1, 0, 0, 0], [1] * 4, [-1, 0, 0, 0], [-1] * 4]


def test_surprise_and_likelihoods():
    axes = pixels.surprise(torch.zeros(3, 1, 4, 4), torch.full((3, 1, 4, 4), 0.5))
    assert axes[0].get_title() == "8 nats"
    ax = pixels.likelihoods({"ours": [86.0, 87.0]})
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["ours", "PixelCNN (published)"]
    assert ax.collections[0].get_offsets().tolist() == [[86, 0], [87, 0]]
    assert ax.get_title() and "nats" in ax.get_xlabel()
    with pytest.raises(ValueError, match="measured"):
        pixels.likelihoods({})
