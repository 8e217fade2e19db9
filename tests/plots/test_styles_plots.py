"""What the figures on attention and style draw, read back."""

import contextlib
import math
import types

import matplotlib
import pytest
import torch

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from ganlib.plots import styles


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def pictures(n: int, value: float = 0.0) -> torch.Tensor:
    return torch.full((n, 1, 8, 8), value)


# Attention


def test_attention_marks_its_queries_and_draws_each_map_in_one_scale():
    weights = torch.zeros(2, 2, 4, 4)
    weights[0, 0, 1, 2], weights[1, 1, 3, 0] = 1.0, 0.5
    figure = styles.attention(pictures(2), weights, [(0, 7), (5, 3)])
    rows = [figure.axes[i : i + 3] for i in (0, 3)]
    assert [len(ax.lines) for ax in rows[0]] == [2, 1, 1], "both queries on the left, then one each"
    (mark,) = rows[0][2].lines
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (3, 5), "a query is (row, column)"
    (overlay,) = rows[1][2].images
    assert torch.equal(torch.as_tensor(overlay.get_array()), weights[1, 1])
    assert overlay.get_clim() == (0, 1) == rows[0][1].images[0].get_clim(), "the largest weight of all"
    # A cell of the 4 x 4 map covers two pixels, and the outer edges of both pictures coincide.
    assert list(overlay.get_extent()) == [-0.5, 7.5, 7.5, -0.5]


def test_attention_wants_a_map_per_query():
    with pytest.raises(ValueError, match=r"2 images and 1 queries, got \(2, 2, 4, 4\)"):
        styles.attention(pictures(2), torch.zeros(2, 2, 4, 4), [(0, 0)])


class FakeTrainer:
    """Draws images as bright as their label, a tenth each, plus the latent's first number."""

    step, finished = 0, False
    history = ({"seconds": 2.0},)
    averaged = evaluating = lambda self: contextlib.nullcontext(self)

    def latent(self, n, rng):
        return torch.arange(n).float()[:, None] / 100

    def generator(self, z, labels):
        return (labels / 10 + z[:, 0]).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


def test_live_draws_each_class_in_its_column_and_measures_now_and_then(monkeypatch):
    shown = []

    def display(figure, display_id):
        shown.append(figure)
        return types.SimpleNamespace(update=shown.append)

    monkeypatch.setattr("IPython.display.display", display)
    rows, trainer = [], FakeTrainer()
    watch = styles.live(30, 10, lambda t: {"requested": t.step / 100, "γ": -t.step}, rows=rows)
    for trainer.step in (5, 10, 20, 25):
        trainer.finished = trainer.step == 25  # interrupted: the last round counts, whatever its number
        watch(trainer)
    assert rows == [{"step": s, "requested": s / 100, "γ": -s} for s in (10, 20, 25)]
    assert len(shown) == 3 and not plt.get_fignums(), "figures are closed"
    bar, samples, share, others = shown[-1].axes
    assert [patch.get_width() for patch in bar.patches] == [30, 25]
    assert list(share.lines[0].get_ydata()) == [0.1, 0.2, 0.25]
    assert list(others.lines[0].get_ydata()) == [-10, -20, -25]
    drawn = torch.as_tensor(samples.images[0].get_array())[5::9, 5::9, 0] * 2 - 1
    wanted = torch.arange(10) / 10 + torch.arange(4)[:, None] / 100
    torch.testing.assert_close(drawn, wanted.to(drawn))


def test_label_scores_write_every_value_with_zero_in_the_middle_of_the_colours():
    scores = torch.tensor([[2.0, -1.0, 0.0], [0.5, 4.0, -3.0]])
    ax = styles.label_scores(scores, title="scores")
    assert [text.get_text() for text in ax.texts] == ["2.0", "-1.0", "0.0", "0.5", "4.0", "-3.0"]
    assert ax.images[0].get_clim() == (-4, 4)
    assert "label" in ax.get_xlabel() and "true" in ax.get_ylabel()
    with pytest.raises(ValueError, match="scores must be"):
        styles.label_scores(torch.zeros(3))


# Styles


def test_tradeoff_draws_the_three_columns_over_the_threshold():
    rows = [
        {"threshold": 0.5, "precision": 0.9, "recall": 0.1, "fid": 40.0},
        {"threshold": 2.0, "precision": 0.7, "recall": 0.6, "fid": 10.0},
    ]
    left, right = styles.tradeoff(rows, by="threshold", xlabel="threshold", floor=1.5).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in (*left.lines, *right.lines)}
    assert lines["precision"] == [0.9, 0.7] and lines["recall"] == [0.1, 0.6]
    assert lines["samples"] == [40.0, 10.0] and lines["test digits"] == [1.5, 1.5]
    assert list(left.lines[0].get_xdata()) == [0.5, 2.0]
    assert left.get_xlabel() == right.get_xlabel() == "threshold" and right.get_ylabel() == "FID"
    with pytest.raises(ValueError, match="rows"):
        styles.tradeoff([], by="threshold", xlabel="")


def test_mixing_lays_sources_down_and_others_across():
    sources, others = torch.stack([pictures(1, v)[0] for v in (-1.0, -0.5)]), pictures(3, 1.0)
    values = torch.tensor([-0.8, -0.6, -0.4, 0.2, 0.4, 0.6])
    ax = styles.mixing(sources, others, values.view(6, 1, 1, 1).expand(6, 1, 8, 8))
    drawn = torch.as_tensor(ax.images[0].get_array())[..., 0]
    assert drawn.shape == (1 + 3 * 9, 1 + 4 * 9), "3 x 4 pictures of 8 pixels with lines between them"
    centres = drawn[5::9, 5::9] * 2 - 1
    wanted = torch.tensor([[0, 1, 1, 1], [-1, -0.8, -0.6, -0.4], [-0.5, 0.2, 0.4, 0.6]])
    torch.testing.assert_close(centres, wanted.to(centres))
    with pytest.raises(ValueError, match="2 x 3 images, got 5"):
        styles.mixing(sources, others, pictures(5))


