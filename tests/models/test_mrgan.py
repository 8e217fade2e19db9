"""Mode regularizer and manifold-diffusion game: closed forms, finite differences, who receives what."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import softplus

from ganlib.losses import NonSaturating
from ganlib.models.gan import GAN
from ganlib.models.mrgan import ManifoldDiffusionGAN, MixtureEncoder, ModeRegularizedGAN, side_by_side


class Scale(nn.Module):
    """One weight: x -> w x, as a generator, an encoder, or (flattened) a discriminator."""

    latent_dim = 1

    def __init__(self, w: float, flatten: bool = False) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))
        self.flatten = flatten

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.w * x.double()
        return x.flatten() if self.flatten else x


def line_game(g: float = 0.5, e: float = 1.5, d: float = -0.8, **weights: float) -> ModeRegularizedGAN:
    """G(z) = g z, E(x) = e x, D(x) = d x, so that G(E(x)) = g e x."""
    return ModeRegularizedGAN(Scale(g), Scale(d, True), Scale(e), NonSaturating(), **weights)


def network(inputs: int, outputs: int, seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = nn.Sequential(nn.Linear(inputs, 5), nn.Tanh(), nn.Linear(5, outputs)).double()
    layers.latent_dim = inputs
    return layers


def networks() -> tuple[nn.Module, nn.Module, nn.Module]:
    """Generator, encoder, discriminator of points."""
    return network(3, 2, 0), network(2, 3, 1), nn.Sequential(network(2, 1, 2), nn.Flatten(0))


def reals(n: int = 6) -> torch.Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(4), dtype=torch.float64)


def received(game: nn.Module, modules: dict[str, nn.Module]) -> set[str]:
    """The modules all of whose parameters have a gradient that is not zero."""
    return {
        name
        for name, module in modules.items()
        if all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
    }


def test_regularizer_is_its_closed_form():
    """On x = (1, -2): d = mean (g e - 1)^2 x^2 = 2.5 (g e - 1)^2; -log D(G(E(x))) = softplus(-d g e x)."""
    g, e, d, x = 0.5, 1.5, -0.8, torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    game = line_game(g, e, d, distance_weight=2.0, mode_weight=0.3)
    terms = game.loss("encoder", (x,))
    assert set(terms) == {"distance", "mode"}
    # The distance passes through float32, hence seven digits.
    assert terms["distance"].item() == pytest.approx(2 * 2.5 * (g * e - 1) ** 2, rel=1e-6)
    expected = sum(math.log1p(math.exp(-d * g * e * v)) for v in (1, -2)) / 2
    assert terms["mode"].item() == pytest.approx(0.3 * expected, rel=1e-12)
    (slope,) = torch.autograd.grad(terms["mode"], game.encoder.w)
    # d/de softplus(-d g e x) = -d g x sigmoid(-d g e x)
    by_hand = sum(-d * g * v / (1 + math.exp(d * g * e * v)) for v in (1, -2)) / 2
    assert slope.item() == pytest.approx(0.3 * by_hand, rel=1e-12)


def test_mode_term_sends_reconstructions_where_the_discriminator_believes_them():
    """D grows with x here, so descent on the term must move G(E(1)) up; the paper prints the other sign."""
    for player in ("generator", "encoder"):
        game = line_game(d=0.8, distance_weight=0.0)
        before = (game.generator.w * game.encoder.w).item()
        game.loss(player, (torch.ones(4, 1, dtype=torch.float64),))["mode"].backward()
        with torch.no_grad():
            parameter = game.players[player].w
            parameter -= 0.1 * parameter.grad
        assert (game.generator.w * game.encoder.w).item() > before


@pytest.mark.parametrize("term", ["distance", "mode"])
def test_gradient_by_finite_differences(term):
    generator, encoder, discriminator = networks()
    both = nn.ModuleDict({"generator": generator, "encoder": encoder})
    names = [name for name, _ in both.named_parameters()]

    def loss(*values: torch.Tensor) -> torch.Tensor:
        parameters = dict(zip(names, values, strict=True))
        parts = [
            {n.removeprefix(f"{part}."): p for n, p in parameters.items() if n.startswith(part)}
            for part in both
        ]
        code = torch.func.functional_call(encoder, parts[1], (reals(),))
        again = torch.func.functional_call(generator, parts[0], (code,))
        if term == "distance":
            return (again - reals()).square().mean()
        return softplus(-discriminator(again)).mean()

    assert torch.autograd.gradcheck(loss, tuple(both.parameters()))
    game = ModeRegularizedGAN(generator, discriminator, encoder, NonSaturating(), mode_weight=1.0)
    expected = torch.autograd.grad(loss(*both.parameters()), list(both.parameters()))
    found = torch.autograd.grad(game.terms("encoder", (reals(),))[term], list(both.parameters()))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # the distance is taken in float32


@pytest.mark.parametrize("player", ["discriminator", "generator", "encoder"])
def test_turns_move_their_own_player(player):
    generator, encoder, discriminator = (module.float() for module in networks())
    game = ModeRegularizedGAN(generator, discriminator, encoder, NonSaturating())
    sum(game.loss(player, (reals().float(),)).values()).backward()
    assert received(game, game.players) == {player}
    assert all(p.grad is None for n, m in game.players.items() if n != player for p in m.parameters())


@pytest.mark.parametrize("term", ["adversarial", "distance", "mode"])
def test_every_term_reaches_the_generator(term):
    generator, encoder, discriminator = (module.float() for module in networks())
    game = ModeRegularizedGAN(generator, discriminator, encoder, NonSaturating())
    game.loss("generator", (reals().float(),))[term].backward()
    assert received(game, game.players) == {"generator"}


def test_without_weights_it_is_the_plain_game():
    generator, encoder, discriminator = (module.float() for module in networks())
    plain = GAN(generator, discriminator, NonSaturating())
    game = ModeRegularizedGAN(
        generator, discriminator, encoder, NonSaturating(), distance_weight=0.0, mode_weight=0.0
    )
    losses = []
    for each in (plain, game):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            losses.append(sum(each.loss("generator", (reals().float(),)).values()))
    assert torch.equal(*losses)


def test_a_batch_norm_in_the_generator_does_not_undo_a_shift_of_the_codes():
    """By the statistics of the codes alone, any affine map of the codes would give one reconstruction."""
    generator = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2)).train()
    z, codes = torch.tensor([[-1.0], [1.0]]), torch.tensor([[1.0], [3.0]])
    fake, again = side_by_side(generator, z, codes)
    _, shifted = side_by_side(generator, z, codes + 5)
    assert not torch.allclose(again, shifted, atol=0.1)
    torch.testing.assert_close(torch.cat([fake, again]), generator(torch.cat([z, codes])))


@pytest.mark.parametrize("name", ["distance_weight", "mode_weight"])
def test_refuses_negative_weights(name):
    with pytest.raises(ValueError, match=f"{name} must be at least 0, got -1"):
        line_game(**{name: -1.0})


# Manifold and diffusion


def two_step_game(weight: float = 0.3) -> ManifoldDiffusionGAN:
    """G(z) = 0.5 z, E(x) = 1.5 x, D1(x) = -0.8 x, D2(x) = 0.6 x."""
    return ManifoldDiffusionGAN(
        Scale(0.5), Scale(1.5), Scale(-0.8, True), Scale(0.6, True), NonSaturating(), weight
    )


def test_each_discriminator_compares_its_own_pair():
    """The manifold one tells x from G(E(x)) = 0.75 x, the diffusion one G(E(x)) from G(z)."""
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    game = two_step_game()
    with torch.random.fork_rng():
        torch.manual_seed(7)
        z = torch.randn(2, 1).double()
        torch.manual_seed(7)
        diffusion = game.loss("diffusion", (x,))["adversarial"].item()
    manifold = game.loss("manifold", (x,))["adversarial"].item()
    cross_entropy = NonSaturating().discriminator
    assert manifold == pytest.approx(cross_entropy(-0.8 * x, -0.8 * 0.75 * x).item(), rel=1e-12)
    # G(z) is computed from float32 latents in float64, so nothing is lost.
    assert diffusion == pytest.approx(cross_entropy(0.6 * 0.75 * x, 0.6 * 0.5 * z).item(), rel=1e-12)


def test_diffusion_generator_is_judged_by_the_diffusion_discriminator():
    """-log D2(G(z)) with D2(G(z)) = 0.6 * 0.5 z."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        z = torch.randn(2, 1).double()
        torch.manual_seed(7)
        found = two_step_game().loss("generator", (torch.zeros(2, 1, dtype=torch.float64),))
    assert found["adversarial"].item() == pytest.approx(softplus(-0.6 * 0.5 * z).mean().item(), rel=1e-12)


