"""StyleGAN: a latent sets the styles of all layers, noise the details, and the input is a constant."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ganlib.layers import AdaIN, EqualizedConv2d, EqualizedLinear, NoiseInjection, PixelNorm, blur, upsample
from ganlib.losses import R1, Lazy, NonSaturating
from ganlib.models.progan import Critic, Growing, GrowingGAN, channels_per_level, fade
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.random import mean_over_processes, normal, uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Growth, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


class MappingNetwork(nn.Module):
    r"""Latents z ``(N, latent_dim)`` -> intermediate latents w ``(N, w_dim)``.

    .. math:: w = f(z), \qquad f: \text{normalize, then } n \text{ times linear and leaky ReLU } (0.2)

    z must fill a ball, whatever the data are like; w need not, and can be laid out as the images vary. The
    layers learn at a hundredth of the rate, without which training so deep a network is unstable.

    Args:
        latent_dim: length of z.
        w_dim: length of w, and of all between.
        layers: n, at least 1.
        rate: multiplier of the learning rate.

    Raises:
        ValueError: for fewer than one layer.

    Source: Karras et al. 2019, section 2, figure 1b; the rate: appendix C. Lecture: Aalto "Style-Based
    Generators (StyleGAN)".
    """

    def __init__(self, latent_dim: int, w_dim: int, layers: int = 8, rate: float = 0.01) -> None:
        super().__init__()
        if layers < 1:
            raise ValueError(f"layers must be at least 1, got {layers}")
        self.latent_dim, self.w_dim = latent_dim, w_dim
        parts: list[nn.Module] = [PixelNorm()]
        for inputs in (latent_dim, *[w_dim] * (layers - 1)):
            parts += [EqualizedLinear(inputs, w_dim, rate=rate), nn.LeakyReLU(0.2, inplace=True)]
        self.layers = nn.Sequential(*parts)

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Styling(nn.Module):
    """What follows every convolution: noise, bias, leaky ReLU (0.2), and the style by AdaIN.

    Source: Karras et al. 2019, figure 1b. Lecture: Aalto "Style-Based Generators (StyleGAN)".
    """

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.noise = NoiseInjection(channels)
        self.bias = nn.Parameter(torch.zeros(channels))
        self.norm = AdaIN(channels, w_dim)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(N, C, H, W)``, w ``(N, w_dim)``, noise ``(N, 1, H, W)`` or None for fresh -> as ``x``."""
        x = self.noise(x, noise) + self.bias.to(x.dtype)[:, None, None]
        return self.norm(F.leaky_relu(x, 0.2), w)


class StyledConv2d(nn.Module):
    """A 3 x 3 convolution and :class:`Styling`; with ``up`` between a doubling and a blur.

    Args:
        inputs, outputs: channels.
        w_dim: length of w.
        up: double height and width first. Nearest neighbours and the blur together interpolate linearly; the
            blur waits until there are fewer channels, since but for the border the two filters commute.

    Source: Karras et al. 2019, figure 1b and appendix C; order as in the authors' code.
    """

    def __init__(self, inputs: int, outputs: int, w_dim: int, *, up: bool = False) -> None:
        super().__init__()
        self.up = up
        self.convolution = EqualizedConv2d(inputs, outputs, 3, bias=False)
        self.styling = Styling(outputs, w_dim)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """``(N, inputs, H, W)``, w and noise as of :class:`Styling` -> ``(N, outputs, H', W')``."""
        x = blur(self.convolution(upsample(x))) if self.up else self.convolution(x)
        return self.styling(x, w, noise)


class StyledConstant(nn.Module):
    """The network's input: a learned map of 4 x 4, ones at the start, the same for every image, then styled.

    Source: Karras et al. 2019, section 2 (table 1, configuration D). Lecture: Aalto "Style-Based Generators
    (StyleGAN)".
    """

    styled = True

    def __init__(self, channels: int, w_dim: int) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.ones(1, channels, 4, 4))
        self.styling = Styling(channels, w_dim)

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """w ``(N, w_dim)``, noise as of :class:`Styling` -> ``(N, channels, 4, 4)``."""
        return self.styling(self.constant.expand(len(w), -1, -1, -1), w, noise)


