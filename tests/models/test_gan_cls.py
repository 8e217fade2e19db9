"""GAN-CLS: its loss against the algorithm's lines, which captions are wrong, who learns from what."""

import json
import math
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from ganlib import studies, systems
from ganlib.data import Images, mnist
from ganlib.data.captions import attributes, mnist_tokenizer, parse
from ganlib.layers.text import TextEncoder
from ganlib.losses import Hinge, NonSaturating
from ganlib.models.gan_cls import (
    HELD_OUT,
    Discriminator,
    Generator,
    MatchingGAN,
    among,
    caption_report,
    experiment,
    tells_apart,
    training_data,
    variety,
    wrong_captions,
)
from ganlib.training import Budget

N, WORDS, LENGTH = 6, 9, 4


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def rng(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def game(**options) -> MatchingGAN:
    encoder = partial(TextEncoder, WORDS, 5, width=6)
    captions = torch.randint(1, WORDS, (4, LENGTH), generator=rng())
    g = MatchingGAN(
        Generator(3, encoder(), 5, 4, 1, 8), Discriminator(encoder(), 5, 4, 1, 8), captions, **options
    )
    with torch.no_grad():  # DCGAN's small weights hide the text in a tiny network
        for p in g.parameters():
            p += 0.2 * torch.randn(p.shape, generator=rng(2))
    return g


def batch(classes: int = 2) -> tuple[Tensor, ...]:
    """Images of as many classes, one caption each that names it: the first word is the class."""
    images = torch.rand(N, 1, 8, 8, generator=rng(3), dtype=torch.float64) * 2 - 1
    true = torch.arange(N)[:, None] % classes
    tokens = torch.cat([true + 1, torch.randint(1, WORDS, (N, LENGTH - 1), generator=rng(4))], 1)
    return images, tokens[:, None], true[:, None].clone(), true


def exact(**options) -> tuple[MatchingGAN, Tensor]:
    """A game whose latents are fixed."""
    g = game(**options).double()
    z = torch.randn(N, 3, generator=rng(5), dtype=torch.float64)
    g.latent = lambda n, rng=None: z[:n]
    return g, z


def probability(logits: Tensor) -> Tensor:
    return 1 / (1 + (-logits).exp())


# Algorithm 1


def test_discriminator_maximises_the_algorithms_line():
    """-[log s_r + (log(1 - s_w) + log(1 - s_f)) / 2], each score by its own pass through D."""
    g, z = exact()
    x, tokens, *_ = data = batch(classes=N)
    # With two images every wrong caption is known: it is the other's.
    two = tuple(t[:2] for t in data)
    found = g.loss("discriminator", two)["adversarial"]
    D, h = g.discriminator, tokens[:2, 0]
    fake = g.generator(z[:2], h)
    s_r, s_w, s_f = (
        probability(D(image, text)) for image, text in ((x[:2], h), (x[:2], h.flip(0)), (fake, h))
    )
    value = s_r.log().mean() + ((1 - s_w).log().mean() + (1 - s_f).log().mean()) / 2
    assert found.item() == pytest.approx(-value.item(), rel=1e-9)  # float64; running means do not enter
    assert s_w.log().mean().item() != pytest.approx(s_r.log().mean().item(), rel=1e-3), "the text counts"


def test_without_wrong_pairs_it_is_a_conditional_gan():
    g, z = exact(wrong=False)
    x, tokens, *_ = data = batch()
    found = g.loss("discriminator", data)["adversarial"]
    h = tokens[:, 0]
    s_r, s_f = (probability(g.discriminator(image, h)) for image in (x, g.generator(z, h)))
    assert found.item() == pytest.approx(-(s_r.log().mean() + (1 - s_f).log().mean()).item(), rel=1e-9)


def test_without_a_wrong_caption_the_fake_stands_in():
    """A batch of one class: both halves are the fakes', which is the loss without wrong pairs."""
    (one, _), (other, _) = exact(), exact(wrong=False)
    other.load_state_dict(one.state_dict())
    values = [g.loss("discriminator", batch(classes=1))["adversarial"] for g in (one, other)]
    assert values[0].item() == pytest.approx(values[1].item(), rel=1e-12)


def test_generator_maximises_log_s_f():
    g, z = exact()
    data = batch()
    terms = g.loss("generator", data)
    score = probability(g.discriminator(g.generator(z, data[1][:, 0]), data[1][:, 0]))
    assert set(terms) == {"adversarial"}
    assert terms["adversarial"].item() == pytest.approx(-score.log().mean().item(), rel=1e-9)


def test_between_captions():
    """GAN-INT at beta = 1/2: embeddings half way to the neighbour's, in G and in D."""
    g, z = exact(between=0.7)
    data = batch()
    terms = g.loss("generator", data)
    own, judged = (player.text(data[1][:, 0]) for player in (g.generator, g.discriminator))
    half = [(e + torch.stack([e[i - 1] for i in range(N)])) / 2 for e in (own, judged)]
    score = probability(g.discriminator.judge(g.discriminator.look(g.generator.paint(z, half[0])), half[1]))
    assert terms["between"].item() == pytest.approx(-0.7 * score.log().mean().item(), rel=1e-9)
    plain, _ = exact()
    plain.load_state_dict(g.state_dict())
    assert terms["adversarial"].item() == pytest.approx(
        plain.loss("generator", data)["adversarial"].item(), rel=1e-12
    )


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_go_to_the_player_alone(player):
    """Each network's text encoder learns in its own turn, and in no other."""
    g, _ = exact(between=1.0)
    torch.stack(list(g.loss(player, batch()).values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in g.players[player].text.parameters())
    assert all(p.grad is not None for p in g.players[player].parameters())
    (other,) = set(g.turns) - {player}
    assert all(p.grad is None for p in g.players[other].parameters())


def test_wrong_pairs_move_d_by_finite_differences():
    """The slope along the embedding of D's first word: central differences, error of order h^2 = 1e-8."""
    g, _ = exact()
    two = tuple(t[:2] for t in batch(classes=N))
    g.loss("discriminator", two)["adversarial"].backward()
    word = g.discriminator.text.embed.weight
    slope, step, values = word.grad[1, 0].item(), 1e-4, []
    for sign in (1, -1):
        with torch.no_grad():
            word[1, 0] += sign * step
            values.append(g.loss("discriminator", two)["adversarial"].item())
            word[1, 0] -= sign * step
    assert slope == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4, abs=1e-8)
    assert slope


def test_any_adversarial_loss_will_do():
    g, z = exact(loss=Hinge())
    two = tuple(t[:2] for t in batch(classes=N))
    h = two[1][:, 0]
    D, fake = g.discriminator, g.generator(z[:2], h)
    r, w, f = D(two[0], h), D(two[0], h.flip(0)), D(fake, h)
    expected = (1 - r).relu().mean() + ((1 + w).relu().mean() + (1 + f).relu().mean()) / 2
    assert g.loss("discriminator", two)["adversarial"].item() == pytest.approx(expected.item(), rel=1e-9)


def test_every_wording_is_trained_on():
    """The captions of a batch are drawn among each image's W, alone on the row's own."""
    g, _ = exact()
    x, _, said, true = batch()
    tokens = torch.stack([torch.full((N, LENGTH), 1 + way) for way in range(3)], 1)
    seen: set[int] = set()
    g.generator.text.register_forward_pre_hook(
        lambda module, inputs: seen.update(inputs[0].unique().tolist())
    )
    for _ in range(10):  # 60 draws miss one of three with probability below 1e-9
        g.loss("generator", (x, tokens, said.repeat(1, 3, 1), true))
    assert seen == {1, 2, 3}


def test_each_kind_of_pair_has_a_batch_of_its_own():
    """The batch norm behind the text sees right, wrong and fake pairs apart: three batches of 2."""
    g, _ = exact()
    sizes: list[int] = []
    for module in g.discriminator.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in g.discriminator.compare)
    g.loss("discriminator", tuple(t[:2] for t in batch(classes=N)))
    assert norms == 1 and sizes == [2, 2, 2], "this small tower has no batch norm of its own"


