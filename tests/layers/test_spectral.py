"""Spectral normalization: LAPACK's singular values, torch's own layer, gradients through a decomposition."""

import copy
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.utils import parametrizations, parametrize

from ganlib.layers import SpectralNorm, spectral_norm
from ganlib.losses import R1, GradientPenalty, NonSaturating
from ganlib.models.gan import GAN
from ganlib.training import Settings, Trainer
from ganlib.training.checkpoint import NAME, read


def linear() -> nn.Module:
    return nn.Linear(6, 4)


def convolution() -> nn.Module:
    return nn.Conv2d(3, 5, 3, padding=1)


def transposed() -> nn.Module:
    return nn.ConvTranspose2d(3, 5, 4, stride=2)


LAYERS = [linear, convolution, transposed, lambda: nn.Embedding(7, 3), lambda: nn.ConvTranspose1d(2, 6, 3)]
IDS = ["linear", "convolution", "transposed", "embedding", "transposed 1d"]


def made(make, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make().double()


def matrix(layer: nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """d_out x (d_in h w): transposed convolutions keep the output channels on axis 1."""
    return (weight.transpose(0, 1) if "Transpose" in type(layer).__name__ else weight).flatten(1)


def norm_of(layer: nn.Module) -> SpectralNorm:
    return layer.parametrizations.weight[0]


def converged(make) -> nn.Module:
    layer = spectral_norm(made(make))
    with torch.no_grad():
        for _ in range(500):
            _ = layer.weight
    return layer


# Values


@pytest.mark.parametrize("make", LAYERS, ids=IDS)
def test_largest_singular_value_becomes_1(make):
    plain, layer = made(make), converged(make)
    sigma = torch.linalg.svdvals(matrix(plain, plain.weight.detach()))[0]
    # Power iteration closes in by (sigma_2 / sigma_1)^2 a step; 500 steps leave rounding alone.
    torch.testing.assert_close(layer.weight, plain.weight / sigma, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        torch.linalg.svdvals(matrix(plain, layer.weight))[0], torch.ones((), dtype=torch.float64)
    )


@pytest.mark.parametrize("make", [linear, convolution, transposed], ids=IDS[:3])
def test_equals_torchs_own_when_converged(make):
    layer, theirs = converged(make), parametrizations.spectral_norm(made(make), n_power_iterations=500)
    torch.testing.assert_close(layer.weight, theirs.weight, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("make", [linear, convolution, transposed], ids=IDS[:3])
def test_each_iteration_lies_between_two_of_torchs(make):
    """Torch moves u first, so from one start it is half a step ahead: u_k W v_k <= u_k W v_(k+1) <= ..."""
    layer, theirs = spectral_norm(made(make)), parametrizations.spectral_norm(made(make))
    ours, other = norm_of(layer), theirs.parametrizations.weight[0]
    weights = matrix(theirs, theirs.parametrizations.weight.original.detach())
    with torch.no_grad():
        ours.u.copy_(torch.nn.functional.normalize(torch.ones_like(ours.u), dim=0))
        ours.v.copy_(torch.nn.functional.normalize(weights.T @ ours.u, dim=0))
        other._v.copy_(ours.v)

        def estimate(module: nn.Module) -> float:
            raw = module.parametrizations.weight.original
            return (raw.flatten()[0] / module.weight.flatten()[0]).item()

        found = [estimate(module) for _ in range(6) for module in (layer, theirs)]
        assert found == sorted(found) and found[0] < found[-1]
        # And the vectors are the same: torch's u is ours, torch's v is our next one.
        torch.testing.assert_close(other._u, ours.u)
        torch.testing.assert_close(other._v, torch.nn.functional.normalize(weights.T @ ours.u, dim=0))


def test_one_use_is_as_many_iterations_as_asked_for():
    once, thrice = spectral_norm(made(linear)), spectral_norm(made(linear), 3)
    norm_of(thrice).u.copy_(norm_of(once).u)
    _ = [once.weight for _ in range(3)], thrice.weight
    torch.testing.assert_close(norm_of(once).u, norm_of(thrice).u, rtol=0, atol=0)


def test_one_iteration_a_step_follows_a_moving_weight():
    """As in training: each step moves the weight a little, and sigma stays within a hundredth."""
    layer, rng = spectral_norm(made(convolution)), torch.Generator().manual_seed(0)
    raw = layer.parametrizations.weight.original
    with torch.no_grad():
        direction = torch.randn(raw.shape, generator=rng, dtype=raw.dtype)
        for _ in range(300):
            raw += 0.002 * direction
            sigma = torch.linalg.svdvals(layer.weight.flatten(1))[0].item()
    assert sigma == pytest.approx(1, abs=0.01)


def test_starts_near_the_truth():
    """Fifteen iterations at once: the first steps of training must not see a sigma that is far too small."""
    for seed in range(10):
        layer = spectral_norm(made(partial(nn.Linear, 64, 64), seed)).eval()
        assert 1 <= torch.linalg.matrix_norm(layer.weight, 2).item() < 1.2


# Gradients


@pytest.mark.parametrize("make", [linear, convolution, transposed], ids=IDS[:3])
def test_gradient_is_that_through_the_singular_value_decomposition(make):
    """d(W / sigma(W)) with sigma from LAPACK, whose derivative is u v^T."""
    layer, plain = converged(make), made(make)
    cotangent = torch.randn(plain.weight.shape, generator=torch.Generator().manual_seed(1)).double()
    (layer.weight * cotangent).sum().backward()
    sigma = torch.linalg.matrix_norm(matrix(plain, plain.weight), 2)
    (plain.weight / sigma * cotangent).sum().backward()
    torch.testing.assert_close(
        layer.parametrizations.weight.original.grad, plain.weight.grad, rtol=1e-7, atol=1e-9
    )


def test_gradient_does_not_lengthen_the_weight():
    """W / sigma does not change along W, so the gradient is orthogonal to it."""
    layer = spectral_norm(made(linear))
    layer(torch.ones(3, 6, dtype=torch.float64)).square().sum().backward()
    raw = layer.parametrizations.weight.original
    assert raw.grad.any() and layer.bias.grad.any()
    assert (raw.grad * raw.detach()).sum().item() == pytest.approx(0, abs=1e-12)


def test_two_uses_before_the_backward_pass():
    """Real and fake in separate passes: the second moves u and v, whose old values the first one needs."""
    layer, (x, y) = spectral_norm(made(linear)), torch.randn(2, 3, 6).double()
    twin = copy.deepcopy(layer)
    (layer(x).square().sum() + layer(y).sum()).backward()
    twin(x).square().sum().backward()
    twin(y).sum().backward()
    torch.testing.assert_close(
        layer.parametrizations.weight.original.grad, twin.parametrizations.weight.original.grad
    )


@pytest.mark.parametrize("penalty", [R1(), GradientPenalty()])
def test_double_backward(penalty):
    """A penalty's gradient by finite differences, the vectors held still."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = nn.Sequential(
            spectral_norm(nn.Linear(3, 5)), nn.Tanh(), spectral_norm(nn.Linear(5, 1))
        ).double()
        real, fake = torch.randn(2, 4, 3).double()
    critic.eval()
    names = [name for name, _ in critic.named_parameters()]

    def value(*parameters: torch.Tensor) -> torch.Tensor:
        weights = dict(zip(names, parameters, strict=True))
        if isinstance(penalty, GradientPenalty):
            return penalty(
                lambda x: functional_call(critic, weights, (x,)), real, fake, torch.Generator().manual_seed(0)
            )
        return penalty(lambda x: functional_call(critic, weights, (x,)), real, fake)

    assert torch.autograd.gradcheck(value, tuple(critic.parameters()))


# State


def test_evaluation_mode_moves_nothing():
    layer = spectral_norm(made(convolution)).eval()
    before = copy.deepcopy(layer.state_dict())
    first, second = layer.weight.detach(), layer.weight.detach()
    assert torch.equal(first, second)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    layer.train()
    _ = layer.weight
    assert not torch.equal(norm_of(layer).u, before["parametrizations.weight.0.u"])


def test_state_goes_round():
    """Whatever the other module started from: weights and both vectors come over."""
    source, target = spectral_norm(made(linear)), spectral_norm(made(linear, seed=1))
    _ = source.weight, source.weight
    target.load_state_dict(source.state_dict())
    assert torch.equal(target.eval().weight, source.eval().weight)
    assert set(source.state_dict()) == {
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0.u",
        "parametrizations.weight.0.v",
    }


def test_vectors_start_the_same_everywhere_and_leave_the_global_state_alone():
    state = torch.get_rng_state()
    a, b = (spectral_norm(made(linear)) for _ in range(2))
    assert torch.equal(norm_of(a).u, norm_of(b).u)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_optimizer_moves_the_weight_underneath():
    layer = spectral_norm(made(linear))
    assert {n for n, _ in layer.named_parameters()} == {"bias", "parametrizations.weight.original"}
    assert not any(b.requires_grad for b in layer.buffers())


def test_bias_is_left_as_it_is():
    plain = made(linear)
    bias = plain.bias.detach().clone()
    assert spectral_norm(plain) is plain
    assert torch.equal(plain.bias, bias)


def run(out, seed: int = 0, **changes) -> Trainer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = nn.Sequential(
            spectral_norm(nn.Linear(2, 16)), nn.ReLU(), spectral_norm(nn.Linear(16, 16)), nn.Linear(16, 3)
        )
        critic = nn.Sequential(spectral_norm(nn.Linear(3, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 1)))
    generator.latent_dim = 2
    game = GAN(generator, critic, NonSaturating(), [R1()])
    optimizer = partial(torch.optim.Adam, lr=0.01)
    settings = Settings(
        dict.fromkeys(game.turns, optimizer), batch_size=8, precision="32-true", log_every=50, **changes
    )
    data = torch.randn(32, 3, generator=torch.Generator().manual_seed(1))
    return Trainer(game, data, settings, out=out, progress=False)


def test_resumed_run_equals_an_undisturbed_one(tmp_path):
    whole = run(tmp_path / "whole")
    whole.fit(6)
    run(tmp_path / "cut").fit(3)
    second = run(tmp_path / "cut", seed=5)
    assert second.resume()
    second.fit(6)
    left, right = (read(tmp_path / folder / NAME)[0] for folder in ("whole", "cut"))
    assert any(k.endswith("weight.0.u") for k in left) and left.keys() == right.keys()
    assert all(torch.equal(left[k], right[k]) for k in left)


def test_averaged_copy_is_normalised_too():
    """Averages of u and v would grow short as the vectors turn, and the averaged layer's sigma large."""
    trainer = run(None, ema={"generator": 0.99})
    trainer.fit(100)
    average = trainer.averages["generator"]
    for layer in (average[0], average[2]):
        for vector in (norm_of(layer).u, norm_of(layer).v):
            assert vector.norm().item() == pytest.approx(1, abs=1e-6)  # a float32 norm
        # The vectors are those of the last step, the weights those of the last hundred: near, not equal.
        assert torch.linalg.matrix_norm(layer.weight, 2).item() == pytest.approx(1, abs=0.05)


# Precision and layout


def test_under_bf16_autocast_sigma_is_computed_in_float32():
    """The normalised weight is that of float32, bit for bit; only its use is in bfloat16."""
    layer, twin = (spectral_norm(made(convolution).float()) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(torch.ones(2, 3, 4, 4))
        assert y.dtype == torch.bfloat16
        y.float().sum().backward()
    _ = twin.weight
    assert layer.parametrizations.weight.original.grad.isfinite().all()
    assert norm_of(layer).u.dtype == torch.float32
    torch.testing.assert_close(layer.eval().weight, twin.eval().weight, rtol=0, atol=0)


def test_channels_last_changes_nothing():
    layer = spectral_norm(made(convolution))
    other = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    x = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    y = other(x.contiguous(memory_format=torch.channels_last))
    # Another order of memory is another order of summation.
    torch.testing.assert_close(y, layer(x), rtol=1e-10, atol=1e-12)


def test_deepcopy_is_independent():
    layer = spectral_norm(made(linear))
    other = copy.deepcopy(layer)
    before = norm_of(layer).u.clone()
    _ = other.weight
    assert torch.equal(norm_of(layer).u, before) and not torch.equal(norm_of(other).u, before)


# Input


def test_refuses_a_second_time_and_modules_without_weight():
    with pytest.raises(ValueError, match="normalised already"):
        spectral_norm(spectral_norm(nn.Linear(2, 2)))
    with pytest.raises(ValueError, match="parameter called weight, got Flatten"):
        spectral_norm(nn.Flatten())
    with pytest.raises(ValueError, match=r"two dimensions, got shape \(3,\)"):
        spectral_norm(nn.BatchNorm1d(3))
    with pytest.raises(ValueError, match="iterations must be at least 1, got 0"):
        spectral_norm(nn.Linear(2, 2), 0)


def test_a_refused_module_is_left_as_it_was():
    layer = nn.BatchNorm1d(3)
    with pytest.raises(ValueError, match="dimensions"):
        spectral_norm(layer)
    assert not parametrize.is_parametrized(layer)
