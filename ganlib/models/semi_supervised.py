"""Semi-supervised GAN: a classifier that learns from images without labels by telling them from fakes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.parametrizations import weight_norm
from torch.nn.utils.parametrize import cached

from ganlib.data import Images, mnist, to_floats
from ganlib.losses import FeatureMatching, NonSaturating
from ganlib.models.gan import GAN, Judge
from ganlib.models.recipes import adam, digit_report
from ganlib.random import normal
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, LinearDecay, Settings


def real_logit(logits: Tensor) -> Tensor:
    r"""The logit of "real" that K class logits contain, ``(N, K)`` -> ``(N,)``.

    .. math:: D(x) = \frac{Z(x)}{Z(x) + 1} = \sigma(\log Z(x)), \qquad Z(x) = \sum_{k=1}^K \exp \ell_k(x)

    A softmax over K + 1 classes, the last one "generated", does not change when a number is subtracted from
    all its logits. So the last may be fixed at 0: it needs no weights, and the probability of "generated" is
    :math:`1 / (Z + 1)`. The classes among real images keep the softmax of :math:`\ell_1 \dots \ell_K`. No
    probability is computed here: :math:`\log Z` goes into an adversarial loss as any other logit does.

    Raises:
        ValueError: unless ``logits`` is ``(N, K)``.

    Source: Salimans et al. 2016, section 5, last paragraph. Lecture: Purdue "Improved Techniques for Training
    GANs".
    """
    if logits.ndim != 2:
        raise ValueError(f"logits must be (N, K), got {tuple(logits.shape)}")
    # bfloat16's 8 bits are too few for a sum of exponentials.
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).logsumexp(1)


class SemiSupervisedGAN(GAN):
    r"""A game whose discriminator is a classifier: K logits per image, of which :func:`real_logit` makes D.

    .. math:: L_D = -E_{x, y} \log p(y \mid x, \text{real})
              - w \, \big( E_x \log D(x) + E_z \log(1 - D(G(z))) \big)

    The first term sees the labelled images, all of them at every step. The second one sees the batch, of
    which it takes the images alone, and needs no label: it knows that a real image belongs to *one* of the K
    classes. The generator minimises ``matching``; without, the non-saturating loss on the same D.

    Args:
        generator: ``(N, latent_dim)`` -> images; has an attribute ``latent_dim``.
        classifier: images -> class logits ``(N, K)``; the discriminator.
        labelled: the few images with labels 0..K-1; kept in the game, outside its state.
        matching: of the features of a layer of the classifier, as :class:`ganlib.losses.FeatureMatching`.
        weight: w; 1/2 in the authors' published code, 1 in the paper's formula.

    Raises:
        ValueError: if ``labelled`` is empty or its images and labels differ in number, or ``weight`` is
            negative.

    Source: Salimans et al. 2016, section 5. Lecture: Purdue "Improved Techniques for Training GANs".
    """

    def __init__(
        self,
        generator: nn.Module,
        classifier: nn.Module,
        labelled: Images,
        matching: FeatureMatching | None = None,
        *,
        weight: float = 0.5,
    ) -> None:
        super().__init__(generator, classifier, NonSaturating())
        if weight < 0:
            raise ValueError(f"weight must not be negative, got {weight}")
        _keep_labelled_(self, labelled)
        self.matching, self.weight = matching, weight

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        # The normalised weights serve all passes of a turn.
        with cached():
            terms = super().terms(player, batch[:1])
            if player == "discriminator":
                terms["adversarial"] = self.weight * terms["adversarial"]
                terms["labelled"] = _labelled_loss(self)
        return terms

    def judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The logits of "real" on real and on fake samples."""
        on_real, on_fake = super().judge(real, fake)
        return real_logit(on_real), real_logit(on_fake)

    def generator_terms(self, judge: Judge, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """Feature matching where there is one, else the adversarial loss on the logit of "real"."""
        if self.matching is not None:
            return {self.matching.name: self.matching(judge, real, fake)}
        return super().generator_terms(lambda x: real_logit(judge(x)), real, fake)


class LabelsAlone(Game):
    """One player who minimises the cross-entropy on the labelled images: what the GAN is compared with.

    Args:
        classifier: images -> class logits ``(N, K)``.
        labelled: images with labels 0..K-1; the batch is not looked at.

    Raises:
        ValueError: as for :class:`SemiSupervisedGAN`.
    """

    def __init__(self, classifier: nn.Module, labelled: Images) -> None:
        super().__init__()
        self.discriminator = classifier
        self.turns = {"discriminator": 1}
        _keep_labelled_(self, labelled)

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"labelled": _labelled_loss(self)}


def _keep_labelled_(game: Game, labelled: Images) -> None:
    images, labels = labelled
    if not len(images) or len(images) != len(labels):
        raise ValueError(
            f"labelled must hold images and as many labels, got {len(images)} images, {len(labels)} labels"
        )
    game.register_buffer("labelled_images", images, persistent=False)
    game.register_buffer("labels", labels, persistent=False)