# Wrong captions


def test_wrong_is_what_does_not_hold():
    """By brute force; what a caption leaves open is never wrong, and the image's own is right."""
    draw = partial(torch.randint, generator=rng())
    true = draw(0, 3, (40, 3))
    said = true.where(draw(0, 2, (40, 3)) == 1, -1)
    others = [
        {j for j in range(40) if any(s not in (-1, t) for s, t in zip(said[j], true[i], strict=True))}
        for i in range(40)
    ]
    drawn: list[set[int]] = [set() for _ in range(40)]
    for seed in range(30):
        rows, found = wrong_captions(said, true, rng(seed))
        assert found.tolist() == [bool(js) for js in others]
        for i, j in enumerate(rows.tolist()):
            assert not others[i] or j in others[i]
            drawn[i].add(j)
    assert all(i not in js for i, js in enumerate(others))
    assert sum(map(len, drawn)) > 10 * 40, "many captions are tried"


def test_another_images_caption_can_be_right():
    """Two sevens under "a seven" and "a thin seven": the thick one's wrong caption is the other's alone."""
    true = torch.tensor([[7, 0], [7, 2], [1, 2]])
    said = torch.tensor([[7, 0], [7, -1], [1, -1]])
    for seed in range(20):
        rows, found = wrong_captions(said, true, rng(seed))
        assert rows[0] == 2 and rows[1] in (0, 2) and rows[2] in (0, 1) and found.all()


