"""What ``import ganlib`` costs over ``import torch``: fresh interpreters, in turn, medians.

    python benchmarks/import_time.py [--cycles 15]

The time is taken inside each interpreter around the import alone, so that starting Python does not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

# The last line is what a user's first cell amounts to; it has no target, but it should be known.
STATEMENTS = ("import torch", "import ganlib", "import torch, ganlib.training, ganlib.models.dcgan")


def seconds(statement: str) -> float:
    """Time of the statement in a fresh interpreter, started in the repository's root."""
    code = f"import time; start = time.perf_counter(); {statement}; print(time.perf_counter() - start)"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=15)
    cycles = parser.parse_args().cycles
    for statement in STATEMENTS:
        seconds(statement)  # reads the files once, so that all find them in the system's cache
    times = {statement: [] for statement in STATEMENTS}
    start = time.perf_counter()
    for cycle in range(cycles):
        shift = cycle % len(STATEMENTS)
        for statement in STATEMENTS[shift:] + STATEMENTS[:shift]:
            times[statement].append(seconds(statement))
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{cycles} cycles in {time.perf_counter() - start:.0f} s, {os.cpu_count()} cores{load}\n")
    print("| statement | seconds (quartiles) | times `import torch` |\n|---|---|---|")
    for statement, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        ratio = statistics.median(v / t for v, t in zip(values, times[STATEMENTS[0]], strict=True))
        print(f"| `{statement}` | {middle:.3f} ({low:.3f} to {high:.3f}) | {ratio:.2f} |")


if __name__ == "__main__":
    main()
