"""BEGAN: the controller against a recursion by hand, the measure, what is in the history, the networks."""

from functools import partial

import pytest
import torch
from torch import nn

from ganlib import studies, systems
from ganlib.data import Images
from ganlib.models.began import BEGAN, Decoder, Encoder, convergence, experiment, mean_absolute
from ganlib.models.ebgan import Autoencoder
from ganlib.training import Budget, Settings, Trainer


def pictures(n: int = 32, size: int = 16) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, size, size, generator=rng) * 2 - 1, torch.zeros(n, dtype=torch.int64))


class Constant(nn.Module):
    """A generator of one number, whatever the latent."""

    latent_dim = 2

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(z), 1)


class Scale(nn.Module):
    """x -> a x: as a decoder behind the identity it reconstructs x with an error of |1 - a| |x|."""

    def __init__(self, a: float) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(a))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.a * x


def toy(fake: float = 0.5, a: float = 0.6, gamma: float = 0.5, rate: float = 0.1) -> BEGAN:
    return BEGAN(Constant(fake), Autoencoder(nn.Identity(), Scale(a), mean_absolute), gamma, rate)


def play(game: BEGAN, real: float) -> None:
    """One round without an optimizer step."""
    for player in ("discriminator", "generator"):
        game.loss(player, (torch.full((3, 1), real),))
        game.after_step(player)


# The controller


def test_the_controller_follows_the_recursion():
    """L(x) = 0.4 |x| and L(G(z)) = 0.4 |G| = 0.2: k moves by 0.1 (0.5 L(x) - 0.2), data of varying size."""
    game = toy()
    k = 0.0
    for real in (2.0, 1.5, 3.0, 0.5, 1.0, 0.25, 2.0):
        play(game, real)
        k = min(1.0, max(0.0, k + 0.1 * (0.5 * 0.4 * real - 0.2)))
        # float32 sums of a few numbers below one
        assert game.balance.item() == pytest.approx(k, abs=1e-6)
        assert game.measure.item() == pytest.approx(0.4 * real + abs(0.2 * real - 0.2), rel=1e-5)
    assert 0 < k < 1, "the recursion above stayed inside, or it has shown nothing"


@pytest.mark.parametrize(("real", "bound"), [(50.0, 1.0), (0.0, 0.0)])
def test_the_controller_stays_between_0_and_1(real, bound):
    game = toy()
    for _ in range(3):
        play(game, real)
    assert game.balance.item() == bound


def test_the_controller_moves_after_the_generators_step_alone():
    game = toy()
    batch = (torch.full((3, 1), 2.0),)
    game.loss("discriminator", batch)
    game.loss("generator", batch)
    game.after_step("discriminator")
    assert game.balance.item() == 0.0
    game.after_step("generator")
    assert game.balance.item() > 0.0


@pytest.mark.parametrize("gamma", [0.3, 0.7])
def test_convergence_measure(gamma):
    found = convergence(torch.tensor(0.5), torch.tensor(0.2), gamma)
    assert found.item() == pytest.approx(0.5 + abs(gamma * 0.5 - 0.2), rel=1e-6)


# The losses


def values(terms: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: term.item() for name, term in terms.items()}


def test_terms_by_hand():
    """L_D = L(x) - k L(G(z)) and L_G = L(G(z)); k and M are there as numbers."""
    game = toy()
    game.balance.fill_(0.25)
    batch = (torch.full((3, 1), 2.0),)
    terms = game.loss("discriminator", batch)
    assert values(terms) == pytest.approx({"real": 0.8, "fake": -0.05, "balance": 0.25})
    terms = game.loss("generator", batch)
    assert values(terms) == pytest.approx({"adversarial": 0.2, "measure": 0.8 + 0.2})


def test_gradients_by_hand():
    """With L = |1 - a| |x|: dL_D/da = -(|x| - k |G|) below a = 1, dL_G/dG = 1 - a; nothing goes elsewhere."""
    game = toy()
    game.balance.fill_(0.25)
    batch = (torch.full((3, 1), 2.0),)
    sum(game.loss("discriminator", batch).values()).backward()
    assert game.discriminator.decoder.a.grad.item() == pytest.approx(-(2.0 - 0.25 * 0.5))
    assert game.generator.value.grad is None
    game.zero_grad()
    sum(game.loss("generator", batch).values()).backward()
    assert game.generator.value.grad.item() == pytest.approx(0.4)
    assert game.discriminator.decoder.a.grad is None


