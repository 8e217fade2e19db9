"""The two-player game: who is differentiated, what is computed, in which order; and the MLP networks."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ganlib.layers import mixes_samples
from ganlib.losses import (
    R1,
    EnergyMargin,
    FeatureMatching,
    GradientPenalty,
    Hinge,
    Lazy,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)
from ganlib.models.gan import GAN, Maxout, MLPDiscriminator, MLPGenerator
from ganlib.training import Game


class Spy(nn.Module):
    """Passes a call on and notes its input, whether a graph was built, and which parameters were thawed."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.calls: list[dict] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.module(x)
        self.calls.append(
            {
                "input": x.detach().clone(),
                "grad enabled": torch.is_grad_enabled(),
                "input needs grad": x.requires_grad,
                "output needs grad": y.requires_grad,
                "thawed": any(p.requires_grad for p in self.parameters()),
                "training": self.training,
            }
        )
        return y


def network(*layers: nn.Module) -> Spy:
    return Spy(nn.Sequential(*layers))


def game(loss=None, regularizers=(), n_critic=1, batch_norm=False) -> GAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = network(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
        generator.latent_dim = 3
        middle = [nn.BatchNorm1d(5)] if batch_norm else []
        discriminator = network(nn.Linear(4, 5), *middle, nn.LeakyReLU(0.2), nn.Linear(5, 1), nn.Flatten(0))
        return GAN(generator, discriminator, loss or NonSaturating(), regularizers, n_critic)


def reals(n: int = 8, seed: int = 1) -> tuple[torch.Tensor]:
    return (torch.randn(n, 4, generator=torch.Generator().manual_seed(seed)),)


LOSSES = [
    Minimax(),
    NonSaturating(),
    Wasserstein(),
    LeastSquares(),
    Hinge(),
    EnergyMargin(2.0),
    RelativisticPairing(),
]
VARIANTS = [
    {"batch_norm": False},
    {"batch_norm": True},
    {"loss": Wasserstein(), "regularizers": [GradientPenalty()], "n_critic": 5},
]


# Who receives a gradient


@pytest.mark.parametrize("variant", VARIANTS, ids=["plain", "batch norm", "penalty"])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_go_to_the_player_alone(variant, player):
    g = game(**variant)
    sum(g.loss(player, reals()).values()).backward()
    for name, module in g.players.items():
        for parameter in module.parameters():
            assert parameter.requires_grad, "a parameter was left frozen"
            if name != player:
                assert parameter.grad is None
        if name == player:
            assert all(p.grad is not None for p in module.parameters())
            assert any((p.grad != 0).any() for p in module.parameters())


def test_no_graph_through_the_generator_in_the_discriminators_turn():
    g = game(regularizers=[GradientPenalty()], loss=Wasserstein())
    g.loss("discriminator", reals())
    (call,) = g.generator.calls
    assert not call["grad enabled"] and not call["output needs grad"]
    judged = g.discriminator.calls[0]
    assert not judged["input needs grad"] and judged["thawed"]


def test_discriminator_is_frozen_while_the_generators_graph_is_built():
    g = game()
    g.loss("generator", reals())
    assert g.generator.calls[0]["output needs grad"]
    (call,) = g.discriminator.calls
    assert call["input needs grad"] and not call["thawed"]


def test_parameters_are_thawed_after_an_error():
    g = game()

    def fail(*_):
        raise RuntimeError("deliberate")

    g.adversarial.generator = fail
    with pytest.raises(RuntimeError, match="deliberate"):
        g.loss("generator", reals())
    assert all(p.requires_grad for p in g.parameters())


def test_only_keeps_what_was_frozen_before():
    g = game()
    mine = g.discriminator.module[0].weight.requires_grad_(False)
    with g.only("generator"):
        assert {n for n, p in g.named_parameters() if p.requires_grad} == {
            n for n, _ in g.generator.named_parameters("generator")
        }
    assert [p for p in g.parameters() if not p.requires_grad] == [mine]
    with g.only("discriminator"):
        assert not mine.requires_grad, "freezing others thawed a player's own frozen weight"


@pytest.mark.parametrize("player", ["critic", "", "players"])
def test_unknown_player(player):
    with pytest.raises(ValueError, match=r"discriminator.*generator"):
        game().loss(player, reals())


def test_a_shared_parameter_belongs_to_whoever_plays():
    class Pair(Game):
        def __init__(self) -> None:
            super().__init__()
            self.shared = nn.Linear(2, 2)
            self.a = nn.Sequential(self.shared, nn.Linear(2, 1))
            self.b = nn.Sequential(self.shared, nn.Linear(2, 1))
            self.turns = {"a": 1, "b": 1}

        def terms(self, player, batch):
            return {"both": (self.a(batch[0]) + self.b(batch[0])).sum()}

    pair = Pair()
    sum(pair.loss("a", (torch.ones(3, 2),)).values()).backward()
    assert pair.shared.weight.grad is not None and pair.a[1].weight.grad is not None
    assert pair.b[1].weight.grad is None and pair.b[1].weight.requires_grad


# What is computed


@pytest.mark.parametrize("loss", LOSSES)
def test_one_pass_equals_two_without_batch_norm(loss):
    g = game(loss)
    z = torch.randn(8, 3)
    g.latent = lambda n: z
    reference = copy.deepcopy(g)
    reference.separate_passes = True
    assert not g.separate_passes
    for one in (g, reference):
        sum(one.loss("discriminator", reals()).values()).backward()
    assert len(g.discriminator.calls) == 1 and len(reference.discriminator.calls) == 2
    for a, b in zip(g.discriminator.parameters(), reference.discriminator.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_batch_norm_sees_real_and_fake_apart():
    g = game(batch_norm=True)
    assert g.separate_passes
    (real,) = reals()
    g.loss("discriminator", (real,))
    first, second = g.discriminator.calls
    assert torch.equal(first["input"], real) and len(second["input"]) == len(real)
    assert not torch.equal(first["input"], second["input"])


@pytest.mark.parametrize("batch_norm", [False, True])
def test_values_against_a_loop_written_out(batch_norm):
    g = game(batch_norm=batch_norm)
    z = torch.randn(8, 3)
    g.latent = lambda n: z[:n]
    (real,) = reals()
    by_hand = copy.deepcopy(g)
    fake = by_hand.generator(z).detach()
    ones, zeros = torch.ones(8), torch.zeros(8)
    d = binary_cross_entropy_with_logits(by_hand.discriminator(real), ones)
    d = d + binary_cross_entropy_with_logits(by_hand.discriminator(fake), zeros)
    terms = g.loss("discriminator", (real,))
    assert list(terms) == ["adversarial"]
    torch.testing.assert_close(terms["adversarial"], d)
    terms = g.loss("generator", (real,))
    assert list(terms) == ["adversarial"]
    expected = binary_cross_entropy_with_logits(by_hand.discriminator(by_hand.generator(z)), ones)
    torch.testing.assert_close(terms["adversarial"], expected)


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_one_generator_pass_per_turn_with_fresh_latents(player):
    g = game(loss=Wasserstein(), regularizers=[GradientPenalty()])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        g.loss(player, reals(6))
        g.loss(player, reals(6))
    first, second = (call["input"] for call in g.generator.calls)
    assert first.shape == second.shape == (6, 3)
    assert not torch.equal(first, second)


def test_regularizers_are_named_terms_on_the_same_fakes():
    seen = []

    class Fake:
        name = "fake penalty"

        def __call__(self, discriminator, real, fake):
            seen.append((discriminator, real, fake))
            return discriminator(real).mean() * 0 + 7.0

    g = game(loss=Wasserstein(), regularizers=[GradientPenalty(), Fake()])
    terms = g.loss("discriminator", reals())
    assert list(terms) == ["adversarial", "gradient penalty", "fake penalty"]
    assert terms["fake penalty"].item() == 7.0
    (discriminator, real, fake) = seen[0]
    assert discriminator is g.discriminator and not fake.requires_grad
    assert torch.equal(torch.cat([real, fake]), g.discriminator.calls[0]["input"])
    assert list(g.loss("generator", reals())) == ["adversarial"]


def test_fakes_reach_the_discriminator_in_the_datas_dtype_under_autocast():
    g = game(batch_norm=True)  # two passes: joining real and fake would promote the fakes anyway
    with torch.autocast("cpu", torch.bfloat16):
        g.loss("discriminator", reals())
    assert [call["input"].dtype for call in g.discriminator.calls] == [torch.float32] * 2


def test_turns():
    g = game(n_critic=3)
    assert list(g.turns.items()) == [("discriminator", 3), ("generator", 1)]
    assert list(g.players) == ["discriminator", "generator"]
    assert g.players["generator"] is g.generator


@pytest.mark.parametrize("n_critic", [0, -1])
def test_n_critic_must_be_positive(n_critic):
    with pytest.raises(ValueError, match=f"n_critic.*{n_critic}"):
        game(n_critic=n_critic)


@pytest.mark.parametrize("names", [("p", "p"), ("adversarial",)])
def test_terms_of_one_name_are_refused(names):
    """A second term of the same name would silently take the place of the first."""
    with pytest.raises(ValueError, match="name"):
        game(Wasserstein(), [GradientPenalty(name=name) for name in names])


# What both sides may ask for


class Term:
    """A named term that notes its arguments."""

    def __init__(self, name: str, value: float | None = 7.0) -> None:
        self.name, self.value = name, value
        self.seen: list[tuple] = []

    def __call__(self, discriminator, real, fake):
        self.seen.append((discriminator, real, fake))
        return None if self.value is None else discriminator(fake).mean() * 0 + self.value


def test_relativistic_losses_get_the_real_outputs(monkeypatch):
    """In the generator's turn too: softplus(D(x) - D(G(z))), and a gradient for the generator alone."""
    g = game(RelativisticPairing())
    z = torch.randn(8, 3)
    monkeypatch.setattr(g, "latent", lambda n: z)
    by_hand = copy.deepcopy(g)
    (real,) = reals()
    apart = by_hand.discriminator(real) - by_hand.discriminator(by_hand.generator(z))
    found = g.loss("generator", (real,))["adversarial"]
    torch.testing.assert_close(found, torch.nn.functional.softplus(apart).mean())
    torch.testing.assert_close(
        g.loss("discriminator", (real,))["adversarial"], torch.nn.functional.softplus(-apart).mean()
    )
    found.backward()
    assert all(p.grad is not None for p in g.generator.parameters())
    assert all(p.grad is None for p in g.discriminator.parameters())


@pytest.mark.parametrize("loss", [x for x in LOSSES if not hasattr(x, "relativistic")])
def test_other_losses_cost_no_pass_over_real_data_in_the_generators_turn(loss):
    g = game(loss)
    g.loss("generator", reals())
    assert len(g.discriminator.calls) == 1


def generator_game(*terms, regularizers=()) -> GAN:
    g = game()
    return GAN(g.generator, g.discriminator, g.adversarial, regularizers, generator_regularizers=terms)


def test_generator_regularizers_are_named_terms_on_the_same_fakes():
    first, second = Term("first"), Term("second", 3.0)
    g = generator_game(first, second)
    terms = g.loss("generator", reals())
    assert {k: v.item() for k, v in list(terms.items())[1:]} == {"first": 7.0, "second": 3.0}
    (judge, real, fake) = first.seen[0]
    assert judge is g.discriminator and torch.equal(real, reals()[0])
    assert fake.requires_grad and torch.equal(fake, g.discriminator.calls[0]["input"])
    assert list(g.loss("discriminator", reals())) == ["adversarial"] and len(first.seen) == 1


def test_terms_that_are_not_due_are_left_out():
    g = generator_game(Term("late", None), regularizers=[Term("later", None), Term("now")])
    assert list(g.loss("generator", reals())) == ["adversarial"]
    assert list(g.loss("discriminator", reals())) == ["adversarial", "now"]


def test_terms_that_count_are_in_the_state():
    """A lazy penalty's count belongs into checkpoints; other penalties have nothing to keep."""
    counted, plain = game(regularizers=[Lazy(R1(), 4)]), game(regularizers=[R1()])
    assert set(counted.state_dict()) - set(plain.state_dict()) == {"counting.0.calls"}
    counted.loss("discriminator", reals())
    assert counted.state_dict()["counting.0.calls"].item() == 1
    assert list(counted.loss("discriminator", reals())) == ["adversarial"], "the second call is not due"


def test_a_copied_game_reads_its_own_features():
    """A term that holds a layer of the discriminator holds the copy's layer in the copy."""
    g = game()
    g = GAN(
        g.generator,
        g.discriminator,
        NonSaturating(),
        generator_regularizers=[FeatureMatching(g.discriminator.module[1])],
    )
    twin = copy.deepcopy(g)
    assert twin.generator_regularizers[0].layer is twin.discriminator.module[1]
    assert twin.loss("generator", reals())["feature matching"].isfinite()


@pytest.mark.parametrize("names", [("p", "p"), ("adversarial",)])
def test_generator_terms_of_one_name_are_refused(names):
    with pytest.raises(ValueError, match="distinct names"):
        generator_game(*(Term(name) for name in names))


def test_the_two_sides_may_share_a_name():
    generator_game(Term("p"), regularizers=[Term("p")])


def test_after_step_reaches_the_players_parts():
    class Part(nn.Identity):
        steps = 0

        def after_step(self) -> None:
            self.steps += 1

    g, parts = game(), (Part(), Part(), Part())
    g.discriminator.module.append(parts[0])
    g.discriminator.module.append(nn.Sequential(parts[1]))
    g.generator.module.append(parts[2])
    g.after_step("discriminator")
    g.after_step("discriminator")
    g.after_step("generator")
    assert [part.steps for part in parts] == [2, 2, 1]


# Sampling


def test_sample_is_in_evaluation_mode_and_puts_modes_back():
    g = game().train()
    g.discriminator.eval()
    modes = {name: module.training for name, module in g.named_modules()}
    images = g.sample(5, torch.Generator().manual_seed(0))
    assert images.shape == (5, 4) and not images.requires_grad and images.dtype == torch.float32
    assert not g.generator.calls[-1]["training"]
    assert {name: module.training for name, module in g.named_modules()} == modes
    with pytest.raises(RuntimeError), g.evaluating():
        raise RuntimeError
    assert {name: module.training for name, module in g.named_modules()} == modes


def test_sampling_changes_no_statistics():
    g = game().train()
    before = {k: v.clone() for k, v in g.state_dict().items()}
    g.sample(50)
    assert all(torch.equal(v, before[k]) for k, v in g.state_dict().items())


def test_sample_depends_on_its_source_alone():
    g = game()
    state = torch.get_rng_state()
    first, again, other = (g.sample(7, torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)
    parts = g.sample(7, torch.Generator().manual_seed(0), batch_size=3)
    torch.testing.assert_close(parts, first)
    assert len(g.generator.calls[-1]["input"]) == 1, "7 samples in threes leave one"


@pytest.mark.parametrize("n", [0, -3])
def test_sample_size_must_be_positive(n):
    with pytest.raises(ValueError, match="n must be"):
        game().sample(n)


# The contract that others implement


def test_a_game_must_be_written_out():
    class Nothing(Game):
        turns = {}  # noqa: RUF012

    with pytest.raises(NotImplementedError, match=r"Nothing.*terms"):
        Nothing().terms("a", ())
    with pytest.raises(NotImplementedError, match=r"Nothing.*sample"):
        Nothing().sample(1)


@pytest.mark.parametrize(
    ("layer", "mixes"),
    [
        (nn.BatchNorm1d(2), True),
        (nn.SyncBatchNorm(2), True),
        (nn.Sequential(nn.Linear(1, 1), nn.Sequential(nn.BatchNorm2d(2))), True),
        (nn.LayerNorm(2), False),
        (nn.InstanceNorm2d(2), False),
        (nn.GroupNorm(1, 2), False),
        (nn.Linear(2, 2), False),
    ],
)
def test_mixes_samples(layer, mixes):
    assert mixes_samples(layer) is mixes
    declared = nn.Linear(1, 1)
    declared.mixes_samples = True
    assert mixes_samples(nn.Sequential(layer, declared))


# The MLP networks of 2014


def test_maxout_is_the_largest_of_its_linear_maps():
    layer = Maxout(3, 4, pieces=5)
    x = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    weight = layer.linear.weight.view(4, 5, 3)
    bias = layer.linear.bias.view(4, 5)
    by_hand = torch.stack([torch.stack([(x @ weight[u].T + bias[u]).max(1).values for u in range(4)], 1)])[0]
    torch.testing.assert_close(layer(x), by_hand)


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 8, 8), (2,)])
def test_mlp_shapes_and_sizes(shape):
    generator, discriminator = MLPGenerator(10, 20, shape), MLPDiscriminator(6, shape, pieces=4)
    images = generator(torch.randn(5, 10) * 100)
    assert images.shape == (5, *shape) and images.abs().max() <= 1
    assert discriminator(images).shape == (5,)
    pixels = images[0].numel()
    counts = [sum(p.numel() for p in m.parameters()) for m in (generator, discriminator)]
    assert counts == [
        (10 + 1) * 20 + (20 + 1) * 20 + (20 + 1) * pixels,
        (pixels + 1) * 6 * 4 + (6 + 1) * 6 * 4 + (6 + 1),
    ]


def test_mlp_discriminator_drops_units_in_training_only():
    discriminator = MLPDiscriminator(6, (1, 8, 8))
    x = torch.randn(4, 1, 8, 8)
    with torch.random.fork_rng():
        assert not torch.equal(discriminator(x), discriminator(x))
    discriminator.eval()
    assert torch.equal(discriminator(x), discriminator(x))
    assert not mixes_samples(discriminator)
