"""The robustness grid of the WGAN-GP paper: seven architectures, and the methods that must cope with each.

An architecture is a function that makes both networks, a method everything else, and :func:`play` puts one
of each together. Rows and columns of the lectures' slide are then the keys of two dictionaries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganlib.losses import (
    R1,
    R2,
    GradientPenalty,
    Hinge,
    LeastSquares,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)
from ganlib.models.dcgan import channels_per_level, initialize_
from ganlib.models.gan import GAN, AdversarialLoss, Regularizer
from ganlib.models.recipes import adam
from ganlib.models.sngan import normalize_spectrally_
from ganlib.models.wgan import WGAN
from ganlib.training.settings import OptimizerFactory

Normalize = Callable[[int], nn.Module]
Activation = Callable[[], nn.Module]


LeakyReLU = partial(nn.LeakyReLU, 0.2)


@dataclass(frozen=True)
class Shape:
    """How large the networks of a row are; the architectures differ in nothing else that is a number.

    Attributes:
        latent_dim: length of z.
        width: channels at half the final resolution; twice as many at each level below.
        channels: of the images.
        size: side of the images, a power of two of at least 8.
        hidden: units in each layer of the perceptron.
        depth: layers of each residual network, 3 b + 2 for b blocks; at least a block per doubling.
    """

    latent_dim: int = 128
    width: int = 64
    channels: int = 1
    size: int = 32
    hidden: int = 512
    depth: int = 101

    @property
    def widths(self) -> list[int]:
        """Channels at 4 x 4, 8 x 8, ..., size/2."""
        return channels_per_level(self.width, self.size)[::-1]


class Gated(nn.Module):
    r"""The gated multiplicative nonlinearity :math:`\sigma(a) \tanh(b)`, ``(N, 2C, ...)`` -> ``(N, C, ...)``.

    a and b are the two halves of the channels: the second is the signal, the first how much of it passes.

    Source: van den Oord et al. 2016, "Conditional Image Generation with PixelCNN Decoders", section 2.1.
    """

    def forward(self, x: Tensor) -> Tensor:
        gate, value = x.chunk(2, dim=1)
        return torch.sigmoid(gate) * torch.tanh(value)


def layer_norm(channels: int) -> nn.Module:
    """Normalize each sample over channels and positions together, one scale and shift per channel.

    What the paper puts in place of batch norm where a penalty asks for a sample's own gradient.
    """
    return nn.GroupNorm(1, channels)


class Generator(nn.Module):
    """DCGAN's generator with exchangeable parts, ``(N, latent_dim)`` -> images in [-1, 1].

    Args:
        shape: sizes.
        activation: after each layer but the last; :class:`Gated` doubles the channels before it.
        normalize: before each activation, None for nothing.
        constant: the same number of filters, ``shape.width``, at every resolution.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        activation: Activation = nn.ReLU,
        normalize: Normalize | None = nn.BatchNorm2d,
        constant: bool = False,
    ) -> None:
        super().__init__()
        self.latent_dim = shape.latent_dim
        widths = [shape.width] * len(shape.widths) if constant else shape.widths
        fold = _fold(activation)
        layers: list[nn.Module] = [
            nn.Linear(shape.latent_dim, 16 * fold * widths[0]),
            nn.Unflatten(1, (fold * widths[0], 4, 4)),
            *_then(fold * widths[0], activation, normalize),
        ]
        for inputs, outputs in pairwise(widths):
            layers += [
                nn.ConvTranspose2d(inputs, fold * outputs, 4, 2, 1),
                *_then(fold * outputs, activation, normalize),
            ]
        layers += [nn.ConvTranspose2d(widths[-1], shape.channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Discriminator(nn.Module):
    """DCGAN's discriminator with exchangeable parts, images -> outputs ``(N,)``.

    Arguments as of :class:`Generator`; the first layer is not normalized.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        activation: Activation = LeakyReLU,
        normalize: Normalize | None = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        fold = _fold(activation)
        layers: list[nn.Module] = []
        widths = [shape.channels, *shape.widths[::-1]]
        for inputs, outputs in pairwise(widths):
            layers += [
                nn.Conv2d(inputs, fold * outputs, 4, 2, 1),
                *_then(fold * outputs, activation, normalize if layers else None),
            ]
        layers += [nn.Flatten(), nn.Linear(16 * widths[-1], 1), nn.Flatten(0)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Perceptron(nn.Module):
    """Four rectifier layers, ``(N, latent_dim)`` -> images in [-1, 1], blind to neighbourhood."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.latent_dim = shape.latent_dim
        layers: list[nn.Module] = []
        for inputs in (shape.latent_dim, *[shape.hidden] * 3):
            layers += [nn.Linear(inputs, shape.hidden), nn.ReLU()]
        image = (shape.channels, shape.size, shape.size)
        layers += [nn.Linear(shape.hidden, math.prod(image)), nn.Tanh(), nn.Unflatten(1, image)]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Bottleneck(nn.Module):
    r"""A residual block of three convolutions, :math:`s(x) + 0.3 f(x)`: narrow, 3 x 3, wide again.

    The factor 0.3 keeps the sum of many blocks in bounds.

    Args:
        inputs, outputs: channels.
        normalize: at the end of f, None for nothing.
        middle: the 3 x 3 convolution, ``inputs // 2`` -> ``outputs // 2`` channels, which may resample.
        shortcut: s, which resamples as ``middle`` does.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        normalize: Normalize | None,
        middle: nn.Module,
        shortcut: nn.Module,
    ) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.branch = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(inputs, inputs // 2, 1),
            nn.ReLU(),
            middle,
            nn.ReLU(),
            nn.Conv2d(outputs // 2, outputs, 1, bias=normalize is None),
            *([] if normalize is None else [normalize(outputs)]),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + 0.3 * self.branch(x)


class ResNetGenerator(nn.Module):
    """Bottlenecks from 4 x 4 up to the image, ``(N, latent_dim)`` -> images in [-1, 1]."""

    def __init__(self, shape: Shape, *, normalize: Normalize | None = nn.BatchNorm2d) -> None:
        super().__init__()
        self.latent_dim = shape.latent_dim
        widths = [*shape.widths, max(2, shape.width // 2)]
        blocks: list[nn.Module] = []
        for count, (inputs, outputs) in zip(_blocks(shape), pairwise([*widths, 0]), strict=True):
            blocks += [_same(inputs, normalize) for _ in range(count)]
            blocks += [_up(inputs, outputs, normalize)] if outputs else []
        self.enter = nn.Sequential(
            nn.Linear(shape.latent_dim, 16 * widths[0]), nn.Unflatten(1, (widths[0], 4, 4))
        )
        self.blocks = nn.Sequential(*blocks)
        self.leave = nn.Conv2d(widths[-1], shape.channels, 1)

    def forward(self, z: Tensor) -> Tensor:
        # The paper's code divides by 5 here and at the critic's end, against large outputs at the start.
        return torch.tanh(self.leave(self.blocks(self.enter(z))) / 5)


class ResNetDiscriminator(nn.Module):
    """Bottlenecks from the image down to 4 x 4, images -> outputs ``(N,)``."""

    def __init__(self, shape: Shape, *, normalize: Normalize | None = nn.BatchNorm2d) -> None:
        super().__init__()
        widths = [max(2, shape.width // 2), *shape.widths[::-1]]
        blocks: list[nn.Module] = []
        for count, (inputs, outputs) in zip(_blocks(shape)[::-1], pairwise([*widths, 0]), strict=True):
            blocks += [_same(inputs, normalize) for _ in range(count)]
            blocks += [_down(inputs, outputs, normalize)] if outputs else []
        self.enter = nn.Conv2d(shape.channels, widths[0], 1)
        self.blocks = nn.Sequential(*blocks)
        self.leave = nn.Sequential(nn.Flatten(), nn.Linear(16 * widths[-1], 1), nn.Flatten(0))

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.blocks(self.enter(x))) / 5


def _fold(activation: Activation) -> int:
    return 2 if activation is Gated else 1


def _then(channels: int, activation: Activation, normalize: Normalize | None) -> list[nn.Module]:
    return [*([] if normalize is None else [normalize(channels)]), activation()]


def _same(channels: int, normalize: Normalize | None) -> nn.Module:
    half = channels // 2
    return Bottleneck(channels, channels, normalize, nn.Conv2d(half, half, 3, 1, 1), nn.Identity())


def _up(inputs: int, outputs: int, normalize: Normalize | None) -> nn.Module:
    middle = nn.ConvTranspose2d(inputs // 2, outputs // 2, 3, 2, 1, output_padding=1)
    shortcut = nn.Sequential(nn.Conv2d(inputs, 4 * outputs, 1), nn.PixelShuffle(2))
    return Bottleneck(inputs, outputs, normalize, middle, shortcut)


def _down(inputs: int, outputs: int, normalize: Normalize | None) -> nn.Module:
    middle = nn.Conv2d(inputs // 2, outputs // 2, 3, 2, 1)
    return Bottleneck(inputs, outputs, normalize, middle, nn.Conv2d(inputs, outputs, 1, 2))


def _blocks(shape: Shape) -> list[int]:
    """Blocks without resampling at 4 x 4, 8 x 8, ..., size: as even as can be, the coarse levels first."""
    levels = len(shape.widths)
    total, rest = divmod(shape.depth - 2, 3)
    if rest or total < levels:
        raise ValueError(
            f"depth must be 3 b + 2 for b of at least {levels} blocks at size {shape.size}, got {shape.depth}"
        )
    each, more = divmod(total - levels, levels + 1)
    return [each + (level < more) for level in range(levels + 1)]


def he_(module: nn.Module) -> nn.Module:
    r"""Draw weights from :math:`N(0, 2/n)` for n inputs per output, which rectifiers keep in scale; biases 0.

    A transposed convolution of stride s reaches an output by a share :math:`1/s^2` of its taps.

    Source: He et al. 2015, "Delving Deep into Rectifiers", eq. 10.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            inputs = float(layer.in_features)
        elif isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            inputs = layer.in_channels * math.prod(layer.kernel_size)
            if isinstance(layer, nn.ConvTranspose2d):
                inputs /= math.prod(layer.stride)
        else:
            continue
        nn.init.normal_(layer.weight, 0.0, math.sqrt(2 / inputs))
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


# Architectures: (shape, the normalization of D) -> (G, D)

Networks = tuple[nn.Module, nn.Module]


def baseline(shape: Shape, normalize: Normalize | None) -> Networks:
    """DCGAN on both sides."""
    return initialize_(Generator(shape)), initialize_(Discriminator(shape, normalize=normalize))


def constant_filters(shape: Shape, normalize: Normalize | None) -> Networks:
    """G without batch norm and with the same few filters everywhere, against DCGAN's D."""
    generator = Generator(shape, normalize=None, constant=True)
    return he_(generator), initialize_(Discriminator(shape, normalize=normalize))


def perceptron(shape: Shape, normalize: Normalize | None) -> Networks:
    """A G of four fully connected rectifier layers, against DCGAN's D."""
    return he_(Perceptron(shape)), initialize_(Discriminator(shape, normalize=normalize))


def unnormalized(shape: Shape, normalize: Normalize | None) -> Networks:
    """DCGAN without any normalization; ``normalize`` is not used.

    At the paper's width of 64 to 512 and kernels of 5 x 5, DCGAN's deviation of 0.02 is close to He's. In
    narrower networks it would let the signal die out layer by layer, with nothing here to restore it.
    """
    return he_(Generator(shape, normalize=None)), he_(Discriminator(shape, normalize=None))


def gated(shape: Shape, normalize: Normalize | None) -> Networks:
    """DCGAN with gates in place of every rectifier."""
    discriminator = Discriminator(shape, activation=Gated, normalize=normalize)
    return he_(Generator(shape, activation=Gated)), he_(discriminator)


def tanh(shape: Shape, normalize: Normalize | None) -> Networks:
    """DCGAN with tanh in place of every rectifier."""
    discriminator = Discriminator(shape, activation=nn.Tanh, normalize=normalize)
    return initialize_(Generator(shape, activation=nn.Tanh)), initialize_(discriminator)


def resnet(shape: Shape, normalize: Normalize | None) -> Networks:
    """Residual networks of ``shape.depth`` layers on both sides."""
    return he_(ResNetGenerator(shape)), he_(ResNetDiscriminator(shape, normalize=normalize))


@dataclass(frozen=True)
class Architecture:
    """A row of the grid: what the slide calls it, and what makes it."""

    title: str
    networks: Callable[[Shape, Normalize | None], Networks]


ARCHITECTURES = {
    "dcgan": Architecture("Baseline (G: DCGAN, D: DCGAN)", baseline),
    "constant": Architecture("G: No BN and a constant number of filters, D: DCGAN", constant_filters),
    "mlp": Architecture("G: 4-layer 512-dim ReLU MLP, D: DCGAN", perceptron),
    "unnormalized": Architecture("No normalization in either G or D", unnormalized),
    "gated": Architecture("Gated multiplicative nonlinearities everywhere in G and D", gated),
    "tanh": Architecture("tanh nonlinearities everywhere in G and D", tanh),
    "resnet": Architecture("101-layer ResNet G and D", resnet),
}


@dataclass(frozen=True)
class Method:
    """A column of the grid: all that is not an architecture.

    Attributes:
        title: for people.
        loss: both sides of it.
        optimizer: factor on the paper's learning rate -> what makes either player's optimizer.
        regularizers: penalties on D.
        n_critic: D's steps per step of G.
        normalize: D's normalization where the architecture has one; None for none.
        clip: bound on D's weights after each of its steps, None for no bound.
        spectral: divide each of D's weights by its largest singular value.
    """

    title: str
    loss: AdversarialLoss
    optimizer: Callable[[float], OptimizerFactory]
    regularizers: tuple[Regularizer, ...] = ()
    n_critic: int = 1
    normalize: Normalize | None = nn.BatchNorm2d
    clip: float | None = None
    spectral: bool = False


def _rmsprop(rate: float) -> OptimizerFactory:
    return partial(torch.optim.RMSprop, lr=rate)


METHODS = {
    # The paper's four, with the optimizers and rates of its published code.
    "gan": Method("DCGAN", NonSaturating(), lambda k: adam(2e-4 * k, 0.5)),
    "lsgan": Method("LSGAN", LeastSquares(), lambda k: _rmsprop(1e-4 * k)),
    "wgan": Method("WGAN (clipping)", Wasserstein(), lambda k: _rmsprop(5e-5 * k), n_critic=5, clip=0.01),
    "wgan-gp": Method(
        "WGAN-GP",
        Wasserstein(),
        lambda k: adam(1e-4 * k, 0.0, 0.9),
        (GradientPenalty(),),
        n_critic=5,
        normalize=layer_norm,
    ),
    # Three that came after it, each as in its own paper.
    "sn": Method(
        "SN (hinge)",
        Hinge(),
        lambda k: adam(2e-4 * k, 0.0, 0.9),
        n_critic=5,
        normalize=None,
        spectral=True,
    ),
    "r1": Method("R1", NonSaturating(), lambda k: _rmsprop(1e-4 * k), (R1(),), normalize=layer_norm),
    "r1-r2": Method(
        "Relativistic, R1 + R2",
        RelativisticPairing(),
        lambda k: adam(2e-4 * k, 0.0, 0.99),
        (R1(1.0), R2(1.0)),
        normalize=layer_norm,
    ),
}  # fmt: skip


def play(architecture: str, method: str, shape: Shape, n_critic: int | None = None) -> GAN:
    """The game of one cell: networks of ``architecture``, everything else of ``method``.

    Batch norm stays out of every D with a penalty: each sample's own slope is penalised, and batch norm mixes
    samples. Layer norm takes its place, as in the paper; a D with spectral normalization has no other.

    Args:
        architecture: key of :data:`ARCHITECTURES`.
        method: key of :data:`METHODS`.
        shape: sizes.
        n_critic: steps of D per step of G, None for the method's own.

    Raises:
        ValueError: for unknown names.

    Source: Gulrajani et al. 2017, figure 2, and the published code. Lectures: Aalto "Generated samples"; OUC
    "Improved WGAN"; UBC.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {list(ARCHITECTURES)}, got {architecture!r}")
    if method not in METHODS:
        raise ValueError(f"method must be one of {list(METHODS)}, got {method!r}")
    how = METHODS[method]
    generator, discriminator = ARCHITECTURES[architecture].networks(shape, how.normalize)
    if how.spectral:
        normalize_spectrally_(discriminator)
    turns = how.n_critic if n_critic is None else n_critic
    if how.clip is not None:
        return WGAN(generator, discriminator, how.clip, turns, how.regularizers)
    return GAN(generator, discriminator, how.loss, how.regularizers, turns)
