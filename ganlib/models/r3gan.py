r"""R3GAN: a loss with a convergence proof, and then a plain modern network with none of the usual tricks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.losses import R1, R2, RelativisticPairing
from ganlib.models.dcgan import channels_per_level
from ganlib.models.gan import GAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images

SLOPE = 0.2
GAIN = math.sqrt(2 / (1 + SLOPE**2))  # of a leaky rectifier: keeps the second moment


class Residual(nn.Module):
    r"""An inverted bottleneck without normalization, :math:`x + W_3 \phi(W_2 * \phi(W_1 x))`.

    :math:`W_1` widens the channels, :math:`W_2` is a grouped 3 x 3 convolution, :math:`W_3` narrows them;
    :math:`\phi` is leaky ReLU. The start is Fixup's: :math:`W_3 = 0`, so that each block is the identity, and
    the other two scaled by :math:`L^{-1/4}` for L blocks in the network (:math:`L^{-1/(2m-2)}`, m = 3
    layers in a block). That keeps updates of the sum in scale, which is what normalization was there for.

    Args:
        width: channels in and out.
        blocks: L.
        expansion: channels inside, as a multiple of ``width``.
        group: channels per group of the 3 x 3 convolution, at most those inside.

    Source: Huang et al. 2024, section 3 (ResNeXt-like blocks, Fix-up initialization); Zhang et al. 2019,
    "Fixup Initialization", section 3.
    """

    def __init__(self, width: int, blocks: int, expansion: int = 2, group: int = 16) -> None:
        super().__init__()
        inside = width * expansion
        gain = GAIN * blocks**-0.25
        self.branch = nn.Sequential(
            _scaled(nn.Conv2d(width, inside, 1), gain),
            nn.LeakyReLU(SLOPE, inplace=True),
            _scaled(nn.Conv2d(inside, inside, 3, padding=1, groups=max(1, inside // group)), gain),
            nn.LeakyReLU(SLOPE, inplace=True),
            _scaled(nn.Conv2d(inside, width, 1, bias=False), 0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


class Generator(nn.Module):
    """A learned 4 x 4 basis mixed by the latent, then residual stages; ``(N, latent_dim)`` -> images.

    Between stages: a 1 x 1 convolution to the next width, then bilinear doubling. The images are unbounded:
    the last layer is linear, as in the paper.

    Args:
        latent_dim: length of z.
        widths: channels at 4 x 4, 8 x 8, ..., size.
        blocks: residual blocks per stage, likewise.
        channels: of the images.

    Raises:
        ValueError: if ``widths`` and ``blocks`` differ in length.

    Source: Huang et al. 2024, section 3 and the authors' published code.
    """

    def __init__(
        self, latent_dim: int, widths: Sequence[int], blocks: Sequence[int], channels: int = 1
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.basis = nn.Parameter(torch.randn(widths[0], 4, 4))
        self.mix = _scaled(nn.Linear(latent_dim, widths[0], bias=False), 1.0)
        layers: list[nn.Module] = []
        stages = _stages(widths, blocks)
        for stage, (inputs, outputs) in zip(stages, pairwise([*widths, 0]), strict=True):
            layers += stage
            if outputs:
                layers += [
                    _scaled(nn.Conv2d(inputs, outputs, 1, bias=False), 1.0),
                    nn.Upsample(scale_factor=2, mode="bilinear"),
                ]
        self.stages = nn.Sequential(*layers)
        self.leave = _scaled(nn.Conv2d(widths[-1], channels, 1, bias=False), 1.0)

    def forward(self, z: Tensor) -> Tensor:
        return self.leave(self.stages(self.basis * self.mix(z)[:, :, None, None]))


class Discriminator(nn.Module):
    """The generator's mirror image, images -> outputs ``(N,)``; halving is by averages of 2 x 2.

    Arguments, errors and source as of :class:`Generator`: widths and blocks at 4 x 4 first.
    """

    def __init__(self, widths: Sequence[int], blocks: Sequence[int], channels: int = 1) -> None:
        super().__init__()
        self.enter = _scaled(nn.Conv2d(channels, widths[-1], 1, bias=False), 1.0)
        layers: list[nn.Module] = []
        stages = _stages(widths, blocks)[::-1]
        for stage, (inputs, outputs) in zip(stages, pairwise([*widths[::-1], 0]), strict=True):
            layers += stage
            if outputs:
                layers += [nn.AvgPool2d(2), _scaled(nn.Conv2d(inputs, outputs, 1, bias=False), 1.0)]
        self.stages = nn.Sequential(*layers)
        width = widths[0]
        self.leave = nn.Sequential(
            _scaled(nn.Conv2d(width, width, 4, groups=width, bias=False), 1.0),
            nn.Flatten(),
            _scaled(nn.Linear(width, 1, bias=False), 1.0),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.leave(self.stages(self.enter(x)))


def _stages(widths: Sequence[int], blocks: Sequence[int]) -> list[list[nn.Module]]:
    if len(widths) != len(blocks):
        raise ValueError(f"widths and blocks must have one entry per stage, got {widths} and {blocks}")
    total = max(1, sum(blocks))
    return [[Residual(w, total) for _ in range(n)] for w, n in zip(widths, blocks, strict=True)]


def _scaled(layer: nn.Module, gain: float) -> nn.Module:
    """Weights from N(0, gain^2 / inputs per output), biases 0."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class R3GAN(GAN):
    """The relativistic pairing loss with both zero-centred penalties; samples are cut off at -1 and 1.

    Args:
        generator: ``(N, latent_dim)`` -> samples.
        discriminator: samples -> outputs ``(N,)``.
        gamma: weight of R1 and of R2.

    Source: Huang et al. 2024, section 2. Lecture: Aalto "Zero-centered gradient penalties" (the penalties).
    """

    def __init__(self, generator: nn.Module, discriminator: nn.Module, gamma: float = 1.0) -> None:
        super().__init__(generator, discriminator, RelativisticPairing(), [R1(gamma), R2(gamma)])

    def sample(self, n: int, rng: torch.Generator | None = None, batch_size: int = 500) -> Tensor:
        return super().sample(n, rng, batch_size).clamp(-1, 1)


