"""MolGAN: relaxations, graphs, three players and who gets which gradient, the collapse, the recipe."""

from itertools import combinations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

pytest.importorskip("rdkit", reason="molecules need RDKit, an extra")

from ganlib import runs, studies, systems
from ganlib.data.molecules import Molecules, graphs
from ganlib.layers import pack, unpack
from ganlib.losses import GradientPenalty
from ganlib.models import molgan
from ganlib.models.molgan import (
    CollapseWatch,
    Generator,
    GraphCritic,
    MolGAN,
    RewardNetwork,
    experiment,
    gumbel,
    one_hot,
    smiles_of,
    soft,
    soft_gumbel,
    straight_through,
    to_graphs,
    to_molecules,
)
from ganlib.training import Budget, Settings, Trainer

SMILES = ["CCO", "C#N", "c1ccccc1", "CC(=O)N", "FC(F)F", "C1CC1", "O", "CCCCCCCCC"]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def real(copies: int = 1) -> torch.Tensor:
    return to_graphs(graphs(SMILES * copies))


def small_generator(**options) -> Generator:
    torch.manual_seed(0)
    return Generator(widths=(16,), **options)


def three_players(trade_off: float = 0.5, **options) -> MolGAN:
    torch.manual_seed(1)
    paid = trade_off < 1
    return MolGAN(
        small_generator(),
        GraphCritic((8, 8), 16),
        RewardNetwork((8, 8), 16) if paid else None,
        (lambda drawn: drawn[..., 1].mean(1).cpu()) if paid else None,
        trade_off=trade_off,
        **options,
    )


def batch(game: MolGAN) -> tuple[torch.Tensor, ...]:
    return (real(), torch.linspace(0, 1, len(SMILES))) if game.reward is not None else (real(),)


# Relaxations


def test_noisy_argmax_is_a_draw_from_the_softmax():
    """Chi-square of 20,000 draws; with one seed it passes or not, p = 1e-4 allows for a bad one."""
    logits = torch.tensor([2.0, 0.0, -1.0, 0.5])
    drawn = gumbel(logits.expand(20_000, 4), rng()).argmax(1)
    expected = 20_000 * logits.softmax(0).numpy()
    assert scipy.stats.chisquare(np.bincount(drawn, minlength=4), expected, sum_check=False).pvalue > 1e-4


def test_soft_sample_is_distributed_as_torchs():
    logits = torch.tensor([2.0, 0.0, -1.0]).expand(20_000, 3)
    torch.manual_seed(0)
    ours, theirs = soft_gumbel(logits), nn.functional.gumbel_softmax(logits, tau=1.0)
    for k in range(3):
        assert scipy.stats.ks_2samp(ours[:, k], theirs[:, k]).pvalue > 1e-4


def test_soft_is_the_softmax():
    logits = torch.randn(5, 3, 4, generator=rng())
    expected = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    np.testing.assert_allclose(soft(logits), expected, rtol=1e-6)  # float32


def test_straight_through_is_one_hot_with_the_soft_samples_gradient():
    """The Jacobian of a softmax p at the noisy logits, applied to v, is p (v - <p, v>)."""
    logits = torch.randn(50, 4, generator=rng()).requires_grad_()
    v = torch.randn(50, 4, generator=rng(1))
    torch.manual_seed(7)
    drawn = straight_through(logits)
    assert ((drawn == 0) | (drawn - 1).abs().lt(1e-6)).all() and torch.allclose(drawn.sum(1), torch.ones(50))
    (got,) = torch.autograd.grad((drawn * v).sum(), logits)
    torch.manual_seed(7)
    noisy = gumbel(logits).detach().double().numpy()
    assert (drawn.argmax(1).numpy() == noisy.argmax(1)).all()
    p, w = scipy.special.softmax(noisy, axis=1), v.double().numpy()
    np.testing.assert_allclose(got, p * (w - (p * w).sum(1, keepdims=True)), atol=1e-6)  # float32


