"""BiGAN on a world of three states, where joint laws are counted; who learns from which pairs; the study."""

import itertools
import math

import pytest
import torch
from torch import nn

from ganlib.data import Images
from ganlib.losses import Minimax, NonSaturating
from ganlib.models.bigan import BiGAN, PairDiscriminator
from ganlib.models.dcgan import Encoder, Generator
from ganlib.studies import encoders
from ganlib.theory.divergences import jsd
from ganlib.training import Budget

THREE = torch.eye(3, dtype=torch.float64)


class Map(nn.Module):
    """A map of three states to three, one-hot rows in and out; its matrix holds the targets' rows."""

    latent_dim = 3

    def __init__(self, targets: tuple[int, ...]) -> None:
        super().__init__()
        self.matrix = nn.Parameter(THREE[list(targets)].clone())

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows @ self.matrix


class Table(nn.Module):
    """A discriminator of pairs of states: a logit for each."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.einsum("ni,ij,nj->n", x, self.logits, z)


class World(BiGAN):
    """Latents are the three states, each as often as the others: expectations become means of three rows."""

    def latent(self, n: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return THREE[torch.arange(n) % 3]


def joint(g: tuple[int, ...], e: tuple[int, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """The laws of (x, E(x)) and of (G(z), z), 3 x 3 each, by counting."""
    real, fake = torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3, 3, dtype=torch.float64)
    for state in range(3):
        real[state, e[state]] += 1 / 3
        fake[g[state], state] += 1 / 3
    return real, fake


def world(g: tuple[int, ...], e: tuple[int, ...], loss: object = None) -> World:
    """The game at D's optimum, log p - log q: infinite logits cut off at 50, where D is sure to 2e-22."""
    real, fake = joint(g, e)
    logits = (real.clamp(min=1e-300).log() - fake.clamp(min=1e-300).log()).clamp(-50, 50)
    return World(Map(g), Table(logits), Map(e), loss)


PERMUTATIONS = list(itertools.permutations(range(3)))


def test_at_the_optimum_the_discriminators_loss_is_log_4_minus_two_jsd_and_largest_at_the_inverse():
    g = (1, 2, 0)
    found = {}
    for e in PERMUTATIONS:
        game = world(g, e)
        found[e] = game.loss("discriminator", (THREE,))["adversarial"].item()
        expected = math.log(4) - 2 * jsd(*(law.flatten().numpy() for law in joint(g, e)))
        assert found[e] == pytest.approx(float(expected), abs=1e-12)
    best = max(found, key=found.get)
    assert [best[g[z]] for z in range(3)] == [0, 1, 2], "E(G(z)) = z"
    assert found[best] == pytest.approx(math.log(4))
    # One state in three agrees for a transposition, none for the other rotations: JSD = 2/3 log 2 and log 2.
    assert sorted(found.values())[:2] == pytest.approx([0, 0], abs=1e-12)


def test_a_marginal_match_is_not_enough():
    """Every permutation gives uniform images and uniform codes; only the pairs betray the wrong ones."""
    game = world((0, 1, 2), (1, 2, 0))
    real, fake = joint((0, 1, 2), (1, 2, 0))
    assert torch.equal(real.sum(0), fake.sum(0)) and torch.equal(real.sum(1), fake.sum(1))
    assert game.loss("discriminator", (THREE,))["adversarial"].item() < 1e-12


def test_losses_of_generator_and_encoder_are_the_flipped_labels():
    torch.manual_seed(0)
    logits = torch.randn(3, 3, dtype=torch.float64)
    g, e = (1, 2, 0), (0, 2, 1)
    terms = World(Map(g), Table(logits), Map(e)).loss("autoencoder", (THREE,))
    on_fake = torch.stack([logits[g[z], z] for z in range(3)]).sigmoid()
    on_real = torch.stack([logits[x, e[x]] for x in range(3)]).sigmoid()
    assert terms["generator"].item() == pytest.approx(-on_fake.log().mean().item(), rel=1e-12)
    assert terms["encoder"].item() == pytest.approx(-(1 - on_real).log().mean().item(), rel=1e-12)
    # The minimax game is zero-sum: what both makers minimise is the value, minus D's loss.
    zero_sum = World(Map(g), Table(logits), Map(e), Minimax())
    makers = sum(zero_sum.loss("autoencoder", (THREE,)).values()).item()
    judge = zero_sum.loss("discriminator", (THREE,))["adversarial"].item()
    assert makers == pytest.approx(-judge, rel=1e-12)


def received(game: BiGAN, term: torch.Tensor) -> set[str]:
    game.zero_grad()
    term.backward(retain_graph=True)
    names = ("generator", "encoder", "discriminator")
    return {
        name
        for name in names
        if any(p.grad is not None and bool(p.grad.any()) for p in getattr(game, name).parameters())
    }


