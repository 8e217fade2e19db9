"""LAPGAN's figures, read back: the pictures are the pyramid's, dots and lines the numbers given."""

import matplotlib
import numpy as np
import pytest
import torch

matplotlib.use("Agg")

from ganlib.layers.pyramid import BINOMIAL, LINEAR, collapse_pyramid, laplacian_pyramid
from ganlib.models.lapgan import LAPGAN, networks
from ganlib.plots import lapgan as plots
from ganlib.training import Budget


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


def picture(channels=1, size=32):
    return torch.rand(channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def drawn(figure):
    return {ax.get_title(): ax.images[0] for ax in figure.axes}


@pytest.mark.parametrize("scaling", [LINEAR, BINOMIAL])
def test_pyramid_shows_small_image_blurred_images_bands_and_sums(scaling):
    image = picture()
    found = drawn(plots.pyramid(image, scaling=scaling, title="a digit"))
    assert list(found) == [
        "image, 8", "l, 16", "h, 16", "image, 16 = l + h", "l, 32", "h, 32", "image, 32 = l + h"
    ]  # fmt: skip
    fine, middle, coarse = laplacian_pyramid(image[None], smallest=8, scaling=scaling)
    np.testing.assert_array_equal(found["image, 8"].get_array(), coarse[0, 0])
    np.testing.assert_array_equal(found["h, 32"].get_array(), fine[0, 0])
    whole = collapse_pyramid([fine, middle, coarse], scaling)
    np.testing.assert_array_equal(found["image, 32 = l + h"].get_array(), whole[0, 0])
    # a band's zero is in the middle of its colours; images have the range of pixels
    low, high = found["h, 16"].get_clim()
    assert low == -high == pytest.approx(-middle.abs().max().item())
    assert found["l, 32"].get_clim() == (-1, 1)


def test_chain_shows_samples_of_the_game():
    torch.manual_seed(0)
    game = LAPGAN(networks(16, 3, Budget.SMOKE))
    figure = plots.chain(game, 2, torch.Generator().manual_seed(5))
    assert len(figure.axes) == 8
    samples = game.sample(2, torch.Generator().manual_seed(5)).mean(1)
    for ax, sample in zip(figure.axes[3::4], samples, strict=True):
        # the sum of what was subtracted, in float32
        np.testing.assert_allclose(ax.images[0].get_array(), sample, atol=1e-6)


def test_strip_wants_rows_alike():
    with pytest.raises(ValueError, match="share their captions"):
        plots.strip([{"a": picture()}, {"b": picture()}])
    with pytest.raises(ValueError, match="share their captions"):
        plots.strip([])


def test_cascade_shows_every_run_and_the_mean():
    runs = [{"real 16": 2.0, "nothing": 10.0}, {"real 16": 4.0, "nothing": 30.0}]
    ax = plots.cascade(runs, floor=1.0, title="t")
    mean, *dots, floor = [line.get_ydata() for line in ax.lines]
    np.testing.assert_allclose(mean, [3.0, 20.0])
    assert [list(d) for d in dots] == [[2.0, 10.0], [4.0, 30.0]] and set(floor) == {1.0}
    assert ax.get_yscale() == "log" and ax.get_xlabel() and ax.get_title() == "t"
    with pytest.raises(ValueError, match="share their origins"):
        plots.cascade([{"a": 1.0}, {"b": 1.0}])


def test_spectra_are_the_variances_of_principal_components():
    images = torch.randn(50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    (line,) = plots.spectra({"noise": images}).lines
    values = np.linalg.svd(images.flatten(1).numpy() - images.flatten(1).numpy().mean(0), compute_uv=False)
    np.testing.assert_allclose(line.get_ydata(), values**2 / 49, rtol=1e-5)  # float32 data