def test_noise_survives_a_zero(monkeypatch):
    """uniform returns 0 once in 16 million numbers, and its -log is infinite."""
    monkeypatch.setattr(molgan, "uniform", lambda *shape, **_: torch.zeros(shape))
    assert gumbel(torch.zeros(2, 4)).isfinite().all()


# Graphs


def test_graphs_and_labels_there_and_back():
    molecules = graphs(SMILES)
    packed = to_graphs(molecules)
    assert packed.shape == (len(SMILES), 9, 5 + 4 * 9) and packed.dtype == torch.uint8
    back = to_molecules(packed)
    assert torch.equal(back.nodes, molecules.nodes) and torch.equal(back.edges, molecules.edges)
    assert smiles_of(packed) == ["CCO", "C#N", "c1ccccc1", "CC(N)=O", "FC(F)F", "C1CC1", "O", "CCCCCCCCC"]


@pytest.mark.parametrize("relax", [soft, soft_gumbel, straight_through])
def test_generated_graphs_are_graphs(relax):
    generator = small_generator(relax=relax)
    made = generator(torch.randn(40, 32, generator=rng()) * 3)
    nodes, edges = unpack(made, 5)
    assert torch.equal(edges, edges.transpose(1, 2)), "an edge and its reverse are one draw"
    assert (edges.diagonal(dim1=1, dim2=2)[:, 0] == 1).all(), "no node is its own neighbour"
    # Rows of float32 numbers that add up to 1.
    torch.testing.assert_close(nodes.sum(-1), torch.ones(40, 9), atol=1e-5, rtol=0)
    torch.testing.assert_close(edges.sum(-1), torch.ones(40, 9, 9), atol=1e-5, rtol=0)
    assert made.min() > -1e-6


def test_bonds_to_padding_are_taken_away():
    nodes = torch.zeros(1, 9, 5)
    nodes[:, :3, 1], nodes[:, 3, :2], nodes[:, 4:, 0] = 1.0, 0.5, 1.0
    pairs = torch.zeros(1, 36, 4)
    pairs[..., 1] = 1.0
    edges = unpack(small_generator().assemble(nodes, pairs), 5)[1][0]
    assert edges[0, 1, 1] == 1 and edges[0, 3, 1] == 0.5 and edges[0, 4, 1] == 0
    assert edges[0, 1, 0] == 0 and edges[0, 3, 0] == 0.5 and edges[0, 4, 0] == 1
    assert edges[3, 3, 0] == 1


def test_pairs_stand_where_their_nodes_say():
    nodes = torch.zeros(1, 9, 5)
    nodes[..., 1] = 1.0
    for k, (i, j) in enumerate(combinations(range(9), 2)):
        pairs = torch.zeros(1, 36, 4)
        pairs[..., 0] = 1.0
        pairs[0, k] = torch.tensor([0.0, 0.0, 1.0, 0.0])
        found = unpack(small_generator().assemble(nodes, pairs), 5)[1][0].argmax(-1)
        assert found.nonzero().tolist() == [[i, j], [j, i]]


