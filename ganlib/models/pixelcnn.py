"""PixelCNN: an exact density, one pixel after the other, by masked convolutions."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ganlib.data import Images, mnist
from ganlib.layers.masked import GatedStacks, MaskedConv2d, streaming
from ganlib.models.recipes import adam
from ganlib.random import uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, LinearDecay, Settings

SIZE = 28
"""Side of the digits, as published: the black border of two pixels would add dimensions and no nats."""


# The data: binarised digits


def binarise(images: Tensor, seed: int) -> Tensor:
    """Draw each pixel once: white (+1) with its grey value as the probability, else black (-1).

    Args:
        images: in [-1, 1], where the grey value is (x + 1) / 2.
        seed: the same seed, the same pictures.

    Source: Salakhutdinov and Murray 2008, whose binary MNIST was drawn so, once, and is what the literature
    reports on. Theirs is another draw: the same distribution, so that nats per image stand side by side.
    """
    rng = torch.Generator().manual_seed(seed)
    white = torch.rand(images.shape, generator=rng) < (images.cpu() + 1) / 2
    return white.to(images).mul_(2).sub_(1)


def binarised_mnist(split: str = "train", first: int | None = None) -> Images:
    """MNIST at 28 x 28 binarised once, under a fixed seed per split; the ``first`` images, or all."""
    images, labels = mnist(split, size=SIZE)
    return Images(binarise(images[:first], seed=("train", "test").index(split)), labels[:first])


# The game


class Autoregressive(Game):
    r"""One player who predicts each pixel from those before it, in raster order and colour after colour.

    .. math:: p(x) = \prod_{i=1}^{n} p(x_i \mid x_1, \dots, x_{i-1})

    Each factor is a softmax over ``levels`` grey levels. The loss is the mean of :math:`-\log p(x)` over
    images, in nats per image. One pass of the model gives all n factors of a known image; to draw an image
    takes n passes, one after the other.

    Args:
        model: images ``(N, C, H, W)`` in [-1, 1] -> logits ``(N, C, levels, H, W)``, each of them causal.
        shape: of one image, (C, H, W).
        levels: grey levels; an image's value v becomes level round((levels - 1) (v + 1) / 2).

    Raises:
        ValueError: unless there are two levels at least.

    Source: van den Oord et al. 2016a, equations 1 and 2. Lecture: OUC "Pixel RNN".
    """

    def __init__(self, model: nn.Module, shape: tuple[int, ...], levels: int) -> None:
        super().__init__()
        if levels < 2:
            raise ValueError(f"levels must be at least 2, got {levels}")
        self.model, self.shape, self.levels = model, tuple(shape), levels
        self.turns = {"model": 1}

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        return {"nats": self.nats(batch[0]).mean()}

    def quantise(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] -> levels 0..levels - 1, int64, of the same shape."""
        top = self.levels - 1
        return ((images.float() + 1) * (top / 2)).round().clamp(0, top).long()

    def to_images(self, values: Tensor) -> Tensor:
        """Levels -> float32 in [-1, 1]."""
        return values.float() * (2 / (self.levels - 1)) - 1

    def nats_per_pixel(self, images: Tensor) -> Tensor:
        """:math:`-\\log p(x_i | x_{<i})` of every pixel and colour, ``(N, C, H, W)``."""
        values = self.quantise(images)
        logits = self.model(self.to_images(values)).float()
        return cross_entropy(logits.transpose(1, 2), values, reduction="none")

    def nats(self, images: Tensor) -> Tensor:
        """:math:`-\\log p(x)` of each image, ``(N,)``."""
        return self.nats_per_pixel(images).flatten(1).sum(1)

    def sample(self, n: int, rng: torch.Generator | None = None, *, cached: bool = True) -> Tensor:
        """Draw ``n`` images ``(n, C, H, W)``; see :meth:`complete`."""
        blank = torch.zeros(n, *self.shape, device=self.device)
        return self.complete(blank, 0, rng, cached=cached)

    def complete(
        self, images: Tensor, rows: int, rng: torch.Generator | None = None, *, cached: bool = True
    ) -> Tensor:
        """Keep the first ``rows`` rows of ``images``, quantised, and draw the rest given them.

        Args:
            images: ``(N, C, H, W)`` in [-1, 1].
            rows: 0 keeps nothing, H everything.
            rng: of the N C H W uniform numbers, one per value drawn.
            cached: each layer remembers what it computed at the pixels before
                (:func:`ganlib.layers.masked.streaming`); without, the model is called afresh on the whole
                images for every value. The samples are the same, the work is n-fold.

        Raises:
            ValueError: for another shape of image or number of rows.
        """
        if images.shape[1:] != self.shape or not 0 <= rows <= self.shape[1]:
            raise ValueError(
                f"images must be (N, {', '.join(map(str, self.shape))}) and rows in 0..{self.shape[1]}, "
                f"got {tuple(images.shape)} and {rows}"
            )
        noise = uniform(*images.shape, device=self.device, rng=rng)
        images = self.to_images(self.quantise(images.to(self.device)))
        images[:, :, rows:] = 0
        fill = self._fill_cached if cached else self._fill
        with self.evaluating():
            # A few hundred at a time: what the layers remember must fit in memory.
            for part, numbers in zip(images.split(500), noise.split(500), strict=True):
                fill(part, numbers, rows)
        return images

    def _fill(self, images: Tensor, noise: Tensor, rows: int) -> None:
        channels, height, width = self.shape
        for row, column, channel in product(range(rows, height), range(width), range(channels)):
            logits = self.model(images)[:, channel, :, row, column]
            images[:, channel, row, column] = self._draw(logits, noise[:, channel, row, column])

    def _fill_cached(self, images: Tensor, noise: Tensor, rows: int) -> None:
        channels, height, width = self.shape
        with streaming(self.model, height, width) as cursor:
            for cursor.row, cursor.column in product(range(height), range(width)):
                if cursor.row < rows:
                    self.model(images)
                    continue
                for channel in range(channels):
                    logits = self.model(images)[:, channel, :, 0, 0]
                    here = (slice(None), channel, cursor.row, cursor.column)
                    images[here] = self._draw(logits, noise[here])

    def _draw(self, logits: Tensor, noise: Tensor) -> Tensor:
        """Invert the distribution function: as many levels as lie wholly below the uniform number."""
        below = logits.float().softmax(1).cumsum(1)[:, :-1]
        return self.to_images((noise[:, None] >= below).sum(1))


