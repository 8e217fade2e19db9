"""Packed discriminators and instance noise: which samples meet, how strong the noise is, who sees it."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ganlib.layers import InstanceNoise, Packed, mixes_samples
from ganlib.losses import R1, NonSaturating
from ganlib.models.gan import GAN
from ganlib.training import Settings, Trainer
from ganlib.training.checkpoint import NAME, read


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def seeded(make, seed: int = 0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def game(discriminator: nn.Module, n_critic: int = 1, regularizers=()) -> GAN:
    generator = seeded(lambda: nn.Linear(2, 3))
    generator.latent_dim = 2
    return GAN(generator, discriminator, NonSaturating(), regularizers, n_critic)


def trainer(chosen: GAN, out=None) -> Trainer:
    sgd = partial(torch.optim.SGD, lr=0.1)
    settings = Settings(dict.fromkeys(chosen.turns, sgd), batch_size=4, precision="32-true", log_every=1)
    return Trainer(chosen, normal(16, 3), settings, out=out, progress=False)


# Packing


@pytest.mark.parametrize("m", [1, 2, 3])
def test_neighbours_are_packed_channel_after_channel(m):
    """Sample i of a batch is number i mod m in pack i // m, and brings its channels in one piece."""
    x = normal(6, 2, 3, 4)
    packs = Packed(nn.Identity(), m)(x)
    assert packs.shape == (6 // m, 2 * m, 3, 4)
    for i in range(6):
        for c in range(2):
            assert torch.equal(packs[i // m, (i % m) * 2 + c], x[i, c])


def test_points_are_packed_too():
    x = torch.arange(8.0).view(4, 2)
    assert Packed(nn.Identity(), 2)(x).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_channels_last_batches_are_packed_alike():
    x = normal(4, 3, 5, 5)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.equal(Packed(nn.Identity(), 2)(last), Packed(nn.Identity(), 2)(x))


def test_loss_is_the_mean_over_packs(monkeypatch):
    inner = seeded(lambda: nn.Linear(6, 1))
    g = game(Packed(inner, 2))
    z, real = normal(8, 2, seed=1), normal(8, 3, seed=2)
    monkeypatch.setattr(g, "latent", lambda n: z)
    fake = g.generator(z)
    ones, zeros = torch.ones(4, 1), torch.zeros(4, 1)
    d = binary_cross_entropy_with_logits(inner(real.view(4, 6)), ones)
    d = d + binary_cross_entropy_with_logits(inner(fake.view(4, 6)), zeros)
    torch.testing.assert_close(g.loss("discriminator", (real,))["adversarial"], d)
    expected = binary_cross_entropy_with_logits(inner(fake.view(4, 6)), ones)
    torch.testing.assert_close(g.loss("generator", (real,))["adversarial"], expected)


def test_a_pack_tells_collapse_that_single_samples_hide():
    """D(x, y) = |x - y|: 0 for packs of copies, though every sample by itself is like the data's."""

    class Apart(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x[:, :3] - x[:, 3:]).abs().sum(1)

    assert not Packed(Apart(), 2)(normal(1, 3).expand(6, 3)).any()
    assert (Packed(Apart(), 2)(normal(6, 3)) > 0).all()


def test_every_sample_of_a_pack_gets_its_gradient():
    """D = <w, pack>: sample i receives the piece of w at its place."""
    weight, x = normal(6), normal(4, 3).requires_grad_()

    class Inner(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x @ weight

    Packed(Inner(), 2)(x).sum().backward()
    torch.testing.assert_close(x.grad, weight.view(2, 3).repeat(2, 1))


def test_penalty_on_packs():
    """D(x, y) = a |pack|^2 / 2 has slope a x_i at each sample: R1 is gamma/2 a^2 E|x|^2, d/da as usual."""

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(torch.tensor(0.7))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.a * x.square().sum(1) / 2

    packed, real = Packed(Inner(), 2), normal(6, 3)
    value = R1(3.0)(packed, real, real)
    value.backward()
    squares = real.square().sum(1).mean()
    torch.testing.assert_close(value.detach(), 1.5 * 0.49 * squares)
    torch.testing.assert_close(packed.discriminator.a.grad, 3 * 0.7 * squares)


def test_one_pass_equals_two():
    """Both are whole packs, so no pack would mix real and fake; the game makes two passes all the same."""
    g = game(Packed(seeded(lambda: nn.Linear(6, 1)), 2))
    assert mixes_samples(g.discriminator) and g.separate_passes
    real, fake = normal(4, 3, seed=1), normal(4, 3, seed=2)
    apart = g.judge(real, fake)
    g.separate_passes = False
    for one, two in zip(g.judge(real, fake), apart, strict=True):
        torch.testing.assert_close(one, two)


def test_packing_refuses():
    with pytest.raises(ValueError, match="m must be at least 1, got 0"):
        Packed(nn.Identity(), 0)
    with pytest.raises(ValueError, match="whole packs of 2 samples, got 5"):
        Packed(nn.Identity(), 2)(torch.zeros(5, 3))


# Instance noise


def deviation(noisy: InstanceNoise, n: int = 20_000) -> float:
    """The noise's standard deviation as measured on a sample at 3: its error is 0.5 % of it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen = noisy(torch.full((n, 1), 3.0))
    assert seen.mean().item() == pytest.approx(3, abs=0.02 * max(noisy.std, 1e-3))
    return seen.std().item()


def test_noise_has_its_standard_deviation_on_every_entry():
    noisy = InstanceNoise(nn.Identity(), 0.5)
    assert deviation(noisy) == pytest.approx(0.5, rel=0.02)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = noisy(torch.zeros(2, 3, 4)), noisy(torch.zeros(2, 3, 4))
    assert len(first.unique()) == first.numel() and not (first == second).any()


def test_noise_without_steps_stays():
    noisy = InstanceNoise(nn.Identity(), 0.5)
    for _ in range(10):
        noisy.after_step()
    assert deviation(noisy) == pytest.approx(0.5, rel=0.02)
    assert not noisy.state_dict()


def test_noise_falls_linearly_to_nothing():
    noisy, x = InstanceNoise(nn.Identity(), 2.0, steps=4), normal(5, 3)
    found = []
    for _ in range(6):
        found.append(deviation(noisy))
        noisy.after_step()
    assert found == pytest.approx([2, 1.5, 1, 0.5, 0, 0], rel=0.02, abs=1e-6)
    assert torch.equal(noisy(x), x), "after the last step nothing is left of it"


def test_noise_is_annealed_by_discriminator_steps_of_a_run():
    """Three rounds of two: the generator's turns do not count."""
    noisy = InstanceNoise(seeded(lambda: nn.Linear(3, 1)), 1.0, steps=12)
    trainer(game(noisy, n_critic=2)).fit(3)
    assert noisy.step.item() == 6
    noisy.discriminator = nn.Identity()
    assert deviation(noisy) == pytest.approx(0.5, rel=0.02)


def test_resumed_annealing_equals_an_undisturbed_one(tmp_path):
    def run(folder: str, seed: int = 0) -> Trainer:
        noisy = InstanceNoise(seeded(lambda: nn.Linear(3, 1), seed), 1.0, steps=10)
        return trainer(game(noisy), tmp_path / folder)

    run("whole").fit(6)
    run("cut").fit(4)
    second = run("cut", seed=3)
    assert second.resume() and second.game.discriminator.step.item() == 4
    second.fit(6)
    left, right = (read(tmp_path / folder / NAME)[0] for folder in ("whole", "cut"))
    assert left["game.discriminator.step"].item() == 6
    assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def test_real_and_fake_samples_are_both_noisy():
    seen = []

    class Seer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach())
            return self.scale * x.sum(1)

    g, real = game(InstanceNoise(Seer(), 0.5)), torch.zeros(4, 3)
    g.loss("discriminator", (real,))
    assert (seen[0][:4] != 0).all(), "real samples went in as they were"
    nn.init.zeros_(g.generator.weight)
    nn.init.zeros_(g.generator.bias)
    g.loss("generator", (real,))
    assert (seen[1] != 0).all(), "fakes went in as they were"


def test_gradients_pass_the_noise():
    """dD(x + noise)/dx = 1 for D the sum: the noise is added, it scales nothing."""
    x = normal(4, 3).requires_grad_()
    InstanceNoise(nn.Identity(), 5.0, steps=3)(x).sum().backward()
    assert torch.equal(x.grad, torch.ones(4, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [None, 4])
def test_noise_keeps_dtype(dtype, steps):
    assert InstanceNoise(nn.Identity(), 1.0, steps)(torch.ones(2, 3, dtype=dtype)).dtype == dtype


def test_noise_mixes_no_samples():
    assert not mixes_samples(InstanceNoise(nn.Linear(2, 1), 1.0))
    assert mixes_samples(InstanceNoise(Packed(nn.Linear(4, 1), 2), 1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": -1.0}, "std must be at least 0, got -1"),
        ({"std": float("nan")}, "std must be at least 0, got nan"),
        ({"std": 1.0, "steps": 0}, "steps must be at least 1 or None, got 0"),
    ],
)
def test_noise_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        InstanceNoise(nn.Identity(), **arguments)
