"""GAN-CLS: from a caption to an image, by a discriminator that also sees true images under wrong captions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.layers.text import TextEncoder
from ganlib.losses import NonSaturating
from ganlib.models import dcgan
from ganlib.models.gan import GAN, AdversarialLoss
from ganlib.models.recipes import digit_report
from ganlib.random import uniform
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game

if TYPE_CHECKING:
    from ganlib.data import Images
    from ganlib.data.captions import Captioned, Tokenizer

HELD_OUT = ((2, 0, 2), (3, 2, 2), (4, 2, 0), (7, 0, 2), (8, 2, 0), (9, 0, 0))
"""Digit, slant and thickness of what the recipe never trains on, neither image nor caption.

They are 4.6 % of MNIST. Each digit, slant and thickness is seen in other company: thick twos that do not lean
left, thick ones that do.
"""

NOTE = (
    "Each network trains a text encoder of its own, a convolution over words; the paper trains one "
    "beforehand, on characters, and holds it fixed. Wrong captions are those that do not hold for the image; "
    "the paper's are another image's."
)
HELD_OUT_NOTE = (
    "Trained without the combinations of digit, slant and thickness that are held out, 4.6 % of MNIST; FID "
    "is against all of it."
)
QUICK_NOTE = (
    "For minutes in place of hours, DCGAN's quick settings: Adam at 1e-3 (D) and 4e-3 (G), beta2 0.99, "
    "falling to zero over the last three fifths; one-sided label smoothing 0.9; 64 latents, texts of 16 "
    "numbers; averaged generator weights. Chosen on seed 0 with its figures in view, with wrong pairs: the "
    "text's layer norm and its length (with 64 numbers the generator ignored its latents), and D's batch "
    "norm behind the text."
)


class Generator(nn.Module):
    """Latents ``(N, noise)`` and captions ``(N, L)`` -> images: DCGAN's, on the latent and the text together.

    The text had better be the shorter part. It is what D asks about first, a caption is rare, and so D hardly
    ever sees two fakes of one side by side: with 64 numbers beside 64 latents the variance of samples under
    one caption was some 3 % of that of true images (see :func:`variety`), with 16 it is most of it.

    Args:
        noise: length of the latent.
        text: reads captions.
        features: length of what ``text`` makes of one.
        width: as of :class:`ganlib.models.dcgan.Generator`; so are the others.
        channels: of the images.
        size: side of the images.

    Source: Reed et al. 2016, figure 2. Lecture: OUC "Text to image".
    """

    def __init__(
        self, noise: int, text: nn.Module, features: int, width: int, channels: int = 1, size: int = 32
    ) -> None:
        super().__init__()
        self.latent_dim = noise
        self.text = text
        self.draw = dcgan.Generator(noise + features, width, channels, size)

    def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
        return self.paint(z, self.text(tokens))

    def paint(self, z: Tensor, embedding: Tensor) -> Tensor:
        """Images of embeddings ``(N, features)``, such as points between two captions'."""
        return self.draw(torch.cat([z, embedding.to(z.dtype)], 1))


