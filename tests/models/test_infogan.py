"""InfoGAN: who learns from the bound, what the codes decide, how meaning is measured."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn.functional import cross_entropy

from ganlib import systems
from ganlib.data import Images
from ganlib.losses import R1, NonSaturating, RelativisticPairing
from ganlib.losses.information import CategoricalCode, ContinuousCode
from ganlib.models.gan import GAN
from ganlib.models.infogan import (
    Discriminator,
    InfoGAN,
    RandomHand,
    code_report,
    contingency,
    matching,
    responses,
    sweep,
)
from ganlib.training import Budget, Settings, Trainer

CODES = (CategoricalCode(3, weight=0.7), ContinuousCode(2, weight=0.3))


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Reader(nn.Module):
    """A discriminator of points with a body, a head of its own and one for Q."""

    def __init__(self, inputs: int = 2, outputs: int = 7) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(inputs, 6), nn.Tanh())
        self.real = nn.Sequential(nn.Linear(6, 1), nn.Flatten(0))
        self.code = nn.Linear(6, outputs)

    def forward(self, x):
        return self.real(self.body(x))

    def both(self, x):
        features = self.body(x)
        return self.real(features), self.code(features)


def toy(codes=CODES, loss=None, regularizers=(), noise: int = 2, **options) -> InfoGAN:
    """A game of points in the plane."""
    latent = noise + sum(code.inputs for code in codes)
    generator = nn.Sequential(nn.Linear(latent, 6), nn.Tanh(), nn.Linear(6, 2))
    generator.latent_dim = latent
    reader = Reader(outputs=sum(code.outputs for code in codes))
    return InfoGAN(generator, reader, loss or NonSaturating(), codes, regularizers, **options)


def fixed(game: InfoGAN, n: int = 8) -> tuple[InfoGAN, torch.Tensor, tuple[torch.Tensor, ...]]:
    """The game in double precision, always with the same latents."""
    game = game.double()
    values = game.draw(n, torch.Generator().manual_seed(1))
    z = game.latent(n, torch.Generator().manual_seed(2), values).double()
    game.draw = lambda n, rng=None: values
    game.latent = lambda n, rng=None, codes=None: z
    return game, z, values


def reals(n: int = 8) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def parts(game: InfoGAN) -> dict[str, nn.Module]:
    judge = game.discriminator
    return {"generator": game.generator, "body": judge.body, "real": judge.real, "code": judge.code}


def received(game: InfoGAN) -> set[str]:
    """The parts all of whose parameters have a gradient that is not zero; the others must have none."""
    found = set()
    for name, module in parts(game).items():
        grads = [p.grad for p in module.parameters()]
        if any(g is not None for g in grads):
            assert all(g is not None and bool(g.any()) for g in grads), name
            found.add(name)
    return found


# The terms


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_terms_are_weighted_bounds(player):
    """By torch's cross-entropy and normal distribution: lambda (E -log Q - H) of each code."""
    game, z, (classes, numbers) = fixed(toy())
    terms = game.loss(player, (reals(),))
    assert set(terms) == {"adversarial", "categorical code", "continuous code"}
    _, guesses = game.discriminator.both(game.generator(z))
    logits, mean, log_variance = guesses.split([3, 2, 2], dim=1)
    surprise = cross_entropy(logits, classes)
    wanted = 0.7 * (surprise - math.log(3))
    torch.testing.assert_close(terms["categorical code"], wanted)
    q = torch.distributions.Normal(mean, (log_variance / 2).exp())
    wanted = 0.3 * (-q.log_prob(numbers.double()).sum(1).mean() - 2 * math.log(2))
    torch.testing.assert_close(terms["continuous code"], wanted)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_the_adversarial_term_is_the_plain_gans(player):
    """The same networks, latents and loss in a game without codes."""
    game, z, _ = fixed(toy())
    plain = GAN(game.generator, game.discriminator, NonSaturating())
    plain.latent = lambda n, rng=None: z
    ours, theirs = (g.loss(player, (reals(),))["adversarial"] for g in (game, plain))
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", ["categorical code", "continuous code"])
def test_the_bound_moves_q_and_the_shared_body_in_the_discriminators_turn(name):
    game, _, _ = fixed(toy())
    game.loss("discriminator", (reals(),))[name].backward()
    assert received(game) == {"body", "code"}


