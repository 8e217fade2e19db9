"""iGAN: photographs onto the manifold of a generator, and back with edits that stay on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from ganlib.losses import NonSaturating
from ganlib.models.dcgan import Discriminator, Encoder, Generator, settings
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game

if TYPE_CHECKING:
    from ganlib.data import Images

Objective = Callable[[Tensor], Tensor]


class InteractiveGAN(GAN):
    r"""A GAN with an encoder P that learns to find, for an image, the latent whose sample looks most like it.

    D and G play as ever. In its own turn P minimises, over the data and with G fixed,

    .. math::
        L(z, x) = \frac{1}{n} \|G(z) - x\|^2 + \frac{\lambda}{m} \|\phi(G(z)) - \phi(x)\|^2
            + \frac{\sigma^2}{n} \|z\|^2 \qquad \text{at } z = P(x)

    for n pixels and m features. The same L serves :meth:`optimise`, so that the ways of projecting an image
    differ in how they search and in nothing else.

    The features :math:`\phi` are the discriminator's after its first ``depth`` layers. The paper takes those
    of AlexNet, which was trained on photographs and knows no digits; D's come with the game, need no labels,
    and leave the embedded classifier to judge what came out, which it could not if it had been trained
    against.

    The last term is the prior's. Were x equal to G(z) but for Gaussian noise of deviation ``noise`` on each
    pixel, then L without features would be, up to factor and constant, :math:`-\log p(z | x)` for
    z ~ N(0, I). (The paper's latents are uniform; there a tanh keeps them in their box.)

    In P's turn G and D are in evaluation mode: codes have another distribution than latents, and under
    batch statistics G would be another function on them than on z.

    Args:
        generator: as for :class:`ganlib.models.gan.GAN`.
        discriminator: likewise, with a sequence ``layers``.
        encoder: images -> codes ``(N, latent_dim)``; the paper's is the discriminator but for its outputs.
        loss: both sides of the adversarial loss.
        regularizers: penalties on the discriminator.
        n_critic: discriminator steps per round.
        feature_weight: :math:`\lambda`, not negative.
        depth: layers of D that make the features.
        noise: :math:`\sigma`, not negative, in units of the pixels.

    Raises:
        ValueError: if a weight is negative, or D has not so many layers.

    Source: Zhu, Krähenbühl, Shechtman and Efros, "Generative Visual Manipulation on the Natural Image
    Manifold", 2016 (the authors' code weighs AlexNet's conv4 features by 0.002). Lecture: OUC "iGAN".
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        encoder: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        feature_weight: float = 0.05,
        depth: int = 5,
        noise: float = 0.2,
    ) -> None:
        super().__init__(generator, discriminator, loss, regularizers, n_critic)
        for name, weight in (("feature_weight", feature_weight), ("noise", noise)):
            if not weight >= 0:
                raise ValueError(f"{name} must be at least 0, got {weight}")
        if not 0 < depth <= len(discriminator.layers):
            raise ValueError(f"depth must be 1 to {len(discriminator.layers)}, D's layers, got {depth}")
        self.encoder = encoder
        self.feature_weight, self.depth, self.noise = feature_weight, depth, noise
        self.turns = {"discriminator": n_critic, "generator": 1, "encoder": 1}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if player != "encoder":
            return super().terms(player, batch)
        real = batch[0]
        codes = self.encoder(real)
        with fixed(self.generator, self.discriminator):
            terms = self.unlikeness(codes, real, self.features(real))
        return {name: values.mean() for name, values in terms.items()}

    def features(self, images: Tensor) -> Tensor:
        r""":math:`\phi`: what D makes of images in its first layers, ``(N, C, H, W)``."""
        return self.discriminator.layers[: self.depth](images)

    def unlikeness(self, codes: Tensor, images: Tensor, features: Tensor) -> dict[str, Tensor]:
        """The three terms of L for each image, ``(N,)`` in float32: ``pixels``, ``features`` and ``prior``.

        Args:
            codes: ``(N, latent_dim)``.
            images: ``(N, C, H, W)`` that G should give back.
            features: :meth:`features` of the images.
        """
        made = self.generator(codes)
        return {
            "pixels": _mean_square(made, images),
            "features": self.feature_weight * _mean_square(self.features(made), features),
            "prior": self.noise**2 / images[0].numel() * codes.float().square().sum(1),
        }

    def predict(self, images: Tensor) -> Tensor:
        """Codes ``(N, latent_dim)`` of images by the encoder, in evaluation mode and without a graph."""
        with self.evaluating():
            return self.encoder(images).float()

    def optimise(self, images: Tensor, start: Tensor, *, steps: int = 100, lr: float = 0.1) -> Tensor:
        """Codes ``(N, latent_dim)`` of images, by descending L from the given codes.

        From latents this is the paper's way by optimisation, from :meth:`predict`'s codes its hybrid. Adam
        with a falling rate stands for the paper's L-BFGS: it treats every entry of every row on its own, so
        that many images descend side by side as each would alone.

        Args:
            images: ``(N, C, H, W)``.
            start: ``(N, latent_dim)``, or ``(S, N, latent_dim)`` for S starts, of which the best end is kept.
            steps: of Adam.
            lr: its first rate; it falls along a cosine.

        Raises:
            ValueError: for starts of another shape, or no images.
        """
        starts = start.unsqueeze(0) if start.ndim == 2 else start
        shape = (len(images), self.generator.latent_dim)
        if starts.ndim != 3 or starts.shape[1:] != shape or not starts.numel():
            raise ValueError(f"start must be {shape}, or several of these, got {tuple(start.shape)}")
        with self.evaluating():
            features = self.features(images)

            def objective(codes: Tensor) -> Tensor:
                return sum(self.unlikeness(codes, images, features).values())

            ends = [descend(objective, codes, steps=steps, lr=lr, falling=True) for codes in starts]
            best = torch.stack([objective(codes) for codes in ends]).argmin(0)
        return torch.stack(ends)[best, torch.arange(len(images), device=best.device)]

    def generate(self, codes: Tensor) -> Tensor:
        """G(z) ``(N, C, H, W)`` in evaluation mode and without a graph."""
        with self.evaluating():
            return self.generator(codes).float()

    def edit(
        self,
        start: Tensor,
        constraints: Sequence[Constraint],
        *,
        anchor: Tensor | None = None,
        smoothness: float = 0.02,
        realism: float = 0.0,
        steps: int = 25,
        lr: float = 0.1,
    ) -> Tensor:
        r"""Codes ``(N, latent_dim)`` of the nearest samples that do what the brushes ask for:

        .. math::
            \min_z \sum_g \lambda_g \|f_g(G(z)) - v_g\|^2 + \lambda_s \|z - z_0\|^2 - \lambda_D \log D(G(z))

        The second term stands for the way along the manifold, for G is smooth and distances between latents
        tell those between samples. The third is optional and off, as in the authors' code; their text has
        :math:`+\lambda_D \log(1 - D)`, which shares its fixed point with this one and has no gradient where D
        is sure of a fake.

        Args:
            start: where the descent begins, ``(N, latent_dim)``.
            constraints: what the brushes ask for, such as :func:`paint` and :func:`drag` return.
            anchor: :math:`z_0`, likewise; ``start`` if None. A brush that goes on begins where it is.
            smoothness: :math:`\lambda_s`.
            realism: :math:`\lambda_D`.
            steps: of Adam; 25 steps at 0.1 are those of the authors' interface.
            lr: its rate.

        Raises:
            ValueError: for a negative weight.

        Source: Zhu et al. 2016, section on manipulating the latent vector.
        """
        if not (smoothness >= 0 and realism >= 0):
            raise ValueError(f"smoothness and realism must be at least 0, got {smoothness} and {realism}")

        anchor = start if anchor is None else anchor

        def objective(codes: Tensor) -> Tensor:
            made = self.generator(codes)
            total = smoothness * (codes - anchor).square().sum(1)
            for constraint in constraints:
                total = total + constraint(made)
            return total + realism * softplus(-self.discriminator(made).float()) if realism else total

        with self.evaluating():
            return descend(objective, start, steps=steps, lr=lr)


