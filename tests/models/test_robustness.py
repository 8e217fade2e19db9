"""The robustness grid: that its rows are the slide's, its columns the papers', and a failure an outcome."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from ganlib import studies
from ganlib.layers import mixes_samples
from ganlib.losses import R1, R2, GradientPenalty
from ganlib.models.robustness import (
    ARCHITECTURES,
    METHODS,
    Gated,
    Method,
    Perceptron,
    ResNetDiscriminator,
    ResNetGenerator,
    Shape,
    he_,
    layer_norm,
    play,
)
from ganlib.models.wgan import WGAN
from ganlib.studies import robustness, spectral
from ganlib.training import Budget

SMALL = Shape(latent_dim=6, width=4, size=16, hidden=8, depth=8)
PENALISED = [name for name, method in METHODS.items() if method.regularizers]


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def kinds(module: nn.Module) -> set[str]:
    return {type(m).__name__ for m in module.modules() if not list(m.children())}


def networks(row: str, shape: Shape = SMALL) -> tuple[nn.Module, nn.Module]:
    return ARCHITECTURES[row].networks(shape, nn.BatchNorm2d)


# Rows


@pytest.mark.parametrize("row", ARCHITECTURES)
@pytest.mark.parametrize(("size", "channels"), [(16, 1), (32, 3)])
def test_shapes(row, size, channels):
    shape = Shape(6, 4, channels, size, hidden=8, depth=11)
    generator, discriminator = networks(row, shape)
    images = generator(torch.randn(5, 6))
    assert images.shape == (5, channels, size, size) and images.abs().max() <= 1
    assert discriminator(images).shape == (5,)


def test_rows_are_what_the_slide_says():
    """Which normalization and which nonlinearity stand in G and in D, row by row."""
    norm, relu, leaky = "BatchNorm2d", "ReLU", "LeakyReLU"
    wanted = {  # G has, G has not, D has, D has not
        "dcgan": ({norm, relu}, set(), {norm, leaky}, set()),
        "constant": ({relu}, {norm}, {norm, leaky}, set()),
        "mlp": ({relu, "Linear"}, {norm, "ConvTranspose2d"}, {norm, leaky}, set()),
        "unnormalized": ({relu}, {norm}, {leaky}, {norm}),
        "gated": ({norm, "Gated"}, {relu}, {norm, "Gated"}, {leaky}),
        "tanh": ({norm, "Tanh"}, {relu}, {norm, "Tanh"}, {leaky}),
        "resnet": ({norm, relu}, set(), {norm, relu}, set()),
    }
    assert list(wanted) == list(ARCHITECTURES)
    for row, (in_g, not_in_g, in_d, not_in_d) in wanted.items():
        generator, discriminator = (kinds(network) for network in networks(row))
        assert in_g <= generator and not not_in_g & generator, row
        assert in_d <= discriminator and not not_in_d & discriminator, row


def test_filters_double_or_stay():
    def filters(row: str) -> list[int]:
        generator = networks(row, Shape(6, 4, 1, 32))[0]
        return [m.in_channels for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]

    assert filters("dcgan") == [16, 8, 4] and filters("constant") == [4, 4, 4]


def test_perceptron_has_four_hidden_layers_of_512():
    layers = [m for m in Perceptron(Shape()).modules() if isinstance(m, nn.Linear)]
    assert [m.out_features for m in layers] == [512, 512, 512, 512, 32 * 32]


@pytest.mark.parametrize("network", [ResNetGenerator, ResNetDiscriminator])
@pytest.mark.parametrize(("depth", "size"), [(101, 32), (101, 64), (14, 32), (11, 32)])
def test_residual_networks_have_as_many_layers_as_they_say(network, depth, size):
    """Every convolution and linear layer on the way from end to end, shortcuts apart."""
    module = network(Shape(4, 4, 1, size, depth=depth))
    layers = [
        name
        for name, m in module.named_modules()
        if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear) and "shortcut" not in name
    ]
    assert len(layers) == depth


@pytest.mark.parametrize("depth", [8, 12, 100])
def test_depths_that_do_not_exist(depth):
    with pytest.raises(ValueError, match=f"depth must be 3 b .* got {depth}"):
        ResNetGenerator(Shape(4, 4, 1, 32, depth=depth))


def test_a_block_adds_three_tenths_to_its_shortcut():
    """With a zeroed branch's end the output is the shortcut; with a constant one, 0.3 of it more."""
    block = next(
        m for m in ResNetGenerator(SMALL, normalize=None).modules() if type(m).__name__ == "Bottleneck"
    )
    with torch.no_grad():
        block.branch[-1].weight.zero_()
        block.branch[-1].bias.fill_(2.0)
    x = torch.randn(2, block.branch[1].in_channels, 4, 4)
    torch.testing.assert_close(block(x), block.shortcut(x) + 0.6)