@system(
    name="r3gan",
    title="R3GAN, a modern baseline",
    paper="Huang et al. 2024, The GAN is dead; long live the GAN! A Modern Baseline GAN",
    lectures=("Aalto: Zero-centered gradient penalties",),
    notebook="08_stabilising_gans.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """On ``gpu`` as on CIFAR-10: four stages of 768 channels and two blocks, Adam 2e-4, betas (0, 0.99)."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    levels = len(channels_per_level(1, size)) + 1
    slow = budget is Budget.GPU
    widths = [768] * levels if slow else [8 * 2**level for level in range(levels)][::-1]
    blocks = [2 if slow else 1] * levels
    steps = budget.pick(smoke=4, cpu=2500, gpu=150_000)
    game = R3GAN(
        Generator(64, widths, blocks, channels),
        Discriminator(widths, blocks, channels),
        gamma=0.05 if slow else 1.0,
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers=dict.fromkeys(game.turns, adam(2e-4 if slow else 3e-3, 0.0, 0.99)),
            batch_size=budget.pick(smoke=16, cpu=32, gpu=512),
            ema={"generator": 0.999},
            schedule=None if slow else LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=digit_report(data, budget),
        notes=("gamma, the rates and beta2 stay constant where the paper anneals them; no augmentation.",)
        if slow
        else (
            "For minutes in place of hours: stages of 64, 32, 16 and 8 channels with one block each; Adam at "
            "3e-3 falling to zero over the last three fifths; batches of 32; gamma 1; averaged generator "
            "weights.",
        ),
    )
