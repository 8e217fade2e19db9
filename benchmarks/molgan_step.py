"""Time a training round of MolGAN: ganlib's ``Trainer`` against a plain port of the published code paths.

    python benchmarks/molgan_step.py [--cycles 8] [--rounds 10] [--threads 1]

Both play one round on batches of 32 of 5,000 molecules of QM9: five critic steps and one of the generator,
and one of the reward network where lambda is less than 1, whose external scores are zeros here, for RDKit's
time is the same for both. Same sizes, straight-through draws, penalty and Adam. *Plain* is what a port of the
paper's code comes to: labels made one-hot in every step, a linear layer and a matrix product per type of bond
in a Python loop, real, generated and interpolated graphs in passes of their own, every gradient on in every
player's turn, and ``.item()`` of every loss. They take turns in short blocks whose order alternates. Times
are processor time: on one thread that is the time on a machine that does nothing else.
"""

import argparse
import os
import platform
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import gumbel_softmax
from torch.nn.functional import one_hot as to_one_hot

from ganlib.data.molecules import Molecules
from ganlib.models.molgan import Generator, GraphCritic, MolGAN, RewardNetwork, to_graphs, training_set
from ganlib.models.recipes import adam
from ganlib.training import Settings, Trainer

BATCH, CRITIC_STEPS, LATENT = 32, 5, 32
NODES, NODE_TYPES, EDGE_TYPES = 9, 5, 4


class PlainGenerator(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(LATENT, 128), nn.Tanh(), nn.Linear(128, 256), nn.Tanh(), nn.Linear(256, 512), nn.Tanh()
        )
        self.edges = nn.Linear(512, EDGE_TYPES * NODES * NODES)
        self.nodes = nn.Linear(512, NODES * NODE_TYPES)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.body(z)
        logits = self.edges(hidden).view(-1, EDGE_TYPES, NODES, NODES)
        logits = ((logits + logits.transpose(2, 3)) / 2).permute(0, 2, 3, 1)
        nodes = self.nodes(hidden).view(-1, NODES, NODE_TYPES)
        return gumbel_softmax(logits, hard=True), gumbel_softmax(nodes, hard=True)


class PlainConvolution(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.kinds = nn.ModuleList([nn.Linear(inputs, outputs) for _ in range(EDGE_TYPES - 1)])
        self.own = nn.Linear(inputs, outputs)

    def forward(self, edges: Tensor, h: Tensor) -> Tensor:
        total = self.own(h)
        for kind, layer in enumerate(self.kinds, start=1):
            total = total + torch.matmul(edges[..., kind], layer(h))
        return torch.tanh(total)


class PlainCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = PlainConvolution(NODE_TYPES, 64)
        self.second = PlainConvolution(64 + NODE_TYPES, 32)
        self.gate = nn.Linear(32 + NODE_TYPES, 128)
        self.value = nn.Linear(32 + NODE_TYPES, 128)
        self.hidden = nn.Linear(128, 128)
        self.out = nn.Linear(128, 1)

    def forward(self, edges: Tensor, nodes: Tensor) -> Tensor:
        h = self.first(edges, nodes)
        h = self.second(edges, torch.cat([h, nodes], -1))
        h = torch.cat([h, nodes], -1)
        graph = torch.tanh((torch.sigmoid(self.gate(h)) * torch.tanh(self.value(h))).sum(1))
        return self.out(torch.tanh(self.hidden(graph)))


class Plain:
    """The plain port's loop."""

    def __init__(self, molecules: Molecules, trade_off: float) -> None:
        torch.manual_seed(0)
        self.molecules, self.trade_off = molecules, trade_off
        self.generator, self.critic, self.reward = PlainGenerator(), PlainCritic(), PlainCritic()
        modules = {"generator": self.generator, "critic": self.critic, "reward": self.reward}
        self.optimizers = {name: torch.optim.Adam(m.parameters(), lr=1e-3) for name, m in modules.items()}
        self.losses: dict[str, float] = {}

    def real(self) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.molecules.nodes), (BATCH,))
        nodes, edges = (labels[rows].long() for labels in self.molecules)
        return to_one_hot(edges, EDGE_TYPES).float(), to_one_hot(nodes, NODE_TYPES).float()

    def step(self, player: str, loss: Tensor) -> None:
        for optimizer in self.optimizers.values():
            optimizer.zero_grad()
        loss.backward()
        self.optimizers[player].step()
        self.losses[player] = loss.item()

    def penalty(self, real: tuple[Tensor, Tensor], fake: tuple[Tensor, Tensor]) -> Tensor:
        u = torch.rand(BATCH, 1, 1, 1)
        edges = (u * real[0] + (1 - u) * fake[0].detach()).requires_grad_()
        nodes = (u[..., 0] * real[1] + (1 - u[..., 0]) * fake[1].detach()).requires_grad_()
        out = self.critic(edges, nodes)
        slopes = torch.autograd.grad(out, (edges, nodes), torch.ones_like(out), create_graph=True)
        norms = torch.cat([slope.flatten(1) for slope in slopes], 1).norm(dim=1)
        return ((norms - 1) ** 2).mean()

    def round(self) -> None:
        for _ in range(CRITIC_STEPS):
            real, fake = self.real(), self.generator(torch.randn(BATCH, LATENT))
            loss = self.critic(*fake).mean() - self.critic(*real).mean() + 10 * self.penalty(real, fake)
            self.step("critic", loss)
        if self.trade_off < 1:
            real, fake = self.real(), self.generator(torch.randn(BATCH, LATENT))
            scores = torch.zeros(BATCH, 1)
            loss = ((torch.sigmoid(self.reward(*real)) - scores) ** 2).mean()
            loss = loss + ((torch.sigmoid(self.reward(*fake)) - scores) ** 2).mean()
            self.step("reward", loss)
        fake = self.generator(torch.randn(BATCH, LATENT))
        loss = -self.critic(*fake).mean()
        if self.trade_off < 1:
            paid = -torch.sigmoid(self.reward(*fake)).mean()
            loss = self.trade_off * loss + (1 - self.trade_off) * (loss / paid).detach().abs() * paid
        self.step("generator", loss)

    def block(self, rounds: int) -> None:
        for _ in range(rounds):
            self.round()


