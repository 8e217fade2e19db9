"""Historical averaging: the mean by hand, its pull, what the inner game still does, and resuming."""

from functools import partial

import pytest
import torch
from torch import nn

from ganlib.losses import NonSaturating, Wasserstein
from ganlib.models.gan import GAN
from ganlib.models.historical import HistoricalAveraging
from ganlib.models.wgan import WGAN
from ganlib.training import Game, Settings, Trainer
from ganlib.training.checkpoint import NAME, read


def networks(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 3))
        critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    generator.latent_dim = 2
    return generator.to(dtype), critic.to(dtype)


def wrapped(weight=0.5, seed: int = 0) -> HistoricalAveraging:
    return HistoricalAveraging(GAN(*networks(seed), NonSaturating()), weight)


def reals(n: int = 16) -> torch.Tensor:
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(1))


def trainer(game: Game, out=None) -> Trainer:
    sgd = partial(torch.optim.SGD, lr=0.1)
    settings = Settings(dict.fromkeys(game.turns, sgd), batch_size=4, precision="32-true", log_every=1)
    return Trainer(game, reals(), settings, out=out, progress=False)


# The mean and its pull


def test_mean_of_all_past_parameters():
    """The initial ones and those after each of four steps, noted as they pass."""
    game = wrapped()
    past = {name: [[p.detach().clone() for p in m.parameters()]] for name, m in game.players.items()}
    t = trainer(game)
    for _ in range(4):
        for player in game.turns:
            t.turn(player)
            past[player].append([p.detach().clone() for p in game.players[player].parameters()])
    for player, rows in past.items():
        assert game.past[player].count.item() == 5
        for found, values in zip(game.past[player].means, zip(*rows, strict=True), strict=True):
            # A running mean of five float32 numbers: a few roundings from the mean of all.
            torch.testing.assert_close(
                found, torch.stack(values).double().mean(0).float(), rtol=1e-5, atol=1e-7
            )


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_value_and_gradient(player):
    """w |theta - mean|^2 and 2 w (theta - mean) on top of the inner game's; nobody else gets any."""
    game = wrapped(0.5)
    trainer(game).fit(3)
    game.zero_grad()
    module, means = game.players[player], list(game.past[player].means)
    apart = [p.detach() - m for p, m in zip(module.parameters(), means, strict=True)]
    terms = game.loss(player, (reals(4),))
    assert list(terms) == ["adversarial", "historical averaging"]
    torch.testing.assert_close(terms["historical averaging"], 0.5 * sum(a.square().sum() for a in apart))
    terms["historical averaging"].backward()
    for parameter, difference in zip(module.parameters(), apart, strict=True):
        assert difference.any()
        torch.testing.assert_close(parameter.grad, difference)  # 2 x 0.5
    others = [p for name, m in game.players.items() if name != player for p in m.parameters()]
    assert all(p.grad is None for p in [*others, *game.past.parameters()])


def test_nothing_to_pay_at_the_start():
    terms = wrapped().loss("generator", (reals(4),))
    assert terms["historical averaging"].item() == 0
    sum(terms.values()).backward()


def test_the_mean_moves_after_the_step_of_its_player_alone():
    game = wrapped()
    game.after_step("generator")
    assert (game.past["generator"].count.item(), game.past["discriminator"].count.item()) == (2, 1)


def test_any_dtype():
    game = HistoricalAveraging(GAN(*networks(dtype=torch.float64), NonSaturating()), 1.0)
    game.after_step("generator")
    assert next(iter(game.past["generator"].means)).dtype == torch.float64


class Circle(Game):
    """The bilinear game: x is moved to make xy small, y to make it large."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        for player in (self.x, self.y):
            nn.init.ones_(player.weight)
        self.turns = {"x": 1, "y": 1}

    def terms(self, player: str, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        product = (self.x.weight * self.y.weight).sum()
        return {"product": product if player == "x" else -product}

    def sample(self, n: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return self.x.weight.detach().expand(n, 1)


def test_draws_circling_players_in():
    """The plain game keeps its distance for ever (ganlib.theory.games.alternating); this one closes in."""
    distances = []
    for game in (Circle(), HistoricalAveraging(Circle(), 0.1)):
        trainer(game).fit(300)
        distances.append(sum(p.item() ** 2 for m in game.players.values() for p in m.parameters()) ** 0.5)
    assert distances[0] > 0.9
    assert distances[1] < 0.1


# Around any game


def test_the_inner_game_goes_on_as_before():
    """Weight 0 leaves every bit of the inner game's run."""
    plain, averaged = GAN(*networks(), NonSaturating()), wrapped(0.0)
    trainer(plain).fit(4)
    trainer(averaged).fit(4)
    for a, b in zip(plain.parameters(), averaged.game.parameters(), strict=True):
        assert torch.equal(a, b)
    rng = (torch.Generator().manual_seed(0) for _ in range(2))
    assert torch.equal(plain.sample(5, next(rng)), averaged.sample(5, next(rng)))


def test_wgan_is_still_clipped():
    game = HistoricalAveraging(WGAN(*networks(), clip=0.05, n_critic=2), 0.1)
    assert dict(game.turns) == {"discriminator": 2, "generator": 1}
    trainer(game).fit(2)
    assert max(p.abs().max().item() for p in game.players["discriminator"].parameters()) <= 0.05 + 1e-7
    assert max(p.abs().max().item() for p in game.players["generator"].parameters()) > 0.05
    # What was taken in is what the player played on with, clipped: only the initial weights lay outside.
    assert game.past["discriminator"].count.item() == 5


def test_one_player_alone():
    game = wrapped({"generator": 2.0})
    assert list(game.loss("discriminator", (reals(4),))) == ["adversarial"]
    assert list(game.loss("generator", (reals(4),))) == ["adversarial", "historical averaging"]
    game.after_step("discriminator")
    assert list(game.past) == ["generator"]


def test_means_are_nobodys_parameters():
    """No optimizer moves them, no turn freezes or thaws them."""
    game = wrapped()
    own = {id(p) for m in game.players.values() for p in m.parameters()}
    assert not own & {id(p) for p in game.past.parameters()}
    with game.only("generator"):
        assert not any(p.requires_grad for p in game.past.parameters())
    assert not any(p.requires_grad for p in game.past.parameters())


def test_resumed_run_equals_an_undisturbed_one(tmp_path):
    trainer(wrapped(), tmp_path / "whole").fit(6)
    trainer(wrapped(), tmp_path / "cut").fit(3)
    second = trainer(wrapped(seed=5), tmp_path / "cut")
    assert second.resume() and second.game.past["generator"].count.item() == 4
    second.fit(6)
    left, right = (read(tmp_path / folder / NAME)[0] for folder in ("whole", "cut"))
    assert "game.past.generator.means.0" in left
    assert left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-1.0, "weight of discriminator must be at least 0, got -1"),
        ({"generator": -2.0}, "weight of generator must be at least 0"),
        ({"critic": 1.0}, r"players \['discriminator', 'generator'\], got \['critic'\]"),
    ],
)
def test_refuses(weight, message):
    with pytest.raises(ValueError, match=message):
        HistoricalAveraging(GAN(*networks(), Wasserstein()), weight)