def _labelled_loss(game: Game) -> Tensor:
    # On logits, once softmaxed inside; autocast takes it to float32.
    return cross_entropy(game.discriminator(game.labelled_images), game.labels)


def balanced_subset(data: Images, per_class: int, seed: int = 0) -> Images:
    """Draw ``per_class`` images of each class that occurs, in the order of the classes.

    Args:
        data: images and labels.
        per_class: positive.
        seed: of the draw, which is all that it depends on.

    Raises:
        ValueError: if ``per_class`` is not positive or a class has fewer images.
    """
    if per_class < 1:
        raise ValueError(f"per_class must be at least 1, got {per_class}")
    rng = torch.Generator().manual_seed(seed)
    chosen = []
    for label in data.labels.unique().tolist():
        rows = (data.labels == label).nonzero().flatten()
        if len(rows) < per_class:
            raise ValueError(f"per_class is {per_class}, but class {label} has {len(rows)} images")
        chosen.append(rows[torch.randperm(len(rows), generator=rng)[:per_class]])
    order = torch.cat(chosen)
    return Images(data.images[order], data.labels[order])


def error_rate(classifier: nn.Module, data: Images, batch_size: int = 1000) -> float:
    """Share of ``data`` that ``classifier``, ``(N, ...)`` -> logits ``(N, K)``, gets wrong; in [0, 1].

    Runs in evaluation mode, hence without noise, and puts the modes back.
    """
    training = [module for module in classifier.modules() if module.training]
    device = next(classifier.parameters()).device
    classifier.eval()
    try:
        with torch.no_grad():
            found = torch.cat(
                [classifier(part.to(device)).argmax(1).cpu() for part in data.images.split(batch_size)]
            )
    finally:
        for module in training:
            module.training = True
    return (found != data.labels.cpu()).double().mean().item()


# The networks


class GaussianNoise(nn.Module):
    """Adds normal noise of standard deviation ``std`` while training; nothing otherwise."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        return x + self.std * normal(*x.shape, device=x.device).to(x.dtype) if self.training else x


class Classifier(nn.Module):
    """Images ``(N, *shape)`` in [-1, 1] -> class logits ``(N, classes)``; noise before every layer.

    Fully connected layers of ``widths`` units with ReLU, each with weight normalization,
    :math:`w = g \\, v / \\|v\\|`; :func:`initialize_` sets and freezes the g of all but the last.

    Attributes:
        features: the layers up to the last hidden one, whose output feature matching compares, before the
            noise on it.
        head: noise and the layer of logits.

    Args:
        shape: of one image.
        classes: K.
        widths: of the hidden layers.
        noise: standard deviations at the input, whose pixels the first layer takes to [0, 1], and at every
            later layer.

    Source: Salimans et al. 2016, section 6.1; widths and noise as in the authors' published code.
    """

    def __init__(
        self,
        shape: tuple[int, ...] = (1, 28, 28),
        classes: int = 10,
        widths: Sequence[int] = (1000, 500, 250, 250, 250),
        noise: tuple[float, float] = (0.3, 0.5),
    ) -> None:
        super().__init__()
        inputs, std = math.prod(shape), noise[0]
        layers: list[nn.Module] = [nn.Flatten(), UnitRange()]
        for width in widths:
            layers += [GaussianNoise(std), weight_norm(nn.Linear(inputs, width)), nn.ReLU()]
            inputs, std = width, noise[1]
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(GaussianNoise(std), weight_norm(nn.Linear(inputs, classes)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


class UnitRange(nn.Module):
    """Pixels in [-1, 1] -> [0, 1]: background becomes 0, and a first layer has little else to do."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 1) / 2


