r"""The variational autoencoder: an explicit density, known up to a bound, and what independent pixels cost.

.. math:: \log p(x) \ge E_{q(z|x)} \log p(x|z) - KL(q(z|x) \,\|\, p(z)) = \mathrm{ELBO}(x)

The first term is the likelihood's, :class:`Bernoulli` or :class:`Gaussian`, both of *independent* pixels
given z; the second is :func:`kl_to_prior`. All is in nats per image: sums over pixels and over latents.
Means over them, as often seen, weigh the two terms against each other as no probability does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ganlib.models.dcgan import Encoder, Generator
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.random import normal, uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images

LOG_2PI = math.log(2 * math.pi)


# p(x | z)


class Bernoulli(nn.Module):
    r"""Each pixel black or white, its probability of white the sigmoid of the decoder's output.

    .. math:: \log p(x|z) = \sum_i x_i \log \pi_i + (1 - x_i) \log(1 - \pi_i), \qquad \pi = \sigma(\ell)

    Pixels in [-1, 1] are read as :math:`x = (\text{pixel} + 1)/2`. A grey value then is a probability, too:
    the sum is the mean of :math:`\log p` over pictures whose pixels are drawn white with probability x. So on
    grey digits an ELBO with this likelihood bounds the mean log-likelihood of such drawn ("binarised")
    digits, for q may be any density of z, also one that has seen the grey ones.

    Source: Kingma and Welling 2014, appendix C.1. Lecture: MIT, the slide after "Recap: Variational
    Autoencoder (VAE)", which asks what a reconstruction loss implies.
    """

    def log_prob(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Log-probability in nats of each image, ``(N,)``, given logits of the images' shape ``(N, ...)``."""
        logits, targets = _floats(outputs, images)
        return (
            -binary_cross_entropy_with_logits(logits, (targets + 1) / 2, reduction="none").flatten(1).sum(1)
        )

    def mean(self, outputs: Tensor) -> Tensor:
        """The mean image in [-1, 1]: 2 sigmoid(l) - 1 = tanh(l / 2)."""
        return (outputs.float() / 2).tanh()

    def sample(self, outputs: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """One black (-1) and white (1) image for each row of logits."""
        drawn = uniform(*outputs.shape, device=outputs.device, rng=rng)
        return torch.where(drawn < outputs.float().sigmoid(), 1.0, -1.0)


class Gaussian(nn.Module):
    r"""Each pixel normal about the decoder's output, with one standard deviation for all.

    .. math:: \log p(x|z) = -\frac{\|x - g(z)\|^2}{2 \sigma^2} - \frac n2 \log(2 \pi \sigma^2)

    A density, in the units of the pixels: in [-1, 1] it is lower by n log 2 than in [0, 1]. With sigma given
    the reconstruction term is a squared error and sigma its exchange rate against the KL term; learnt, it
    settles at the root mean square error, and whoever minimises "MSE + KL" has chosen sigma without noticing.

    Args:
        sigma: standard deviation, positive; where it starts if learnt.
        learnt: whether sigma is a parameter.

    Raises:
        ValueError: if ``sigma`` is not positive.

    Lecture: Aalto, the opening slides: :math:`N(x_i | g(z_i, \theta), \sigma^2 I)`.
    """

    def __init__(self, sigma: float = 1.0, *, learnt: bool = False) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma must be positive, got {sigma}")
        self.log_sigma = nn.Parameter(torch.tensor(math.log(sigma)), requires_grad=learnt)

    def log_prob(self, outputs: Tensor, images: Tensor) -> Tensor:
        """Log-density in nats of each image, ``(N,)``, given means of the images' shape ``(N, ...)``."""
        means, targets = _floats(outputs, images)
        error = ((targets - means) * (-self.log_sigma).exp()).flatten(1)
        return -error.square().sum(1) / 2 - error.shape[1] * (self.log_sigma + LOG_2PI / 2)

    def mean(self, outputs: Tensor) -> Tensor:
        """The outputs themselves."""
        return outputs.float()

    def sample(self, outputs: Tensor, rng: torch.Generator | None = None) -> Tensor:
        """The outputs with noise; not confined to [-1, 1]."""
        return outputs.float() + self.log_sigma.exp() * normal(*outputs.shape, device=outputs.device, rng=rng)


def _floats(outputs: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    # float64 stays; what autocast made bfloat16 has too few digits for a sum over a thousand pixels.
    if outputs.shape != images.shape:
        raise ValueError(f"outputs must be {tuple(images.shape)} as the images, got {tuple(outputs.shape)}")
    dtype = torch.promote_types(torch.float32, torch.promote_types(outputs.dtype, images.dtype))
    return outputs.to(dtype), images.to(dtype)


# q(z | x)


def kl_to_prior(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""KL(q || p) in nats of q = N(mean, diag(variance)) from the prior p = N(0, I), summed over latents.

    .. math:: \frac12 \sum_j \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2

    Args:
        mean: ``(N, d)``.
        log_variance: :math:`\log \sigma^2`, of the same shape.

    Returns:
        ``(N,)``, not negative.

    Source: Kingma and Welling 2014, appendix B.
    """
    return (mean.square() + log_variance.expm1() - log_variance).sum(1) / 2


def reparametrise(mean: Tensor, log_variance: Tensor, rng: torch.Generator | None = None) -> Tensor:
    r"""Draw :math:`z = \mu + \sigma \epsilon` with :math:`\epsilon \sim N(0, I)`: ``(N, d)``.

    The randomness is drawn beside the graph, so z has the slopes 1 by the mean and :math:`\epsilon` by sigma,
    and an encoder learns through the sample.

    Source: Kingma and Welling 2014, section 2.4.
    """
    noise = normal(*mean.shape, device=mean.device, rng=rng).to(mean.dtype)
    return mean + (log_variance / 2).exp() * noise


class VAE(Game):
    r"""A decoder p(x|z) and an encoder q(z|x), one player: both ascend the same bound.

    .. math:: \mathrm{ELBO}(x) = E_{q(z|x)} \log p(x|z) - KL(q(z|x) \,\|\, N(0, I)) \le \log p(x)

    The loss is minus the ELBO, in its two terms: ``reconstruction`` and ``kl``, nats per image.

    Args:
        encoder: images ``(N, ...)`` -> ``(N, 2 d)``: means of q(z|x), then the logarithms of its variances.
        decoder: ``(N, d)`` -> what the likelihood takes; has an attribute ``latent_dim``, d.
        likelihood: p(x|z).

    Source: Kingma and Welling 2014, eq. 10 with one sample. Lectures: MIT "Recap: Variational Autoencoder
    (VAE)"; OUC "Variational Autoencoder(VAE)"; Aalto, opening slides.
    """

    def __init__(self, encoder: nn.Module, decoder: nn.Module, likelihood: Bernoulli | Gaussian) -> None:
        super().__init__()
        self.turns = {"autoencoder": 1}
        self.encoder, self.decoder, self.likelihood = encoder, decoder, likelihood

    @property
    def players(self) -> dict[str, nn.Module]:
        return {"autoencoder": nn.ModuleList([self.encoder, self.decoder, self.likelihood])}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {name: term.mean() for name, term in self.bound(batch[0]).items()}

    def bound(self, images: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Minus the ELBO of each image in its two terms, ``(N,)`` each, with one draw of z."""
        mean, log_variance = self.encode(images)
        outputs = self.decoder(reparametrise(mean, log_variance, rng))
        return {
            "reconstruction": -self.likelihood.log_prob(outputs, images),
            "kl": kl_to_prior(mean, log_variance),
        }

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Means and logarithms of the variances of q(z|x), ``(N, d)`` each, at least float32.

        Raises:
            ValueError: if the encoder's outputs are not two for each latent of the decoder.
        """
        outputs = self.encoder(images)
        if outputs.ndim != 2 or outputs.shape[1] != 2 * self.decoder.latent_dim:
            wanted = (len(images), 2 * self.decoder.latent_dim)
            raise ValueError(f"the encoder must give {wanted}, got {tuple(outputs.shape)}")
        return outputs.to(torch.promote_types(torch.float32, outputs.dtype)).chunk(2, dim=1)

    def reconstruct(self, images: Tensor) -> Tensor:
        """The mean image of p(x|z) at the mean of q(z|x), in evaluation mode."""
        with self.evaluating():
            return torch.cat(
                [self.likelihood.mean(self.decoder(self.encode(part)[0])) for part in images.split(500)]
            )

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Latents :math:`z \\sim N(0, I)`, ``(n, latent_dim)``."""
        return normal(n, self.decoder.latent_dim, device=self.device, rng=rng)

    def sample(
        self, n: int, rng: torch.Generator | None = None, batch_size: int = 500, *, noisy: bool = False
    ) -> Tensor:
        """Draw z and show the mean of p(x|z), as is usual; ``noisy`` draws x from it, as the model does.

        The means are *not* samples of the model whose likelihood was bounded, only better to look at.
        """
        draw = partial(self.likelihood.sample, rng=rng) if noisy else self.likelihood.mean
        z = self.latent(n, rng)
        with self.evaluating():
            return torch.cat([draw(self.decoder(part)) for part in z.split(batch_size)])


def log_likelihood(
    game: VAE, images: Tensor, k: int = 64, rng: torch.Generator | None = None, batch_size: int = 2000
) -> Tensor:
    r"""The importance-weighted bound on log p(x), nats per image; with k = 1 its mean is the ELBO.

    .. math:: E_{z_1..z_k \sim q(z|x)} \log \frac1k \sum_{i=1}^k \frac{p(x|z_i) \, p(z_i)}{q(z_i|x)}

    It grows with k towards :math:`\log p(x)`. Where q is the posterior every weight *is* p(x), and one draw
    is exact; elsewhere what it gains over the ELBO is a lower bound on the ELBO's gap.

    Args:
        game: a VAE.
        images: ``(N, ...)``.
        k: draws per image, at least 1.
        rng: of the draws; torch's global state if None.
        batch_size: decoder passes at once.

    Returns:
        ``(N,)``.

    Raises:
        ValueError: if ``k`` is less than 1.

    Source: Burda et al. 2016, eq. 8 and theorem 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    found = []
    with game.evaluating():
        for part in images.split(max(1, batch_size // k)):
            mean, log_variance = (t.repeat_interleave(k, 0) for t in game.encode(part))
            z = reparametrise(mean, log_variance, rng)
            # log p(z) - log q(z|x), in which the two log 2 pi cancel
            standard = (z - mean) * (-log_variance / 2).exp()
            log_ratio = (standard.square() + log_variance - z.square()).sum(1) / 2
            log_weight = game.likelihood.log_prob(game.decoder(z), part.repeat_interleave(k, 0)) + log_ratio
            found.append(log_weight.unflatten(0, (-1, k)).logsumexp(1) - math.log(k))
    return torch.cat(found)


def active_latents(game: VAE, images: Tensor, threshold: float = 0.01) -> int:
    r"""How many latents the encoder uses: the variance over the images of :math:`\mu_j(x)` is above 0.01.

    The others carry no news of x: their q is the prior, and the decoder has learnt not to look at them.

    Source: Burda et al. 2016, section 5.2.
    """
    with game.evaluating():
        means = torch.cat([game.encode(part)[0] for part in images.split(500)])
    return int((means.var(0) > threshold).sum())


# Blur


def sharpness(images: Tensor) -> Tensor:
    r"""Root mean square spatial frequency of each image, ``(N,)``, in radians per pixel.

    .. math:: \Big( \sum_p \frac{(x_{p + e_1} - x_p)^2 + (x_{p + e_2} - x_p)^2}{\sum_p (x_p - \bar x)^2}
        \Big)^{1/2}

    Blurring damps high frequencies more than low ones, so it lowers this, and noise raises it; contrast and
    brightness leave it alone. A wave of frequency w along an axis has 2 sin(w/2). Borders are joined.

    Args:
        images: ``(N, C, H, W)``; none of one value alone.

    Raises:
        ValueError: for another shape.
    """
    if images.ndim != 4:
        raise ValueError(f"images must be (N, C, H, W), got {tuple(images.shape)}")
    x = images.double()
    steps = sum((x.roll(-1, dim) - x).square() for dim in (2, 3))
    spread = (x - x.mean((2, 3), keepdim=True)).square()
    return (steps.sum((1, 2, 3)) / spread.sum((1, 2, 3))).sqrt()


def sign_code(images: Tensor, bits: int) -> Tensor:
    """A coarse code: on which side of the mean each image lies along the first ``bits`` principal axes.

    One more bit splits every cell of the code before in two.

    Args:
        images: ``(N, ...)``, N at least 2.
        bits: from 0, the same code for all, to at most 30.

    Returns:
        int64 ``(N,)`` in 0 .. 2^bits - 1, the first axis the highest bit.

    Raises:
        ValueError: if ``bits`` is out of range, or larger than the number of pixels.
    """
    rows = images.flatten(1).double()
    if not 0 <= bits <= min(30, rows.shape[1]):
        raise ValueError(f"bits must be in 0..{min(30, rows.shape[1])}, got {bits}")
    centred = rows - rows.mean(0)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors.flip(1)[:, :bits]
    # An axis has no sign of its own: its largest entry shall be positive.
    largest = axes.abs().argmax(0)
    axes = axes * axes[largest, torch.arange(bits, device=axes.device)].sign()
    places = 2 ** torch.arange(bits - 1, -1, -1, device=rows.device)
    return ((centred @ axes > 0) * places).sum(1)


def best_pictures(images: Tensor, codes: Tensor) -> Tensor:
    r"""The image that a decoder of independent pixels must answer to each image's code: the mean of its cell.

    .. math:: \arg\max_\pi \; E \Big[ \sum_i \log p(x_i | \pi_i(c)) \Big] = E[x | c]

    for the :class:`Bernoulli` and for the :class:`Gaussian` alike, pixel by pixel. What the code leaves open
    comes out as grey: two shifted strokes as two faint ones, and many as a blur. No network can do better.

    Args:
        images: ``(N, ...)``.
        codes: what the decoder is told, integers ``(N,)``, not negative.

    Returns:
        of the images' shape: for each image the mean over all images with its code.

    Raises:
        ValueError: if the codes are not N integers, or one is negative.
    """
    if codes.shape != images.shape[:1] or codes.is_floating_point() or codes.is_complex():
        raise ValueError(f"codes must be {len(images)} integers, got {codes.dtype} {tuple(codes.shape)}")
    if int(codes.min()) < 0:
        raise ValueError(f"codes must not be negative, got {int(codes.min())}")
    cells, cell = codes.unique(return_inverse=True)
    sums = torch.zeros(len(cells), *images.shape[1:], dtype=torch.float64, device=images.device)
    sums.index_add_(0, cell, images.double())
    counts = torch.bincount(cell).view(-1, *[1] * (images.ndim - 1))
    return (sums / counts).to(images.dtype)[cell]


# On images


def logits_of(generator: Generator) -> Generator:
    """The DCGAN generator without its tanh, changed in place: a decoder of logits with the same weights."""
    del generator.layers[-1]
    return generator


def report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """The bound, on test digits, and the samples' figures; None for other data.

    ``elbo`` is a mean over the test set, ``importance_bound`` (k = 64) over its first 500 digits and
    ``importance_gain`` what it is above the ELBO of the same. ``fid`` is of the means of p(x|z),
    ``fid_noisy`` of draws from it. Each ``sharpness`` is the mean over images, in that of the test digits.
    """
    digits = digit_report(data, budget)
    if digits is None:
        return None
    count, few, k = budget.pick(smoke=(100, 20, 4), cpu=(10_000, 500, 64), gpu=(10_000, 1000, 1000))

    def figures(game: Game) -> dict[str, float]:
        from ganlib.data import mnist
        from ganlib.metrics import ClassifierFeatures, psnr

        held_out = mnist("test")
        images, labels = (t[:count].to(game.device) for t in held_out)
        rng = torch.Generator().manual_seed(0)
        with game.evaluating():
            parts = [game.bound(part, rng) for part in images.split(500)]
        terms = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        elbo = -(terms["reconstruction"] + terms["kl"])
        bound = log_likelihood(game, images[:few], k, rng)
        again = game.reconstruct(images)
        recognised = ClassifierFeatures().to(game.device).predict(again) == labels
        noisy = SimpleNamespace(device=game.device, sample=partial(game.sample, noisy=True))
        grain = digits(noisy)
        sharp = sharpness(images).mean()
        samples = game.sample(few, torch.Generator().manual_seed(1))
        values = {
            "elbo": elbo.mean(),
            "reconstruction": terms["reconstruction"].mean(),
            "kl": terms["kl"].mean(),
            "importance_bound": bound.mean(),
            "importance_gain": (bound - elbo[:few]).mean(),
            "reconstruction_psnr": psnr(again, images).mean(),
            "same_digit": recognised.double().mean(),
            "sharpness_samples": sharpness(samples).mean() / sharp,
            "sharpness_reconstructions": sharpness(again).mean() / sharp,
        }
        return (
            digits(game)
            | {"fid_noisy": grain["fid"], "fid_noisy_over_floor": grain["fid_over_floor"]}
            | {name: float(value) for name, value in values.items()}
            | {"active_latents": active_latents(game, images)}
        )

    return figures


@system(
    name="vae",
    title="Variational autoencoder",
    paper="Kingma and Welling 2014, Auto-Encoding Variational Bayes",
    lectures=(
        "MIT: Recap: Variational Autoencoder (VAE)",
        "OUC: Variational Autoencoder(VAE)",
        "Aalto: Generative adversarial networks (GAN)",
    ),
    notebook="11_latent_spaces.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """A Bernoulli VAE whose decoder is system ``dcgan``'s generator and whose encoder is its mirror image."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    latent_dim = budget.pick(smoke=64, cpu=64, gpu=100)
    steps = budget.pick(smoke=6, cpu=3400, gpu=50_000)
    game = VAE(
        Encoder(2 * latent_dim, width, channels, size),
        logits_of(Generator(latent_dim, width, channels, size)),
        Bernoulli(),
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers={"autoencoder": adam(budget.pick(smoke=2e-3, cpu=2e-3, gpu=1e-3), 0.9)},
            batch_size=budget.pick(smoke=16, cpu=64, gpu=128),
            ema={"autoencoder": 0.999},
            schedule=LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=report(data, budget),
        notes=(
            "The decoder is the dcgan recipe's generator and the encoder its mirror image, in place of the "
            "paper's networks of one hidden layer of 500 units; Adam in place of Adagrad.",
            "Grey values are taken as probabilities: the ELBO bounds the mean log-likelihood of digits whose "
            "pixels are drawn black or white with them.",
        ),
    )
