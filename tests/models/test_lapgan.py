"""LAPGAN: what each level is shown, who learns from it, and that known bands add up to the known image."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ganlib.data import Images, mnist
from ganlib.layers.pyramid import BINOMIAL, LINEAR, Scaling, laplacian_pyramid
from ganlib.losses import NonSaturating
from ganlib.metrics import ClassifierFeatures, feature_moments, frechet_distance, mnist_moments
from ganlib.models import lapgan
from ganlib.models.conditional import ConditionalGAN
from ganlib.models.dcgan import Discriminator
from ganlib.models.gan import GAN
from ganlib.models.lapgan import LAPGAN, BandGAN, BandGenerator, CoarseDiscriminator, networks
from ganlib.training import Budget, Settings, Trainer

SIDES = (8, 16, 32)
down, up = LINEAR


def pictures(n: int = 6, channels: int = 1, size: int = 32, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, size, size, generator=rng, dtype=torch.float64) * 2 - 1


def made(size: int = 32, channels: int = 1, seed: int = 0) -> LAPGAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return LAPGAN(networks(size, channels, Budget.SMOKE))


class Known(nn.Module):
    """A generator whose output is told: the same tensor for whatever latents (and blurred images)."""

    latent_dim = 2

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output
        self.conditions: list[Tensor] = []
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, z: Tensor, low: Tensor | None = None) -> Tensor:
        self.conditions.append(low)
        return self.weight * self.output


class Linear(nn.Module):
    """A discriminator whose logit is a weighted sum of the pixels it is shown, which it keeps."""

    def __init__(self, weights: Tensor) -> None:
        super().__init__()
        self.weights = nn.Parameter(weights)
        self.shown: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.shown.append(x)
        return (x * self.weights).sum((1, 2, 3))


def knowing(images: Tensor, scaling: Scaling = LINEAR) -> LAPGAN:
    """A game whose generators give back the levels of the pyramid of ``images``."""
    *bands, coarse = laplacian_pyramid(images, smallest=8, scaling=scaling)
    judge = lambda level: Linear(torch.ones_like(level[:1]))  # noqa: E731
    levels = {8: GAN(Known(coarse), judge(coarse), NonSaturating())}
    for band in reversed(bands):
        levels[band.shape[-1]] = BandGAN(Known(band), judge(band), NonSaturating())
    return LAPGAN(levels, scaling)


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


# --- what a level is shown ----------------------------------------------------------------------------------


def test_parts_are_the_pyramid_of_the_batch():
    images, labels = pictures(), torch.arange(6)
    *bands, coarse = laplacian_pyramid(images, smallest=8, scaling=LINEAR)
    game = made()
    first, *rest = game.part(8, (images, labels))
    torch.testing.assert_close(first, coarse, rtol=0, atol=0)
    assert rest == [labels]
    for side, band in zip((32, 16), bands, strict=True):
        h, low = game.part(side, (images, labels))
        torch.testing.assert_close(h, band, rtol=0, atol=0)
        real = images if side == 32 else down(images)
        torch.testing.assert_close(low + h, real, rtol=0, atol=1e-15)  # a subtraction undone, float64


@pytest.mark.parametrize("side", [16, 32])
def test_the_discriminator_judges_the_band_on_its_blurred_image(side):
    """Real: the very image. Fake: what G makes of the blurred *real* image, added to it. Value by hand."""
    images, wrong = pictures(), pictures(size=side, seed=1)
    weights = pictures(1, size=side, seed=2) / 9
    game = made()
    level = game.levels[str(side)]
    level.generator, level.discriminator = Known(wrong), Linear(weights)
    level.separate_passes, level.adversarial = True, NonSaturating()
    while images.shape[-1] > side:
        images = down(images)
    low = up(down(images))

    (value,) = game.loss(f"discriminator{side}", (pictures(),)).values()
    real, fake = level.discriminator.shown
    torch.testing.assert_close(real, images, rtol=0, atol=1e-15)
    torch.testing.assert_close(fake, low + wrong, rtol=0, atol=1e-15)
    torch.testing.assert_close(level.generator.conditions[0], low, rtol=0, atol=0)
    logits = [(x * weights).sum((1, 2, 3)).numpy() for x in (images, low + wrong)]
    expected = softplus(-logits[0]).mean() + softplus(logits[1]).mean()
    assert value.item() == pytest.approx(expected, rel=1e-6)  # losses are reduced in float32

    (value,) = game.loss(f"generator{side}", (pictures(),)).values()
    assert value.item() == pytest.approx(softplus(-logits[1]).mean(), rel=1e-6)
    # d/dw of mean softplus(-D(l + w h)) at w = 1
    value.backward()
    slope = -((1 / (1 + np.exp(logits[1]))) * (wrong * weights).sum((1, 2, 3)).numpy()).mean()
    assert level.generator.weight.grad.item() == pytest.approx(slope, rel=1e-5)


def test_images_of_another_side_are_refused():
    with pytest.raises(ValueError, match=r"side 32, got \(16, 16\)"):
        made().loss("generator16", (pictures(size=16).float(),))


# --- who learns, and what is not computed -------------------------------------------------------------------


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("role", ["discriminator", "generator"])
def test_a_turn_is_one_levels_and_one_players(role, side):
    game, player = made(), f"{role}{side}"
    called = set()
    for name, level in game.levels.items():
        for module in (level.generator, level.discriminator):
            module.register_forward_hook(lambda *_, name=name: called.add(name))
    sum(game.loss(player, (pictures().float(),)).values()).backward()
    assert called == {str(side)}, "other levels were computed"
    received = {name for name, p in game.players.items() if any(q.grad is not None for q in p.parameters())}
    assert received == {player}
    assert all(q.grad.any() for q in game.players[player].parameters() if q.grad is not None)


def test_no_graph_through_the_generator_in_the_discriminators_turn():
    game = made()
    level = game.levels["16"]
    shown = []
    level.discriminator.register_forward_hook(lambda _, inputs, __: shown.append(inputs[0]))
    game.loss("discriminator16", (pictures().float(),))
    assert len(shown) == 2 and not any(x.requires_grad for x in shown)
    shown.clear()
    game.loss("generator16", (pictures().float(),))
    assert [x.requires_grad for x in shown] == [True]


def test_players_take_turns_from_coarse_to_fine():
    game = made()
    assert dict(game.turns) == {f"{role}{s}": 1 for s in SIDES for role in ("discriminator", "generator")}
    assert game.players["generator16"] is game.levels["16"].generator
    owned = [p for player in game.players.values() for p in player.parameters()]
    assert len(owned) == len(set(owned)) == len(list(game.parameters()))


def test_the_first_level_may_play_more_often():
    game = LAPGAN(networks(16, 1, Budget.SMOKE), first_turns=3)
    assert dict(game.turns) == {
        "discriminator8": 3, "generator8": 3, "discriminator16": 1, "generator16": 1
    }  # fmt: skip
    with pytest.raises(ValueError, match="first_turns must be at least 1, got 0"):
        LAPGAN(networks(16, 1, Budget.SMOKE), first_turns=0)


# --- sampling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", [LINEAR, BINOMIAL])
def test_known_bands_give_back_the_known_image(scaling):
    images = pictures(5).float()
    down, game = scaling.down, knowing(images, scaling)
    # per level an enlargement, a subtraction and an addition of float32, near 1
    torch.testing.assert_close(game.sample(5), images, rtol=0, atol=1e-6)
    stages = game.stages(down(down(images)))
    assert [stage.shape[-1] for stage in stages] == [8, 16, 32]
    torch.testing.assert_close(stages[1], down(images), rtol=0, atol=1e-6)
    torch.testing.assert_close(game.stages(down(images))[-1], images, rtol=0, atol=1e-6)
    assert torch.equal(game.stages(images)[0], images), "nothing is left to add at the finest side"


def test_sampling_is_the_composition_of_the_levels():
    game, rng = made().eval(), partial(torch.Generator().manual_seed, 3)
    found = game.sample(7, rng())
    draws = rng()  # of the levels in turn
    z = [torch.randn(7, game.levels[str(s)].generator.latent_dim, generator=draws) for s in SIDES]
    with torch.no_grad():
        image = game.levels["8"].generator(z[0])
        for side, noise in zip(SIDES[1:], z[1:], strict=True):
            low = up(image)
            image = low + game.levels[str(side)].generator(noise, low)
    # a batch norm's division may round otherwise in another memory layout
    torch.testing.assert_close(found, image, rtol=0, atol=1e-6)
    assert found.abs().max() <= 1 and torch.equal(game.sample(7, rng()), found)
    # latents are drawn before the batches are cut
    low = up(down(found))
    small = game.levels["32"].refine(low, rng(), batch_size=3)
    torch.testing.assert_close(game.levels["32"].refine(low, rng()), small, rtol=0, atol=1e-6)


def test_stages_begin_at_a_level():
    with pytest.raises(ValueError, match=r"\(8, 16, 32\), got 24"):
        made().stages(torch.zeros(1, 1, 24, 24))


def test_a_first_level_may_take_labels():
    class Grey(nn.Module):
        latent_dim = 2

        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.1))

        def forward(self, z: Tensor, labels: Tensor) -> Tensor:
            return (self.scale * labels).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)

    class Score(nn.Module):
        def forward(self, x: Tensor, labels: Tensor) -> Tensor:
            return x.mean((1, 2, 3)) * labels

    first = ConditionalGAN(Grey(), Score(), NonSaturating(), classes=10)
    levels = networks(16, 1, Budget.SMOKE)
    levels[16].generator.layers[-1].weight.data.zero_()  # bands of zeros
    game = LAPGAN({8: first, 16: levels[16]})
    grey = game.sample(3, labels=torch.tensor([0, 5, 9])).mean((1, 2, 3))
    torch.testing.assert_close(grey, torch.tensor([0.0, 0.5, 0.9]), rtol=0, atol=1e-6)
    assert game.loss("discriminator8", (pictures(size=16), torch.arange(6)))["adversarial"].isfinite()


def test_labels_reach_both_players_of_the_first_level():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        game = LAPGAN(networks(16, 1, Budget.SMOKE, classes=10))
    assert game.classes == 10
    one, other = (
        game.sample(4, torch.Generator().manual_seed(0), torch.full((4,), label)) for label in (1, 7)
    )
    assert not torch.equal(one, other), "the latents are the same, the labels are not"
    batch = [(pictures(4, size=16).float(), torch.full((4,), label)) for label in (1, 7)]
    judged = [game.first.eval().discriminator(game.part(8, b)[0], b[1]) for b in batch]
    assert not torch.equal(*judged)
    game.train()
    for player, table in (("generator8", "embedding"), ("discriminator8", "planes")):
        sum(game.loss(player, batch[0]).values()).backward()
        rows = getattr(game.players[player], table).weight.grad.abs().sum(1)
        assert (rows > 0).nonzero().flatten().tolist() == [1], "the class of the batch, and no other, learns"


# --- the networks -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "channels"), [(16, 1), (32, 3)])
def test_bands_keep_the_image_in_the_range_of_pixels(side, channels):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BandGenerator(side, 8, channels)
    z = torch.randn(5, side * side, generator=torch.Generator().manual_seed(0))
    low = pictures(5, channels, side).float()
    band = network(z, low)
    assert band.shape == low.shape and not torch.equal(band, network(z.flip(0), low)), "noise has no effect"
    network.layers[-1].bias.data.fill_(3.0)
    # (1 - l) + l rounds once, in float32
    assert (low + network(z, low) - 1).abs().max() < 2e-7, "a sum beyond white is white"
    network.layers[-1].weight.data.zero_()
    network.layers[-1].bias.data.zero_()
    assert network(z, low).abs().max() == 0


def test_noise_is_a_picture_beside_the_image():
    """A change of one number of z moves the band around its place only, as far as the kernels reach."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BandGenerator(32, 8, depth=1).eval()
    z, low = torch.zeros(1, 1024), torch.zeros(1, 1, 32, 32)
    moved = z.clone()
    moved[0, 16 * 32 + 16] = 100.0
    with torch.no_grad():
        change = (network(moved, low) - network(z, low))[0, 0].abs() > 0
    rows, columns = (side.nonzero().flatten() for side in (change.any(1), change.any(0)))
    # Fine pixel 16 is seen by the coarse 7 and 8; 3 x 3 adds 6 and 9; these reach fine ones from 11 to 20.
    assert change[16, 16] and (rows.min(), rows.max()) == (11, 20) == (columns.min(), columns.max())


