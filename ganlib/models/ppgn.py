"""Plug and play: a generator that is told no class, a classifier that cannot draw, a walk that joins them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from ganlib.layers import mixes_samples
from ganlib.losses import NonSaturating
from ganlib.models.conditional import check_labels
from ganlib.models.dcgan import Discriminator, Generator, channels_per_level, settings
from ganlib.models.gan import AdversarialLoss
from ganlib.models.recipes import adam, image_data
from ganlib.random import normal, uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, LinearDecay

if TYPE_CHECKING:
    from ganlib.data import Images

LogCondition = Callable[[Tensor], Tensor]
"""Images ``(N, C, H, W)`` -> log C of each, ``(N,)``, up to a constant; gradients reach the images."""


# The sampler


def langevin_step(
    h: Tensor,
    generator: Callable[[Tensor], Tensor],
    encoder: Callable[[Tensor], Tensor],
    log_condition: LogCondition | None,
    *,
    eps1: float,
    eps2: float,
    eps3: float,
    rng: torch.Generator | None = None,
) -> Tensor:
    r"""One step in the space of codes: towards likely codes, towards what was asked for, and at random.

    .. math:: h_{t+1} = h_t + \epsilon_1 \big( R(h_t) - h_t \big)
              + \epsilon_2 \frac{\partial \log C(G(h_t))}{\partial h_t} + N(0, \epsilon_3^2),
              \qquad R(h) = E(G(h))

    R is an autoencoder of codes, turned inside out: it decodes first. Trained to take noise of standard
    deviation :math:`\sigma` off h it returns the mean of the clean codes given the noisy one, and then

    .. math:: R(h) - h = \sigma^2 \, \frac{\partial \log p_\sigma(h)}{\partial h},

    the slope of the log-density of noisy codes. So at the rates of :func:`langevin_rates` the first two terms
    climb :math:`\log p_\sigma(h) + \log C(G(h))`, and the noise makes a sampler of what would otherwise be a
    search.

    Args:
        h: codes ``(N, d)``.
        generator: G, codes -> images ``(N, ...)``; the identity to walk among images themselves.
        encoder: E, images -> codes.
        log_condition: images -> log C, ``(N,)``, up to a constant; None for no condition.
        eps1: weight of the prior.
        eps2: weight of the condition.
        eps3: standard deviation of the noise.
        rng: of the noise; torch's global state if None.

    Returns:
        The next codes ``(N, d)``, without a graph. Networks ought to be in evaluation mode.

    Source: Nguyen et al. 2017, eq. 11; the slope of the density: Alain and Bengio 2014, "What Regularized
    Auto-Encoders Learn from the Data-Generating Distribution". Lecture: OUC "PPGN".
    """
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        x = generator(h)
        slope = None
        if log_condition is not None and eps2:
            (slope,) = torch.autograd.grad(log_condition(x).sum(), h)
    with torch.no_grad():
        step = eps3 * normal(*h.shape, device=h.device, rng=rng).to(h.dtype)
        if eps1:
            step = step + eps1 * (encoder(x) - h)
        if slope is not None:
            step = step + eps2 * slope
        return h + step


def langevin(
    h: Tensor,
    generator: Callable[[Tensor], Tensor],
    encoder: Callable[[Tensor], Tensor],
    log_condition: LogCondition | None,
    *,
    steps: int,
    eps1: float,
    eps2: float,
    eps3: float,
    rng: torch.Generator | None = None,
) -> Tensor:
    """A chain of :func:`langevin_step` from each of the codes ``(N, d)``: every state, ``(steps + 1, N, d)``.

    The relatives of the paper are its settings: DGN-AM has no prior and no noise, ``eps1 = eps3 = 0``; PPGN-x
    walks among images, with the identity for G and a denoising autoencoder of images for E.

    Raises:
        ValueError: if ``steps`` is less than 1 or h is not ``(N, d)``.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if h.ndim != 2:
        raise ValueError(f"h must be (N, d), got {tuple(h.shape)}")
    rates = {"eps1": eps1, "eps2": eps2, "eps3": eps3}
    chain = [h.detach()]
    for _ in range(steps):
        chain.append(langevin_step(chain[-1], generator, encoder, log_condition, **rates, rng=rng))
    return torch.stack(chain)


