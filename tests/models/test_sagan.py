"""The conditional game: who sees which labels, who gets which gradient; and SAGAN's networks and recipe."""

import math
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from ganlib import systems
from ganlib.data import Images, mnist
from ganlib.layers import ConditionalBatchNorm, SelfAttention, SpectralNorm, attention_maps, mixes_samples
from ganlib.losses import R1, R2, GradientPenalty, Hinge, RelativisticPairing, Wasserstein
from ganlib.losses.penalties import interpolate
from ganlib.models.conditional import ConditionalGAN, requested_accuracy, truncated_normal
from ganlib.models.sagan import (
    Discriminator,
    DiscriminatorBlock,
    Generator,
    GeneratorBlock,
    paper_networks,
    paper_widths,
    small_widths,
)
from ganlib.random import normal
from ganlib.training import Budget, Settings, Trainer

adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.0, 0.9), eps=1e-3)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 48, size: int = 16, channels: int = 1, classes: int = 3) -> Images:
    images = torch.rand(n, channels, size, size, generator=rng()) * 2 - 1
    return Images(images, torch.arange(n) % classes)


class Painter(nn.Module):
    """G(z, y) = a z + y on points of the line: which label it got can be read off."""

    latent_dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, z, labels):
        self.seen = labels
        return self.scale * z + labels[:, None]


class Critic(nn.Module):
    """D(x, y) = w (y + 1) x."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(0.3))
        self.calls: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, x, labels):
        self.calls.append((x.detach().clone(), labels))
        return self.weight * (labels + 1) * x[:, 0]


def toy(loss=None, regularizers=(), **options) -> ConditionalGAN:
    return ConditionalGAN(Painter(), Critic(), loss or Hinge(), regularizers, classes=3, **options)


BATCH = (torch.tensor([[0.1], [5.0], [-0.3], [2.0]]), torch.tensor([0, 2, 1, 1]))


def play(game: ConditionalGAN, player: str) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The terms of a turn, and the latents that it drew."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        z = game.latent(4)
        torch.manual_seed(0)
        return game.loss(player, BATCH), z


# The game


def test_each_player_sees_the_batchs_labels_with_its_samples():
    real, labels = BATCH
    game = toy()
    _, z = play(game, "discriminator")
    assert torch.equal(game.generator.seen, labels)
    ((x, seen),) = game.discriminator.calls
    assert torch.equal(x, torch.cat([real, 0.5 * z + labels[:, None]]))
    assert torch.equal(seen, torch.cat([labels, labels])), "one pass, labels beside their samples"
    game.discriminator.calls.clear()
    _, z = play(game, "generator")
    ((x, seen),) = game.discriminator.calls
    assert torch.equal(x, 0.5 * z + labels[:, None]) and torch.equal(seen, labels)
    game.separate_passes = True
    game.discriminator.calls.clear()
    play(game, "discriminator")
    assert all(torch.equal(seen, labels) for _, seen in game.discriminator.calls)
    assert len(game.discriminator.calls) == 2


def test_losses_and_who_receives_them():
    """The hinge loss and both gradients by hand; 1e-6 is float32's rounding."""
    real, labels = BATCH
    game = toy()
    factor = (labels + 1).double().numpy()
    terms, z = play(game, "discriminator")
    fake = (0.5 * z + labels[:, None])[:, 0].double().numpy()
    shortfall = 1 - 0.3 * factor * real[:, 0].double().numpy()
    excess = 1 + 0.3 * factor * fake
    value = np.maximum(shortfall, 0).mean() + np.maximum(excess, 0).mean()
    assert terms["adversarial"].item() == pytest.approx(value, abs=1e-6)
    terms["adversarial"].backward()
    slope = ((excess > 0) * factor * fake).mean() - (
        (shortfall > 0) * factor * real[:, 0].double().numpy()
    ).mean()
    assert game.discriminator.weight.grad.item() == pytest.approx(slope, abs=1e-6)
    assert game.generator.scale.grad is None

    game = toy()
    terms, z = play(game, "generator")
    assert terms["adversarial"].item() == pytest.approx(-(0.3 * factor * fake).mean(), abs=1e-6)
    terms["adversarial"].backward()
    wanted = -(0.3 * factor * z[:, 0].double().numpy()).mean()
    assert game.generator.scale.grad.item() == pytest.approx(wanted, abs=1e-6)
    assert game.discriminator.weight.grad is None


