"""The figures of the notebook on metrics: sets have the fault they are named for, values are shown."""

import matplotlib
import numpy as np
import pytest
import scipy.ndimage
import torch

matplotlib.use("Agg")

from ganlib.data import Images, mnist
from ganlib.metrics import laplacian_pyramid, psnr
from ganlib.plots.measuring import (
    alarms,
    bars,
    blur,
    intercept,
    levels,
    matched,
    pairs,
    plane,
    suspects,
    walks,
)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    from matplotlib import pyplot as plt

    plt.close("all")


@pytest.fixture(scope="module")
def digits():
    return Images(*(part[:400] for part in mnist("test")))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


# --- sets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.8, 2.0])
def test_blur_equals_scipys(digits, sigma):
    images = digits.images[:3].double()
    expected = scipy.ndimage.gaussian_filter(
        images.numpy(), (0, 0, sigma, sigma), mode="constant", cval=-1, radius=(0, 0, *[round(3 * sigma)] * 2)
    )
    np.testing.assert_allclose(blur(images, sigma), expected, atol=1e-12)  # float64
    assert blur(images, 0) is images


def test_suspects_have_one_fault_each(digits):
    train = Images(*(part[:300] for part in mnist("train")))
    sets = suspects(train, digits, 60, rng())
    assert all(images.shape == (60, 1, 32, 32) for images in sets.values())
    assert all(images.min() >= -1 and images.max() <= 1 for images in sets.values())

    def originals(images, source):
        exact = "donot_use_mm_for_euclid_dist"
        return torch.cdist(images.flatten(1), source.images.flatten(1), compute_mode=exact).min(1)

    assert originals(sets["memorised"], train).values.max() == 0
    assert len(set(originals(sets["memorised"], train).indices.tolist())) == 60  # each a different one
    half = originals(sets["half the digits"], digits)
    assert half.values.max() == 0 and set(digits.labels[half.indices].tolist()) == {0, 1, 2, 3, 4}
    ten = originals(sets["ten images"], digits)
    assert ten.values.max() == 0 and sorted(digits.labels[ten.indices[:10]].tolist()) == list(range(10))
    assert torch.equal(sets["ten images"][:10], sets["ten images"][10:20])
    close = originals(sets["noisy"], digits)
    assert close.values.min() > 1 and len(set(close.indices.tolist())) == 60
    # a black pixel keeps its noise above -1 only: sigma^2 (1/2 - 1/(2 pi)) of variance
    margin = sets["noisy"][:, :, :2]
    assert margin.std().item() == pytest.approx(0.2 * np.sqrt(0.5 - 0.5 / np.pi), rel=0.05)
    again = suspects(train, digits, 60, rng())
    assert all(torch.equal(images, again[name]) for name, images in sets.items())


def test_matched_finds_the_strength(digits):
    images = digits.images[:20].double()
    found = matched(lambda x, s: x + s, images, 20.0, 2.0)
    torch.testing.assert_close(found - images, torch.full_like(images, 0.2), rtol=1e-7, atol=0)  # 2 / 10
    assert psnr(matched(blur, images, 18.0, 8.0), images).mean().item() == pytest.approx(18, abs=0.01)
    with pytest.raises(ValueError, match=r"below 20, got 0\.1"):
        matched(lambda x, s: x + s, images, 20.0, 0.1)


def test_intercept_of_a_line_in_one_over_n():
    counts = [100, 300, 1000]
    limit, slope = intercept(counts, [3 + 50 / n for n in counts])
    assert (limit, slope) == pytest.approx((3, 50), rel=1e-10)


# --- figures ------------------------------------------------------------------------------------------------