@pytest.mark.parametrize("name", ["adversarial", "categorical code", "continuous code"])
def test_every_term_moves_the_generator_alone_in_its_turn(name):
    game, _, _ = fixed(toy())
    game.loss("generator", (reals(),))[name].backward()
    assert received(game) == {"generator"}


def test_the_discriminators_own_term_leaves_qs_head_alone():
    game, _, _ = fixed(toy())
    game.loss("discriminator", (reals(),))["adversarial"].backward()
    assert received(game) == {"body", "real"}


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("name", ["categorical code", "continuous code"])
def test_gradient_of_the_bound_by_finite_differences(player, name):
    """In every parameter that the turn moves, through the whole game."""
    game, _, _ = fixed(toy())
    moved = [p for p in game.players[player].parameters() if p is not game.discriminator.real[0].weight]
    term = game.loss(player, (reals(),))[name]
    slopes = torch.autograd.grad(term, moved, allow_unused=True)
    step = 1e-6
    for parameter, slope in zip(moved, slopes, strict=True):
        flat = parameter.data.view(-1)
        change = []
        for sign in (1, -1):
            flat[0] += sign * step
            change.append(game.loss(player, (reals(),))[name].item())
            flat[0] -= sign * step
        # 1e-6: central differences of a smooth function, rounding 1e-16 / step.
        by_hand = (change[0] - change[1]) / (2 * step)
        assert (0.0 if slope is None else slope.flatten()[0].item()) == pytest.approx(by_hand, abs=1e-6)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_q_is_asked_for_the_codes_that_the_generator_got(player):
    game, seen = toy(), {}
    game.generator.register_forward_hook(lambda m, inputs, out: seen.update(z=inputs[0]))
    bound = game.information
    game.information = lambda guesses, values: seen.update(values=values) or bound(guesses, values)
    game.loss(player, (reals().float(),))
    given = torch.cat([code.encode(v) for code, v in zip(game.codes, seen["values"], strict=True)], 1)
    assert torch.equal(seen["z"][:, game.noise_dim :], given)


def test_each_side_alone_can_raise_the_bound():
    """Descent on the term by G only, and by Q only: each makes codes easier to tell. Weights 0: neither."""
    for player, weight, learns in (
        ("generator", 1.0, True),
        ("discriminator", 1.0, True),
        ("generator", 0.0, False),
        ("discriminator", 0.0, False),
    ):
        game, _, _ = fixed(toy((CategoricalCode(3, weight),)), n=30)
        optimizer = torch.optim.Adam(game.players[player].parameters(), lr=0.02)
        # The bound itself, whatever its weight is in the loss.
        judge = InfoGAN(game.generator, game.discriminator, NonSaturating(), (CategoricalCode(3),))
        values, z = game.draw(30), game.latent(30)
        nats = []
        for _ in range(60):
            _, guesses = judge.read(game.generator(z))
            nats.append(-judge.information(guesses, values)["categorical code"].item())
            optimizer.zero_grad()
            game.loss(player, (reals(30),))["categorical code"].backward()
            optimizer.step()
        gain = nats[-1] - nats[0]
        assert (gain > 0.1) is learns, (player, weight, gain)


@pytest.mark.parametrize("regularizers", [(), (R1(1.0),)])
def test_a_round_of_the_trainer_moves_every_parameter(regularizers):
    """The peers' other bug: a head that no optimizer holds."""
    game = toy(regularizers=regularizers)
    before = copy.deepcopy(game)
    make = torch.optim.Adam
    Trainer(
        game, reals().float(), Settings(dict.fromkeys(game.turns, make), batch_size=8), progress=False
    ).fit(1)
    for (name, a), b in zip(game.named_parameters(), before.parameters(), strict=True):
        assert not torch.equal(a.cpu(), b), name


def test_a_lens_is_for_its_code_alone():
    """The category is guessed from T(x) = -x, the numbers and real or fake from x itself."""
    for player in ("discriminator", "generator"):
        game, z, values = fixed(toy(lenses={"categorical code": torch.neg}))
        plain, _, _ = fixed(toy())
        plain.load_state_dict(game.state_dict())
        ours, theirs = (g.loss(player, (reals(),)) for g in (game, plain))
        for name in ("adversarial", "continuous code"):
            torch.testing.assert_close(ours[name], theirs[name])
        seen = game.discriminator.both(-game.generator(z))[1][:, :3]
        wanted = 0.7 * (cross_entropy(seen, values[0]) - math.log(3))
        torch.testing.assert_close(ours["categorical code"], wanted)
        assert abs(ours["categorical code"] - theirs["categorical code"]) > 1e-3
        ours["categorical code"].backward()
        assert received(game) == ({"generator"} if player == "generator" else {"body", "code"})


