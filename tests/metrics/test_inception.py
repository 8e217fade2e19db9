"""Inception's features with random weights, against torchvision's own pipeline."""

import pytest
import torch
from torchvision.models import inception_v3
from torchvision.transforms import functional as transforms

from ganlib.metrics import InceptionFeatures, inception_score
from ganlib.metrics.inception import cached_weights

# torchvision's normalisation of ImageNet, for pixels in [0, 1]
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with the names and shapes of torchvision's, and moving averages that batch norm must use."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = inception_v3(weights=None, init_weights=False)
        for name, buffer in model.named_buffers():
            if name.endswith("running_mean"):
                buffer.normal_(std=0.1)
            elif name.endswith("running_var"):
                buffer.uniform_(0.1, 0.2)  # activations keep their scale through the depth
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(model.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def features(weights):
    return InceptionFeatures(weights)


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_equals_torchvisions_pipeline(features, weights, images):
    """Pixels in [0, 1], normalised as for ImageNet, through the model with its own change of scale."""
    model = inception_v3(weights=None, init_weights=False, transform_input=True)
    model.load_state_dict(torch.load(weights, weights_only=True))
    model.eval()
    pooled = []
    model.avgpool.register_forward_hook(lambda module, inputs, output: pooled.append(output.flatten(1)))
    with torch.no_grad():
        logits = model(transforms.normalize((images + 1) / 2, MEAN, STD))
        ours = features(images)
        assert ours.shape == (2, features.dimension) == (2, 2048)
        # float32 sums in another order, through 90 layers
        torch.testing.assert_close(ours, pooled[0], rtol=1e-3, atol=1e-4 * ours.std().item())
        ours = features.logits(images)
        torch.testing.assert_close(ours, logits, rtol=1e-3, atol=1e-3 * logits.std().item())
    assert logits.std() > 0.01 and (logits[0] - logits[1]).abs().max() > 1e-3  # not a constant
    assert 1 <= inception_score(ours, 1).mean < 1000


def test_any_size_and_grey_images(features):
    small = torch.rand(1, 1, 28, 40, generator=torch.Generator().manual_seed(2)) * 2 - 1
    large = torch.rand(1, 3, 400, 310, generator=torch.Generator().manual_seed(3)) * 2 - 1
    for images, channels in ((small, 3), (large, 1)):
        resized = transforms.resize(images, [299, 299], antialias=True).repeat(1, channels, 1, 1)
        expected = features(resized)
        torch.testing.assert_close(features(images), expected, rtol=1e-4, atol=1e-4 * expected.std().item())


def test_frozen_in_evaluation_mode_and_float32(features, images):
    assert not any(parameter.requires_grad for parameter in features.parameters())
    features.train()
    assert not any(module.training for module in features.modules())
    image = images[:1, :, ::3, ::3].clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = features(image)
    assert output.dtype == torch.float32
    output.square().sum().backward()
    assert image.grad.abs().max() > 0


def test_building_it_leaves_the_global_generator_alone(weights):
    state = torch.get_rng_state()
    InceptionFeatures(weights)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_come_from_torch_hubs_cache(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(ValueError, match=r"no file at .*inception_v3_google-.*inception_v3\(weights="):
        InceptionFeatures()
    assert not list(tmp_path.iterdir())  # nothing was fetched
    cached_weights().parent.mkdir()
    cached_weights().symlink_to(weights)
    assert InceptionFeatures().dimension == 2048


def test_other_weights(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"fc.weight": torch.zeros(1000, 2048)}, path)
    with pytest.raises(ValueError, match=r"those of torchvision's Inception-v3, got others in .*other.pth"):
        InceptionFeatures(path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 32, 32), r"got \(3, 32, 32\)"),
        (torch.zeros(1, 2, 32, 32), r"got \(1, 2, 32, 32\)"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "got torch.uint8"),
    ],
)
def test_bad_images(features, images, message):
    for method in (features, features.logits):
        with pytest.raises(ValueError, match=message):
            method(images)
