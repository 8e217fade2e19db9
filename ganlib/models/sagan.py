"""SAGAN: residual networks that attend to far places, spectrally normalised on both sides, told the class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.layers import ConditionalBatchNorm, Projection, SelfAttention, spectral_norm
from ganlib.losses import Hinge
from ganlib.models.conditional import ConditionalGAN, conditional_report
from ganlib.models.dcgan import channels_per_level
from ganlib.models.recipes import adam, image_data
from ganlib.models.sngan import normalize_spectrally_
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images

Initialiser = Callable[[Tensor], Any]


class GeneratorBlock(nn.Module):
    r"""A residual block that doubles the side of a map, ``(N, C, H, W)`` -> ``(N, C', 2H, 2W)``.

    .. math:: \uparrow W_s x + W_2 * \phi\, n_2\big( W_1 * \uparrow \phi\, n_1(x) \big)

    with conditional batch norms n, :math:`\phi` the rectifier, nearest-neighbour doubling :math:`\uparrow`,
    3 x 3 convolutions :math:`W_1, W_2` and a 1 x 1 convolution :math:`W_s`.

    Args:
        inputs: C.
        outputs: C'.
        normalize: channels -> their :class:`ganlib.layers.ConditionalBatchNorm`.

    Source: Miyato and Koyama 2018, appendix; Zhang et al. 2019, the authors' published code.
    """

    def __init__(self, inputs: int, outputs: int, normalize: Callable[[int], ConditionalBatchNorm]) -> None:
        super().__init__()
        self.norm1, self.norm2 = normalize(inputs), normalize(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.conv1(F.interpolate(F.relu(self.norm1(x, condition)), scale_factor=2))
        h = self.conv2(F.relu(self.norm2(h, condition)))
        # A 1 x 1 convolution before the doubling does what one after it would, on a quarter of the pixels.
        return h + F.interpolate(self.skip(x), scale_factor=2)


class DiscriminatorBlock(nn.Module):
    r"""A residual block without normalization, ``(N, C, H, W)`` -> ``(N, C', H / 2, W / 2)``.

    .. math:: W_s \downarrow x + \downarrow W_2 * \phi\big( W_1 * \phi(x) \big)

    with means of 2 x 2 pixels for :math:`\downarrow`.

    Args:
        inputs: C.
        outputs: C'.
        halve: False keeps the side; the shortcut is then the identity where C = C'.
        first: True for a network's first block, whose input is an image and is not rectified.

    Source: as of :class:`GeneratorBlock`.
    """

    def __init__(self, inputs: int, outputs: int, *, halve: bool = True, first: bool = False) -> None:
        super().__init__()
        self.halve, self.first = halve, first
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if halve or inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        # Not in place: the shortcut takes x as it is.
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        if self.halve:
            # Means commute with 1 x 1 convolutions, too.
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        return h + self.skip(x)


class Generator(nn.Module):
    r"""Latents ``(N, latent_dim)`` and labels ``(N,)`` -> images ``(N, channels, size, size)`` in [-1, 1].

    A linear layer makes a 4 x 4 map of the latent, each block doubles its side, and a last convolution after
    batch norm ends in tanh. Every weight but the embeddings of classes is spectrally normalised: that G is
    kept smooth too is SAGAN's second finding.

    BigGAN's two changes of the conditioning are options. With ``shared``, one table of class embeddings e(y)
    serves all layers, which turn it into scales and shifts by linear maps. With ``skip_z`` as well, z is cut
    into a part per level: the first makes the 4 x 4 map, part k goes into block k beside the embedding,

    .. math:: g_k(y, z) = W_k \begin{pmatrix} e(y) \\ z_k \end{pmatrix}

    so that latents act at each resolution directly.

    Args:
        latent_dim: length of z.
        widths: channels at 4 x 4, 8 x 8, ..., size.
        classes: number of classes.
        channels: of the images.
        attention: side of the map that a :class:`ganlib.layers.SelfAttention` follows; None for none.
        shared: length of the shared embedding; None gives every layer scales and shifts per class.
        skip_z: whether each block gets a part of z.
        initialize: what draws a weight in place.

    Raises:
        ValueError: if ``latent_dim`` is no multiple of the number of parts, ``skip_z`` comes without
            ``shared``, or no map has the side ``attention``.

    Source: Zhang et al. 2019 and the authors' published code; Brock et al. 2019 (BigGAN), section 3 and
    appendix B. Lecture: Aalto "Self-Attention GAN (SAGAN) (Zhang et al., 2018)".
    """

    def __init__(
        self,
        latent_dim: int,
        widths: Sequence[int],
        classes: int,
        channels: int = 1,
        *,
        attention: int | None = 32,
        shared: int | None = None,
        skip_z: bool = False,
        initialize: Initialiser = nn.init.xavier_uniform_,
    ) -> None:
        super().__init__()
        parts = len(widths) if skip_z else 1
        if latent_dim % parts:
            raise ValueError(f"latent_dim must divide into {parts} parts, got {latent_dim}")
        if skip_z and shared is None:
            raise ValueError("skip_z needs shared, the length of a class embedding to stand beside")
        self.latent_dim, self.part, self.skip_z = latent_dim, latent_dim // parts, skip_z
        length = (shared or 0) + (self.part if skip_z else 0)

        def normalize(width: int) -> ConditionalBatchNorm:
            if shared is None:
                return ConditionalBatchNorm.per_class(width, classes)
            return ConditionalBatchNorm.from_vector(width, length)

        self.embedding = nn.Identity() if shared is None else nn.Embedding(classes, shared)
        self.first = nn.Linear(self.part, widths[0] * 16)
        sides = [8 << level for level in range(len(widths) - 1)]
        self.blocks = nn.ModuleList(GeneratorBlock(*pair, normalize) for pair in pairwise(widths))
        self.attend = _attention(sides, widths[1:], attention)
        self.last = nn.Sequential(
            nn.BatchNorm2d(widths[-1]),
            nn.ReLU(inplace=True),
            nn.Conv2d(widths[-1], channels, 3, padding=1),
            nn.Tanh(),
        )
        _initialize_(self, initialize)
        if shared is not None:
            initialize(self.embedding.weight)
        normalize_spectrally_(self)

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        first, *rest = z.split(self.part, 1)
        classes = self.embedding(labels)
        x = self.first(first).unflatten(1, (-1, 4, 4))
        for level, (block, attend) in enumerate(zip(self.blocks, self.attend, strict=True)):
            condition = torch.cat([classes, rest[level]], 1) if self.skip_z else classes
            x = attend(block(x, condition))
        return self.last(x)


class Discriminator(nn.Module):
    """Images ``(N, channels, size, size)`` and labels ``(N,)`` -> outputs ``(N,)``.

    Residual blocks halve the side, the last ones keep it; features are summed over places and go into a
    :class:`ganlib.layers.Projection`. Every weight is spectrally normalised, and there is no other
    normalization: one sample's output depends on no other's.

    Args:
        widths: channels after each block.
        classes: number of classes.
        channels: of the images.
        size: side of the images.
        keep: how many of the last blocks keep the side.
        attention: side of the map that a :class:`ganlib.layers.SelfAttention` follows; None for none.
        initialize: what draws a weight in place.

    Raises:
        ValueError: if no map has the side ``attention``.

    Source: Miyato and Koyama 2018; Zhang et al. 2019, the authors' published code.
    """

    def __init__(
        self,
        widths: Sequence[int],
        classes: int,
        channels: int = 1,
        size: int = 32,
        *,
        keep: int = 1,
        attention: int | None = 32,
        initialize: Initialiser = nn.init.xavier_uniform_,
    ) -> None:
        super().__init__()
        halvings = len(widths) - keep
        sides = [size >> min(level + 1, halvings) for level in range(len(widths))]
        blocks = [
            DiscriminatorBlock(*pair, halve=level < halvings, first=level == 0)
            for level, pair in enumerate(pairwise([channels, *widths]))
        ]
        layers = [
            layer for pair in zip(blocks, _attention(sides, widths, attention), strict=True) for layer in pair
        ]
        self.features = nn.Sequential(*layers)
        self.judge = Projection(widths[-1], classes)
        _initialize_(self, initialize)
        initialize(self.judge.classes.weight)
        normalize_spectrally_(self)
        spectral_norm(self.judge.classes)

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        h = F.relu(self.features(x)).sum((2, 3), dtype=torch.float32)
        return self.judge(h, labels)


def _attention(sides: Sequence[int], widths: Sequence[int], at: int | None) -> nn.ModuleList:
    """A layer for each map: attention at the first of side ``at``, the identity elsewhere."""
    if at is not None and at not in sides:
        raise ValueError(f"attention must be the side of a map, one of {list(sides)}, got {at}")
    chosen = None if at is None else list(sides).index(at)
    return nn.ModuleList(
        SelfAttention(width) if level == chosen else nn.Identity() for level, width in enumerate(widths)
    )


def _initialize_(module: nn.Module, initialize: Initialiser) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            initialize(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def paper_widths(size: int, width: int) -> tuple[list[int], list[int], int]:
    """Channels of G, of D, and how many blocks of D keep the side, for images of side ``size``.

    At 128, with ch = ``width``: G goes 16, 16, 8, 4, 2, 1 ch from 4 x 4 to 128 x 128, D 1, 2, 4, 8, 16, 16.
    Below 64 all blocks have 4 ch and D stops at 8 x 8, as for CIFAR-10.

    Raises:
        ValueError: unless ``size`` is a power of two from 16 to 512.

    Source: Zhang et al. 2019, the authors' published code (128); Brock et al. 2019, appendix B and the first
    author's published code (the others; 16 by analogy).
    """
    multiples = {
        16: ((4, 4, 4), (4, 4, 4)),
        32: ((4, 4, 4, 4), (4, 4, 4, 4)),
        64: ((16, 16, 8, 4, 2), (1, 2, 4, 8, 16)),
        128: ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16)),
        256: ((16, 16, 8, 8, 4, 2, 1), (1, 2, 4, 8, 8, 16, 16)),
        512: ((16, 16, 8, 8, 4, 2, 1, 1), (1, 1, 2, 4, 8, 8, 16, 16)),
    }
    if size not in multiples:
        raise ValueError(f"size must be one of {list(multiples)}, got {size}")
    generator, discriminator = ([m * width for m in side] for side in multiples[size])
    return generator, discriminator, 2 if size < 64 else 1


def paper_networks(
    size: int, channels: int, classes: int, width: int = 64
) -> tuple[Generator, Discriminator]:
    """The networks of :func:`paper_widths`, 128 latents, attention at 32 x 32 in both.

    Images below 64 x 64 have it at half their side.
    """
    widths, judging, keep = paper_widths(size, width)
    at = min(32, size // 2)
    return (
        Generator(128, widths, classes, channels, attention=at),
        Discriminator(judging, classes, channels, size, keep=keep, attention=at),
    )


def small_widths(size: int, width: int) -> tuple[list[int], list[int], int]:
    """The same for a laptop: ``width`` channels at the largest maps, doubled at each halving down to 8 x 8.

    Raises:
        ValueError: unless ``size`` is a power of two of at least 8.
    """
    levels = channels_per_level(width, size)
    return [levels[-1], *levels[::-1]], levels, 1


@system(
    name="sagan",
    title="Self-attention GAN",
    paper="Zhang et al. 2019, Self-Attention Generative Adversarial Networks",
    lectures=("Aalto: Self-Attention GAN (SAGAN) (Zhang et al., 2018)",),
    notebook="14_attention_and_style.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Hinge loss, two time scales: Adam at 1e-4 for G and 4e-4 for D, betas (0, 0.9), on ``gpu``."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    classes = int(images.labels.max()) + 1
    slow = budget is Budget.GPU
    steps = budget.pick(smoke=4, cpu=1300, gpu=100_000)
    if slow:
        networks = paper_networks(size, channels, classes)
    else:
        widths, judging, keep = small_widths(size, budget.pick(smoke=8, cpu=16, gpu=16))
        at = max(8, size // 2)
        networks = (
            Generator(64, widths, classes, channels, attention=at),
            Discriminator(judging, classes, channels, size, keep=keep, attention=at),
        )
    return Experiment(
        ConditionalGAN(*networks, Hinge(), n_critic=1 if slow else 2, classes=classes),
        images,
        Settings(
            optimizers={
                "discriminator": adam(4e-4 if slow else 2e-3, 0.0, 0.9),
                "generator": adam(1e-4 if slow else 2e-3, 0.0, 0.9),
            },
            batch_size=budget.pick(smoke=16, cpu=64, gpu=256),
            ema={"generator": 0.999},
            schedule=None if slow else LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=conditional_report(data, budget),
        notes=()
        if slow
        else (
            "For minutes in place of days: 64, 64, 32 and 16 channels; 64 latents; batches of 64; two steps "
            "of D per step of G at one rate, 2e-3, in place of two rates; falling to zero over the last "
            "three fifths; averaged generator weights; attention at 16 x 16.",
            "Settings chosen on seed 0 with its FID in view.",
        ),
    )
