"""Plug and play: a step against its formula, chains against stationary laws, the game's losses and routes."""

import math

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from ganlib.data import Images
from ganlib.losses import NonSaturating
from ganlib.metrics import ClassifierFeatures, strokes
from ganlib.models.ppgn import (
    PPGN,
    Classifier,
    langevin,
    langevin_rates,
    langevin_step,
    of_class,
    of_pixels,
    of_strokes,
    within_class_distance,
)
from ganlib.models.ppgn import recipe as ppgn
from ganlib.training import Budget

# The step. With G(h) = 2h, E(x) = x / 4 + 1 / 10 and log C(x) = -(x - 3)^2 / 2 the terms at h = 1 are, by
# hand, R(h) - h = 0.5 + 0.1 - 1 = -0.4 and d log C(G(h)) / dh = -(2 - 3) * 2 = 2.

ONE = torch.ones(1, 1, dtype=torch.float64)
LINE = (lambda h: 2 * h, lambda x: x / 4 + 0.1, lambda x: -(x - 3).square().sum(1) / 2)
OFF = {"eps1": 0.0, "eps2": 0.0, "eps3": 0.0}


@pytest.mark.parametrize(
    ("rates", "expected"),
    [({"eps1": 0.5}, 1 - 0.2), ({"eps2": 0.1}, 1 + 0.2), ({"eps1": 0.5, "eps2": 0.1}, 1.0), ({}, 1.0)],
)
def test_step_is_its_formula(rates, expected):
    after = langevin_step(ONE, *LINE, **OFF | rates)
    assert after.item() == pytest.approx(expected, abs=1e-15)  # a few roundings of float64


def test_noise_of_a_step_is_eps3_times_normal():
    rng, same = (torch.Generator().manual_seed(5) for _ in range(2))
    h = torch.zeros(4, 3)
    after = langevin_step(h, *LINE, **OFF | {"eps3": 0.7}, rng=rng)
    assert torch.equal(after, 0.7 * torch.randn(4, 3, generator=same))


def test_slope_is_of_each_row_alone_and_by_finite_differences():
    """Through a generator that is not linear; a batch's rows do not touch each other."""
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(3, 4, generator=rng, dtype=torch.float64)
    h = torch.randn(5, 3, generator=rng, dtype=torch.float64)

    def generator(code):
        return (code @ matrix).tanh()

    def condition(x):
        return of_class(lambda images: images, torch.tensor([2, 0, 1, 3, 2]))(x)

    found = langevin_step(h, generator, lambda x: h, condition, eps1=0.0, eps2=1.0, eps3=0.0) - h
    step = 1e-6
    for i in range(3):
        shift = step * torch.eye(3, dtype=torch.float64)[i]
        slope = (condition(generator(h + shift)) - condition(generator(h - shift))) / (2 * step)
        # Central differences err by step^2 and rounding / step, 1e-10 each.
        assert torch.allclose(found[:, i], slope, atol=1e-8)


def test_a_step_leaves_no_graph_and_no_gradients():
    generator = nn.Linear(2, 2)
    h = torch.zeros(3, 2, requires_grad=True)
    after = langevin_step(h, generator, generator, lambda x: x.sum(1), eps1=0.1, eps2=0.1, eps3=0.1)
    assert not after.requires_grad and h.grad is None and generator.weight.grad is None


def test_no_condition_is_a_condition_of_slope_zero():
    rates = {"eps1": 0.3, "eps2": 0.5, "eps3": 0.0}
    none = langevin_step(ONE, *LINE[:2], None, **rates)
    assert none.item() == pytest.approx(1 - 0.3 * 0.4, abs=1e-15)


# Chains, against the stationary law of an autoregression h' = b + a h + eps3 n: mean b / (1 - a), variance
# eps3^2 / (1 - a^2).