def langevin_rates(eps1: float, noise: float) -> dict[str, float]:
    r"""The rates with which :func:`langevin_step` samples from :math:`p_\sigma(h) \, C(G(h))`.

    .. math:: \epsilon_2 = \epsilon_1 \sigma^2, \qquad \epsilon_3^2 = 2 \epsilon_1 \sigma^2

    With these a step is Langevin's, half a step size times the slope of the log-density and noise of the step
    size's variance, :math:`2 \epsilon_1 \sigma^2`; exact as :math:`\epsilon_1 \to 0`, for nothing is ever
    rejected. The paper leaves all three free, and takes far less noise.

    Args:
        eps1: weight of the prior, positive.
        noise: :math:`\sigma` of the denoiser, positive.

    Raises:
        ValueError: unless both are positive.
    """
    if not (eps1 > 0 and noise > 0):
        raise ValueError(f"eps1 and noise must be positive, got {eps1} and {noise}")
    return {"eps1": eps1, "eps2": eps1 * noise**2, "eps3": noise * math.sqrt(2 * eps1)}


# Conditions to plug in


def of_class(classifier: Callable[[Tensor], Tensor], labels: Tensor) -> LogCondition:
    r"""log C of a class per image: :math:`\log \mathrm{softmax}(\ell(x))_y` for logits of ``classifier``.

    The whole gradient, :math:`e_y - p` in the logits. (The authors' code keeps the entry of y alone, which
    raises the logit of y and leaves those of its rivals.)

    Args:
        classifier: images -> logits ``(N, classes)``.
        labels: what is asked for, int64 ``(N,)``.
    """

    def log_condition(images: Tensor) -> Tensor:
        logits = classifier(images)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return -cross_entropy(logits, labels, reduction="none")

    return log_condition


def of_strokes(**wanted: tuple[float, float]) -> LogCondition:
    r"""log C of how digits look, no network in it: :math:`-\sum_k (a_k(x) - m_k)^2 / 2 s_k^2`.

    Args:
        wanted: m and s by attribute of :class:`ganlib.metrics.Strokes`, such as ``slant=(20, 5)``: s, in the
            attribute's unit, says how much it matters.

    Raises:
        ValueError: without attributes, for unknown ones, or if an s is not positive.
    """
    from ganlib.metrics import Strokes, strokes

    if not wanted or not wanted.keys() <= set(Strokes._fields):
        raise ValueError(f"need at least one of {', '.join(Strokes._fields)}, got {list(wanted)}")
    for name, (_, spread) in wanted.items():
        if not spread > 0:
            raise ValueError(f"{name} must have a positive spread, got {spread}")

    def log_condition(images: Tensor) -> Tensor:
        # A trace of ink everywhere: a black image has no slant, and its slope would not be a number.
        found = strokes(images.clamp(min=-1 + 2e-5))
        return -sum((getattr(found, k) - m).square() / (2 * s**2) for k, (m, s) in wanted.items())

    return log_condition


def of_pixels(images: Tensor, known: Tensor, sigma: float = 1.0) -> LogCondition:
    r"""log C of a part of an image: :math:`-\sum_{\text{known}} (x - x_0)^2 / 2 \sigma^2`, for filling in.

    Args:
        images: :math:`x_0`, ``(N, C, H, W)`` or one for all.
        known: where they count, boolean ``(H, W)``.
        sigma: how far a pixel may be off, positive.

    Raises:
        ValueError: if ``sigma`` is not positive.

    Source: Nguyen et al. 2017, eq. 12, where it is a fourth term of the step, with a rate of its own.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive, got {sigma}")

    def log_condition(x: Tensor) -> Tensor:
        return -((x - images) * known).square().sum((1, 2, 3)) / (2 * sigma**2)

    return log_condition


# The game

WEIGHTS = {"adversarial": 1.0, "image": 10.0, "features": 1.0, "code": 5.0}
"""Of the generator's terms."""