class ToImage(nn.Module):
    """Feature maps to pixels by a 1 x 1 convolution, without a style. Source: Karras et al. 2018, figure 2.

    Args:
        inputs: channels of the maps.
        channels: of the images.
        w_dim: length of w, which this layer does not use and others may.
    """

    def __init__(self, inputs: int, channels: int, w_dim: int) -> None:
        super().__init__()
        self.convolution = EqualizedConv2d(inputs, channels, 1, gain=1.0)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` -> ``(N, channels, H, W)``; ``w`` is not used."""
        return self.convolution(x)


class SynthesisNetwork(Growing):
    r"""Styles -> images ``(N, channels, size, size)``, unbounded, of the present size.

    A constant, a convolution, and two more at each doubling; each is told its own w, so that one w for all is
    a choice of the caller's. The present size fades in by
    :math:`(1 - \alpha) \, \text{upsample}(\text{rgb}'(h')) + \alpha \, \text{rgb}(h)`, as in Progressive GAN.

    Args:
        widths: channels at 4, 8, 16, ... pixels; their number sets the full size.
        w_dim: length of w.
        channels: of the images.
        convolution: ``(inputs, outputs, w_dim, up=...)`` -> module of ``(x, w, noise)``, as
            :class:`StyledConv2d`.
        constant: ``(channels, w_dim)`` -> module of ``(w, noise)``, as :class:`StyledConstant`. One whose
            ``styled`` is False uses neither.
        image: ``(inputs, channels, w_dim)`` -> module of ``(x, w)``, as :class:`ToImage`.

    Attributes:
        styles: number of style layers of the full network, two for each size. The constant takes the first
            if it is styled, the convolutions the next, and the image of a size that of the last convolution
            there; or, where the constant is plain, the one after it.

    Source: Karras et al. 2019, figure 1b. Lecture: Aalto "Style-Based Generators (StyleGAN)".
    """

    def __init__(
        self,
        widths: Sequence[int],
        w_dim: int,
        channels: int = 1,
        *,
        convolution: Callable[..., nn.Module] = StyledConv2d,
        constant: Callable[[int, int], nn.Module] = StyledConstant,
        image: Callable[[int, int, int], nn.Module] = ToImage,
    ) -> None:
        super().__init__(len(widths))
        self.w_dim, self.styles = w_dim, 2 * len(widths)
        self.constant = constant(widths[0], w_dim)
        self.convolutions = nn.ModuleList([convolution(widths[0], widths[0], w_dim)])
        for below, own in pairwise(widths):
            self.convolutions += [convolution(below, own, w_dim, up=True), convolution(own, own, w_dim)]
        self.to_image = nn.ModuleList(image(width, channels, w_dim) for width in widths)
        self._first = int(self.constant.styled)
        for index, maps in enumerate(self.noise_maps(1)):
            self.register_buffer(f"noise{index}", maps)

    @property
    def active(self) -> int:
        """Style layers in use at the present size."""
        return 2 * (self.level + 1)

    def noise_maps(
        self, n: int, rng: torch.Generator | None = None, layers: Sequence[int] | None = None
    ) -> list[Tensor]:
        """Standard normal maps ``(n, 1, side, side)`` for each layer that takes noise, smallest first.

        Args:
            n: number of images; the maps of one are shared by all.
            rng: where the numbers come from, as in :func:`ganlib.random.normal`.
            layers: those that keep their noise; maps of zeros, which are no noise, for the others. None for
                all, ``()`` for none, ``range(4)`` for those up to 8 x 8 pixels.
        """
        device = next(self.parameters()).device
        sides = [side for side in self.sizes for _ in range(2)][1 - self._first :]
        maps = [normal(n, 1, side, side, device=device, rng=rng) for side in sides]
        return [m if layers is None or i in layers else torch.zeros_like(m) for i, m in enumerate(maps)]

    def forward(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> Tensor:
        """Styles and noise to images.

        Args:
            w: ``(N, w_dim)`` for all layers, or ``(N, styles, w_dim)`` for each its own.
            noise: maps as :meth:`noise_maps` makes them. None for fresh ones in training mode, and the same
                ones at every call in evaluation mode, kept in the network's buffers.

        Raises:
            ValueError: if ``w`` or ``noise`` are not of these shapes.
        """
        styles, last = self._styles(w), 2 * self.level + 1
        maps = self.maps(w, noise)
        images = self.to_image[self.level](maps[-1], styles[last])
        if self.alpha == 1.0:
            return images
        old = self.to_image[self.level - 1](maps[-2], styles[last - 2])
        return fade(upsample(old), images, self.alpha)

    def maps(self, w: Tensor, noise: Sequence[Tensor] | None = None) -> list[Tensor]:
        """The last feature maps ``(N, C, side, side)`` of every size in use, smallest first.

        Arguments and errors as of :meth:`forward`.
        """
        styles, noise = self._styles(w), self._noise(noise)
        maps = [self.constant(styles[0], noise[0])]
        for index, convolution in enumerate(self.convolutions[: self.active - 1], self._first):
            maps.append(convolution(maps[-1], styles[index], noise[index]))
        return maps[1::2]

    def _styles(self, w: Tensor) -> Sequence[Tensor]:
        if w.shape[1:] not in ((self.w_dim,), (self.styles, self.w_dim)):
            wanted = f"(N, {self.w_dim}) or (N, {self.styles}, {self.w_dim})"
            raise ValueError(f"w must be {wanted}, got {tuple(w.shape)}")
        return [w] * self.styles if w.ndim == 2 else w.unbind(1)

    def _noise(self, given: Sequence[Tensor] | None) -> Sequence[Tensor | None]:
        count = self.styles - 1 + self._first
        if given is None:
            return [None if self.training else getattr(self, f"noise{index}") for index in range(count)]
        if len(given) != count:
            raise ValueError(f"noise must be {count} maps, as noise_maps() makes them, got {len(given)}")
        return given


def mix_styles(first: Tensor, second: Tensor, crossover: int | Tensor, layers: int) -> Tensor:
    """The styles of ``first`` in the layers before ``crossover``, and of ``second`` from it on.

    Args:
        first: w ``(N, w_dim)``, or one per layer, ``(N, layers, w_dim)``.
        second: likewise.
        crossover: in [0, layers]; a number, or one per sample, ``(N,)``.
        layers: style layers of the network.

    Returns:
        ``(N, layers, w_dim)``.

    Source: Karras et al. 2019, section 3.1.
    """
    first, second = (w[:, None].expand(-1, layers, -1) if w.ndim == 2 else w for w in (first, second))
    index = torch.arange(layers, device=first.device)[:, None]
    before = index < (crossover[:, None, None] if isinstance(crossover, Tensor) else crossover)
    return torch.where(before, first, second)


class Generator(nn.Module):
    r"""Latents ``(N, latent_dim)`` -> images, by way of w.

    While training, two things happen between the mapping and the synthesis. The running mean of w follows the
    batch's, :math:`\bar w \leftarrow \beta \bar w + (1 - \beta) \operatorname{mean} w`. And with the given
    probability an image gets the styles of a second latent from a random layer on, its *crossover*: no layer
    can then rely on what its neighbours were told.

    Args:
        mapping: z -> w; has ``latent_dim`` and ``w_dim``.
        synthesis: styles -> images.
        mixing: share of images with two latents, in [0, 1].
        decay: :math:`\beta`, in [0, 1).

    Raises:
        ValueError: if ``mixing`` or ``decay`` are out of range.

    Source: Karras et al. 2019, sections 2, 3.1 (mixing: 0.9 in configuration F) and appendix B (truncation);
    the decay 0.995 as in the authors' code, which draws one crossover for a whole batch, not one per image as
    here. Lecture: Aalto "Style-Based Generators (StyleGAN)".
    """

    mean_w: Tensor

    def __init__(
        self, mapping: nn.Module, synthesis: nn.Module, *, mixing: float = 0.9, decay: float = 0.995
    ) -> None:
        super().__init__()
        if not 0 <= mixing <= 1:
            raise ValueError(f"mixing must lie in [0, 1], got {mixing}")
        if not 0 <= decay < 1:
            raise ValueError(f"decay must lie in [0, 1), got {decay}")
        self.mapping, self.synthesis = mapping, synthesis
        self.mixing, self.decay = mixing, decay
        self.latent_dim, self.w_dim = mapping.latent_dim, mapping.w_dim
        self.register_buffer("mean_w", torch.zeros(self.w_dim))

    def grow(self, size: int, alpha: float) -> None:
        """Make images of ``size`` pixels, the newest layers faded in by ``alpha``."""
        self.synthesis.grow(size, alpha)

    def forward(
        self,
        z: Tensor,
        *,
        psi: float = 1.0,
        cutoff: int | None = None,
        noise: Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Images from z, with styles truncated by :meth:`truncate` unless ``psi`` is 1.

        Args:
            z: ``(N, latent_dim)``.
            psi, cutoff: of :meth:`truncate`.
            noise: as of :meth:`SynthesisNetwork.forward`.
        """
        w = self.styles(z)
        return self.synthesis(w if psi == 1.0 else self.truncate(w, psi, cutoff), noise)

    def styles(self, z: Tensor) -> Tensor:
        """z -> w for every style layer, ``(N, styles, w_dim)``; in training mode followed and mixed."""
        layers = self.synthesis.styles
        if not self.training or self.mixing == 0.0:
            w = self.mapping(z)
            self._follow(w)
            return w[:, None].expand(-1, layers, -1)
        other = normal(len(z), self.latent_dim, device=z.device).to(z.dtype)
        first, second = self.mapping(torch.cat([z, other])).chunk(2)
        self._follow(first)
        return mix_styles(first, second, self._crossovers(len(z), z.device), layers)

    def _crossovers(self, n: int, device: torch.device) -> Tensor:
        """Uniform on 1, ..., last layer in use for the share ``mixing`` of images; beyond it for the rest."""
        active = self.synthesis.active
        mixed, where = uniform(n, 2, device=device).unbind(1)
        # No branch on a drawn number, for which the host would have to wait.
        return torch.where(mixed < self.mixing, 1 + (where * (active - 1)).long(), active)

    @torch.no_grad()
    def _follow(self, w: Tensor) -> None:
        if self.training:
            mean = mean_over_processes(w.to(self.mean_w.dtype).mean(0))
            self.mean_w.lerp_(mean, 1 - self.decay)

    def truncate(self, w: Tensor, psi: float, cutoff: int | None = None) -> Tensor:
        r"""The truncation trick in W: :math:`w' = \bar w + \psi (w - \bar w)`.

        Towards the mean images are good and alike; 0 gives one image only, the mean's, which no z need have.

        Args:
            w: ``(N, w_dim)`` or ``(N, styles, w_dim)``.
            psi: 1 changes nothing, 0 leaves the mean.
            cutoff: only layers before it are truncated, all if None.

        Returns:
            As ``w``; ``(N, styles, w_dim)`` if there is a cutoff.

        Source: Karras et al. 2019, section 2.1 and appendix B.
        """
        short = torch.lerp(self.mean_w.to(w.dtype).expand_as(w), w, psi)
        return short if cutoff is None else mix_styles(short, w, cutoff, self.synthesis.styles)


def path_lengths(
    generator: Generator,
    n: int,
    *,
    rng: torch.Generator,
    distance: Callable[[Tensor, Tensor], Tensor] | None = None,
    intermediate: bool = True,
    epsilon: float = 1e-4,
) -> Tensor:
    """Perceptual path lengths between ``n`` pairs of random latents, ``(n,)``; see the metric of that name.

    Args:
        generator: in evaluation mode, in which noise stays the same from image to image.
        n: pairs.
        rng: source of the latents and of the places on the paths.
        distance: images, twice, to ``(N,)``; that of the digit classifier if None.
        intermediate: straight paths in W; else great circles in Z.
        epsilon: the step.

    Raises:
        ValueError: for a generator in training mode.

    Source: Karras et al. 2019, section 4.1.
    """
    from ganlib.metrics import PerceptualDistance, perceptual_path_length, slerp

    if generator.training:
        raise ValueError("generator must be in evaluation mode, got one in training mode")
    device = generator.mean_w.device
    distance = PerceptualDistance().to(device) if distance is None else distance
    ends = [normal(n, generator.latent_dim, device=device, rng=rng) for _ in range(2)]
    if intermediate:
        with torch.no_grad():
            ends = [generator.mapping(z) for z in ends]
    network, path = (generator.synthesis, torch.lerp) if intermediate else (generator, slerp)
    return perceptual_path_length(network, distance, *ends, rng=rng, path=path, epsilon=epsilon)


def style_figures(generator: Generator, n: int, rng: torch.Generator) -> dict[str, float]:
    """What the styles and the noise of a generator of digits do, in figures.

    Args:
        generator: of 32 x 32 digits, in evaluation mode.
        n: images, and pairs of latents, for each figure.
        rng: source of everything drawn.

    Returns:
        ``path_length_w`` and ``path_length_z``: mean perceptual path lengths. ``noise_std``: deviation of a
        pixel between two draws of noise for one w, pixels in [-1, 1]. ``digit_of_coarse_styles``: share of
        mixed images whose digit is that of the latent of the first half of the layers; and
        ``digit_by_chance``, how often two latents have the same digit anyway.
    """
    from ganlib.metrics import ClassifierFeatures

    device, layers = generator.mean_w.device, generator.synthesis.styles
    predict = ClassifierFeatures().to(device).predict
    lengths = {
        name: path_lengths(generator, n, rng=rng, intermediate=intermediate).mean().item()
        for name, intermediate in (("path_length_w", True), ("path_length_z", False))
    }
    with torch.no_grad():
        w = [generator.mapping(normal(n, generator.latent_dim, device=device, rng=rng)) for _ in range(2)]
        mixed = generator.synthesis(mix_styles(*w, layers // 2, layers))
        draws = [generator.synthesis(w[0], generator.synthesis.noise_maps(n, rng)) for _ in range(2)]
        digits = [
            predict(x.clamp(-1, 1)) for x in (generator.synthesis(w[0]), generator.synthesis(w[1]), mixed)
        ]
    return lengths | {
        "noise_std": (draws[0] - draws[1]).square().mean().div(2).sqrt().item(),
        "digit_of_coarse_styles": (digits[2] == digits[0]).float().mean().item(),
        "digit_by_chance": (digits[1] == digits[0]).float().mean().item(),
    }


# Recipe


class Blur(nn.Module):
    """:func:`ganlib.layers.blur` as a module."""

    def forward(self, x: Tensor) -> Tensor:
        return blur(x)


def discriminator(widths: Sequence[int], channels: int = 3) -> Critic:
    """Progressive GAN's, with a blur before each halving, and deviations over groups of 4 samples.

    Source: Karras et al. 2019, appendix C; order and groups as in the authors' code.
    """
    network = Critic(widths, channels, group=4)
    for stage in network.stages[1:]:
        stage.insert(2, Blur())  # between the two convolutions, the second of which the halving follows
    return network


def networks(
    size: int, channels: int = 3, base: int = 8192, most: int = 512, layers: int = 8
) -> tuple[Generator, Critic]:
    """Generator and discriminator of full ``size``; at 1024 the paper's, with 26.2 and 23.1 million weights.

    Args:
        size: of the full images in pixels.
        channels: of the images.
        base, most: of :func:`ganlib.models.progan.channels_per_level`; z and w have length ``most``.
        layers: of the mapping network.
    """
    widths = channels_per_level(size, base, most)
    synthesis = SynthesisNetwork(widths, most, channels)
    return Generator(MappingNetwork(most, most, layers), synthesis), discriminator(widths, channels)


@dataclass(frozen=True)
class RatePerSize:
    """A schedule for :class:`ganlib.training.Settings`: the learning rate's factor at each size of a growth.

    Attributes:
        growth: which size is when.
        factors: size -> factor; 1 for sizes not named.
    """

    growth: Growth
    factors: Mapping[int, float]

    def __call__(self, step: int) -> float:
        return self.factors.get(self.growth.at(step).size, 1.0)


def growth(budget: Budget, size: int) -> Growth:
    """From 8 x 8 up to ``size``; on ``gpu`` the authors' phases of 600,000 images and batches for 8 GPUs."""
    sizes = [8 << level for level in range(size.bit_length() - 3)]
    batches = budget.pick(
        smoke=[16] * len(sizes),
        cpu=[64 if side < 32 else 32 for side in sizes],
        gpu=[{8: 256, 16: 128, 32: 64}.get(side, 32) for side in sizes],
    )
    return Growth(sizes, batches, images=budget.pick(smoke=16, cpu=12_800, gpu=600_000))