def test_a_lens_must_have_a_code():
    with pytest.raises(ValueError, match=r"lenses must be for codes among .*, got \['another'\]"):
        toy(lenses={"another": torch.neg})


@pytest.mark.parametrize("norm", [False, True])
def test_one_pass_or_several_is_the_same(norm):
    """Without batch norm all images go through together; the numbers are those of passes apart."""
    game, z, _ = fixed(toy(lenses={"continuous code": torch.neg}))
    game.separate_passes = norm
    sizes = []
    game.discriminator.body.register_forward_hook(lambda m, inputs, out: sizes.append(len(inputs[0])))
    fake = game.generator(z)
    (on_fake, on_real), (logits, numbers) = game.read(fake, reals())
    assert sizes == ([8, 8, 8] if norm else [24])
    torch.testing.assert_close(on_fake, game.discriminator(fake))
    torch.testing.assert_close(on_real, game.discriminator(reals()))
    torch.testing.assert_close(logits, game.discriminator.both(fake)[1][:, :3])
    torch.testing.assert_close(numbers, game.discriminator.both(-fake)[1][:, 3:])


def test_a_relativistic_loss_gets_both_sides():
    game, z, _ = fixed(toy(loss=RelativisticPairing()))
    found = game.loss("generator", (reals(),))["adversarial"]
    on_real, on_fake = game.discriminator(reals()), game.discriminator(game.generator(z))
    torch.testing.assert_close(found, nn.functional.softplus(on_real - on_fake).mean())


def test_a_batch_norm_sees_real_and_fake_apart():
    """Each pass of the discriminator is over one kind, as in every GAN with batch norm."""
    game = toy()
    game.discriminator.body.append(nn.BatchNorm1d(6))
    game = InfoGAN(game.generator, game.discriminator, NonSaturating(), CODES)
    sizes = []
    game.discriminator.body.register_forward_hook(lambda m, inputs, out: sizes.append(len(inputs[0])))
    game.loss("discriminator", (reals().float(),))
    assert sizes == [8, 8]


# What goes in


def test_latents_are_noise_and_then_codes():
    game = toy()
    values = torch.tensor([2, 0]), torch.tensor([[0.5, -0.25], [1.0, 0.0]])
    z = game.latent(2, torch.Generator().manual_seed(3), values)
    assert z.shape == (2, 7) and game.noise_dim == 2
    assert z[:, 2:].tolist() == [[0, 0, 1, 0.5, -0.25], [1, 0, 0, 1, 0]]
    others = torch.tensor([1, 1]), None
    again = game.latent(2, torch.Generator().manual_seed(3), others)
    assert torch.equal(again[:, :2], z[:, :2]), "codes that are given must not change the noise"
    drawn = game.latent(2, torch.Generator().manual_seed(3))
    assert torch.equal(drawn[:, :2], z[:, :2])
    assert again[:, 2:5].tolist() == [[0, 1, 0]] * 2


def test_samples_by_request():
    game = toy()
    state = torch.get_rng_state()
    values = torch.arange(6) % 3, None
    first, again = (game.sample(6, torch.Generator().manual_seed(1), values, batch_size=4) for _ in range(2))
    assert torch.equal(first, again) and first.shape == (6, 2)
    assert torch.equal(torch.get_rng_state(), state)
    z = game.latent(6, torch.Generator().manual_seed(1), values)
    torch.testing.assert_close(first, game.generator(z).detach())


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ((torch.zeros(4).long(),), "codes must be 2, a value or None for each, got 1"),
        ((torch.zeros(3).long(), None), "codes must have 4 rows, got 3 for the categorical code"),
        ((torch.zeros(4), None), r"values must be int64 \(N,\)"),
    ],
)
def test_refuses_codes_that_do_not_fit(codes, message):
    with pytest.raises(ValueError, match=message):
        toy().sample(4, codes=codes)