# Parts


def test_gate():
    x = torch.randn(3, 6, 2, 2)
    a, b = x.numpy()[:, :3], x.numpy()[:, 3:]
    # float32 against float32 functions of another library
    np.testing.assert_allclose(Gated()(x).numpy(), np.tanh(b) / (1 + np.exp(-a)), rtol=1e-5, atol=1e-6)


def test_layer_norm_is_torchs_over_a_whole_sample():
    x = 3 * torch.randn(4, 5, 6, 6) + 1
    module = layer_norm(5)
    torch.testing.assert_close(module(x), nn.functional.layer_norm(x, (5, 6, 6)), rtol=1e-4, atol=1e-5)
    assert module.weight.shape == (5,), "one scale per channel"
    with torch.no_grad():
        alone, together = module(x[:1]), module(torch.cat([x[:1], 9 * x[1:]]))[:1]
    torch.testing.assert_close(alone, together)


@pytest.mark.parametrize(
    "layer", [nn.Linear(400, 300), nn.Conv2d(40, 300, 3, padding=1), nn.ConvTranspose2d(40, 300, 4, 2, 1)]
)
def test_he_keeps_the_second_moment_through_a_rectifier(layer):
    """The output's variance is twice the mean square of inputs that a ReLU has halved: as before it."""
    x = torch.randn(16, *([400] if isinstance(layer, nn.Linear) else [40, 8, 8]))
    y = he_(layer)(x.relu()).detach()
    if y.ndim == 4:
        y = y[:, :, 2:-2, 2:-2]  # at the borders fewer taps count
    # The weights' own spread: 2 / inputs of relative variance for each of 300 units, and inputs' likewise.
    assert y.square().mean().item() == pytest.approx(1.0, abs=0.15)
    assert not layer.bias.any()


# Columns


def test_columns_are_the_papers():
    """Optimizer, its rate, betas or alpha, D's steps: Gulrajani's published code; the later papers' own."""
    weight = [nn.Parameter(torch.zeros(1))]
    found = {}
    for name, method in METHODS.items():
        optimizer = method.optimizer(1.0)(weight)
        found[name] = (
            type(optimizer).__name__,
            optimizer.defaults["lr"],
            optimizer.defaults.get("betas"),
            method.n_critic,
        )
        assert method.optimizer(10.0)(weight).defaults["lr"] == pytest.approx(10 * optimizer.defaults["lr"])
    assert found == {
        "gan": ("Adam", 2e-4, (0.5, 0.999), 1),
        "lsgan": ("RMSprop", 1e-4, None, 1),
        "wgan": ("RMSprop", 5e-5, None, 5),
        "wgan-gp": ("Adam", 1e-4, (0.0, 0.9), 5),
        "sn": ("Adam", 2e-4, (0.0, 0.9), 5),
        "r1": ("RMSprop", 1e-4, None, 1),
        "r1-r2": ("Adam", 2e-4, (0.0, 0.99), 1),
    }
    assert METHODS["wgan"].clip == 0.01
    assert [type(r) for r in METHODS["wgan-gp"].regularizers] == [GradientPenalty]
    assert METHODS["wgan-gp"].regularizers[0].weight == METHODS["r1"].regularizers[0].weight == 10.0
    assert [type(r) for r in METHODS["r1-r2"].regularizers] == [R1, R2]


@pytest.mark.parametrize("row", ARCHITECTURES)
@pytest.mark.parametrize("column", METHODS)
def test_every_cell_plays(row, column):
    """Both losses are finite and give every parameter of their player a finite gradient."""
    game = play(row, column, SMALL, n_critic=1)
    real = torch.rand(4, 1, 16, 16) * 2 - 1
    for player in game.turns:
        sum(game.loss(player, (real,)).values()).backward()
        gradients = [p.grad for p in game.players[player].parameters()]
        assert all(g is not None and g.isfinite().all() for g in gradients)
        game.zero_grad(set_to_none=True)


@pytest.mark.parametrize("row", ARCHITECTURES)
@pytest.mark.parametrize("column", [*PENALISED, "sn"])
def test_a_critic_with_a_penalty_judges_samples_one_by_one(row, column):
    assert PENALISED == ["wgan-gp", "r1", "r1-r2"]
    assert not mixes_samples(play(row, column, SMALL).discriminator)


@pytest.mark.parametrize("row", ARCHITECTURES)
def test_spectral_norm_is_on_all_of_d_and_on_nothing_of_g(row):
    game = play(row, "sn", SMALL)
    for player, module in game.players.items():
        layers = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
        assert {parametrize.is_parametrized(m, "weight") for m in layers} == {player == "discriminator"}


