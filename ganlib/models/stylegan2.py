"""StyleGAN2: styles scale weights instead of maps, penalties come late but strong, and nothing grows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    MinibatchStd,
    ModulatedConv2d,
    NoiseInjection,
    blur,
    upsample,
)
from ganlib.layers.modulated import smooth
from ganlib.losses import R1, Lazy, NonSaturating, PathLength
from ganlib.models import stylegan
from ganlib.models.gan import GAN
from ganlib.models.progan import GrowingGAN, channels_per_level
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.models.stylegan import Generator, MappingNetwork, SynthesisNetwork
from ganlib.random import normal
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Growth, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


# Layers of a generator, with the signatures that :class:`ganlib.models.stylegan.SynthesisNetwork` asks for


class DemodulatedConv2d(nn.Module):
    r"""A 3 x 3 convolution scaled by a style, then noise, bias, leaky ReLU (0.2) times :math:`\sqrt 2`.

    Everything that a style scales is inside its convolution, and what follows is in scale with unit
    deviation. The factor gives back what the rectifier takes.

    Args:
        inputs, outputs: channels.
        w_dim: length of w.
        up: double height and width first.

    Source: Karras et al. 2020, section 2.2 and figure 2d; one noise strength per layer as in the authors'
    code. Lecture: Aalto "StyleGAN improves the quality of generated images" (the slides after it).
    """

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, outputs, 3, w_dim, up=up)
        self.noise = NoiseInjection()
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(N, inputs, H, W)``, w ``(N, w_dim)``, noise ``(N, 1, H', W')`` -> ``(N, outputs, H', W')``."""
        x = self.noise(self.convolution(x, w), noise)
        return F.leaky_relu(x + self.bias.to(x.dtype)[:, None, None], 0.2) * math.sqrt(2)


class PlainConstant(nn.Module):
    """The network's input, a learned map of 4 x 4 without noise or style; standard normal at the start.

    Source: Karras et al. 2020, section 2.1 (figure 2c: what can go without loss).
    """

    styled = False

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, channels, 4, 4))

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(N, channels, 4, 4)``, N the length of ``w``; nothing else is used."""
        return self.constant.expand(len(w), -1, -1, -1)


class ModulatedToImage(nn.Module):
    """Feature maps to pixels: a 1 x 1 convolution scaled by a style and not demodulated, and a bias.

    Source: Karras et al. 2020, figure 7, and the authors' code.
    """

    def __init__(self, inputs: int, channels: int, w_dim: int) -> None:
        super().__init__()
        self.convolution = ModulatedConv2d(inputs, channels, 1, w_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` and w ``(N, w_dim)`` -> ``(N, channels, H, W)``."""
        x = self.convolution(x, w)
        return x + self.bias.to(x.dtype)[:, None, None]


LAYERS = {"convolution": DemodulatedConv2d, "constant": PlainConstant, "image": ModulatedToImage}
"""What a synthesis network is made of from configuration B on."""


def demodulated_synthesis(widths: Sequence[int], w_dim: int, channels: int = 3) -> SynthesisNetwork:
    """StyleGAN's synthesis network, growing as it did, with weight demodulation in place of AdaIN.

    Source: Karras et al. 2020, table 1, configurations B to D.
    """
    return SynthesisNetwork(widths, w_dim, channels, **LAYERS)


