"""BigGAN: its networks' published sizes, its embedding and latents, orthogonal regularization, truncation."""

import numpy as np
import pytest
import torch
from torch import nn

from ganlib import systems
from ganlib.data import Images
from ganlib.layers import ConditionalBatchNorm, SpectralNorm
from ganlib.losses import Hinge
from ganlib.models.biggan import OrthogonalRegularization, off_diagonal_energy, paper_networks
from ganlib.models.conditional import ConditionalGAN
from ganlib.models.sagan import Discriminator, Generator, paper_widths
from ganlib.training import Budget


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def count(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


def pictures(n: int = 48, size: int = 16, classes: int = 3) -> Images:
    images = torch.rand(n, 1, size, size, generator=rng()) * 2 - 1
    return Images(images, torch.arange(n) % classes)


def generator(size: int = 16) -> Generator:
    levels = size.bit_length() - 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Generator(
            4 * levels, [16] * levels, 3, attention=8, shared=5, skip_z=True, initialize=nn.init.orthogonal_
        )


# Sizes


def test_published_sizes(monkeypatch):
    """Exactly the counts that google/compare_gan's test asserts of the original networks; and table 1 of the
    paper, in millions for both networks, which leaves the shared embedding's 128,000 numbers out."""
    # Fifteen power iterations per layer move no numbers on the meta device, and take seconds.
    monkeypatch.setattr(SpectralNorm, "iterate", lambda *arguments: None)
    table = 1000 * 128
    with torch.device("meta"):
        g, d = paper_networks(128, 3, 1000)
        assert (count(g), count(d)) == (70_433_988, 87_982_370)
        widths, _, _ = paper_widths(128, 96)
        plain = Generator(128, widths, 1000, 3, attention=64)
        shared = Generator(128, widths, 1000, 3, attention=64, shared=128)
    for found, published in (
        (count(g, d) - table, 158.3),  # all changes
        (count(shared, d) - table, 160.6),  # the shared embedding alone
        (count(plain, d), 173.5),  # neither it nor skip-z
    ):
        assert found / 1e6 == pytest.approx(published, abs=0.05)
    assert g.latent_dim == 120 and g.part == 20


# The shared embedding and the latents


def test_one_embedding_serves_all_layers():
    g = generator()
    assert [type(m) for m in g.modules()].count(nn.Embedding) == 1
    norms = [m for m in g.modules() if isinstance(m, ConditionalBatchNorm)]
    assert len(norms) == 4 and all(m.gain.in_features == m.shift.in_features == 5 + 4 for m in norms)
    seen = []
    for norm in norms:
        norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1][:, :5]))
    labels = torch.tensor([2, 0])
    g(torch.randn(2, 12, generator=rng()), labels).square().sum().backward()
    assert len(seen) == 4 and all(torch.equal(part, g.embedding.weight[labels]) for part in seen)
    assert g.embedding.weight.grad[[0, 2]].all() and not g.embedding.weight.grad[1].any()


def test_each_level_gets_its_part_of_z():
    """Part k of z leaves everything before block k as it was, and changes what comes out of it."""
    g = generator(32).eval()
    z, labels = torch.randn(1, 16, generator=rng()), torch.tensor([1])
    maps = []
    for block in g.blocks:
        block.register_forward_hook(lambda module, inputs, output: maps.append((inputs[0], output)))
    g(z, labels)
    before = maps.copy()
    for part in range(4):
        other = z.clone()
        other[:, 4 * part : 4 * part + 4] += 1
        maps.clear()
        g(other, labels)
        entered = [torch.equal(new[0], old[0]) for new, old in zip(maps, before, strict=True)]
        left = [torch.equal(new[1], old[1]) for new, old in zip(maps, before, strict=True)]
        # The first part makes the 4 x 4 map; part k enters at block k, counted from 1.
        assert entered == [block < part for block in range(3)]
        assert left == [block < part - 1 for block in range(3)]


# Orthogonal regularization

WEIGHTS = [(3, 5), (5, 3), (4, 2, 3, 3), (20, 2, 3, 3), (6, 6)]


def weight(shape: tuple[int, ...]) -> torch.Tensor:
    return torch.randn(shape, generator=rng(), dtype=torch.float64).requires_grad_()


@pytest.mark.parametrize("shape", WEIGHTS)
def test_energy_is_the_sum_of_squared_products_of_different_filters(shape):
    """In loops; wide and tall weights take different ways. 1e-12: relative, sums of float64 numbers."""
    w = weight(shape)
    filters = w.detach().numpy().reshape(shape[0], -1)
    wanted = sum((a @ b) ** 2 for i, a in enumerate(filters) for j, b in enumerate(filters) if i != j)
    assert off_diagonal_energy(w).item() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("shape", WEIGHTS[:4])
