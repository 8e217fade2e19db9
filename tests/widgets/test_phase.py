"""The phase portrait's controls, without a browser: moving one changes the picture and the words."""

import itertools

import numpy as np
import pytest

widgets = pytest.importorskip("ipywidgets")

from ganlib.theory.games import BILINEAR, MINIMAX, DiracGAN, alternating, r1, trajectory  # noqa: E402
from ganlib.widgets.phase import CURES, LOSSES, RULES, PhasePortrait, in_words  # noqa: E402

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def portrait():
    return PhasePortrait(rounds=20)


def test_shows_a_picture_and_words_at_once(portrait):
    assert bytes(portrait.image.value).startswith(PNG)
    assert "ganlib-figure" in portrait.image._dom_classes
    assert "1.414 at the start" in portrait.words.value


@pytest.mark.parametrize(
    ("control", "value"),
    [
        ("loss", "non-saturating"),
        ("cure", "R1 (here also R2)"),
        ("rule", "alternating"),
        ("step", 0.5),
        ("rounds", 30),
        ("theta", -1.0),
        ("psi", 0.3),
        ("game", "bilinear xy"),
    ],
)
def test_every_control_redraws(control, value):
    portrait = PhasePortrait(rounds=20)
    picture, words = portrait.image.value, portrait.words.value
    getattr(portrait, control).value = value
    assert bytes(portrait.image.value).startswith(PNG)
    assert portrait.image.value != picture
    assert portrait.words.value != words


def test_strength_redraws_only_what_it_is_the_strength_of():
    portrait = PhasePortrait(rounds=20)
    assert portrait.strength.disabled
    portrait.cure.value = "instance noise"
    assert not portrait.strength.disabled
    picture = portrait.image.value
    portrait.strength.value = 1.5
    assert portrait.image.value != picture


def test_plays_what_the_theory_plays():
    portrait = PhasePortrait(rounds=500)
    # The Dirac-GAN with step 0.2 from (1, 1): 3.10 (diverges); alternating 1.42 (cycles).
    assert "3.1 after 500 rounds" in portrait.words.value
    portrait.rule.value = "alternating"
    np.testing.assert_array_equal(portrait.path(), trajectory(DiracGAN(), rule=alternating))
    assert "1.42 after 500 rounds" in portrait.words.value
    portrait.cure.value, portrait.strength.value = "R1 (here also R2)", 0.4
    assert portrait.chosen() == DiracGAN(MINIMAX, r1(0.4))
    portrait.cure.value, portrait.game.value = "none", "bilinear xy"
    assert portrait.chosen() == BILINEAR
    assert portrait.loss.disabled


@pytest.mark.filterwarnings("error")
def test_every_combination_draws_without_a_warning():
    """Even those that explode: none may fail in front of a class."""
    for loss, cure, rule in itertools.product(LOSSES.values(), CURES.values(), RULES.values()):
        path = trajectory(cure(loss, 2.0), (2.0, 2.0), rule=rule, step=1.0, steps=200)
        assert path.shape == (201, 2)
    portrait = PhasePortrait(rounds=10)
    portrait.loss.value, portrait.rounds.value, portrait.step.value = "Wasserstein", 1000, 1.0
    assert np.abs(portrait.path()).max() > 1e100, "it explodes"
    assert bytes(portrait.image.value).startswith(PNG)


def test_figure_is_the_picture_of_the_widget(portrait):
    left, right = portrait.figure().axes
    x, y = left.lines[1].get_data()
    np.testing.assert_array_equal(np.stack([x, y], axis=-1), portrait.path())
    np.testing.assert_allclose(right.lines[0].get_ydata(), np.hypot(*portrait.path().T))
    assert all(ax.get_title() and ax.get_xlabel() and ax.get_ylabel() for ax in (left, right))


def test_words_name_the_eigenvalues_or_say_why_there_are_none():
    game = DiracGAN(penalty=r1(0.3))
    words = in_words(game, trajectory(game, steps=10), 0.2)
    assert "-0.15 +0.477i and -0.15 -0.477i" in words  # -g/2 +- sqrt(g^2/4 - 1/4)
    assert "0.9747" in words  # sqrt(1 - 0.06 + 0.01)
    portrait = PhasePortrait(rounds=10)
    portrait.cure.value = "gradient penalty towards slope 1"
    assert "kink" in portrait.words.value


def test_page_without_a_kernel_reads_as_a_sentence(portrait):
    assert "run this cell" in repr(portrait)
    assert "Dropdown" not in repr(portrait)