def test_draws():
    generator, z = small_generator(), torch.randn(30, 32, generator=rng())
    drawn = generator.draw(z, rng(1))
    assert set(drawn.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(drawn, generator.draw(z, rng(1))) and not torch.equal(drawn, generator.draw(z, rng(2)))
    likeliest = generator.draw(z, temperature=0)
    nodes, pairs = generator.logits(z)
    assert torch.equal(unpack(likeliest, 5)[0].argmax(-1), nodes.argmax(-1))
    assert torch.equal(likeliest, generator.assemble(one_hot(nodes), one_hot(pairs)))


def test_temperature_and_sharpness_are_of_the_same_softmax():
    """Logits twice as sharp, drawn at temperature 2, are the same draws."""
    z = torch.randn(30, 32, generator=rng())
    once, twice = small_generator(), small_generator(sharpness=2.0)
    assert torch.equal(once.draw(z, rng(1)), twice.draw(z, rng(1), 2.0))
    assert not torch.equal(once.draw(z, rng(1)), twice.draw(z, rng(1)))


def test_dropout_acts_in_training_alone():
    generator, z = small_generator(dropout=0.5), torch.randn(4, 32, generator=rng())
    assert not torch.equal(generator.logits(z)[0], generator.logits(z)[0])
    assert all(0.3 < (part == 0).float().mean() < 0.7 for part in generator.logits(z)), "of the logits, too"
    generator.eval()
    assert torch.equal(generator.logits(z)[0], generator.logits(z)[0])


# The networks that judge


@pytest.mark.parametrize("network", [GraphCritic, RewardNetwork])
def test_scores_do_not_depend_on_labels(network):
    torch.manual_seed(0)
    judge = network((8, 8), 16).double()
    generator = small_generator(relax=soft)
    relaxed = generator(torch.randn(6, 32, generator=rng())).double()
    nodes, edges = unpack(relaxed, 5)
    before = judge(relaxed)
    assert before.shape == (6,) and before.std() > 1e-4, "the graphs differ, and so must the scores"
    for seed in range(5):
        order = torch.randperm(9, generator=rng(seed))
        moved = pack(nodes[:, order], edges[:, order][:, :, order])
        assert not torch.equal(moved, relaxed)
        torch.testing.assert_close(judge(moved), before, atol=1e-12, rtol=0)  # double precision


def test_reward_network_predicts_between_0_and_1():
    torch.manual_seed(0)
    judge = RewardNetwork((8, 8), 16)
    plain = GraphCritic((8, 8), 16)
    plain.load_state_dict(judge.state_dict())
    np.testing.assert_allclose(
        judge(real().float()).detach(), scipy.special.expit(plain(real().float()).detach().numpy()), rtol=1e-6
    )


def test_gradient_penalty_on_relaxed_graphs():
    """Finite differences of the critic in every entry of node and edge tensors; real is fake, so that the
    interpolates are known."""
    torch.manual_seed(0)
    critic = GraphCritic((8, 8), 16).double()
    with torch.no_grad():
        critic.head[-2].weight *= 20  # slopes of the order of 1
    points = small_generator(relax=soft)(torch.randn(3, 32, generator=rng())).detach().double()
    slopes = np.zeros((3, points[0].numel()))
    with torch.no_grad():
        for k in range(points[0].numel()):
            step = torch.zeros(points[0].numel(), dtype=torch.float64)
            step[k] = 1e-5
            step = step.view(points[0].shape)
            slopes[:, k] = (critic(points + step) - critic(points - step)) / 2e-5
    expected = 10 * ((np.linalg.norm(slopes, axis=1) - 1) ** 2).mean()
    penalty = GradientPenalty()(critic, points, points)
    assert penalty.item() == pytest.approx(
        expected, rel=1e-7
    )  # central differences: error 1e-10 of the slope
    assert expected > 0.1


# The players


def gradients(game: MolGAN) -> dict[str, bool]:
    return {
        name: any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
        for name, module in game.players.items()
    }


@pytest.mark.parametrize("trade_off", [0.0, 0.5, 1.0])
def test_gradients_reach_the_player_alone(trade_off):
    game = three_players(trade_off)
    for player in game.turns:
        game.zero_grad(set_to_none=True)
        sum(game.loss(player, batch(game)).values()).backward()
        assert gradients(game) == {name: name == player for name in game.turns}
        untouched = [p for name, m in game.players.items() if name != player for p in m.parameters()]
        assert all(p.grad is None for p in untouched)


def test_turns():
    assert dict(three_players(0.5, n_critic=3).turns) == {"critic": 3, "reward": 1, "generator": 1}
    assert dict(three_players(1.0).turns) == {"critic": 5, "generator": 1}


@pytest.mark.parametrize("kernels", [0, 3])
def test_critic_tells_real_from_relaxed_graphs(kernels):
    """E D(G(z)) - E D(x) and the penalty between the two, with the game's own random numbers drawn again."""
    game = MolGAN(small_generator(relax=soft), GraphCritic((8, 8), 16, kernels))
    torch.manual_seed(4)
    terms = game.loss("critic", batch(game))
    torch.manual_seed(4)
    x = real().float()
    fake = game.generator(game.latent(len(x))).detach()
    penalty = GradientPenalty()(game.critic, x, fake)
    expected = game.critic(fake).mean() - game.critic(x).mean()
    assert terms["adversarial"].item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-7)  # float32
    assert terms["gradient penalty"].item() == pytest.approx(penalty.item(), rel=1e-5)


