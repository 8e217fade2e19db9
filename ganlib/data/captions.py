"""Captions for images: MNIST's made of labels and measured strokes, those of other sets of class names.

"A thin seven leaning right" says three of a digit's four attributes: which digit, its slant, the thickness of
the pen, its size. Slant, thickness and size are measured (:func:`ganlib.metrics.strokes`), so that a caption
can be checked on a generated image as well, without a person.

The language is finite and small enough to be read whole. :func:`wordings` is all of it for given attributes,
:func:`parse` reads it back, and a :class:`Tokenizer` turns it into numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from itertools import pairwise, permutations, product
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from ganlib.data import Images

__all__ = [
    "LEVELS",
    "NAMES",
    "THRESHOLDS",
    "Captioned",
    "Tokenizer",
    "attributes",
    "captioned",
    "captions",
    "class_captions",
    "mnist_tokenizer",
    "parse",
    "said",
    "told_tokens",
    "wordings",
]

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LEVELS = {
    "slant": ("left", "upright", "right"),
    "thickness": ("thin", "medium", "thick"),
    "size": ("small", "medium", "large"),
}
"""The three levels of each measured attribute, from low to high."""

THRESHOLDS = {"slant": (-4.175, 16.345), "thickness": (2.133, 2.912), "size": (6.191, 7.234)}
"""Quartiles of MNIST's training set at 32 x 32, in degrees and pixels: "thin" is its thinnest quarter.

