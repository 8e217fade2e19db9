"""What the image recipes share: their data, their optimizers, their report."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ganlib.data import Images, mnist
from ganlib.training import Budget, Game
from ganlib.training.settings import OptimizerFactory


def adam(lr: float, beta1: float, beta2: float = 0.999) -> OptimizerFactory:
    """Adam with the two betas spelt out; fused, one kernel per step, on CPU and CUDA alike."""
    return partial(torch.optim.Adam, lr=lr, betas=(beta1, beta2), fused=True)


def image_data(data: Images | None, budget: Budget) -> Images:
    """``data`` if given, else embedded MNIST at 32 x 32; a thousand images of either for a smoke run."""
    chosen = mnist("train") if data is None else data
    return Images(*(t[:1000] for t in chosen)) if budget is Budget.SMOKE else chosen


def digit_report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """The figures that tell whether a generator of MNIST works; None for other data.

    FID is between 10,000 samples and the training set, on the features of the embedded classifier. Its floor
    is what 10,000 real digits would get: the FID between the test and the training set.
    """
    if data is not None:
        return None

    def report(game: Game) -> dict[str, float]:
        from ganlib.metrics import (
            ClassifierFeatures,
            Moments,
            class_balance,
            frechet_distance,
            mnist_moments,
        )

        features = ClassifierFeatures().to(game.device)
        samples = game.sample(
            budget.pick(smoke=256, cpu=10_000, gpu=10_000), torch.Generator().manual_seed(0)
        )
        moments, digits = Moments(), []
        with torch.no_grad():
            for part in samples.split(500):
                moments.update(features(part))
                digits.append(features.predict(part))
        found = torch.cat(digits)
        fid = frechet_distance(moments, mnist_moments("train"))
        floor = frechet_distance(mnist_moments("test"), mnist_moments("train"))
        shares = torch.bincount(found, minlength=10) / len(found)
        return {
            "fid": fid,
            "fid_floor": floor,
            "fid_over_floor": fid / floor,
            "class_balance": class_balance(found),
            "rarest_digit_share": float(shares.min()),
            "samples": len(samples),
        }

    return report