def test_penalties_see_each_sample_with_its_label():
    """With D = w (y + 1) x^2 the slope at x is 2 w (y + 1) |x|, at real points, fakes and between alike."""

    class Curved(Critic):
        def forward(self, x, labels):
            return self.weight * (labels + 1) * x[:, 0].square()

    real, labels = BATCH
    with torch.random.fork_rng():
        torch.manual_seed(0)
        fake = 0.5 * normal(4, 1) + labels[:, None]
        between = interpolate(real, fake)

    def squares(x, target=0.0):
        return (0.6 * (labels + 1) * x[:, 0].abs() - target).double().square().mean().item()

    for penalty, value in (
        (R1(10.0), 5 * squares(real)),
        (R2(10.0), 5 * squares(fake)),
        (GradientPenalty(), 10 * squares(between, 1.0)),
    ):
        game = ConditionalGAN(Painter(), Curved(), Wasserstein(), [penalty], classes=3)
        terms, _ = play(game, "discriminator")
        assert terms[penalty.name].item() == pytest.approx(value, rel=1e-5)  # float32


def test_a_relativistic_pair_has_one_class():
    """Each fake beside the real sample of its class, in both turns, D told that class for both."""
    real, labels = BATCH
    for player, sign in (("discriminator", -1), ("generator", 1)):
        terms, z = play(toy(RelativisticPairing()), player)
        lead = 0.3 * (labels + 1) * (real - 0.5 * z - labels[:, None])[:, 0]
        wanted = F.softplus(sign * lead).mean().item()
        assert terms["adversarial"].item() == pytest.approx(wanted, abs=1e-6)


def test_terms_of_the_generator_reach_it():
    class Wide:
        name = "wide"

        def __call__(self, discriminator, real, fake):
            assert discriminator(fake).shape == (4,), "the labels are filled in"
            return fake.square().mean()

    game = toy(generator_regularizers=[Wide()])
    terms, _ = play(game, "generator")
    terms["wide"].backward()
    assert game.generator.scale.grad.abs() > 0
    assert "wide" not in play(game, "discriminator")[0]


def test_samples_are_of_the_classes_asked_for():
    game = toy()
    labels = torch.tensor([2, 0, 1, 2, 2])
    samples = game.sample(5, rng(), labels, batch_size=2)
    z = game.latent(5, rng())
    torch.testing.assert_close(samples[:, 0], 0.5 * z[:, 0] + labels, atol=1e-6, rtol=0)
    assert torch.equal(game.sample(7, rng(3)), game.sample(7, rng(3)))


def test_labels_are_uniform_where_none_are_given():
    """A chi-square test: its p-value is uniform, so 1e-3 fails one seed in a thousand; this one passes."""
    labels = toy().draw_labels(3000, rng())
    assert labels.dtype == torch.int64
    assert stats.chisquare(np.bincount(labels.numpy(), minlength=3)).pvalue > 1e-3
    game = toy()
    game.generator.scale.data.zero_()
    assert stats.chisquare(np.bincount(game.sample(3000, rng())[:, 0].int().numpy())).pvalue > 1e-3


