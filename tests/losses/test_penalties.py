"""Gradient penalty and weight clipping: closed forms, finite differences, and who receives a gradient."""

import math

import pytest
import torch
from torch import nn

from ganlib.losses import R1, R2, GradientPenalty, clip_weights_, gradient_norms, interpolate


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


class Linear(nn.Module):
    """f(x) = <w, x>: its gradient is w everywhere."""

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * self.weight).flatten(1).sum(1)


class Quadratic(nn.Module):
    """f(x) = a |x|^2 / 2: its gradient is a x, of norm |a| |x_i| for sample i."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x.flatten(1).square().sum(1) / 2


class Spy(nn.Module):
    """Remembers where it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x.detach().clone())
        return self.scale * x.flatten(1).sum(1)


# Closed forms


@pytest.mark.parametrize("weight", [1.0, 10.0])
@pytest.mark.parametrize("target", [0.0, 1.0, 2.5])
def test_linear_critic_is_exact(weight, target):
    """lambda (|w| - t)^2, with gradient 2 lambda (|w| - t) w / |w|, whatever the data."""
    critic = Linear(normal(2, 3, 3))
    norm = critic.weight.detach().norm()
    value = GradientPenalty(weight, target)(critic, normal(5, 2, 3, 3, seed=1), normal(5, 2, 3, 3, seed=2))
    value.backward()
    torch.testing.assert_close(value.detach(), weight * (norm - target) ** 2)
    torch.testing.assert_close(
        critic.weight.grad, 2 * weight * (norm - target) * critic.weight.detach() / norm
    )


def test_default_is_the_papers():
    """lambda = 10, slope 1: a critic of slope 3 pays 10 (3 - 1)^2, and one of slope 0.5 pays too."""
    ones = torch.ones(4, 1, dtype=torch.float64)
    assert GradientPenalty()(Linear(torch.tensor([3.0], dtype=torch.float64)), ones, ones).item() == 40.0
    assert GradientPenalty()(Linear(torch.tensor([0.5], dtype=torch.float64)), ones, ones).item() == 2.5
    assert GradientPenalty().name == "gradient penalty"


def test_square_is_taken_per_sample_and_then_averaged():
    """Slopes a|x_i| of 0.5 and 1.5 average to 1: a penalty on the mean slope, or on a norm over the whole
    batch, would see something else than E(|.| - 1)^2 = 0.25."""
    x = torch.tensor([[0.5, 0.0], [0.0, 1.5]], dtype=torch.float64)
    critic = Quadratic(1.0)
    value = GradientPenalty(weight=1.0)(critic, x, x)  # real = fake: every point between them is x itself
    value.backward()
    torch.testing.assert_close(value.item(), 0.25)
    # d/da mean (a|x_i| - 1)^2 = mean 2 (|x_i| - 1) |x_i| = ((-0.5)(0.5) + (0.5)(1.5)) = 0.5
    torch.testing.assert_close(critic.a.grad.item(), 0.5)


def test_quadratic_critic_at_random_points():
    real, fake = normal(6, 1, 4, 4, seed=1), normal(6, 1, 4, 4, seed=2)
    points = interpolate(real, fake, rng(3))
    norms = 0.7 * points.flatten(1).norm(dim=1)
    value = GradientPenalty(4.0, 0.5)(Quadratic(-0.7), real, fake, rng(3))
    torch.testing.assert_close(value.detach(), 4 * (norms - 0.5).square().mean())


def test_norms_are_over_all_but_the_batch_dimension():
    """Three channels of ones on 2 x 2 pixels: sqrt(12), not a norm per channel or per row."""
    critic = Linear(torch.ones(3, 2, 2, dtype=torch.float64))
    norms = gradient_norms(critic, normal(5, 3, 2, 2))
    assert norms.shape == (5,)
    torch.testing.assert_close(norms.detach(), torch.full((5,), math.sqrt(12), dtype=torch.float64))


def test_several_outputs_per_sample_are_summed():
    weight = normal(3, 2)

    def patches(x: torch.Tensor) -> torch.Tensor:
        return torch.stack([x @ row for row in weight], 1)

    norms = gradient_norms(patches, normal(4, 2, seed=1))
    torch.testing.assert_close(norms, weight.sum(0).norm().expand(4))