def stationary(**how) -> torch.Tensor:
    """The last of 60 states of 20,000 chains from 0, long forgotten at the rates below (0.8^60 < 1e-5)."""
    rng = torch.Generator().manual_seed(1)
    return langevin(torch.zeros(20_000, 1, dtype=torch.float64), steps=60, rng=rng, **how)[-1]


def close(found: torch.Tensor, mean: float, variance: float) -> None:
    """Within four standard errors: of a mean sqrt(v / n), of a variance v sqrt(2 / n) for normal numbers."""
    n = len(found)
    assert found.mean().item() == pytest.approx(mean, abs=4 * math.sqrt(variance / n))
    assert found.var().item() == pytest.approx(variance, rel=4 * math.sqrt(2 / n))


def test_prior_and_noise_alone_are_an_autoregression():
    """R = 0: h' = (1 - eps1) h + eps3 n."""
    how = {"generator": lambda h: h, "encoder": torch.zeros_like, "log_condition": None}
    found = stationary(**how, eps1=0.4, eps2=0.0, eps3=0.5)
    close(found, 0.0, 0.5**2 / (1 - (1 - 0.4) ** 2))


def test_denoiser_and_langevin_rates_sample_the_smoothed_prior_and_its_posterior():
    r"""p = N(0, t^2), noise s: R(h) = h t^2 / (t^2 + s^2), which is s^2 times the score of N(0, t^2 + s^2).

    With eps2 = eps1 s^2 and eps3^2 = 2 eps1 s^2 the chain is Langevin's with the step 2 eps1 s^2 on
    N(0, t^2 + s^2) C(h). Its mean is the posterior's; its variance is v / (1 - k), which k = eps1 s^2 / 2v
    takes to the posterior's v as the step shrinks.
    """
    t2, s2, eps1 = 1.0, 0.8, 0.5
    wish, width2 = 2.0, 1.5
    how = {
        "generator": lambda h: h,
        "encoder": lambda x: x * t2 / (t2 + s2),
        **langevin_rates(eps1, math.sqrt(s2)),
    }
    assert how["eps2"] == pytest.approx(0.4) and how["eps3"] ** 2 == pytest.approx(0.8)
    with pytest.raises(ValueError, match="noise must be positive"):
        langevin_rates(0.5, 0.0)
    for condition, mean, v in (
        (None, 0.0, t2 + s2),
        (
            lambda x: -(x - wish).square().sum(1) / (2 * width2),
            wish * (t2 + s2) / (t2 + s2 + width2),
            1 / (1 / (t2 + s2) + 1 / width2),
        ),
    ):
        close(stationary(**how, log_condition=condition), mean, v / (1 - eps1 * s2 / (2 * v)))


def test_chain_keeps_every_state():
    chain = langevin(ONE, *LINE, steps=3, eps1=0.5, eps2=0.0, eps3=0.0)
    # h' = 0.75 h + 0.05, from 1.
    assert chain.flatten().tolist() == pytest.approx([1.0, 0.8, 0.65, 0.5375], abs=1e-14)
    assert chain.shape == (4, 1, 1)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        langevin(ONE, *LINE, steps=0, **OFF)
    with pytest.raises(ValueError, match=r"h must be \(N, d\)"):
        langevin(torch.zeros(3), *LINE, steps=1, **OFF)


# Conditions


def test_class_condition_is_the_log_of_the_softmax():
    logits = np.array([[1.0, -2.0, 0.5], [40.0, -40.0, 0.0]])
    found = of_class(lambda x: x, torch.tensor([2, 1]))(torch.tensor(logits))
    # The second row's -80 would be log 0 for a softmax followed by a logarithm in float32.
    assert found.tolist() == pytest.approx(log_softmax(logits, 1)[[0, 1], [2, 1]], rel=1e-12)


def bars(lean: float = 0.0) -> torch.Tensor:
    """An upright bar, sheared by ``lean`` pixels per row."""
    rows, columns = torch.meshgrid(*(torch.arange(32.0) - 15.5,) * 2, indexing="ij")
    ink = ((2.5 - (columns + lean * rows).abs()).clamp(0, 1)) * (rows.abs() < 10)
    return 0.98 * (2 * ink - 1)[None, None]  # a clamp has no slope at its ends


