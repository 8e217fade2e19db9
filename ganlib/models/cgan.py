"""CGAN, the first GAN that was told what to draw: the label is one more input of both networks.

Twice: the paper's perceptrons, where the label has a door of its own, and DCGAN's networks, where it stands
beside z in the generator and beside the image in the discriminator.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.data import Images, mnist
from ganlib.losses import NonSaturating
from ganlib.models import dcgan
from ganlib.models.conditional import ConditionalGAN, conditional_report
from ganlib.models.gan import Maxout
from ganlib.models.recipes import image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game

TRAIN = 50_000  # MNIST's first images; the other 10,000 choose the width of the Parzen window
# Ten widths from 0.1 to 1 in the published program, here with two more between each neighbours.
SIGMAS = tuple(torch.logspace(-1, 0, 28, dtype=torch.float64).tolist())


class Generator(nn.Module):
    r"""Latents ``(N, latent_dim)`` and labels ``(N,)`` -> images ``(N, channels, size, size)`` in [-1, 1].

    DCGAN's generator of the vector :math:`[z, e_y]`, with a learnt :math:`e_y` for every class.

    Args:
        classes: number of classes.
        latent_dim: length of z.
        label_dim: length of a class's vector.
        width: as of :class:`ganlib.models.dcgan.Generator`.
        channels: of the images.
        size: side of the images, a power of two of at least 8.

    Source: Mirza and Osindero 2014, section 3.2 (z and y joined); networks: Radford et al. 2015.
    """

    def __init__(
        self,
        classes: int,
        latent_dim: int = 64,
        label_dim: int = 16,
        width: int = 32,
        channels: int = 1,
        size: int = 32,
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(classes, label_dim)
        self.layers = dcgan.Generator(latent_dim + label_dim, width, channels, size)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return self.layers(torch.cat([z, self.embedding(labels).to(z.dtype)], 1))


class Discriminator(nn.Module):
    r"""Images ``(N, channels, size, size)`` and labels ``(N,)`` -> logits ``(N,)``.

    DCGAN's discriminator of an image with one more channel: a learnt plane ``(size, size)`` for every class.
    Joined before the first layer, image and label go through all of them together; joined before the last,
    which is linear, they would add up, and a sum cannot say whether the two fit.

    Args:
        classes: number of classes.
        width: as of :class:`ganlib.models.dcgan.Discriminator`.
        channels: of the images.
        size: side of the images, a power of two of at least 8.

    Source: Mirza and Osindero 2014, section 3.2 (x and y are inputs of D); networks: Radford et al. 2015.
    """

    def __init__(self, classes: int, width: int = 32, channels: int = 1, size: int = 32) -> None:
        super().__init__()
        self.planes = nn.Embedding(classes, size * size)
        self.layers = dcgan.Discriminator(width, channels + 1, size)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        plane = self.planes(labels).to(x.dtype).view(-1, 1, *x.shape[2:])
        return self.layers(torch.cat([x, plane], 1))


class MLPGenerator(nn.Module):
    r"""Latents ``(N, latent_dim)`` and labels ``(N,)`` -> images ``(N, *shape)`` in [-1, 1].

    .. math:: h = \phi\big( W [\phi(W_z z),\ \phi(W_y e_y)] \big), \qquad G(z, y) = \tanh(W_x h)

    with rectifiers :math:`\phi`, :math:`e_y` the unit vector of class y and biases left out: z and y enter by
    doors of their own and meet in the second layer. A linear map of a unit vector is one column of its
    matrix, so that the label's door is a table of ten vectors.

    Args:
        classes: number of classes.
        latent_dim: length of z.
        widths: units behind z, behind y, and where they meet.
        shape: of an image.

    Source: Mirza and Osindero 2014, section 4.1, with tanh for the sigmoid because our pixels lie in [-1, 1],
    and without its dropout, a second noise beside z that would be missing when samples are drawn.
    Lectures: OUC "Conditional GAN"; Purdue "Conditional Generative Adversarial Networks".
    """

    def __init__(
        self,
        classes: int,
        latent_dim: int = 100,
        widths: tuple[int, int, int] = (200, 1000, 1200),
        shape: tuple[int, ...] = (1, 32, 32),
    ) -> None:
        super().__init__()
        behind_z, behind_y, joint = widths
        self.latent_dim, self.classes = latent_dim, classes
        self.from_z = nn.Linear(latent_dim, behind_z)
        self.from_y = nn.Linear(classes, behind_y)
        self.joint = nn.Sequential(
            nn.ReLU(inplace=True),
            nn.Linear(behind_z + behind_y, joint),
            nn.ReLU(inplace=True),
            nn.Linear(joint, math.prod(shape)),
            nn.Tanh(),
            nn.Unflatten(1, shape),
        )

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        y = F.one_hot(labels, self.classes).to(z.dtype)
        return self.joint(torch.cat([self.from_z(z), self.from_y(y)], 1))


class MLPDiscriminator(nn.Module):
    r"""Images ``(N, *shape)`` and labels ``(N,)`` -> logits ``(N,)``; a large one says "real, and a y".

    .. math:: \ell(x, y) = w^\top m\big( [m_x(x),\ m_y(e_y)] \big)

    with :class:`ganlib.models.gan.Maxout` layers m and dropout before those that see hidden units. The joint
    layer is what can tell a good 3 from a good 7 *given* y: a sum of a score of x and a score of y could not.

    Args:
        classes: number of classes.
        widths: units behind x, behind y, and where they meet.
        pieces: linear maps per unit of the same three layers.
        shape: of an image.
        dropout: share of the units left out before the joint layer and before the last.

    Source: Mirza and Osindero 2014, section 4.1.
    """

    def __init__(
        self,
        classes: int,
        widths: tuple[int, int, int] = (240, 50, 240),
        pieces: tuple[int, int, int] = (5, 5, 4),
        shape: tuple[int, ...] = (1, 32, 32),
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        behind_x, behind_y, joint = widths
        self.classes = classes
        self.from_x = nn.Sequential(nn.Flatten(), Maxout(math.prod(shape), behind_x, pieces[0]))
        self.from_y = Maxout(classes, behind_y, pieces[1])
        self.joint = nn.Sequential(
            nn.Dropout(dropout),
            Maxout(behind_x + behind_y, joint, pieces[2]),
            nn.Dropout(dropout),
            nn.Linear(joint, 1),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        y = F.one_hot(labels, self.classes).to(x.dtype)
        return self.joint(torch.cat([self.from_x(x), self.from_y(y)], 1))


def parzen_report(game: ConditionalGAN, budget: Budget) -> dict[str, float]:
    """The paper's table 1: Parzen log-likelihood of MNIST's test set under samples of every class alike.

    A thousand samples of each digit, the padding cut off and pixels in [0, 1]; the kernel's width is the best
    for the first thousand of the 10,000 training images that :data:`TRAIN` leaves. Figures:
    ``log_likelihood`` in nats, its ``standard_error`` over the test images, ``sigma``.
    """
    from ganlib.metrics import parzen_log_likelihood, parzen_sigma

    def pixels(split: str, start: int, stop: int) -> Tensor:
        return (mnist(split, size=28).images[start:stop] + 1) / 2

    n = budget.pick(smoke=100, cpu=10_000, gpu=10_000)
    labels = torch.arange(n, device=game.device) % game.classes
    samples = game.sample(n, torch.Generator().manual_seed(0), labels).cpu()[..., 2:-2, 2:-2]
    samples = (samples + 1) / 2
    sigma = parzen_sigma(samples, pixels("train", TRAIN, TRAIN + min(n, 1000)), SIGMAS)
    found = parzen_log_likelihood(samples, pixels("test", 0, n), sigma)
    return {"log_likelihood": found.mean, "standard_error": found.error, "sigma": sigma}


def report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """FID, the share of digits that are those asked for, and the paper's figure; None for other data."""
    conditional = conditional_report(data, budget)
    if conditional is None:
        return None
    return lambda game: conditional(game) | parzen_report(game, budget)


