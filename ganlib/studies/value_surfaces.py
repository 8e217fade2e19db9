"""Value surfaces: what a critic learns under clipping and under the penalty, with fakes that do not move."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ganlib.data.toy import SwissRoll, Target, grid, ring
from ganlib.losses import GradientPenalty, Wasserstein, clip_weights_, gradient_norms, interpolate
from ganlib.models.gan import Regularizer
from ganlib.models.lab import surface, wasserstein
from ganlib.models.recipes import adam
from ganlib.random import derived_seed
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Game, LinearDecay, Settings, Trainer

EXTENT = 2.5
"""Surfaces are stored on the square from -EXTENT to EXTENT."""

TARGETS: dict[str, Target] = {
    "8-gaussians": ring(8, math.sqrt(2), 0.02 / math.sqrt(2)),
    "25-gaussians": grid(5, 1 / math.sqrt(2), 0.05 / math.sqrt(8)),
    "swiss-roll": SwissRoll(4.5 * math.pi / 7.5, 0.25 / 7.5),
}
"""The three of the paper, in the units of the authors' published code."""

METHODS = ("clipping", "penalty")


class CriticGame(Game):
    """A Wasserstein critic alone, on pairs of a real and a fake sample that stay what they are.

    The data are two tensors, real and fake, in rows that the trainer draws together. For the penalty the
    fakes of a batch are shuffled, so that its lines join any real sample with any fake one.

    Args:
        critic: samples -> scores ``(N,)``.
        regularizers: penalties on the critic.
        clip: bound of its weights after each step, None not to clip.
    """

    def __init__(
        self, critic: nn.Module, regularizers: Sequence[Regularizer] = (), clip: float | None = None
    ) -> None:
        super().__init__()
        self.discriminator = critic
        self.regularizers, self.clip = tuple(regularizers), clip
        self.turns = {"discriminator": 1}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real, fake = batch
        scores = self.discriminator(torch.cat(batch)).chunk(2)
        terms = {"adversarial": Wasserstein().discriminator(*scores)}
        if self.regularizers:
            fake = fake[torch.randperm(len(fake), device=fake.device)]
        for regularizer in self.regularizers:
            terms[regularizer.name] = regularizer(self.discriminator, real, fake)
        return terms

    def after_step(self, player: str) -> None:
        if self.clip is not None:
            clip_weights_(self.discriminator, self.clip)

    def estimate(self, real: Tensor, fake: Tensor) -> float:
        """The critic's mean on ``real`` minus that on ``fake``."""
        with self.evaluating():
            return -Wasserstein().discriminator(self.discriminator(real), self.discriminator(fake)).item()


def relu_critic(inputs: int, width: int) -> nn.Sequential:
    """Samples of ``inputs`` numbers -> scores ``(N,)`` through three hidden layers of rectifiers."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, 1),
        nn.Flatten(0),
    )


def pairs(target: Target, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of the target ``(n, 2)``, and others of it under normal noise of deviation 1, as fakes."""
    rng = torch.Generator().manual_seed(seed)
    real, other = target.sample(n, rng), target.sample(n, rng)
    return real, other + torch.randn(n, 2, generator=rng)


def share_at_bound(module: nn.Module, bound: float) -> float:
    """The share of all weights and biases whose magnitude is at least 99 % of ``bound``."""
    weights = torch.cat([p.detach().flatten() for p in module.parameters()])
    return (weights.abs() >= 0.99 * bound).double().mean().item()


@study(
    name="value-surfaces",
    title="What the critic learns: clipping against the gradient penalty",
    paper="Gulrajani et al. 2017, Improved Training of Wasserstein GANs, figure 1(a)",
    notebook="08_stabilising_gans.ipynb",
    seeds=(0,),
)
def value_surfaces(budget: Budget) -> list[Cell]:
    """Three targets, two ways to hold the critic; the fakes are the data plus noise."""
    return [
        Cell({"target": target, "method": method}, partial(_surface, target, method, budget))
        for target in TARGETS
        for method in METHODS
    ]


def _surface(name: str, method: str, budget: Budget, seed: int) -> Outcome:
    width = budget.pick(smoke=16, cpu=128, gpu=512)
    # A layer's largest gain is width times bound: this is the paper's, 512 x 0.01, at every width.
    bound = 5.12 / width
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, 0))
        critic = relu_critic(2, width)
    clipping = method == "clipping"
    game = CriticGame(critic, [] if clipping else [GradientPenalty()], bound if clipping else None)
    steps = budget.pick(smoke=5, cpu=3000, gpu=100_000)
    settings = Settings(
        {"discriminator": adam(1e-3, 0.5, 0.9)},
        batch_size=budget.pick(smoke=64, cpu=256, gpu=256),
        precision="32-true",
        schedule=LinearDecay(steps // 2, steps),
        seed=seed,
        log_every=budget.pick(smoke=1, cpu=50, gpu=1000),
    )
    target = TARGETS[name]
    data = pairs(target, budget.pick(smoke=1000, cpu=100_000, gpu=100_000), derived_seed(seed, 3))
    trainer = Trainer(game, data, settings, progress=False)
    fit(trainer, steps)

    real, fake = (part.to(game.device) for part in pairs(target, 1000, derived_seed(seed, 4)))
    norms = gradient_norms(game.discriminator, interpolate(real, fake, torch.Generator().manual_seed(seed)))
    figures = {
        "gradient_norm": norms.mean().item(),
        "gradient_norm_std": norms.std().item(),
        "estimate": game.estimate(real, fake),
        "w1": wasserstein(real.cpu(), fake.cpu()),
    }
    if clipping:
        figures["at_bound"] = share_at_bound(critic, bound)
    values = surface(game, EXTENT, 64).cpu()
    values = values - values.mean()
    arrays = {"surface": (values / values.abs().max()).half(), "points": real[:500].cpu().half()}
    return Outcome(figures, trainer.history, arrays=arrays)
