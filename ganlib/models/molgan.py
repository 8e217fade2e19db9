"""MolGAN: molecules drawn as graphs in one shot, judged by a critic and by what a chemist would like."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from ganlib.data.molecules import ATOMS, BONDS, COUNT, MAX_ATOMS, Molecules, qm9, to_smiles
from ganlib.layers import (
    GatedSum,
    MinibatchDiscrimination,
    RelationalGraphConvolution,
    mixes_samples,
    pack,
    unpack,
)
from ganlib.losses import GradientPenalty, Wasserstein
from ganlib.models.recipes import adam
from ganlib.random import normal, uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, LinearDecay, Settings, Trainer

if TYPE_CHECKING:
    from ganlib.data import Images

NODE_TYPES, EDGE_TYPES = len(ATOMS), len(BONDS)


# From logits to types: each maps ``(N, ..., K)`` to points of the simplex, and a gradient passes through it

Relaxation = Callable[[Tensor], Tensor]


def soft(logits: Tensor) -> Tensor:
    """The probabilities themselves: an atom that is four fifths carbon. No randomness but that of z."""
    return logits.softmax(-1)


def gumbel(logits: Tensor, rng: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
    r"""The logits with Gumbel noise, :math:`\ell_k - t \log(-\log u_k)` for :math:`u_k \sim U(0, 1)`.

    The place of the largest is a draw from the softmax of :math:`\ell / t`: from that of the logits at
    temperature 1, the likeliest type at 0.

    Source: Jang, Gu and Poole 2017, "Categorical Reparameterization with Gumbel-Softmax", section 2.
    """
    u = uniform(len(logits), *logits.shape[1:], device=logits.device, rng=rng)
    return logits - temperature * (-u.clamp(min=torch.finfo(u.dtype).tiny).log()).log()


def soft_gumbel(logits: Tensor) -> Tensor:
    """The softmax of the noisy logits, at temperature 1: a random point, often near a corner."""
    return gumbel(logits).softmax(-1)


def straight_through(logits: Tensor) -> Tensor:
    """A draw from the softmax as a one-hot vector, with the gradient of :func:`soft_gumbel` in its place.

    The networks that judge see molecules, in training as later. The gradient is not that of what they see: a
    step function has none.

    Source: Jang, Gu and Poole 2017, section 2.2, in the form of the authors' code of De Cao and Kipf 2018.
    """
    relaxed = soft_gumbel(logits)
    return (one_hot(relaxed) - relaxed).detach() + relaxed


def one_hot(scores: Tensor) -> Tensor:
    """1 at the largest of the last dimension's entries, 0 elsewhere."""
    return torch.zeros_like(scores).scatter_(-1, scores.argmax(-1, keepdim=True), 1.0)


# Graphs as one tensor


def to_graphs(molecules: Molecules) -> Tensor:
    """Labels -> packed one-hot graphs, uint8 ``(N, V, 5 + 4 V)``; see :func:`ganlib.layers.pack`."""
    nodes, edges = (
        nn.functional.one_hot(labels.long(), types).to(torch.uint8)
        for labels, types in zip(molecules, (NODE_TYPES, EDGE_TYPES), strict=True)
    )
    return pack(nodes, edges)


def to_molecules(graphs: Tensor) -> Molecules:
    """Packed graphs -> the labels of their likeliest types; undoes :func:`to_graphs`."""
    return Molecules(*(part.argmax(-1).to(torch.uint8) for part in unpack(graphs, NODE_TYPES)))


def smiles_of(graphs: Tensor) -> list[str | None]:
    """Packed graphs -> canonical SMILES, None for what is no molecule: `ganlib.data.molecules.to_smiles`."""
    return to_smiles(to_molecules(graphs))


# The networks