@system(
    name="cgan",
    title="Conditional GAN",
    paper="Mirza and Osindero 2014, Conditional Generative Adversarial Nets",
    lectures=("OUC: Conditional GAN", "Purdue: Conditional Generative Adversarial Networks"),
    notebook="10_conditioning.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Labels joined to DCGAN's networks, DCGAN's settings, on the 50,000 digits of Parzen's figure."""
    train = Images(*(part[:TRAIN] for part in mnist("train"))) if data is None else data
    images = image_data(train, budget)
    channels, size = images.images.shape[1:3]
    classes = int(images.labels.max()) + 1
    width = budget.pick(smoke=8, cpu=32, gpu=128)
    steps = budget.pick(smoke=6, cpu=3600, gpu=50_000)
    slow = budget is Budget.GPU
    game = ConditionalGAN(
        Generator(classes, budget.pick(smoke=16, cpu=64, gpu=100), 16, width, channels, size),
        Discriminator(classes, width, channels, size),
        NonSaturating(real_label=1.0 if slow else 0.9),
        classes=classes,
    )
    return Experiment(
        game,
        images,
        dcgan.settings(budget, steps),
        steps=steps,
        evaluate=report(data, budget),
        notes=(
            "Convolutional networks in place of the paper's perceptrons, which did not come near in minutes.",
            "Normal latents in place of uniform ones. MNIST: trained on the first 50,000 images; the others "
            "choose the kernel's width.",
            *(() if slow else ("For minutes in place of hours: the settings of system dcgan.",)),
        ),
    )