def test_alarms_are_signed_deviations_from_fresh_data():
    fair = [{"FID": 1.0, "IS": 9.0, "copying": 1.0}, {"FID": 3.0, "IS": 9.2, "copying": 1.1}]
    table = {"worse": {"FID": 2 + 10 * 2**0.5, "IS": 8.1, "copying": 0.0}, "better": fair[0]}
    ax = alarms(table, fair, {"FID": -1, "IS": 1, "copying": 0}, title="who notices")
    shown = np.asarray(ax.images[0].get_array())
    # ten deviations of sqrt 2 above the mean 2; a deficit of 1 in deviations of 0.1 sqrt 2; and either way
    assert shown[0] == pytest.approx([10, 1 / (0.1 * 2**0.5), 1.05 / (0.05 * 2**0.5)])
    assert shown[1] == pytest.approx([-(0.5**0.5), 0.5**0.5, 0.5**0.5])
    assert [t.get_text() for t in ax.texts][:3] == ["16.1", "8.1", "0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["FID", "IS", "copying"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["worse", "better"]


def test_plane_names_every_point():
    points = {f"set {i}": (i / 10, 1 - i / 10) for i in range(9)}
    ax = plane(points, title="plane", xlabel="recall", ylabel="precision")
    assert [(float(x[0]), float(y[0])) for x, y in (line.get_data() for line in ax.lines)] == list(
        points.values()
    )
    looks = {(line.get_marker(), line.get_color()) for line in ax.lines}
    assert len(looks) == 9  # no two look alike
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(points)


def test_levels_and_pairs_show_each_under_its_name(digits):
    images = digits.images[:4]
    figure = levels({"real": laplacian_pyramid(images), "dim": laplacian_pyramid(images / 2)}, title="levels")
    names = [ax.get_title() for ax in figure.axes]
    assert names == ["real, 32 × 32", "real, 16 × 16", "dim, 32 × 32", "dim, 16 × 16"]
    figure = pairs(images, {"negative": -images, "grey": images * 0}, {"grey": "nothing"}, title="pairs")
    assert [ax.get_title() for ax in figure.axes] == ["reference", "negative", "grey\nnothing", ""]
    assert not figure.axes[-1].axison
    pictures = [ax.images[0].get_array() for ax in figure.axes[:2]]
    inside = (slice(1, 33), slice(1, 33), 0)
    np.testing.assert_allclose(pictures[0][inside] + pictures[1][inside], 1, atol=1e-6)


def test_walks_frame_their_moment():
    def generator(z):
        return z.view(-1, 1, 1, 1).expand(-1, 1, 4, 4)

    start, end = torch.tensor([[-1.0], [0.0]]), torch.tensor([[1.0], [1.0]])
    ax = walks(generator, start, end, [0.0, 0.74], path=torch.lerp, columns=5, title="walks")
    picture = np.asarray(ax.images[0].get_array())
    assert picture[3, 3::5, 0][:5] == pytest.approx([0, 0.25, 0.5, 0.75, 1])  # -1 to 1 is black to white
    assert picture[8, 3::5, 0][:5] == pytest.approx([0.5, 0.625, 0.75, 0.875, 1])
    frames = [(patch.get_x() + 0.5, patch.get_y() + 0.5) for patch in ax.patches]
    assert frames == [(0, 0), (3 * 5, 5)]


ROWS = [
    {"labels": {"method": method, "labels": str(n)}, "figures": {"error": base / n * (1 + 0.1 * seed)}}
    for method, base in (("alone", 400), ("gan", 100))
    for n in (20, 100)
    for seed in (0, 1)
]


def test_bars_draw_seeds_means_and_published_values():
    ax = bars(ROWS, "error", "method", title="t", xlabel="error", published={"paper": 3.0})
    assert [text.get_text() for text in ax.get_yticklabels()] == ["alone", "gan"]
    assert list(ax.lines[0].get_xdata()) == pytest.approx([20, 22, 4, 4.4])
    assert float(np.ravel(ax.lines[1].get_xdata())[0]) == pytest.approx(12.6)
    assert ax.lines[-1].get_label() == "paper" and list(ax.lines[-1].get_xdata()) == [3, 3]