class SkipSynthesis(SynthesisNetwork):
    r"""Styles -> images, the sum of what every size has to say: no growing, and no fading.

    .. math:: y_4 = \text{rgb}_4(h_4), \qquad y_{2r} = \text{up}(y_r) + \text{rgb}_{2r}(h_{2r})

    with bilinear doubling. Coarse sizes are learned first, as when growing, because they have the shortest
    way to the pixels; but no size is ever asked to make a finished image of its own, with the details
    fixed in place that this leaves behind. ``grow(size, 1.0)`` shows the sum up to a size.

    Args:
        widths: channels at 4, 8, 16, ... pixels; their number sets the size.
        w_dim: length of w.
        channels: of the images.

    Source: Karras et al. 2020, section 4.1, figure 7b. Lecture: Aalto "StyleGAN improves the quality of
    generated images" ("New architectures of the generator and the discriminator in StyleGAN2").
    """

    def __init__(self, widths: Sequence[int], w_dim: int, channels: int = 3) -> None:
        super().__init__(widths, w_dim, channels, **LAYERS)

    def grow(self, size: int, alpha: float = 1.0) -> None:
        """Make images of ``size`` pixels.

        Raises:
            ValueError: for a size that the network does not have, or an alpha other than 1.
        """
        if alpha != 1.0:
            raise ValueError(f"alpha must be 1, for nothing fades in here, got {alpha}")
        super().grow(size, alpha)

    def forward(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """As of :class:`ganlib.models.stylegan.SynthesisNetwork`."""
        styles, images = self._styles(w), None
        for level, maps in enumerate(self.maps(w, noise)):
            own = self.to_image[level](maps, styles[2 * level + 1])
            # Under autocast each part is in bfloat16; their sum need not be rounded at every size.
            own = own.to(torch.promote_types(own.dtype, torch.float32))
            images = own if images is None else blur(upsample(images)) + own
        return images


# The discriminator


class ResidualHalving(nn.Module):
    r"""Two 3 x 3 convolutions, the second halving the sides, and a 1 x 1 convolution past them.

    .. math:: \big(\phi(W_2 * \phi(W_1 * x)) + W_0 * x\big) / \sqrt 2

    :math:`\phi` is leaky ReLU (0.2). The sum of two independent signals of deviation 1 has deviation
    :math:`\sqrt 2`; without the division the deviations would double with every two blocks, and with them
    the gradients. Each halving follows the filter (1, 3, 3, 1)/8.

    Args:
        inputs, outputs: channels.

    Source: Karras et al. 2020, section 4.1 and figure 7c.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = EqualizedConv2d(inputs, inputs, 3)
        self.second = EqualizedConv2d(inputs, outputs, 3)
        self.past = EqualizedConv2d(inputs, outputs, 1, bias=False, gain=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, inputs, 2H, 2W)`` -> ``(N, outputs, H, W)``."""
        past = F.conv2d(smooth(x, padding=1), *self.past.scaled(), stride=2)
        x = smooth(F.leaky_relu(self.first(x), 0.2), padding=2)
        x = F.leaky_relu(F.conv2d(x, *self.second.scaled(), stride=2), 0.2)
        return (x + past) * math.sqrt(0.5)


class Discriminator(nn.Module):
    """Images ``(N, channels, size, size)`` -> logits ``(N,)``: residual blocks down to 4 x 4 pixels.

    Args:
        widths: channels at 4, 8, 16, ... pixels, as of the generator.
        channels: of the images.
        group: samples over which the batch's deviation is taken.

    Source: Karras et al. 2020, section 4.1, figure 7c; the last layers are Progressive GAN's. Lecture: as of
    :class:`SkipSynthesis`.
    """

    def __init__(self, widths: Sequence[int], channels: int = 3, group: int = 4) -> None:
        super().__init__()
        least, largest = widths[0], widths[-1]
        self.layers = nn.Sequential(
            EqualizedConv2d(channels, largest, 1),
            nn.LeakyReLU(0.2, inplace=True),
            *(ResidualHalving(own, below) for own, below in pairwise(widths[::-1])),
            MinibatchStd(group),
            EqualizedConv2d(least + 1, least, 3),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Flatten(),
            EqualizedLinear(16 * least, least),
            nn.LeakyReLU(0.2, inplace=True),
            EqualizedLinear(least, 1, gain=1.0),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


# The game


def styled(generator: Generator, n: int) -> tuple[Tensor, Tensor]:
    """Draw n samples: w per layer, as in a training pass, and the images made of them, in one graph."""
    w = generator.styles(normal(n, generator.latent_dim, device=generator.mean_w.device))
    return w, generator.synthesis(w)


def path_penalties(generator: Generator, weight: float, every: int = 8) -> list[Lazy]:
    """The path-length penalty, due on every so many turns; none for a weight of 0."""
    return [Lazy(PathLength(partial(styled, generator), weight), every)] if weight else []


class StyleGAN2(GAN):
    r"""The non-saturating loss, R1 on every 16th of D's turns and path lengths on every 8th of G's.

    A penalty that is due is added to that turn's loss, 16 or 8 times as strong: the mean over turns is that
    of a penalty on each. The authors give it a step of its own, so that Adam makes 17 steps where it made 16,
    and rescale its constants by c = k/(k + 1) to make up for it: :math:`\eta' = c \eta`,
    :math:`\beta_2' = \beta_2^c`. Here the number of steps is unchanged, and so are the constants.

    Samples are cut off at -1 and 1, for the generator is linear at its end.

    Args:
        generator: latents -> images, with ``styles`` and ``synthesis``.
        discriminator: images -> logits.
        gamma: weight of R1.
        path_weight: weight of the path lengths; with 0 they are not regularized.
        r1_every, path_every: turns from one to the next.

    Source: Karras et al. 2020, sections 3.1 (16 and 8 turns) and 3.2; c in appendix B. The authors' code
    has 4 for ``path_every``.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: nn.Module,
        gamma: float = 10.0,
        path_weight: float = 2.0,
        *,
        r1_every: int = 16,
        path_every: int = 8,
    ) -> None:
        super().__init__(
            generator,
            discriminator,
            NonSaturating(),
            [Lazy(R1(gamma), r1_every)],
            generator_regularizers=path_penalties(generator, path_weight, path_every),
        )

    def sample(self, n: int, rng: torch.Generator | None = None, batch_size: int = 500) -> Tensor:
        return super().sample(n, rng, batch_size).clamp_(-1, 1)


# The recipe, and the paper's ablation


@dataclass(frozen=True)
class Config:
    """A row of the paper's table 1: what there is of StyleGAN2. With nothing of it, StyleGAN.

    Attributes:
        demodulation: styles scale weights, which are demodulated; else maps, by AdaIN.
        lazy: R1 on every 16th turn, or every 4th in the short runs of ``cpu``; else on each.
        path_length: path lengths are regularized, on every 8th turn.
        redesigned: skip generator and residual discriminator from the first step at full size; else growing.
        large: twice the channels where they are not at their most.

    Source: Karras et al. 2020, table 1. Lecture: Aalto "StyleGAN improves the quality of generated images"
    (the table).
    """

    demodulation: bool = True
    lazy: bool = True
    path_length: bool = True
    redesigned: bool = True
    large: bool = True

    def __post_init__(self) -> None:
        if self.redesigned and not self.demodulation:
            raise ValueError("redesigned needs demodulation: the skip generator has no AdaIN")


CONFIGS = {
    "a": Config(False, False, False, False, False),
    "b": Config(True, False, False, False, False),
    "c": Config(True, True, False, False, False),
    "d": Config(True, True, True, False, False),
    "e": Config(True, True, True, True, False),
    "f": Config(),
}


def networks(
    size: int,
    channels: int = 3,
    config: Config = CONFIGS["f"],
    base: int = 8192,
    most: int = 512,
    layers: int = 8,
) -> tuple[Generator, nn.Module]:
    """Generator and discriminator of a configuration; F's at 1024 have 30.4 and 29.0 million weights.

    Args:
        size: of the images in pixels.
        channels: of the images.
        config: which one.
        base, most: of :func:`ganlib.models.progan.channels_per_level`, ``base`` before ``config.large``
            doubles it; z and w have length ``most``.
        layers: of the mapping network.
    """
    widths = channels_per_level(size, 2 * base if config.large else base, most)
    if config.redesigned:
        synthesis, discriminator = SkipSynthesis(widths, most, channels), Discriminator(widths, channels)
    else:
        make = demodulated_synthesis if config.demodulation else SynthesisNetwork
        synthesis, discriminator = make(widths, most, channels), stylegan.discriminator(widths, channels)
    return Generator(MappingNetwork(most, most, layers), synthesis), discriminator


def play(
    generator: Generator,
    discriminator: nn.Module,
    config: Config,
    growth: Growth,
    gamma: float,
    r1_every: int = 16,
    path_weight: float = 2.0,
) -> GAN:
    """The game of a configuration; ``growth`` is for those that grow."""
    r1_every, path_weight = r1_every if config.lazy else 1, path_weight if config.path_length else 0.0
    if config.redesigned:
        return StyleGAN2(generator, discriminator, gamma, path_weight, r1_every=r1_every)
    return GrowingGAN(
        generator,
        discriminator,
        NonSaturating(),
        growth,
        [Lazy(R1(gamma), r1_every)],
        generator_regularizers=path_penalties(generator, path_weight),
    )


def experiment(
    budget: Budget, data: Images | None = None, config: Config = CONFIGS["f"], *, steps: int | None = None
) -> Experiment:
    """The recipe at a configuration of table 1.

    Args:
        budget: on ``gpu`` as on FFHQ, each configuration shown 25 million images.
        data: images, or None for MNIST.
        config: which one.
        steps: rounds in place of the budget's, where those are not set by a growth.
    """
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    slow = budget is Budget.GPU
    grown = stylegan.growth(budget, size)
    widths = {"base": 8192, "most": 512, "layers": 8}
    if not slow:
        widths = dict(zip(widths, budget.pick(smoke=(16, 8, 2), cpu=(128, 64, 4), gpu=()), strict=True))
    players = networks(size, channels, config, **widths)
    gamma = (100.0 if config.redesigned and not config.large else 10.0) if slow else 10.0
    steps = steps or budget.pick(smoke=6, cpu=3600, gpu=25_000_000 // 32)
    schedule = None if slow else LinearDecay(steps // 2, steps)
    if slow and not config.redesigned:
        steps = stylegan.steps_for(grown, 25_000_000)
        schedule = stylegan.RatePerSize(grown, {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0})
    game = play(*players, config, grown, gamma, *((16, 2.0) if slow else (4, 0.2)))
    rate = (2e-3 if config.redesigned else 1e-3) if slow else 1e-2
    return Experiment(
        game,
        images,
        Settings(
            optimizers=dict.fromkeys(game.turns, adam(rate, 0.0, 0.99)),
            batch_size=budget.pick(smoke=16, cpu=32, gpu=32) if config.redesigned else grown.batches,
            restarts=() if config.redesigned else grown.starts,
            ema={"generator": 0.998 if slow else 0.995},
            schedule=schedule,
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=("The penalties share a step with the loss, and Adam's constants are as they are.",)
        if slow
        else (
            "For minutes in place of days: at most 64 channels, four mapping layers, Adam at 1e-2 falling to "
            "zero over the second half, R1 on every 4th turn where lazy, path lengths weighted 0.2. "
            "The penalties share a step with the loss.",
            "Rate, R1, path weight and rounds were chosen on seed 0 with its FID in view.",
        ),
    )


@system(
    name="stylegan2",
    title="StyleGAN2",
    paper="Karras et al. 2020, Analyzing and Improving the Image Quality of StyleGAN",
    lectures=("Aalto: New architectures of the generator and the discriminator in StyleGAN2.",),
    notebook="14_attention_and_style.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Configuration F; on ``gpu`` as on FFHQ: gamma 10, Adam 2e-3 with betas (0, 0.99), 25 million images."""
    return experiment(budget, data)