def test_history_and_checkpoint_hold_the_controller(tmp_path):
    data = pictures().images
    settings = Settings(
        dict.fromkeys(("discriminator", "generator"), partial(torch.optim.SGD, lr=1e-3)), 8, log_every=1
    )

    def trainer() -> Trainer:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            autoencoder = Autoencoder(Encoder(4, 2, size=16), Decoder(4, 2, size=16), mean_absolute)
            game = BEGAN(Decoder(4, 2, size=16), autoencoder)
        game.balance.fill_(0.5)
        return Trainer(game, data, settings, out=tmp_path, progress=False)

    first = trainer()
    history = first.fit(3)
    # The last row's k is what the round began with; M is the round's own.
    k, real, fake = (history[-1][f"discriminator/{n}"] for n in ("balance", "real", "fake"))
    assert 0 < k < 1 and fake < 0
    assert first.game.measure.item() == pytest.approx(history[-1]["generator/measure"], rel=1e-5)
    moved = 1e-3 * (0.5 * real - history[-1]["generator/adversarial"])
    assert first.game.balance.item() == pytest.approx(k + moved, abs=1e-6)
    again = trainer()
    assert again.resume() and torch.equal(again.game.balance, first.game.balance)
    assert torch.equal(again.game.measure, first.game.measure)


# Networks, latents, settings


@pytest.mark.parametrize(("size", "channels"), [(8, 1), (16, 3), (32, 1)])
def test_shapes(size, channels):
    images = Decoder(5, 2, channels, size)(torch.randn(3, 5))
    assert images.shape == (3, channels, size, size)
    encoder = Encoder(5, 2, channels, size)
    assert encoder(images).shape == (3, 5)
    filters = [m.out_channels for m in encoder.modules() if isinstance(m, nn.Conv2d)]
    levels = {8: 1, 16: 2, 32: 3}[size]
    assert filters == [2, *(2 * level for level in range(1, levels + 1) for _ in range(2))]
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in encoder.modules())


def test_mean_absolute():
    assert torch.equal(mean_absolute(torch.tensor([[1.0, -3.0], [0.0, 0.5]])), torch.tensor([2.0, 0.25]))


def test_latents_are_uniform():
    z = toy().latent(20_000, torch.Generator().manual_seed(0))
    assert z.abs().max() <= 1
    # Five standard errors: deviation 1/sqrt(3) of the mean over 40,000, and the variance's sqrt(4/45 / n).
    assert z.mean().item() == pytest.approx(0.0, abs=5 * (1 / 3 / 40_000) ** 0.5)
    assert z.var().item() == pytest.approx(1 / 3, abs=5 * (4 / 45 / 40_000) ** 0.5)


def test_samples_are_cut_off():
    assert torch.equal(toy(fake=-3.0).sample(2), torch.full((2, 1), -1.0))


@pytest.mark.parametrize("gamma", [0.0, -0.5, 1.5])
def test_gamma_must_be_a_ratio(gamma):
    with pytest.raises(ValueError, match=f"gamma.*{gamma}"):
        toy(gamma=gamma)


def test_rate_must_be_positive():
    with pytest.raises(ValueError, match=r"rate.*0\.0"):
        toy(rate=0.0)


def test_gamma_is_an_option_of_the_recipe():
    assert experiment(Budget.SMOKE, pictures(), gamma=0.3).game.gamma == 0.3
    assert experiment(Budget.SMOKE, pictures()).game.gamma == 0.5
    # At 0.5 digits become nothing but ones.
    assert systems.get("began").experiment(Budget.CPU, data=pictures()).game.gamma == 1.0


def test_constants():
    """Berthelot et al. 2017: Adam 1e-4, lambda 0.001, gamma 0.5, batches of 16, 64 latents."""
    made = systems.get("began").experiment(Budget.GPU, data=pictures())
    assert (made.game.gamma, made.game.rate, made.game.generator.latent_dim) == (0.5, 1e-3, 64)
    assert made.settings.batch_size == 16 and dict(made.game.turns) == {"discriminator": 1, "generator": 1}
    for player, make in made.settings.optimizers.items():
        optimizer = make(made.game.players[player].parameters())
        assert isinstance(optimizer, torch.optim.Adam) and optimizer.defaults["lr"] == 1e-4


def test_diversity_study_plays_each_ratio():
    """Other ratios leave other controllers behind: k moves by lambda (gamma L(x) - L(G(z)))."""
    chosen = studies.get("began-diversity")
    cells = {cell.labels["gamma"]: cell for cell in chosen.cells(Budget.SMOKE)}
    assert list(cells) == ["0-3", "0-5", "0-7", "1-0"]
    low, high = (cells[ratio].run(0) for ratio in ("0-3", "1-0"))
    assert high.history[-1]["discriminator/balance"] > low.history[-1]["discriminator/balance"]
    assert set(low.figures) == {"fid", "fid_over_floor", "class_balance", "rarest_digit_share"}
