"""What each change from StyleGAN to StyleGAN2 does to digits: quality, paths, and peaks in feature maps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from ganlib.losses import jacobian_lengths
from ganlib.models import stylegan
from ganlib.models.stylegan2 import CONFIGS, Config, experiment
from ganlib.random import normal
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Trainer

STEPS = 2200
"""Rounds of each configuration on ``cpu``: fewer than the recipe's, for there are six of them."""

SEED = 1  # of everything that is measured, so that all cells are asked the same


def peaks(maps: Tensor) -> Tensor:
    r"""How far a feature map's most extreme pixel is from its mean, in the map's deviations.

    StyleGAN's droplets are a spot in a map that is so strong that it sets the map's statistics by itself, and
    with them, through instance normalization, the scale of all the rest. The most that n pixels allow is
    :math:`\sqrt{n - 1}`, when only one differs from the others.

    Args:
        maps: ``(N, C, H, W)``.

    Returns:
        ``(N, C)``; 0 for a constant map.

    Source: Karras et al. 2020, section 2 and figure 1 (the droplets).
    """
    apart = (maps - maps.mean((2, 3), keepdim=True)).abs()
    deviation = apart.square().mean((2, 3)).sqrt()
    return torch.where(deviation > 0, apart.amax((2, 3)) / deviation.clamp(min=1e-30), 0.0)


def path_spread(generator: stylegan.Generator, n: int, rng: torch.Generator) -> float:
    r"""The deviation of :math:`\|J_w^\top y\|` over w and y, divided by its mean: what the penalty of
    :class:`ganlib.losses.PathLength` is to lessen, whatever the mean.

    0 would be a generator whose every step in w changes the image equally much. For one that is linear and
    orthogonal, with d latents, it is about :math:`1 / \sqrt{2 d}`, from y alone.

    Args:
        generator: in evaluation mode.
        n: points.
        rng: source of the latents and the directions.
    """
    device = generator.mean_w.device
    with torch.enable_grad():
        w = generator.mapping(normal(n, generator.latent_dim, device=device, rng=rng)).detach()
        images = generator.synthesis(w.requires_grad_())
        lengths = jacobian_lengths(images, w, normal(n, *images.shape[1:], device=device, rng=rng))
    return float((lengths.std() / lengths.mean()).detach())


def measure(game: torch.nn.Module, budget: Budget) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Path length, spread of paths and peaks of a game's generator; and maps to look at.

    The path length is the mean without the lowest and the highest hundredth, as in the authors' code.
    """
    generator, rng = game.generator, torch.Generator().manual_seed(SEED)
    n = budget.pick(smoke=8, cpu=1000, gpu=10_000)
    with game.evaluating():
        lengths = stylegan.path_lengths(generator, n, rng=rng).sort().values
        spread = path_spread(generator, budget.pick(smoke=8, cpu=256, gpu=1000), rng)
        z = normal(budget.pick(smoke=8, cpu=256, gpu=1000), generator.latent_dim, device=game.device, rng=rng)
        maps = generator.synthesis.maps(generator.mapping(z))[-1].float().cpu()
    heights = peaks(maps)
    strongest = heights[:8].argmax(1)
    figures = {
        "path_length": float(lengths[n // 100 : n - n // 100].mean()),
        "path_spread": spread,
        "peak": float(heights.mean()),
    }
    return figures, {"maps": maps[torch.arange(8), strongest].half()}


@study(
    name="stylegan2-ablation",
    title="From StyleGAN to StyleGAN2, change by change, on digits",
    paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN, table 1",
    notebook="14_attention_and_style.ipynb",
    seeds=(0, 1, 2),
)
def ablation(budget: Budget) -> list[Cell]:
    """The rows of table 1, A to F, each for as many rounds: in those that grow, the batches of small images
    are larger than the others' 32."""
    return [Cell({"config": name}, partial(_cell, config, budget)) for name, config in CONFIGS.items()]


def _cell(config: Config, budget: Budget, seed: int) -> Outcome:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = experiment(budget, config=config, steps=budget.pick(smoke=None, cpu=STEPS, gpu=None))
    trainer = Trainer(made.game, made.data, replace(made.settings, seed=seed), progress=False)
    fit(trainer, made.steps)
    with trainer.averaged() as game:
        report = made.evaluate(game)
        figures, arrays = measure(game, budget)
    names = ("fid", "fid_over_floor", "class_balance", "rarest_digit_share")
    figures = {name: report[name] for name in names} | figures
    figures["generator_weights"] = sum(p.numel() for p in game.generator.parameters())
    notes = ("path_length: perceptual, in W, in units of the digit classifier's features.", *made.notes)
    return Outcome(figures, trainer.history, trainer.sample(32), arrays, notes)