def test_manifold_step_is_distance_and_weighted_mode():
    x = torch.tensor([[1.0], [-2.0]], dtype=torch.float64)
    terms = two_step_game(weight=0.3).loss("autoencoder", (x,))
    assert terms["distance"].item() == pytest.approx(2.5 * (0.75 - 1) ** 2, rel=1e-6)
    expected = softplus(0.8 * 0.75 * x).mean().item()
    assert terms["mode"].item() == pytest.approx(0.3 * expected, rel=1e-12)


@pytest.mark.parametrize(
    ("player", "moved"),
    [
        ("manifold", {"manifold"}),
        ("autoencoder", {"generator", "encoder"}),
        ("diffusion", {"diffusion"}),
        ("generator", {"generator"}),
    ],
)
def test_each_turn_moves_its_own_networks(player, moved):
    generator, encoder, judge = (module.float() for module in networks())
    game = ManifoldDiffusionGAN(
        generator, encoder, judge, nn.Sequential(network(2, 1, 5), nn.Flatten(0)).float(), NonSaturating()
    )
    sum(game.loss(player, (reals().float(),)).values()).backward()
    modules = {name: getattr(game, name) for name in ("manifold", "diffusion", "generator", "encoder")}
    assert received(game, modules) == moved
    untouched = [m for name, m in modules.items() if name not in moved]
    assert all(p.grad is None for module in untouched for p in module.parameters())


def test_two_step_game_refuses_a_negative_weight():
    with pytest.raises(ValueError, match=r"weight must be at least 0, got -0\.1"):
        two_step_game(weight=-0.1)


def test_encoder_shapes():
    assert MixtureEncoder(width=4, latent_dim=3)(torch.zeros(5, 2)).shape == (5, 3)