class Ours:
    """ganlib's trainer on the same networks."""

    def __init__(self, molecules: Molecules, trade_off: float) -> None:
        torch.manual_seed(0)
        paid = trade_off < 1
        game = MolGAN(
            Generator(),
            GraphCritic(),
            RewardNetwork() if paid else None,
            (lambda drawn: torch.zeros(len(drawn))) if paid else None,
            trade_off=trade_off,
            n_critic=CRITIC_STEPS,
        )
        data = (to_graphs(molecules), torch.zeros(len(molecules.nodes)))
        settings = Settings(
            optimizers=dict.fromkeys(game.turns, adam(1e-3, 0.9)),
            batch_size=BATCH,
            precision="32-true",
            log_every=50,
            checkpoint_every=None,
        )
        self.trainer = Trainer(game, data[: 1 + paid], settings, progress=False)

    def block(self, rounds: int) -> None:
        self.trainer.fit(self.trainer.step + rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=8, help="measured blocks per contender")
    parser.add_argument("--rounds", type=int, default=10, help="rounds in a block")
    parser.add_argument("--threads", type=int, default=1, help="torch's threads")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{arguments.threads} threads on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the start\n"
    )
    print(
        "| lambda | ganlib, CPU ms a round (quartiles) | plain, CPU ms a round | plain / ganlib (quartiles) |"
    )
    print("|---|---|---|---|")
    for trade_off in (1.0, 0.5):
        contenders = {kind.__name__: kind(training_set(5000), trade_off) for kind in (Ours, Plain)}
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for contender in contenders.values():
            contender.block(arguments.rounds)
        for cycle in range(arguments.cycles):
            for name in list(contenders)[:: 1 if cycle % 2 else -1]:
                start = time.process_time()
                contenders[name].block(arguments.rounds)
                times[name].append((time.process_time() - start) / arguments.rounds * 1e3)
        ratios = [plain / ours for plain, ours in zip(times["Plain"], times["Ours"], strict=True)]
        texts = []
        for values in (times["Ours"], times["Plain"], ratios):
            low, middle, high = statistics.quantiles(values, n=4)
            texts.append(f"{middle:.3g} ({low:.3g} to {high:.3g})")
        print(f"| {trade_off:g} | {' | '.join(texts)} |", flush=True)
    print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