RATES = {"eps1": 0.5, "eps2": 3.0, "eps3": 0.5}
"""Of the walk, for codes of unit variance.

The first and the last are :func:`langevin_rates` of a noise of 0.5; the second is 24 times theirs. So the
walk heads for the density of codes times the 24th power of C, and is short.
"""

STEPS = 25


class PPGN(Game):
    r"""Joint PPGN-h: a generator of images from codes, the encoder whose codes they are, and a classifier.

    .. math::
        L_G = \lambda_a L_{adv}\big(D(\hat x)\big) + \lambda_x \overline{(\hat x - x)^2}
              + \lambda_1 \overline{(E_1(\hat x) - E_1(x))^2} + \lambda_h \overline{(E(\hat x) - h)^2},
        \qquad h = E(x), \quad \hat x = G(h + \sigma n)

    with means over all entries, and n standard normal. Four players, a turn each per round:

    - ``encoder``, a classifier of its own: E is its code, two layers before the logits, :math:`E_1` its
      convolutions. It learns to classify real images and nothing else, so that no code ever bends to what G
      can draw: in the turns of D and G it stands still, with its running statistics.
    - ``condition``, C: a second classifier, of its own weights. It has no part in the training of the others.
    - ``discriminator`` and ``generator``: a GAN whose fakes are reconstructions. They are handed no label;
      what they know of classes is what a code holds.

    In the paper E was trained beforehand. Here it learns in the same rounds, as every player of a game; its
    codes are standardised (batch norm without scale or shift), a digit classifier has most of its accuracy
    after a few hundred rounds, and its rate falls to zero with the others': what G follows soon stands still.

    The term of the code makes :math:`R = E \circ G` a denoiser of codes, and R is the sampler's only
    knowledge of which codes there are; see :func:`langevin_step`. Without it and without noise this is the
    *noiseless* variant, the paper's choice for its best pictures, in which nothing trains R to denoise.

    Args:
        generator: codes ``(N, latent_dim)`` -> images; has an attribute ``latent_dim``.
        discriminator: images -> logits.
        encoder: a :class:`Classifier`, or another with its ``body``, ``code``, ``encode``.
        condition: images -> logits ``(N, classes)``.
        loss: both sides of the adversarial loss.
        classes: how many; labels are int64 in 0..classes - 1.
        noise: :math:`\sigma`, not negative; in units of the codes' standard deviation.
        weights: of the terms ``adversarial``, ``image``, ``features`` and ``code``, not negative; one that is
            missing counts as 0.

    Raises:
        ValueError: if ``noise`` or a weight is negative, a weight is of no term, or ``classes`` less than 1.

    Source: Nguyen et al. 2017, sections 3.4 (joint) and 3.5 (noiseless). Lecture: OUC "PPGN".
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        encoder: nn.Module,
        condition: nn.Module,
        loss: AdversarialLoss,
        *,
        classes: int,
        noise: float = 0.5,
        weights: Mapping[str, float] = WEIGHTS,
    ) -> None:
        super().__init__()
        if classes < 1:
            raise ValueError(f"classes must be at least 1, got {classes}")
        if not noise >= 0:
            raise ValueError(f"noise must be at least 0, got {noise}")
        if not weights.keys() <= WEIGHTS.keys() or not all(w >= 0 for w in weights.values()):
            raise ValueError(f"weights must be of {', '.join(WEIGHTS)} and not negative, got {dict(weights)}")
        self.generator, self.discriminator = generator, discriminator
        self.encoder, self.condition = encoder, condition
        self.adversarial, self.classes = loss, classes
        self.noise, self.weights = noise, dict(weights)
        self.turns = {"encoder": 1, "condition": 1, "discriminator": 1, "generator": 1}
        self.separate_passes = mixes_samples(discriminator)

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real, labels = batch
        if player in ("encoder", "condition"):
            classifier = self.players[player].train()
            return {"classification": cross_entropy(classifier(real).float(), labels)}
        # Batch norm would read the fakes' statistics into the codes, and keep them.
        self.encoder.eval()
        with torch.no_grad():
            features = self.encoder.body(real)
            code = self.encoder.code(features).float()
            noisy = code + self.noise * normal(*code.shape, device=code.device)
        if player == "discriminator":
            return self.discriminator_terms(real, noisy)
        return self.generator_terms(real, features, code, noisy)

    def discriminator_terms(self, real: Tensor, noisy: Tensor) -> dict[str, Tensor]:
        """The adversarial loss on images and on their reconstructions from noisy codes."""
        with torch.no_grad():
            fake = self.generator(noisy).to(real.dtype)
        if self.separate_passes:
            outputs = self.discriminator(real), self.discriminator(fake)
        else:
            outputs = self.discriminator(torch.cat([real, fake])).chunk(2)
        return {"adversarial": self.adversarial.discriminator(*outputs)}

    def generator_terms(
        self, real: Tensor, features: Tensor, code: Tensor, noisy: Tensor
    ) -> dict[str, Tensor]:
        """The four terms of the generator's loss, those of weight 0 left out."""
        fake = self.generator(noisy)
        again = self.encoder.body(fake)
        terms = {
            "adversarial": lambda: self.adversarial.generator(self.discriminator(fake)),
            "image": lambda: mse_loss(fake.float(), real.float()),
            "features": lambda: mse_loss(again.float(), features.float()),
            "code": lambda: mse_loss(self.encoder.code(again).float(), code),
        }
        return {name: weight * terms[name]() for name, weight in self.weights.items() if weight}

    def walk(
        self,
        h: Tensor,
        log_condition: LogCondition | None,
        *,
        steps: int = STEPS,
        eps1: float = RATES["eps1"],
        eps2: float = RATES["eps2"],
        eps3: float = RATES["eps3"],
        rng: torch.Generator | None = None,
    ) -> Tensor:
        """:func:`langevin` with this game's G and E, in evaluation mode: ``(steps + 1, N, latent_dim)``."""
        rates = {"eps1": eps1, "eps2": eps2, "eps3": eps3}
        with self.evaluating():
            return langevin(
                h, self.generator, self.encoder.encode, log_condition, steps=steps, **rates, rng=rng
            )

    def draw(self, h: Tensor, batch_size: int = 500) -> Tensor:
        """G of codes ``(..., latent_dim)``, such as a whole :meth:`walk`: float32 ``(..., C, H, W)``."""
        with self.evaluating():
            images = [self.generator(part).float() for part in h.flatten(0, -2).split(batch_size)]
        return torch.cat(images).unflatten(0, h.shape[:-1])

    def sample(
        self,
        n: int,
        rng: torch.Generator | None = None,
        labels: Tensor | None = None,
        batch_size: int = 500,
        *,
        start: Tensor | None = None,
        log_condition: LogCondition | None = None,
        steps: int = STEPS,
        eps1: float = RATES["eps1"],
        eps2: float = RATES["eps2"],
        eps3: float = RATES["eps3"],
    ) -> Tensor:
        """Draw ``n`` images: the ends of :meth:`walk`, ``batch_size`` chains at a time.

        Args:
            n: how many.
            rng: of starts, labels and noise; torch's global state if None.
            labels: what to draw, int64 ``(n,)``. If None, drawn uniformly; nothing, if there is a
                ``log_condition``.
            batch_size: chains side by side.
            start: codes ``(n, latent_dim)`` to start from; standard normal if None.
            log_condition: another condition, plugged in beside the labels' or in its place. It is handed the
                images of one batch.
            steps, eps1, eps2, eps3: as of :func:`langevin`.

        Raises:
            ValueError: if ``labels`` are not n integers in range, or ``start`` is of another shape.
        """
        if labels is None and log_condition is None:
            labels = (self.classes * uniform(n, device=self.device, rng=rng)).long()
        if labels is not None:
            check_labels(labels, n, self.classes)
        shape = (n, self.generator.latent_dim)
        h = normal(*shape, device=self.device, rng=rng) if start is None else start.to(self.device)
        if h.shape != shape:
            raise ValueError(f"start must be {shape}, got {tuple(h.shape)}")
        how = {"steps": steps, "eps1": eps1, "eps2": eps2, "eps3": eps3, "rng": rng}
        images = []
        for rows in torch.arange(n, device=self.device).split(batch_size):
            asked = None if labels is None else of_class(self.condition, labels.to(self.device)[rows])
            images.append(self.draw(self.walk(h[rows], both(asked, log_condition), **how)[-1]))
        return torch.cat(images)


