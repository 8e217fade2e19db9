"""How long one training step takes: ganlib's trainer, a textbook loop and torchgan's trainer, paired.

Every contender trains the same networks, with the same weights at the start, batch size, learning rates and
number of threads. Each lives in a process of its own, so that none inherits another's allocator or caches,
but only one runs at a time: they take turns in short blocks whose order rotates, so that whatever slows the
machine for a while slows all of them. A ratio is formed within each cycle of turns, and its median is
reported. One step is one round of the game: ``n_critic`` discriminator updates, each on a batch of real
images, and one generator update.

    python benchmarks/train_step.py [--systems dcgan wgan-gp] [--cycles 6] [--threads 2]

torchgan is wanted (``pip install -e .[bench]``); without it its row is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import importlib.util
import io
import itertools
import multiprocessing
import os
import platform
import statistics
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from ganlib import data, systems
from ganlib.losses import GradientPenalty, NonSaturating, Wasserstein
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam
from ganlib.models.wgan_gp import Critic
from ganlib.training import Budget, Settings, Trainer

BASELINE = "ganlib"
Batches = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Case:
    """What all contenders train. A case is built in each process, under one seed."""

    title: str
    game: GAN
    settings: Settings
    steps: int  # per measured block
    decompose: bool  # whether to measure also what each of ganlib's choices buys

    def adam(self, player: str) -> dict[str, object]:
        """Learning rate and betas alone: the others use torch's plain Adam."""
        return {k: v for k, v in self.settings.optimizers[player].keywords.items() if k in ("lr", "betas")}


class Contender(Protocol):
    def block(self, steps: int) -> float:
        """Train for ``steps`` rounds; the seconds it took."""
        ...

    def note(self) -> str:
        """What a reader of the times should know, or nothing."""
        ...


class Ours:
    """``ganlib.training.Trainer`` as recipes use it: moving average, history and checks included."""

    def __init__(self, case: Case, images: Tensor, **changes: object) -> None:
        settings = replace(case.settings, checkpoint_every=None, **changes)
        self.trainer = Trainer(case.game, images, settings, progress=False)

    def block(self, steps: int) -> float:
        start = time.perf_counter()
        self.trainer.fit(self.trainer.step + steps)
        return time.perf_counter() - start

    def note(self) -> str:
        return "" if self.trainer.settings.precision else f"ganlib chose {self.trainer.precision}"