def test_noise_shows_the_deviation_over_all_draws():
    draws = torch.stack([torch.zeros(1, 8, 8), torch.ones(1, 8, 8), torch.full((1, 8, 8), 2.0)])
    figure = styles.noise(pictures(1), draws, shown=2)
    titles = [ax.get_title() for ax in figure.axes[:4]]
    assert titles == ["no noise", "draw 1", "draw 2", "deviation over 3"]
    # 0, 1 and 2 have the unbiased deviation 1.
    assert torch.as_tensor(figure.axes[3].images[0].get_array()).eq(1).all()
    with pytest.raises(ValueError, match="draws"):
        styles.noise(pictures(1), draws[:1])


def test_strips_name_rows_and_columns():
    figure = styles.strips({"a": pictures(3), "b": pictures(3, 1.0)}, ["0", "½", "1"], xlabel="ψ")
    assert [ax.get_ylabel() for ax in figure.axes] == ["a", "b"]
    assert [label.get_text() for label in figure.axes[1].get_xticklabels()] == ["0", "½", "1"]
    assert list(figure.axes[1].get_xticks()) == [4.5, 13.5, 22.5], "the middles of the pictures"
    assert figure.axes[1].get_xlabel() == "ψ"
    with pytest.raises(ValueError, match=r"got \[2, 3\]"):
        styles.strips({"a": pictures(3), "b": pictures(2)})
    with pytest.raises(ValueError, match="rows"):
        styles.strips({"a": pictures(3)}, ["0"])


# Spikes and lengths


@pytest.mark.parametrize("height", [0.0, 5.0, 200.0])
def test_spike_gain_is_what_instance_norm_does(height):
    """A background of exactly mean 0 and variance 1 beside one spike, through torch's instance norm."""
    background = torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(500)
    maps = torch.cat([torch.tensor([height], dtype=torch.float64), background]).view(1, 1, 7, 143)
    normed = torch.nn.functional.instance_norm(maps, eps=0.0).flatten()[1:]
    # Both are float64 sums of a thousand terms.
    assert normed.std(correction=0).item() == pytest.approx(styles.spike_gain(height, 1001), rel=1e-12)


def test_spikes_draw_medians_between_two_references():
    measured = {"one": {4: torch.tensor([1.0, 2.0, 3.0]), 32: torch.tensor([5.0, 6.0, 7.0])}}
    ax = styles.spikes(measured, title="spikes")
    lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert lines["one"] == [2.0, 6.0]
    # A map of n pixels with a single spike: (n - 1) / sqrt(n - 1), by hand.
    assert lines["one spike alone"] == pytest.approx([math.sqrt(15), math.sqrt(1023)])
    rng = torch.Generator().manual_seed(0)
    for side, typical in zip((4, 32), lines["normal noise"], strict=True):
        largest = torch.randn(4000, side * side, generator=rng).abs().amax(1)
        # Half of 4,000 maps lie below their median, give or take three standard deviations of 0.008.
        assert (largest < float(typical)).float().mean() == pytest.approx(0.5, abs=0.024)
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4 × 4", "32 × 32"]


def test_distributions_are_relative_to_their_means():
    ax = styles.distributions(
        {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([10.0, 10.0])}, xlabel="length"
    )
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    # 1/2 and 3/2 have the unbiased deviation 1 / sqrt(2).
    assert labels == ["a (spread 0.71)", "b (spread 0.00)"]
    assert ax.get_xlabel() == "length" and ax.get_ylabel() == "density"


# The ablation


def row(letter: str, fid: float | None) -> dict:
    return {"labels": {"config": letter}, "figures": {"fid": fid}}


def test_ablation_bars_are_means_over_seeds_in_the_papers_order():
    figure = styles.ablation([row("e", 8.0), row("a", 20.0), row("a", 30.0), row("b", None)])
    ours, theirs = figure.axes
    assert [bar.get_width() for bar in ours.patches] == [25.0, 8.0]
    assert sorted(ours.lines[0].get_xdata()) == [8.0, 20.0, 30.0]
    names = [label.get_text() for label in ours.get_yticklabels()]
    assert names == ["A  baseline StyleGAN", "E  + no growing, new G & D"], "none for a run that diverged"
    assert [bar.get_width() for bar in theirs.patches] == [4.40, 3.31]
    with pytest.raises(ValueError, match="ganlib reproduce"):
        styles.ablation([])


def test_published_figures_are_those_of_the_slide():
    """Aalto, the table of configurations A to F."""
    assert list(styles.PUBLISHED.values()) == [4.40, 4.39, 4.38, 4.34, 3.31, 2.84]
    assert list(styles.PUBLISHED) == list(styles.CONFIGURATIONS) == list("abcdef")


def test_follows_draws_a_line_per_attribute_over_the_layers():
    ax = styles.follows({"slant": [0.9, 0.2], "digit": [0.8, 0.0]}, ["4 × 4", "8 × 8"])
    lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert lines["slant"] == [0.9, 0.2] and lines["digit"] == [0.8, 0.0]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4 × 4", "8 × 8"]
    with pytest.raises(ValueError, match="each of 1 groups"):
        styles.follows({"slant": [0.9, 0.2]}, ["4 × 4"])
