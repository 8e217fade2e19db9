"""Perceptual distance against numpy, torchmetrics' parts and cosines; path length against closed forms."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchmetrics.functional.image.lpips import _normalize_tensor, _spatial_average
from torchmetrics.functional.image.perceptual_path_length import _interpolate

from ganlib.data import mnist
from ganlib.metrics import ClassifierFeatures
from ganlib.metrics.perceptual import (
    DIGIT_LAYERS,
    PerceptualDistance,
    activations,
    perceptual_distance,
    perceptual_path_length,
    slerp,
)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stacks():
    shapes = [(3, 5, 8, 6), (3, 7, 4, 3)]
    return [normal(*s, seed=i) for i, s in enumerate(shapes)], [normal(*s, seed=9) for s in shapes]


# --- the distance -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_equals_the_formula_written_out(weighted):
    first, second = stacks()
    weights = [normal(5).abs(), normal(7).abs()] if weighted else None
    expected = np.zeros(3)
    for layer, (x, y) in enumerate(zip(first, second, strict=True)):
        _, channels, height, width = x.shape
        for n in range(3):
            for h in range(height):
                for w in range(width):
                    a, b = x[n, :, h, w].numpy(), y[n, :, h, w].numpy()
                    squares = (a / np.linalg.norm(a) - b / np.linalg.norm(b)) ** 2
                    scale = weights[layer].numpy() if weighted else np.ones(channels)
                    expected[n] += (scale * squares).sum() / (height * width)
    # the 1e-8 below the root moves vectors of squared length about 5 by 1e-9
    np.testing.assert_allclose(perceptual_distance(first, second, weights), expected, rtol=1e-7)


def test_equals_torchmetrics_parts_and_cosines():
    first, second = stacks()
    ours = perceptual_distance(first, second)
    theirs, cosines = 0.0, 0.0
    for x, y in zip(first, second, strict=True):
        squares = (_normalize_tensor(x) - _normalize_tensor(y)) ** 2
        theirs = theirs + _spatial_average(squares.sum(1, keepdim=True), keep_dim=False)[:, 0]
        cosines = cosines + (2 - 2 * F.cosine_similarity(x, y, dim=1)).mean((1, 2))
    torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)  # the same numbers in another order
    torch.testing.assert_close(ours, cosines, rtol=1e-7, atol=0)  # the 1e-8 below the root


def test_lengths_of_channel_vectors_do_not_count():
    first, second = stacks()
    scaled = [x * (1 + torch.rand(x[:, :1].shape, generator=torch.Generator().manual_seed(1))) for x in first]
    torch.testing.assert_close(
        perceptual_distance(scaled, second), perceptual_distance(first, second), rtol=1e-7, atol=0
    )
    assert perceptual_distance(scaled, first).max() < 1e-7 < perceptual_distance(first, second).min()


def test_gradient_by_finite_differences_and_at_silent_places():
    x, y = (maps[:1].requires_grad_() for maps in (normal(2, 3, 4, 4), normal(2, 3, 4, 4, seed=1)))
    assert torch.autograd.gradcheck(lambda a, b: perceptual_distance([a], [b]), (x, y))
    silent = torch.zeros(1, 3, 2, 2, requires_grad=True)
    for other in (torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2)):
        value = perceptual_distance([silent], [other])
        (gradient,) = torch.autograd.grad(value.sum(), silent)
        assert value.isfinite().all() and gradient.isfinite().all()
    assert value.item() == pytest.approx(1, rel=1e-6)  # a vector of length 1 against none


def test_half_precision_is_compared_in_float32():
    first, second = ([x.bfloat16() for x in side] for side in stacks())
    value = perceptual_distance(first, second)
    assert value.dtype == torch.float32
    exact = perceptual_distance(*([x.float() for x in side] for side in (first, second)))
    assert torch.equal(value, exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perceptual_distance(first, second), exact)


@pytest.mark.parametrize(
    ("first", "second", "weights", "message"),
    [
        ([], [], None, "of the same shapes, got"),
        ([torch.zeros(2, 3, 4, 4)], [torch.zeros(2, 3, 4, 4)] * 2, None, "of the same shapes, got"),
        ([torch.zeros(2, 3, 4, 4)], [torch.zeros(1, 3, 4, 4)], None, "of the same shapes, got"),
        ([torch.zeros(2, 3)], [torch.zeros(2, 3)], None, r"maps \(N, C, H, W\)"),
        ([torch.zeros(2, 3, 4, 4)], [torch.zeros(2, 3, 4, 4)], [torch.ones(4)], r"each of \[3\] channels"),
        ([torch.zeros(2, 3, 4, 4)], [torch.zeros(2, 3, 4, 4)], [], r"each of \[3\] channels"),
    ],
)
def test_maps_that_do_not_fit(first, second, weights, message):
    with pytest.raises(ValueError, match=message):
        perceptual_distance(first, second, weights)


# --- networks -----------------------------------------------------------------------------------------------


def test_activations_are_what_the_layers_put_out():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(inplace=True), nn.Sequential(nn.Conv2d(2, 3, 3)))
    images = normal(2, 1, 8, 8).float()
    last, first, second = activations(network, images, ["2.0", "0", "1"])
    torch.testing.assert_close(first, network[0](images))  # not overwritten by the ReLU in place
    assert first.min() < 0 and torch.equal(second, first.relu())
    torch.testing.assert_close(last, network[2](second))
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(
        ValueError, match=r"names of submodules, got \['3'\]; there are \['0', '1', '2', '2.0'\]"
    ):
        activations(network, images, ["3"])
    with pytest.raises(ValueError, match=r"got \[\]"):
        activations(network, images, [])
    with pytest.raises(RuntimeError):
        activations(network, images[:, :, :2, :2], ["0"])
    assert not network[0]._forward_hooks  # after a failure, too


def test_a_layer_that_is_not_run_is_named():
    network = nn.Sequential(nn.Identity())
    network.idle = nn.Identity()
    network.forward = lambda x: network[0](x)
    with pytest.raises(ValueError, match=r"\['idle'\] did not"):
        activations(network, torch.zeros(1), ["0", "idle"])


def test_digits():
    distance = PerceptualDistance()
    images = mnist("test").images[:16]
    assert distance(images, images).abs().max() == 0
    shifted = images.roll(1, 3)
    blurred = F.avg_pool2d(images, 3, 1, 1)
    assert distance(images, shifted).shape == (16,)
    assert (distance(images, blurred) > 0).all()
    features = ClassifierFeatures()
    maps = [activations(features, x, DIGIT_LAYERS) for x in (images, shifted)]
    torch.testing.assert_close(distance(images, shifted), perceptual_distance(*maps))
    assert [x.shape[1:] for x in maps[0]] == [(24, 16, 16), (48, 8, 8), (64, 8, 8), (96, 4, 4)]
    assert all(x.min() == 0 for x in maps[0])  # after the ReLU
    with pytest.raises(ValueError, match="must have one shape"):
        distance(images, images[:1])


def test_it_can_be_a_loss_and_stays_fixed():
    distance = PerceptualDistance().train()
    assert not any(module.training for module in distance.modules())
    assert not any(p.requires_grad for p in distance.parameters())
    target, start = mnist("test").images[:2].double()
    x = start[None].clone().requires_grad_()
    double = PerceptualDistance().double()
    (gradient,) = torch.autograd.grad(double(x, target[None]), x)
    step = 1e-6 * gradient / gradient.norm()
    ahead, behind = (double(x + s * step, target[None]).item() for s in (1, -1))
    # no ReLU flips within so small a step; rounding then costs 1e-16 / 1e-6
    assert (ahead - behind) / 2e-6 == pytest.approx(gradient.norm().item(), rel=1e-5)


def test_any_network_with_names():
    """As with torchvision's, whose weights are not needed to see that shapes and modes are right."""
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    distance = PerceptualDistance(network, ["2", "3"], [torch.ones(4), 2 * torch.ones(4)])
    x, y = normal(2, 3, 16, 16).float(), normal(2, 3, 16, 16, seed=1).float()
    running = network[1].running_mean.clone()
    one, two = (PerceptualDistance(network, [name])(x, y) for name in ("2", "3"))
    torch.testing.assert_close(distance(x, y), one + 2 * two)
    assert torch.equal(network[1].running_mean, running)