def test_errors():
    with pytest.raises(ValueError, match="classes must be at least 1, got 0"):
        ConditionalGAN(Painter(), Critic(), Hinge(), classes=0)
    with pytest.raises(ValueError, match="batch must be samples and their labels, got 1 tensors"):
        toy().loss("generator", BATCH[:1])
    for labels in (torch.zeros(3, dtype=torch.int64), torch.zeros(2), torch.zeros(2, 1, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"labels must be int64 of shape \(2,\)"):
            toy().sample(2, rng(), labels)
    for labels in (torch.tensor([0, 3]), torch.tensor([-1, 0])):
        with pytest.raises(ValueError, match=r"labels must be in 0\.\.2"):
            toy().sample(2, rng(), labels)
    for threshold in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold must be positive"):
            toy().sample(2, rng(), truncation=threshold)
    with pytest.raises(ValueError, match="ten classes of MNIST, got 3"):
        requested_accuracy(toy())


class Copyist(nn.Module):
    """A generator that knows the test set, and may or may not do what it is asked."""

    latent_dim = 1

    def __init__(self, obeys: bool) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.obeys = obeys
        data = mnist("test")
        self.examples = torch.stack([data.images[data.labels == digit][:40] for digit in range(10)])

    def forward(self, z, labels):
        if not self.obeys:
            labels = (labels + 1) % 10
        which = (z[:, 0].abs() * 1000).long() % 40
        return self.examples[labels, which]


@pytest.mark.parametrize(("obeys", "low", "high"), [(True, 0.97, 1.0), (False, 0.0, 0.03)])
def test_requested_accuracy_on_real_digits(obeys, low, high):
    """The classifier gets about one real digit in 200 wrong; drawing the next digit scores that little."""
    game = ConditionalGAN(Copyist(obeys), Critic(), Hinge(), classes=10)
    assert low <= requested_accuracy(game, 200) <= high


# Truncated latents


@pytest.mark.parametrize("threshold", [0.1, 0.5, 1.0, 2.0])
def test_truncated_latents_have_the_truncated_normal_law(threshold):
    """Against scipy's: second and fourth moments within five standard errors, and the whole law."""
    z = truncated_normal(20_000, 2, threshold=threshold, rng=rng()).double().flatten().numpy()
    law = stats.truncnorm(-threshold, threshold)
    assert np.abs(z).max() <= threshold * (1 + 1e-6)  # rounded to float32
    for power in (1, 2, 3, 4):
        error = math.sqrt((law.moment(2 * power) - law.moment(power) ** 2) / z.size)
        assert (z**power).mean() == pytest.approx(law.moment(power), abs=5 * error)
    # uniform under the hypothesis: this seed passes at 1e-3
    assert stats.kstest(z, law.cdf).pvalue > 1e-3


def test_latents_shrink_together():
    """The same random numbers: signs stay, magnitudes grow with t, and infinity cuts nothing off."""
    z = [truncated_normal(500, 3, threshold=t, rng=rng()) for t in (0.2, 1.0, 3.0, math.inf)]
    for small, large in pairwise(z):
        assert torch.equal(small.sign(), large.sign()) and (small.abs() <= large.abs()).all()
    assert stats.kstest(z[-1].flatten().numpy(), stats.norm.cdf).pvalue > 1e-3


def test_no_random_number_makes_an_infinite_latent(monkeypatch):
    """The least and the greatest that torch draws from [0, 1) in float32."""
    for extreme in (0.0, 1 - 2.0**-24):
        monkeypatch.setattr("ganlib.models.conditional.uniform", lambda *a, u=extreme, **k: torch.tensor([u]))
        assert truncated_normal(1, threshold=math.inf).isfinite().all()
        assert truncated_normal(1, threshold=2.0).abs() <= 2


def test_samples_from_truncated_latents():
    """G(z, y) - y = z / 2: its variance is a quarter of the truncated normal's."""
    labels = torch.zeros(4000, dtype=torch.int64)
    samples = toy().sample(4000, rng(), labels, truncation=0.5)[:, 0].double()
    law = stats.truncnorm(-0.5, 0.5)
    error = math.sqrt((law.moment(4) - law.var() ** 2) / 4000) / 4
    assert samples.square().mean().item() == pytest.approx(law.var() / 4, abs=5 * error)


# SAGAN's blocks


def test_generator_block():
    """The docstring's formula, with the shortcut's convolution after the doubling as the authors have it."""
    block = GeneratorBlock(4, 6, partial(ConditionalBatchNorm.per_class, classes=2)).double()
    x = torch.randn(3, 4, 2, 2, generator=rng(), dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])

    def double(h):
        return h.repeat_interleave(2, 2).repeat_interleave(2, 3)

    h = block.conv1(double(F.relu(F.batch_norm(x, None, None, training=True))))
    h = block.conv2(F.relu(F.batch_norm(h, None, None, training=True)))
    out = block(x, labels)
    assert out.shape == (3, 6, 4, 4)
    # 1e-12: sums of some tens of float64 numbers
    torch.testing.assert_close(out, h + block.skip(double(x)), atol=1e-12, rtol=0)


def test_discriminator_block():
    x = torch.randn(3, 4, 4, 4, generator=rng(), dtype=torch.float64)
    before = x.clone()
    for first in (True, False):
        block = DiscriminatorBlock(4, 6, first=first).double()
        h = block.conv2(F.relu(block.conv1(x if first else F.relu(x))))
        wanted = F.avg_pool2d(h, 2) + F.avg_pool2d(block.skip(x), 2)
        torch.testing.assert_close(block(x), wanted, atol=1e-12, rtol=0)
    assert torch.equal(x, before), "a rectifier in place would have changed the shortcut"
    block = DiscriminatorBlock(4, 4, halve=False).double()
    torch.testing.assert_close(block(x) - x, block.conv2(F.relu(block.conv1(F.relu(x)))), atol=1e-12, rtol=0)
    assert isinstance(DiscriminatorBlock(4, 6, halve=False).skip, nn.Conv2d)


