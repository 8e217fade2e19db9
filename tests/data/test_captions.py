"""Captions: read back over the whole language, thresholds computed again, and what is said holds."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from ganlib.data import Images, mnist
from ganlib.data.captions import (
    LEVELS,
    NAMES,
    THRESHOLDS,
    Tokenizer,
    attributes,
    captioned,
    captions,
    class_captions,
    mnist_tokenizer,
    parse,
    said,
    told_tokens,
    wordings,
)
from ganlib.metrics import strokes

MEANINGS = list(product(range(10), *[(None, 0, 1, 2)] * 3))


@pytest.fixture(scope="module")
def language() -> dict[str, tuple]:
    return {caption: meaning for meaning in MEANINGS for caption in wordings(*meaning)}


@pytest.fixture(scope="module")
def digits() -> Images:
    return Images(*(t[:300] for t in mnist("test")))


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The language


def test_every_caption_is_read_back(language):
    """One caption, one meaning, and the reader finds it: over all of the language."""
    assert sum(len(wordings(*m)) for m in MEANINGS) == len(language), "a caption that says two things"
    assert all(parse(caption) == meaning for caption, meaning in language.items())


def test_size_of_the_language_by_hand(language):
    """Sums over levels of the phrases before and after the name: slant 3 and 6, thickness and size 5 and 3.

    Said together they come in any order on their side: of two, 2 BB' + BA' + AB' + 2 AA', and so on.
    """
    pairs = 2 * (2 * 15 + 9 + 30 + 2 * 18) + (2 * 25 + 30 + 2 * 9)
    all_three = 6 * 75 + 2 * (45 + 45 + 150) + 2 * (27 + 90 + 90) + 6 * 54
    assert len(language) == 10 * 3 * (1 + (9 + 8 + 8) + pairs + all_three) == 60_060


def test_wordings_say_the_same_in_many_ways():
    found = wordings(7, 2, 0)
    assert {
        "a thin seven leaning right",
        "this is a light right-leaning seven",
        "a picture of a right-leaning thin seven",
        "a seven with thin strokes tilted to the right",
        "a seven tilted to the right with thin strokes",
    } <= set(found)
    assert wordings(8) == ("an eight", "this is an eight", "a picture of an eight")
    assert "an upright one" in wordings(1, 1) and "a one standing straight" in wordings(1, 1)


def test_articles(language):
    """ "An" before a vowel's sound, of which the language has two: eight and upright."""
    for caption in language:
        words = caption.split()
        for article, following in pairwise(words):
            if article in ("a", "an") and following != "picture":
                assert (article == "an") == (following in ("eight", "upright")), caption


def test_reading_is_free_in_order_and_strict_in_words():
    assert parse("Seven, thin. Leaning right") == (7, 2, 0, None)
    assert parse("a thin seven with thin strokes") == (7, None, 0, None), "twice the same is no contradiction"
    for caption, hint in {
        "a fat seven": "'fat'",
        "a thin bold seven": "one thickness",
        "a seven leaning left leaning right": "one slant",
        "a seven eight": "one digit",
        "a thin one leaning": None,
        "thin strokes": "name a digit",
        "": "name a digit",
        "a medium seven": "'medium', which stands before strokes or size",
    }.items():
        if hint is None:
            assert parse(caption) == (1, None, 0, None)
            continue
        with pytest.raises(ValueError, match=f"caption.*{hint}"):
            parse(caption)


@pytest.mark.parametrize("wrong", [(10,), (-1,), (3, 3), (3, None, -1), (3, 0, 0, 5)])
def test_wordings_refuse_what_is_out_of_range(wrong):
    with pytest.raises(ValueError, match="must be"):
        wordings(*wrong)


# What is true of an image


def test_thresholds_are_the_quartiles_of_the_training_set():
    """Recorded to three decimals; numpy's quantiles of the strokes, computed again."""
    parts = [strokes(part) for part in mnist("train").images.split(2000)]
    for index, name in enumerate(LEVELS):
        values = torch.cat([part[index] for part in parts]).double().numpy()
        assert THRESHOLDS[name] == pytest.approx(np.quantile(values, [0.25, 0.75]), abs=6e-4)


