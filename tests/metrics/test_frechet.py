"""FID against torchmetrics, scipy and closed forms; moments in a stream against numpy."""

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ganlib.data import mnist
from ganlib.metrics import (
    ClassifierFeatures,
    Moments,
    feature_moments,
    fid,
    frechet_distance,
    mnist_moments,
)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def moments(mean: torch.Tensor, covariance: torch.Tensor) -> Moments:
    return Moments.of(1000, mean, covariance)


def orthogonal(d: int) -> torch.Tensor:
    return torch.linalg.qr(normal(d, d, seed=9))[0]


# --- the distance -------------------------------------------------------------------------------------------


class Projection(nn.Module):
    """Random features of images; torchmetrics asks a module of one's own for ``num_features``."""

    num_features = 64

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("matrix", normal(1024, 64, seed=3).float() / 32)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.matrix


class Digits(ClassifierFeatures):
    num_features = 128


@pytest.mark.parametrize("module", [Digits, Projection])
def test_equals_torchmetrics(module):
    features = module().eval()
    real = mnist("test").images[:3000]
    generated = (real.flip(0)[:2000] + 0.3 * normal(2000, 1, 32, 32).float()).clamp(-1, 1)
    theirs = FrechetInceptionDistance(feature=features)
    for batch in real.split(500):
        theirs.update(batch, real=True)
    for batch in generated.split(500):
        theirs.update(batch, real=False)
    # torchmetrics takes the root by complex eigenvalues of a matrix that is not symmetric
    assert fid(real, generated, features) == pytest.approx(theirs.compute().item(), rel=1e-4)


def test_equals_the_formula_with_scipys_square_root():
    x, y = normal(300, 32) @ normal(32, 32, seed=1), normal(400, 32, seed=2) @ normal(32, 32, seed=3) + 1
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = scipy.linalg.sqrtm(a @ b)
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(a + b - 2 * root.real)
    ours = frechet_distance(Moments().update(x), Moments().update(y))
    assert ours == pytest.approx(expected, rel=1e-9)  # float64 on well-conditioned matrices


@pytest.mark.parametrize("rotate", [False, True])
def test_commuting_covariances(rotate):
    d = 40
    s, t = torch.linspace(0.1, 5, d).double(), torch.linspace(7, 0.2, d).double()
    q = orthogonal(d) if rotate else torch.eye(d, dtype=torch.float64)
    m, n = normal(d, seed=4), normal(d, seed=5)
    # |m - n|^2 + sum (sqrt s - sqrt t)^2
    expected = ((m - n).square().sum() + (s.sqrt() - t.sqrt()).square().sum()).item()
    ours = frechet_distance(moments(m, (q * s) @ q.T), moments(n, (q * t) @ q.T))
    assert ours == pytest.approx(expected, rel=1e-12)  # rounding of float64


def test_one_dimension():
    a, b = (moments(torch.tensor([m]), torch.tensor([[v]])) for m, v in ((1.0, 4.0), (-2.0, 9.0)))
    assert frechet_distance(a, b) == pytest.approx(3**2 + (2 - 3) ** 2, rel=1e-14)


@pytest.mark.parametrize("n", [20, 2000])
def test_itself_and_moved_and_stretched(n):
    """Closed forms that hold without full rank, too: 20 vectors span at most 19 of 64 dimensions."""
    x = normal(n, 64) @ normal(64, 64, seed=1)
    a, scale = Moments().update(x), x.var(0).sum().item()
    # rounding on the scale of the trace; kept null directions would cost 1e-8 of it each
    assert frechet_distance(a, a) <= 1e-12 * scale
    assert frechet_distance(a, Moments().update(x + 0.5)) == pytest.approx(16, abs=1e-12 * scale)
    shrunk = Moments().update(x / 2)
    expected = (x.mean(0) / 2).square().sum().item() + scale / 4
    assert frechet_distance(a, shrunk) == pytest.approx(expected, abs=1e-12 * scale)


def test_symmetric_where_one_side_lacks_rank():
    few, many = Moments().update(normal(10, 64)), Moments().update(2 * normal(500, 64, seed=1))
    # of unequal ranks, so that both orders must take the root of the same side to agree to rounding
    assert frechet_distance(few, many) == pytest.approx(frechet_distance(many, few), rel=1e-13)


def test_a_point_against_a_gaussian():
    """All samples equal: the covariance is zero, and what remains is |delta|^2 + tr S."""
    collapsed = Moments().update(torch.ones(5, 8))
    x = normal(100, 8)
    expected = (x.mean(0) - 1).square().sum().item() + x.var(0).sum().item()
    assert frechet_distance(collapsed, Moments().update(x)) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(collapsed, collapsed) == 0


def test_dimensions_must_agree():
    with pytest.raises(ValueError, match="one dimension, got 3 and 4"):
        frechet_distance(Moments().update(normal(9, 3)), Moments().update(normal(9, 4)))


# --- moments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[1000], [1] * 1000, [999, 1], [1, 999], [300, 0, 700], [125] * 8])
@pytest.mark.parametrize("offset", [0, 1e6])
def test_any_split_gives_numpys_moments(sizes, offset):
    x = normal(1000, 5) @ normal(5, 5, seed=1) + offset
    stream = Moments()
    for batch in x.split(sizes):
        assert stream.update(batch) is stream
    assert stream.n == 1000 and stream.mean.dtype == stream.covariance.dtype == torch.float64
    np.testing.assert_allclose(stream.mean, x.numpy().mean(0), rtol=1e-13, atol=1e-13)
    # data at 1e6 carry 1e-10 of rounding each; sums of raw squares would lose 1e12 * 1e-16 * 1000 = 0.1
    np.testing.assert_allclose(stream.covariance, np.cov(x.numpy().T), rtol=1e-7, atol=1e-9)


