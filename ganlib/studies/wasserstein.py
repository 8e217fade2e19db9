"""How far a critic's estimate is from the Wasserstein distance, on sets small enough for the exact one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from ganlib.data import mnist
from ganlib.data.toy import ring
from ganlib.layers import spectral_norm
from ganlib.losses import GradientPenalty
from ganlib.models.recipes import adam
from ganlib.random import derived_seed
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.studies.value_surfaces import CriticGame, pairs, relu_critic
from ganlib.theory.transport import c_transform, emd, lipschitz_constant, pairwise_distances
from ganlib.training import Budget, LinearDecay, Settings, Trainer

POINTS = 256
"""Samples in each of the two sets."""

METHODS = ("clipping", "penalty", "one-sided", "spectral")


def ring_and_noise(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Points of the ring of eight, and others of it under noise: ``(n, 2)`` each."""
    return pairs(ring(8, 2.0, 0.02), n, seed)


def two_sets_of_digits(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Digits of MNIST, and as many others: ``(n, 1, 32, 32)`` each. A perfect generator does no better."""
    images = mnist("train").images
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))[: 2 * n]
    return images[chosen[:n]], images[chosen[n:]]


def digits_and_blurred(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """The same two sets, the second averaged over blocks of 8 x 8 pixels."""
    real, other = two_sets_of_digits(n, seed)
    return real, interpolate(avg_pool2d(other, 8), scale_factor=8, mode="bilinear")


SETS: dict[str, Callable[[int, int], tuple[Tensor, Tensor]]] = {
    "ring": ring_and_noise,
    "digits": two_sets_of_digits,
    "blurred": digits_and_blurred,
}


@study(
    name="wasserstein-estimate",
    title="Critics' estimates against the exact Wasserstein distance",
    paper="Stanczuk et al. 2021, Wasserstein GANs Work Because They Fail (to Approximate the Wasserstein "
    "Distance)",
    notebook="08_stabilising_gans.ipynb",
    seeds=(0, 1, 2),
)
def wasserstein_estimate(budget: Budget) -> list[Cell]:
    """Three pairs of sets, four ways to hold the critic."""
    return [
        Cell({"sets": sets, "method": method}, partial(_estimate, sets, method, budget))
        for sets in SETS
        for method in METHODS
    ]


def critic_game(method: str, inputs: int, width: int) -> CriticGame:
    """A critic of three hidden layers, held as ``method`` says.

    Raises:
        ValueError: for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    critic = relu_critic(inputs, width)
    match method:
        case "clipping":
            return CriticGame(critic, clip=5.12 / width)
        case "spectral":
            for layer in critic:
                if isinstance(layer, nn.Linear):
                    spectral_norm(layer)
            return CriticGame(critic)
        case _:
            return CriticGame(critic, [GradientPenalty(one_sided=method == "one-sided")])


def bounds(critic: nn.Module, real: Tensor, fake: Tensor) -> dict[str, float]:
    r"""What a critic f says of W1 between two sets of n samples, and the exact distance.

    - ``estimate``: :math:`\frac{1}{n} \sum f(x_i) - \frac{1}{n} \sum f(y_i)`, which training maximises;
    - ``lipschitz``: the steepest slope L of f between any two of the 2 n samples;
    - ``certified``: estimate / L. f / L is 1-Lipschitz on the samples, so this never exceeds W1;
    - ``transformed``: :math:`\frac{1}{n} \sum_i \psi_i + \frac{1}{n} \sum_j \min_i (\|x_i - y_j\| - \psi_i)`
      with :math:`\psi_i = f(x_i) / L`: the critic's prices on one side, and on the other the best that go
      with them. Never more than W1 either, and never less than the certified estimate;
    - ``w1``: the exact distance, by linear programming.

    Args:
        critic: samples -> scores ``(N,)``.
        real: ``(n, ...)``, no sample twice in both sets together.
        fake: likewise.

    Source: Stanczuk et al. 2021 for the comparison with exact distances and the c-transform, after Mallasto
    et al. 2019, "How Well Do WGANs Estimate the Wasserstein Metric?".
    """
    with torch.no_grad():
        scores = critic(torch.cat([real, fake])).double().cpu().numpy()
    x, y = (part.detach().double().flatten(1).cpu().numpy() for part in (real, fake))
    on_real, on_fake = np.split(scores, 2)
    estimate = on_real.mean() - on_fake.mean()
    lipschitz = lipschitz_constant(np.concatenate([x, y]), scores)
    cost = pairwise_distances(y, x)
    prices = on_real / lipschitz
    even = np.full(len(x), 1 / len(x))
    return {
        "estimate": float(estimate),
        "lipschitz": lipschitz,
        "certified": float(estimate / lipschitz),
        "transformed": float(prices.mean() + c_transform(cost, prices).mean()),
        "w1": emd(even, even, cost).cost,
    }


def _estimate(name: str, method: str, budget: Budget, seed: int) -> Outcome:
    real, fake = SETS[name](budget.pick(smoke=32, cpu=POINTS, gpu=POINTS), derived_seed(seed, 3))
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, 0))
        game = critic_game(method, real[0].numel(), budget.pick(smoke=16, cpu=128, gpu=512))
    steps = budget.pick(smoke=4, cpu=2000, gpu=20_000)
    early = max(1, steps // 100)
    settings = Settings(
        {"discriminator": adam(1e-3, 0.5, 0.9)},
        batch_size=min(64, len(real)),
        precision="32-true",
        schedule=LinearDecay(steps // 2, steps),
        seed=seed,
        log_every=max(1, steps // 60),
    )
    trainer = Trainer(game, (real, fake), settings, progress=False)
    fit(trainer, early)
    soon = game.estimate(trainer.data[0], trainer.data[1])
    fit(trainer, steps)
    with game.evaluating():
        figures = bounds(game.discriminator, *trainer.data)
    w1 = figures["w1"]
    ratios = {"ratio": figures["estimate"] / w1, "certified_ratio": figures["certified"] / w1}
    return Outcome(figures | ratios | {"early_estimate": soon, "early_steps": early}, trainer.history)