class Generator(nn.Module):
    """Latents ``(N, latent_dim)`` -> packed relaxed graphs ``(N, V, 5 + 4 V)``, all at once.

    A perceptron gives logits for each node's type and for the type of each *pair* of nodes. A pair's draw
    stands at (i, j) and at (j, i), and no node is its own neighbour: the graph is undirected whatever is
    drawn. (The authors' code averages the logits of (i, j) and (j, i) and then draws the two independently,
    so that with Gumbel noise they may disagree.)

    No order of the nodes is the right one, and there is nothing to match: the critic does not see an order,
    so the generator may take any.

    Args:
        atoms: V, the most atoms that a molecule can have.
        latent_dim: length of z.
        widths: of the hidden layers.
        relax: logits -> types in training: :func:`soft`, :func:`soft_gumbel`, :func:`straight_through`.
        dropout: share of hidden units, and of logits, set to 0 in training.
        sharpness: factor on the logits. At 1, the noise decides all at the start of training, and the
            generator learns to leave variety to it: types drawn each by itself, which rarely fit together.
            The larger the factor, the more variety comes from z, which all types have in common.

    Source: De Cao and Kipf 2018, sections 3.1 and 4; dropout as in the authors' code. Lecture: UBC "MolGANs".
    """

    def __init__(
        self,
        atoms: int = MAX_ATOMS,
        latent_dim: int = 32,
        widths: Sequence[int] = (128, 256, 512),
        relax: Relaxation = straight_through,
        dropout: float = 0.0,
        sharpness: float = 1.0,
    ) -> None:
        super().__init__()
        self.latent_dim, self.relax, self.sharpness = latent_dim, relax, sharpness
        hidden: list[nn.Module] = []
        inputs = latent_dim
        for width in widths:
            hidden += [nn.Linear(inputs, width), nn.Tanh(), nn.Dropout(dropout)]
            inputs = width
        self.hidden = nn.Sequential(*hidden)
        pairs = atoms * (atoms - 1) // 2
        self.nodes, self.pairs = (
            nn.Sequential(nn.Linear(inputs, n * types), nn.Unflatten(1, (n, types)), nn.Dropout(dropout))
            for n, types in ((atoms, NODE_TYPES), (pairs, EDGE_TYPES))
        )
        # Pair -> its two nodes, and entry (i, j) -> the pair's number; the diagonal's is one after the last.
        above = torch.triu_indices(atoms, atoms, 1)
        number = torch.full((atoms, atoms), pairs)
        number[above[0], above[1]] = number[above[1], above[0]] = torch.arange(pairs)
        self.register_buffer("above", above, persistent=False)
        self.register_buffer("number", number.flatten(), persistent=False)

    def logits(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the nodes ``(N, V, 5)`` and of the pairs i < j, row by row, ``(N, V (V - 1) / 2, 4)``."""
        hidden = self.hidden(z)
        return self.sharpness * self.nodes(hidden), self.sharpness * self.pairs(hidden)

    def forward(self, z: Tensor) -> Tensor:
        """Relaxed graphs, with a gradient."""
        return self.assemble(*(self.relax(part.float()) for part in self.logits(z)))

    def draw(self, z: Tensor, rng: torch.Generator | None = None, temperature: float = 1.0) -> Tensor:
        """One-hot graphs: each type drawn from the softmax of its logits at a temperature.

        At 0 it is the likeliest type, and all variety is z's. The authors' code draws at 1 when it evaluates
        its models.
        """
        return self.assemble(*(one_hot(gumbel(part.float(), rng, temperature)) for part in self.logits(z)))

    def assemble(self, nodes: Tensor, pairs: Tensor) -> Tensor:
        """Types of nodes and pairs, as :meth:`logits` has them -> packed symmetric graphs.

        A bond takes two atoms: that of a pair is multiplied by the shares of both nodes that are no padding.
        """
        atom = 1 - nodes[..., 0]
        bonds = pairs[..., 1:] * (atom[:, self.above[0]] * atom[:, self.above[1]])[..., None]
        bonds = torch.cat([bonds, torch.zeros_like(bonds[:, :1])], 1).index_select(1, self.number)
        edges = torch.cat([1 - bonds.sum(-1, keepdim=True), bonds], -1)
        return pack(nodes, edges.unflatten(1, (nodes.shape[1], -1)))


class GraphCritic(nn.Module):
    """Packed graphs ``(N, V, 5 + 4 V)`` -> a score ``(N,)`` that no relabelling of the nodes changes.

    Two relational graph convolutions, each of which is followed by tanh and sees the atoms' types again;
    a gated sum over the nodes; a hidden layer. Padding is a node type like any other, so that the network can
    count.

    Args:
        widths: outputs of the convolutions.
        graph: length of the graph's vector, and of the hidden layer.
        kernels: similarities to the rest of the batch that the last layer sees too, 0 for none; see
            :class:`ganlib.layers.MinibatchDiscrimination`. (The authors' code has the batch's mean features
            there.) A gradient penalty then is on the gradient of the *sum* of the batch's scores, as theirs.

    Source: De Cao and Kipf 2018, sections 3.2 and 4; without a division by the number of neighbours, as in
    the authors' code.
    """

    def __init__(self, widths: Sequence[int] = (64, 32), graph: int = 128, kernels: int = 0) -> None:
        super().__init__()
        convolutions, inputs = [], NODE_TYPES
        for width in widths:
            convolutions.append(RelationalGraphConvolution(inputs, width, EDGE_TYPES))
            inputs = width + NODE_TYPES
        self.convolutions = nn.ModuleList(convolutions)
        self.gather = GatedSum(inputs, graph)
        batch = [MinibatchDiscrimination(graph, kernels)] if kernels else []
        self.head = nn.Sequential(
            nn.Linear(graph, graph), nn.Tanh(), *batch, nn.Linear(graph + kernels, 1), nn.Flatten(0)
        )

    def forward(self, graphs: Tensor) -> Tensor:
        nodes, edges = unpack(graphs, NODE_TYPES)
        h = nodes
        for convolution in self.convolutions:
            h = torch.cat([torch.tanh(convolution(h, edges)), nodes], 2)
        return self.head(self.gather(h))


class RewardNetwork(GraphCritic):
    """A critic of the same make with a sigmoid: packed graphs -> predicted reward ``(N,)`` in (0, 1)."""

    def forward(self, graphs: Tensor) -> Tensor:
        return torch.sigmoid(super().forward(graphs).float())


# The game


class MolGAN(Game):
    r"""A generator between a critic, who knows what molecules look like, and a reward network.

    .. math::
        L_D &= E\, D(G(z)) - E\, D(x) + \text{gradient penalty} \\
        L_R &= E\, (R(x) - r(x))^2 + E\, (R(\bar x) - r(\bar x))^2 \\
        L_G &= \lambda L_{WGAN} + (1 - \lambda)\, \alpha\, L_{RL},
        \qquad L_{WGAN} = -E\, D(G(z)), \quad L_{RL} = -E\, R(G(z))

    r is any program that scores molecules; nobody differentiates it. R learns to predict it, on real
    molecules and on drawn ones :math:`\bar x`, and *its* gradient leads the generator uphill: the
    deterministic policy gradient, with the generator as the policy, the latent as the state and the whole
    graph as one action.

    :math:`\alpha = \|\nabla_{G(z)} L_{WGAN}\| / \|\nabla_{G(z)} L_{RL}\|`, taken as a number, makes both
    pulls at the graphs equally strong at :math:`\lambda = 1/2`. The authors' code has
    :math:`|L_{WGAN} / L_{RL}|`; but a critic's values are known up to a constant, to which its own loss is
    blind and that ratio is not.

    The generator starts with :math:`\lambda = 1` for ``warmup`` rounds, while R learns from what it makes: an
    R that knows nothing yet would lead it astray. With :math:`\lambda = 1` there is no third player, and
    with :math:`\lambda = 0` the generator does not ask the critic once the warm-up is over.

    Scoring drawn molecules happens on the host: a reward turn waits for the device, as no other does.

    Args:
        generator: latents -> packed relaxed graphs; with ``latent_dim`` and ``draw``.
        critic: packed graphs -> critic values ``(N,)``.
        reward: packed graphs -> predicted reward ``(N,)``; None if ``trade_off`` is 1.
        score: r, packed one-hot graphs -> ``(N,)`` in [0, 1]; None if ``trade_off`` is 1.
        trade_off: :math:`\lambda` in [0, 1].
        warmup: rounds with :math:`\lambda = 1` at the start.
        n_critic: critic steps per round.
        penalty: on the critic, over nodes and edges together.

    Batches: packed one-hot graphs, and their rewards r(x) where there is a reward network.

    Raises:
        ValueError: if ``trade_off`` lies outside [0, 1], a reward network or its scores are missing or not
            needed, ``warmup`` is negative or ``n_critic`` less than 1.

    Source: De Cao and Kipf 2018, section 3, and the authors' code; the policy gradient after Lillicrap et al.
    2016, "Continuous control with deep reinforcement learning". Lecture: UBC "MolGANs".
    """

    rounds: Tensor

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        reward: nn.Module | None = None,
        score: Callable[[Tensor], Tensor] | None = None,
        *,
        trade_off: float = 1.0,
        warmup: int = 0,
        n_critic: int = 5,
        penalty: GradientPenalty | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= trade_off <= 1:
            raise ValueError(f"trade_off must lie in [0, 1], got {trade_off}")
        if (reward is None, score is None) != (trade_off == 1,) * 2:
            raise ValueError(
                "reward and score must both be given if trade_off is less than 1, and neither if it is 1, "
                f"got trade_off {trade_off}, reward {reward!r}, score {score!r}"
            )
        if warmup < 0 or n_critic < 1:
            raise ValueError(f"need warmup >= 0 and n_critic >= 1, got {warmup} and {n_critic}")
        self.generator, self.critic, self.reward = generator, critic, reward
        self.score, self.trade_off, self.warmup = score, trade_off, warmup
        self.adversarial, self.penalty = Wasserstein(), penalty or GradientPenalty()
        self.turns = {"critic": n_critic, **({} if reward is None else {"reward": 1}), "generator": 1}
        self.separate_passes = mixes_samples(critic)
        # In checkpoints; the number beside it spares the host a wait for the device.
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self._rounds = 0
        self.register_load_state_dict_post_hook(MolGAN._loaded)

    def _loaded(self, keys: object) -> None:
        self._rounds = int(self.rounds)

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        z = self.latent(len(batch[0]))
        if player == "generator":
            return self.generator_terms(self.generator(z))
        real = batch[0].float()
        if player == "critic":
            return self.critic_terms(real, z)
        return self.reward_terms(real, batch[1], z)

    def critic_terms(self, real: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The critic's loss against relaxed graphs, and its penalty between them and real ones."""
        with torch.no_grad():
            fake = self.generator(z)
        if self.separate_passes:
            sides = self.critic(real), self.critic(fake)
        else:
            sides = self.critic(torch.cat([real, fake])).chunk(2)
        return {
            "adversarial": self.adversarial.discriminator(*sides),
            self.penalty.name: self.penalty(self.critic, real, fake),
        }

    def reward_terms(self, real: Tensor, rewards: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The reward network's squared errors on real and on drawn molecules."""
        with torch.no_grad():
            drawn = self.generator.draw(z)
        on_real, on_drawn = self.reward(torch.cat([real, drawn])).chunk(2)
        scores = self.score(drawn).to(drawn.device)
        return {"real": mse_loss(on_real, rewards), "generated": mse_loss(on_drawn, scores)}

    def generator_terms(self, fake: Tensor) -> dict[str, Tensor]:
        """Both parts of the generator's loss on relaxed graphs, those with a weight of 0 left out."""
        weight = 1.0 if self._rounds < self.warmup else self.trade_off
        terms = {}
        if weight > 0:
            wanted = self.adversarial.generator(self.critic(fake))
            terms["adversarial"] = weight * wanted
        if weight < 1:
            paid = -self.reward(fake).mean()
            scale = _slope(wanted, fake) / _slope(paid, fake) if weight > 0 else 1.0
            terms["reward"] = (1 - weight) * scale * paid
        return terms

    def after_step(self, player: str) -> None:
        """Count the rounds, for the warm-up."""
        if player == "generator":
            self._rounds += 1
            self.rounds += 1

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Latents :math:`z \\sim N(0, I)`, ``(n, latent_dim)``."""
        return normal(n, self.generator.latent_dim, device=self.device, rng=rng)

    def sample(
        self,
        n: int,
        rng: torch.Generator | None = None,
        batch_size: int = 1000,
        *,
        temperature: float = 1.0,
    ) -> Tensor:
        """Draw ``n`` packed one-hot graphs ``(n, V, 5 + 4 V)``; see :meth:`Generator.draw`."""
        z = self.latent(n, rng)
        with self.evaluating():
            return torch.cat([self.generator.draw(part, rng, temperature) for part in z.split(batch_size)])


def _slope(loss: Tensor, graphs: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, graphs, retain_graph=True)
    return torch.linalg.vector_norm(gradient).clamp(min=1e-12)  # a divisor; 0 where a sigmoid is saturated


class CollapseWatch:
    """A callback of the trainer: measures a game that makes molecules, and keeps its best generator.

    Reinforcement finds a few molecules that pay and makes nothing else. The remedy is to stop at the
    first check where uniqueness is below ``floor``, and to report the best model until then. Training may go
    on here, to show what stopping prevents; ``kept`` is what it leaves.

    Args:
        measure: game -> figures, among them ``"unique"`` and ``"reward"``; the highest reward is the best.
        every: rounds between checks, a multiple of the trainer's ``log_every``.
        floor: uniqueness below which a generator counts as collapsed.
        after: rounds until whose end nothing is kept: those of the warm-up, which no reward has shaped.

    Attributes:
        rows: the figures of each check, with those of the history.
        kept: the (averaged) weights of the best generator before the collapse; None if there is none.
        kept_at: the step of its check.
        collapsed_at: the step of the check that found the collapse, None if there was none.

    Raises:
        ValueError: if ``every`` is less than 1.

    Source: De Cao and Kipf 2018, section 4, where runs with a reward are stopped early. The floor is ours.
    """

    def __init__(
        self, measure: Callable[[Game], dict[str, float]], every: int, floor: float = 0.02, after: int = 0
    ) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self.measure, self.every, self.floor, self.after = measure, every, floor, after
        self.rows: list[dict[str, float]] = []
        self.kept: dict[str, Tensor] | None = None
        self.kept_at: int | None = None
        self.collapsed_at: int | None = None
        self._best = float("-inf")

    def __call__(self, trainer: Trainer) -> None:
        if trainer.step % self.every and not trainer.finished:
            return
        with trainer.averaged() as game:
            figures = self.measure(game)
            weights = {name: tensor.clone() for name, tensor in game.generator.state_dict().items()}
        self.rows.append(dict(trainer.history[-1]) | figures)
        if trainer.step <= self.after:
            return
        if self.collapsed_at is None and figures["unique"] < self.floor:
            self.collapsed_at = trainer.step
        if self.collapsed_at is None and figures["reward"] > self._best:
            self._best, self.kept, self.kept_at = figures["reward"], weights, trainer.step


# The experiment


@lru_cache(maxsize=2)
def training_set(n: int) -> Molecules:
    """The same ``n`` molecules of QM9 in every run: the paper compares values of lambda on 5,000."""
    chosen = torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))[:n]
    return Molecules(*(labels[chosen] for labels in qm9()))


@lru_cache(maxsize=2)
def known(n: int) -> frozenset[str]:
    """The canonical SMILES of :func:`training_set`: what is not among them is novel."""
    return frozenset(to_smiles(training_set(n)))


def score(graphs: Tensor) -> Tensor:
    """The reward r of the experiments: normalised logP of a valid molecule, 0 of all else; float32 ``(N,)``.

    "Solubility" in the paper, see :func:`ganlib.metrics.molecules.solubility`.
    """
    from ganlib.metrics.molecules import reward, solubility

    return reward(smiles_of(graphs), (solubility,))


def check(budget: Budget, seed: int = 0) -> Callable[[Game], dict[str, float]]:
    """The figures by which a run is watched, on draws under ``seed``; shares of 1, and 0 where none is valid.

    ``valid`` counts connected molecules; ``valid_in_part`` the graphs whose largest fragment is one, which is
    nearer to the paper's. ``novel`` is against the budget's training set, as in the paper; ``new_to_qm9``
    against all of QM9, which means to list all that is stable, so that new to it is no praise. ``reward`` is
    the mean over all samples, with 0 for what is not valid; ``valid_reward`` that over the valid ones.
    """

    def figures(game: Game) -> dict[str, float]:
        from ganlib.metrics.molecules import novelty, reward, solubility, uniqueness, validity

        molecules = to_molecules(game.sample(SAMPLES[budget], torch.Generator().manual_seed(seed)))
        smiles = to_smiles(molecules)
        paid, valid = reward(smiles, (solubility,)).double().mean().item(), validity(smiles)
        found = {
            "valid": valid,
            "valid_in_part": validity(to_smiles(molecules, largest_fragment=True)),
            "unique": uniqueness(smiles),
            "novel": novelty(smiles, known(MOLECULES[budget])),
            "new_to_qm9": novelty(smiles),
            "reward": paid,
            "valid_reward": paid / valid if valid else 0.0,
            "samples": SAMPLES[budget],
        }
        return {name: 0.0 if value != value else value for name, value in found.items()}  # NaN is not itself

    return figures


WARM = 1.5
"""A temperature that trades validity for variety; chosen when the results at 1 had been seen."""


def report(budget: Budget) -> Callable[[Game], dict[str, float]]:
    """What :func:`check` finds, and the paper's other scores: means over the valid samples.

    ``warm_valid_in_part``, ``warm_unique`` and ``warm_novel`` are of samples drawn at temperature
    :data:`WARM`, all three of largest fragments.
    """
    shares = check(budget)

    def figures(game: Game) -> dict[str, float]:
        from ganlib.metrics.molecules import molecule_scores, novelty, uniqueness, validity

        def drawn(temperature: float, largest_fragment: bool) -> list[str | None]:
            rng = torch.Generator().manual_seed(0)
            graphs = game.sample(SAMPLES[budget], rng, temperature=temperature)
            return to_smiles(to_molecules(graphs), largest_fragment)

        scores, warm = asdict(molecule_scores(drawn(1.0, False))), drawn(WARM, True)
        rest = {name: scores[name] for name in ("qed", "solubility", "synthesizability", "diversity")}
        rest |= {"warm_valid_in_part": validity(warm), "warm_unique": uniqueness(warm)}
        rest |= {"warm_novel": novelty(warm, known(MOLECULES[budget]))}
        return shares(game) | {name: 0.0 if value != value else value for name, value in rest.items()}

    return figures


STEPS = {Budget.SMOKE: 4, Budget.CPU: 2500, Budget.GPU: 47_000}
"""Rounds: 47,000 of 32 molecules are 300 epochs of 5,000."""

MOLECULES = {Budget.SMOKE: 1000, Budget.CPU: 5000, Budget.GPU: 5000}
"""Size of the training set."""

SAMPLES = {Budget.SMOKE: 64, Budget.CPU: 5000, Budget.GPU: 5000}
"""Samples on which the figures are measured."""


def experiment(budget: Budget, trade_off: float = 1.0) -> Experiment:
    """MolGAN at one value of lambda, with logP as the reward; the first two fifths of the rounds are the
    warm-up. On ``gpu`` it has the paper's length, and was never run.

    Raises:
        ValueError: if ``trade_off`` lies outside [0, 1].
    """
    n, steps = MOLECULES[budget], STEPS[budget]
    graphs = to_graphs(training_set(n))
    paid, slow = trade_off < 1, budget is Budget.GPU
    game = MolGAN(
        Generator(
            widths=budget.pick(smoke=(32,), cpu=(128, 256, 512), gpu=(128, 256, 512)), sharpness=SHARPNESS
        ),
        GraphCritic(kernels=budget.pick(smoke=4, cpu=8, gpu=8)),
        RewardNetwork() if paid else None,
        score if paid else None,
        trade_off=trade_off,
        warmup=steps * 2 // 5,
        n_critic=budget.pick(smoke=1, cpu=2, gpu=5),
    )
    rewards = (torch.cat([score(part) for part in graphs.split(1000)]),) if paid else ()
    optimizer = adam(1e-3, 0.9, 0.999) if slow else adam(1e-3, 0.0, 0.9)
    return Experiment(
        game,
        (graphs, *rewards),
        Settings(
            optimizers=dict.fromkeys(game.turns, optimizer),
            batch_size=32,
            ema={"generator": 0.999},
            # The networks are so small that casting weights costs more than bfloat16 saves.
            precision="32-true",
            schedule=None if slow else LinearDecay(steps * 3 // 5, steps),
            log_every=budget.pick(smoke=2, cpu=25, gpu=500),
        ),
        steps,
        evaluate=report(budget),
        smiles=smiles_of,
        notes=() if slow else (NOTE,),
    )


SHARPNESS = 4.0
"""Of the generator's logits; 1 in the authors' code."""

NOTE = (
    "For minutes in place of hours: 2,500 rounds for 47,000, two critic steps each for five; Adam with betas "
    "(0, 0.9), its rate falling to zero over the last two fifths; averaged generator weights. These, the "
    "kernels of minibatch discrimination and the logits' sharpness were chosen by short runs at "
    "seed 10, with grids of other settings at seeds 0 to 2 in view."
)


@system(
    name="molgan",
    title="MolGAN (graphs of small molecules)",
    paper="De Cao and Kipf 2018, MolGAN: An Implicit Generative Model for Small Molecular Graphs",
    lectures=("UBC: MolGANs",),
    notebook="16_molgan.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Molecules of QM9 without reinforcement, lambda = 1; see :func:`experiment` for the others.

    Raises:
        ValueError: if ``data`` is given: its data are molecules.
    """
    if data is not None:
        raise ValueError("data must be None: the data of molgan are molecules, not images")
    return experiment(budget)