def both(first: LogCondition | None, second: LogCondition | None) -> LogCondition | None:
    """The condition that both hold, as independent ones: log C adds up."""
    if first is None or second is None:
        return first or second
    return lambda images: first(images) + second(images)


# The networks


class Classifier(nn.Module):
    """Images ``(N, channels, size, size)`` -> class logits ``(N, classes)``, with a code on the way.

    Attributes:
        body: strided convolutions with batch norm down to 4 x 4, as the DCGAN's discriminator has them; its
            maps are what the paper calls h1.
        code: a linear layer and batch norm without scale or shift -> ``(N, code_dim)``, each entry of mean 0
            and variance 1 over the data. Rates and noise of a walk have one meaning for every entry, and for
            every encoder.
        head: a hidden layer between code and logits. Codes just before the logits would keep the class of an
            image and forget the rest.

    Args:
        width: channels after the first convolution; twice as many at each level below.
        code_dim: length of the code.
        classes: number of logits.
        channels: of the images.
        size: side of the images, a power of two of at least 8.
    """

    def __init__(self, width: int, code_dim: int, classes: int, channels: int = 1, size: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = channels
        for outputs in channels_per_level(width, size):
            convolution = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2, inplace=True)]
            inputs = outputs
        self.body = nn.Sequential(*layers)
        linear = nn.Linear(16 * inputs, code_dim, bias=False)
        self.code = nn.Sequential(nn.Flatten(), linear, nn.BatchNorm1d(code_dim, affine=False))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(code_dim, code_dim), nn.ReLU(), nn.Linear(code_dim, classes)
        )

    def encode(self, images: Tensor) -> Tensor:
        """The code, ``(N, code_dim)``."""
        return self.code(self.body(images))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.encode(images))


