"""Translation without pairs, one constraint at a time; and what a way back is paid with.

The ablations of the paper, on outlines and digits, where the true counterpart is known; and CycleGAN and
DualGAN with each other's generators, to tell what a network does from what a loss does. Then a pair of
styles, coloured digits on striped grounds and plain ones, where a digit cannot tell the colours that it must
give back. The whole method on outlines is the system ``cyclegan`` and its stored runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ganlib.data import edges, mnist, textured
from ganlib.models import cyclegan, dualgan
from ganlib.models.pix2pix import UNet
from ganlib.models.translation import FEWER, Translation, View, cycled
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Experiment, Trainer

Recipe = Callable[[Budget], Experiment]

ARMS: dict[str, dict[str, Any]] = {
    "gan-alone": {"cycle": (0.0, 0.0)},
    "cycle-alone": {"adversarial_weight": 0.0},
    "forward-cycle": {"cycle": (10.0, 0.0)},
    "backward-cycle": {"cycle": (0.0, 10.0)},
    "no-pool": {"pool": 0},
    "identity": {"identity": 0.5},
}
OTHER_STYLES = 1000  # a seed for the styles of the same digits once more


@study(
    name="unpaired-translation",
    title="Unpaired translation, one constraint at a time",
    paper="Zhu et al. 2017 (their ablations); Chu et al. 2017, CycleGAN, a Master of Steganography",
    notebook="15_unpaired_translation.ipynb",
    seeds=(0, 1, 2),
)
def unpaired_translation(budget: Budget) -> list[Cell]:
    """The recipe of system ``cyclegan`` with terms left out or one added, and whole on the pair of styles.

    ``with-u-nets`` is CycleGAN with DualGAN's generators, ``dualgan-with-resnets`` DualGAN with CycleGAN's.
    """
    makers = {arm: partial(cyclegan.experiment, budget, **changes) for arm, changes in ARMS.items()}
    makers["with-u-nets"] = partial(_exchanged, cyclegan.recipe, dualgan.recipe, budget)
    makers["dualgan-with-resnets"] = partial(_exchanged, dualgan.recipe, cyclegan.recipe, budget)
    cells = [
        Cell({"domains": "edges", "arm": arm}, partial(_outcome, budget, make))
        for arm, make in makers.items()
    ]
    return [*cells, Cell({"domains": "textured", "arm": "cyclegan"}, partial(_styles, budget))]


class WithoutNoise(nn.Module):
    """A generator of images that can be asked for with a source of noise, and has no use for it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, rng: torch.Generator | None = None) -> Tensor:
        return self.network(images)


def _exchanged(recipe: Recipe, others: Recipe, budget: Budget) -> Experiment:
    """The one recipe's game and settings with the other's generators."""
    made, other = recipe(budget), others(budget)
    for domain, network in other.game.generators.items():
        made.game.generators[domain] = network if isinstance(network, UNet) else WithoutNoise(network)
    borrowed = "The generators are the other recipe's; the rest is as follows."
    return replace(made, notes=(borrowed, *made.notes))


def _styles(budget: Budget, seed: int) -> Outcome:
    make = partial(cyclegan.experiment, budget, view=textured, determined=("b",))
    return _outcome(budget, make, seed, textured, partial(hidden, budget=budget))


