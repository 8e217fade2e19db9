"""Time the earth mover's distance of two clouds: ``ganlib.theory.transport.emd`` against ``ot.emd2``.

    python benchmarks/emd.py [--points 1000] [--rounds 11]

Both get the same two Gaussian clouds in the plane and the same matrix of distances, in alternating order
within one run. ``ot.emd2`` returns the distance alone; ganlib's function checks its arguments, calls
``ot.emd`` and returns the plan and potentials that are feasible everywhere as well. The linear programme that
teaches the method is timed once, on two clouds of 100 points.
"""

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import ot
import scipy

from ganlib.theory.transport import emd, emd_lp, pairwise_distances


def problem(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((points, 2)), rng.standard_normal((points, 2)) + 1
    uniform = np.full(points, 1 / points)
    return uniform, uniform, pairwise_distances(x, y)


def timed(function: Callable[[], float]) -> tuple[float, float]:
    start = time.perf_counter()
    value = function()
    return time.perf_counter() - start, value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=11)
    arguments = parser.parse_args()

    variables = {
        key: value for key, value in os.environ.items() if key.startswith(("OPENBLAS", "MKL", "OMP"))
    }
    print(f"{platform.machine()}, {os.cpu_count()} cores; set: {variables or 'no BLAS variables'}")
    print(f"numpy {np.__version__}, scipy {scipy.__version__}, POT {ot.__version__}")
    taken, value = timed(lambda: emd_lp(*problem(100)).cost)
    print(f"linear programme, 100 x 100: {taken:.2f} s, distance {value:.9g}")

    arrays = problem(arguments.points)
    functions = {"ganlib": lambda: emd(*arrays).cost, "POT": lambda: float(ot.emd2(*arrays))}
    values = {name: function() for name, function in functions.items()}  # untimed: caches and lazy imports
    seconds = {name: [] for name in functions}
    for i in range(arguments.rounds):
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
        for name in list(functions)[:: 1 if i % 2 == 0 else -1]:
            seconds[name].append(timed(functions[name])[0])
        row = ", ".join(f"{name} {seconds[name][-1]:.3f} s" for name in functions)
        print(f"round {i + 1}: {row} ({seconds['ganlib'][-1] / seconds['POT'][-1]:.2f}x), load {load:.1f}")
    ratio = statistics.median(g / p for g, p in zip(seconds["ganlib"], seconds["POT"], strict=True))
    median = statistics.median(seconds["ganlib"])
    print(f"values: ganlib {values['ganlib']:.12g}, POT {values['POT']:.12g}")
    print(
        f"{arguments.points} points: {median:.3f} s, {ratio:.2f}x the time of ot.emd2 "
        f"(medians of {arguments.rounds} paired rounds)"
    )


if __name__ == "__main__":
    main()
