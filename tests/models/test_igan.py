"""The iGAN: whose turn moves what, projections against ridge regression, edits against normal equations."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy import ndimage, optimize
from torch import nn
from torch.nn import functional as F

from ganlib.losses import NonSaturating
from ganlib.models import igan
from ganlib.models.dcgan import Discriminator, Encoder, Generator
from ganlib.models.igan import Constraint, InteractiveGAN, drag, outlines, paint, project, sketch
from ganlib.training import Budget

SIDE, LATENTS = 8, 4


def small_game(seed=0, **options):
    torch.manual_seed(seed)
    networks = Generator(LATENTS, 8, 1, SIDE), Discriminator(8, 1, SIDE), Encoder(LATENTS, 8, 1, SIDE)
    game = InteractiveGAN(*networks, NonSaturating(), **{"depth": 2, **options})
    for module in game.modules():  # statistics that differ from any batch's, as after training
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return game


class LinearGenerator(nn.Module):
    """G(z) = W z, for which everything here has a closed form."""

    latent_dim = LATENTS

    def __init__(self, side=SIDE):
        super().__init__()
        self.linear = nn.Linear(LATENTS, side * side, bias=False)
        nn.init.normal_(self.linear.weight)
        self.side = side

    def forward(self, z):
        return self.linear(z).view(-1, 1, self.side, self.side)


class LinearDiscriminator(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 1), nn.Flatten(0))

    def forward(self, x):
        return self.layers(x)


def linear_game(**options):
    torch.manual_seed(1)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, LATENTS))
    networks = LinearGenerator(), LinearDiscriminator(), encoder
    return InteractiveGAN(
        *networks, NonSaturating(), **{"feature_weight": 0.0, "depth": 1, "noise": 0.0, **options}
    )


def images(n=6, seed=3):
    return torch.rand(n, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# The encoder's turn


def test_the_encoders_loss_is_the_formula_with_g_and_d_as_they_will_be_used():
    game, x = small_game(feature_weight=0.3, noise=0.5), images()
    game.train()
    terms = game.loss("encoder", (x,))
    judge, maker = copy.deepcopy(game.discriminator).eval(), copy.deepcopy(game.generator).eval()
    z = copy.deepcopy(game.encoder)(x)
    made = maker(z)
    features = [judge.layers[1](judge.layers[0](side)) for side in (made, x)]
    # Sums over a few hundred numbers near 1 in float32.
    assert terms["pixels"].item() == pytest.approx(F.mse_loss(made, x).item(), rel=1e-5)
    assert terms["features"].item() == pytest.approx(0.3 * F.mse_loss(*features).item(), rel=1e-5)
    assert terms["prior"].item() == pytest.approx(0.25 / SIDE**2 * z.square().sum(1).mean().item(), rel=1e-5)
    assert sum(term.item() for term in terms.values()) > 0.1


def test_each_turn_moves_its_player_alone_and_the_encoders_leaves_statistics_and_modes():
    game, x = small_game(), images()
    game.train()
    before = {k: v.clone() for k, v in game.state_dict().items() if "running" in k and "encoder" not in k}
    game.loss("encoder", (x,))
    assert all(torch.equal(game.state_dict()[k], v) for k, v in before.items())
    assert all(module.training for module in game.modules())
    for player in game.turns:
        game.zero_grad(set_to_none=True)
        sum(game.loss(player, (x,)).values()).backward()
        got = {name for name, p in game.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
        assert {name.split(".")[0] for name in got} == {player}
        own = dict(game.players[player].named_parameters())
        assert len(got) == len(own)


# Projection


def test_optimisation_finds_the_ridge_solution():
    """For G(z) = W z the minimiser of L is ridge regression with the noise's variance."""
    game, x = linear_game(noise=1.5), images()
    z = game.optimise(x, torch.zeros(len(x), LATENTS), steps=200, lr=0.05)
    w = game.generator.linear.weight.detach().double().numpy()
    exact = np.linalg.solve(w.T @ w + 1.5**2 * np.eye(LATENTS), w.T @ x.flatten(1).double().numpy().T).T
    plain = np.linalg.lstsq(w, x.flatten(1).double().numpy().T, rcond=None)[0].T
    # Adam's last steps are of the order of 1e-4; the prior moves the solution by far more.
    np.testing.assert_allclose(z.numpy(), exact, atol=1e-3)
    assert np.abs(exact - plain).max() > 5e-3