def test_gradient_of_the_energy(shape):
    """By finite differences, and 4 (W W' - diag) W from calculus."""
    w = weight(shape)
    assert torch.autograd.gradcheck(off_diagonal_energy, w, atol=1e-5, rtol=1e-5)
    (slope,) = torch.autograd.grad(off_diagonal_energy(w), w)
    filters = w.detach().flatten(1)
    gram = filters @ filters.T
    wanted = 4 * (gram - gram.diag().diag()) @ filters
    torch.testing.assert_close(slope.flatten(1), wanted, atol=1e-10, rtol=1e-10)


def test_lengths_are_free():
    """Orthogonal filters of any length cost nothing; the older penalty on W W' - I would charge for them."""
    filters = torch.diag(torch.tensor([0.1, 2.0, 30.0]))
    assert off_diagonal_energy(filters) == 0
    assert off_diagonal_energy(torch.ones(2, 1)).item() == 2  # tall: two filters that are one


def test_regularization_in_a_generator():
    """The sum over all weights as the optimizer has them, embeddings and biases left out."""
    g = generator()
    term = OrthogonalRegularization(g, weight=0.01)
    named = {n: p for n, p in g.named_parameters() if n.endswith("original") or n.endswith("gamma")}
    wanted = 0.0
    for name, p in named.items():
        if p.ndim >= 2:
            filters = p.detach().double().flatten(1).numpy()
            gram = filters @ filters.T
            wanted += (gram**2).sum() - (np.diag(gram) ** 2).sum()
            assert "embedding" not in name
    # 1e-4: float32 with the diagonal's cancellation, at orthogonal weights, where little is left
    assert term(None, None, None).item() == pytest.approx(0.01 * wanted, rel=1e-4)
    term(None, None, None).backward()
    moved = {n for n, p in g.named_parameters() if p.grad is not None}
    assert moved == {n for n, p in named.items() if p.ndim >= 2}


def test_orthogonal_weights_start_near_zero_where_they_can():
    """Weights of at most as many filters as numbers each are drawn orthogonal: energy is rounding."""
    g = generator()
    for name, p in g.named_parameters():
        if name.endswith("original") and len(p) <= p[0].numel():
            assert off_diagonal_energy(p).item() < 1e-9, name


def test_the_term_is_the_generators_alone():
    g = generator()
    d = Discriminator((8, 16), 3, 1, 16, attention=8, initialize=nn.init.orthogonal_)
    regularizer = OrthogonalRegularization(g)
    game = ConditionalGAN(g, d, Hinge(), classes=3, generator_regularizers=[regularizer])
    batch = pictures(6)
    assert set(game.loss("discriminator", batch)) == {"adversarial"}
    terms = game.loss("generator", batch)
    terms["orthogonality"].backward()
    assert all(p.grad is None for p in d.parameters())
    assert g.first.parametrizations.weight.original.grad.any()
    # The regularizer holds the generator, which must not become two players' or saved twice.
    assert not any(name.startswith(("counting", "generator_reg")) for name, _ in game.named_parameters())


# The system


def test_truncated_samples_are_more_alike():
    """With untrained weights already: smaller latents, images nearer to their class's mean."""
    d = Discriminator((8, 16), 3, 1, 16, attention=8)
    game = ConditionalGAN(generator(), d, Hinge(), classes=3)
    labels = torch.zeros(64, dtype=torch.int64)
    spread = [game.sample(64, rng(), labels, truncation=t).var(0).mean() for t in (0.1, 0.5, 2.0)]
    assert spread[0] < 0.5 * spread[1] < 0.5 * spread[2]


def test_constants():
    """Brock et al. 2019, appendix C: Adam 5e-5 and 2e-4, betas (0, 0.999), two steps of D, batches of 2,048,
    averages of 0.9999; beta 1e-4."""
    experiment = systems.get("biggan").experiment(Budget.GPU, data=pictures())
    game, settings = experiment.game, experiment.settings
    assert isinstance(game.adversarial, Hinge) and game.turns == {"discriminator": 2, "generator": 1}
    assert settings.batch_size == 2048 and settings.ema == {"generator": 0.9999}
    (regularizer,) = game.generator_regularizers
    assert regularizer.generator is game.generator and regularizer.weight == 1e-4
    for player, rate in (("generator", 5e-5), ("discriminator", 2e-4)):
        optimizer = settings.optimizers[player](game.players[player].parameters())
        assert optimizer.defaults["lr"] == rate and optimizer.defaults["betas"] == (0.0, 0.999)
