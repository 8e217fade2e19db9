"""Time the GAN lab's kernel side: frames a second while it trains, and rounds a second beneath them.

    python benchmarks/gan_lab.py [--seconds 10]

Plays each setting on an event loop, as a notebook does; frames are computed and packed but no browser draws
them. The lab asks for 15 frames a second and gives what time they leave to training, so that a slow machine
loses rounds and not frames: the goal is 10 frames a second on two cores.
"""

import argparse
import asyncio
import os
import platform
import time

import torch

from ganlib.widgets.lab import SPEEDS, GANLab

SETTINGS = {
    "non-saturating, ring": {},
    "WGAN-GP, n_critic 5, grid": {
        "target": "grid of 25",
        "loss": "Wasserstein",
        "regularizer": "gradient penalty",
        "n_critic": 5,
    },
    "spectral norm, n_critic 5": {"regularizer": "spectral norm", "n_critic": 5},
    "unrolled, 5 steps": {"regularizer": "unrolled, 5 steps"},
}


class Counting(GANLab):
    """A lab whose browser has always drawn the last frame, and which notes when each was sent."""

    def send(self, content: dict, buffers: list[bytes] | None = None) -> None:
        if content.get("kind") == "frame":
            self._acknowledged = content["frame"]
            self.__dict__.setdefault("times", []).append(time.perf_counter())


async def play(lab: Counting, seconds: float) -> tuple[float, float, float]:
    """Frames a second, rounds a second and the longest wait between two frames in milliseconds."""
    lab.play()
    await asyncio.sleep(2)  # until the lab has found out how long a round takes
    start, rounds, frames = time.perf_counter(), lab.trainer.step, len(lab.times)
    await asyncio.sleep(seconds)
    spent = time.perf_counter() - start
    result = (len(lab.times) - frames) / spent, (lab.trainer.step - rounds) / spent
    lab.pause()
    await lab._task
    gaps = [b - a for a, b in zip(lab.times[frames:], lab.times[frames + 1 :], strict=False)]
    return *result, 1000 * max(gaps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, training on one thread")
    for name, values in SETTINGS.items():
        for speed in (1, 5, 20):
            lab = Counting()
            for key, value in values.items():
                setattr(lab, key, value)
            lab.speed = SPEEDS.index(speed)
            frames, rounds, wait = asyncio.run(play(lab, arguments.seconds))
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
            print(
                f"{name:28s} {speed:2d} rounds/frame: {frames:5.1f} frames/s, {rounds:6.1f} rounds/s, "
                f"longest wait {wait:4.0f} ms, load {load:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