# --- path length --------------------------------------------------------------------------------------------


def squared(x, y):
    return (x - y).square().flatten(1).sum(1)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("epsilon", [1e-4, 0.1])
def test_straight_paths_of_a_linear_generator(epsilon):
    matrix, a, b = normal(6, 30), normal(50, 6, seed=1), normal(50, 6, seed=2)
    lengths = perceptual_path_length(
        lambda z: (z @ matrix).view(-1, 1, 5, 6),
        squared,
        a,
        b,
        rng=rng(),
        path=torch.lerp,
        epsilon=epsilon,
        batch_size=7,
    )
    # |M^T (b - a)|^2 whatever t and the step; rounding of float64 over a step of 1e-4, doubled by the square
    torch.testing.assert_close(lengths, ((b - a) @ matrix).square().sum(1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("epsilon", [1e-4, 0.1])
def test_circular_paths_are_chords(epsilon):
    frame = torch.linalg.qr(normal(8, 2))[0].T * 3
    a, b = frame[:1].repeat(20, 1), frame[1:].repeat(20, 1)
    lengths = perceptual_path_length(lambda z: z, squared, a, b, rng=rng(), epsilon=epsilon)
    # a quarter of a circle of radius 3: the chord of the angle pi/2 epsilon
    chord = 2 * 3 * math.sin(math.pi / 4 * epsilon)
    torch.testing.assert_close(lengths, torch.full_like(lengths, (chord / epsilon) ** 2), rtol=1e-10, atol=0)


def test_the_image_of_a_path_at_its_random_points():
    """A curved generator, whose slope is known: G(z) = z^2 on the line from 1 to 3 has slope 2 z 2."""
    a, b = torch.ones(2000, 1).double(), 3 * torch.ones(2000, 1).double()
    lengths = perceptual_path_length(lambda z: z**2, squared, a, b, rng=rng(), path=torch.lerp)
    # mean of (4 (1 + 2 t))^2 for uniform t: 16 (1 + 2 + 4/3), with a standard error of 1 for 2,000
    assert lengths.mean().item() == pytest.approx(16 * (1 + 2 + 4 / 3), abs=4)
    assert lengths.min() < 17 and lengths.max() > 143  # from t near 0 to t near 1


def test_single_precision_at_the_usual_step():
    matrix, a, b = normal(64, 256) / 8, normal(200, 64, seed=1), normal(200, 64, seed=2)
    exact = ((b - a) @ matrix).square().sum(1)
    lengths = perceptual_path_length(
        lambda z: z @ matrix.float(), squared, a.float(), b.float(), rng=rng(), path=torch.lerp
    )
    assert lengths.dtype == torch.float64
    # Outputs of size 1 and their latents are rounded by 6e-8, beside a step of 1e-4 and averaged over 256 of
    # them: 2e-4. A path computed in float32 would be off by 6e-4.
    error = lengths / exact - 1
    assert error.square().mean().sqrt() < 3e-4
    assert (lengths.mean() / exact.mean() - 1).abs() < 5e-5


def test_only_its_generator_is_random_and_no_graph_is_kept():
    layer = nn.Linear(4, 4)
    a, b = normal(30, 4).float(), normal(30, 4, seed=1).float()
    state = torch.get_rng_state()
    one, two, other = (perceptual_path_length(layer, squared, a, b, rng=rng(s)) for s in (0, 0, 1))
    assert torch.equal(one, two) and not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), state) and not one.requires_grad