# The recipe


def within_class_distance(images: Tensor, labels: Tensor) -> float:
    """Mean perceptual distance between images of one class, each with the next of its class.

    How different the images of a class are. Noise makes them different too: read it beside a measure of how
    good they are.

    Args:
        images: digits ``(N, 1, 32, 32)`` in [-1, 1].
        labels: ``(N,)``, those asked for or those recognised.

    Raises:
        ValueError: if no class has two images.
    """
    from ganlib.metrics import PerceptualDistance

    order = labels.argsort(stable=True)
    alike = labels[order][1:] == labels[order][:-1]
    if not alike.any():
        raise ValueError(f"need two images of one class, got labels {labels.tolist()}")
    first, second = images[order][:-1][alike], images[order][1:][alike]
    distance = PerceptualDistance().to(images.device)
    with torch.no_grad():
        parts = zip(first.split(500), second.split(500), strict=True)
        return torch.cat([distance(*part) for part in parts]).mean().item()


WITHOUT = {
    "without_prior": {"eps1": 0.0},
    "without_condition": {"eps2": 0.0},
    "without_noise": {"eps3": 0.0},
}
"""Name -> what is changed: one term of :func:`langevin_step` left out."""


def report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """The figures of a PPGN on MNIST; None for other data.

    The judge of all of them, :class:`ganlib.metrics.ClassifierFeatures`, has had no part in the training, nor
    is it C: a walk up the slope of a classifier ends where that classifier is content, which proves nothing.

    ``fid_2000``, its ``floor``, and ``over_floor``: as of :func:`ganlib.models.recipes.digit_report`, but of
    so many samples and, for the floor, as many test digits.
    ``requested_accuracy``: share recognised as the digit asked for; ``guide_accuracy``: what C says.
    ``distance``, ``real_distance``: :func:`within_class_distance` by recognised class; of test digits.
    ``precision``, ``coverage``: :func:`ganlib.metrics.manifold_scores` beside test digits.
    ``noise_left``: share of the noise's squares that R leaves in codes of test digits.
    ``without_...``: accuracy, distance and precision with one term left out, on fewer chains.
    """
    if data is not None:
        return None

    def figures(game: Game) -> dict[str, float]:
        from ganlib.data import mnist
        from ganlib.metrics import ClassifierFeatures, fid, manifold_scores, mnist_moments

        n, few = budget.pick(smoke=(100, 20), cpu=(2000, 400), gpu=(10_000, 2000))
        judge = ClassifierFeatures().to(game.device)
        digits = mnist("test")
        real = digits.images[:n].to(game.device)
        labels = torch.arange(n, device=game.device) % game.classes

        def judged(images: Tensor) -> dict[str, float]:
            found = judge.predict(images)
            with torch.no_grad():
                scores = manifold_scores(judge(real), judge(images))
            return {
                "requested_accuracy": (found == labels[: len(found)]).double().mean().item(),
                "distance": within_class_distance(images, found),
                "precision": scores.precision,
                "coverage": scores.coverage,
            }

        def draw(n: int, **how: float) -> Tensor:
            return game.sample(n, torch.Generator().manual_seed(0), labels[:n], **how)

        images = draw(n)
        fids = [fid(x, mnist_moments("train"), judge) for x in (images, real)]
        with game.evaluating():
            guide = torch.cat([game.condition(part).argmax(1) for part in images.split(500)])
        rows = {name: judged(draw(few, **change)) for name, change in WITHOUT.items()}
        return {
            f"fid_{n}": fids[0],
            f"fid_{n}_floor": fids[1],
            f"fid_{n}_over_floor": fids[0] / fids[1],
            **judged(images),
            "guide_accuracy": (guide == labels).double().mean().item(),
            "real_distance": within_class_distance(real, digits.labels[:n].to(real.device)),
            "noise_left": noise_left(game, real),
            **{f"{row}_{k}": v for row, f in rows.items() for k, v in f.items() if k != "coverage"},
            "samples": n,
        }

    return figures