class Discriminator(nn.Module):
    """Images ``(N, C, H, W)`` and captions ``(N, L)`` -> logits ``(N,)``: DCGAN's, which reads at its end.

    The convolutions see the image alone. The text joins at 4 x 4, the same vector at every place; a 1 x 1
    convolution mixes both, and a last one reads the map. So an image's features serve for every caption it
    is judged under.

    Batch norm follows the text's convolution as it follows the others; each kind of pair needs a pass of its
    own for it. Without it captions were followed half as often after as many rounds.

    Args:
        text: reads captions.
        features: length of what ``text`` makes of one.
        width: as of :class:`ganlib.models.dcgan.Discriminator`; so are the others.
        channels: of the images.
        size: side of the images.

    Source: Reed et al. 2016, figure 2.
    """

    def __init__(self, text: nn.Module, features: int, width: int, channels: int = 1, size: int = 32) -> None:
        super().__init__()
        self.text = text
        whole = dcgan.Discriminator(width, channels, size)
        self.look = whole.layers[:-2]  # all but the convolution that reads the 4 x 4 map, and Flatten
        deep = dcgan.channels_per_level(width, size)[-1]
        self.compare = nn.Sequential(
            nn.Conv2d(deep + features, deep, 1, bias=False),
            nn.BatchNorm2d(deep),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(deep, 1, 4),
            nn.Flatten(0),
        )
        dcgan.initialize_(self.compare)

    def forward(self, x: Tensor, tokens: Tensor) -> Tensor:
        return self.judge(self.look(x), self.text(tokens))

    def judge(self, maps: Tensor, embedding: Tensor) -> Tensor:
        """Logits of features ``(N, D, 4, 4)`` under embeddings ``(N, features)``."""
        spread = embedding.to(maps.dtype)[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        return self.compare(torch.cat([maps, spread], 1))


class MatchingGAN(GAN):
    r"""A generator of captions' images against a discriminator that knows what a wrong caption is.

    With the scores of three pairs, where the slide "Text to image" prints D(x, h) for all of them,

    .. math:: s_r = D(x, h) \text{ (true image, its caption)}, \quad
              s_w = D(x, \hat h) \text{ (true image, wrong caption)}, \quad
              s_f = D(\hat x, h) \text{ (fake image, } \hat x = G(z, h)),

    the discriminator *maximises*

    .. math:: \log s_r + \tfrac12 \big( \log(1 - s_w) + \log(1 - s_f) \big)

    (paper and slide call it a loss; here its negative is minimised) and the generator maximises
    :math:`\log s_f`. Without the middle term D learns what belongs together only from fakes, which differ
    from true images in other ways too, and these are easier. With it, "real, but not what was asked for"
    has examples of its own.

    A caption is wrong for an image if it says something that does not hold for it. That it is another
    image's is not enough: "a seven" holds for every seven. In a batch, the wrong caption of an image is drawn
    among all captions that are. Where there is none, as in a batch of one class, the pair's fake takes its
    place, so that D's two halves keep their weights.

    Each network reads captions with a text encoder of its own, trained in its own turn with it: G's by what D
    thinks of its images, D's by the three pairs. (The paper trains one encoder beforehand, to be quicker, and
    holds it fixed for both.)

    A batch is a :class:`ganlib.data.captions.Captioned`: images, W captions each, what these say, what holds.

    Args:
        generator: see :class:`Generator`.
        discriminator: see :class:`Discriminator`.
        captions: some captions, int64 ``(K, L)``, from which samples without a given one draw theirs.
        loss: of s_r against s_w and s_f; the non-saturating one if None.
        wrong: False leaves the wrong pairs out.
        between: weight of the generator's further term on points half way between two captions' embeddings
            (GAN-INT), which no image belongs to and D judges all the same; 0 for none.

    Raises:
        ValueError: if ``between`` is negative or ``captions`` are not int64 ``(K, L)``.

    Source: Reed et al. 2016, Algorithm 1 (GAN-CLS) and the section on manifold interpolation (GAN-INT; both
    at beta = 0.5). Lecture: OUC "Text to image".
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        captions: Tensor,
        loss: AdversarialLoss | None = None,
        *,
        wrong: bool = True,
        between: float = 0.0,
    ) -> None:
        if captions.ndim != 2 or captions.dtype != torch.int64 or not len(captions):
            raise ValueError(f"captions must be int64 (K, L), got {captions.dtype} {tuple(captions.shape)}")
        if not between >= 0:
            raise ValueError(f"between must be at least 0, got {between}")
        super().__init__(generator, discriminator, NonSaturating() if loss is None else loss)
        self.wrong, self.between = wrong, between
        self.register_buffer("captions", captions, persistent=False)

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        if len(batch) != 4:
            raise ValueError(f"batch must be the four tensors of Captioned, got {len(batch)}")
        real, every, said, true = batch
        n, ways = every.shape[:2]
        rows = torch.arange(n, device=real.device)
        way = (ways * uniform(n, device=real.device)).long()
        tokens, said = every[rows, way], said[rows, way]
        if player == "generator":
            return self._generator_terms(tokens)
        with torch.no_grad():
            fake = self.generator(self.latent(n), tokens).to(real.dtype)
        return {"adversarial": self._discriminator_loss(real, fake, tokens, said, true)}

    def _discriminator_loss(
        self, real: Tensor, fake: Tensor, tokens: Tensor, said: Tensor, true: Tensor
    ) -> Tensor:
        # A pass for each kind of pair: batch norm must not see two of them in one batch.
        judge, embedding = self.discriminator.judge, self.discriminator.text(tokens)
        seen = self.discriminator.look(real)
        right, false = judge(seen, embedding), judge(self.discriminator.look(fake), embedding)
        if not self.wrong:
            return self.adversarial.discriminator(right, false)
        other, found = wrong_captions(said, true)
        wrong = judge(seen, embedding[other])
        # As many of either: the mean over both is the half sum of their means.
        return self.adversarial.discriminator(right, torch.cat([torch.where(found, wrong, false), false]))

    def _generator_terms(self, tokens: Tensor) -> dict[str, Tensor]:
        texts = self.generator.text(tokens), self.discriminator.text(tokens)
        terms = {"adversarial": self._fooling(*texts)}
        if self.between:
            # The rows are shuffled, so that a neighbour is any other image.
            half = (torch.lerp(text, text.roll(1, 0), 0.5) for text in texts)
            terms["between"] = self.between * self._fooling(*half)
        return terms

    def _fooling(self, own: Tensor, judged: Tensor) -> Tensor:
        """The generator's loss on new images of G's embeddings ``own``, which for D are ``judged``."""
        fake = self.generator.paint(self.latent(len(own)), own)
        return self.adversarial.generator(self.discriminator.judge(self.discriminator.look(fake), judged))

    def sample(
        self,
        n: int,
        rng: torch.Generator | None = None,
        captions: Tensor | None = None,
        batch_size: int = 500,
    ) -> Tensor:
        """Draw ``n`` samples in evaluation mode, ``batch_size`` at a time, on the game's device.

        Args:
            n: how many.
            rng: of latents and captions; torch's global state if None.
            captions: what to draw, int64 ``(n, L)``; drawn from the game's own if None.
            batch_size: samples per pass.

        Raises:
            ValueError: if there are not n captions.
        """
        z = self.latent(n, rng)
        if captions is None:
            drawn = (len(self.captions) * uniform(n, device=self.device, rng=rng)).long()
            captions = self.captions[drawn]
        elif len(captions) != n:
            raise ValueError(f"captions must be {n}, one per sample, got {len(captions)}")
        parts = zip(z.split(batch_size), captions.to(self.device).split(batch_size), strict=True)
        with self.evaluating():
            return torch.cat([self.generator(*part).float() for part in parts])

    def morph(
        self, first: Tensor, last: Tensor, steps: int = 7, rng: torch.Generator | None = None
    ) -> Tensor:
        r"""Images of :math:`(1 - \lambda) \varphi(t_0) + \lambda \varphi(t_1)` at one latent per pair.

        Args:
            first: captions :math:`t_0`, int64 ``(N, L)``.
            last: captions :math:`t_1`, likewise.
            steps: how many :math:`\lambda`, evenly from 0 to 1.
            rng: of the latents; torch's global state if None.

        Returns:
            ``(N, steps, C, H, W)``.

        Raises:
            ValueError: if the two differ in shape, or ``steps`` is less than 2.
        """
        if first.shape != last.shape:
            raise ValueError(
                f"first and last must be pairs, got {tuple(first.shape)} and {tuple(last.shape)}"
            )
        if steps < 2:
            raise ValueError(f"steps must be at least 2, got {steps}")
        z = self.latent(len(first), rng)
        with self.evaluating():
            ends = [self.generator.text(tokens.to(self.device)) for tokens in (first, last)]
            shares = torch.linspace(0, 1, steps).tolist()
            images = [self.generator.paint(z, torch.lerp(*ends, share)).float() for share in shares]
        return torch.stack(images, 1)


def wrong_captions(said: Tensor, true: Tensor, rng: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    """For each image a caption of the batch that does not hold for it, all such equally likely.

    A caption does not hold if it says of any attribute what is not so; what it leaves open cannot be wrong.

    Args:
        said: what the captions say, int64 ``(M, A)``, -1 for what is left open.
        true: what holds for the images, int64 ``(N, A)``.
        rng: of the choice; torch's global state if None.

    Returns:
        The captions' rows, int64 ``(N,)``, and whether there is one, bool ``(N,)``; where not, the row means
        nothing.
    """
    wrong = ((said[None] != true[:, None]) & (said[None] >= 0)).any(2)
    lots = uniform(len(true), len(said), device=true.device, rng=rng)
    return lots.where(wrong, -1.0).argmax(1), wrong.any(1)


# How well captions are followed


def caption_report(
    game: MatchingGAN, tokenizer: Tokenizer, n: int = 4000, held_out: Sequence[Sequence[int]] = HELD_OUT
) -> dict[str, float]:
    """Shares of samples that show what their caption asks for, all four attributes said; in [0, 1].

    The captions are of the first ``n`` images of the test set, so that combinations are as frequent as in
    life. A classifier reads the digit, and the strokes are measured as for the captions of training.

    Returns:
        ``digit``, ``slant``, ``thickness``, ``size`` and ``all_four`` for captions of combinations that were
        trained on; ``real_digit``, what the classifier makes of the real images (their other attributes are
        measured, hence right); ``held_out`` and ``seen_corners``: all of digit, slant and thickness, for
        combinations that were not trained on, and for those that are as extreme in slant and thickness and
        were. Each with ``_followed`` after its name.
    """
    from ganlib.data import mnist
    from ganlib.data.captions import attributes, told_tokens
    from ganlib.metrics import ClassifierFeatures

    images, labels = (t[:n] for t in mnist("test"))
    wanted = attributes(images, labels)
    tokens = told_tokens(wanted, tokenizer, torch.Generator().manual_seed(1))
    samples = game.sample(len(wanted), torch.Generator().manual_seed(2), tokens).cpu()
    classifier = ClassifierFeatures()
    right = attributes(samples, classifier.predict(samples)) == wanted
    unseen = among(wanted, held_out)
    corners = (wanted[:, 1:3] != 1).all(1) & ~unseen
    names = ("digit", "slant", "thickness", "size")
    shares = {name: right[~unseen, column] for column, name in enumerate(names)}
    shares |= {
        "all_four": right[~unseen].all(1),
        "held_out": right[unseen, :3].all(1),
        "seen_corners": right[corners, :3].all(1),
        "real_digit": classifier.predict(images) == labels,
    }
    return {f"{name}_followed": share.double().mean().item() for name, share in shares.items() if len(share)}


def variety(game: MatchingGAN, tokenizer: Tokenizer, n: int = 100) -> dict[str, float]:
    r"""How much samples under one caption differ, over how much true images do for which it holds.

    .. math:: \sqrt{\sum_p \operatorname{Var} x_p^{fake} / \sum_p \operatorname{Var} x_p^{real}}

    over pixels p: 1 for as much, 0 for a generator that draws one image per caption, whatever the latent.

    Args:
        game: what draws.
        tokenizer: of its captions.
        n: samples, and at most as many test images, per caption.

    Returns:
        ``variety_open``, the mean over captions that name a digit and nothing else, and
        ``variety_all_said``, that over upright digits of medium strokes and size.
    """
    from ganlib.data import mnist
    from ganlib.data.captions import attributes, wordings

    images, labels = mnist("test")
    true = attributes(images, labels)

    def spread(x: Tensor) -> Tensor:
        return x.double().var(0).sum().sqrt()

    def ratio(caption: str, holds: Tensor) -> Tensor:
        drawn = game.sample(n, torch.Generator().manual_seed(4), tokenizer([caption] * n))
        return spread(drawn.cpu()) / spread(images[holds][:n])

    opened = [ratio(wordings(digit)[0], labels == digit) for digit in range(10)]
    medium = (true[:, 1:] == 1).all(1)
    said = [ratio(wordings(digit, 1, 1, 1)[0], medium & (labels == digit)) for digit in range(10)]
    return {
        "variety_open": torch.stack(opened).mean().item(),
        "variety_all_said": torch.stack(said).mean().item(),
    }


def tells_apart(game: MatchingGAN, tokenizer: Tokenizer, n: int = 2000) -> dict[str, float]:
    """How often D prefers an image's caption to one that is wrong in a single attribute; 0.5 by guessing.

    On the first ``n`` images of the test set, all four attributes said, the other three rightly both times.

    Returns:
        The share of images for ``digit``, ``slant``, ``thickness`` and ``size``, with ``_told_apart`` after
        the name.
    """
    from ganlib.data import mnist
    from ganlib.data.captions import attributes, told_tokens

    images, labels = (t[:n] for t in mnist("test"))
    rng = torch.Generator().manual_seed(3)
    told = attributes(images, labels)
    shares = {}
    with game.evaluating():
        maps = torch.cat([game.discriminator.look(part.to(game.device)) for part in images.split(500)])

        def logits(said: Tensor) -> Tensor:
            tokens = told_tokens(said, tokenizer, rng).to(game.device)
            return game.discriminator.judge(maps, game.discriminator.text(tokens))

        right = logits(told)
        for column, (name, levels) in enumerate((("digit", 10), ("slant", 3), ("thickness", 3), ("size", 3))):
            other = told.clone()
            other[:, column] += torch.randint(1, levels, (len(told),), generator=rng)
            other[:, column] %= levels
            shares[f"{name}_told_apart"] = (right > logits(other)).double().mean().item()
    return shares


def among(true: Tensor, combinations: Sequence[Sequence[int]]) -> Tensor:
    """Whether digit, slant and thickness are one of the ``combinations``: bool ``(N,)``."""
    wanted = torch.tensor(combinations, dtype=true.dtype, device=true.device).reshape(-1, 3)
    return (true[:, None, :3] == wanted).all(2).any(1)


def training_data(data: Images | None, budget: Budget) -> tuple[Captioned, Tokenizer]:
    """MNIST with captions and without :data:`HELD_OUT`, or ``data`` with captions of class numbers.

    A thousand images of either for a smoke run.
    """
    from ganlib.data import Images, mnist
    from ganlib.data.captions import Captioned, captioned

    chosen = mnist("train") if data is None else data
    few = 1000 if budget is Budget.SMOKE else len(chosen.images)
    if data is not None:
        return captioned(Images(*(t[:few] for t in data)), digits=False)
    # A twentieth is taken out.
    found, tokenizer = captioned(Images(*(t[: few + few // 10] for t in chosen)))
    kept = (~among(found.true, HELD_OUT)).nonzero()[:, 0][:few]
    return Captioned(*(t[kept] for t in found)), tokenizer


def experiment(
    budget: Budget, data: Images | None = None, *, wrong: bool = True, between: float = 0.0
) -> Experiment:
    """GAN-CLS on captioned images; see :class:`MatchingGAN` for ``wrong`` and ``between``."""
    found, tokenizer = training_data(data, budget)
    channels, size = found.images.shape[1:3]
    slow = budget is Budget.GPU
    width, steps = budget.pick(smoke=8, cpu=32, gpu=64), budget.pick(smoke=4, cpu=3000, gpu=50_000)
    noise, features = budget.pick(smoke=16, cpu=64, gpu=100), budget.pick(smoke=8, cpu=16, gpu=128)
    encoder = partial(TextEncoder, len(tokenizer), features, budget.pick(smoke=16, cpu=64, gpu=256))
    game = MatchingGAN(
        Generator(noise, encoder(), features, width, channels, size),
        Discriminator(encoder(), features, width, channels, size),
        found.tokens[:, 0],
        NonSaturating(real_label=1.0 if slow else 0.9),
        wrong=wrong,
        between=between,
    )
    notes = [NOTE] + [HELD_OUT_NOTE] * (data is None) + [QUICK_NOTE] * (not slow)
    return Experiment(
        game,
        found,
        replace(dcgan.settings(budget, steps), batch_size=budget.pick(smoke=16, cpu=64, gpu=64)),
        steps=steps,
        evaluate=_report(data, budget, tokenizer),
        notes=tuple(notes),
    )


def _report(
    data: Images | None, budget: Budget, tokenizer: Tokenizer
) -> Callable[[Game], dict[str, float]] | None:
    digits = digit_report(data, budget)
    if digits is None:
        return None
    n = budget.pick(smoke=200, cpu=10_000, gpu=10_000)

    def report(game: Game) -> dict[str, float]:
        followed = caption_report(game, tokenizer, n) | tells_apart(game, tokenizer, min(n, 2000))
        return digits(game) | followed | variety(game, tokenizer, min(n, 100))

    return report


@system(
    name="gan-cls",
    title="Text to image with a matching-aware discriminator",
    paper="Reed et al. 2016, Generative Adversarial Text to Image Synthesis",
    lectures=("OUC: Text to image",),
    notebook="10_conditioning.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """Captions of digits: which, its slant, pen and size; other sets have captions of their class numbers."""
    return experiment(budget, data)