def bits_per_dimension(nats: float, shape: tuple[int, ...]) -> float:
    """Nats per image -> bits per pixel and colour: ``nats / (C H W log 2)``."""
    return nats / (math.prod(shape) * math.log(2))


# The networks


class Residual(nn.Module):
    """ReLU, 1 x 1 to half the features, ReLU, masked 3 x 3, ReLU, 1 x 1 back, added to what came in.

    Source: van den Oord et al. 2016a, section 3.3.
    """

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            MaskedConv2d("B", 2 * width, width, 1, channels=channels),
            nn.ReLU(inplace=True),
            MaskedConv2d("B", width, width, 3, channels=channels),
            nn.ReLU(inplace=True),
            MaskedConv2d("B", width, 2 * width, 1, channels=channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def head(inputs: int, hidden: int, channels: int, levels: int) -> nn.Sequential:
    """Features ``(N, inputs, H, W)`` -> logits ``(N, channels, levels, H, W)``: ReLU and 1 x 1, twice.

    Source: van den Oord et al. 2016a, "Pixel Recurrent Neural Networks".
    """
    return nn.Sequential(
        nn.ReLU(),
        MaskedConv2d("B", inputs, hidden, 1, channels=channels),
        nn.ReLU(inplace=True),
        MaskedConv2d("B", hidden, channels * levels, 1, channels=channels),
        nn.Unflatten(1, (channels, levels)),
    )


class PixelCNN(nn.Module):
    """Images ``(N, C, H, W)`` in [-1, 1] -> logits ``(N, C, levels, H, W)`` of each pixel given those before.

    A 7 x 7 convolution of kind A, then residual blocks with 3 x 3 ones of kind B. Each block widens the field
    of view by a pixel; a blind spot to the right remains: see :class:`ganlib.layers.masked.GatedStacks`. The
    zeros beyond the border alone tell it where it is: from row ``blocks + 3`` on, counted from 0, it does not
    know the row.

    Args:
        channels: C.
        levels: grey levels.
        width: features inside a block, a multiple of ``channels``; twice as many between blocks.
        blocks: how many.
        hidden: features of the head, a multiple of ``channels``.

    Source: van den Oord et al. 2016a, "Pixel Recurrent Neural Networks", PixelCNN.
    """

    def __init__(
        self, channels: int = 1, levels: int = 2, width: int = 16, blocks: int = 7, hidden: int = 32
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            MaskedConv2d("A", channels, 2 * width, 7, channels=channels),
            *(Residual(width, channels) for _ in range(blocks)),
            head(2 * width, hidden, channels, levels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class GatedPixelCNN(nn.Module):
    """The same, in two stacks that see every pixel before: :class:`ganlib.layers.masked.GatedStacks`.

    The vertical stack runs ahead of the pixel along the row, so that sampling needs ``cached=False``.

    Args:
        channels: C.
        levels: grey levels.
        width: features of each stack, a multiple of ``channels``.
        blocks: layers after the first.
        hidden: features of the head, a multiple of ``channels``.

    Source: van den Oord et al. 2016b, "Conditional Image Generation with PixelCNN Decoders".
    """

    def __init__(
        self, channels: int = 1, levels: int = 2, width: int = 32, blocks: int = 7, hidden: int = 32
    ) -> None:
        super().__init__()
        self.first = GatedStacks("A", channels, width, 7, channels=channels)
        self.stacks = nn.ModuleList(GatedStacks("B", width, width, channels=channels) for _ in range(blocks))
        self.head = head(width, hidden, channels, levels)

    def forward(self, x: Tensor) -> Tensor:
        vertical, horizontal = self.first(x, x)
        for stack in self.stacks:
            vertical, horizontal = stack(vertical, horizontal)
        return self.head(horizontal)


# What sampling costs


def sampling_cost(game: Autoregressive, batch: int = 256) -> dict[str, float]:
    """What a sample costs beside one of the DCGAN generator of the same budget of minutes.

    Returns:
        ``steps``: passes one after the other, of which a GAN needs one. ``flops_over_gan``: floating-point
        operations over the generator's, calling the model afresh for each step; ``cached_flops_over_gan``:
        remembering. ``seconds_over_gan``: the seconds of one sample over one pass of the generator, and
        ``batch_seconds_over_gan``: the same for a ``batch`` at once; measured on this machine, cached.
    """
    from ganlib.models.dcgan import Generator

    channels, height, width = game.shape
    steps = channels * height * width
    blank = torch.zeros(1, *game.shape, device=game.device)
    with torch.random.fork_rng():
        generator = Generator(latent_dim=64, width=32).to(game.device).eval()
    latents = torch.zeros(batch, 64, device=game.device)
    with game.evaluating():
        gan = flops(lambda: generator(latents[:1]))
        afresh = steps * flops(lambda: game.model(blank))
        with streaming(game.model, height, width):
            cached = steps * flops(lambda: game.model(blank))
        seconds = {
            n: _seconds(lambda n=n: game.sample(n, torch.Generator().manual_seed(0)))
            / _seconds(lambda n=n: generator(latents[:n]), repeat=5)
            for n in (1, batch)
        }
    return {
        "steps": steps,
        "flops_over_gan": afresh / gan,
        "cached_flops_over_gan": cached / gan,
        "seconds_over_gan": seconds[1],
        "batch_seconds_over_gan": seconds[batch],
    }


def flops(function: Callable[[], object]) -> int:
    """Floating-point operations of a call's matrix products and convolutions, two to a multiplication."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def _seconds(function: Callable[[], Tensor], repeat: int = 1) -> float:
    """Seconds of a call, the shortest of ``repeat`` after one to warm up."""
    taken = []
    for _ in range(repeat + 1):
        start = time.perf_counter()
        float(function().flatten()[0])  # waits for the device
        taken.append(time.perf_counter() - start)
    return min(taken[1:])


# The experiment


def report(data: Images | None, budget: Budget) -> Callable[[Game], dict[str, float]] | None:
    """Likelihood of the test digits, distance of the samples, cost of sampling; None for other data.

    ``binary_fid`` is between samples and training digits that are binarised alike, on features of the
    embedded classifier: no FID to grey digits. ``binary_fid_floor`` is what as many
    binarised test digits get.
    """
    if data is not None:
        return None

    def figures(game: Autoregressive) -> dict[str, float]:
        test = binarised_mnist("test", budget.pick(smoke=100, cpu=None, gpu=None)).images
        with game.evaluating():
            nats = float(torch.cat([game.nats(part.to(game.device)) for part in test.split(250)]).mean())
        found = {"nats": nats, "bits_per_dimension": bits_per_dimension(nats, game.shape)}
        n = budget.pick(smoke=64, cpu=2_000, gpu=10_000)
        samples = game.sample(n, torch.Generator().manual_seed(0))
        return found | distances(samples, test, budget) | sampling_cost(game)

    return figures


def distances(samples: Tensor, test: Tensor, budget: Budget) -> dict[str, float]:
    """FID of ``samples`` and of as many ``test`` digits to binarised training digits; balance of classes."""
    from ganlib.metrics import ClassifierFeatures, Moments, class_balance, frechet_distance

    features = ClassifierFeatures().to(samples.device)
    train = binarised_mnist("train", budget.pick(smoke=500, cpu=20_000, gpu=60_000)).images

    def moments(images: Tensor) -> Moments:
        found = Moments()
        for part in images.split(500):
            found.update(features(part.to(samples.device)))
        return found

    reference = moments(train)
    fid = frechet_distance(moments(samples), reference)
    floor = frechet_distance(moments(test[: len(samples)]), reference)
    return {
        "binary_fid": fid,
        "binary_fid_floor": floor,
        "binary_fid_over_floor": fid / floor,
        "class_balance": class_balance(features.predict(samples)),
        "samples": len(samples),
    }


def training_images(data: Images | None, budget: Budget) -> tuple[Images, int]:
    """Training data and grey levels: binarised MNIST and 2; or ``data`` and 4, 16, 256 by budget."""
    first = 1000 if budget is Budget.SMOKE else None
    if data is None:
        return binarised_mnist("train", first), 2
    return Images(*(t[:first] for t in data)), budget.pick(smoke=4, cpu=16, gpu=256)


def notes(data: Images | None, budget: Budget) -> tuple[str, ...]:
    """What is ours in both recipes: the draw of the binary pixels, the optimizer, the length of training."""
    drawn = (
        "Binary MNIST: each pixel is white with its grey value as the probability, drawn once under a fixed "
        "seed; another draw than Salakhutdinov and Murray's, from the same distribution.",
    )
    quick = (
        "For minutes in place of hours: a small network, an epoch or so, and Adam at a high rate that falls "
        "to zero over the last three fifths. Chosen on seed 0 with test figures of short runs in view.",
    )
    ours = ("Adam and its schedule are ours.",)
    return (drawn if data is None else ()) + (ours if budget is Budget.GPU else quick)


def multiple(width: int, channels: int) -> int:
    """The least multiple of ``channels`` that is not below ``width``."""
    return -(-width // channels) * channels


def experiment(
    game: Autoregressive, images: Images, budget: Budget, data: Images | None, rate: float, steps: int
) -> Experiment:
    """A density on ``images``: Adam at ``rate``, falling to zero over the last three fifths of ``steps``."""
    return Experiment(
        game,
        (images.images,),
        Settings(
            optimizers={"model": adam(rate, 0.9, 0.99)},
            batch_size=16,
            schedule=LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=500),
        ),
        steps=steps,
        evaluate=report(data, budget),
        notes=notes(data, budget),
    )


@system(
    name="pixelcnn",
    title="PixelCNN",
    paper="van den Oord et al. 2016, Pixel Recurrent Neural Networks",
    lectures=("OUC: Pixel RNN",),
    notebook="11_latent_spaces.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Seven residual blocks on binarised digits: 16 features inside a block, 32 on ``gpu``."""
    images, levels = training_images(data, budget)
    channels, *_ = shape = tuple(images.images.shape[1:])
    model = PixelCNN(
        channels,
        levels,
        width=multiple(budget.pick(smoke=8, cpu=16, gpu=32), channels),
        blocks=budget.pick(smoke=2, cpu=7, gpu=7),
        hidden=multiple(32, channels),
    )
    rate, steps = budget.pick(smoke=3e-3, cpu=3e-3, gpu=1e-3), budget.pick(smoke=4, cpu=4800, gpu=200_000)
    return experiment(Autoregressive(model, shape, levels), images, budget, data, rate, steps)