def _outcome(
    budget: Budget,
    make: Callable[[], Experiment],
    seed: int,
    view: View = edges,
    further: Callable[[Translation], dict[str, float]] | None = None,
) -> Outcome:
    """Train, measure, and keep samples, the confusion of the digits and the generators."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = make()
    trainer = Trainer(made.game, made.data, replace(made.settings, seed=seed), progress=False)
    fit(trainer, made.steps)
    with torch.random.fork_rng(), trainer.averaged() as game:
        torch.manual_seed(seed)  # U-Nets draw noise in translation too
        figures = made.evaluate(game) | ({} if further is None else further(game))
        table = confusion(game, budget, view)
        figures["renaming_gains"] = relabelled(table) - float(table.trace() / table.sum())
        arrays = {"confusion": table}
        if seed == 0 and view is textured:  # what the notebook looks into
            state = game.generators.state_dict()
            arrays |= {name: t.half() if t.is_floating_point() else t for name, t in state.items()}
        return Outcome(figures, trainer.history, trainer.sample(64), arrays, made.notes)


def confusion(game: Translation, budget: Budget, view: View = edges) -> Tensor:
    """Counts ``(10, 10)``, int64: test digits by label, in rows, and by what the translation is taken for."""
    from ganlib.metrics import ClassifierFeatures

    n = budget.pick(smoke=256, cpu=FEWER, gpu=10_000)
    digits, labels = (part[:n].to(game.device) for part in mnist("test"))
    made = game.translate(view(digits))
    features = ClassifierFeatures().to(game.device)
    with torch.no_grad():
        found = torch.cat([features.predict(part) for part in made.split(500)])
    return torch.bincount(10 * labels + found, minlength=100).view(10, 10).cpu()


def relabelled(table: Tensor) -> float:
    """The share of agreement that is left under the best one-to-one renaming of the digits.

    Where it is far above the plain agreement, the translation is orderly and takes one digit for another,
    which no term of a GAN's loss forbids.

    Args:
        table: as of :func:`confusion`.
    """
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    return float(table[rows, columns].sum() / table.sum())


# Steganography


def with_noise(images: Tensor, sigma: float = 0.1) -> Tensor:
    """Images plus normal noise of deviation ``sigma``, the same on every call; clamped to [-1, 1]."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise.to(images.device)).clamp(-1, 1)


def to_levels(images: Tensor, levels: int = 8) -> Tensor:
    """Images rounded to that many greys between -1 and 1."""
    return ((images + 1) * (levels - 1) / 2).round() * 2 / (levels - 1) - 1


def on_black(images: Tensor) -> Tensor:
    """Images with all that is darker than mid-grey made black: the ink stays, what lies beside it goes."""
    return torch.where(images < 0, -1.0, images)


DISTURBANCES: dict[str, View] = {"noise": with_noise, "levels": to_levels, "black": on_black}


def colours_kept(back: Tensor, originals: Tensor) -> float:
    """The share of pictures that came back with a mean colour nearer to their own than to the next one's.

    1 where the colours came back, 1/2 where they are guessed.

    Args:
        back: ``(N, 3, H, W)``.
        originals: of the same shape, their styles independent of each other.
    """
    mean, own = back.mean((2, 3)), originals.mean((2, 3))
    nearer = (mean - own).square().sum(1) < (mean - own.roll(1, 0)).square().sum(1)
    return float(nearer.float().mean())


def hidden(game: Translation, budget: Budget) -> dict[str, float]:
    """How much of a style a translated digit carries, how visibly, and what it takes to lose it.

    ``marks``: root mean square difference between the translations of one digit in two styles, in grey levels
    of 255. ``colours_kept``: :func:`colours_kept` for a cycle from coloured digits; and this and the cycle's
    PSNR with a disturbance of the digit in between: ``_noise`` (deviation 0.1 on [-1, 1]), ``_levels`` (8
    greys), ``_black`` (all below mid-grey made black).
    """
    from ganlib.metrics import psnr

    digits = mnist("test").images[: budget.pick(smoke=128, cpu=FEWER, gpu=10_000)].to(game.device)
    coloured = textured(digits)
    pair = game.translate(coloured), game.translate(textured(digits, OTHER_STYLES))
    figures = {
        "marks": float((pair[0] - pair[1]).square().mean().sqrt()) * 127.5,
        "colours_kept": colours_kept(cycled(game, coloured), coloured),
    }
    for name, disturb in DISTURBANCES.items():
        back = cycled(game, coloured, disturb)
        figures[f"cycle_psnr_a_{name}"] = float(psnr(back, coloured).mean())
        figures[f"colours_kept_{name}"] = colours_kept(back, coloured)
    return figures
