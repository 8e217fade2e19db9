"""Virtual batch normalization against numpy and torch's batch norm; who depends on whom."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from ganlib.layers import Referenced, VirtualBatchNorm, mixes_samples
from ganlib.losses import R1, NonSaturating
from ganlib.models.gan import GAN
from ganlib.training import Settings, Trainer
from ganlib.training.checkpoint import NAME, read


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer(channels: int) -> VirtualBatchNorm:
    norm = VirtualBatchNorm(channels).double()
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, channels))
        norm.bias.copy_(torch.linspace(-1, 1, channels))
    return norm


def naive(norm: VirtualBatchNorm, reference: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Sample by sample, mean and mean square weighed R to 1, as the docstring has it."""
    r, out = len(reference), np.empty_like(x)
    for i, sample in enumerate(x):
        for c in range(x.shape[1]):
            mean = (r * reference[:, c].mean() + sample[c].mean()) / (r + 1)
            square = (r * (reference[:, c] ** 2).mean() + (sample[c] ** 2).mean()) / (r + 1)
            scaled = (sample[c] - mean) / np.sqrt(square - mean**2 + norm.eps)
            out[i, c] = norm.weight[c].item() * scaled + norm.bias[c].item()
    return out


SHAPES = [(3, 4, 5), (3,), (2, 6)]