def test_every_image_descends_as_it_would_alone():
    game, x = small_game(), images(3)
    start = torch.randn(3, LATENTS, generator=torch.Generator().manual_seed(0))
    together = game.optimise(x, start, steps=20)
    alone = torch.cat([game.optimise(x[i : i + 1], start[i : i + 1], steps=20) for i in range(3)])
    # The same sums in another order, through twenty steps.
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)
    assert (together - start).abs().max() > 0.1


def test_of_several_starts_the_best_end_is_kept_for_each_image():
    game, x = linear_game(), images(2)
    w = game.generator.linear.weight.detach()
    best = torch.linalg.lstsq(w, x.flatten(1).T).solution.T
    far = best + 5
    starts = torch.stack([torch.stack([far[0], best[1]]), torch.stack([best[0], far[1]])])
    z = game.optimise(x, starts, steps=1, lr=1e-6)
    torch.testing.assert_close(z, best, atol=1e-5, rtol=0)  # a step of 1e-6 and its rounding


def test_the_three_ways_begin_where_they_say_and_leave_no_trace():
    game, x = small_game().train(), images(3)
    state = {k: v.clone() for k, v in game.state_dict().items()}
    found = project(game, x, starts=2, steps=15, seed=4)
    assert list(found) == ["optimisation", "encoder", "hybrid"]
    latents = torch.randn(2, 3, LATENTS, generator=torch.Generator().manual_seed(4))
    assert torch.equal(found["optimisation"].codes, game.optimise(x, latents, steps=15))
    assert torch.equal(found["encoder"].codes, game.predict(x))
    assert torch.equal(found["hybrid"].codes, game.optimise(x, game.predict(x), steps=15))
    for way in found.values():
        assert torch.equal(way.images, game.generate(way.codes)) and way.seconds > 0
        assert not way.codes.requires_grad
    assert all(torch.equal(game.state_dict()[k], v) for k, v in state.items())
    assert all(p.grad is None for p in game.parameters())
    assert all(module.training for module in game.modules())


# Edits


def normal_equations(game, mask, colour, smoothness, anchor):
    """The minimiser of the mean of (W z - v)^2 under the mask plus smoothness |z - z0|^2."""
    w = game.generator.linear.weight.detach().double().numpy()[mask.flatten().numpy()]
    left = w.T @ w / len(w) + smoothness * np.eye(LATENTS)
    return np.linalg.solve(left, w.T @ np.full(len(w), colour) / len(w) + smoothness * anchor)


@pytest.mark.parametrize("anchored", [False, True])
def test_an_edit_solves_the_normal_equations(anchored):
    game = linear_game()
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    mask[2, 1:7] = True
    z0, other = torch.randn(2, 1, LATENTS, generator=torch.Generator().manual_seed(2))
    anchor = other if anchored else z0
    options = {"anchor": other} if anchored else {}
    z = game.edit(z0, [paint(mask, 0.8)], smoothness=0.3, steps=300, lr=0.03, **options)
    exact = normal_equations(game, mask, 0.8, 0.3, anchor[0].double().numpy())
    # Adam at a constant rate ends within a fraction of it.
    np.testing.assert_allclose(z[0].numpy(), exact, atol=5e-3)
    assert np.abs(exact - z0[0].numpy()).max() > 0.1


def test_the_realism_term_is_minus_log_d():
    game = linear_game()
    nn.init.normal_(game.discriminator.layers[1].weight, std=0.3)
    z0 = torch.randn(1, LATENTS, generator=torch.Generator().manual_seed(5))
    z = game.edit(z0, [], smoothness=0.1, realism=2.0, steps=300, lr=0.03)
    a = (game.discriminator.layers[1].weight @ game.generator.linear.weight)[0].detach().double().numpy()
    b = game.discriminator.layers[1].bias.item()
    start = z0[0].double().numpy()

    def objective(z):
        return 0.1 * ((z - start) ** 2).sum() + 2 * np.logaddexp(0, -(a @ z + b))

    np.testing.assert_allclose(z[0].numpy(), optimize.minimize(objective, start).x, atol=5e-3)
    assert torch.equal(game.edit(z0, [], smoothness=0.1), z0)


