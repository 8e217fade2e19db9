"""Mode collapse: which methods keep all modes of a mixture, on PacGAN's networks and by its scoring.

The grid's optimizer was chosen among four after pilots at seed 0, as one under which the plain GAN loses
modes as published. Under the first one tried (Adam 1e-3, betas 0.5 and 0.99) it had all 25, unevenly, and
packs of two 24: how much a GAN collapses here depends on the optimizer, and the grid shows one case of it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from ganlib.data.toy import Mixture, grid, ring
from ganlib.layers import Packed
from ganlib.losses import GradientPenalty, NonSaturating, Wasserstein
from ganlib.models.gan import GAN
from ganlib.models.mrgan import MIXTURE_WEIGHTS, MixtureEncoder, ModeRegularizedGAN
from ganlib.models.pacgan import (
    SAMPLES,
    MixtureDiscriminator,
    MixtureGenerator,
    mixture_data,
    mixture_score,
    mixture_settings,
    mixture_steps,
    mixture_widths,
)
from ganlib.models.unrolled import SLOW_DISCRIMINATOR, UnrolledGAN
from ganlib.random import derived_seed
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Trainer

TARGETS: dict[str, Mixture] = {"ring": ring(8, 1.0, 0.01), "grid": grid(5, 2.0, 0.05)}
"""The ring's eight modes are eight: that of Metz et al.'s published code repeats its first as its last."""

METHODS = (
    "gan",
    "pacgan2",
    "pacgan3",
    "pacgan4",
    "unrolled",
    "slow-discriminator",
    "minibatch-discrimination",
    "mrgan",
    "wgan-gp",
)

SLOW = ("unrolled", "slow-discriminator")

PAPER = {
    ("ring", "gan"): "6.3 ± 0.5",
    ("ring", "pacgan2"): "7.9",
    ("grid", "gan"): "17.3 ± 0.8",
    ("grid", "pacgan2"): "23.8",
}
"""(target, method) -> modes recovered in Lin et al. 2018, table 1: means and standard errors of ten runs."""


@study(
    name="mode-collapse",
    title="Modes of a mixture that a GAN loses, and what brings them back",
    paper="Lin et al. 2018, PacGAN: The power of two samples in generative adversarial networks, table 1",
    notebook="08_stabilising_gans.ipynb",
    seeds=(0, 1, 2),
)
def mode_collapse(budget: Budget) -> list[Cell]:
    """Every method on ring and grid: the same networks, optimizer, points and generator steps for each.

    Only unrolling, whose steps cost eight times a plain one, has half of the steps, on the ring alone, and a
    slow discriminator. What that does without looking ahead is the cell beside it.
    """
    return [
        Cell({"target": target, "method": method}, partial(_collapse, target, method, budget))
        for target in TARGETS
        for method in METHODS
        if target == "ring" or method not in SLOW
    ]


def game(method: str, width: int, judge_width: int) -> GAN:
    """A method on PacGAN's networks, of ``width`` units per layer, ``judge_width`` in the discriminator.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    generator = MixtureGenerator(width)
    if method.startswith("pacgan"):
        m = int(method.removeprefix("pacgan"))
        return GAN(generator, Packed(MixtureDiscriminator(judge_width, m), m), NonSaturating())
    kernels = 8 if method == "minibatch-discrimination" else 0
    discriminator = MixtureDiscriminator(judge_width, kernels=kernels)
    match method:
        case "unrolled":
            return UnrolledGAN(generator, discriminator, NonSaturating(), steps=5, rate=1e-3)
        case "mrgan":
            encoder = MixtureEncoder(width)
            return ModeRegularizedGAN(generator, discriminator, encoder, NonSaturating(), **MIXTURE_WEIGHTS)
        case "wgan-gp":
            return GAN(generator, discriminator, Wasserstein(), [GradientPenalty(0.1)])
        case _:
            return GAN(generator, discriminator, NonSaturating())


def _collapse(name: str, method: str, budget: Budget, seed: int) -> Outcome:
    target = TARGETS[name]
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, 0))
        playing = game(method, *mixture_widths(budget))
    steps = mixture_steps(target, budget) // (2 if method in SLOW else 1)
    settings = mixture_settings(playing, target, budget, steps, seed)
    if method in SLOW:
        settings = replace(settings, optimizers=SLOW_DISCRIMINATOR)
    trainer = Trainer(playing, mixture_data(target, budget), settings, progress=False)
    fit(trainer, steps)
    points = trainer.sample(SAMPLES, seed)
    return Outcome(
        mixture_score(points, target),
        trainer.history,
        arrays={"points": points[:500].cpu().half()},
    )