The middle half is what a word such as "medium" ought to mean. Its slant is not centred at 0: the usual hand
leans a little to the right. The test of this module computes the numbers again.
"""

OPENINGS = ("", "this is", "a picture of")
BEFORE = {
    "slant": (("left-leaning",), ("upright",), ("right-leaning",)),
    "thickness": (("thin", "light"), ("regular",), ("thick", "bold")),
    "size": (("small", "little"), ("medium-sized",), ("large", "big")),
}
AFTER = {
    "slant": (
        ("leaning left", "tilted to the left"),
        ("standing upright", "standing straight"),
        ("leaning right", "tilted to the right"),
    ),
    "thickness": (("with thin strokes",), ("with medium strokes",), ("with thick strokes",)),
    "size": (("of small size",), ("of medium size",), ("of large size",)),
}


# Attributes


def attributes(images: Tensor, labels: Tensor) -> Tensor:
    """What can be said of digits: int64 ``(N, 4)`` with columns digit, slant, thickness, size.

    The digit is the label; the others are the levels 0, 1, 2 of :data:`LEVELS`, by :data:`THRESHOLDS`. An
    image without ink has no strokes; its levels are -1, which no caption asks for.

    Args:
        images: ``(N, 1, 32, 32)`` floating point in [-1, 1].
        labels: int64 ``(N,)``, for generated images those of a classifier.

    Raises:
        ValueError: unless there is one label per image; and as of :func:`ganlib.metrics.strokes`.
    """
    from ganlib.metrics import strokes

    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be one per image, got {tuple(labels.shape)} for {tuple(images.shape)} images"
        )
    parts = [strokes(part) for part in images.split(2000)]
    columns = [labels]
    for index, name in enumerate(LEVELS):
        values = torch.cat([part[index] for part in parts])
        cuts = torch.tensor(THRESHOLDS[name], device=values.device)
        columns.append(torch.bucketize(values, cuts).where(values.isfinite(), -1))
    return torch.stack(columns, 1)


# The grammar


@cache
def wordings(
    digit: int, slant: int | None = None, thickness: int | None = None, size: int | None = None
) -> tuple[str, ...]:
    """Every caption that says exactly this; None leaves an attribute unsaid.

    ::

        caption  = [opening] article {before} name {after}
        opening  = "this is" | "a picture of"
        before   = "thin" | "bold" | "upright" | "little" | ...
        after    = "leaning left" | "with thick strokes" | "of medium size" | ...

    Each attribute is said before the name or after it, and those on one side come in any order.

    Args:
        digit: 0 to 9.
        slant: 0 left, 1 upright, 2 right.
        thickness: 0 thin, 1 medium, 2 thick.
        size: 0 small, 1 medium, 2 large.

    Raises:
        ValueError: for a number out of range.
    """
    if digit not in range(10):
        raise ValueError(f"digit must be in 0..9, got {digit!r}")
    told = {}
    for name, level in zip(LEVELS, (slant, thickness, size), strict=True):
        if level is not None:
            if level not in range(3):
                raise ValueError(f"{name} must be 0, 1, 2 or None, got {level!r}")
            told[name] = level
    return tuple(
        " ".join(filter(None, (opening, _article(phrase), phrase)))
        for phrase in _phrases(NAMES[digit], told)
        for opening in OPENINGS
    )


def _phrases(name: str, told: dict[str, int]) -> Iterator[str]:
    for sides in product((True, False), repeat=len(told)):
        first = [BEFORE[key][told[key]] for key, side in zip(told, sides, strict=True) if side]
        last = [AFTER[key][told[key]] for key, side in zip(told, sides, strict=True) if not side]
        for before, after in product(permutations(first), permutations(last)):
            for words in product(*before, (name,), *after):
                yield " ".join(words)


def _article(phrase: str) -> str:
    return "an" if phrase.startswith(("upright", "eight")) else "a"  # "one" begins like "won"


def captions(
    images: Tensor, labels: Tensor, rng: torch.Generator | None = None, said_share: float = 2 / 3
) -> list[str]:
    """A caption for each digit: its attributes measured, some left unsaid, a wording drawn.

    Args:
        images: ``(N, 1, 32, 32)`` floating point in [-1, 1].
        labels: int64 ``(N,)`` in 0..9.
        rng: of what is said and how; seed 0 if None.
        said_share: with which probability each of slant, thickness and size is said.

    Raises:
        ValueError: if ``said_share`` is not in [0, 1]; and as of :func:`attributes`.
    """
    told, u = _draw(attributes(images, labels), rng, said_share)
    found = []
    for key, share in zip(told.tolist(), u.tolist(), strict=True):
        ways = _ways(key)
        found.append(ways[int(share * len(ways))])
    return found


def _draw(true: Tensor, rng: torch.Generator | None, said_share: float) -> tuple[Tensor, Tensor]:
    """What each caption is to say, ``(N, 4)`` with -1 for the unsaid, and where in its wordings it lies."""
    if not 0 <= said_share <= 1:
        raise ValueError(f"said_share must lie in [0, 1], got {said_share}")
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    told = true.cpu().clone()
    told[:, 1:][torch.rand(len(true), 3, generator=rng) >= said_share] = -1
    return told, torch.rand(len(true), generator=rng, dtype=torch.float64)


def _ways(told: Sequence[int]) -> tuple[str, ...]:
    digit, *levels = told
    return wordings(digit, *(None if level < 0 else level for level in levels))


def class_captions(
    labels: Tensor, names: Sequence[str] | None = None, rng: torch.Generator | None = None
) -> list[str]:
    """A caption for each label of any set: "a picture of truck", "an image of truck", "truck".

    Without names a class is called by its number, "class 3".

    Args:
        labels: int64 ``(N,)``, not negative.
        names: of the classes, such as a torchvision set's ``classes``.
        rng: of the wording; seed 0 if None.

    Raises:
        ValueError: if a label is negative or has no name.
    """
    numbers = labels.tolist()
    limit = float("inf") if names is None else len(names)
    if numbers and not 0 <= min(numbers) <= max(numbers) < limit:
        raise ValueError(f"labels must be in 0..{limit - 1}, got {min(numbers)}..{max(numbers)}")
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    ways = torch.randint(3, (len(numbers),), generator=rng).tolist()
    openings = ("", "a picture of ", "an image of ")
    return [
        openings[way] + (f"class {n}" if names is None else names[n].lower())
        for n, way in zip(numbers, ways, strict=True)
    ]


# Reading


def _meanings() -> dict[str, tuple[str, int]]:
    """Word, or pair of words -> the attribute it tells and its level; other words tell nothing."""
    known = {name: ("digit", level) for level, name in enumerate(NAMES)}
    for side in (BEFORE, AFTER):
        for attribute, levels in side.items():
            for level, phrases in enumerate(levels):
                for phrase in phrases:
                    telling = [w for w in phrase.split() if w not in _FILLERS]
                    known[telling[0]] = (attribute, level)
    # Of strokes or of size: only the next word tells.
    del known["medium"]
    return known | {"medium strokes": ("thickness", 1), "medium size": ("size", 1)}


_FILLERS = frozenset(
    {"a", "an", "this", "is", "picture", "of", "leaning", "tilted", "to", "the", "standing"}
    | {"with", "strokes", "size"}
)
_MEANINGS = _meanings()


def _words(caption: str) -> list[str]:
    return caption.lower().replace(",", " ").replace(".", " ").split()


def parse(caption: str) -> tuple[int, int | None, int | None, int | None]:
    """What a caption says: digit, slant, thickness, size, None for what it leaves open.

    The inverse of :func:`wordings`; words in another order are understood, too.

    Raises:
        ValueError: for a word that the language does not have, a caption that names no digit, and one that
            contradicts itself.
    """
    found: dict[str, int] = {}
    for word, following in pairwise([*_words(caption), ""]):
        meaning = _MEANINGS.get(f"{word} {following}") or _MEANINGS.get(word)
        if meaning is None:
            if word not in _FILLERS:
                hint = ", which stands before strokes or size" if word == "medium" else ""
                raise ValueError(f"caption has a word that is not understood, {word!r}{hint}: {caption!r}")
            continue
        attribute, level = meaning
        if found.setdefault(attribute, level) != level:
            raise ValueError(f"caption must say one {attribute}, got two: {caption!r}")
    if "digit" not in found:
        raise ValueError(f"caption must name a digit, {NAMES[0]} to {NAMES[-1]}, got {caption!r}")
    return found["digit"], found.get("slant"), found.get("thickness"), found.get("size")


def said(found: Iterable[str]) -> Tensor:
    """:func:`parse` of each caption as int64 ``(N, 4)``, with -1 for what is left open."""
    rows = [[-1 if level is None else level for level in parse(caption)] for caption in found]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 4)


# Words as numbers


class Tokenizer:
    """Captions as rows of word numbers, 0 for the padding behind the last word.

    Args:
        words: the vocabulary; word i gets number i + 1.
        length: words in the longest caption.

    Raises:
        ValueError: if a word occurs twice, has a space in it, or ``length`` is less than 1.
    """

    def __init__(self, words: Iterable[str], length: int) -> None:
        self.words = ("", *words)
        self.numbers = {word: number for number, word in enumerate(self.words)}
        if len(self.numbers) < len(self.words) or any(len(w.split()) != 1 for w in self.words[1:]):
            raise ValueError(f"words must be distinct and single, got {self.words[1:]}")
        if length < 1:
            raise ValueError(f"length must be at least 1, got {length}")
        self.length = length

    @classmethod
    def of(cls, found: Sequence[str]) -> Tokenizer:
        """The words of these captions, by alphabet, and the length of the longest."""
        split = [_words(caption) for caption in set(found)]
        return cls(sorted({word for words in split for word in words}), max(map(len, split), default=1))

    def __len__(self) -> int:
        """How many numbers there are, the padding's among them."""
        return len(self.words)

    def __call__(self, found: Sequence[str]) -> Tensor:
        """Captions as numbers: int64 ``(N, length)``.

        Raises:
            ValueError: for an unknown word, no word at all, or too many.
        """
        rows = [self._row(caption) for caption in found]
        return torch.tensor(rows, dtype=torch.int64).reshape(-1, self.length)

    def _row(self, caption: str) -> list[int]:
        words = _words(caption)
        if unknown := [word for word in words if word not in self.numbers]:
            raise ValueError(
                f"caption has words outside the vocabulary, {', '.join(unknown)}: {caption!r}; "
                f"known are {', '.join(self.words[1:])}"
            )
        if not 1 <= len(words) <= self.length:
            raise ValueError(f"caption must have 1 to {self.length} words, got {len(words)}: {caption!r}")
        return [self.numbers[word] for word in words] + [0] * (self.length - len(words))

    def text(self, tokens: Tensor) -> list[str]:
        """The captions that rows ``(N, length)`` stand for.

        Raises:
            ValueError: for a number that stands for no word.
        """
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < len(self):
            raise ValueError(
                f"tokens must be in 0..{len(self) - 1}, got {int(tokens.min())}..{int(tokens.max())}"
            )
        return [" ".join(self.words[number] for number in row if number) for row in tokens.tolist()]