# SAGAN's networks


@pytest.fixture
def sizes_only(monkeypatch):
    """Fifteen power iterations per layer move no numbers on the meta device, and take seconds."""
    monkeypatch.setattr(SpectralNorm, "iterate", lambda *arguments: None)


def small(size: int = 16, classes: int = 3) -> tuple[Generator, Discriminator]:
    widths, judging, keep = small_widths(size, 8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return (
            Generator(6, widths, classes, 1, attention=8),
            Discriminator(judging, classes, 1, size, keep=keep, attention=8),
        )


def test_everything_is_spectrally_normalised_but_the_generators_tables():
    for network in small():
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                assert parametrize.is_parametrized(layer, "weight"), name
    generator, discriminator = small()
    tables = [m for m in generator.modules() if isinstance(m, nn.Embedding)]
    assert tables and not any(parametrize.is_parametrized(table, "weight") for table in tables)
    table = discriminator.judge.classes
    # fifteen power iterations leave the norm of a 3 x 16 matrix within a percent
    assert torch.linalg.matrix_norm(table.weight, 2).item() == pytest.approx(1, abs=0.01)


def test_one_pass_over_real_and_fake_is_two_passes():
    """No batch norm in D, so that the game may join them; G has it and D's outputs do not mix samples."""
    generator, discriminator = small()
    assert mixes_samples(generator) and not mixes_samples(discriminator)
    real, labels = pictures(4)
    fake = generator(torch.randn(4, 6, generator=rng()), labels).detach()
    discriminator.eval()
    together = discriminator(torch.cat([real, fake]), labels.repeat(2))
    apart = torch.cat([discriminator(real, labels), discriminator(fake, labels)])
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=0)  # float32 sums in another order


def test_discriminator_is_unconditional_plus_inner_product():
    _, discriminator = small()
    discriminator.eval()
    x, labels = pictures(5)
    h = F.relu(discriminator.features(x)).sum((2, 3)).double()
    judge = discriminator.judge
    plain = F.linear(h, judge.unconditional.weight.double(), judge.unconditional.bias.double())[:, 0]
    inner = (judge.classes.weight[labels].double() * h).sum(1)
    torch.testing.assert_close(discriminator(x, labels).double(), plain + inner, atol=1e-4, rtol=1e-5)
    assert inner.abs().max() > 0.01


def test_shapes_and_maps():
    generator, discriminator = small(32)
    z, labels = torch.randn(2, 6, generator=rng()), torch.tensor([0, 2])
    images = generator(z, labels)
    assert images.shape == (2, 1, 32, 32) and images.abs().max() <= 1
    assert discriminator(images, labels).shape == (2,)
    (drawn,) = attention_maps(generator, z, labels)
    (judged,) = attention_maps(discriminator, images.detach(), labels)
    assert drawn.shape == judged.shape == (2, 64, 16)


def test_labels_change_the_image_and_the_judgement():
    generator, discriminator = (network.eval() for network in small())
    for module in generator.modules():
        if isinstance(module, ConditionalBatchNorm):
            nn.init.normal_(module.gain.weight, generator=rng())
    z = torch.randn(1, 6, generator=rng()).expand(3, 6)
    images = generator(z, torch.arange(3))
    outputs = discriminator(images[:1].expand(3, -1, -1, -1), torch.arange(3))
    for values in (images.flatten(1), outputs[:, None]):
        assert torch.cdist(values, values)[~torch.eye(3, dtype=torch.bool)].min() > 1e-3