def test_merged_streams_are_one_stream():
    x = normal(500, 6) + 100
    parts = [Moments().update(part) for part in x.split([100, 150, 250])]
    merged = Moments().merge(parts[0]).merge(Moments()).merge(parts[1]).merge(parts[2])
    whole = Moments().update(x)
    assert merged.n == 500 and parts[0].n == 100
    torch.testing.assert_close(merged.mean, whole.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(merged.covariance, whole.covariance, rtol=1e-12, atol=1e-13)
    before = parts[0].covariance
    merged.update(x)  # what was merged is a copy
    assert torch.equal(parts[0].covariance, before)


def test_half_precision_features_are_summed_in_float64():
    x = normal(4000, 3).half()
    stream = Moments().update(x)
    np.testing.assert_allclose(stream.covariance, np.cov(x.double().numpy().T), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (torch.zeros(4), r"matrix \(N, d\), got torch.float32 \(4,\)"),
        (torch.zeros(4, 5, 1), r"got torch.float32 \(4, 5, 1\)"),
        (torch.zeros(4, 0), r"got torch.float32 \(4, 0\)"),
        (torch.zeros(4, 5, dtype=torch.int64), "got torch.int64"),
        (torch.zeros(4, 6), "must be 5 wide as before, got 6"),
        (torch.tensor([[0, 0, 0, 0, float("nan")]]), "must be finite"),
        (torch.tensor([[0, 0, 0, 0, -float("inf")]]), "must be finite"),
    ],
)
def test_refused_features_leave_no_trace(features, message):
    stream = Moments().update(normal(10, 5))
    mean, covariance = stream.mean.clone(), stream.covariance
    with pytest.raises(ValueError, match=message):
        stream.update(features)
    assert stream.n == 10
    assert torch.equal(stream.mean, mean) and torch.equal(stream.covariance, covariance)


def test_too_few_vectors():
    with pytest.raises(ValueError, match="before the first update"):
        _ = Moments().mean
    with pytest.raises(ValueError, match="at least 2 vectors, got 1"):
        _ = Moments().update(torch.zeros(1, 3)).covariance
    with pytest.raises(ValueError, match="must be 3 wide, got 4"):
        Moments().update(torch.zeros(2, 3)).merge(Moments().update(torch.zeros(2, 4)))
    with pytest.raises(ValueError, match=r"got 2, \(3,\) and \(3, 4\)"):
        Moments.of(2, torch.zeros(3), torch.zeros(3, 4))


# --- FID on images ------------------------------------------------------------------------------------------


def test_however_the_images_come():
    real, generated = mnist("test").images.split([600, 9400])
    generated = generated[:700]
    whole = fid(real, generated)
    features = ClassifierFeatures()
    stored = feature_moments(generated, features, batch_size=64)
    assert stored.n == 700
    # batches of other sizes change float32 sums in the network by 1e-6 or so
    assert fid(iter(real.split(100)), generated, features, batch_size=33) == pytest.approx(whole, rel=1e-4)
    assert fid(list(real.split(600)), stored) == pytest.approx(whole, rel=1e-4)
    assert fid(real, real) == pytest.approx(0, abs=1e-9)


def test_worse_images_are_farther():
    images = mnist("test").images[:1000]
    noise = normal(len(images), 1, 32, 32).float()
    distances = [fid(images, (images + s * noise).clamp(-1, 1)) for s in (0, 0.1, 0.2, 0.4)]
    assert distances == sorted(distances)
    assert distances[1] > 10  # far above the floor of 1.08


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_stored_moments_are_those_of_the_shipped_classifier(split):
    stored = mnist_moments(split)
    again = feature_moments(mnist(split).images, ClassifierFeatures())
    assert stored.n == again.n
    # float32 convolutions round differently from processor to processor
    torch.testing.assert_close(stored.mean, again.mean, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(stored.covariance, again.covariance, rtol=1e-3, atol=1e-3)


def test_the_floor():
    assert fid(mnist_moments("train"), mnist_moments("test")) == pytest.approx(
        1.08, abs=0.01
    )  # as documented


def test_the_caller_cannot_change_what_is_stored():
    mnist_moments("test").mean.zero_()
    assert mnist_moments("test").mean.any()


def test_bad_arguments():
    images = mnist("test").images[:10]
    with pytest.raises(ValueError, match='split must be "train" or "test"'):
        mnist_moments("valid")
    with pytest.raises(ValueError, match="batch_size must be positive, got 0"):
        fid(images, images, batch_size=0)
    with pytest.raises(ValueError, match=r"features.eval\(\)"):
        fid(images, images, nn.Flatten())
    for nothing in (images[:0], []):
        with pytest.raises(ValueError, match="images must not be empty"):
            fid(images, nothing)
    with pytest.raises(ValueError, match="at least 2 vectors"):
        fid(images, images[:1])
    with pytest.raises(ValueError, match="must be finite"):
        fid(images, images * float("nan"))