def count_calls(module: nn.Module) -> list[int]:
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_work_that_a_turn_does_not_need_is_not_done():
    alone = three_players(1.0)
    assert alone.reward is None
    full_rl = three_players(0.0)
    asked = {name: count_calls(getattr(full_rl, name)) for name in ("critic", "reward")}
    assert set(full_rl.loss("generator", batch(full_rl))) == {"reward"}
    assert (len(asked["critic"]), len(asked["reward"])) == (0, 1)
    full_rl.loss("critic", batch(full_rl))
    assert len(asked["reward"]) == 1
    full_rl.loss("reward", batch(full_rl))
    assert len(asked["critic"]) == 3 - 1, "real and fake in one pass, and the penalty's"


def test_warm_up_plays_without_the_reward():
    game = three_players(0.0, warmup=2)
    asked = count_calls(game.reward)
    for _ in range(2):
        assert set(game.loss("generator", batch(game))) == {"adversarial"}
        game.after_step("critic")
        game.after_step("generator")
    assert not asked
    assert set(game.loss("generator", batch(game))) == {"reward"}
    again = three_players(0.0, warmup=2)
    again.load_state_dict(game.state_dict())
    assert set(again.loss("generator", batch(again))) == {"reward"}, "the count is in the state"


def generator_gradients(game: MolGAN, fake: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Of the sum of the terms, and of -mean D and -mean R alone, with respect to the graphs."""
    losses = sum(game.generator_terms(fake).values()), -game.critic(fake).mean(), -game.reward(fake).mean()
    return tuple(torch.autograd.grad(loss, fake)[0] for loss in losses)


def test_generator_is_pulled_by_both_in_the_proportion_of_lambda():
    """lambda a + (1 - lambda) (|a| / |b|) b, for the gradients a of -mean D and b of -mean R."""
    game = three_players(0.25)
    fake = game.generator(torch.randn(8, 32, generator=rng())).detach().requires_grad_()
    got, a, b = generator_gradients(game, fake)
    torch.testing.assert_close(
        got, 0.25 * a + 0.75 * a.norm() / b.norm() * b, atol=1e-8, rtol=1e-4
    )  # float32


def test_a_constant_on_the_critic_changes_no_gradient():
    """Its own loss cannot see it, so the generator's must not: |L_WGAN / L_RL| would."""
    game = three_players(0.25)
    fake = game.generator(torch.randn(8, 32, generator=rng())).detach().requires_grad_()
    before = generator_gradients(game, fake)[0]
    with torch.no_grad():
        game.critic.head[-2].bias += 100.0
    torch.testing.assert_close(generator_gradients(game, fake)[0], before, atol=1e-8, rtol=1e-5)  # float32


class Linear(nn.Module):
    """z A, with nothing random: a policy whose gradient can be written down."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 3
        self.matrix = nn.Parameter(torch.randn(3, 9 * 41, generator=rng(5)))

    def forward(self, z):
        return (z @ self.matrix).view(-1, 9, 41)


class LinearReward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(9 * 41, generator=rng(6)))

    def forward(self, graphs):
        return graphs.flatten(1) @ self.weight


def test_deterministic_policy_gradient_of_a_linear_reward():
    r"""R(x) = <w, x> and G(z) = z A: the gradient of -E R(G(z)) in A is -mean(z) w^T."""
    reward = LinearReward()
    game = MolGAN(Linear(), GraphCritic((8,), 8), reward, lambda x: x, trade_off=0.0)
    torch.manual_seed(3)
    sum(game.loss("generator", (real(),)).values()).backward()
    torch.manual_seed(3)
    z = game.latent(len(SMILES))
    expected = -torch.outer(z.mean(0), reward.weight.detach())
    torch.testing.assert_close(game.generator.matrix.grad, expected, atol=1e-6, rtol=1e-5)  # float32
    assert reward.weight.grad is None


def test_reward_network_learns_scores_of_real_and_of_drawn_molecules():
    game = three_players(0.5)
    seen = []

    def score(drawn):
        seen.append(drawn.clone())
        return torch.arange(len(drawn)) / 10

    game.score = score
    real_batch, rewards = batch(game)
    terms = game.loss("reward", (real_batch, rewards))
    (drawn,) = seen
    assert set(drawn.unique().tolist()) == {0.0, 1.0}, "scored as discrete molecules"
    assert not drawn.requires_grad
    on_real, on_drawn = (game.reward(x).detach().numpy() for x in (real_batch.float(), drawn))
    assert terms["real"].item() == pytest.approx(((on_real - rewards.numpy()) ** 2).mean(), rel=1e-5)
    assert terms["generated"].item() == pytest.approx(((on_drawn - np.arange(8) / 10) ** 2).mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"trade_off": 1.5}, "trade_off must lie"),
        ({"trade_off": -0.1}, "trade_off must lie"),
        ({"trade_off": 0.5}, "reward and score"),
        ({"reward": RewardNetwork((4,), 4), "score": lambda x: x}, "reward and score"),
        ({"trade_off": 0.5, "reward": RewardNetwork((4,), 4)}, "reward and score"),
        ({"warmup": -1}, "warmup"),
        ({"n_critic": 0}, "n_critic"),
    ],
)
def test_mistakes_are_told(options, name):
    with pytest.raises(ValueError, match=name):
        MolGAN(small_generator(), GraphCritic((4,), 4), **options)


# Training


def trainer(game: MolGAN, out=None, **options) -> Trainer:
    data = (real(4), torch.rand(32, generator=rng()))
    settings = Settings(
        optimizers={name: lambda p: torch.optim.Adam(p, 1e-3) for name in game.turns},
        batch_size=8,
        ema={"generator": 0.9},
        precision="32-true",
        log_every=1,
        checkpoint_every=None,
    )
    return Trainer(game, data[: len(game.turns) - 1], settings, out=out, progress=False, **options)


def test_a_resumed_run_ends_with_the_same_weights(tmp_path):
    options = {"warmup": 3, "n_critic": 1}
    whole = trainer(three_players(0.5, **options))
    whole.fit(6)
    first = trainer(three_players(0.5, **options), tmp_path)
    first.fit(2)
    second = trainer(three_players(0.5, **options), tmp_path)
    assert second.resume()
    second.fit(6)
    for (name, a), b in zip(whole.game.state_dict().items(), second.game.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert whole.game.rounds == 6
    assert "generator/reward" in second.history.names, "past the warm-up"


def test_watch_keeps_the_best_generator_before_the_collapse():
    figures = iter([(0.5, 0.1), (0.3, 0.4), (0.2, 0.3), (0.01, 0.6), (0.4, 0.9)])
    weights = []

    def measure(game):
        weights.append(game.generator.nodes[0].weight.clone())
        return dict(zip(("unique", "reward"), next(figures), strict=True))

    watch = CollapseWatch(measure, every=2)
    played = trainer(three_players(1.0, n_critic=1), callbacks=[watch])
    played.fit(10)
    assert [row["step"] for row in watch.rows] == [2, 4, 6, 8, 10]
    assert [row["unique"] for row in watch.rows] == [0.5, 0.3, 0.2, 0.01, 0.4]
    assert (watch.kept_at, watch.collapsed_at) == (4, 8)
    assert torch.equal(watch.kept["nodes.0.weight"], weights[1]), "the averaged weights of step 4"
    assert not torch.equal(weights[1], weights[2])


def test_watch_keeps_nothing_of_the_warm_up():
    watch = CollapseWatch(lambda game: {"unique": 0.5, "reward": 0.5}, every=2, after=4)
    trainer(three_players(1.0, n_critic=1), callbacks=[watch]).fit(8)
    assert len(watch.rows) == 4 and watch.kept_at == 6


def test_watch_checks_its_interval():
    with pytest.raises(ValueError, match="every"):
        CollapseWatch(lambda game: {}, every=0)


# The experiment


def test_recipe_refuses_images():
    with pytest.raises(ValueError, match="data"):
        systems.get("molgan").recipe(Budget.SMOKE, object())


def test_the_papers_constants_at_gpu(monkeypatch):
    """De Cao and Kipf 2018, section 4, and the authors' code: widths, z, batch, Adam, critic steps."""
    monkeypatch.setitem(molgan.MOLECULES, Budget.GPU, 64)
    made = experiment(Budget.GPU)
    game = made.game
    assert made.settings.batch_size == 32 and dict(game.turns) == {"critic": 5, "generator": 1}
    assert [m.out_features for m in game.generator.hidden if isinstance(m, nn.Linear)] == [128, 256, 512]
    assert game.generator.latent_dim == 32 and game.generator.number.shape == (81,)
    assert [c.linear.out_features for c in game.critic.convolutions] == [64, 32]
    assert game.critic.gather.linear.out_features == 2 * 128
    for player, make in made.settings.optimizers.items():
        assert make(game.players[player].parameters()).defaults["lr"] == 1e-3


def test_rewards_of_the_data_are_their_scores(monkeypatch):
    monkeypatch.setitem(molgan.MOLECULES, Budget.SMOKE, 40)
    made = experiment(Budget.SMOKE, 0.5)
    data, rewards = made.data
    assert len(data) == 40 and rewards.shape == (40,) and rewards.dtype == torch.float32
    assert torch.equal(rewards, molgan.score(data)) and rewards.min() > 0
    assert 0 < made.game.warmup < made.steps, "the reward leads in a part of the rounds"


def test_score_is_0_for_what_is_no_molecule():
    """Crippen's log P of ethanol is -0.0014 (RDKit's documentation); five bonds at one carbon pay nothing."""
    nodes = torch.zeros(2, 9, dtype=torch.uint8)
    edges = torch.zeros(2, 9, 9, dtype=torch.uint8)
    nodes[0, :3] = torch.tensor([1, 1, 3])
    nodes[1, :6] = 1
    for k, i, j in [(0, 0, 1), (0, 1, 2), *((1, 0, j) for j in range(1, 6))]:
        edges[k, i, j] = edges[k, j, i] = 1
    got = molgan.score(to_graphs(Molecules(nodes, edges)))
    assert got[0].item() == pytest.approx(
        (-0.0014 + 2.12178879609) / (6.0429063424 + 2.12178879609), abs=1e-4
    )
    assert got[1] == 0


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(molgan.MOLECULES, Budget.SMOKE, 64)
    monkeypatch.setitem(molgan.SAMPLES, Budget.SMOKE, 8)


def test_a_run_is_trained_drawn_and_evaluated(tiny, tmp_path):
    run = runs.Run("molgan", Budget.SMOKE, out=tmp_path / "run")
    assert runs.describe(run)["turns per step"] == "1 x critic, 1 x generator"
    assert runs.train(run, progress=False)
    assert (run.out / "samples.png").read_bytes().startswith(b"\x89PNG")
    figures = runs.evaluate(run.out)
    assert {"valid", "unique", "novel", "reward", "samples"} <= set(figures)
    assert all(0 <= figures[name] <= 1 for name in figures if name != "samples")


def test_a_cell_of_the_study(tiny, tmp_path, monkeypatch):
    monkeypatch.setitem(molgan.MOLECULES, Budget.CPU, 64)
    study = studies.get("molgan-lambda")
    assert [c.name for c in study.cells(Budget.CPU)] == ["0", "0-25", "0-5", "0-75", "1"]
    studies.run(study, Budget.SMOKE, seeds=(0,), names=["0-5"], folder=tmp_path)
    cpu = experiment(Budget.CPU)
    assert cpu.steps // 20 % cpu.settings.log_every == 0, "every check falls on a row of the history"
    (row,) = studies.load("molgan-lambda", tmp_path)
    assert row["labels"] == {"lambda": "0-5"} and "data_reward" in row["figures"]
    assert [r["step"] for r in row["curve"]] == [2, 4] and "unique" in row["curve"][0]