@pytest.mark.parametrize("shape", SHAPES)
def test_against_numpy(shape):
    norm, reference, x = layer(shape[0]), 2 * normal(6, *shape) + 3, normal(4, *shape, seed=1) - 1
    found = Referenced(norm, reference)(x)
    np.testing.assert_allclose(
        found.detach(), naive(norm, reference.numpy(), x.numpy()), rtol=1e-11, atol=1e-12
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_reference_batch_is_normalised_by_itself(shape):
    """Mean 0 and variance 1 in each channel, as torch's batch norm does it."""
    seen = {}

    class Seer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = VirtualBatchNorm(shape[0]).double()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen["all"] = self.norm(x)
            return seen["all"]

    reference = 3 * normal(6, *shape) + 5
    Referenced(Seer(), reference)(normal(4, *shape, seed=1))
    found = seen["all"][:6].detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(found.mean(1), torch.zeros(shape[0]).double(), rtol=0, atol=1e-12)
    # epsilon, 1e-5 on a variance of 9, is all that is missing from 1.
    torch.testing.assert_close(found.var(1, correction=0), torch.ones(shape[0]).double(), rtol=0, atol=1e-5)
    theirs = nn.functional.batch_norm(
        reference.flatten(2) if len(shape) > 1 else reference, None, None, training=True
    )
    torch.testing.assert_close(seen["all"][:6].detach().reshape(theirs.shape), theirs)


def test_a_sample_does_not_depend_on_the_others():
    network = Referenced(
        nn.Sequential(nn.Conv2d(2, 3, 3), VirtualBatchNorm(3), nn.ReLU()).double(), normal(4, 2, 5, 5)
    )
    x = normal(6, 2, 5, 5, seed=1)
    whole = network(x)
    assert len(whole) == 6, "the references are not given out"
    # Convolutions of other batch sizes may sum in another order.
    torch.testing.assert_close(torch.cat([network(one) for one in x.split(1)]), whole, rtol=1e-10, atol=1e-12)
    x.requires_grad_()
    (gradient,) = torch.autograd.grad(network(x)[2].square().sum(), x)
    assert gradient[2].any() and not gradient[[0, 1, 3, 4, 5]].any()
    assert not mixes_samples(network)


def test_it_does_depend_on_the_references():
    norm, x = layer(3), normal(4, 3)
    assert not torch.allclose(Referenced(norm, normal(5, 3))(x), Referenced(norm, normal(5, 3) + 1)(x))


def test_by_finite_differences():
    network = Referenced(layer(2), normal(3, 2, 2))
    assert torch.autograd.gradcheck(network, normal(3, 2, 2, seed=1).requires_grad_())
    assert torch.autograd.gradgradcheck(network, normal(3, 2, 2, seed=1).requires_grad_())


def test_gradients_reach_what_lies_before_the_reference():
    """The statistics have a gradient: they are computed by the very weights that train."""
    first = nn.Linear(3, 3).double()
    network = Referenced(nn.Sequential(first, VirtualBatchNorm(3)).double(), normal(4, 3))
    x = normal(2, 3, seed=1)

    def output(weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(network, {"network.0.weight": weight}, (x,))

    assert torch.autograd.gradcheck(output, first.weight.detach().clone().requires_grad_())


def test_large_means_do_not_cancel():
    """A mean 10,000 times the deviation: E x^2 - (E x)^2 would have no digit left in float32."""
    x, reference = normal(3, 2, 64, seed=1), normal(5, 2, 64)
    norm = VirtualBatchNorm(2)
    exact = Referenced(norm.double(), reference)(x).detach()
    found = Referenced(norm.float(), (reference + 1e4).float())((x + 1e4).float()).detach()
    # At 1e4 float32 has steps of 0.001, which is what the inputs have lost.
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=0.005)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_keeps_dtype_and_computes_in_float32(dtype):
    network, x = Referenced(VirtualBatchNorm(2), normal(4, 2, 3)), normal(3, 2, 3, seed=1).to(dtype)
    y = network(x)
    assert y.dtype == dtype
    exact = copy.deepcopy(network).double()(x.double())
    torch.testing.assert_close(y.double(), exact, rtol=2**-7, atol=2**-7)  # bfloat16 has 8 bits


# In a game


def run(out, seed: int = 0) -> Trainer:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        inner = nn.Sequential(nn.Linear(2, 6), VirtualBatchNorm(6), nn.ReLU(), nn.Linear(6, 3))
        inner.latent_dim = 2
        generator = Referenced(inner, normal(5, 2, seed=seed + 1).float())
        judge = nn.Sequential(nn.Linear(3, 6), VirtualBatchNorm(6), nn.ReLU(), nn.Linear(6, 1))
        discriminator = Referenced(judge, normal(5, 3, seed=seed + 2).float())
    game = GAN(generator, discriminator, NonSaturating(), [R1()])
    sgd = partial(torch.optim.SGD, lr=0.1)
    settings = Settings(dict.fromkeys(game.turns, sgd), batch_size=4, precision="32-true", log_every=1)
    return Trainer(game, normal(16, 3).float(), settings, out=out, progress=False)


def test_both_players_can_have_references(tmp_path):
    trainer = run(None)
    game = trainer.game
    assert game.generator.latent_dim == 2
    before = {name: p.detach().clone() for name, p in game.named_parameters()}
    trainer.fit(2)
    # A bias before a normalization is subtracted again: its gradient is 0.
    still = {name for name, p in game.named_parameters() if torch.equal(p, before[name])}
    assert still <= {"generator.network.0.bias", "discriminator.network.0.bias"}
    assert game.sample(7).shape == (7, 3)


def test_one_pass_equals_two():
    """Real and fake samples need no passes of their own: neither sees the other."""
    game = run(None).game
    assert not game.separate_passes
    real, fake = normal(4, 3, seed=5).float(), normal(4, 3, seed=6).float()
    together = game.judge(real, fake)
    game.separate_passes = True
    for one, two in zip(together, game.judge(real, fake), strict=True):
        torch.testing.assert_close(one, two)


def test_checkpoint_keeps_the_reference(tmp_path):
    whole = run(tmp_path / "whole")
    whole.fit(5)
    run(tmp_path / "cut").fit(3)
    second = run(tmp_path / "cut", seed=7)
    assert second.resume()
    second.fit(5)
    left, right = (read(tmp_path / folder / NAME)[0] for folder in ("whole", "cut"))
    assert {"game.generator.reference", "game.discriminator.reference"} <= set(left)
    assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_reference_is_a_copy():
    reference = normal(3, 2)
    network = Referenced(VirtualBatchNorm(2), reference)
    reference.zero_()
    assert network.reference.any()


# Input


def test_refuses():
    with pytest.raises(ValueError, match="channels must be at least 1, got 0"):
        VirtualBatchNorm(0)
    with pytest.raises(ValueError, match="reference must hold at least two samples, got 1"):
        Referenced(VirtualBatchNorm(2), normal(1, 2))
    with pytest.raises(ValueError, match="inside a Referenced network"):
        VirtualBatchNorm(2)(torch.zeros(3, 2))


def test_an_error_inside_leaves_nothing_behind():
    network = Referenced(nn.Sequential(VirtualBatchNorm(2), nn.Linear(3, 1)), torch.zeros(2, 2))
    with pytest.raises(RuntimeError):
        network(torch.zeros(4, 2))
    with pytest.raises(ValueError, match="inside a Referenced network"):
        VirtualBatchNorm(2)(torch.zeros(3, 2))