@cache
def mnist_tokenizer() -> Tokenizer:
    """The tokenizer of the whole language of MNIST's captions."""
    phrases = [p for side in (BEFORE, AFTER) for levels in side.values() for ps in levels for p in ps]
    words = {word for phrase in (*OPENINGS, *phrases, *NAMES, "a an") for word in phrase.split()}
    longest = max(len(opening.split()) for opening in OPENINGS) + 2
    for levels in AFTER.values():
        longest += max(len(phrase.split()) for phrases in levels for phrase in phrases)
    return Tokenizer(sorted(words), longest)


# Data sets


class Captioned(NamedTuple):
    """Images with several captions each: what a text-conditional game is trained on.

    Attributes:
        images: ``(N, C, H, W)``.
        tokens: W captions of each image, int64 ``(N, W, L)``.
        told: what each caption says, int64 ``(N, W, A)``, -1 for what it leaves open.
        true: what holds for each image, int64 ``(N, A)``.
    """

    images: Tensor
    tokens: Tensor
    told: Tensor
    true: Tensor


def captioned(
    data: Images, ways: int = 4, rng: torch.Generator | None = None, *, digits: bool = True
) -> tuple[Captioned, Tokenizer]:
    """Give each image ``ways`` captions, as numbers; also the tokenizer that made them.

    Args:
        data: images and labels.
        ways: captions per image, W.
        rng: of the captions; seed 0 if None.
        digits: False takes captions from class numbers (:func:`class_captions`), for any set; A is then 1.

    Raises:
        ValueError: if ``ways`` is less than 1; and as of :func:`attributes`.
    """
    if ways < 1:
        raise ValueError(f"ways must be at least 1, got {ways}")
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    if digits:
        true, tokenizer = attributes(*data), mnist_tokenizer()
        drawn = [_draw(true, rng, 2 / 3) for _ in range(ways)]
        told, u = (torch.stack(part, 1) for part in zip(*drawn, strict=True))
        tokens = _tokens(told.flatten(0, 1), u.flatten(), tokenizer).unflatten(0, u.shape)
    else:
        true = data.labels[:, None]
        drawn = [class_captions(data.labels, None, rng) for _ in range(ways)]
        tokenizer = Tokenizer.of([caption for found in drawn for caption in found])
        told = true[:, None].repeat(1, ways, 1)
        tokens = torch.stack([tokenizer(found) for found in drawn], 1)
    return Captioned(data.images, tokens, told, true), tokenizer