def test_clipping_is_on_one_column():
    assert isinstance(play("dcgan", "wgan", SMALL), WGAN)
    assert not isinstance(play("dcgan", "wgan-gp", SMALL), WGAN)
    assert play("dcgan", "wgan", SMALL).turns["discriminator"] == 5
    assert play("dcgan", "wgan", SMALL, n_critic=2).turns["discriminator"] == 2


@pytest.mark.parametrize(
    ("row", "column", "word"), [("vit", "gan", "architecture"), ("dcgan", "x", "method")]
)
def test_unknown_names(row, column, word):
    with pytest.raises(ValueError, match=f"{word} must be one of"):
        play(row, column, SMALL)


# The studies


def test_the_grid_is_a_double_loop():
    cells = studies.get("robustness").cells(Budget.SMOKE)
    assert [tuple(c.labels.values()) for c in cells] == [(a, m) for a in ARCHITECTURES for m in METHODS]


def test_a_cell_is_stored_and_depends_on_its_seed(tmp_path):
    study = studies.get("robustness")
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        studies.run(study, Budget.SMOKE, seeds=[seed], names=["dcgan-gan"], folder=tmp_path / folder)
    first, again, other = (next((tmp_path / f / "robustness").glob("*.json")) for f in "abc")
    figures = [json.loads(p.read_text())["figures"] for p in (first, again, other)]
    assert figures[0] == figures[1] != figures[2]
    assert set(figures[0]) == {"fid", "fid_over_floor", "balance", "classes"}
    assert first.with_suffix(".png").exists()


def test_a_loss_that_is_not_finite_is_an_outcome(monkeypatch, tmp_path):
    """A rate of 1e30 overflows at the second step; the cell says so instead of stopping the study."""
    broken = Method("broken", METHODS["lsgan"].loss, lambda k: lambda p: torch.optim.SGD(p, lr=1e30))
    monkeypatch.setitem(METHODS, "lsgan", broken)
    (path,) = studies.run(
        studies.get("robustness"), Budget.SMOKE, seeds=[0], names=["unnormalized-lsgan"], folder=tmp_path
    )
    stored = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert set(stored["figures"].values()) == {None}
    assert any("broke down" in note for note in stored["notes"])
    assert not path.with_suffix(".png").exists()


def test_stand_ins_are_labelled(monkeypatch):
    """At cpu the residual row says that it has not 101 layers; at gpu it has, and runs the paper's rates."""
    seen = {}

    def keep(game, optimizer, steps, budget, seed, schedule, notes):
        seen[budget] = (game, optimizer, steps, notes)

    monkeypatch.setattr(robustness, "trained", keep)
    for budget in (Budget.CPU, Budget.GPU):
        robustness._cell("resnet", "r1", budget, 0)
    assert any("14 layers stand in for 101" in note for note in seen[Budget.CPU][3])
    assert seen[Budget.GPU][3] == ()
    weight = [nn.Parameter(torch.zeros(1))]
    rates = [seen[b][1](weight).defaults["lr"] for b in (Budget.CPU, Budget.GPU)]
    assert rates == pytest.approx([1e-3, 1e-4])


def test_miyatos_settings():
    """Table 1 of the paper."""
    assert {k: (s.alpha, s.beta1, s.beta2, s.n_dis) for k, s in spectral.SETTINGS.items()} == {
        "a": (1e-4, 0.5, 0.9, 5),
        "b": (1e-4, 0.5, 0.999, 1),
        "c": (2e-4, 0.5, 0.999, 1),
        "d": (1e-3, 0.5, 0.9, 5),
        "e": (1e-3, 0.5, 0.999, 5),
        "f": (1e-3, 0.9, 0.999, 5),
    }


def test_spectral_cells_differ_in_the_norm_alone(monkeypatch):
    """Same weights, same optimizer, as many updates in each cell."""
    seen = []
    monkeypatch.setattr(spectral, "trained", lambda *arguments: seen.append(arguments))
    for letter, setting in spectral.SETTINGS.items():
        for normalized in (True, False):
            spectral._cell(letter, normalized, Budget.CPU, 0)
            game, optimizer, rounds, *_ = seen[-1]
            assert rounds * (setting.n_dis + 1) == spectral.UPDATES
            assert game.turns["discriminator"] == setting.n_dis
            defaults = optimizer([nn.Parameter(torch.zeros(1))]).defaults
            assert (defaults["lr"], *defaults["betas"]) == (setting.alpha, setting.beta1, setting.beta2)
            layers = [m for m in game.discriminator.modules() if isinstance(m, nn.Conv2d)]
            assert {parametrize.is_parametrized(m, "weight") for m in layers} == {normalized}
            assert not mixes_samples(game.discriminator)
    with_norm, without = (game.discriminator.layers[0] for game, *_ in seen[-2:])
    assert torch.equal(with_norm.parametrizations.weight.original, without.weight)
