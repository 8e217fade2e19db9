"""Networks at paper size, without memory: weights against published counts, operations by hand."""

from functools import lru_cache
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ganlib import runs
from ganlib.layers import SpectralNorm
from ganlib.models import biggan, progan, stylegan, stylegan2
from ganlib.training import Budget

SIDES = (4, 8, 16, 32, 64, 128, 256, 512, 1024)
NARROW = (512, 512, 512, 512, 256, 128, 64, 32, 16)  # Karras et al. 2018, table 2
WIDE = (512, 512, 512, 512, 512, 256, 128, 64, 32)  # config F: twice as many from 64 x 64 on

# Weights of generator and discriminator, and the same in millions as the papers have them: 23.1 each in
# Progressive GAN (table 2), 26.2 in StyleGAN (section 2). The exact numbers are from
# - the authors' logs for Progressive GAN's discriminator, which is StyleGAN's too;
# - the authors' README for StyleGAN's generator;
# - logs of the authors' PyTorch port for StyleGAN2: 28,794,124 for a generator with 2 mapping layers of the
#   paper's 8, which have 512 x 512 weights and 512 biases each;
# - tests of the authors' library (compare_gan) for BigGAN.
PUBLISHED = {
    "progan": (progan.networks, 1024, None, 23_087_249, 23.1, 23.1),
    "stylegan": (stylegan.networks, 1024, 26_219_627, 23_087_249, 26.2, 23.1),
    "stylegan2": (stylegan2.networks, 1024, 28_794_124 + 6 * 513 * 512, 29_012_513, 30.4, 29.0),
    "biggan": (biggan.paper_networks, 128, 70_433_988, 87_982_370, 70.4, 88.0),
}


def weights(*networks: nn.Module) -> int:
    return sum(p.numel() for network in networks for p in network.parameters())


@pytest.fixture(autouse=True)
def no_power_iterations(monkeypatch):
    """They move no numbers where there are none, and take seconds."""
    monkeypatch.setattr(SpectralNorm, "iterate", lambda *arguments: None)


@lru_cache
def meta(make, *arguments) -> tuple[nn.Module, nn.Module]:
    with torch.device("meta"):
        return make(*arguments)


