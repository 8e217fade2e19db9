"""Gradient penalty and weight clipping: closed forms, finite differences, and who receives a gradient."""

import math
from functools import partial

import pytest
import torch
from torch import nn

from ganlib.losses import (
    R1,
    R2,
    GradientPenalty,
    Lazy,
    NonSaturating,
    clip_weights_,
    gradient_norms,
    interpolate,
    perturb,
)
from ganlib.models.gan import GAN
from ganlib.training import Settings, Trainer
from ganlib.training.checkpoint import NAME, read


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


@pytest.mark.parametrize(
    ("penalty", "cost"),
    [
        (GradientPenalty(10.0, 0.0), 0.0),
        (GradientPenalty(10.0, 1.0), 10.0),
        (GradientPenalty(one_sided=True), 0.0),
        (GradientPenalty(points=perturb), 10.0),
        (R1(), 0.0),
        (R2(), 0.0),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_zero_gradient_is_finite(penalty, cost, dtype):
    """A critic that ignores its input, as after an unlucky initialisation: sqrt'(0) must not make NaN."""
    flat = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 1)).to(dtype)
    nn.init.constant_(flat[0].bias, -100.0)  # every rectifier off, as after an unlucky step
    for critic in (Linear(torch.zeros(3, dtype=dtype)), flat):
        value = penalty(critic, normal(4, 3).to(dtype), normal(4, 3, seed=1).to(dtype))
        value.backward()
        assert value.item() == cost
        for parameter in critic.parameters():
            assert parameter.grad is None or torch.equal(parameter.grad, torch.zeros_like(parameter))


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


# One-sided, and around the data


@pytest.mark.parametrize(("slope", "cost"), [(0.5, 0.0), (1.0, 0.0), (3.0, 40.0)])
def test_one_sided_penalty_asks_for_slopes_above_the_target_alone(slope, cost):
    """lambda max(0, a - 1)^2 with derivative 2 lambda max(0, a - 1)."""
    ones = torch.ones(4, 1, dtype=torch.float64)
    critic = Linear(torch.tensor([slope], dtype=torch.float64))
    value = GradientPenalty(one_sided=True)(critic, ones, ones)
    value.backward()
    assert value.item() == cost
    assert critic.weight.grad.item() == pytest.approx(20 * max(0.0, slope - 1), abs=1e-12)


def test_one_side_is_taken_per_sample():
    """Slopes 0.5 and 1.5 have mean 1, and yet one of them is too steep: (0 + 0.25) / 2."""
    points = torch.tensor([[0.5], [1.5]], dtype=torch.float64)
    value = GradientPenalty(1.0, one_sided=True)(Quadratic(1.0), points, points)
    assert value.item() == pytest.approx(0.125, rel=1e-12)


def test_perturbed_points_are_around_the_data():
    """x + std(x) u / 2 with a u in [0, 1) for each entry, whatever the fakes are."""
    real = 3 * normal(500, 2, 4, seed=1) + 5
    points = perturb(real, torch.full_like(real, math.nan), rng(2))
    u = (points - real) / (0.5 * real.std())
    assert u.min() > -1e-9 and u.max() < 1 + 1e-9
    # 4,000 uniform numbers: the mean's standard error is 0.289 / 63 = 0.0046.
    assert u.mean().item() == pytest.approx(0.5, abs=0.02)
    assert not torch.allclose(u[:, :1], u[:, 1:], atol=1e-3), "entries share their noise"
    assert torch.equal(points, perturb(real, real, rng(2)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_perturb_keeps_dtype(dtype):
    assert perturb(torch.ones(4, 2, dtype=dtype), torch.zeros(4, 2, dtype=dtype), rng()).dtype == dtype


def test_dragans_penalty_looks_around_the_data():
    spy, real = Spy(), normal(6, 3, seed=1)
    value = GradientPenalty(points=perturb)(spy, real, normal(6, 3, seed=2), rng(3))
    assert torch.equal(spy.seen[0], perturb(real, real, rng(3)))
    value.backward()
    # f is s times the sum of three entries, s = 1: d/ds 10 (sqrt(3) s - 1)^2.
    assert spy.scale.grad.item() == pytest.approx(20 * (math.sqrt(3) - 1) * math.sqrt(3), rel=1e-12)


# Lazy


def test_lazy_is_due_every_kth_time_and_k_times_as_strong():
    critic, real, fake = Quadratic(1.0), normal(6, 3, seed=1), normal(6, 3, seed=2)
    plain, lazy = R1(3.0)(critic, real, fake).item(), Lazy(R1(3.0), 4)
    values = [lazy(critic, real, fake) for _ in range(8)]
    assert [v is not None for v in values] == [True, False, False, False] * 2
    # Powers of two are exact, so the mean over eight calls is the plain value.
    assert sum(v.item() for v in values if v is not None) / 8 == plain
    assert lazy.name == "R1" and lazy.calls.item() == 8


def test_lazy_gradients_add_up_to_the_plain_ones():
    real, fake = normal(6, 3, seed=1), normal(6, 3, seed=2)
    plain, spared = Quadratic(1.0), Quadratic(1.0)
    lazy = Lazy(R2(), 2)
    for _ in range(4):
        R2()(plain, real, fake).backward()
        if (value := lazy(spared, real, fake)) is not None:
            value.backward()
    torch.testing.assert_close(spared.a.grad, plain.a.grad)


def test_lazy_does_not_look_when_it_is_not_due():
    spy = Spy()
    lazy = Lazy(R1(), 3)
    for _ in range(6):
        lazy(spy, normal(2, 3), normal(2, 3))
    assert len(spy.seen) == 2


def test_lazy_goes_on_counting_from_its_state():
    first, second = Lazy(R1(), 3), Lazy(R1(), 3)
    arguments = (Quadratic(1.0), normal(2, 3), normal(2, 3))
    first(*arguments)
    second.load_state_dict(first.state_dict())
    assert [second(*arguments) is not None for _ in range(4)] == [False, False, True, False]


@pytest.mark.parametrize("every", [0, -1])
def test_lazy_must_act_some_time(every):
    with pytest.raises(ValueError, match=f"every must be at least 1, got {every}"):
        Lazy(R1(), every)


def lazy_run(out, seed: int = 0) -> Trainer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, critic = nn.Linear(2, 3), nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
    generator.latent_dim = 2
    game = GAN(generator, critic, NonSaturating(), [Lazy(R1(), 3), R2()])
    sgd = partial(torch.optim.SGD, lr=0.1)
    settings = Settings(dict.fromkeys(game.turns, sgd), batch_size=4, precision="32-true", log_every=1)
    return Trainer(game, normal(16, 3).float(), settings, out=out, progress=False)


def test_lazy_run_resumed_between_two_penalties_equals_an_undisturbed_one(tmp_path):
    whole = lazy_run(tmp_path / "whole")
    whole.fit(7)
    lazy_run(tmp_path / "cut").fit(4)
    second = lazy_run(tmp_path / "cut", seed=9)
    assert second.resume()
    second.fit(7)
    left, right = (read(tmp_path / folder / NAME)[0] for folder in ("whole", "cut"))
    assert "game.counting.0.calls" in left and left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)
    terms = [row for row in second.history if "discriminator/R1" in row]
    assert [row["step"] for row in terms] == [1, 4, 7], "the history shows the term where it was due"
    assert all("discriminator/R2" in row for row in second.history)