def bar(width: int, height: int, shear: float) -> torch.Tensor:
    """A bar of that width, its top moved to the right by ``shear`` pixels per row."""
    image = torch.full((1, 32, 32), -1.0)
    for row in range(height):
        start = 16 - width // 2 + round(shear * (height / 2 - row))
        image[0, 16 - height // 2 + row, start : start + width] = 1.0
    return image


def test_attributes_of_drawn_bars():
    """Slants of -27, 11 (still upright) and 27 degrees; pens of 1, 4 and 5 pixels; lengths of 28 and 10.

    Sizes are 8.1 and 3.2: a length over the root of 12, and a little for the width. A short bar's thickness
    counts its ends as outline: 2 (50 / (2 (5 + 10))) = 3.3.
    """
    drawn = torch.stack([bar(1, 28, -0.5), bar(4, 28, 0.2), bar(5, 10, 0.5), torch.full((1, 32, 32), -1.0)])
    found = attributes(drawn, torch.tensor([1, 1, 7, 0]))
    assert found.tolist() == [[1, 0, 0, 2], [1, 1, 2, 2], [7, 2, 2, 0], [0, -1, -1, -1]]
    assert found.dtype == torch.int64


def test_levels_lie_where_the_thresholds_say(digits):
    found, measured = attributes(*digits), strokes(digits.images)
    for column, (name, (low, high)) in enumerate(THRESHOLDS.items()):
        expected = np.digitize(measured[column].numpy(), np.float32([low, high]), right=True)
        assert found[:, 1 + column].tolist() == expected.tolist(), name
    assert torch.equal(found[:, 0], digits.labels)


def test_attributes_want_a_label_per_image(digits):
    with pytest.raises(ValueError, match="labels must be one per image"):
        attributes(digits.images, digits.labels[:5])


# Captions of images


def test_what_a_caption_says_is_true(digits):
    told, true = said(captions(*digits, rng())), attributes(*digits)
    assert ((told == true) | (told == -1)).all()
    assert (told[:, 0] >= 0).all(), "the digit is always said"
    # 900 coins of 2/3: a standard deviation of 1.6 percent; four of them.
    assert (told[:, 1:] >= 0).double().mean().item() == pytest.approx(2 / 3, abs=0.065)


def test_a_caption_depends_on_its_generator_alone(digits):
    state = torch.get_rng_state()
    first, again, other = (captions(*digits, rng(seed)) for seed in (1, 1, 2))
    assert first == again != other and captions(*digits) == captions(*digits, rng())
    assert torch.equal(torch.get_rng_state(), state)


def test_all_or_nothing_can_be_said(digits):
    assert (said(captions(*digits, rng(), said_share=1.0)) == attributes(*digits)).all()
    assert (said(captions(*digits, rng(), said_share=0.0))[:, 1:] == -1).all()
    with pytest.raises(ValueError, match="said_share"):
        captions(*digits, rng(), said_share=1.5)


def test_every_wording_is_drawn():
    """Of 9 wordings, 2,000 draws miss one with probability below 1e-100."""
    ways = wordings(3, None, 0)
    drawn = told_tokens(torch.tensor([[3, -1, 0, -1]]).repeat(2000, 1), mnist_tokenizer(), rng())
    assert len(ways) == 9 and set(mnist_tokenizer().text(drawn)) == set(ways)


def test_a_black_image_is_called_by_its_label_alone():
    black = torch.full((50, 1, 32, 32), -1.0)
    assert (said(captions(black, torch.full((50,), 4), rng())) == torch.tensor([4, -1, -1, -1])).all()


# Words as numbers


def test_the_tokenizer_knows_the_whole_language(language):
    tokenizer = mnist_tokenizer()
    some = list(language)[::7]
    tokens = tokenizer(some)
    assert tokenizer.text(tokens) == some
    assert tokens.shape == (len(some), tokenizer.length) and tokens.dtype == torch.int64
    lengths = [len(caption.split()) for caption in language]
    assert max(lengths) == tokenizer.length, "no longer than it needs to be"
    assert {word for caption in language for word in caption.split()} == set(tokenizer.words[1:])
    assert set(NAMES) < set(tokenizer.words) and len(tokenizer) == 42
    behind = torch.arange(tokenizer.length) >= torch.tensor([len(c.split()) for c in some])[:, None]
    assert torch.equal(tokens == 0, behind), "padding is behind the last word, and nowhere else"


def test_unknown_words_are_told():
    tokenizer = mnist_tokenizer()
    with pytest.raises(ValueError, match=r"outside the vocabulary, fat, 7: 'a fat 7'; known are a, an, big"):
        tokenizer(["a seven", "a fat 7"])
    with pytest.raises(ValueError, match="1 to 15 words, got 0"):
        tokenizer([""])
    with pytest.raises(ValueError, match="1 to 15 words, got 16"):
        tokenizer([" ".join(["seven"] * 16)])
    with pytest.raises(ValueError, match=r"tokens must be in 0..41, got 0..42"):
        tokenizer.text(torch.tensor([[42, 0]]))
    for words, length in ((["a", "a"], 3), (["a b"], 3), ([""], 3), (["a"], 0)):
        with pytest.raises(ValueError, match="must be"):
            Tokenizer(words, length)


# Data sets with captions


def test_captioned_digits(digits):
    found, tokenizer = captioned(digits, ways=3, rng=rng())
    n = len(digits.images)
    assert found.images is digits.images and torch.equal(found.true, attributes(*digits))
    assert found.tokens.shape == (n, 3, 15) and found.told.shape == (n, 3, 4) and tokenizer.length == 15
    for way in range(3):
        assert torch.equal(said(tokenizer.text(found.tokens[:, way])), found.told[:, way])
    same = (found.tokens[:, 0] == found.tokens[:, 1]).all(1).double().mean()
    assert same < 0.1, "another wording each time"
    with pytest.raises(ValueError, match="ways"):
        captioned(digits, ways=0)


def test_captions_of_any_other_set():
    pictures = Images(torch.zeros(60, 3, 8, 8), torch.arange(60) % 12)
    found, tokenizer = captioned(pictures, ways=2, digits=False)
    assert found.true.tolist() == [[n % 12] for n in range(60)]
    assert torch.equal(found.told, found.true[:, None].repeat(1, 2, 1))
    for way in range(2):
        texts = tokenizer.text(found.tokens[:, way])
        assert all(text.endswith(f"class {n % 12}") for n, text in enumerate(texts))
    assert {t.split("class")[0] for t in texts} == {"", "a picture of ", "an image of "}


def test_class_names():
    names = ["Automobile", "Sea Lion"]
    assert {c for c in class_captions(torch.ones(50, dtype=torch.int64), names)} == {
        "sea lion", "a picture of sea lion", "an image of sea lion"
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"labels must be in 0..1, got 0..2"):
        class_captions(torch.tensor([0, 2]), names)
    with pytest.raises(ValueError, match="labels"):
        class_captions(torch.tensor([-1]))
    assert class_captions(torch.tensor([], dtype=torch.int64)) == []


def test_28_pixels_have_the_same_attributes(digits):
    """Moments and outlines do not see a black margin."""
    inner = digits.images[:, :, 2:-2, 2:-2]
    assert torch.equal(attributes(pad(inner, (5, 5, 5, 5), value=-1.0), digits.labels), attributes(*digits))
