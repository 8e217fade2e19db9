"""What the WGAN notebook's helpers compute, against closed forms; what they draw, read back."""

import matplotlib
import pytest
import torch
from torch import nn

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.models.wgan_gp import Critic
from ganlib.plots import wgan


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# sensitivity


def test_sensitivity_of_a_linear_critic_is_its_slope_on_the_diagonal():
    w = torch.tensor([3.0, 4.0])
    found = wgan.sensitivity(lambda x: x @ w + 7, torch.randn(5, 2, generator=rng()))
    assert torch.equal(found, 5 * torch.eye(5))  # 3-4-5: exact in binary


def test_sensitivity_through_a_batch_mean_is_off_the_diagonal():
    """D(x)_i = x_i - mean(x): the derivative by x_j is delta_ij - 1/N."""
    found = wgan.sensitivity(lambda x: (x - x.mean(0)).squeeze(1), torch.randn(4, 1, generator=rng()))
    expected = (torch.eye(4) - 0.25).abs()
    assert torch.equal(found, expected)


def test_sensitivity_of_batch_norm_is_its_jacobian():
    """y = (x - m)/s has dy_i/dx_j = (delta_ij - 1/N - y_i y_j / N) / s, up to eps."""
    n = 6
    x = torch.randn(n, 1, generator=rng(), dtype=torch.float64)
    norm = nn.BatchNorm1d(1, eps=1e-14, affine=False).double()
    s = x.var(unbiased=False).sqrt()
    y = (x - x.mean()) / s
    expected = ((torch.eye(n, dtype=torch.float64) - 1 / n - y @ y.T / n) / s).abs()
    found = wgan.sensitivity(lambda v: norm(v).squeeze(1), x)
    # The eps in the root is 1e-14 of a variance near 1; the rest is rounding.
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_sensitivity_reads_over_all_pixels_and_leaves_the_input_alone():
    x = torch.randn(3, 1, 32, 32, generator=rng())
    torch.manual_seed(0)
    critic = Critic(width=4)
    found = wgan.sensitivity(critic, x)
    single = x[1:2].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(single).sum(), single)
    # The same sums in another batch size: float32 rounding of a few hundred terms.
    torch.testing.assert_close(found[1, 1], gradient.norm(), rtol=1e-4, atol=0)
    assert torch.equal(found - found.diag().diag(), torch.zeros(3, 3))
    assert not x.requires_grad and all(p.grad is None for p in critic.parameters())


def test_sensitivity_wants_one_score_per_sample():
    with pytest.raises(ValueError, match=r"one score per sample, \(3,\), got \(3, 1\)"):
        wgan.sensitivity(lambda x: x[:, :1], torch.zeros(3, 2))


# layer_gradients


def chain(a: float, layers: int) -> nn.Sequential:
    """One-unit linear layers that each multiply by ``a``."""
    model = nn.Sequential(*[nn.Linear(1, 1, bias=False) for _ in range(layers)], nn.Flatten(0))
    for parameter in model.parameters():
        nn.init.constant_(parameter, a)
    return model


@pytest.mark.parametrize("a", [0.5, 2.0])
def test_layer_gradients_of_a_chain_are_powers(a):
    """|dL/dh_k| is a^(layers - k) / N at each of N real and N fake samples: a norm of a^(...) sqrt(2/N)."""
    n, layers = 8, 5
    found = wgan.layer_gradients(chain(a, layers), torch.randn(n, 1), torch.randn(n, 1))
    expected = [a ** (layers - k) * (2 / n) ** 0.5 for k in range(1, layers + 1)]
    assert found == pytest.approx(expected, rel=1e-6)


def test_layer_gradients_of_unequal_batches():
    """The norm is sqrt(n (1/n)^2 + m (1/m)^2) for n real and m fake samples."""
    found = wgan.layer_gradients(chain(1.0, 1), torch.zeros(2, 1), torch.zeros(8, 1))
    assert found == pytest.approx([(1 / 2 + 1 / 8) ** 0.5], rel=1e-6)


def test_layer_gradients_in_front_of_an_activation_in_place():
    """At the pre-activation: behind a ReLU a negative one has no gradient, even if the ReLU overwrites it."""
    model = nn.Sequential(nn.Linear(1, 2, bias=False), nn.ReLU(inplace=True), nn.Linear(2, 1), nn.Flatten(0))
    model[0].weight.data.copy_(torch.tensor([[1.0], [-1.0]]))
    model[2].weight.data.copy_(torch.tensor([[3.0, 4.0]]))
    found = wgan.layer_gradients(model, torch.ones(1, 1), torch.ones(1, 1))
    assert found == pytest.approx([3 * 2**0.5, 2**0.5], rel=1e-6)
    assert all(not m._forward_hooks for m in model.modules())


def test_layer_gradients_needs_a_layer():
    with pytest.raises(ValueError, match="critic must have"):
        wgan.layer_gradients(nn.Flatten(0), torch.zeros(1, 1), torch.zeros(1, 1))


# figures


def test_depth_draws_each_norm_and_marks_zeros():
    ax = wgan.depth({"vanishing": [0.0, 1e-6, 1e-3], "flat": [1.0, 1.0, 1.0]}, title="t")
    lines = {line.get_label(): line for line in ax.lines}
    assert ax.get_yscale() == "log"
    assert list(lines["flat"].get_ydata()) == [1.0, 1.0, 1.0]
    assert list(lines["vanishing"].get_ydata()) == pytest.approx([1e-7, 1e-6, 1e-3])
    crosses = next(line for line in ax.lines if line.get_marker() == "x" and len(line.get_xdata()))
    assert list(crosses.get_xdata()) == [1]
    assert ax.get_xlabel() and ax.get_ylabel() and ax.get_title() == "t"


def test_heat_map_tells_a_small_entry_from_none():
    ax = wgan.heat_map(torch.tensor([[1.0, 0.0], [1e-9, 2.0]]), title="t", xlabel="x", ylabel="y")
    picture = ax.images[0]
    shown = picture.get_array()
    assert shown.mask.tolist() == [[False, True], [False, False]]
    assert shown.data[0, 0] == 1.0 and shown.data[1, 1] == 2.0
    assert picture.get_clim() == pytest.approx((2e-4, 2.0))
    assert shown.data[1, 0] == pytest.approx(2e-4)  # at the bottom of the scale, and drawn


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (torch.ones(3), "two dimensions"),
        (torch.zeros(2, 2), "not zero"),
        (torch.tensor([[1.0, -1.0]]), "non-negative"),
    ],
)
def test_heat_map_refuses(matrix, message):
    with pytest.raises(ValueError, match=message):
        wgan.heat_map(matrix, xlabel="x", ylabel="y")


def test_surface_puts_the_first_coordinate_on_the_horizontal_axis():
    """Level lines of f(x) = x_1 stand upright: constant x, running y."""
    ax = wgan.surface(lambda p: p[:, 0], torch.zeros(1, 2), torch.ones(1, 2), extent=1.0, title="t")
    (contours,) = [c for c in ax.collections if hasattr(c, "levels")]
    paths = [p.vertices for p in contours.get_paths() if len(p.vertices)]
    assert len(paths) > 5
    for vertices in paths:
        assert vertices[:, 0].max() - vertices[:, 0].min() < 1e-6
        assert vertices[:, 1].max() - vertices[:, 1].min() == pytest.approx(2.0)
    assert [line.get_label() for line in ax.lines] == ["fake", "real"]