def test_refuses_games_without_codes_or_noise():
    with pytest.raises(ValueError, match="codes must be one or more"):
        InfoGAN(toy().generator, Reader(), NonSaturating(), ())
    with pytest.raises(ValueError, match="distinct names"):
        toy((CategoricalCode(3), CategoricalCode(4)))
    crowded = toy().generator, Reader(), NonSaturating(), (CategoricalCode(7),)
    with pytest.raises(ValueError, match="codes must leave room for noise in the 7 latents"):
        InfoGAN(*crowded)


# What codes come to mean


def test_matching_is_the_best_of_all_permutations():
    rng = torch.Generator().manual_seed(0)
    groups, classes = (torch.randint(4, (50,), generator=rng) for _ in range(2))
    found = matching(groups, classes, k=4)
    by_hand = max(
        sum(permutation[g] == c for g, c in zip(groups.tolist(), classes.tolist(), strict=True))
        for permutation in itertools.permutations(range(4))
    )
    assert found.accuracy == pytest.approx(by_hand / 50, rel=1e-12)
    most = sum(torch.bincount(classes[groups == g]).max().item() for g in range(4))
    assert found.purity == pytest.approx(most / 50, rel=1e-12)


def test_matching_in_cases_that_are_plain():
    classes = torch.arange(30) % 10
    assert matching((classes + 3) % 10, classes) == (1.0, 1.0), "names do not matter"
    assert matching(classes, torch.zeros(30).long()) == (1.0, 0.1), "only ones: pure, and matched by one"
    # Groups 0 and 1 share class 0, so that one of them is left without.
    assert matching(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 0, 0, 0]), k=2) == (1.0, 0.5)


def test_contingency_is_sklearns():
    from sklearn.metrics.cluster import contingency_matrix

    rng = torch.Generator().manual_seed(1)
    groups, classes = (torch.randint(10, (400,), generator=rng) for _ in range(2))
    assert np.array_equal(contingency(groups, classes), contingency_matrix(groups, classes))


@pytest.mark.parametrize(
    ("groups", "classes", "message"),
    [
        (torch.zeros(3).long(), torch.zeros(4).long(), r"\(N,\)"),
        (torch.zeros(0).long(), torch.zeros(0).long(), "N at least 1"),
        (torch.tensor([10]), torch.tensor([0]), r"groups must be in 0\.\.9, got 10\.\.10"),
        (torch.tensor([0]), torch.tensor([-1]), r"classes must be in 0\.\.9, got -1\.\.-1"),
    ],
)
def test_matching_refuses(groups, classes, message):
    with pytest.raises(ValueError, match=message):
        matching(groups, classes)


class Bars(nn.Module):
    """Draws a leaning bar: 20 degrees per unit of the first number, 2 + 0.8 pixels by the second."""

    latent_dim = 2 + 3 + 2

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, z):
        lean, width = torch.tan(torch.deg2rad(20 * z[:, 5])), 2 + 0.8 * z[:, 6]
        y = torch.arange(32.0)[:, None] - 15.5
        x = torch.arange(32.0) - 15.5 + lean[:, None, None] * y
        ink = (width[:, None, None] + 0.5 - x.abs()).clamp(0, 1) * (y.abs() < 9)
        return 2 * ink[:, None] - 1


def bars() -> InfoGAN:
    return InfoGAN(Bars(), Reader(), NonSaturating(), CODES)


def test_responses_of_bars_that_lean_and_thicken():
    """By construction: 40 degrees and no change of width, then 3.2 pixels and no lean."""
    found = responses(bars(), n=4, points=5)
    # Moments of 18 rows of pixels with soft edges: half a degree; widths: a tenth of a pixel or two.
    assert found["code1_slant_degrees"] == pytest.approx(40, abs=1)
    assert found["code1_slant_rank"] == pytest.approx(1, abs=1e-9)
    assert found["code2_slant_degrees"] == pytest.approx(0, abs=0.5)
    assert found["code2_thickness_pixels"] > 2 and found["code2_thickness_rank"] == pytest.approx(1, abs=1e-9)
    assert abs(found["code1_thickness_pixels"]) < 0.3


