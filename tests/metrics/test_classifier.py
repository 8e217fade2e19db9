"""The shipped classifier: what it knows, and that nothing changes it."""

import json

import pytest
import torch
from safetensors import safe_open
from torch import nn

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures
from ganlib.metrics.classifier import WEIGHTS
from ganlib.metrics.train_classifier import jitter, train


@pytest.fixture(scope="module")
def features():
    return ClassifierFeatures()


def test_accuracy_on_the_test_set(features):
    images, labels = mnist("test")
    accuracy = (features.predict(images) == labels).double().mean().item()
    assert accuracy >= 0.992
    with safe_open(WEIGHTS, "pt") as file:
        about = file.metadata()
    # what the file says of itself holds; another processor's rounding may turn an image or two
    assert accuracy == pytest.approx(float(about["test_accuracy"]), abs=2.5e-4)
    assert {"seed", "command", "versions", "licence"} <= about.keys(), json.dumps(about)


def test_the_asset_is_below_a_megabyte():
    assert WEIGHTS.stat().st_size < 1_000_000


def test_shapes(features):
    images = mnist("test").images[:7]
    assert features(images).shape == (7, features.dimension) == (7, 128)
    assert features.logits(images).shape == (7, 10)
    assert features.predict(images).shape == (7,) and features.predict(images).dtype == torch.int64
    assert features(images[:0]).shape == (0, 128) and features.predict(images[:0]).shape == (0,)


def test_the_logits_are_the_last_layer_on_the_features(features):
    images = mnist("test").images[:7]
    torch.testing.assert_close(features.network[-1](features(images)), features.logits(images))
    assert features(images).min() == 0  # after the ReLU


def test_28_pixels_are_padded_with_black(features):
    small, large = mnist("test", size=28).images[:20], mnist("test").images[:20]
    assert torch.equal(features(small), features(large))


def test_an_image_does_not_see_its_neighbours_even_after_train():
    features = ClassifierFeatures().train()
    assert not any(module.training for module in features.modules())
    images = mnist("test").images[:64]
    before = {key: value.clone() for key, value in features.state_dict().items()}
    # the batch size changes the order of sums, not more
    torch.testing.assert_close(features(images)[:1], features(images[:1]), rtol=1e-4, atol=1e-4)
    assert all(torch.equal(value, before[key]) for key, value in features.state_dict().items())


def test_frozen_but_differentiable_in_the_images(features):
    assert not any(parameter.requires_grad for parameter in features.parameters())
    double = ClassifierFeatures().double()
    images = mnist("test").images[:2].double().requires_grad_()
    weights = torch.randn(2, 128, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    (gradient,) = torch.autograd.grad((double(images) * weights).sum(), images)
    assert gradient.flatten(1).norm(dim=1).min() > 0.1
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    h = 1e-7  # small enough that no ReLU flips; rounding then costs about 1e-16 * 100 / 1e-7 = 1e-7
    ahead, behind = ((double(images + s * h * direction) * weights).sum() for s in (1, -1))
    assert (gradient * direction).sum().item() == pytest.approx(((ahead - behind) / (2 * h)).item(), rel=1e-5)


def test_autocast_does_not_coarsen_the_features(features):
    images = mnist("test").images[:8]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside, of_half = features(images), features(images.bfloat16())
    assert inside.dtype == of_half.dtype == torch.float32
    assert torch.equal(inside, features(images))


def test_building_it_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    one, two = ClassifierFeatures(), ClassifierFeatures()
    assert torch.equal(torch.get_rng_state(), state)
    for (key, a), b in zip(one.state_dict().items(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b) and a.device.type == "cpu", key


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(4, 3, 32, 32), r"got \(4, 3, 32, 32\)"),
        (torch.zeros(4, 1, 64, 64), r"got \(4, 1, 64, 64\)"),
        (torch.zeros(4, 1, 28, 32), r"got \(4, 1, 28, 32\)"),
        (torch.zeros(1, 32, 32), r"got \(1, 32, 32\)"),
        (torch.zeros(4, 1, 32, 32, dtype=torch.uint8), "got torch.uint8"),
    ],
)
def test_bad_images(features, images, message):
    for method in (features, features.logits, features.predict):
        with pytest.raises(ValueError, match=message):
            method(images)


# --- the script that trained it -----------------------------------------------------------------------------


def test_training_depends_on_its_seed_only():
    images, labels = (x[:512] for x in mnist("train"))
    state = torch.get_rng_state()
    one, two, other = (train(images, labels, seed, epochs=1) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(one, nn.Sequential) and not one.training
    same, different = one[0].weight - two[0].weight, one[0].weight - other[0].weight
    assert not same.any() and different.any()


def test_jitter_moves_images_a_little():
    images = mnist("train").images[:200]
    moved = jitter(images, torch.Generator().manual_seed(0))
    assert moved.shape == images.shape
    assert moved.min() >= -1 - 1e-6 and moved.max() <= 1 + 1e-6  # interpolation is a mean, up to rounding
    assert (moved[:, :, 0] < -0.99).all()  # black is padded with black: 2 pixels do not bring ink to the rim
    grid = torch.arange(32.0)
    ink = [(x + 1)[:, 0].sum(1) for x in (images, moved)]
    shift = [(row * grid).sum(1) / row.sum(1) for row in ink]
    distance = (shift[0] - shift[1]).abs()
    # at most 2 pixels plus what turning by 10 and scaling by 10 % do to a centre near the middle
    assert 0.5 < distance.mean() < 1.5 and distance.max() < 3.5