def test_neither_autocast_nor_tf32_within_and_both_as_before_after():
    layer, seen = nn.Linear(4, 4), []

    def generator(z):
        seen.append((torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32))
        return layer(z)

    a, b = normal(30, 4).float(), normal(30, 4, seed=1).float()
    plain = perceptual_path_length(generator, squared, a, b, rng=rng())
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(perceptual_path_length(generator, squared, a, b, rng=rng()), plain)
        assert layer(a).dtype == torch.bfloat16
        with pytest.raises(ZeroDivisionError):
            perceptual_path_length(generator, lambda x, y: 1 / 0, a, b, rng=rng())
    assert set(seen) == {(False, False)}
    assert before == (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    assert before[0]  # torch's default, else nothing was tested


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_equals_torchmetrics(t):
    a, b = normal(10, 5), normal(10, 5, seed=1)
    expected = _interpolate(a, b, t, interpolation_method="slerp_any")
    torch.testing.assert_close(slerp(a, b, t), expected, rtol=1e-12, atol=1e-12)
    rows = slerp(a, b, torch.full((10, 1), t))
    torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-6)  # t in float32


def test_slerp_where_there_is_no_great_circle():
    a = normal(3, 5)
    b = torch.stack([2 * a[0], -a[1], torch.zeros(5).double()])
    torch.testing.assert_close(slerp(a, b, 0.25)[:2], torch.lerp(a, b, 0.25)[:2], rtol=1e-12, atol=1e-12)
    assert slerp(a, b, 0.25).isfinite().all()
    assert slerp(a.float(), a.float() * 3, 0.5).isfinite().all()
    axis = torch.eye(3, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        slerp(axis, torch.diag(torch.tensor([2.0, -1.0, 0.0])), 0.25).sum(), axis
    )
    assert gradient.isfinite().all()  # where the cosine is 1, -1 and 0 to the last digit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": torch.zeros(3)}, r"must be \(N, d\), got \(3,\)"),
        ({"start": torch.zeros(0, 2), "end": torch.zeros(0, 2)}, r"must be \(N, d\), got \(0, 2\)"),
        ({"end": torch.zeros(2, 2)}, r"got \(3, 2\) and \(2, 2\)"),
        ({"epsilon": 0}, r"in \(0, 1\), got 0"),
        ({"epsilon": 1}, r"in \(0, 1\), got 1"),
        ({"batch_size": 0}, "positive, got 0"),
        ({"distance": lambda x, y: squared(x, y).mean()}, r"distance must return \(3,\)"),
    ],
)
def test_bad_arguments(change, message):
    arguments = {"start": torch.zeros(3, 2), "end": torch.ones(3, 2), "distance": squared, **change}
    with pytest.raises(ValueError, match=message):
        perceptual_path_length(lambda z: z, rng=rng(), **arguments)