def test_a_constraint_is_a_mean_over_the_places_touched():
    x = images(2)
    mask = torch.zeros(SIDE, SIDE)
    mask[1, 2], mask[4, 5] = 1.0, 0.5
    expected = (x[:, 0, 1, 2] - 0.25) ** 2 * 1.0 + (x[:, 0, 4, 5] - 0.25) ** 2 * 0.5
    torch.testing.assert_close(paint(mask, 0.25, weight=3.0)(x), 3 * expected / 1.5)
    assert paint(torch.zeros(SIDE, SIDE), 1.0)(x).tolist() == [0, 0]
    colours = x.repeat(1, 3, 1, 1)
    value = paint(mask, torch.tensor([0.25, 0.0, 0.0]))(colours)
    others = (2 * x[:, 0, 1, 2] ** 2 + x[:, 0, 4, 5] ** 2) / 1.5
    torch.testing.assert_close(value, (expected / 1.5 + others) / 3)


@pytest.mark.parametrize(("right", "down"), [(2, -1), (-3, 2), (0, 0)])
def test_a_dragged_patch_is_asked_for_where_it_was_dragged(right, down):
    x, mask = images(1), torch.zeros(SIDE, SIDE)
    mask[3:5, 1:4] = 1
    colours, lines = drag(x, mask, right, down, weight=2.0)
    shifted = ndimage.shift(x[0, 0].numpy(), (down, right), order=0, cval=0)
    np.testing.assert_array_equal(
        colours.mask[0, 0], ndimage.shift(mask.numpy(), (down, right), order=0, cval=0)
    )
    under = colours.mask[0, 0].bool()
    assert torch.equal(colours.target[0, 0][under], torch.from_numpy(shifted)[under])
    target = torch.from_numpy(shifted)[None, None]
    assert colours(target).item() == 0 and lines(target).item() == pytest.approx(0, abs=1e-12)
    assert (colours.weight, lines.weight) == (2.0, pytest.approx(0.4))
    if (right, down) != (0, 0):
        assert colours(x).item() > 0.01


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, 2.5])
def test_outlines_vote_for_the_direction_of_the_gradient(angle):
    """On a ramp of slope m inner pixels vote m max(0, cos 2(angle - theta_k)), cells are normalised."""
    y, x = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    ramp = 0.05 * (math.cos(angle) * x + math.sin(angle) * y)[None, None]
    bins = torch.arange(igan.BINS) * math.pi / igan.BINS
    expected = 0.05 * (2 * (angle - bins)).cos().relu()
    expected = expected / (expected.square().sum() + 0.05**2).sqrt()
    votes = outlines(ramp)[0, :, 1:-1, 1:-1]  # the border repeats its pixels
    # 1e-8 below the root, against a slope of 0.05, is 2e-6 of it.
    torch.testing.assert_close(votes, expected.view(-1, 1, 1).expand_as(votes), atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(outlines(-ramp), outlines(ramp))  # a stroke has two sides


def test_outlines_of_nothing_have_a_gradient():
    flat = torch.zeros(1, 1, SIDE, SIDE, requires_grad=True)
    wish = sketch(torch.ones(SIDE, SIDE), images(1))
    gradient = torch.autograd.grad(wish(flat).sum(), flat)[0]
    assert gradient.isfinite().all()
    assert wish(images(1)).item() == 0 < wish(flat).item()


# Words


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_game(feature_weight=-1.0), "feature_weight must be at least 0, got -1"),
        (lambda: small_game(noise=math.nan), "noise must be at least 0, got nan"),
        (lambda: small_game(depth=99), "depth must be 1 to"),
        (lambda: small_game().optimise(images(2), torch.zeros(3, LATENTS)), r"start must be \(2, 4\)"),
        (lambda: small_game().edit(torch.zeros(1, LATENTS), [], smoothness=-1.0), "smoothness and realism"),
        (lambda: paint(torch.zeros(3, SIDE, SIDE), 1.0), r"mask must be \(H, W\)"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_report_is_of_unseen_digits():
    experiment = igan.recipe(Budget.SMOKE)
    figures = experiment.evaluate(experiment.game)
    for name in ("optimisation", "encoder", "hybrid"):
        assert 0 <= figures[f"same_digit_{name}"] <= 1 and figures[f"seconds_{name}"] > 0
    from ganlib.data import mnist
    from ganlib.metrics import psnr

    digits = mnist("test").images[:8]
    made = experiment.game.generate(experiment.game.predict(digits))
    assert figures["psnr_encoder"] == pytest.approx(psnr(made, digits).mean().item(), rel=1e-5)
    assert isinstance(paint(torch.ones(2, 2), 0.0), Constraint)
