"""Loss x regularizer x game x discriminator: each of them works with all the others, unchanged."""

import itertools

import pytest
import torch
from torch import nn

from ganlib.layers import (
    InstanceNoise,
    MinibatchDiscrimination,
    MinibatchStd,
    Packed,
    Referenced,
    VirtualBatchNorm,
    spectral_norm,
)
from ganlib.losses import (
    R1,
    R2,
    EnergyMargin,
    FeatureMatching,
    GradientPenalty,
    Hinge,
    Lazy,
    LeastSquares,
    Minimax,
    NonSaturating,
    PullingAway,
    RelativisticPairing,
    Wasserstein,
    perturb,
)
from ganlib.models.consensus import ConsensusGAN
from ganlib.models.gan import GAN
from ganlib.models.historical import HistoricalAveraging
from ganlib.models.lab import ClippedGAN
from ganlib.models.unrolled import UnrolledGAN
from ganlib.training import Game

LOSSES = {
    "minimax": Minimax(0.9),
    "non-saturating": NonSaturating(),
    "wasserstein": Wasserstein(),
    "least squares": LeastSquares(),
    "hinge": Hinge(),
    "energy": EnergyMargin(10.0),
    "relativistic": RelativisticPairing(),
}
PENALTIES = {
    "none": lambda: [],
    "R1 and R2": lambda: [R1(), R2()],
    "gradient penalty": lambda: [GradientPenalty()],
    "one-sided": lambda: [GradientPenalty(target=0.0, one_sided=True)],
    "around the data": lambda: [GradientPenalty(points=perturb)],
    "lazy": lambda: [Lazy(R1(), 2)],
}
GAMES = {
    "plain": GAN,
    "clipped": ClippedGAN,
    "unrolled": lambda *a, **k: UnrolledGAN(*a, steps=2, **k),
    "consensus": ConsensusGAN,
}


def network(inputs: int = 4, middle: nn.Module | None = None, wide: int = 6) -> nn.Module:
    middle = nn.Identity() if middle is None else middle
    return nn.Sequential(nn.Linear(inputs, 6), middle, nn.Tanh(), nn.Linear(wide, 1), nn.Flatten(0))


def normalised() -> nn.Module:
    layers = network()
    spectral_norm(layers[0])
    spectral_norm(layers[3])
    return layers


DISCRIMINATORS = {
    "plain": network,
    "spectral": normalised,
    "packed": lambda: Packed(network(8), 2),
    "minibatch": lambda: network(middle=MinibatchDiscrimination(6, 3, 2), wide=9),
    "deviation": lambda: network(middle=MinibatchStd(), wide=7),
    "noise": lambda: InstanceNoise(network(), 0.1, steps=10),
    "virtual": lambda: Referenced(network(middle=VirtualBatchNorm(6)), torch.randn(4, 4)),
    "packed under noise": lambda: InstanceNoise(Packed(network(8), 2), 0.1),
}


def built(loss: str, penalty: str, kind: str, judge: str, **terms) -> GAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = nn.Sequential(nn.Linear(3, 6), nn.Tanh(), nn.Linear(6, 4))
        generator.latent_dim = 3
        discriminator = DISCRIMINATORS[judge]()
    return GAMES[kind](generator, discriminator, LOSSES[loss], PENALTIES[penalty](), **terms)


def reals() -> tuple[torch.Tensor]:
    return (torch.randn(8, 4, generator=torch.Generator().manual_seed(1)),)