def told_tokens(told: Tensor, tokenizer: Tokenizer, rng: torch.Generator | None = None) -> Tensor:
    """A caption for each row of ``told``, ``(N, 4)`` with -1 for what it leaves open: int64 ``(N, L)``.

    Args:
        told: digits and levels.
        tokenizer: that of :func:`mnist_tokenizer`.
        rng: of the wordings; seed 0 if None.

    Raises:
        ValueError: as of :func:`wordings`.
    """
    rng = torch.Generator().manual_seed(0) if rng is None else rng
    told = told.cpu()
    return _tokens(told, torch.rand(len(told), generator=rng, dtype=torch.float64), tokenizer)


def _tokens(told: Tensor, u: Tensor, tokenizer: Tokenizer) -> Tensor:
    """The captions that say ``told``, as numbers: every wording goes through the tokenizer once."""
    code = (told + 1) @ torch.tensor([64, 16, 4, 1])  # one number per row is quicker to sort
    codes, which = code.unique(return_inverse=True)
    keys = [(code // 64 - 1, code // 16 % 4 - 1, code // 4 % 4 - 1, code % 4 - 1) for code in codes.tolist()]
    tables = [tokenizer(_ways(key)) for key in keys]
    counts = torch.tensor([len(table) for table in tables])
    first = counts.cumsum(0) - counts
    return torch.cat(tables)[first[which] + (u * counts[which]).long()]