def noise_left(game: PPGN, images: Tensor, seed: int = 0) -> float:
    r"""Mean of :math:`(R(h + \sigma n) - h)^2 / \sigma^2` over codes h of images; 1 for R(h) = h.

    Raises:
        ValueError: if the game has no noise.
    """
    if not game.noise:
        raise ValueError("game must have noise, got noise=0")
    rng = torch.Generator().manual_seed(seed)
    with game.evaluating():
        h = torch.cat([game.encoder.encode(part) for part in images.split(500)])
        noisy = h + game.noise * normal(*h.shape, device=h.device, rng=rng)
        again = torch.cat([game.encoder.encode(game.generator(part)) for part in noisy.split(500)])
    return mse_loss(again, h).item() / game.noise**2


@system(
    name="ppgn",
    title="Plug and play generative network",
    paper="Nguyen et al. 2017, Plug & Play Generative Networks",
    lectures=("OUC: PPGN",),
    notebook="11_latent_spaces.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Joint PPGN-h with the DCGAN's networks, an encoder and a condition of half their width."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    classes = int(images.labels.max()) + 1
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    code_dim = budget.pick(smoke=16, cpu=64, gpu=128)
    steps = budget.pick(smoke=6, cpu=2200, gpu=50_000)
    slow = budget is Budget.GPU
    common = settings(budget, steps)
    encoder, condition = (Classifier(width // 2, code_dim, classes, channels, size) for _ in range(2))
    game = PPGN(
        Generator(code_dim, width, channels, size),
        Discriminator(width, channels, size),
        encoder,
        condition,
        NonSaturating(real_label=1.0 if slow else 0.9),
        classes=classes,
    )
    return Experiment(
        game,
        images,
        replace(
            common,
            optimizers={"encoder": adam(1e-3, 0.9), "condition": adam(1e-3, 0.9), **common.optimizers},
            schedule=LinearDecay(2 * steps // 5, steps),
        ),
        steps=steps,
        evaluate=report(data, budget),
        notes=(
            "The paper's E, h and C are AlexNet, trained on ImageNet beforehand, its layer fc6, and AlexNet "
            "again; here two small classifiers, which learn in the same rounds as the others. Of the joint "
            "variant's three noises that on the code is kept; weights of the losses and rates of the walk "
            "are ours, for codes of unit variance.",
            "Settings chosen on seed 0 with these figures in view.",
        ),
    )
