"""Feature matching and pulling away: closed forms, naive loops, finite differences; who gets a gradient."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from ganlib.losses import (
    FeatureMatching,
    NonSaturating,
    PullingAway,
    feature_matching,
    features_at,
    pulling_away,
)
from ganlib.models.gan import GAN


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def discriminator(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.2), nn.Linear(6, 1), nn.Flatten(0)).double()


# Feature matching


def test_feature_matching_against_numpy():
    real, fake = normal(7, 3, 2, seed=1), normal(5, 3, 2, seed=2)
    apart = real.numpy().mean(0) - fake.numpy().mean(0)
    np.testing.assert_allclose(feature_matching(real, fake), (apart**2).sum(), rtol=1e-13)


def test_feature_matching_gradient_is_the_same_for_every_fake():
    """-2/M (mean of real - mean of fakes): where a fake lies itself does not matter."""
    real, fake = normal(7, 3, seed=1), normal(5, 3, seed=2).requires_grad_()
    feature_matching(real, fake).backward()
    wanted = -2 / 5 * (real.mean(0) - fake.detach().mean(0))
    torch.testing.assert_close(fake.grad, wanted.expand(5, 3))


def test_means_come_before_squares():
    """Batches of one mean and different samples match: sample by sample they would be pulled together."""
    real = torch.tensor([[3.0, -1.0], [-3.0, 1.0]])
    assert feature_matching(real, real.flip(0)).item() == 0
    assert feature_matching(real, 5 * real).item() == 0
    assert feature_matching(real, real + 1).item() == pytest.approx(2.0)


def test_feature_matching_treats_real_features_as_constants():
    real, fake = normal(4, 3, seed=1).requires_grad_(), normal(4, 3, seed=2).requires_grad_()
    feature_matching(real, fake).backward()
    assert real.grad is None and fake.grad is not None


def test_feature_matching_by_finite_differences():
    real = normal(4, 3, seed=1)
    assert torch.autograd.gradcheck(lambda f: feature_matching(real, f), normal(5, 3).requires_grad_())


def test_features_of_one_number_each():
    """``(N,)`` as a discriminator gives it: the squared difference of two means."""
    assert feature_matching(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])).item() == 2.25


@pytest.mark.parametrize(
    ("real", "fake"), [((4, 3), (4, 2)), ((4, 3), (4, 3, 1)), ((0, 3), (4, 3)), ((4, 3), (0, 3))]
)
def test_feature_matching_refuses(real, fake):
    with pytest.raises(ValueError, match="batches of one shape"):
        feature_matching(torch.zeros(real), torch.zeros(fake))


# Pulling away


def naive_pulling_away(embeddings: np.ndarray) -> float:
    n, total = len(embeddings), 0.0
    for i in range(n):
        for j in range(n):
            if i != j:
                a, b = embeddings[i].ravel(), embeddings[j].ravel()
                total += (a @ b / (np.linalg.norm(a) * np.linalg.norm(b))) ** 2
    return total / (n * (n - 1))


@pytest.mark.parametrize("shape", [(2, 3), (7, 5), (6, 2, 3, 3)])
def test_pulling_away_against_a_double_loop(shape):
    embeddings = normal(*shape)
    np.testing.assert_allclose(pulling_away(embeddings), naive_pulling_away(embeddings.numpy()), rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_pulling_away_is_0_on_orthogonal_and_1_on_identical_embeddings(dtype):
    # Powers of two and zeros, which every format holds: the 0 is exact.
    assert pulling_away(4 * torch.eye(5, dtype=dtype)).item() == 0
    alike = normal(1, 8).to(dtype).expand(5, 8)
    # A float32 norm is exact to 6e-8; so is its square's reciprocal, twice.
    assert pulling_away(alike).item() == pytest.approx(1, abs=1e-6)
    assert pulling_away(torch.cat([alike, -alike])).item() == pytest.approx(1, abs=1e-6)


def test_pulling_away_does_not_see_lengths():
    embeddings = normal(6, 4)
    lengths = torch.linspace(0.1, 30, 6, dtype=torch.float64)[:, None]
    torch.testing.assert_close(pulling_away(lengths * embeddings), pulling_away(embeddings))


def test_pulling_away_by_finite_differences():
    assert torch.autograd.gradcheck(pulling_away, normal(5, 3).requires_grad_())


def test_pulling_away_turns_embeddings_from_each_other():
    """Two unit vectors at angle t cost cos^2 t; the gradient on either is tangent, of length |sin 2t|."""
    t = 0.6
    pair = torch.tensor([[1.0, 0.0], [math.cos(t), math.sin(t)]], dtype=torch.float64, requires_grad=True)
    value = pulling_away(pair)
    value.backward()
    assert value.item() == pytest.approx(math.cos(t) ** 2, rel=1e-12)
    wanted = torch.tensor([[0.0, 1.0], [math.sin(t), -math.cos(t)]]).double() * math.sin(2 * t)
    torch.testing.assert_close(pair.grad, wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_zero_embeddings_give_no_nan(dtype):
    """As from a layer whose rectifiers are all off for a sample."""
    embeddings = torch.cat([torch.zeros(2, 3, dtype=dtype), normal(3, 3).to(dtype)]).requires_grad_()
    pulling_away(embeddings).backward()
    assert embeddings.grad.isfinite().all()


@pytest.mark.parametrize("n", [0, 1])
def test_pulling_away_needs_two(n):
    with pytest.raises(ValueError, match=f"at least two samples, got {n}"):
        pulling_away(torch.zeros(n, 3))


def test_under_bf16_autocast_both_are_computed_in_float32():
    real, fake = normal(64, 8, seed=1).bfloat16(), normal(64, 8, seed=2).bfloat16() + 1
    exact = feature_matching(real.double(), fake.double()), pulling_away(fake.double())
    with torch.autocast("cpu", torch.bfloat16):
        found = feature_matching(real, fake), pulling_away(fake)
    for value, wanted in zip(found, exact, strict=True):
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), wanted, rtol=1e-5, atol=0)  # float32 sums of 64


# Features from a layer


def test_features_are_the_layers_output():
    network, x = discriminator(), normal(5, 4)
    torch.testing.assert_close(features_at(network[1], network, x), network[1](network[0](x)))
    assert not network[1]._forward_hooks, "the hook was left behind"


def test_hook_is_removed_after_an_error():
    network = discriminator()
    with pytest.raises(RuntimeError):
        features_at(network[1], network, normal(5, 3))
    assert not network[1]._forward_hooks


def test_a_layer_of_another_network_is_refused():
    with pytest.raises(ValueError, match="layer must be a submodule"):
        features_at(discriminator()[1], discriminator(), normal(5, 4))


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda d: FeatureMatching(d[1], 3.0), lambda f, g: 3 * feature_matching(f, g)),
        (lambda d: PullingAway(d[1], 3.0), lambda f, g: 3 * pulling_away(g)),
    ],
    ids=["feature matching", "pulling away"],
)
def test_terms_of_a_game(make, wanted, monkeypatch):
    """The weighted value on the same fakes as the adversarial term; D gets nothing, G what autograd says."""
    d = discriminator()
    generator = nn.Linear(3, 4).double()
    generator.latent_dim = 3
    term = make(d)
    game = GAN(generator, d, NonSaturating(), generator_regularizers=[term])
    z, real = normal(8, 3, seed=1), normal(8, 4, seed=2)
    monkeypatch.setattr(game, "latent", lambda n: z)
    terms = game.loss("generator", (real,))
    assert list(terms) == ["adversarial", term.name]
    value = wanted(d[:2](real), d[:2](generator(z)))
    torch.testing.assert_close(terms[term.name], value)
    terms[term.name].backward()
    for parameter, expected in zip(
        generator.parameters(), torch.autograd.grad(value, list(generator.parameters())), strict=True
    ):
        assert expected.any()
        torch.testing.assert_close(parameter.grad, expected)
    assert all(p.grad is None and p.requires_grad for p in d.parameters())
    assert list(game.loss("discriminator", (real,))) == ["adversarial"]


def test_defaults_are_the_papers():
    layer = nn.Identity()
    assert (FeatureMatching(layer).weight, PullingAway(layer).weight) == (1.0, 0.1)
    assert (FeatureMatching(layer).name, PullingAway(layer).name) == ("feature matching", "pulling away")
