"""Time the Fréchet distance of two Gaussians: ganlib's symmetric eigenvalues against ``scipy.linalg.sqrtm``.

    python benchmarks/fid_sqrtm.py [--dimension 2048] [--rounds 3]

Both get the same two covariances, of 4,000 vectors each (Inception's dimension, full rank: nothing is saved
by dropping null directions), in alternating order within one run. The scipy side is the formula as most FID
scripts have it, ``trace(sqrtm(a @ b))``.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import scipy
import scipy.linalg
import torch

from ganlib.metrics import Moments, frechet_distance


def with_sqrtm(a: Moments, b: Moments) -> float:
    s, t = a.covariance.numpy(), b.covariance.numpy()
    delta = (a.mean - b.mean).numpy()
    root = scipy.linalg.sqrtm(s @ t)
    return float(delta @ delta + np.trace(s) + np.trace(t) - 2 * np.trace(root).real)


def timed(function: Callable[[Moments, Moments], float], a: Moments, b: Moments) -> tuple[float, float]:
    start = time.perf_counter()
    value = function(a, b)
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dimension", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    d = arguments.dimension
    # Spectra fall like those of real features: a few strong directions and a long weak tail.
    scales = torch.logspace(0, -3, d, dtype=torch.float64)
    vectors = (torch.randn(4000, d, generator=generator, dtype=torch.float64) * scales for _ in range(2))
    a, b = (Moments().update(x) for x in vectors)

    variables = {
        key: value for key, value in os.environ.items() if key.startswith(("OPENBLAS", "MKL", "OMP"))
    }
    threads = torch.get_num_threads()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__} on {threads} threads")
    print(f"numpy {np.__version__}, scipy {scipy.__version__}; set: {variables or 'no BLAS variables'}")
    functions = {"ganlib": frechet_distance, "scipy": with_sqrtm}
    seconds = {name: [] for name in functions}
    values = {}
    for i in range(arguments.rounds):
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        for name in list(functions)[:: 1 if i % 2 == 0 else -1]:
            taken, values[name] = timed(functions[name], a, b)
            seconds[name].append(taken)
        row = ", ".join(f"{name} {seconds[name][-1]:.2f} s" for name in functions)
        print(
            f"round {i + 1}: {row} ({seconds['scipy'][-1] / seconds['ganlib'][-1]:.1f}x), load {load:.1f}",
            flush=True,
        )
    ratio = statistics.median(s / g for s, g in zip(seconds["scipy"], seconds["ganlib"], strict=True))
    print(f"values: ganlib {values['ganlib']:.9g}, scipy {values['scipy']:.9g}")
    print(f"{d} dimensions: ganlib is {ratio:.1f}x as fast (median of {arguments.rounds} paired rounds)")


if __name__ == "__main__":
    main()
