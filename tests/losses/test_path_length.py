"""Path lengths: the exact Jacobian, closed forms of linear generators, the running mean, gradients."""

import math

import pytest
import torch
from scipy.special import gammaln
from torch import nn

from ganlib.losses import Lazy, PathLength, jacobian_lengths


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Linear(nn.Module):
    """w -> images A w of 2 channels and 4 x 4 pixels, all in float64."""

    def __init__(self, matrix: torch.Tensor) -> None:
        super().__init__()
        self.matrix = nn.Parameter(matrix)

    def forward(self, w: torch.Tensor) -> torch.Tensor:
        return (w @ self.matrix.T).view(-1, 2, 4, 4)


def term(generator: nn.Module, dimension: int, **options) -> PathLength:
    def paths(n: int) -> tuple[torch.Tensor, torch.Tensor]:
        w = torch.randn(n, dimension, dtype=torch.float64).requires_grad_()
        return w, generator(w)

    return PathLength(paths, **options)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


REAL = torch.zeros(64, 2, 4, 4)


# Lengths


def test_lengths_against_the_exact_jacobian():
    """A nonlinear generator whose Jacobian is formed entry by entry, then applied to y."""
    generator = nn.Sequential(
        nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 32), nn.Softplus(), nn.Unflatten(1, (2, 4, 4))
    ).double()
    w, y = normal(6, 5, seed=1).requires_grad_(), normal(6, 2, 4, 4, seed=2)
    found = jacobian_lengths(generator(w), w, y)
    for n in range(6):
        jacobian = torch.func.jacrev(lambda v: generator(v[None])[0].flatten())(w[n].detach())
        assert jacobian.shape == (32, 5)
        # float64, another order of summation
        assert found[n].item() == pytest.approx((jacobian.T @ y[n].flatten()).norm().item(), rel=1e-12)


def test_lengths_with_one_w_per_layer():
    """Root of the mean over layers of the squared lengths; images are the sum of A w_1 and B w_2."""
    a, b = normal(32, 3, seed=1), normal(32, 3, seed=2)
    w, y = normal(5, 2, 3, seed=3).requires_grad_(), normal(5, 2, 4, 4, seed=4)
    images = (w[:, 0] @ a.T + w[:, 1] @ b.T).view(5, 2, 4, 4)
    found = jacobian_lengths(images, w, y)
    flat = y.flatten(1)
    squares = ((flat @ a).square().sum(1) + (flat @ b).square().sum(1)) / 2
    torch.testing.assert_close(found, squares.sqrt())


def test_bad_shapes():
    w = normal(3, 2).requires_grad_()
    images = (w @ normal(2, 32)).view(3, 2, 4, 4)
    for bad in ((images, w, images[:2]), (images, w[:2], images), (images, w[0], images)):
        with pytest.raises(ValueError, match=r"w must be \(N, d\) or \(N, L, d\)"):
            jacobian_lengths(*bad)


# The penalty


def test_a_linear_generator_in_closed_form():
    """Orthogonal columns of length c: |J^T y| is c / 4 times the length of a standard normal in d dimensions,
    whose mean is sqrt(2) Gamma((d + 1) / 2) / Gamma(d / 2) and whose mean square is d."""
    d, c = 6, 2.0
    columns, _ = torch.linalg.qr(normal(32, d, seed=1))
    penalty = term(Linear(c * columns), d, weight=3.0)
    value = penalty(None, torch.zeros(40_000, 2, 4, 4), None).item()
    scale = c / math.sqrt(16)  # y has deviation 1 / sqrt(pixels), 4 x 4
    mean = scale * math.sqrt(2) * math.exp(gammaln((d + 1) / 2) - gammaln(d / 2))
    variance = scale**2 * d - mean**2
    # 20,000 lengths (half of the batch): five standard errors of their mean, and of their variance
    assert penalty.mean.item() == pytest.approx(mean, abs=5 * math.sqrt(variance / 20_000))
    assert value == pytest.approx(3.0 * variance, rel=5 * math.sqrt(2 / 20_000))


def test_mean_square_of_any_linear_generator():
    """E |A^T y|^2 = |A|_F^2 / pixels, whatever A: the trace of A^T A times the directions' variance."""
    matrix = normal(32, 5, seed=2)
    w, y = normal(20_000, 5, seed=3).requires_grad_(), normal(20_000, 2, 4, 4, seed=4) / 4
    squares = jacobian_lengths(Linear(matrix)(w), w, y).detach().square()
    wanted = matrix.square().sum().item() / 16
    assert squares.mean().item() == pytest.approx(wanted, abs=5 * squares.std().item() / math.sqrt(20_000))


def test_directions_shrink_with_the_number_of_pixels():
    """Each image doubled in size by copies: |J^T y|^2 has four times the pixels, a quarter of the variance.

    For y of deviation 1 / sqrt(HW) the mean square is |A|_F^2 / HW; copying multiplies both by four."""
    matrix = normal(32, 5, seed=2)

    class Doubled(Linear):
        def forward(self, w):
            return super().forward(w).repeat_interleave(2, 2).repeat_interleave(2, 3)

    means = []
    for kind in (Linear, Doubled):
        penalty = term(kind(matrix), 5)
        penalty(None, torch.zeros(20_000, 2, 4, 4), None)
        means.append(penalty.mean.item())
    assert means[0] == pytest.approx(means[1], rel=0.03)  # 10,000 lengths each, their deviation some 30 %