def test_wrong_captions_are_equally_likely():
    """Three wrong ones, 3,000 draws: 1,000 each, with a standard deviation of 26; four of them."""
    said, true = torch.tensor([[0], [1], [1], [2]]), torch.zeros(3000, 1, dtype=torch.int64)
    rows, _ = wrong_captions(said, true, rng())
    counts = torch.bincount(rows, minlength=4)
    assert counts[0] == 0 and (counts[1:] - 1000).abs().max() < 104


def test_where_the_optimum_lies():
    r"""Against the best D, G faces JSD(p_r || (p_w + p_f) / 2): its slope with respect to p_f in closed form.

    It is log(1 - D*) / 2 with D* = p_r / (p_r + (p_w + p_f) / 2), and at a minimum it is constant where
    p_f > 0. So p_f = p_r is one where captions are wrong or right, as ours are, and where they overlap by
    degrees it is not (Gong and Xia 2018).
    """
    x = torch.linspace(-6, 6, 200, dtype=torch.float64)
    right, other = (torch.softmax(-(x - mean).square() / 2, 0) for mean in (-1, 1))

    def slope(p_r: Tensor, p_w: Tensor) -> Tensor:
        D = p_r / (p_r + (p_w + p_r) / 2)
        return ((1 - D).log() / 2)[p_r > 1e-6]

    assert slope(right, (right + other) / 2).std() > 0.1, "by degrees, shuffled"
    here, there = right * (x < 0), right * (x >= 0)
    assert slope(here, (here + there) / 2).std() < 1e-12, "right or wrong, shuffled: some pairs are right"
    assert slope(here, there).std() < 1e-12, "right or wrong, and only wrong ones"


# Samples


def test_samples_follow_their_captions():
    g, z = exact()
    _, tokens, *_ = batch()
    images = g.sample(N, captions=tokens[:, 0], batch_size=4)
    g.eval()
    assert torch.allclose(images, g.generator(z, tokens[:, 0]).float())
    assert not torch.allclose(images, g.sample(N, captions=tokens[:, 0].flip(0)))
    with pytest.raises(ValueError, match="captions must be 6"):
        g.sample(N, captions=tokens[:2, 0])


def test_samples_without_captions_take_the_games_own():
    g = game()
    asked: list[Tensor] = []
    g.generator.text.register_forward_pre_hook(lambda module, inputs: asked.append(inputs[0]))
    first, again = (g.sample(40, rng(6)) for _ in range(2))
    assert torch.equal(first, again)
    rows = {tuple(row) for row in asked[0].tolist()}
    assert rows == {tuple(row) for row in g.captions.tolist()}, "40 draws of 4: one is missed once in 2e4"