def check_turns(game: Game) -> None:
    """Finite losses; a gradient for every parameter of the player whose turn it is, and for no other."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for player in game.turns:
            game.zero_grad()
            terms = game.loss(player, reals())
            assert all(term.shape == () and term.isfinite() for term in terms.values()), terms
            sum(terms.values()).backward()
            for name, module in game.players.items():
                for key, parameter in module.named_parameters():
                    assert parameter.requires_grad, f"{key} was left frozen"
                    assert (parameter.grad is not None) == (name == player), (player, name, key)
                    assert parameter.grad is None or parameter.grad.isfinite().all(), (name, key)
            assert any(p.grad.any() for p in game.players[player].parameters())
            game.after_step(player)


# Every pair of choices appears; all of 7 x 6 x 4 x 8 would say no more.
PAIRS = sorted(
    {
        *((a, b, "plain", "plain") for a, b in itertools.product(LOSSES, PENALTIES)),
        *((a, "none", c, "plain") for a, c in itertools.product(LOSSES, GAMES)),
        *((a, "none", "plain", d) for a, d in itertools.product(LOSSES, DISCRIMINATORS)),
        *(("non-saturating", b, c, "plain") for b, c in itertools.product(PENALTIES, GAMES)),
        *(("wasserstein", b, "plain", d) for b, d in itertools.product(PENALTIES, DISCRIMINATORS)),
        *(("relativistic", "R1 and R2", c, d) for c, d in itertools.product(GAMES, DISCRIMINATORS)),
    }
)


@pytest.mark.parametrize(("loss", "penalty", "kind", "judge"), PAIRS, ids=lambda x: x.replace(" ", "_"))
def test_each_works_with_each(loss, penalty, kind, judge):
    check_turns(built(loss, penalty, kind, judge))


@pytest.mark.parametrize("judge", DISCRIMINATORS)
@pytest.mark.parametrize("kind", GAMES)
def test_historical_averaging_wraps_them_all(kind, judge):
    game = HistoricalAveraging(built("hinge", "lazy", kind, judge), 0.1)
    check_turns(game)
    check_turns(game)
    assert all(past.count.item() == 3 for past in game.past.values())


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("term", [FeatureMatching, PullingAway])
def test_features_are_read_in_every_game(kind, term):
    """In an unrolled game they are those of the discriminator of K steps later."""
    plain = built("least squares", "none", kind, "plain")
    chosen = term(plain.discriminator[2])
    game = GAMES[kind](
        plain.generator, plain.discriminator, plain.adversarial, generator_regularizers=[chosen]
    )
    assert chosen.name in game.loss("generator", reals())
    check_turns(game)


APART = {"packed", "minibatch", "deviation", "packed under noise"}


@pytest.mark.parametrize("judge", DISCRIMINATORS)
def test_samples_that_are_compared_are_judged_apart(judge):
    """Real with real, fake with fake: mixed, the layers would compare the two with each other."""
    assert built("hinge", "none", "plain", judge).separate_passes == (judge in APART)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("judge", [d for d in DISCRIMINATORS if d not in APART])
def test_one_pass_or_two_is_the_same(loss, judge):
    """Where the game makes one pass two would give the same values and gradients."""
    game = built(loss, "none", "plain", judge)
    if judge == "noise":
        game.discriminator.std = 0.0  # else two passes draw other noise
    game.discriminator.train(judge != "spectral")  # else two passes move its vectors twice
    found = []
    for game.separate_passes in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            game.zero_grad()
            (value,) = game.loss("discriminator", reals()).values()
        value.backward()
        found.append([value.detach(), *(p.grad.clone() for p in game.discriminator.parameters())])
    # Sums of eight float32 numbers in another order; virtual batch norm's gradients pass two more layers.
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("judge", ["spectral", "minibatch", "virtual"])
def test_under_bf16_autocast(kind, judge):
    """As the trainer runs it on a GPU: finite, and near the float32 values."""
    values = []
    for enabled in (False, True):
        game = built("non-saturating", "R1 and R2", kind, judge)
        with torch.random.fork_rng(), torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            torch.manual_seed(0)
            terms = {p: game.loss(p, reals()) for p in game.turns}
        assert all(t.dtype == torch.float32 for side in terms.values() for t in side.values())
        values.append([sum(side.values()).detach() for side in terms.values()])
    # 8 bits through a few layers and a second derivative: several per cent.
    torch.testing.assert_close(values[1], values[0], rtol=0.1, atol=0.05)