def test_the_value_is_the_spread_about_the_running_mean():
    """By hand, from the lengths that the term has seen."""
    seen = []
    generator = Linear(normal(32, 3, seed=1))

    def paths(n):
        w = torch.randn(n, 3, dtype=torch.float64).requires_grad_()
        images = generator(w)
        seen.append((w, images))
        return w, images

    penalty = PathLength(paths, weight=2.0, decay=0.9)
    state = torch.get_rng_state()
    values = [penalty(None, REAL, None).item() for _ in range(30)]
    torch.set_rng_state(state)
    a = 0.0
    for t, value in enumerate(values, start=1):
        w, images = seen[t - 1]
        torch.randn(32, 3, dtype=torch.float64)  # the draws in their order: w, then y
        y = torch.randn(32, 2, 4, 4).double() / 4
        lengths = (y.flatten(1) @ generator.matrix.detach()).norm(dim=1)
        a += (lengths.mean().item() - a) * max(1 / t, 0.1)
        # the running mean is float32
        assert value == pytest.approx(2 * (lengths - a).square().mean().item(), rel=1e-4)
        assert len(w) == len(images) == 32, "half of the batch"
    assert penalty.mean.item() == pytest.approx(a, rel=1e-6)
    assert penalty.updates.item() == 30


def test_the_running_mean_starts_at_the_first_lengths_and_forgets_by_the_decay():
    """Plain mean up to 1 / (1 - decay) calls, exponential after: what changes is followed at that rate."""
    generator = Linear(torch.eye(32, 3, dtype=torch.float64))
    penalty = term(generator, 3, decay=0.99)
    big = torch.zeros(4000, 2, 4, 4)
    for _ in range(3):
        penalty(None, big, None)
    first = penalty.mean.item()
    # mean length of a standard normal in three dimensions, sqrt(8 / pi), over four; 6,000 lengths
    assert first == pytest.approx(math.sqrt(8 / math.pi) / 4, rel=0.02)
    penalty.updates.fill_(500)
    with torch.no_grad():
        generator.matrix.mul_(101)
    penalty(None, big, None)
    assert penalty.mean.item() == pytest.approx(2 * first, rel=0.05), "a hundredth of the way to 101 times"


def test_gradient_by_finite_differences_with_the_mean_held():
    """In the generator's weights; the running mean is a constant, though the lengths have moved it."""
    matrix = normal(32, 3, seed=1).requires_grad_()
    w, y = normal(7, 3, seed=2).requires_grad_(), normal(7, 2, 4, 4, seed=3)

    def value(m: torch.Tensor) -> torch.Tensor:
        return (jacobian_lengths((w @ m.T).view(7, 2, 4, 4), w, y) - 5.0).square().mean()

    assert torch.autograd.gradcheck(value, matrix)

    generator = Linear(matrix.detach().clone())
    penalty = term(generator, 3, decay=0.0)
    state = torch.get_rng_state()
    penalty(None, REAL, None).backward()
    held = penalty.mean.item()
    torch.set_rng_state(state)
    torch.randn(32, 3, dtype=torch.float64)
    y = torch.randn(32, 2, 4, 4).double().flatten(1) / 4
    again = generator.matrix.detach().requires_grad_()
    (wanted,) = torch.autograd.grad(2 * ((y @ again).norm(dim=1) - held).square().mean(), again)
    torch.testing.assert_close(generator.matrix.grad, wanted, rtol=1e-6, atol=0)  # a float32 mean


def test_lengths_of_zero_have_no_nan():
    """A generator that does not look at w: its paths have no length, and its gradient is 0."""
    generator = Linear(torch.zeros(32, 3, dtype=torch.float64))
    penalty = term(generator, 3)
    value = penalty(None, REAL, None)
    value.backward()
    assert value.item() == 0 and generator.matrix.grad.isfinite().all()


def test_lazily_every_eighth_time_eight_times_as_strong():
    """Due on calls 0, 8, 16; and the mean's count is of those calls alone."""
    state = torch.get_rng_state()
    once = term(Linear(normal(32, 3, seed=1)), 3)
    plain = once(None, REAL, None).item()
    torch.set_rng_state(state)
    lazy = Lazy(term(Linear(normal(32, 3, seed=1)), 3), every=8)
    values = [lazy(None, REAL, None) for _ in range(17)]
    assert [i for i, value in enumerate(values) if value is not None] == [0, 8, 16]
    assert values[0].item() == pytest.approx(8 * plain, rel=1e-12)
    assert lazy.regularizer.updates.item() == 3
    assert {"calls", "regularizer.mean", "regularizer.updates"} == set(lazy.state_dict())


def test_float32_under_autocast():
    """What the generator computes for its path lengths is not bfloat16, and the value is that without it."""
    generator = nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Unflatten(1, (2, 4, 4)))
    dtypes = []

    def paths(n):
        w = torch.randn(n, 3).requires_grad_()
        images = generator(w)
        dtypes.append(images.dtype)
        return w, images

    state = torch.get_rng_state()
    plain = PathLength(paths)(None, REAL, None).item()
    torch.set_rng_state(state)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = PathLength(paths)(None, REAL.bfloat16(), None).item()
    assert dtypes == [torch.float32] * 2 and half == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [({"weight": -1.0}, "weight"), ({"decay": 1.0}, "decay"), ({"shrink": 0}, "shrink")],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        PathLength(lambda n: None, **options)


def test_a_batch_of_one_is_not_empty():
    penalty = term(Linear(normal(32, 3)), 3)
    assert penalty(None, REAL[:1], None).isfinite()