def test_strokes_condition_is_a_bell_around_the_wish():
    image = bars()
    found = strokes(image)
    log_condition = of_strokes(slant=(20.0, 5.0), thickness=(3.0, 0.5))
    by_hand = -((found.slant - 20) ** 2) / 50 - (found.thickness - 3) ** 2 / 0.5
    # The trace of ink that keeps slopes finite moves both by less than 1 in 10,000.
    assert log_condition(image).item() == pytest.approx(by_hand.item(), rel=1e-3)
    x = bars().requires_grad_()
    (slope,) = torch.autograd.grad(of_strokes(slant=(20.0, 5.0))(x).sum(), x)
    moved = strokes((x + 5e-2 * slope / slope.abs().max()).detach()).slant
    assert moved > found.slant, "uphill must lean the bar to the right"
    black = torch.full((1, 1, 32, 32), -1.0, requires_grad=True)
    value = log_condition(black)
    (slope,) = torch.autograd.grad(value.sum(), black)
    assert value.isfinite() and slope.isfinite().all(), "one black image must not end its chain"
    with pytest.raises(ValueError, match="slant, thickness, size"):
        of_strokes(colour=(1.0, 1.0))
    with pytest.raises(ValueError, match="at least one"):
        of_strokes()
    with pytest.raises(ValueError, match=r"slant.*positive"):
        of_strokes(slant=(1.0, 0.0))


def test_pixel_condition_sees_the_known_part_alone():
    images = torch.zeros(2, 1, 4, 4)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[:2] = True
    x = torch.full((2, 1, 4, 4), 0.5)
    log_condition = of_pixels(images, known, sigma=0.5)
    assert log_condition(x).tolist() == [-8 * 0.25 / 0.5] * 2
    y = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(log_condition(y).sum(), y)
    assert torch.equal(slope, -2.0 * known.expand_as(slope)), "(0 - 0.5) / 0.5^2 where known, else nothing"


# The game


CODE = 6