def products(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiplications of a forward pass, as torch counts them."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        network.eval()(*inputs)
    return counter.get_total_flops() // 2


@pytest.mark.parametrize("name", PUBLISHED)
def test_weights_are_the_published_ones(name):
    make, size, generator, discriminator, *millions = PUBLISHED[name]
    g, d = meta(make, size, 3, *([1000] if size == 128 else []))
    assert weights(g) == generator or generator is None
    assert weights(d) == discriminator
    assert [round(weights(network) / 1e6, 1) for network in (g, d)] == millions


def test_weights_of_the_synthesis_network_are_the_published_ones():
    """28.27 million without the mapping network: Belousov 2021 (MobileStyleGAN), section 1."""
    g, _ = meta(stylegan2.networks, 1024, 3)
    assert weights(g.synthesis) / 1e6 == pytest.approx(28.27, abs=0.005)
    assert weights(g.mapping) == 8 * 513 * 512


def conv(inputs: int, outputs: int, side: int, kernel: int = 3) -> tuple[int, int]:
    """A convolution's weights with biases, and its multiplications on a map of that side, by hand."""
    return kernel**2 * inputs * outputs + outputs, side**2 * kernel**2 * inputs * outputs


def both(layers: list[tuple[int, int]]) -> tuple[int, int]:
    return tuple(map(sum, zip(*layers, strict=True)))


def pairs_up(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    """The two 3 x 3 convolutions of each level after the first, both on the larger map."""
    levels = zip(pairwise(widths), SIDES[1:], strict=True)
    return [conv(a, b, side) for (below, own), side in levels for a, b in ((below, own), (own, own))]


def critic_by_hand() -> tuple[int, int]:
    """Karras et al. 2018, table 2, right; all but one of its 1 x 1 convolutions are for smaller images."""
    levels = zip(pairwise(NARROW), SIDES[1:], strict=True)
    body = [conv(a, b, side) for (below, own), side in levels for a, b in ((own, own), (own, below))]
    last = [conv(513, 512, 4), conv(512, 512, 1, 4), conv(512, 1, 1, 1)]
    unused = sum(conv(3, width, 1, 1)[0] for width in NARROW[:-1])
    total, work = both([*body, *last, conv(3, NARROW[-1], 1024, 1)])
    return total + unused, work


def test_progressive_gan_by_hand():
    """Karras et al. 2018, table 2, line by line."""
    first = [conv(512, 512, 4, 4), conv(512, 512, 4)]  # the 4 x 4 kernel, at 16 places of its padded pixel
    total, work = both([*first, *pairs_up(NARROW), conv(16, 3, 1024, 1)])
    unused = sum(conv(width, 3, 1, 1)[0] for width in NARROW[:-1])
    g, d = meta(progan.networks, 1024, 3)
    assert weights(g) == total + unused
    assert products(g, torch.empty(1, 512, device="meta")) == work
    assert (weights(d), products(d, torch.empty(1, 3, 1024, 1024, device="meta"))) == critic_by_hand()


def test_stylegan_by_hand():
    """Eight mapping layers, a constant; at each of 18 layers styles, and strengths of noise per channel."""
    per_layer = [NARROW[0], *(width for width in NARROW for _ in range(2))][1:]
    styles = [conv(512, 2 * width, 1, 1) for width in per_layer]
    mapping = [conv(512, 512, 1, 1)] * 8
    rest = 16 * 512 + 512 + sum(per_layer)  # the constant and its bias, and the strengths
    unused = sum(conv(width, 3, 1, 1)[0] for width in NARROW[:-1])
    layers = [*mapping, *styles, conv(512, 512, 4), *pairs_up(NARROW), conv(16, 3, 1024, 1)]
    total, work = both(layers)
    g, _ = meta(stylegan.networks, 1024, 3)
    assert weights(g) == total + rest + unused == 26_219_627
    # The low-pass filters, 9 products per number of a doubled map, are a convolution; or means, not counted.
    filters = 9 * sum(width * side**2 for width, side in zip(NARROW[1:], SIDES[1:], strict=True))
    assert products(g, torch.empty(1, 512, device="meta")) - work in (0, filters)


def test_stylegan2_by_hand():
    """A quarter of the products of a convolution that doubles are left: those with the zeros in between."""
    up = [conv(below, own, side) for (below, own), side in zip(pairwise(WIDE), SIDES[1:], strict=True)]
    same = [conv(own, own, side) for own, side in zip(WIDE, SIDES, strict=True)]
    images = [conv(own, 3, side, 1) for own, side in zip(WIDE, SIDES, strict=True)]
    _, everywhere = both([*up, *same, *images])
    # Belousov 2021 (MobileStyleGAN), section 1, says 143.15 billion, with every place of the doubled maps and
    # with biases, noise and filters, which are a few products per number of a map.
    assert everywhere == pytest.approx(143.15e9, rel=0.01)
    work = everywhere - sum(w for _, w in up) * 3 // 4
    g, d = meta(stylegan2.networks, 1024, 3)
    found = products(g.synthesis, torch.empty(1, 512, device="meta"))
    # Besides: filters after doubling, at most 16 products per number; styles and demodulation, some million.
    filters = 16 * sum(width * side**2 for width, side in zip(WIDE[1:], SIDES[1:], strict=True))
    assert work < found < work + 1.05 * filters
    # The discriminator: two convolutions per size, the second of which halves, and a 1 x 1 without bias.
    levels = list(zip(pairwise(WIDE), SIDES[1:], strict=True))
    body = [conv(own, own, side) for (_, own), side in levels]
    halving = [conv(own, below, side // 2) for (below, own), side in levels]
    skips = [
        (w - below, work) for (below, own), side in levels for w, work in [conv(own, below, side // 2, 1)]
    ]
    last = [conv(513, 512, 4), conv(512, 512, 1, 4), conv(512, 1, 1, 1)]
    total, work = both([*body, *halving, *skips, *last, conv(3, 32, 1024, 1)])
    assert weights(d) == total == 29_012_513
    # Before each halving a filter, on the convolved map and on the one beside it.
    filters = 2 * 16 * sum(width * side**2 for width, side in zip(WIDE[1:], SIDES[1:], strict=True))
    assert work <= products(d, torch.empty(1, 3, 1024, 1024, device="meta")) < work + 1.05 * filters


@pytest.mark.parametrize(
    ("name", "size"), [("progan", 1024), ("stylegan", 1024), ("stylegan2", 1024), ("biggan", 128)]
)
def test_recipes_build_them_on_gpu(name, size):
    """From images of that size alone, of which there are none."""
    made = runs._outline(runs.Run(name, Budget.GPU), size)
    _, _, generator, discriminator, *millions = PUBLISHED[name]
    assert all(p.is_meta for p in made.game.parameters())
    assert [round(weights(made.game.players[p]) / 1e6, 1) for p in ("generator", "discriminator")] == millions
    assert weights(made.game.generator) == generator or generator is None
    assert weights(made.game.discriminator) == discriminator
