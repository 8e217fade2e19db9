"""InfoGAN: codes among the latents that the images must tell again, and so come to mean something."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample

from ganlib.data import mnist
from ganlib.losses import NonSaturating
from ganlib.losses.information import CategoricalCode, Code, ContinuousCode, gaussian_bound, information_bound
from ganlib.models import dcgan
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer, due
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.random import normal, uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game

if TYPE_CHECKING:
    from ganlib.data import Images


class InfoGAN(GAN):
    r"""A GAN whose generator's input has codes beside the noise, and whose discriminator guesses them.

    .. math:: \min_{G, Q} \max_D \; V(D, G) - \sum_c \lambda_c \, L_I^{(c)}(G, Q)

    with :func:`ganlib.losses.information.information_bound` for each code, weighted by the code's own
    :math:`\lambda`. Q shares the discriminator's body and is no player of its own. As in the authors' code

    - the *discriminator*'s turn moves body, head of D and head of Q, by D's loss and by the bounds on fakes;
    - the *generator*'s turn moves G, by its loss and by the bounds.

    So the gradient of a bound reaches everything that it depends on: Q's head and the body in the one turn, G
    in the other. Only D's head is none of its business.

    Args:
        generator: ``(N, latent_dim)`` -> images; has an attribute ``latent_dim``. Its input is the noise,
            then the codes in order; what the codes leave of ``latent_dim`` is noise.
        discriminator: images -> logits ``(N,)``, with a method ``both``: images -> logits and what Q says of
            all codes side by side, ``(N, sum of code.outputs)``.
        loss: both sides of the adversarial loss.
        codes: what is drawn and guessed, with their weights.
        regularizers: penalties on the discriminator, which see its logits.
        n_critic: discriminator steps per generator step.
        lenses: code's name -> a random map of images, such as :class:`RandomHand`, through which Q reads
            that code in training. T(x) knows of c only what x knows, so :math:`I(c; T(x)) \le I(c; x)`, and
            the bound is one still (the data processing inequality). It tells Q what a code is *not* about.

    Raises:
        ValueError: if there is no code, two share a name, they leave no latent for noise, or a
            lens is for no code.

    Source: Chen et al. 2016, section 5; turns and losses as in the authors' published code. Lecture: OUC
    "InfoGAN", where the line above has I in place of its bound, and hence no Q.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        codes: Sequence[Code],
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        lenses: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    ) -> None:
        super().__init__(generator, discriminator, loss, regularizers, n_critic)
        names = ["adversarial", *(r.name for r in regularizers), *(code.name for code in codes)]
        if not codes or len(set(names)) < len(names):
            raise ValueError(f"codes must be one or more of distinct names, got the terms {names}")
        self.codes = tuple(codes)
        self.lenses = dict(lenses or {})
        if not set(self.lenses) <= {code.name for code in codes}:
            raise ValueError(f"lenses must be for codes among {names}, got {list(self.lenses)}")
        self.noise_dim = generator.latent_dim - sum(code.inputs for code in codes)
        if self.noise_dim < 1:
            raise ValueError(
                f"codes must leave room for noise in the {generator.latent_dim} latents, "
                f"got {[code.inputs for code in codes]}"
            )

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real = batch[0]
        values = self.draw(len(real))
        z = self.latent(len(real), codes=values)
        if player == "generator":
            fake = self.generator(z)
            (logits,), guesses = self.read(fake)
            # Q's pass has judged the fakes already.
            terms = self.generator_terms(lambda x: logits if x is fake else self.discriminator(x), real, fake)
            return terms | self.information(guesses, values)
        with torch.no_grad():
            fake = self.generator(z).to(real.dtype)
        (on_fake, on_real), guesses = self.read(fake, real)
        terms = {"adversarial": self.adversarial.discriminator(on_real, on_fake)}
        terms |= due(self.regularizers, self.discriminator, real, fake)
        return terms | self.information(guesses, values)

    def read(self, fake: Tensor, *others: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """D's logits on ``fake`` and on ``others``; Q's outputs per code on ``fake``, each by its lens.

        One pass over all of them where that is the same, as in :meth:`ganlib.models.gan.GAN.judge`.
        """
        images = [fake, *others, *(lens(fake) for lens in self.lenses.values())]
        if self.separate_passes:
            found = [self.discriminator.both(part) for part in images]
        else:
            both = self.discriminator.both(torch.cat(images))
            sizes = [len(part) for part in images]
            found = list(zip(*(outputs.split(sizes) for outputs in both), strict=True))
        judged = 1 + len(others)
        plain, seen = found[0][1], dict(zip(self.lenses, found[judged:], strict=True))
        guesses = []
        for place, code in enumerate(self.codes):
            outputs = seen[code.name][1] if code.name in seen else plain
            guesses.append(self.split(outputs)[place])
        return [logits for logits, _ in found[:judged]], guesses

    def split(self, outputs: Tensor) -> tuple[Tensor, ...]:
        """What Q says, ``(N, sum of code.outputs)``, code by code."""
        return outputs.split([code.outputs for code in self.codes], dim=1)

    def information(self, guesses: Sequence[Tensor], values: Sequence[Tensor]) -> dict[str, Tensor]:
        """A term per code, minus its weighted bound, from Q's outputs for each."""
        return {
            code.name: -code.weight * information_bound(code, guess, value)
            for code, guess, value in zip(self.codes, guesses, values, strict=True)
        }

    def draw(self, n: int, rng: torch.Generator | None = None) -> tuple[Tensor, ...]:
        """``n`` values of each code, from its prior."""
        return tuple(code.draw(n, self.device, rng) for code in self.codes)

    def latent(
        self, n: int, rng: torch.Generator | None = None, codes: Sequence[Tensor | None] | None = None
    ) -> Tensor:
        """What the generator takes, ``(n, latent_dim)``: noise from N(0, 1), then the codes.

        Args:
            n: how many.
            rng: of noise and codes; torch's global state if None.
            codes: values per code, None for one to be drawn. The noise of a seed is the same for all of them.

        Raises:
            ValueError: if the number of codes or the shape of one does not fit.
        """
        noise = normal(n, self.noise_dim, device=self.device, rng=rng)
        given = (None,) * len(self.codes) if codes is None else tuple(codes)
        if len(given) != len(self.codes):
            raise ValueError(f"codes must be {len(self.codes)}, a value or None for each, got {len(given)}")
        parts = [noise]
        for code, value in zip(self.codes, given, strict=True):
            value = code.draw(n, self.device, rng) if value is None else value.to(self.device)
            if len(value) != n:
                raise ValueError(f"codes must have {n} rows, got {len(value)} for the {code.name}")
            parts.append(code.encode(value))
        return torch.cat(parts, dim=1)

    def sample(
        self,
        n: int,
        rng: torch.Generator | None = None,
        codes: Sequence[Tensor | None] | None = None,
        batch_size: int = 500,
    ) -> Tensor:
        """Draw ``n`` samples in evaluation mode, ``batch_size`` at a time; arguments as of :meth:`latent`."""
        z = self.latent(n, rng, codes)
        with self.evaluating():
            return torch.cat([self.generator(part).float() for part in z.split(batch_size)])

    def guess(self, images: Tensor, batch_size: int = 500) -> tuple[Tensor, ...]:
        """What Q says of each code, ``(N, code.outputs)`` apiece, in evaluation mode, real images or not."""
        with self.evaluating():
            parts = [self.discriminator.both(part.to(self.device))[1] for part in images.split(batch_size)]
        return self.split(torch.cat(parts).float())


@dataclass(frozen=True)
class RandomHand:
    """Draws each image of a batch again as another hand might: ``(N, C, H, W)`` in [-1, 1] -> the same.

    Turned, slanted, scaled and shifted by amounts that are uniform between plus and minus their bounds; and
    every other image, on average, with another pen: blurred over 3 x 3 pixels, its outline is drawn where the
    blur is at a threshold around one half. What comes in from outside is black, -1. Gradients reach the
    images. Random numbers come as those of latents do, from :func:`ganlib.random.uniform`.

    Args:
        degrees: of rotation.
        shear: tangent of the angle of the slant.
        scale: logarithm of the factor.
        shift: as a share of the side.
        pen: how far the threshold may be from one half, at most 1/4: one part in three per pixel of outline.
    """

    degrees: float = 20.0
    shear: float = 0.3
    scale: float = 0.2
    shift: float = 0.06
    pen: float = 0.25

    def __call__(self, images: Tensor) -> Tensor:
        n = len(images)
        u = uniform(n, 7, device=images.device)
        amounts = 2 * u - 1
        angle = self.degrees * math.pi / 180 * amounts[:, 0]
        shear, zoom = self.shear * amounts[:, 1], (self.scale * amounts[:, 2]).exp()
        cos, sin = angle.cos(), angle.sin()
        # The grid's side is 2 long, so that a share of the side counts twice.
        across, down = (2 * self.shift * amounts[:, 3:5]).unbind(1)
        rows = [zoom * cos, zoom * (shear * cos - sin), across, zoom * sin, zoom * (shear * sin + cos), down]
        grid = affine_grid(torch.stack(rows, 1).view(n, 2, 3), list(images.shape), align_corners=False)
        # As ink in [0, 1], for outside of the image the grid finds 0.
        ink = grid_sample((images.float() + 1) / 2, grid, align_corners=False)
        threshold, other = 0.5 + self.pen * amounts[:, 5], u[:, 6] < 0.5
        # Twice the slope: black stays black and white white as long as the threshold is in [1/4, 3/4].
        drawn = 2 * (avg_pool2d(ink, 3, 1, 1) - threshold[:, None, None, None]) + 0.5
        return 2 * torch.where(other[:, None, None, None], drawn.clamp(0, 1), ink) - 1


class Discriminator(nn.Module):
    """DCGAN's discriminator with a second head, Q's, on the last map of features.

    Calling it gives the logits of D alone, ``(N, channels, size, size)`` -> ``(N,)``, as every penalty wants
    it; :meth:`both` gives Q's outputs beside them for hardly more than the price of one.

    Its batch norms keep no running statistics: they use those of the batch at hand in evaluation too. Q is
    trained on batches of fakes alone, while a running mean is over real and fake ones and lags behind both.
    Asked under such statistics Q's guesses were worth less than nothing. So ask it about many images at once.

    Args:
        outputs: numbers that Q gives per image.
        width: channels after the first convolution; twice as many at each level below.
        channels: of the images.
        size: side of the images, a power of two of at least 8.
        hidden: units of Q's own layer.

    Source: Chen et al. 2016, appendix C.1: Q is the shared body, a layer of 128 with batch norm, and one of
    outputs.
    """

    def __init__(
        self, outputs: int, width: int = 64, channels: int = 1, size: int = 32, hidden: int = 128
    ) -> None:
        super().__init__()
        *body, head, flatten = dcgan.Discriminator(width, channels, size).layers
        self.body = nn.Sequential(*body)
        self.real = nn.Sequential(head, flatten)
        self.code = nn.Sequential(
            nn.Conv2d(head.in_channels, hidden, 4, bias=False),
            nn.BatchNorm2d(hidden),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Flatten(1),
            nn.Linear(hidden, outputs),
        )
        dcgan.initialize_(self.code)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False
                layer.running_mean = layer.running_var = layer.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        return self.real(self.body(x))

    def both(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``(N,)`` and Q's outputs ``(N, outputs)`` from one pass through the body."""
        features = self.body(x)
        return self.real(features), self.code(features)


# What the codes have come to mean


class Matching(NamedTuple):
    """How well groups found without labels match classes; both in [0, 1].

    Attributes:
        purity: share of the samples that are of the most frequent class of their group. Two groups may have
            the same class; a generator that draws nothing but ones has a purity of 1.
        accuracy: share that are of the class assigned to their group, under the best assignment of groups to
            classes one to one. Never above the purity, and 1 only if groups and classes are the same.
    """

    purity: float
    accuracy: float


def contingency(groups: Tensor, classes: Tensor, k: int = 10) -> Tensor:
    """How often each group meets each class: int64 ``(k, k)``, groups in rows.

    Args:
        groups: int64 ``(N,)`` in 0..k - 1, such as a code.
        classes: the same, such as labels.
        k: how many of each there are.

    Raises:
        ValueError: if the two are no vectors of one length, are empty, or hold numbers out of range.
    """
    if groups.ndim != 1 or groups.shape != classes.shape or not len(groups):
        raise ValueError(
            f"groups and classes must be (N,), N at least 1, got {tuple(groups.shape)} and "
            f"{tuple(classes.shape)}"
        )
    for name, values in (("groups", groups), ("classes", classes)):
        if not 0 <= int(values.min()) <= int(values.max()) < k:
            raise ValueError(f"{name} must be in 0..{k - 1}, got {int(values.min())}..{int(values.max())}")
    return torch.bincount(k * groups.cpu() + classes.cpu(), minlength=k * k).reshape(k, k)


def matching(groups: Tensor, classes: Tensor, k: int = 10) -> Matching:
    r"""Compare a grouping with the true classes, of which it knows no names.

    With :math:`n_{ij}` samples of class j in group i,

    .. math::
        \text{purity} = \frac1N \sum_i \max_j n_{ij}, \qquad
        \text{accuracy} = \frac1N \max_\pi \sum_i n_{i \pi(i)}

    over the permutations :math:`\pi`: a linear assignment problem. Arguments and errors are those of
    :func:`contingency`.

    Source: Chen et al. 2016, section 7.2, which matches each category to a type of digit.
    """
    from scipy.optimize import linear_sum_assignment

    counts = contingency(groups, classes, k).numpy()
    rows, columns = linear_sum_assignment(counts, maximize=True)
    total = len(groups)
    return Matching(float(counts.max(1).sum() / total), float(counts[rows, columns].sum() / total))


def sweep(game: InfoGAN, dimension: int, values: Tensor, n: int, seed: int = 0, code: int = 1) -> Tensor:
    """``n`` samples at each value of one continuous number, all else kept: ``(len(values), n, C, H, W)``.

    Args:
        game: with a :class:`ganlib.losses.ContinuousCode`.
        dimension: of that code.
        values: to set it to, ``(V,)``; beyond [-1, 1] the generator extrapolates.
        n: samples per value.
        seed: of the noise and the other codes.
        code: place of the continuous code among the game's.
    """
    rng = torch.Generator().manual_seed(seed)
    drawn = list(game.draw(n, rng))
    images = []
    for value in values.tolist():
        drawn[code] = drawn[code].clone()
        drawn[code][:, dimension] = value
        images.append(game.sample(n, torch.Generator().manual_seed(seed + 1), drawn))
    return torch.stack(images)


def responses(game: InfoGAN, n: int = 200, points: int = 9, code: int = 1) -> dict[str, float]:
    """What each continuous number does to strokes, measured: figures by name.

    A number goes from -1 to 1 in ``points`` steps, with the noise and the other codes of ``n`` samples kept.
    ``code1_slant_degrees`` is the mean change of slant from one end to the other, ``code1_slant_rank`` the
    mean over the samples of Spearman's rank correlation of the number with the slant, in [-1, 1]; and
    likewise ``thickness_pixels`` and ``thickness_rank``. A rank near 1 or -1 says that the number moves the
    attribute one way throughout, however little; the change says how far.
    """
    from scipy.stats import rankdata

    from ganlib.metrics import strokes

    values = torch.linspace(-1, 1, points)
    found: dict[str, float] = {}
    for dimension in range(game.codes[code].dimensions):
        images = sweep(game, dimension, values, n, code=code)
        measured = strokes(images.flatten(0, 1))
        for name, unit in (("slant", "degrees"), ("thickness", "pixels")):
            attribute = getattr(measured, name).reshape(points, n).cpu().double()
            ranks = torch.from_numpy(rankdata(attribute.numpy(), axis=0))
            ranks = ranks - ranks.mean(0)
            steps = torch.arange(points).double()[:, None] - (points - 1) / 2
            # Where an attribute does not change at all, its ranks are equal and it has no correlation.
            scale = (steps.square().sum() * ranks.square().sum(0)).sqrt().clamp(min=1e-12)
            correlation = (steps * ranks).sum(0) / scale
            key = f"code{dimension + 1}_{name}"
            found[f"{key}_{unit}"] = float((attribute[-1] - attribute[0]).nanmean())
            found[f"{key}_rank"] = float(correlation.nanmean())
    return found


def code_report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """:func:`ganlib.models.recipes.digit_report`, and what the codes mean; None for other data.

    The labels of samples are the embedded classifier's, those of test digits their own. Q as a classifier of
    test digits is told neither.
    """
    digits = digit_report(data, budget)
    if digits is None:
        return None

    def report(game: Game) -> dict[str, float]:
        from ganlib.metrics import ClassifierFeatures

        n = budget.pick(smoke=200, cpu=5000, gpu=10_000)
        rng = torch.Generator().manual_seed(1)
        values = game.draw(n, rng)
        samples = game.sample(n, rng, values)
        found = ClassifierFeatures().to(game.device).predict(samples)
        on_samples = matching(values[0], found)
        guesses = game.guess(samples)
        bounds = {"categorical_code_nats": float(information_bound(game.codes[0], guesses[0], values[0]))}
        numbers = gaussian_bound(guesses[1][:, : game.codes[1].dimensions], values[1])
        bounds |= {f"code{i + 1}_nats": nats for i, nats in enumerate(numbers.tolist())}
        test = mnist("test")
        images, labels = (t[: budget.pick(smoke=200, cpu=10_000, gpu=10_000)] for t in test)
        on_test = matching(game.guess(images)[0].argmax(1), labels)
        return (
            digits(game)
            | {"purity": on_samples.purity, "matched": on_samples.accuracy}
            | {"test_purity": on_test.purity, "test_error_percent": 100 * (1 - on_test.accuracy)}
            | bounds
            | responses(game, budget.pick(smoke=10, cpu=200, gpu=1000))
        )

    return report


@system(
    name="infogan",
    title="InfoGAN",
    paper="Chen et al. 2016, InfoGAN: Interpretable Representation Learning by Information Maximizing "
    "Generative Adversarial Nets",
    lectures=("OUC: InfoGAN",),
    notebook="10_conditioning.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """A class of ten, two numbers and 62 of noise; Adam at 2e-4 (D, Q) and 1e-3 (G) on ``gpu``."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=64)
    steps = budget.pick(smoke=4, cpu=3100, gpu=5000)
    slow = budget is Budget.GPU
    common = dcgan.settings(budget, steps)
    codes = (
        CategoricalCode(10, gain=1.0 if slow else 3.0),
        ContinuousCode(2, weight=1.0 if slow else 0.5, std=1.0),
    )
    game = InfoGAN(
        dcgan.Generator(62 + sum(code.inputs for code in codes), width, channels, size),
        Discriminator(sum(code.outputs for code in codes), width, channels, size),
        NonSaturating(real_label=1.0 if slow else 0.9),
        codes,
        lenses={} if slow else {codes[0].name: RandomHand()},
    )
    return Experiment(
        game,
        (images.images,),  # without the labels: nobody can look at them from here on
        replace(common, optimizers={**common.optimizers, "generator": adam(1e-3, 0.5)}) if slow else common,
        steps=steps,
        evaluate=code_report(data, budget),
        notes=(
            "DCGAN's convolutions in place of the paper's networks with layers of 1,024 units.",
            *(() if slow else NOTES),
        ),
    )


NOTES = (
    "For minutes in place of hours: Adam at 1e-3 (D, Q) and 4e-3 (G), beta2 0.99, falling to zero over the "
    "last three fifths; batches of 64; one-sided label smoothing 0.9; averaged generator weights.",
    "So that categories become digits in 3,100 rounds: a class enters as 3 where noise has deviation 1; Q "
    "guesses it through a random hand (turned, slanted, scaled, shifted, another pen). Settings chosen on "
    "seed 0 with purities in view; no label takes part in a run.",
)