@pytest.mark.parametrize("batch_norm", [False, True])
def test_who_learns_from_what(batch_norm):
    """G from fake pairs, E from real ones, D from both, whether D judges them in one pass or two."""
    torch.manual_seed(0)
    if batch_norm:
        game = BiGAN(Generator(4, 4, 1, 8), PairDiscriminator(4, 4, 1, 8, 8), Encoder(4, 4, 1, 8))
        real = torch.rand(6, 1, 8, 8) * 2 - 1
    else:
        game = World(Map((1, 2, 0)), Table(torch.randn(3, 3, dtype=torch.float64)), Map((0, 2, 1)))
        real = THREE
    assert game.separate_passes is False or batch_norm
    assert received(game, game.loss("discriminator", (real,))["adversarial"]) == {"discriminator"}
    terms = game.loss("autoencoder", (real,))
    assert list(terms) == ["generator", "encoder"]
    assert received(game, terms["generator"]) == {"generator"}
    assert received(game, terms["encoder"]) == {"encoder"}
    owned = {name: {id(p) for p in module.parameters()} for name, module in game.players.items()}
    makers = [*game.generator.parameters(), *game.encoder.parameters()]
    assert owned["autoencoder"] == {id(p) for p in makers}


def test_descent_on_the_makers_losses_turns_the_encoder_to_the_inverse():
    """The closed form's slope: at D's optimum for a wrong E, its loss falls towards E = G^-1 and no other."""
    g, wrong, right = (0, 1, 2), (1, 0, 2), (0, 1, 2)
    game = world(g, wrong)
    game.loss("autoencoder", (THREE,))["encoder"].backward()
    slope = game.encoder.matrix.grad
    for state in range(2):
        away, towards = slope[state, wrong[state]].item(), slope[state, right[state]].item()
        assert towards < 0 < away, "less of the wrong code, more of the inverse's"


def test_pair_discriminator_looks_at_both_and_games_shapes():
    torch.manual_seed(0)
    judge = PairDiscriminator(4, 4, 3, 16, 8).eval()
    x, z = torch.randn(5, 3, 16, 16), torch.randn(5, 4)
    logits = judge(x, z)
    assert logits.shape == (5,)
    assert (judge(-x, z) != logits).all() and (judge(x, -z) != logits).all()


def test_autocast_leaves_losses_in_float32():
    torch.manual_seed(0)
    game = BiGAN(
        Generator(4, 4, 1, 8), PairDiscriminator(4, 4, 1, 8, 8), Encoder(4, 4, 1, 8), NonSaturating()
    )
    with torch.autocast("cpu", torch.bfloat16):
        terms = game.loss("discriminator", (torch.zeros(4, 1, 8, 8),)) | game.loss(
            "autoencoder", (torch.zeros(4, 1, 8, 8),)
        )
    assert {term.dtype for term in terms.values()} == {torch.float32}


# The study


class Corner(nn.Module):
    """Four numbers as the corner of a black 32 x 32 image, or (``read``) an image's corner as numbers."""

    latent_dim = 4

    def __init__(self, read: bool, scale: float = 1.0) -> None:
        super().__init__()
        self.read, self.scale = read, nn.Parameter(torch.tensor(scale))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        if self.read:
            return self.scale * rows[:, 0, 0, :4]
        image = rows.new_full((len(rows), 1, 32, 32), -1.0)
        image[:, 0, 0, :4] = rows
        return image


def test_inversion_figures_of_a_known_pair():
    """E(G(z)) = 0.9 z: R^2 = 1 - 0.1^2; images with codes c come back with corner 0.9 c."""
    rng = torch.Generator().manual_seed(0)
    codes, labels = torch.randn(60, 4, generator=rng), torch.arange(60) % 10
    codes[:, 0] = labels.float()  # a step of 1 between the digits, against noise that both sets share
    images = Images(Corner(False)(codes), labels)
    figures = encoders.inversion(Corner(False), Corner(True, 0.9), images, images)
    assert figures["latent_r2"] == pytest.approx(0.99, rel=1e-5)
    assert figures["code_norm"] == pytest.approx(0.9 * codes.square().mean().sqrt().item(), rel=1e-5)
    error = (0.1 * codes).square().sum(1) / 1024
    # PSNR's peak is the range's width, 2.
    assert figures["reconstruction_psnr"] == pytest.approx((10 * (4 / error).log10()).mean().item(), rel=1e-4)
    assert figures["nearest_neighbour"] == 1, "each image's own code is the nearest"


@pytest.mark.parametrize("method", encoders.STEPS)
def test_a_cell_at_smoke(method):
    outcome = encoders.play(method, Budget.SMOKE, seed=0)
    assert {"reconstruction_psnr", "same_digit", "fid", "fid_over_floor"} <= set(outcome.figures)
    assert all(math.isfinite(value) for value in outcome.figures.values())
    assert outcome.arrays["originals"].shape == outcome.arrays["reconstructions"].shape == (20, 1, 32, 32)
    assert outcome.arrays["originals"].dtype == torch.uint8
    assert len(outcome.history) and outcome.images.shape == (64, 1, 32, 32)
