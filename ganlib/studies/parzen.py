"""The first GAN's figure, its Parzen-window log-likelihood, and what scores higher without any learning.

The protocol is that of the program published with the paper: 10,000 samples with pixels in [0, 1], the kernel
width by the first thousand images of the validation set, the mean log density of MNIST's test set. The first
50,000 of the training images are trained on, the other 10,000 are the validation set.

Everything but the GAN's samples is made from training images. They themselves are as good as samples can be;
their k-means centres and a slight blur of them score higher, and noise that hardly shows scores far lower.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial

import torch
from torch import Tensor

from ganlib import systems
from ganlib.data import Images, mnist
from ganlib.metrics import fid, mnist_moments, parzen_log_likelihood, parzen_sigma
from ganlib.models.cgan import SIGMAS, TRAIN
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, History, Trainer

SHOWN = 32


@study(
    name="parzen",
    title="Parzen-window log-likelihood of the MLP GAN, and how to beat it",
    paper="Goodfellow et al. 2014, Generative Adversarial Nets, table 1 (225 ± 2), and "
    "Theis et al. 2016, A note on the evaluation of generative models",
    notebook="09_measuring_gans.ipynb",
    seeds=(0, 1, 2),
)
def parzen(budget: Budget) -> list[Cell]:
    """One cell for the GAN, the others for sets made from training images."""
    n = budget.pick(smoke=100, cpu=10_000, gpu=10_000)
    samplers: dict[str, Callable[[int], Tensor]] = {
        "training-images": partial(training_images, n),
        "blurred": lambda seed: blurred(training_images(n, seed)),
        "noisy": lambda seed: noisy(training_images(n, seed), seed),
        "k-means": partial(centres, n, budget),
        "k-means-1000": partial(centres, n // 10, budget),
    }
    return [
        Cell({"samples": "gan"}, partial(_gan, n, budget)),
        *(
            Cell({"samples": name}, lambda seed, sampler=sampler: judged(sampler(seed), budget))
            for name, sampler in samplers.items()
        ),
    ]


def judged(samples: Tensor, budget: Budget, history: History | None = None) -> Outcome:
    """Score samples ``(n, 1, 28, 28)`` in [0, 1].

    Figures: ``log_likelihood`` in nats, its ``standard_error`` over test images, ``sigma``, and the ``fid``
    of the same samples to MNIST's training set, which sees what the log-likelihood does not.
    """
    points = budget.pick(smoke=200, cpu=10_000, gpu=10_000)
    sigma = parzen_sigma(samples, _pixels("train")[TRAIN:][: min(points, 1000)], SIGMAS)
    found = parzen_log_likelihood(samples, _pixels("test")[:points], sigma)
    images = samples.clamp(0, 1) * 2 - 1
    figures = {
        "log_likelihood": found.mean,
        "standard_error": found.error,
        "sigma": sigma,
        "fid": fid(mnist_moments("train"), images),
    }
    return Outcome(figures, history, images[:SHOWN])


def _gan(n: int, budget: Budget, seed: int) -> Outcome:
    """Samples of the averaged generator of system ``gan``, the padding cut off."""
    train = Images(*(part[:TRAIN] for part in mnist("train")))
    experiment = systems.get("gan").experiment(budget, seed, train)
    trainer = Trainer(experiment.game, experiment.data, experiment.settings, progress=False)
    fit(trainer, experiment.steps)
    samples = (trainer.sample(n).cpu()[:, :, 2:-2, 2:-2] + 1) / 2
    return judged(samples, budget, trainer.history)


def training_images(n: int, seed: int) -> Tensor:
    """n different training images, what a generator that has learnt by heart draws."""
    order = torch.randperm(TRAIN, generator=torch.Generator().manual_seed(seed))
    return _pixels("train")[order[:n]]


def blurred(images: Tensor, sigma: float = 0.7) -> Tensor:
    """A Gaussian blur of ``sigma`` pixels."""
    from torchvision.transforms.functional import gaussian_blur

    return gaussian_blur(images, [7, 7], [sigma, sigma])


def noisy(images: Tensor, seed: int, sigma: float = 0.1) -> Tensor:
    """Gaussian noise of ``sigma`` on every pixel."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
    return images + sigma * noise


def centres(k: int, budget: Budget, seed: int) -> Tensor:
    """k-means centres of the training images, ``(k, 1, 28, 28)``."""
    images = _pixels("train")[: budget.pick(smoke=500, cpu=TRAIN, gpu=TRAIN)]
    found = k_means(images.flatten(1), k, steps=3, generator=torch.Generator().manual_seed(seed))
    return found.unflatten(1, (1, 28, 28))


def k_means(points: Tensor, k: int, steps: int, generator: torch.Generator) -> Tensor:
    """Centres ``(k, d)`` of points ``(N, d)`` after some steps of Lloyd's algorithm from k of the points.

    Each step moves every centre to the mean of the points that are nearest to it; a centre without any stays.
    """
    found = points[torch.randperm(len(points), generator=generator)[:k]]
    for _ in range(steps):
        half = found.square().sum(1) / 2  # |x - c|^2 / 2 less |x|^2 / 2, the same for all c
        nearest = torch.cat([(half - rows @ found.T).argmin(1) for rows in points.split(500)])
        counts = torch.bincount(nearest, minlength=k)[:, None]
        sums = torch.zeros_like(found).index_add_(0, nearest, points)
        found = torch.where(counts > 0, sums / counts.clamp(min=1), found)
    return found


@lru_cache
def _pixels(split: str) -> Tensor:
    """``(N, 1, 28, 28)`` in [0, 1]."""
    return (mnist(split, size=28).images + 1) / 2
