"""Spectral normalization against none, on six settings of Adam from cautious to reckless."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch

from ganlib.losses import NonSaturating
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam
from ganlib.models.robustness import he_
from ganlib.models.sngan import normalize_spectrally_
from ganlib.studies import Cell, Outcome, study
from ganlib.studies.robustness import trained
from ganlib.training import Budget


@dataclass(frozen=True)
class Adam:
    """A row of Miyato's Table 1: Adam's rate and betas, and D's steps per step of G."""

    alpha: float
    beta1: float
    beta2: float
    n_dis: int


SETTINGS = {
    "a": Adam(1e-4, 0.5, 0.9, 5),  # WGAN-GP's
    "b": Adam(1e-4, 0.5, 0.999, 1),  # Warde-Farley and Bengio's
    "c": Adam(2e-4, 0.5, 0.999, 1),  # DCGAN's
    "d": Adam(1e-3, 0.5, 0.9, 5),
    "e": Adam(1e-3, 0.5, 0.999, 5),
    "f": Adam(1e-3, 0.9, 0.999, 5),
}
UPDATES = 4500  # of both players together, in every cell


@study(
    name="spectral-norm",
    title="Spectral normalization against none, on Miyato's settings A to F",
    paper="Miyato et al. 2018, Spectral Normalization for Generative Adversarial Networks, table 1, figure 1",
    notebook="08_stabilising_gans.ipynb",
)
def spectral(budget: Budget) -> list[Cell]:
    """Six settings, each with and without."""
    return [
        Cell({"setting": letter, "discriminator": name}, partial(_cell, letter, name == "sn", budget))
        for letter in SETTINGS
        for name in ("sn", "plain")
    ]


def _cell(letter: str, normalized: bool, budget: Budget, seed: int) -> Outcome:
    setting = SETTINGS[letter]
    width = budget.pick(smoke=4, cpu=16, gpu=64)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = Generator(budget.pick(smoke=8, cpu=64, gpu=128), width)
        # No batch norm on either side of the comparison: only the spectral norm comes and goes. He's weights,
        # because DCGAN's are too small for a narrow network, and only a normalized one would not mind.
        discriminator = he_(Discriminator(width, batch_norm=False))
        if normalized:
            normalize_spectrally_(discriminator)
    game = GAN(generator, discriminator, NonSaturating(), n_critic=setting.n_dis)
    rounds = budget.pick(smoke=12, cpu=UPDATES, gpu=600_000) // (setting.n_dis + 1)
    return trained(game, adam(setting.alpha, setting.beta1, setting.beta2), rounds, budget, seed)