@pytest.mark.parametrize(("network", "joint"), [(CoarseDiscriminator, True), (Discriminator, False)])
def test_the_coarse_discriminator_joins_what_is_far_apart(network, joint):
    """f(a, b) - f(a, 0) - f(0, b) + f(0, 0) of two pixels is zero for every sum of functions of patches.

    DCGAN's discriminator is one on 8 x 8, where its only hidden layer sees patches of 4 x 4.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        judge = network(16, 1) if joint else network(16, 1, 8)
    judge.double().eval()

    def f(a: float, b: float) -> float:
        x = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
        x[0, 0, 1, 1], x[0, 0, 6, 6] = a, b
        return judge(x).item()

    mixed = f(1, -1) - f(1, 0) - f(0, -1) + f(0, 0)
    # weights of size 0.02 make logits of some 1e-4; what float64 rounds away there is below 1e-18
    assert (abs(mixed) > 1e-8) == joint and abs(mixed) != pytest.approx(1e-8, rel=0.99)


@pytest.mark.parametrize(
    ("size", "channels", "sides"), [(8, 3, (8,)), (16, 1, (8, 16)), (64, 3, (8, 16, 32, 64))]
)
def test_any_power_of_two(size, channels, sides):
    game = made(size, channels)
    assert game.sides == sides and game.sample(2).shape == (2, channels, size, size)
    batch = (pictures(4, channels, size).float(),)
    assert all(term.isfinite() for player in game.turns for term in game.loss(player, batch).values())


@pytest.mark.parametrize("size", [4, 12, 48])
def test_other_sizes_are_refused(size):
    with pytest.raises(ValueError, match=f"power of two of at least 8, got {size}"):
        networks(size, 1, Budget.SMOKE)


def test_levels_that_are_no_pyramid():
    levels = networks(32, 1, Budget.SMOKE)
    with pytest.raises(ValueError, match=r"double, coarsest first, got \(8, 32\)"):
        LAPGAN({8: levels[8], 32: levels[32]})
    with pytest.raises(ValueError, match=r"got \(\)"):
        LAPGAN({})
    with pytest.raises(ValueError, match="must be BandGANs, got a GAN at 16"):
        LAPGAN({8: levels[8], 16: levels[8]})


# --- runs ---------------------------------------------------------------------------------------------------


def test_resumed_is_as_if_never_stopped(tmp_path):
    data = pictures(32, size=16).float()
    game = made(16)
    from ganlib.models.recipes import adam

    settings = Settings(
        dict.fromkeys(game.turns, adam(1e-3, 0.5)), 8, {"generator16": 0.9}, "32-true", log_every=1
    )

    def trainer(out):
        return Trainer(made(16), data, settings, out=out, progress=False)

    whole, first, second = trainer(None), trainer(tmp_path), trainer(tmp_path)
    whole.fit(4)
    first.fit(2)
    assert second.resume()
    second.fit(4)
    for a, b in zip(whole.game.state_dict().values(), second.game.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(whole.sample(3), second.sample(3))


def test_settings_of_the_recipe():
    """Each player has an optimizer, each generator an average; data given are trained on as they are."""
    data = Images(pictures(8, 3, 16).float(), torch.zeros(8, dtype=torch.int64))
    experiment = lapgan.recipe(Budget.CPU, data)
    assert experiment.game.sides == (8, 16) and experiment.evaluate is None
    assert set(experiment.settings.optimizers) == set(experiment.game.turns)
    assert set(experiment.settings.ema) == {"generator8", "generator16"}
    assert experiment.data is data and experiment.game.classes == 1


# --- figures ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits() -> Tensor:
    return mnist("test").images[:150]


def test_the_cascade_begins_at_the_floor_and_true_bands_keep_it_there(digits):
    floor = frechet_distance(feature_moments(digits, ClassifierFeatures()), mnist_moments("train"))
    found = lapgan.cascade_fids(knowing(digits), digits)
    assert list(found) == [32, 16, 8]
    for fid in found.values():
        # rounding of float32 pixels, carried through a network and a square root of a singular matrix
        assert fid == pytest.approx(floor, rel=1e-3)


def test_the_cascade_measures_what_a_level_draws(digits):
    game = knowing(digits)
    game.levels["32"].generator.output = torch.zeros_like(digits)  # no detail: digits stay blurred
    blurred = frechet_distance(
        feature_moments(up(down(digits)), ClassifierFeatures()), mnist_moments("train")
    )
    found = lapgan.cascade_fids(game, digits)
    assert found[16] == pytest.approx(blurred, rel=1e-3) == found[8] and found[32] < blurred / 1.05


def test_octaves_of_real_digits_and_of_blurred_ones(digits):
    same = lapgan.octave_report(digits, digits)
    assert {name: same[name] for name in ("precision", "recall", "coverage", "swd_32", "swd_16")} == {
        "precision": 1, "recall": 1, "coverage": 1, "swd_32": 0, "swd_16": 0
    }  # fmt: skip
    smooth = up(down(digits))
    assert set(smooth.shape) == set(digits.shape)
    found = lapgan.octave_report(smooth, digits)
    # What is gone is the finest band; the coarser image has lost something, the filters being no ideal ones.
    assert found["swd_32"] > 1.5 * found["swd_16"] > 0
    assert math.isfinite(found["density"])