class Generator(nn.Module):
    """Latents ``(N, latent_dim)`` -> images ``(N, *shape)`` in [-1, 1].

    Two hidden layers with batch norm and softplus, a last one with weight normalization and a sigmoid, taken
    from [0, 1] to [-1, 1].

    Args:
        latent_dim: length of z.
        width: of both hidden layers.
        shape: of one image.
        activation: of the hidden layers.

    Source: the authors' published code of Salimans et al. 2016, section 6.1.
    """

    def __init__(
        self,
        latent_dim: int = 100,
        width: int = 500,
        shape: tuple[int, ...] = (1, 28, 28),
        activation: Callable[[], nn.Module] = nn.Softplus,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        hidden: list[nn.Module] = []
        for inputs in (latent_dim, width):
            linear = nn.Linear(inputs, width, bias=False)  # batch norm would subtract a bias again
            hidden += [linear, nn.BatchNorm1d(width), activation()]
        last = weight_norm(nn.Linear(width, math.prod(shape)))
        last.parametrizations.weight.original0.data.fill_(1.0)
        self.layers = nn.Sequential(*hidden, last, nn.Sigmoid(), nn.Unflatten(1, shape))

    def forward(self, z: Tensor) -> Tensor:
        return 2 * self.layers(z) - 1


@torch.no_grad()
def initialize_(classifier: Classifier, images: Tensor) -> Classifier:
    """Draw directions, then set scales and biases so that every layer's output on ``images`` is standard.

    With v ~ N(0, 0.1), unit i of a layer has mean m and standard deviation s over the images at g = 1, b = 0.
    Its g becomes 1/s and its b becomes -m/s, layer by layer in order. The g of hidden layers stay so: they
    are frozen. A unit that does not vary over the images keeps g = 1.

    Args:
        classifier: changed in place, noise included (in training mode).
        images: a batch of data ``(N, ...)``, at least two.

    Source: Salimans and Kingma 2016 (weight normalization), section 3; v and g as in the authors' code of
    the semi-supervised GAN.
    """
    x = images
    for layer in [*classifier.features, *classifier.head]:
        if isinstance(layer, nn.Linear):
            weight = layer.parametrizations.weight
            scale, direction = weight.original0, weight.original1
            direction.normal_(0.0, 0.1)
            scale.fill_(1.0)
            layer.bias.zero_()
            outputs = layer(x)
            std, mean = torch.std_mean(outputs, 0, correction=0)
            std[std == 0] = 1.0
            scale.copy_(1 / std[:, None])
            layer.bias.copy_(-mean / std)
            scale.requires_grad_(layer is classifier.head[-1])
        x = layer(x)
    return classifier


# The experiment


def networks(images: Tensor, classes: int, budget: Budget) -> tuple[Generator, Classifier]:
    """Both networks, initialised under torch's global seed; the classifier's scales on 500 of ``images``."""
    shape = tuple(images.shape[1:])
    slow = budget is Budget.GPU
    widths = budget.pick(smoke=(32, 16), cpu=(500, 500, 250, 250, 250), gpu=(1000, 500, 250, 250, 250))
    generator = Generator(
        width=budget.pick(smoke=32, cpu=500, gpu=500),
        shape=shape,
        activation=nn.Softplus if slow else nn.ReLU,
    )
    return generator, initialize_(Classifier(shape, classes, widths), images[:500])


def settings(game: Game, steps: int, budget: Budget, seed: int = 0) -> Settings:
    """The authors' at ``gpu``: Adam at 0.003, beta1 0.5, batches of 100, averaged weights."""
    slow = budget is Budget.GPU
    return Settings(
        optimizers=dict.fromkeys(game.turns, adam(3e-3, 0.5)),
        batch_size=budget.pick(smoke=16, cpu=100, gpu=100),
        ema=dict.fromkeys(game.turns, 0.9999 if slow else 0.999),
        schedule=None if slow else LinearDecay(steps // 5, steps),
        seed=seed,
        log_every=budget.pick(smoke=2, cpu=100, gpu=600),
    )


STEPS = {Budget.SMOKE: 4, Budget.CPU: 8500, Budget.GPU: 180_000}
"""Rounds of the game; 180,000 are the authors' 300 epochs."""


NOTE = (
    "For minutes in place of hours: 500 units in the classifier's first layer for 1,000; ReLU in the "
    "generator; 8,500 rounds for 180,000, with learning rates that fall to zero over the last four fifths."
)


@system(
    name="semi-supervised-gan",
    title="Semi-supervised GAN",
    paper="Salimans et al. 2016, Improved Techniques for Training GANs, section 5",
    lectures=("Purdue: Improved Techniques for Training GANs",),
    notebook="09_measuring_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """100 labelled digits, 60,000 without a label, feature matching: permutation-invariant MNIST."""
    chosen = mnist("train", size=28) if data is None else data
    if budget is Budget.SMOKE:
        chosen = Images(*(t[:1000] for t in chosen))
    if chosen.images.dtype == torch.uint8:  # the start looks at pixels
        chosen = chosen._replace(images=to_floats(chosen.images))
    labelled = balanced_subset(chosen, budget.pick(smoke=1, cpu=10, gpu=10))
    generator, classifier = networks(chosen.images, int(chosen.labels.max()) + 1, budget)
    game = SemiSupervisedGAN(generator, classifier, labelled, FeatureMatching(classifier.features))
    # The images alone: from here on nobody can look at a label that was not bought.
    return Experiment(
        game,
        (chosen.images,),
        settings(game, STEPS[budget], budget),
        STEPS[budget],
        evaluate=report(budget) if data is None else None,
        notes=() if budget is Budget.GPU else (NOTE,),
    )


def report(budget: Budget) -> Callable[[Game], dict[str, float]]:
    """The classifier's test error on MNIST in percent, and :func:`ganlib.models.recipes.digit_report`."""
    digits = digit_report(None, budget)

    def figures(game: Game) -> dict[str, float]:
        wrong = error_rate(game.discriminator, mnist("test", size=28))
        return {"test_error_percent": 100 * wrong} | digits(game)

    return figures