class Textbook:
    """The loop of tutorials: float32, NCHW, plain Adam, one pass for real and one for fake images, the
    generator's graph built in the discriminator's turn and thrown away, ``.item()`` of every loss."""

    def __init__(self, case: Case, batches: Batches, reuse_fakes: bool = False) -> None:
        self.g, self.d = case.game.generator.train(), case.game.discriminator.train()
        self.optimizer_g = torch.optim.Adam(self.g.parameters(), **case.adam("generator"))
        self.optimizer_d = torch.optim.Adam(self.d.parameters(), **case.adam("discriminator"))
        self.bce = nn.BCELoss()
        self.n_critic = case.game.turns["discriminator"]
        self.batches, self.reuse_fakes = batches, reuse_fakes
        self.step = self.wgan_gp if isinstance(case.game.adversarial, Wasserstein) else self.dcgan

    def block(self, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            self.step()
        return time.perf_counter() - start

    def note(self) -> str:
        return ""

    def noise(self, n: int) -> Tensor:
        return torch.randn(n, self.g.latent_dim)

    def dcgan(self) -> None:
        real, _ = next(self.batches)
        ones, zeros = torch.ones(len(real)), torch.zeros(len(real))  # labels of real and fake images

        self.optimizer_d.zero_grad()
        fake = self.g(self.noise(len(real)))
        loss_real = self.bce(torch.sigmoid(self.d(real)), ones)
        loss_fake = self.bce(torch.sigmoid(self.d(fake.detach())), zeros)
        loss_d = loss_real + loss_fake
        loss_d.backward()
        self.optimizer_d.step()
        loss_d.item()

        self.optimizer_g.zero_grad()
        if not self.reuse_fakes:
            fake = self.g(self.noise(len(real)))
        loss_g = self.bce(torch.sigmoid(self.d(fake)), ones)
        loss_g.backward()
        self.optimizer_g.step()
        loss_g.item()

    def wgan_gp(self) -> None:
        for _ in range(self.n_critic):
            real, _ = next(self.batches)
            n = len(real)
            self.optimizer_d.zero_grad()
            fake = self.g(self.noise(n)).detach()
            loss_d = self.d(fake).mean() - self.d(real).mean()
            weights = torch.rand(n, 1, 1, 1)
            mixed = (weights * real + (1 - weights) * fake).requires_grad_(True)
            scores = self.d(mixed)
            (gradient,) = torch.autograd.grad(
                scores, mixed, torch.ones_like(scores), create_graph=True, retain_graph=True
            )
            loss_d = loss_d + 10 * ((gradient.view(n, -1).norm(2, dim=1) - 1) ** 2).mean()
            loss_d.backward()
            self.optimizer_d.step()
            loss_d.item()

        self.optimizer_g.zero_grad()
        loss_g = -self.d(self.g(self.noise(n))).mean()
        loss_g.backward()
        self.optimizer_g.step()
        loss_g.item()


class TextbookWithWorkers(Textbook):
    """The same with loader processes, which live for one block only so that they disturb nobody else's.

    Starting them and the steps that their first, prefetched batches feed are not counted.
    """

    def __init__(self, case: Case, dataset: datasets.MNIST, workers: int) -> None:
        super().__init__(case, iter(()))
        self.loader = _loader(dataset, case.settings.batch_size, num_workers=workers)
        prefetched = workers * 2
        self.unmeasured = -(-prefetched // self.n_critic)

    def block(self, steps: int) -> float:
        self.batches = iter(self.loader)
        super().block(self.unmeasured)
        seconds = super().block(steps)
        self.batches = iter(())  # drops the loader's iterator, which ends its processes
        return seconds


class Torchgan:
    """torchgan's own ``Trainer`` and losses on the same networks and loader.

    What needs an adapter: torchgan asks models for ``encoding_dims`` and ``label_type`` and for its base
    classes, so ganlib's networks are wrapped in those. Its ``train`` is called for a block at a time; what it
    does at the end of an epoch (a checkpoint, an image grid) is switched off, in its favour. TensorBoard and
    Visdom are off.

    For WGAN-GP its losses are those of its documentation, loss and penalty in one list: each makes fakes of
    its own, and an optimizer step of its own. Its penalty is not that of the paper (one norm over the whole
    batch), but its cost is comparable. It counts both losses as discriminator iterations, so that
    ``ncritic=5`` still gives one generator step per five batches; :meth:`note` shows it.
    """

    def __init__(self, case: Case, batches: Batches, folder: Path) -> None:
        os.environ.update(TENSORBOARD_LOGGING="0", VISDOM_LOGGING="0")
        from torchgan import losses, models
        from torchgan.trainer import Trainer as TorchganTrainer

        g, d = case.game.generator, case.game.discriminator

        class WrappedGenerator(models.Generator):
            def __init__(self) -> None:
                super().__init__(g.latent_dim)
                self.inner = g

            def forward(self, z: Tensor) -> Tensor:
                return self.inner(z)

        class WrappedDiscriminator(models.Discriminator):
            def __init__(self) -> None:
                super().__init__(1)
                self.inner = d

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(x)

        class WithoutEpochEnds(TorchganTrainer):
            def save_model(self, epoch: int, save_items: object = None) -> None: ...

        def player(model: type, name: str) -> dict[str, object]:
            return {"name": model, "optimizer": {"name": torch.optim.Adam, "args": case.adam(name)}}

        wasserstein = isinstance(case.game.adversarial, Wasserstein)
        self.trainer = WithoutEpochEnds(
            {
                "generator": player(WrappedGenerator, "generator"),
                "discriminator": player(WrappedDiscriminator, "discriminator"),
            },
            [
                losses.WassersteinGeneratorLoss(),
                losses.WassersteinDiscriminatorLoss(),
                losses.WassersteinGradientPenalty(),
            ]
            if wasserstein
            else [losses.MinimaxGeneratorLoss(), losses.MinimaxDiscriminatorLoss()],
            device=torch.device("cpu"),
            ncritic=case.game.turns["discriminator"],
            epochs=1,
            checkpoints=str(folder / "model" / "gan"),
            recon=str(folder / "images"),
        )
        self.trainer.logger.run_end_epoch = lambda *_: None
        self.trainer.batch_size = case.settings.batch_size  # its __call__ reads this from a loader
        self.per_step = case.game.turns["discriminator"]
        self.batches = batches

    def block(self, steps: int) -> float:
        with contextlib.redirect_stdout(io.StringIO()):
            start = time.perf_counter()
            self.trainer.train(list(batch) for batch in itertools.islice(self.batches, steps * self.per_step))
            return time.perf_counter() - start

    def note(self) -> str:
        counts = self.trainer.loss_information
        return (
            f"torchgan counted {counts['discriminator_iters']} discriminator and "
            f"{counts['generator_iters']} generator updates"
        )


# Data


def write_idx(folder: Path, images: data.Images) -> None:
    """Write 28 x 28 images in [-1, 1] as the four MNIST files, for torchvision to open."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    pixels = ((images.images + 1) * 127.5).round().to(torch.uint8)
    for part in ("train", "t10k"):  # torchvision looks for both; the benchmark reads the first
        for name, values in (("images-idx3", pixels), ("labels-idx1", images.labels.to(torch.uint8))):
            values = values.squeeze(1) if values.ndim == 4 else values
            header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
            (raw / f"{part}-{name}-ubyte").write_bytes(header + values.numpy().tobytes())


def opened(folder: Path) -> datasets.MNIST:
    """torchvision's MNIST with the textbook's transforms of PIL images.

    Padding makes the same 32 x 32 pixels that ganlib trains on, and is cheaper than the ``Resize`` that
    tutorials often use.
    """
    steps = [transforms.Pad(2), transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))]
    return datasets.MNIST(str(folder), transform=transforms.Compose(steps))


def _loader(dataset: datasets.MNIST, batch_size: int, num_workers: int = 0) -> DataLoader:
    return DataLoader(dataset, batch_size, shuffle=True, drop_last=True, num_workers=num_workers)


def loaded(dataset: datasets.MNIST, batch_size: int) -> Batches:
    """Batches without end from a ``DataLoader`` in this process."""
    while True:
        yield from map(tuple, _loader(dataset, batch_size))


def indexed(images: data.Images, batch_size: int) -> Batches:
    """The same batches without a loader: rows of one tensor."""
    while True:
        for rows in torch.randperm(len(images.images)).split(batch_size):
            if len(rows) == batch_size:
                yield images.images[rows], images.labels[rows]


# What is compared


def contender(name: str, case: Case, folder: Path) -> Contender:
    """Build the contender called ``name`` for a case; each process builds its own and nothing else."""
    batch = case.settings.batch_size
    match name:
        case "ganlib":
            return Ours(case, digits().images)
        case "ganlib in float32 and NCHW":
            return Ours(case, digits().images, precision="32-true", channels_last=False)
        case "ganlib in float32":
            return Ours(case, digits().images, precision="32-true")
        case "ganlib in NCHW":
            return Ours(case, digits().images, channels_last=False)
        case "textbook":
            return Textbook(case, loaded(opened(folder), batch))
        case "textbook, 2 loader processes":
            return TextbookWithWorkers(case, opened(folder), workers=2)
        case "textbook, images indexed":
            return Textbook(case, indexed(digits(), batch))
        case "textbook, fakes used in both turns":
            return Textbook(case, loaded(opened(folder), batch), reuse_fakes=True)
        case "torchgan":
            return Torchgan(case, loaded(opened(folder), batch), folder)
    raise ValueError(f"no contender is called {name!r}")


def names_of_contenders(case: Case, torchgan: bool) -> list[str]:
    names = ["ganlib", "textbook", "textbook, 2 loader processes"]
    if isinstance(case.game.adversarial, NonSaturating):
        names.append("textbook, fakes used in both turns")
    if torchgan:
        names.append("torchgan")
    if case.decompose:
        names += [
            "textbook, images indexed",
            "ganlib in float32 and NCHW",
            "ganlib in float32",
            "ganlib in NCHW",
        ]
    return names


def digits() -> data.Images:
    return data.mnist("train", size=32)


# Measuring


def cases(names: list[str]) -> list[Case]:
    """Width 32 and batch 64 for each system, and its recipe at the cpu budget where that differs."""
    found = []
    torch.manual_seed(0)
    for name in names:
        recipe = systems.get(name).experiment(Budget.CPU)
        width, steps = 32, 12 if name == "dcgan" else 3
        if name == "dcgan":
            plain = GAN(Generator(width=width), Discriminator(width=width), NonSaturating())
            optimizer = adam(2e-4, 0.5)
        else:
            plain = GAN(
                Generator(width=width), Critic(width=width), Wasserstein(), [GradientPenalty()], n_critic=5
            )
            optimizer = adam(1e-4, 0.0, 0.9)
        settings = replace(
            recipe.settings, batch_size=64, optimizers=dict.fromkeys(plain.turns, optimizer), seed=0
        )
        found.append(Case(f"{name}, width {width}, batch 64", plain, settings, steps, True))
        batch = recipe.settings.batch_size
        if _shapes(recipe.game) != _shapes(plain) or batch != 64 or recipe.game.turns != plain.turns:
            title = f"{name}, the recipe at the cpu budget, batch {batch}, {_parameters(recipe.game)}"
            found.append(Case(title, recipe.game, recipe.settings, max(2, steps * 64 // batch), False))
    return found


def _shapes(module: nn.Module) -> list[torch.Size]:
    return [p.shape for p in module.parameters()]


def _parameters(game: GAN) -> str:
    count = [sum(p.numel() for p in m.parameters()) / 1e6 for m in (game.generator, game.discriminator)]
    return f"{count[0]:.2f} M and {count[1]:.2f} M weights"


def serve(connection: Connection, name: str, wanted: list[str], folder: Path, threads: int) -> None:
    """A contender's process: answers (case, steps) with the seconds they took, (case, 0) with its note."""
    torch.set_num_threads(threads)
    built, chosen = None, None
    with contextlib.suppress(EOFError):  # the parent has finished
        while True:
            number, steps = connection.recv()
            if number != built:
                chosen, built = contender(name, cases(wanted)[number], folder), number
                chosen.block(steps)  # compiled primitives, caches, the allocator, optimizer states
            if steps:
                chosen.block(2)  # the others have emptied the processor's caches since the last turn
            connection.send(chosen.block(steps) if steps else chosen.note())


class Process:
    """A contender's process, seen from here."""

    def __init__(self, name: str, wanted: list[str], folder: Path, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        context.Process(target=serve, args=(theirs, name, wanted, folder, threads)).start()
        theirs.close()  # so that a contender that dies is an EOFError here, not a wait without end

    def ask(self, number: int, steps: int) -> float | str:
        self.connection.send((number, steps))
        return self.connection.recv()


def measure(
    processes: dict[str, Process], number: int, steps: int, cycles: int
) -> tuple[dict[str, list[float]], list[str]]:
    """Milliseconds per step of each contender, one number per cycle, and the contenders' notes."""
    names = list(processes)
    for process in processes.values():
        process.ask(number, steps)
    times: dict[str, list[float]] = {name: [] for name in names}
    for cycle in range(cycles):
        shift = cycle % len(names)
        for name in names[shift:] + names[:shift]:
            times[name].append(processes[name].ask(number, steps) / steps * 1e3)
    notes = [process.ask(number, 0) for process in processes.values()]
    return times, [note for note in notes if note]


def report(title: str, times: dict[str, list[float]]) -> None:
    """Print a table: median and quartiles of the time, median and quartiles of the ratio to ganlib."""
    print(f"\n### {title}\n")
    print("| contender | ms per step (quartiles) | times ganlib's (quartiles) |")
    print("|---|---|---|")
    for name, values in times.items():
        ratios = [value / ours for value, ours in zip(values, times[BASELINE], strict=True)]
        (low, middle, high), (a, b, c) = (statistics.quantiles(v, n=4) for v in (values, ratios))
        ratio = "1" if name == BASELINE else f"**{b:.2f}** ({a:.2f} to {c:.2f})"
        print(f"| {name} | {middle:.1f} ({low:.1f} to {high:.1f}) | {ratio} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--systems", nargs="+", default=["dcgan", "wgan-gp"], choices=["dcgan", "wgan-gp"])
    parser.add_argument("--cycles", type=int, default=6, help="measured blocks per contender")
    parser.add_argument("--threads", type=int, help="torch's threads; by default as torch chooses")
    arguments = parser.parse_args()
    threads = arguments.threads or torch.get_num_threads()

    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    have_torchgan = importlib.util.find_spec("torchgan") is not None
    print(
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}, "
        f"{threads} threads on {os.cpu_count()} cores, load {load:.1f} at the start"
    )
    if have_torchgan:
        print(f"torchgan {importlib.metadata.version('torchgan')}")
    else:
        print("torchgan is not installed (pip install -e .[bench]): its row is left out")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_idx(folder, data.mnist("train", size=28))
        # Both ways lead to the same pixels, or the comparison would mean little.
        if not torch.equal(opened(folder)[7][0], digits().images[7]):
            raise SystemExit("torchvision's transforms and ganlib make different pixels of one digit")
        processes: dict[str, Process] = {}
        for number, case in enumerate(cases(arguments.systems)):
            names = names_of_contenders(case, have_torchgan)
            for name in names:
                if name not in processes:
                    processes[name] = Process(name, arguments.systems, folder, threads)
            chosen = {name: processes[name] for name in names}
            times, notes = measure(chosen, number, case.steps, arguments.cycles)
            turns = case.game.turns
            report(f"{case.title} ({turns['discriminator']} + {turns['generator']} updates a step)", times)
            print(f"\n{'; '.join(notes)}.", flush=True)
        for process in processes.values():
            process.connection.close()
    if hasattr(os, "getloadavg"):
        print(f"\nload {os.getloadavg()[0]:.1f} at the end")


if __name__ == "__main__":
    main()