def game(**settings) -> PPGN:
    """Images of 8 x 8, codes of 6 numbers; layers as torch draws them, so that slopes are of order one."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(CODE, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
        generator.latent_dim = CODE
        judge = nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
        condition = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        encoder = Classifier(4, CODE, 10, size=8)
    return PPGN(generator, judge, encoder, condition, NonSaturating(), classes=10, **settings).train()


def batch(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(3)
    return torch.rand(n, 1, 8, 8, generator=rng) * 2 - 1, torch.arange(n) % 10


def pictures() -> Images:
    return Images(*(t.repeat(4, *[1] * (t.ndim - 1)) for t in batch()))


def test_each_turn_moves_its_player_alone():
    played = game()
    for player, module in played.players.items():
        played.zero_grad()
        torch.stack(list(played.loss(player, batch()).values())).sum().backward()
        moved = {id(p) for p in played.parameters() if p.grad is not None and p.grad.any()}
        own = dict(module.named_parameters())
        assert moved <= {id(p) for p in own.values()}, player
        # Adam needs every weight moved; a bias below a batch norm would have nothing to do.
        assert all(id(p) in moved for name, p in own.items()), player


def test_fakes_of_the_discriminators_turn_have_no_graph():
    """Also where nobody froze the generator."""
    played = game()
    played.terms("discriminator", batch())["adversarial"].backward()
    assert all(p.grad is None for p in played.generator.parameters())
    assert all(p.grad is None for p in played.encoder.parameters())


def test_codes_stay_while_the_others_play():
    """In a turn of D or G the encoder computes with running statistics, and leaves them as they were."""
    played = game()
    before = {k: v.clone() for k, v in played.encoder.state_dict().items()}
    for player in ("discriminator", "generator", "condition"):
        played.loss(player, batch())
    assert all(torch.equal(before[k], v) for k, v in played.encoder.state_dict().items())
    played.loss("encoder", batch())
    assert any(not torch.equal(before[k], v) for k, v in played.encoder.state_dict().items())


def test_generator_terms_are_their_formulas():
    """Without noise: squared errors of image, features and code, and the adversarial loss, each weighted."""
    weights = {"adversarial": 0.5, "image": 2.0, "features": 3.0, "code": 4.0}
    played = game(noise=0.0, weights=weights)
    real, labels = batch()
    terms = played.loss("generator", (real, labels))
    played.encoder.eval()
    with torch.no_grad():
        features = played.encoder.body(real)
        code = played.encoder.code(features)
        fake = played.generator(code)
        again = played.encoder.body(fake)
        pairs = {
            "image": (fake, real),
            "features": (again, features),
            "code": (played.encoder.code(again), code),
        }
        logits = played.discriminator(fake)
    for name, (a, b) in pairs.items():
        expected = weights[name] * np.mean((a.double() - b.double()).numpy() ** 2)
        assert terms[name].item() == pytest.approx(expected, rel=1e-4), name  # float32 convolutions, twice
    expected = 0.5 * np.logaddexp(0, -logits.double().numpy()).mean()
    assert terms["adversarial"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["adversarial", "image", "features", "code"])
def test_each_term_reaches_the_generator(name):
    """The paths of features and code lead through the frozen encoder."""
    played = game(weights=dict.fromkeys(("adversarial", "image", "features", "code"), 0.0) | {name: 1.0})
    terms = played.loss("generator", batch())
    assert list(terms) == [name]
    terms[name].backward()
    assert all(p.grad.any() for p in played.generator.parameters())
    assert all(p.grad is None for p in played.encoder.parameters())


def test_noise_goes_into_the_generator_and_not_into_the_target():
    """The denoiser's target is the clean code: with R(h) = h the loss of the code is the noise's variance."""

    class Identity(nn.Module):
        latent_dim = 64

        def forward(self, h):
            return h

    encoder = Classifier(8, 4, 10)
    encoder.body, encoder.code = nn.Identity(), nn.Flatten()
    played = PPGN(
        Identity(), nn.Linear(64, 1), encoder, Classifier(8, 4, 10), NonSaturating(), classes=10, noise=0.5
    )
    real = torch.zeros(2000, 64)
    torch.manual_seed(0)
    terms = played.terms("generator", (real, torch.zeros(2000, dtype=torch.int64)))
    # 128,000 squares of noise: a standard error of sqrt(2 / 128,000), 0.4 %.
    assert terms["code"].item() / played.weights["code"] == pytest.approx(0.25, rel=0.02)


def test_classifiers_minimise_cross_entropy():
    played = game()
    real, labels = batch()
    for player in ("encoder", "condition"):
        loss = played.loss(player, (real, labels))["classification"]
        with torch.no_grad():
            logits = played.players[player](real).double().numpy()
        assert loss.item() == pytest.approx(-log_softmax(logits, 1)[range(8), labels].mean(), rel=1e-5)


def test_the_judge_has_no_part_in_the_game():
    """Nor do encoder and condition share a weight, in the recipe."""
    played = ppgn(Budget.SMOKE, pictures()).game
    assert not any(isinstance(m, ClassifierFeatures) for m in played.modules())
    storages = [{p.data_ptr() for p in m.parameters()} for m in played.players.values()]
    assert sum(map(len, storages)) == len(set().union(*storages))
    first, second = (next(m.parameters()) for m in (played.encoder, played.condition))
    assert first.shape == second.shape and not torch.equal(first, second)


def test_code_is_standardised():
    """Mean 0 and variance 1 on a batch in training mode: what makes the rates mean something."""
    played = game()
    code = played.encoder.train().encode(batch(64)[0])
    assert torch.allclose(code.mean(0), torch.zeros(CODE), atol=1e-5)
    # Batch norm adds 1e-5 to a variance that is small before training.
    assert torch.allclose(code.var(0, correction=0), torch.ones(CODE), atol=1e-2)


# Sampling


def test_sample_follows_its_keywords():
    played = game()
    start = torch.randn(6, CODE, generator=torch.Generator().manual_seed(2))
    labels = torch.tensor([0, 1, 2, 3, 4, 5])
    still = played.sample(6, labels=labels, start=start, steps=2, **OFF)
    with played.evaluating():
        assert torch.equal(still, played.generator(start))
    how = {"labels": labels, "start": start, "steps": 2, "eps1": 0.3, "eps2": 0.4, "eps3": 0.0}
    whole, parts = played.sample(6, **how), played.sample(6, **how, batch_size=4)
    assert torch.allclose(whole, parts, atol=1e-5)  # float32 convolutions of other batch sizes
    assert whole.shape == (6, 1, 8, 8) and whole.abs().max() <= 1
    noisy = [
        played.sample(6, torch.Generator().manual_seed(s), labels, start=start, steps=2) for s in (0, 0, 1)
    ]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    assert played.training, "the modes are put back"


def test_sample_walks_uphill_in_what_it_is_asked_for():
    played = game()
    start = torch.randn(10, CODE, generator=torch.Generator().manual_seed(2))
    labels = torch.arange(10)
    how = {"labels": labels, "start": start, "steps": 4, "eps1": 0.0, "eps3": 0.0}
    with played.evaluating():
        logs = [
            of_class(played.condition, labels)(played.sample(10, **how, eps2=e)).sum()
            for e in (-0.5, 0.0, 0.5)
        ]
    assert logs[0] < logs[1] < logs[2]


def test_another_condition_plugs_in():
    """A condition in place of the class, and both together: a product of experts."""
    played = game()
    start = torch.zeros(3, CODE)
    how = {"start": start, "steps": 1, "eps1": 0.0, "eps2": 0.1, "eps3": 0.0}

    def dark(x):
        return -x.mean((1, 2, 3))

    labels = torch.tensor([1, 2, 3])
    codes = [
        played.walk(start, condition, steps=1, eps1=0.0, eps2=0.1, eps3=0.0)[-1]
        for condition in (dark, of_class(played.condition, labels))
    ]
    both = played.sample(3, labels=labels, log_condition=dark, **how)
    with played.evaluating():
        # From 0 the two steps add up.
        assert torch.allclose(both, played.generator(codes[0] + codes[1]), atol=1e-5)
        assert torch.allclose(
            played.sample(3, log_condition=dark, **how), played.generator(codes[0]), atol=1e-5
        )


def test_sample_refuses():
    played = game()
    with pytest.raises(ValueError, match=r"labels must be int64 of shape \(3,\)"):
        played.sample(3, labels=torch.zeros(2, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"labels must be in 0\.\.9, got 0\.\.10"):
        played.sample(3, labels=torch.tensor([0, 10, 2]))
    with pytest.raises(ValueError, match=r"start must be \(3, 6\), got \(3, 4\)"):
        played.sample(3, start=torch.zeros(3, 4))
    with pytest.raises(ValueError, match="noise"):
        PPGN(*(nn.Identity(),) * 4, NonSaturating(), classes=10, noise=-1.0)
    with pytest.raises(ValueError, match="weights"):
        PPGN(*(nn.Identity(),) * 4, NonSaturating(), classes=10, weights={"pixels": 1.0})


def test_within_class_distance_pairs_images_of_one_class():
    """Two classes of equal images: no distance, whatever lies between the classes."""
    x = torch.cat([bars(), bars(0.5)]).repeat(3, 1, 1, 1)
    assert within_class_distance(x, torch.tensor([0, 1] * 3)) == pytest.approx(0.0, abs=1e-6)
    assert within_class_distance(x, torch.zeros(6, dtype=torch.int64)) > 0.05
    with pytest.raises(ValueError, match="two images of one class"):
        within_class_distance(x[:2], torch.tensor([0, 1]))
