"""What the pictures of the VAE show, read back from the axes."""

import math

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.models.vae import best_pictures, sharpness, sign_code
from ganlib.plots import vae


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_latents_are_sorted_by_their_kl():
    ax = vae.latents_used(torch.tensor([0.1, 2.0, 0.0, 0.7]), title="KL")
    # Bar heights pass through float32.
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([2.0, 0.7, 0.1, 0.0], abs=1e-6)
    assert ax.get_title() == "KL" and "nats" in ax.get_ylabel()


def test_tightness_has_means_and_paired_errors():
    base = torch.tensor([-3.0, -1.0, -2.0])
    gains = torch.tensor([0.5, 0.7, 0.6])
    ax = vae.tightness({1: base, 16: base + gains}, elbo=-2.0)
    points = ax.containers[0].lines[0]
    assert points.get_xdata().tolist() == [1, 16]
    assert points.get_ydata().tolist() == pytest.approx([-2.0, -1.4])
    (bars,) = ax.containers[0].lines[2]
    spans = [segment[1][1] - segment[0][1] for segment in bars.get_segments()]
    # Of the gains, not of the images: their standard deviation is 0.1; two standard errors each way.
    assert spans == pytest.approx([0, 4 * 0.1 / math.sqrt(3)], abs=1e-6)
    assert ax.lines[-1].get_ydata()[0] == -2.0


def test_coarse_codes_draw_the_cells_means_and_their_sharpness():
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    left, right = vae.coarse_codes(images, (0, 2, 4), [1, 2, 3]).axes
    assert [text.get_text() for text in left.texts] == ["0 bits", "2 bits", "4 bits", "digits"]
    x, y = right.lines[0].get_data()
    assert list(x) == [0, 2, 4]
    for bits, value in zip(x, y, strict=True):
        answer = best_pictures(images, sign_code(images, int(bits)))
        assert value == pytest.approx((sharpness(answer).mean() / sharpness(images).mean()).item())
    # The picture holds, from above, row by row, the cells' means in [0, 1] with a border of one pixel.
    picture = np.asarray(left.images[0].get_array())
    answer = best_pictures(images, sign_code(images, 2))[3, 0]
    assert picture[10:18, 19:27, 0] == pytest.approx(((answer + 1) / 2).numpy(), abs=1e-6)


def test_lengths_are_densities_about_the_root_of_the_dimension():
    rows = torch.eye(9).repeat(3, 1)
    ax = vae.lengths({"ones": rows, "twos": 2 * rows}, title="Lengths")
    assert ax.lines[-1].get_xdata()[0] == 3
    assert "√9" in ax.get_legend_handles_labels()[1]
    for patch, length in zip(ax.patches, (1, 2), strict=True):
        xs = patch.get_xy()
        middle = xs[xs[:, 1] > 0][:, 0].mean()
        assert middle == pytest.approx(length, abs=0.04), "one bin of 60 over 2.04"