def test_ranks_are_scipys_spearman():
    """An attribute that rises and falls: each sample's correlation, averaged."""
    from ganlib.metrics import strokes

    game = bars()
    plain = game.generator.forward
    game.generator.forward = lambda z: plain(torch.cat([z[:, :5], torch.sin(3 * z[:, 5:] + z[:, :1])], 1))
    values = torch.linspace(-1, 1, 7)
    images = sweep(game, 0, values, 5)
    slants = strokes(images.flatten(0, 1)).slant.reshape(7, 5)
    wanted = np.mean([stats.spearmanr(values, slants[:, i]).statistic for i in range(5)])
    assert responses(game, n=5, points=7)["code1_slant_rank"] == pytest.approx(wanted, abs=1e-9)


def test_a_sweep_keeps_all_but_one_number():
    game = toy()
    seen = []
    game.generator.register_forward_hook(lambda m, inputs, out: seen.append(inputs[0].clone()))
    images = sweep(game, 1, torch.tensor([-1.0, 0.0, 2.0]), 4, seed=3)
    assert images.shape == (3, 4, 2)
    z = torch.stack(seen)
    assert torch.equal(z[:, :, -1], torch.tensor([-1.0, 0.0, 2.0])[:, None].expand(3, 4))
    assert torch.equal(z[0, :, :-1], z[1, :, :-1]) and torch.equal(z[0, :, :-1], z[2, :, :-1])


# Another hand


def bar(width: int = 4, lean: float = 0.0) -> torch.Tensor:
    """An upright bar of ink, 18 pixels long, in the middle of 32 x 32: ``(1, 1, 32, 32)``."""
    y, x = torch.arange(32.0)[:, None] - 15.5, torch.arange(32.0) - 15.5
    inside = ((x + math.tan(math.radians(lean)) * y).abs() <= width / 2) & (y.abs() < 9)
    return 2.0 * inside[None, None] - 1


ALONE = {"degrees": 0.0, "shear": 0.0, "scale": 0.0, "shift": 0.0, "pen": 0.0}


def redrawn(n: int = 200, image: torch.Tensor | None = None, **amount: float) -> torch.Tensor:
    torch.manual_seed(3)
    image = bar() if image is None else image
    return RandomHand(**(ALONE | amount))(image.expand(n, -1, -1, -1))


def test_a_hand_that_changes_nothing():
    """Half of the images stay as they are; the others get a pen of threshold 1/2, whose outline stays."""
    images = redrawn()
    same = (images - bar()).abs().amax((1, 2, 3)) < 1e-5  # float32 interpolation at the pixels' own places
    assert 0.35 < same.double().mean() < 0.65  # 200 coins: four deviations are 0.14
    inside, beside = (images[:, 0, 9:23, columns] for columns in (slice(15, 17), slice(11, 13)))
    torch.testing.assert_close(inside, torch.ones_like(inside))
    torch.testing.assert_close(beside, -torch.ones_like(beside), rtol=0, atol=1e-5)
    ink = (images[~same][:, 0, 16] + 1) / 2
    torch.testing.assert_close(ink.sum(1), torch.full((len(ink),), 4.0))


@pytest.mark.parametrize(
    ("amount", "name", "most"),
    [({"shear": 0.3}, "slant", math.degrees(math.atan(0.3))), ({"degrees": 20.0}, "slant", 20.0)],
)
def test_slants_spread_evenly_up_to_their_bound(amount, name, most):
    """Measured by strokes: a bar leans by the angle of rotation, or of the shear."""
    from ganlib.metrics import strokes

    slants = getattr(strokes(redrawn(**amount)), name)
    # Pixels of an 18 x 4 bar tell a slant to about two degrees; 200 draws come within 5 % of the ends.
    assert slants.abs().max() == pytest.approx(most, abs=2)
    assert slants.min() < -0.8 * most and slants.max() > 0.8 * most
    assert abs(slants.mean()) < 0.15 * most  # most / sqrt(3 * 200) is 0.04 of it


def test_sizes_and_places_spread():
    from ganlib.metrics import strokes

    whole = strokes(bar()).size.item()
    sizes = strokes(redrawn(scale=0.2)).size / whole
    assert sizes.max() == pytest.approx(math.exp(0.2), abs=0.05)
    assert sizes.min() == pytest.approx(math.exp(-0.2), abs=0.05)
    ink = (redrawn(shift=0.06)[:, 0] + 1) / 2
    centres = (ink.sum(1) * (torch.arange(32.0) - 15.5)).sum(1) / ink.sum((1, 2))
    assert centres.abs().max() == pytest.approx(0.06 * 32, abs=0.15)