def test_morph():
    """Its ends are the captions' images; between them embeddings, not images or words, are mixed."""
    g, z = exact()
    _, tokens, *_ = batch()
    a, b = tokens[:3, 0], tokens[3:, 0]
    path = g.morph(a, b, steps=3)
    assert path.shape == (3, 3, 1, 8, 8)
    g.eval()
    with torch.no_grad():
        middle = g.generator.paint(z[:3], (g.generator.text(a) + g.generator.text(b)) / 2)
        for step, expected in enumerate((g.generator(z[:3], a), middle, g.generator(z[:3], b))):
            assert torch.allclose(path[:, step], expected.float(), atol=1e-6)
    with pytest.raises(ValueError, match="pairs"):
        g.morph(a, b[:2])
    with pytest.raises(ValueError, match="steps"):
        g.morph(a, b, steps=1)


def test_bad_input():
    good = torch.ones(2, 3, dtype=torch.int64)
    for captions in (good.float(), good[0], good[:0]):
        with pytest.raises(ValueError, match="captions must be int64"):
            MatchingGAN(game().generator, game().discriminator, captions)
    with pytest.raises(ValueError, match="between"):
        game(between=-1.0)
    with pytest.raises(ValueError, match="four tensors"):
        game().loss("generator", batch()[:2])


# The recipe and its report


class Follows(nn.Module):
    """A generator that looks a real image up for each caption."""

    latent_dim = 2

    def __init__(self, pictures: dict[tuple, Tensor]) -> None:
        super().__init__()
        self.pictures, self.weight = pictures, nn.Parameter(torch.zeros(1))

    def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
        return torch.stack([self.pictures[parse(text)] for text in mnist_tokenizer().text(tokens)])


def test_report_of_a_generator_that_follows_and_of_one_that_does_not():
    """Real images with the attributes asked for: all is followed but what the classifier misreads."""
    images, labels = (t[:300] for t in mnist("test"))
    wanted = attributes(images, labels)
    pictures = {tuple(row): image for row, image in zip(wanted.tolist(), images, strict=True)}
    perfect = MatchingGAN(Follows(pictures), nn.Identity(), torch.ones(1, 1, dtype=torch.int64))
    figures = caption_report(perfect, mnist_tokenizer(), 300)
    assert figures["slant_followed"] == figures["thickness_followed"] == figures["size_followed"] == 1
    assert figures["digit_followed"] > 0.97 and figures["all_four_followed"] == figures["digit_followed"]
    assert 0 < figures["held_out_followed"] <= 1 and figures["seen_corners_followed"] > 0.97
    constant = MatchingGAN(
        Follows(dict.fromkeys(pictures, images[0])), nn.Identity(), torch.ones(1, 1, dtype=torch.int64)
    )
    figures = caption_report(constant, mnist_tokenizer(), 300)
    seen = ~among(wanted, HELD_OUT)
    for column, name in enumerate(("digit", "slant", "thickness", "size")):
        share = (wanted[seen, column] == wanted[0, column]).double().mean().item()
        assert figures[f"{name}_followed"] == pytest.approx(share, abs=1e-12)


def test_telling_captions_apart():
    """A D that reads the digit and nothing else: always right about it, and level about the rest."""

    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def look(self, x: Tensor) -> Tensor:
            from ganlib.metrics import ClassifierFeatures

            return ClassifierFeatures().predict(x)

        def text(self, tokens: Tensor) -> Tensor:
            return torch.tensor([parse(text)[0] for text in mnist_tokenizer().text(tokens)])

        def judge(self, digits: Tensor, named: Tensor) -> Tensor:
            return (digits == named).float()

    g = MatchingGAN(Follows({}), Reads(), torch.ones(1, 1, dtype=torch.int64))
    figures = tells_apart(g, mnist_tokenizer(), 200)
    assert figures["digit_told_apart"] > 0.97
    assert [figures[f"{name}_told_apart"] for name in ("slant", "thickness", "size")] == [0, 0, 0]


