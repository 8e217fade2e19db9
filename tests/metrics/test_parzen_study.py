"""The Parzen study: its parts against sklearn and scipy, its cells at smoke, and that the metric is gamed."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from sklearn.cluster import KMeans

from ganlib.data import mnist
from ganlib.metrics import parzen_log_likelihood
from ganlib.studies.parzen import SIGMAS, blurred, judged, k_means, noisy, parzen, training_images
from ganlib.training import Budget

CELLS = {cell.name: cell for cell in parzen(Budget.SMOKE)}


def test_the_widths_hold_those_of_the_published_program():
    np.testing.assert_allclose(SIGMAS[::3], np.logspace(-1, 0, 10), rtol=1e-12)


@pytest.mark.parametrize("name", ["gan", "blurred", "k-means-1000"])
def test_cells_run(name):
    one, same, other = (CELLS[name].run(seed) for seed in (0, 0, 1))
    assert set(one.figures) == {"log_likelihood", "standard_error", "sigma", "fid"}
    assert all(type(value) is float for value in one.figures.values())
    assert one.figures == same.figures and one.figures != other.figures
    assert one.images.shape[1:] == (1, 28, 28) and one.images.abs().max() <= 1
    assert (one.history is None) == (name != "gan")


def test_the_cells():
    assert list(CELLS) == ["gan", "training-images", "blurred", "noisy", "k-means", "k-means-1000"]


def test_what_is_scored():
    """In the dimension and range of the paper: 784 pixels in [0, 1], on the test set."""
    samples = training_images(50, 0)
    found = judged(samples, Budget.SMOKE)
    test = (mnist("test", size=28).images[:200] + 1) / 2
    again = parzen_log_likelihood(samples, test, found.figures["sigma"])
    assert (found.figures["log_likelihood"], found.figures["standard_error"]) == (again.mean, again.error)
    assert found.figures["sigma"] in SIGMAS[1:-1]
    assert torch.equal(found.images, samples[:32] * 2 - 1)


def test_training_images_are_training_images():
    first, again = training_images(40, 3), training_images(40, 3)
    assert torch.equal(first, again) and not torch.equal(first, training_images(40, 4))
    known = {image.numpy().tobytes() for image in (mnist("train", size=28).images[:50_000] + 1) / 2}
    found = {image.numpy().tobytes() for image in first}
    assert len(found) == 40 and found <= known  # without the validation set, without repetition


def test_k_means_equals_sklearn():
    points = torch.rand(300, 6, generator=torch.Generator().manual_seed(1))
    start = k_means(points, 12, 0, torch.Generator().manual_seed(0))
    theirs = KMeans(12, init=start.numpy(), n_init=1, max_iter=4, tol=0, algorithm="lloyd")
    theirs.fit(points.numpy())
    found = k_means(points, 12, 4, torch.Generator().manual_seed(0))
    np.testing.assert_allclose(found, theirs.cluster_centers_, rtol=1e-5)  # float32 means
    assert len(start.unique(dim=0)) == 12


def test_k_means_keeps_a_centre_that_no_point_is_nearest_to():
    points = torch.tensor([[0.0], [0.0], [0.0], [9.0]])
    for seed in range(8):
        found = k_means(points, 3, 2, torch.Generator().manual_seed(seed))
        assert found.isfinite().all() and set(found.flatten().tolist()) <= {0.0, 9.0}


def test_blur_and_noise():
    images = training_images(5, 0)
    expected = scipy.ndimage.gaussian_filter(images.numpy(), (0, 0, 0.7, 0.7), mode="mirror", radius=3)
    np.testing.assert_allclose(blurred(images), expected, atol=1e-5)  # float32; scipy's sum is in float64
    difference = noisy(images, 0) - images
    assert difference.std().item() == pytest.approx(0.1, rel=0.05)  # 3,920 numbers: 1.1 % is one deviation
    assert torch.equal(noisy(images, 0), noisy(images, 0))


def test_the_metric_is_gamed():
    """With a thousand samples already, blurred data beat data and noisy data fall far below."""
    data = training_images(1000, 0)
    sets = {"data": data, "blurred": blurred(data), "noisy": noisy(data, 0)}
    scores = {name: judged(samples, Budget.SMOKE).figures for name, samples in sets.items()}
    error = max(score["standard_error"] for score in scores.values())
    assert scores["blurred"]["log_likelihood"] > scores["data"]["log_likelihood"] + 1.5 * error
    assert scores["noisy"]["log_likelihood"] < scores["data"]["log_likelihood"] - 1.5 * error
    assert scores["blurred"]["fid"] > 2 * scores["data"]["fid"]