def test_gradient_by_finite_differences():
    """d penalty / d parameters of a small network, in float64 with fixed interpolation weights."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    names = [name for name, _ in critic.named_parameters()]
    real, fake = normal(4, 3, seed=1), normal(4, 3, seed=2)

    def penalty(*parameters: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(names, parameters, strict=True))
        return GradientPenalty()(
            lambda x: torch.func.functional_call(critic, weights, (x,)), real, fake, rng(3)
        )

    assert torch.autograd.gradcheck(penalty, tuple(critic.parameters()))


# Where the critic is asked


def weights_seen(points: torch.Tensor, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
    """The u of each element for which point = u real + (1 - u) fake."""
    return (points - fake) / (real - fake)


def test_one_weight_per_sample_on_the_line():
    spy = Spy()
    real, fake = normal(64, 3, 4, 4, seed=1), normal(64, 3, 4, 4, seed=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        GradientPenalty()(spy, real, fake)
        GradientPenalty()(spy, real, fake)
    u = [weights_seen(points, real, fake).flatten(1) for points in spy.seen]
    for found in u:
        each = found.median(1).values
        # Where real and fake nearly meet, u comes out of a division by a small difference: hence 1e-4.
        torch.testing.assert_close(found, each[:, None].expand_as(found), atol=1e-4, rtol=0)
        assert (each >= 0).all() and (each <= 1).all()
        assert len(each.unique()) == 64, "samples share an interpolation weight"
    assert not torch.allclose(u[0], u[1], atol=1e-3), "two calls used the same weights"


def test_weights_are_uniform():
    u = interpolate(torch.ones(20_000, 1), torch.zeros(20_000, 1), rng(0)).flatten()
    assert u.min() >= 0 and u.max() <= 1
    # Standard error of the mean: 0.289 / sqrt(20000) = 0.002. Kolmogorov's bound for 1 in 10,000 is 0.016.
    assert u.mean().item() == pytest.approx(0.5, abs=0.01)
    steps = (u.sort().values - torch.linspace(0, 1, len(u))).abs().max().item()
    assert steps < 0.016


def test_rng_reproduces_and_leaves_the_global_state_alone():
    real, fake = normal(8, 3, seed=1), normal(8, 3, seed=2)
    before = torch.get_rng_state()
    first, again, other = (interpolate(real, fake, rng(s)) for s in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)
    spy = Spy()
    penalty = GradientPenalty()
    penalty(spy, real, fake, rng(5))
    assert torch.equal(spy.seen[0], first)
    assert torch.equal(torch.get_rng_state(), before)


def test_global_state_is_the_default_source():
    real, fake = normal(8, 3, seed=1), normal(8, 3, seed=2)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = interpolate(real, fake)
        torch.manual_seed(3)
        assert torch.equal(interpolate(real, fake), first)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_interpolate_keeps_dtype(dtype):
    points = interpolate(torch.ones(4, 2, dtype=dtype), torch.zeros(4, 2, dtype=dtype), rng())
    assert points.dtype == dtype


# Who receives a gradient


def test_critic_receives_a_gradient_and_fakes_and_generator_do_not():
    critic = Quadratic(1.0)
    generator = nn.Linear(2, 3).double()
    real = normal(4, 3).requires_grad_()
    fake = generator(normal(4, 2, seed=1))
    fake.retain_grad()
    GradientPenalty()(critic, real, fake).backward()
    assert critic.a.grad is not None and critic.a.grad != 0, "no double backward: create_graph is missing"
    assert real.grad is None and fake.grad is None
    assert all(p.grad is None for p in generator.parameters())


def test_penalty_alone_leaves_no_gradient_behind():
    critic = Quadratic(1.0)
    GradientPenalty()(critic, normal(4, 3), normal(4, 3, seed=1))
    assert critic.a.grad is None


@pytest.mark.parametrize("target", [0.0, 1.0])
def test_zero_gradient_is_finite(target):
    """A critic that ignores its input, as after an unlucky initialisation: sqrt'(0) must not make NaN."""
    critic = Linear(torch.zeros(3, dtype=torch.float64))
    value = GradientPenalty(10.0, target)(critic, normal(4, 3), normal(4, 3, seed=1))
    value.backward()
    assert value.item() == 10 * target**2
    assert torch.equal(critic.weight.grad, torch.zeros(3, dtype=torch.float64))


def test_works_inside_no_grad():
    """Evaluating a critic's slope needs a gradient inside, wherever it is called."""
    real, fake = normal(4, 3), normal(4, 3, seed=1)
    with torch.no_grad():
        value = GradientPenalty()(Quadratic(2.0), real, fake, rng())
        norms = gradient_norms(Quadratic(2.0), real)
    torch.testing.assert_close(value, GradientPenalty()(Quadratic(2.0), real, fake, rng()).detach())
    torch.testing.assert_close(norms, 2 * real.norm(dim=1))
    assert not value.requires_grad