def test_variety():
    """Real images drawn again have as much of it, the same one each time has none, twice as wide twice."""
    images, labels = mnist("test")
    true = attributes(images, labels)
    medium = (true[:, 1:] == 1).all(1)

    class Repeats(Follows):
        def __init__(self, scale: float) -> None:
            super().__init__({})
            self.scale = scale

        def forward(self, z: Tensor, tokens: Tensor) -> Tensor:
            digit, *rest = parse(mnist_tokenizer().text(tokens[:1])[0])
            holds = (labels == digit) & (medium if rest[0] is not None else labels >= 0)
            return self.scale * images[holds][: len(tokens)]

    for scale in (0.0, 1.0, 2.0):
        g = MatchingGAN(Repeats(scale), nn.Identity(), torch.ones(1, 1, dtype=torch.int64))
        figures = variety(g, mnist_tokenizer(), 60)
        assert figures == pytest.approx({"variety_open": scale, "variety_all_said": scale}, abs=1e-9)


def test_held_out_combinations_are_never_shown():
    found, _ = training_data(None, Budget.SMOKE)
    assert len(found.images) == 1000 and not among(found.true, HELD_OUT).any()
    whole = attributes(*(t[:1100] for t in mnist("train")))
    assert 20 < among(whole, HELD_OUT).sum() < 80
    brute = [tuple(row[:3]) in HELD_OUT for row in whole.tolist()]
    assert among(whole, HELD_OUT).tolist() == brute
    for column in range(3):
        assert {c[column] for c in HELD_OUT} <= set(found.true[:, column].tolist()), "each alone is seen"


def test_recipe():
    made = systems.get("gan-cls").experiment(Budget.SMOKE)
    figures = made.evaluate(made.game)
    assert {"fid", "digit_followed", "all_four_followed", "held_out_followed", "slant_told_apart"} <= set(
        figures
    )
    assert all(math.isfinite(value) for value in figures.values())
    assert set(made.game.state_dict()) == {n for n, _ in made.game.named_parameters()} | {
        n for n, _ in made.game.named_buffers() if n != "captions"
    }, "the captions come from the recipe, not from a checkpoint"


def test_paper_constants():
    """Reed et al. 2016: Adam at 2e-4 with momentum 0.5, 100 latents, texts of 128 numbers, batches of 64."""
    pictures = Images(torch.zeros(70, 3, 8, 8), torch.arange(70) % 7)
    made = experiment(Budget.GPU, pictures)
    assert made.settings.batch_size == 64 and made.evaluate is None
    for player, make in made.settings.optimizers.items():
        group = make(made.game.players[player].parameters()).param_groups[0]
        assert group["lr"] == 2e-4 and group["betas"] == (0.5, 0.999)
    assert made.game.generator.latent_dim == 100
    assert made.game.generator.text(made.data[1][:2, 0]).shape == (2, 128)
    assert isinstance(made.game.adversarial, NonSaturating) and made.game.adversarial.real_label == 1.0


def test_study_leaves_the_wrong_pairs_out(tmp_path, monkeypatch):
    """The recipe of the system and its report; one switch is turned, and it is this one."""
    from ganlib.studies import gan_cls as module

    made = []
    monkeypatch.setattr(module, "experiment", lambda *a, **k: made.append(experiment(*a, **k)) or made[-1])
    (path,) = studies.run(studies.get("matching-aware"), Budget.SMOKE, seeds=[3], folder=tmp_path)
    system = systems.get("gan-cls").experiment(Budget.SMOKE, seed=3)
    assert system.game.wrong and not made[0].game.wrong and not made[0].game.between
    assert made[0].steps == system.steps and made[0].notes == system.notes
    figures = json.loads(path.read_text(encoding="utf-8"))["figures"]
    assert {"all_four_followed", "thickness_told_apart", "fid"} <= set(figures)