def test_pens_make_strokes_thinner_and_thicker():
    """A straight edge, blurred over three pixels, crosses the threshold 3 (t - 1/2) pixels further in."""
    ink = (redrawn(pen=0.25)[:, 0, 16] + 1) / 2
    widths = ink.sum(1)
    # Both edges move by up to 3/4 of a pixel, where a blur in whole pixels lets them stand.
    assert 2.2 < widths.min() < 3.4 and 4.6 < widths.max() < 5.8
    assert 3.8 < widths.mean() < 4.2


def test_a_hand_passes_gradients_and_keeps_the_range():
    rng = torch.Generator().manual_seed(0)
    images = (torch.rand(8, 3, 16, 16, generator=rng) * 2 - 1).requires_grad_()
    drawn = RandomHand()(images)
    assert drawn.shape == images.shape and drawn.abs().max() <= 1 + 1e-6
    (slope,) = torch.autograd.grad(drawn.square().sum(), images)
    assert bool((slope.abs().amax((1, 2, 3)) > 0).all())
    assert RandomHand()(images.bfloat16()).dtype == torch.float32, "too few bits for places between pixels"


# The networks and the recipe


def test_two_heads_on_one_body():
    judge = Discriminator(14, width=4, size=16)
    images = torch.rand(3, 1, 16, 16) * 2 - 1
    logits, guesses = judge.both(images)
    assert torch.equal(logits, judge(images)) and logits.shape == (3,) and guesses.shape == (3, 14)
    # Random weights: a sum of squares has a slope in every convolution of the body that both heads share.
    weights = [m.weight for m in judge.body if isinstance(m, nn.Conv2d)]
    for outputs in (logits, guesses):
        slopes = torch.autograd.grad(outputs.square().sum(), weights, retain_graph=True)
        assert all(bool(slope.any()) for slope in slopes)


def test_batch_norm_uses_the_batch_at_hand():
    """Evaluation gives what training does, and what was judged before has no part in it."""
    judge = Discriminator(12, width=4, size=16)
    images = torch.rand(6, 1, 16, 16) * 2 - 1
    trained = judge.both(images)[1]
    judge.both(5 * images + 1)
    judge.eval()
    torch.testing.assert_close(judge.both(images)[1], trained)
    assert not list(judge.buffers())


def test_guesses_of_q_come_per_code():
    game = toy().double()
    x = reals()
    logits, numbers = game.guess(x, batch_size=3)
    assert logits.shape == (8, 3) and numbers.shape == (8, 4)
    wanted = game.discriminator.both(x)[1].float()
    torch.testing.assert_close(torch.cat([logits, numbers], 1), wanted)
    assert game.training and not logits.requires_grad


def test_paper_constants():
    """Chen et al. 2016, appendix C and C.1: 62 + 10 + 2 latents, Adam at 2e-4 for D and 1e-3 for G."""
    data = Images(torch.rand(32, 1, 16, 16) * 2 - 1, torch.zeros(32, dtype=torch.int64))
    made = systems.get("infogan").experiment(Budget.GPU, data=data)
    assert made.game.generator.latent_dim == 74 and made.game.noise_dim == 62
    assert [(code.inputs, code.outputs) for code in made.game.codes] == [(10, 10), (2, 2)]
    rates = {
        player: make(made.game.players[player].parameters()).defaults["lr"]
        for player, make in made.settings.optimizers.items()
    }
    assert rates == {"discriminator": 2e-4, "generator": 1e-3}
    assert dict(made.game.turns) == {"discriminator": 1, "generator": 1}
    assert len(made.data) == 1, "labels must not come near the training"


def test_report_names_its_figures():
    made = systems.get("infogan").experiment(Budget.SMOKE)
    figures = made.evaluate(made.game)
    assert {"fid", "purity", "matched", "test_error_percent", "categorical_code_nats"} <= set(figures)
    assert {"code1_nats", "code2_nats"} <= set(figures)
    assert {f"code{i}_{a}" for i in (1, 2) for a in ("slant_rank", "thickness_pixels")} <= set(figures)
    assert all(math.isfinite(value) for value in figures.values())
    assert figures["matched"] <= figures["purity"]
    assert code_report(Images(torch.zeros(1), torch.zeros(1)), Budget.SMOKE) is None