def test_under_bf16_autocast():
    """As the trainer calls it: the forward pass in bfloat16, the norms in float32."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(8, 32), nn.LeakyReLU(0.2), nn.Linear(32, 1))
    real, fake = normal(16, 8).float(), normal(16, 8, seed=1).float()
    exact = GradientPenalty()(critic, real, fake, rng())
    with torch.autocast("cpu", torch.bfloat16):
        value = GradientPenalty()(critic, real, fake, rng())
    value.backward()
    assert value.dtype == torch.float32
    assert all(p.grad.isfinite().all() for p in critic.parameters() if p.grad is not None)
    # bfloat16 keeps 8 bits, an error of 0.4 % per product; two layers and a square make it a few per cent.
    torch.testing.assert_close(value.detach(), exact.detach(), rtol=0.05, atol=0.02)


# Input


@pytest.mark.parametrize(
    ("arguments", "name"),
    [({"weight": -1.0}, "weight"), ({"target": -0.1}, "target"), ({"weight": math.nan}, "weight")],
)
def test_bad_arguments_are_refused(arguments, name):
    with pytest.raises(ValueError, match=name):
        GradientPenalty(**arguments)


@pytest.mark.parametrize("shape", [(3, 2), (4, 3), (1, 2), (4, 2, 1)])
def test_shapes_must_agree(shape):
    """(1, 2) would broadcast, and pair every real sample with the same fake."""
    with pytest.raises(ValueError, match=r"\(4, 2\)"):
        GradientPenalty()(Quadratic(1.0), normal(4, 2), normal(*shape))


# Clipping


def test_clip_weights_is_the_projection_onto_the_box():
    module = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.linspace(-2, 2, parameter.numel()).view_as(parameter))
    before = {name: p.detach().clone() for name, p in module.named_parameters()}
    buffers = {name: b.clone() for name, b in module.named_buffers()}
    identities = [id(p) for p in module.parameters()]
    clip_weights_(module, 0.5)
    for name, parameter in module.named_parameters():
        expected = torch.minimum(torch.maximum(before[name], torch.tensor(-0.5)), torch.tensor(0.5))
        assert torch.equal(parameter, expected)
        assert parameter.requires_grad and parameter.is_leaf
    assert all(torch.equal(b, buffers[name]) for name, b in module.named_buffers())
    assert [id(p) for p in module.parameters()] == identities


@pytest.mark.parametrize("bound", [0.0, -0.01, math.nan])
def test_clip_bound_must_be_positive(bound):
    with pytest.raises(ValueError, match="bound"):
        clip_weights_(nn.Linear(1, 1), bound)


# R1 and R2


@pytest.mark.parametrize(("penalty", "where"), [(R1(3.0), "real"), (R2(3.0), "fake")])
def test_zero_centred_penalties_are_exact(penalty, where):
    """gamma/2 E (a|x|)^2 with derivative gamma a E|x|^2, at the real points or at the fake ones."""
    points = {"real": normal(6, 2, 3, seed=1), "fake": normal(6, 2, 3, seed=2)}
    critic = Quadratic(-0.7)
    value = penalty(critic, **points)
    value.backward()
    squares = points[where].flatten(1).square().sum(1).mean()
    torch.testing.assert_close(value.detach(), 1.5 * 0.49 * squares)
    torch.testing.assert_close(critic.a.grad, 3 * -0.7 * squares)


@pytest.mark.parametrize("penalty", [R1(), R2()])
def test_zero_centred_penalties_reach_the_discriminator_alone(penalty):
    critic, generator = Quadratic(1.0), nn.Linear(2, 3).double()
    real, fake = normal(4, 3).requires_grad_(), generator(normal(4, 2, seed=1))
    penalty(critic, real, fake).backward()
    assert critic.a.grad != 0, "no double backward: create_graph is missing"
    assert real.grad is None
    assert all(p.grad is None for p in generator.parameters())


def test_zero_centred_penalties_by_finite_differences():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    names = [name for name, _ in critic.named_parameters()]

    def penalty(*parameters: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(names, parameters, strict=True))
        return R1()(lambda x: torch.func.functional_call(critic, weights, (x,)), normal(4, 3), normal(4, 3))

    assert torch.autograd.gradcheck(penalty, tuple(critic.parameters()))


@pytest.mark.parametrize("penalty", [R1, R2])
def test_zero_centred_penalties_default_and_refuse(penalty):
    """gamma = 10 on images (Mescheder et al. 2018, section 6.1); a slope of 2 then costs 5 * 4."""
    ones = torch.ones(4, 1, dtype=torch.float64)
    assert penalty()(Linear(torch.tensor([2.0], dtype=torch.float64)), ones, ones).item() == 20.0
    assert penalty().name == penalty.__name__
    with pytest.raises(ValueError, match="weight must be at least 0, got -1"):
        penalty(-1)