def descend(objective: Objective, start: Tensor, *, steps: int, lr: float, falling: bool = False) -> Tensor:
    """Adam on each row of ``start`` ``(N, d)`` by itself; the rows where it ends.

    Args:
        objective: rows -> ``(N,)``, each of its own row alone.
        start: where to begin; left as it is.
        steps: of Adam.
        lr: the rate.
        falling: let it fall to zero along a cosine.
    """
    z = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([z], lr=lr, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if falling else None
    for _ in range(steps):
        with torch.enable_grad():
            z.grad = torch.autograd.grad(objective(z).sum(), z)[0]
        optimizer.step()
        if schedule is not None:
            schedule.step()
    return z.detach()


@contextmanager
def fixed(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode, graph and all, and back into training mode afterwards."""
    training = [part for module in modules for part in module.modules() if part.training]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def _mean_square(first: Tensor, second: Tensor) -> Tensor:
    return (first.float() - second.float()).square().flatten(1).mean(1)


# What the brushes ask for


@dataclass(frozen=True)
class Constraint:
    r"""One brush's wish, :math:`\lambda \|f(x) - v\|^2`, as a mean over the places that were touched.

    Attributes:
        feature: f, images ``(N, C, H, W)`` -> maps ``(N, K, h, w)``.
        target: v, ``(1 or N, K, h, w)``; what lies outside of the mask does not count.
        mask: ``(1 or N, 1, h, w)``, not negative, 0 where nothing is asked for.
        weight: :math:`\lambda`.
    """

    feature: Callable[[Tensor], Tensor]
    target: Tensor
    mask: Tensor
    weight: float = 1.0

    def __call__(self, images: Tensor) -> Tensor:
        """How far images are from it, ``(N,)``."""
        error = (self.feature(images).float() - self.target).square().mean(1, keepdim=True)
        total = self.mask.sum((1, 2, 3)).clamp(min=1e-6)  # an empty mask asks for nothing
        return self.weight * (self.mask * error).sum((1, 2, 3)) / total


def paint(mask: Tensor, colour: float | Tensor, weight: float = 1.0) -> Constraint:
    """The colouring brush: pixels under ``mask`` shall have this colour; -1 is the eraser where black is.

    Args:
        mask: ``(H, W)``, or ``(1 or N, 1, H, W)``.
        colour: a number in [-1, 1], or ``(C,)``, or a picture ``(1 or N, C, H, W)``.
        weight: of the wish.

    Raises:
        ValueError: for a mask of another shape.
    """
    colour = torch.as_tensor(colour, dtype=torch.float32, device=mask.device)
    return Constraint(_same, colour if colour.ndim == 4 else colour.view(1, -1, 1, 1), _mask(mask), weight)


def sketch(mask: Tensor, drawing: Tensor, weight: float = 0.2) -> Constraint:
    """The sketching brush: under ``mask`` outlines shall run as in ``drawing``, whatever their colours.

    Args:
        mask: as for :func:`paint`; a cell of :func:`outlines` counts by the share of it that is masked.
        drawing: ``(1 or N, C, H, W)``.
        weight: of the wish; 0.2 is the authors' code's.
    """
    return Constraint(outlines, outlines(drawing), nn.functional.avg_pool2d(_mask(mask), CELL), weight)


def drag(
    images: Tensor, mask: Tensor, right: int, down: int, weight: float = 1.0
) -> tuple[Constraint, Constraint]:
    """The warping brush: the patch under ``mask`` shall appear so many pixels further to the right and down.

    As in the paper it asks for the patch's colours and for its outlines there. What becomes of the place that
    the patch leaves is up to the manifold.

    Drag in small steps, each edit from where the last one ended: where a stroke and its patch no longer
    overlap, black fits better than the stroke does, and the descent wipes out what it should move.

    Args:
        images: ``(1 or N, C, H, W)``, of which the patch is taken.
        mask: as for :func:`paint`; what is dragged over the border is lost.
        right: pixels, negative to the left.
        down: pixels, negative upwards.
        weight: of the colours; a fifth of it is the outlines'.
    """
    there, moved = _moved(_mask(mask), right, down), _moved(images, right, down)
    return paint(there, moved, weight), sketch(there, moved, 0.2 * weight)


CELL, BINS, FAINT = 4, 6, 0.05


def outlines(images: Tensor) -> Tensor:
    r"""Histograms of the gradients' orientations, ``(N, C, H, W)`` to ``(N, BINS, H / CELL, W / CELL)``.

    At each pixel a gradient of length m and angle :math:`\varphi` votes for the orientation
    :math:`\theta_k = k \pi / K` with :math:`m \max(0, \cos 2 (\varphi - \theta_k))`: the same for a gradient
    and its opposite, and differentiable, as the descent needs it. A cell holds the means h of its pixels'
    votes, as :math:`h / \sqrt{\|h\|^2 + 0.05^2}`: faint outlines count like strong ones, and none as none.

    Source: after Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005, who
    normalise over blocks of cells.
    """
    grey = nn.functional.pad(images.float().mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    across = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    down = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    length = (across.square() + down.square() + 1e-8).sqrt()
    double = torch.arange(BINS, device=images.device) * (2 * torch.pi / BINS)
    cosine, sine = ((across.square() - down.square()) / length, 2 * across * down / length)
    votes = double.cos().view(1, -1, 1, 1) * cosine + double.sin().view(1, -1, 1, 1) * sine
    cells = nn.functional.avg_pool2d(votes.relu(), CELL)
    return cells * (cells.square().sum(1, keepdim=True) + FAINT**2).rsqrt()


def _same(images: Tensor) -> Tensor:
    return images


def _mask(mask: Tensor) -> Tensor:
    if mask.ndim not in (2, 4) or (mask.ndim == 4 and mask.shape[1] != 1):
        raise ValueError(f"mask must be (H, W) or (N, 1, H, W), got {tuple(mask.shape)}")
    return mask.float() if mask.ndim == 4 else mask.float()[None, None]


def _moved(maps: Tensor, right: int, down: int) -> Tensor:
    """Maps shifted by whole pixels, with zeros where nothing comes from; negative padding cuts."""
    return nn.functional.pad(maps, (right, -right, down, -down))


# What it is measured by


@dataclass(frozen=True)
class Projection:
    """Images on the manifold, as one of the ways found them.

    Attributes:
        codes: ``(N, latent_dim)``.
        images: what G makes of them, ``(N, C, H, W)``.
        seconds: per image, all of them done at once.
    """

    codes: Tensor
    images: Tensor
    seconds: float


def project(
    game: InteractiveGAN, images: Tensor, *, starts: int = 3, steps: int = 60, seed: int = 0
) -> dict[str, Projection]:
    """Images ``(N, C, H, W)`` projected the paper's three ways: by optimisation, the encoder, and both.

    Args:
        game: a trained one.
        images: as it was trained on, and best not seen in training.
        starts: latents that the optimisation starts from, of which the best end is kept.
        steps: of each descent.
        seed: of those latents.

    Returns:
        ``"optimisation"``, ``"encoder"`` and ``"hybrid"``.
    """
    rng = torch.Generator().manual_seed(seed)
    latents = torch.randn(starts, len(images), game.generator.latent_dim, generator=rng).to(images.device)
    ways = {
        "optimisation": lambda: game.optimise(images, latents, steps=steps),
        "encoder": lambda: game.predict(images),
        "hybrid": lambda: game.optimise(images, game.predict(images), steps=steps),
    }
    found = {}
    for name, way in ways.items():
        begin = time.perf_counter()
        codes = way()
        codes.sum().item()  # a GPU returns before it is done
        seconds = (time.perf_counter() - begin) / len(images)
        found[name] = Projection(codes, game.generate(codes), seconds)
    return found


def projection_report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """The figures of :func:`ganlib.models.recipes.digit_report`, and how well unseen digits are projected.

    For each of :func:`project`'s ways: the mean PSNR of the first test digits, the share of them whose
    projection the embedded classifier reads as the digit that it is, and seconds per digit. None for other
    data.
    """
    of_samples = digit_report(data, budget)
    if of_samples is None:
        return None

    def report(game: Game) -> dict[str, float]:
        from ganlib.data import mnist, to_floats
        from ganlib.metrics import ClassifierFeatures, psnr

        n = budget.pick(smoke=8, cpu=200, gpu=1000)
        held_out = mnist("test")
        images, labels = (tensor[:n].to(game.device) for tensor in held_out)
        images = images if images.is_floating_point() else to_floats(images)
        classifier = ClassifierFeatures().to(game.device)
        steps = budget.pick(smoke=2, cpu=60, gpu=200)
        figures = of_samples(game)
        for name, found in project(game, images, steps=steps).items():
            figures[f"psnr_{name}"] = psnr(found.images, images).mean().item()
            same = classifier.predict(found.images) == labels
            figures[f"same_digit_{name}"] = same.float().mean().item()
            figures[f"seconds_{name}"] = found.seconds
        return figures

    return report


@system(
    name="igan",
    title="Interactive GAN: projecting and editing on the manifold",
    paper="Zhu et al. 2016, Generative Visual Manipulation on the Natural Image Manifold",
    lectures=("OUC: iGAN",),
    notebook="11_latent_spaces.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """DCGAN with its quick settings, and an encoder that learns beside it."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    latent_dim = budget.pick(smoke=16, cpu=64, gpu=100)
    steps = budget.pick(smoke=6, cpu=2000, gpu=50_000)
    slow = budget is Budget.GPU
    common = settings(budget, steps)
    quick = (
        "For minutes in place of hours: the quick settings of dcgan for 2,000 rounds in place of 5,600; "
        "Adam at 2e-3 for the encoder. Feature weight and noise were set before the first run, the rounds "
        "after one on seed 0, by the clock."
    )
    networks = (
        Generator(latent_dim, width, channels, size),
        Discriminator(width, channels, size),
        Encoder(latent_dim, width, channels, size),
    )
    game = InteractiveGAN(
        *networks,
        NonSaturating(real_label=1.0 if slow else 0.9),
        depth=min(5, len(networks[1].layers) - 2),  # images of 8 x 8 leave D two layers before its last
    )
    return Experiment(
        game,
        images,
        replace(
            common,
            optimizers={**common.optimizers, "encoder": adam(2e-4, 0.5) if slow else adam(2e-3, 0.5, 0.99)},
            ema={**common.ema, "encoder": 0.999},
        ),
        steps=steps,
        evaluate=projection_report(data, budget),
        notes=(
            "The encoder learns while G does, not afterwards; z is normal, where the paper's is uniform; "
            "features of D stand for AlexNet's; Adam descends, where the paper has L-BFGS.",
            *([] if slow else [quick]),
        ),
    )
