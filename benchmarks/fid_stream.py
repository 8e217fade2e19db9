"""Time FID from features in a stream: ``ganlib.metrics.Moments`` against torchmetrics, time and memory.

    python benchmarks/fid_stream.py [--features 50000] [--dimension 2048] [--rounds 1] [--threads 2]

Both get the same two sets of random features in batches, float32 as a network gives them, and compute the
distance at the end. Each turn is a process of its own, in alternating order. It reports the seconds spent in
the contender's code, and by how much its peak memory grew; the features are made batch by batch, so that
holding them would show.
"""

import argparse
import multiprocessing
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection

import torch
import torchmetrics
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance

from ganlib.metrics import Moments, frechet_distance


def features(n: int, d: int, batch_size: int, real: bool) -> Iterator[Tensor]:
    """Batches of Gaussian vectors whose spectrum falls like that of real features; seeded by their place."""
    scales = torch.logspace(0, -3, d) * (1.0 if real else 1.1)
    for start in range(0, n, batch_size):
        generator = torch.Generator().manual_seed(2 * start + real)
        yield torch.randn(min(batch_size, n - start), d, generator=generator) * scales + 0.5


class Given(nn.Module):
    """A stand-in for Inception that returns what it gets; torchmetrics asks it for ``num_features``."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.num_features = d

    def forward(self, x: Tensor) -> Tensor:
        return x


class Ours:
    def __init__(self, d: int) -> None:
        self.sides = {True: Moments(), False: Moments()}

    def update(self, batch: Tensor, real: bool) -> None:
        self.sides[real].update(batch)

    def compute(self) -> float:
        return frechet_distance(self.sides[True], self.sides[False])


class Theirs:
    def __init__(self, d: int) -> None:
        self.metric = FrechetInceptionDistance(feature=Given(d))

    def update(self, batch: Tensor, real: bool) -> None:
        self.metric.update(batch, real=real)

    def compute(self) -> float:
        return self.metric.compute().item()


CONTENDERS = {"ganlib": Ours, "torchmetrics": Theirs}


def peak() -> float:
    """Peak memory of this process so far in megabytes."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used / (2**20 if sys.platform == "darwin" else 2**10)


def turn(name: str, n: int, d: int, batch_size: int, threads: int, out: Connection) -> None:
    """One contender from the first batch to the distance: seconds in its own code, megabytes, value."""
    torch.set_num_threads(threads)
    contender, seconds = CONTENDERS[name](d), 0.0
    before = peak()
    for real in (True, False):
        for batch in features(n, d, batch_size, real):
            start = time.perf_counter()
            contender.update(batch, real)
            seconds += time.perf_counter() - start
    streamed = seconds
    start = time.perf_counter()
    value = contender.compute()
    seconds += time.perf_counter() - start
    out.send((seconds, streamed, peak() - before, value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=50_000)
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--batch", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()

    print(f"{platform.machine()}, {os.cpu_count()} cores, {arguments.threads} threads")
    print(f"torch {torch.__version__}, torchmetrics {torchmetrics.__version__}")
    context = multiprocessing.get_context("spawn")
    results = {name: [] for name in CONTENDERS}
    for i in range(arguments.rounds):
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        for name in list(CONTENDERS)[:: 1 if i % 2 == 0 else -1]:
            inbox, outbox = context.Pipe(duplex=False)
            sizes = (arguments.features, arguments.dimension, arguments.batch, arguments.threads)
            process = context.Process(target=turn, args=(name, *sizes, outbox))
            process.start()
            outbox.close()
            results[name].append(inbox.recv())
            process.join()
        row = ", ".join(
            f"{name} {results[name][-1][0]:.2f} s ({results[name][-1][1]:.2f} s of it in the stream)"
            for name in CONTENDERS
        )
        print(f"round {i + 1}: {row}, load {load:.1f}", flush=True)

    ours, theirs = results["ganlib"], results["torchmetrics"]
    ratio = statistics.median(a[0] / b[0] for a, b in zip(ours, theirs, strict=True))
    matrix = arguments.dimension**2 * 8 / 2**20
    everything = 2 * arguments.features * arguments.dimension * 4 / 2**20
    memory = ", ".join(f"{name} {results[name][-1][2]:.0f} MB" for name in CONTENDERS)
    print(f"values: ganlib {ours[-1][3]:.9g}, torchmetrics {theirs[-1][3]:.9g}")
    print(f"peak memory: {memory}; a matrix is {matrix:.0f} MB, all features would be {everything:.0f} MB")
    print(
        f"{arguments.features} x {arguments.dimension} features a side: {ratio:.2f}x the time of "
        f"torchmetrics (median of {arguments.rounds} rounds)"
    )


if __name__ == "__main__":
    main()