@system(
    name="stylegan",
    title="StyleGAN",
    paper="Karras et al. 2019, A Style-Based Generator Architecture for Generative Adversarial Networks",
    lectures=(
        "Aalto: Style-Based Generators (StyleGAN)",
        "Aalto: StyleGAN improves the quality of generated images",
    ),
    notebook="14_attention_and_style.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """On ``gpu`` as on FFHQ: from 8 x 8, gamma 10, Adam 1e-3 with betas (0, 0.99), 25 million images."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    slow, grown = budget is Budget.GPU, growth(budget, size)
    base, most, layers = budget.pick(smoke=(32, 8, 2), cpu=(256, 64, 4), gpu=(8192, 512, 8))
    steps = budget.pick(smoke=6, cpu=3800, gpu=steps_for(grown, 25_000_000))
    game = GrowingGAN(
        *networks(size, channels, base, most, layers),
        NonSaturating(),
        grown,
        [R1(10.0) if slow else Lazy(R1(30.0), every=4)],
    )
    faster_when_large = RatePerSize(grown, {128: 1.5, 256: 2.0, 512: 3.0, 1024: 3.0})
    return Experiment(
        game,
        images,
        Settings(
            optimizers=dict.fromkeys(game.turns, adam(1e-3 if slow else 1e-2, 0.0, 0.99)),
            batch_size=grown.batches,
            restarts=grown.starts,
            ema={"generator": 0.998 if slow else 0.995},
            schedule=faster_when_large if slow else LinearDecay(steps // 2, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=style_report(data, budget),
        notes=("Images are not mirrored. One crossover per image, not per batch.",)
        if slow
        else (
            "For minutes in place of hours: at most 64 channels, 64 latents and four mapping layers; phases "
            "of 12,800 images; Adam at 1e-2, falling to zero over the second half; R1 with gamma 30 at every "
            "fourth step, four times as strong. Chosen among 13 settings at seed 0, its FID in view.",
        ),
    )


def style_report(data: Images | None, budget: Budget) -> Callable[[GrowingGAN], dict[str, float]] | None:
    """The report of every recipe of digits, and :func:`style_figures` once grown; None for other data."""
    of_digits = digit_report(data, budget)
    if of_digits is None:
        return None

    def report(game: GrowingGAN) -> dict[str, float]:
        figures = of_digits(game)
        if game.stage.size < game.growth.sizes[-1]:
            return figures
        n, rng = budget.pick(smoke=8, cpu=500, gpu=2000), torch.Generator().manual_seed(0)
        with game.evaluating():
            return figures | style_figures(game.generator, n, rng)

    return report


def steps_for(growth: Growth, images: int) -> int:
    """Rounds in which a growth, its last size held to the end, shows so many real images."""
    starts = (0, *growth.starts)
    shown = sum((b - a) * n for a, b, n in zip(starts, starts[1:], growth.batch_sizes, strict=False))
    return max(growth.rounds, starts[-1] + (images - shown) // growth.batch_sizes[-1])
