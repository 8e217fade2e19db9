"""PacGAN on mixtures in the plane: the networks that mode collapse is measured on, the score, the system.

What the other systems of the plane (unrolled, mode-regularized) and the study of mode collapse share is here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.data.toy import Mixture, grid
from ganlib.layers import MinibatchDiscrimination, Packed
from ganlib.losses import NonSaturating
from ganlib.models.gan import GAN, Maxout
from ganlib.models.recipes import adam
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images

BATCH = 120
"""Points per step: the paper's 100, raised to what packs of 2, 3 and 4 divide."""

SAMPLES = 2500
"""How many generated points are scored, as in the paper."""


class MixtureGenerator(nn.Module):
    """Latents ``(N, latent_dim)`` -> points ``(N, 2)``: four hidden layers, each with batch norm and ReLU.

    Args:
        width: units per hidden layer.
        latent_dim: of the normal noise.

    Source: Lin et al. 2018, section 4.1; layers and widths as in the authors' published code.
    """

    def __init__(self, width: int = 400, latent_dim: int = 2) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        hidden = []
        for inputs in (latent_dim, width, width, width):
            linear = nn.Linear(inputs, width, bias=False)  # batch norm would subtract a bias again
            hidden += [linear, nn.BatchNorm1d(width, momentum=0.05), nn.ReLU()]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class MixtureDiscriminator(nn.Module):
    """Packs ``(N, 2 m)`` of m points -> logits ``(N,)``: three layers of maxout units, without normalization.

    A unit of the first layer starts with weights on one point of its pack alone. With random directions in
    the space of packs each unit sees the modes of several points smeared over each other, and the
    discriminator stays at chance, at a loss of log 4, for thousands of steps.

    Args:
        width: units per hidden layer, of five pieces each.
        m: points per pack.
        kernels: similarities to the other samples of the batch that the last layer sees as well
            (:class:`ganlib.layers.MinibatchDiscrimination`); 0 for none.

    Source: Lin et al. 2018, section 4.1; layers and widths as in the authors' published code, which starts
    from weights of deviation 0.02. Torch's, which are larger, save a short run its first thousand steps.
    """

    def __init__(self, width: int = 200, m: int = 1, kernels: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Maxout(2 * m, width),
            Maxout(width, width),
            Maxout(width, width),
            MinibatchDiscrimination(width, kernels) if kernels else nn.Identity(),
            nn.Linear(width + kernels, 1),
            nn.Flatten(0),
        )
        self.layers[0].linear.weight.data *= self._one_point_each(width, m)

    @staticmethod
    def _one_point_each(width: int, m: int) -> Tensor:
        """Factors ``(5 width, 2 m)``: unit u sees point u modulo m, as strongly as if it were alone."""
        own = torch.arange(width)[:, None] % m == torch.arange(m)
        return math.sqrt(m) * own.repeat_interleave(2, 1).repeat_interleave(5, 0).float()

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# What the systems of the plane share


def mixture_data(target: Mixture, budget: Budget) -> Tensor:
    """The training set, ``(n, 2)``: 100,000 points as in the paper, 1,000 for a smoke run."""
    return target.sample(budget.pick(smoke=1000, cpu=100_000, gpu=100_000), torch.Generator().manual_seed(0))


def mixture_widths(budget: Budget) -> tuple[int, int]:
    """Units per layer of generator and discriminator; 400 and 200 in the authors' code."""
    return budget.pick(smoke=(16, 8), cpu=(100, 100), gpu=(400, 200))


def mixture_steps(target: Mixture, budget: Budget) -> int:
    """Rounds; the authors' code runs 400 epochs of 1,000."""
    return budget.pick(smoke=4, cpu=5000 if len(target.centres) <= 8 else 8000, gpu=400_000)


def mixture_settings(game: Game, target: Mixture, budget: Budget, steps: int, seed: int = 0) -> Settings:
    """One optimizer for every player of every method: Adam with beta1 = 0.8, on ``gpu`` at a rate of 1e-4.

    That is the authors'. In a fiftieth of their steps, or fewer, the rate is 1e-3 for up to eight modes, 4e-4
    for more, which do not settle at 1e-3, and it falls to zero over the second half.
    """
    slow = budget is Budget.GPU
    rate = 1e-4 if slow else 1e-3 if len(target.centres) <= 8 else 4e-4
    return Settings(
        optimizers=dict.fromkeys(game.turns, adam(rate, 0.8)),
        batch_size=BATCH,
        precision="32-true",  # near 1 bfloat16 takes steps of 0.008, and the ring's modes are 0.01 wide
        schedule=None if slow else LinearDecay(steps // 2, steps),
        seed=seed,
        log_every=budget.pick(smoke=2, cpu=100, gpu=1000),
    )


def mixture_score(points: Tensor, target: Mixture) -> dict[str, float]:
    r"""How much of a mixture generated points recover.

    - ``modes``: centres with at least one point within three standard deviations;
    - ``quality``: the share of points within three standard deviations of a centre;
    - ``reverse_kl``: :math:`\sum_i q_i \log(k q_i)`, the Kullback-Leibler divergence of the shares
      :math:`q_i` of points whose nearest centre is the i-th of k from an even mix; 0 at best,
      :math:`\log k` if all points are at one.

    Args:
        points: ``(N, 2)``.
        target: equally likely modes that lie apart.

    Raises:
        ValueError: if there are no points, or they are not ``(N, 2)``.

    Source: Lin et al. 2018, section 4.1, after Srivastava et al. 2017 (VEEGAN), section 5.
    """
    from ganlib.metrics import class_coverage, mixture_modes

    points = points.detach().cpu().double()
    found = mixture_modes(points, target.centres, target.std)
    nearest = torch.cdist(points, target.centres).argmin(1)
    reverse_kl = class_coverage(nearest, torch.ones(len(target.centres))).kl
    return {"modes": found.recovered, "quality": found.quality, "reverse_kl": reverse_kl}


def mixture_experiment(
    game: Game, target: Mixture, budget: Budget, steps: int | None = None, notes: tuple[str, ...] = ()
) -> Experiment:
    """A run on a mixture, of :func:`mixture_steps` if ``steps`` is None, scored by :func:`mixture_score`."""

    def evaluate(trained: Game) -> dict[str, float]:
        return mixture_score(trained.sample(SAMPLES, torch.Generator().manual_seed(0)), target)

    if budget is not Budget.GPU:
        notes += ("Narrower networks, a fiftieth of the authors' steps, and a higher rate that falls to 0.",)
    steps = mixture_steps(target, budget) if steps is None else steps
    settings = mixture_settings(game, target, budget, steps)
    return Experiment(game, (mixture_data(target, budget),), settings, steps, evaluate, notes)


def refuse_data(name: str, data: Images | None) -> None:
    """Raise ``ValueError`` if a system that plays in the plane was given ``data``."""
    if data is not None:
        raise ValueError(f"data must be None, since {name} plays on points in the plane; got images")


@system(
    name="pacgan",
    title="PacGAN on 25 Gaussians",
    paper="Lin et al. 2018, PacGAN: The power of two samples in generative adversarial networks",
    lectures=("Purdue: PacGAN",),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """The smallest change there is: the discriminator judges two points at a time (m = 2)."""
    refuse_data("pacgan", data)
    width, judge_width = mixture_widths(budget)
    discriminator = Packed(MixtureDiscriminator(judge_width, m=2), m=2)
    game = GAN(MixtureGenerator(width), discriminator, NonSaturating())
    return mixture_experiment(game, grid(5, 2.0, 0.05), budget)