def test_autocast_changes_little():
    """bfloat16 has 8 bits; six layers of it stay within a few percent of the outputs' spread."""
    generator, discriminator = (network.eval() for network in small())
    z, labels = torch.randn(4, 6, generator=rng()), torch.tensor([0, 1, 2, 0])
    images, outputs = generator(z, labels), discriminator(pictures(4).images, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low, judged = generator(z, labels), discriminator(pictures(4).images, labels)
    assert judged.dtype == torch.float32
    torch.testing.assert_close(low.float(), images, atol=0.05, rtol=0)
    torch.testing.assert_close(judged, outputs, atol=0.05 * outputs.abs().max().item(), rtol=0)


def test_paper_size(sizes_only):
    """81.5 million parameters in both at 128 x 128 with 1,000 classes: Brock et al. 2019, table 1, row 1."""
    with torch.device("meta"):
        networks = generator, discriminator = paper_networks(128, 3, 1000)
        z, labels = torch.zeros(2, 128), torch.zeros(2, dtype=torch.int64)
        images = generator(z, labels)
        assert images.shape == (2, 3, 128, 128) and discriminator(images, labels).shape == (2,)
    assert sum(p.numel() for n in networks for p in n.parameters()) / 1e6 == pytest.approx(81.5, abs=0.05)
    (block,) = [m for m in generator.modules() if isinstance(m, SelfAttention)]
    assert block.channels == 256  # 4 ch, the width at 32 x 32
    (block,) = [m for m in discriminator.modules() if isinstance(m, SelfAttention)]
    assert block.channels == 128  # 2 ch, likewise


def test_networks_at_other_sizes(sizes_only):
    """G doubles from 4 x 4 to the side; D halves it down to 4 x 4, below 64 to 8 x 8."""
    for size in (16, 32, 64, 128, 256, 512):
        widths, judging, keep = paper_widths(size, 1)
        assert 4 << (len(widths) - 1) == size
        assert size >> (len(judging) - keep) == (8 if size < 64 else 4)
        assert judging[-1] == widths[0]
    for size in (16, 64):
        with torch.device("meta"):
            generator, discriminator = paper_networks(size, 1, 10, width=8)
            labels = torch.zeros(2, dtype=torch.int64)
            images = generator(torch.zeros(2, 128), labels)
            assert images.shape == (2, 1, size, size) and discriminator(images, labels).shape == (2,)


def test_network_errors():
    with pytest.raises(ValueError, match=r"attention must be the side of a map, one of \[8, 16\], got 32"):
        Generator(4, (8, 8, 8), 3, attention=32)
    with pytest.raises(ValueError, match="attention must be the side of a map"):
        Discriminator((8, 8), 3, size=16, attention=16)
    with pytest.raises(ValueError, match="latent_dim must divide into 3 parts, got 4"):
        Generator(4, (8, 8, 8), 3, attention=8, shared=2, skip_z=True)
    with pytest.raises(ValueError, match="skip_z needs shared"):
        Generator(6, (8, 8, 8), 3, attention=8, skip_z=True)
    with pytest.raises(ValueError, match="size must be one of"):
        paper_widths(48, 64)


# The system


def test_resume_is_exact(tmp_path):
    """Interrupted after one round of three; spectral norm's vectors and both averages take part."""
    settings = Settings(
        optimizers={"discriminator": adam, "generator": adam},
        batch_size=8,
        ema={"generator": 0.9},
        precision="32-true",
        log_every=1,
    )

    def trainer(out):
        return Trainer(
            ConditionalGAN(*small(), Hinge(), classes=3), pictures(), settings, out=out, progress=False
        )

    whole = trainer(None)
    whole.fit(3)
    trainer(tmp_path).fit(1)
    resumed = trainer(tmp_path)
    assert resumed.resume() and resumed.step == 1
    resumed.fit(3)
    for name, value in whole.game.state_dict().items():
        assert torch.equal(value, resumed.game.state_dict()[name]), name
    for a, b in zip(
        whole.averages["generator"].parameters(), resumed.averages["generator"].parameters(), strict=True
    ):
        assert torch.equal(a, b)


def test_constants():
    """Zhang et al. 2019: hinge, Adam with betas (0, 0.9), 1e-4 for G and 4e-4 for D, one step each."""
    experiment = systems.get("sagan").experiment(Budget.GPU, data=pictures(classes=2))
    game = experiment.game
    assert isinstance(game, ConditionalGAN) and game.classes == 2
    assert isinstance(game.adversarial, Hinge) and game.generator.latent_dim == 128
    assert dict(game.turns) == {"discriminator": 1, "generator": 1}
    assert experiment.settings.batch_size == 256 and experiment.settings.schedule is None
    for player, rate in (("generator", 1e-4), ("discriminator", 4e-4)):
        optimizer = experiment.settings.optimizers[player](game.players[player].parameters())
        assert optimizer.defaults["lr"] == rate and optimizer.defaults["betas"] == (0.0, 0.9)


def test_smoke_report():
    experiment = systems.get("sagan").experiment(Budget.SMOKE)
    assert experiment.game.classes == 10 and len(experiment.data) == 2
    assert {"fid_over_floor", "requested_accuracy"} <= set(experiment.evaluate(experiment.game))
    assert systems.get("sagan").experiment(Budget.SMOKE, data=pictures()).evaluate is None
