"""The semi-supervised game: its logit against an explicit softmax, who learns from what, and its recipe."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, log_softmax, softplus

from ganlib import studies, systems
from ganlib.data import Images
from ganlib.losses import FeatureMatching
from ganlib.models.semi_supervised import (
    Classifier,
    GaussianNoise,
    Generator,
    LabelsAlone,
    SemiSupervisedGAN,
    balanced_subset,
    error_rate,
    initialize_,
    real_logit,
)
from ganlib.training import Budget

SHAPE = (1, 4, 4)


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def normal(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def pictures(n: int, classes: int = 3, seed: int = 1) -> Images:
    return Images(normal(n, *SHAPE, seed=seed).tanh(), torch.arange(n) % classes)


def game(matching: bool = True, noise: tuple[float, float] = (0.3, 0.5), **options) -> SemiSupervisedGAN:
    classifier = initialize_(Classifier(SHAPE, 3, (8, 6), noise), pictures(50).images)
    term = FeatureMatching(classifier.features) if matching else None
    return SemiSupervisedGAN(Generator(5, 7, SHAPE), classifier, pictures(6, seed=2), term, **options)


def exact(matching: bool = True) -> tuple[SemiSupervisedGAN, torch.Tensor]:
    """A game in double precision without noise, whose latents are fixed."""
    g = game(matching, noise=(0.0, 0.0)).double()
    z = normal(8, 5, dtype=torch.float64)
    g.latent = lambda n: z[:n]
    return g, z


# One logit in place of a K+1-th class


def test_real_logit_in_closed_form():
    """Z = 1 + 2 + 3 = 6, so that D = 6/7; and a single logit is that of the two-class GAN."""
    logits = torch.tensor([[1.0, 2.0, 3.0]]).log()
    # 1e-6: a few float32 roundings.
    assert real_logit(logits).sigmoid().item() == pytest.approx(6 / 7, abs=1e-6)
    one = normal(5, 1)
    torch.testing.assert_close(real_logit(one), one[:, 0])


def test_equals_a_softmax_over_one_more_class_with_its_logit_at_zero():
    logits = normal(9, 4, dtype=torch.float64).mul(3).requires_grad_()
    explicit = log_softmax(torch.cat([logits, logits.new_zeros(9, 1)], 1), 1)
    # Values and gradients agree to double precision's rounding, the default tolerance there (1e-7).
    for ours, theirs in (
        (-softplus(-real_logit(logits)), explicit[:, :-1].logsumexp(1)),  # log p(real)
        (-softplus(real_logit(logits)), explicit[:, -1]),  # log p(generated)
        (log_softmax(logits, 1)[:, 2], explicit[:, 2] - explicit[:, :-1].logsumexp(1)),  # log p(2 | real)
    ):
        torch.testing.assert_close(ours, theirs)
        got, wanted = (torch.autograd.grad(x.sum(), logits, retain_graph=True)[0] for x in (ours, theirs))
        torch.testing.assert_close(got, wanted)


def test_real_logit_keeps_far_logits_apart():
    """Exponentials of 200 overflow float32 and those of -200 vanish; their logarithms do neither."""
    far = torch.tensor([[200.0, 0.0], [-200.0, -200.0]])
    wanted = torch.tensor([200.0, -200.0 + torch.tensor(2.0).log().item()])
    torch.testing.assert_close(real_logit(far), wanted)


def test_real_logit_of_half_precision_is_summed_in_float32():
    logits = normal(5, 10).bfloat16()
    assert real_logit(logits).dtype == torch.float32
    torch.testing.assert_close(real_logit(logits), real_logit(logits.float()))


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_real_logit_wants_a_table(shape):
    with pytest.raises(ValueError, match=r"logits.*\(N, K\)"):
        real_logit(torch.zeros(shape))


# The losses


def test_discriminators_loss_is_the_cross_entropy_over_k_plus_one_classes():
    """Against the paper's formula with the extra class written out, by value and by every gradient."""
    g, z = exact()
    real = pictures(8).images.double()
    by_hand = copy.deepcopy(g)

    def explicit(x):
        logits = by_hand.discriminator(x)
        return log_softmax(torch.cat([logits, logits.new_zeros(len(x), 1)], 1), 1)

    unlabelled = explicit(real)[:, :-1].logsumexp(1).mean()
    fakes = explicit(by_hand.generator(z).detach())[:, -1].mean()
    labelled = -by_hand.discriminator(g.labelled_images).softmax(1)[range(6), g.labels].log().mean()
    terms = g.loss("discriminator", (real,))
    assert set(terms) == {"adversarial", "labelled"}
    torch.testing.assert_close(terms["adversarial"], -0.5 * (unlabelled + fakes))
    torch.testing.assert_close(terms["labelled"], labelled)
    sum(terms.values()).backward()
    (labelled - 0.5 * (unlabelled + fakes)).backward()
    for ours, theirs in zip(g.discriminator.parameters(), by_hand.discriminator.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_weight_of_the_unlabelled_term():
    g, _ = exact()
    h, _ = exact()
    h.load_state_dict(g.state_dict())
    h.weight = 2.0
    real = (pictures(8).images.double(),)
    once, fourfold = (x.loss("discriminator", real) for x in (g, h))
    torch.testing.assert_close(fourfold["adversarial"], 4 * once["adversarial"])
    torch.testing.assert_close(fourfold["labelled"], once["labelled"])


def test_generators_losses():
    """Batch means of the last hidden layer, or -log D, both from the definition."""
    real = pictures(8).images.double()
    g, z = exact()
    fake = g.generator(z)
    difference = g.discriminator.features(real).mean(0) - g.discriminator.features(fake).mean(0)
    terms = g.loss("generator", (real,))
    assert list(terms) == ["feature matching"]
    torch.testing.assert_close(terms["feature matching"], difference.square().sum())
    g, z = exact(matching=False)
    total = g.discriminator(g.generator(z)).exp().sum(1)
    terms = g.loss("generator", (real,))
    assert list(terms) == ["adversarial"]
    torch.testing.assert_close(terms["adversarial"], -(total / (total + 1)).log().mean())


@pytest.mark.parametrize("matching", [True, False])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_by_finite_differences(player, matching):
    g, _ = exact(matching)
    batch = (pictures(8).images.double(),)
    # Away from the kinks of ReLU: the seeds are fixed and the steps are 1e-6.
    chosen = {
        name: p.detach().requires_grad_()
        for name, p in g.named_parameters()
        if name.startswith(player) and p.requires_grad and p.numel() < 60
    }
    names = list(chosen)

    def loss(*parameters):
        values = dict(zip(names, parameters, strict=True))
        changed = {f"game.{name}": value for name, value in values.items()}
        return torch.func.functional_call(Sum(g, player), changed, (batch,))

    assert torch.autograd.gradcheck(loss, tuple(chosen.values()))


class Sum(nn.Module):
    def __init__(self, g: SemiSupervisedGAN, player: str) -> None:
        super().__init__()
        self.game, self.player = g, player

    def forward(self, batch):
        return sum(self.game.terms(self.player, batch).values())


# Who learns from what


@pytest.mark.parametrize("matching", [True, False])
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_gradients_go_to_the_player_alone(player, matching):
    g = game(matching)
    sum(g.loss(player, (pictures(8).images,)).values()).backward()
    for name, module in g.players.items():
        got = [p.grad is not None and bool(p.grad.any()) for p in module.parameters() if p.requires_grad]
        assert all(got) if name == player else not any(got)


def test_matched_features_carry_a_graph_of_the_fakes_alone():
    """The real features are constants, and so is the network that makes both."""
    g = game()
    seen = []

    def note(module, inputs, output):
        seen.append((output.requires_grad, [p.requires_grad for p in module.parameters()]))

    g.discriminator.features.register_forward_hook(note)
    g.loss("generator", (pictures(8).images,))
    (real, frozen), (fake, also) = seen
    assert not real and fake and not any(frozen) and not any(also)


def test_labels_of_the_batch_are_not_looked_at():
    g = game()
    images, labels = pictures(8)
    found = []
    for batch in ((images, labels), (images, labels.flip(0)), (images,)):
        with torch.random.fork_rng():
            torch.manual_seed(3)
            found.append(g.loss("discriminator", batch))
    assert all(torch.equal(found[0][name], other[name]) for other in found[1:] for name in found[0])


def test_the_labelled_images_are_no_part_of_the_state():
    g = game()
    assert not [name for name in g.state_dict() if "label" in name]
    assert {name for name, _ in g.named_buffers()} >= {"labelled_images", "labels"}


def test_labels_alone():
    """The labelled term of the game, whatever the batch."""
    g = game(noise=(0.0, 0.0))
    alone = LabelsAlone(g.discriminator, Images(g.labelled_images, g.labels))
    assert list(alone.players) == ["discriminator"]
    for batch in (pictures(8), pictures(9, seed=5)):
        terms = alone.loss("discriminator", batch)
        assert list(terms) == ["labelled"]
        torch.testing.assert_close(
            terms["labelled"], cross_entropy(g.discriminator(g.labelled_images), g.labels)
        )


def test_batch_norm_in_the_classifier_sees_real_and_fake_apart():
    g = game(noise=(0.0, 0.0))
    mixed = nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    h = SemiSupervisedGAN(g.generator, mixed, pictures(6))
    rows = []
    mixed[2].register_forward_hook(lambda module, inputs, output: rows.append(len(output)))
    h.loss("discriminator", (pictures(8).images,))
    assert rows == [8, 8, 6]


@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_bfloat16_agrees_with_float32(player):
    g = game(noise=(0.0, 0.0))
    z = normal(8, 5)
    g.latent = lambda n: z[:n]
    batch = (pictures(8).images,)
    full = g.loss(player, batch)
    with torch.autocast("cpu", torch.bfloat16):
        half = g.loss(player, batch)
    for name in full:
        assert half[name].dtype == torch.float32
        # 8 bits of mantissa through three layers: a few per cent.
        torch.testing.assert_close(half[name], full[name], rtol=0.05, atol=0.01)


@pytest.mark.parametrize(
    ("labelled", "options", "match"),
    [
        (Images(torch.zeros(0, *SHAPE), torch.zeros(0, dtype=torch.long)), {}, "labelled.*0 images"),
        (Images(torch.zeros(2, *SHAPE), torch.zeros(3, dtype=torch.long)), {}, "2 images, 3 labels"),
        (pictures(3), {"weight": -1.0}, "weight.*-1"),
    ],
)
def test_refuses(labelled, options, match):
    with pytest.raises(ValueError, match=match):
        SemiSupervisedGAN(Generator(5, 7, SHAPE), Classifier(SHAPE, 3, (4,)), labelled, **options)


# Labelled subsets and the error


def test_balanced_subset():
    data = Images(torch.arange(60.0).view(60, 1), torch.arange(60) % 4)
    first, again, other = (balanced_subset(data, 3, seed) for seed in (0, 0, 1))
    assert first.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert torch.equal(first.images.flatten().long() % 4, first.labels), "an image keeps its own label"
    assert len(first.images.unique()) == 12, "none is drawn twice"
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    with pytest.raises(ValueError, match=r"per_class is 16.*class 0 has 15"):
        balanced_subset(data, 16)
    with pytest.raises(ValueError, match=r"per_class.*0"):
        balanced_subset(data, 0)


def test_error_rate():
    """A network that answers 0 is wrong on two thirds of three equal classes; noise is off meanwhile."""

    class Zero(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bias = nn.Parameter(torch.tensor([1.0, 0.0, 0.0]))
            self.noise = GaussianNoise(100.0)

        def forward(self, x):
            return self.noise(self.bias.expand(len(x), 3))

    network = Zero()
    assert error_rate(network, pictures(30), batch_size=7) == pytest.approx(2 / 3, abs=1e-12)
    assert network.noise.training


# The networks


def test_noise():
    layer = GaussianNoise(0.5)
    x = torch.full((200, 300), 3.0)
    added = layer(x) - x
    # 60,000 draws: the standard errors are 0.002 of the mean and 0.0015 of the standard deviation; five each.
    assert added.mean().abs() < 0.01 and (added.std() - 0.5).abs() < 0.0075
    assert torch.equal(layer.eval()(x), x)


def test_initialization_standardises_every_layer():
    """Salimans and Kingma: mean 0 and variance 1 before every activation, on the batch that it was given."""
    images = pictures(200).images
    classifier = Classifier(SHAPE, 3, (8, 6), noise=(0.0, 0.0))
    seen = []
    for layer in classifier.modules():
        if isinstance(layer, nn.Linear):
            layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
    initialize_(classifier, images)
    seen.clear()
    classifier(images)
    assert len(seen) == 3
    for outputs in seen:
        mean, variance = outputs.mean(0), outputs.var(0, correction=0)
        # 1e-4: float32 sums of 200 rows.
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
        torch.testing.assert_close(variance, torch.ones_like(variance), atol=1e-4, rtol=0)
    layers = [m for m in classifier.modules() if isinstance(m, nn.Linear)]
    frozen = [not layer.parametrizations.weight.original0.requires_grad for layer in layers]
    assert frozen == [True, True, False], "the scales of the hidden layers are fixed, as the authors fix them"


def test_a_constant_unit_is_not_divided_by_zero():
    classifier = initialize_(Classifier(SHAPE, 3, (8,), noise=(0.0, 0.0)), torch.ones(5, *SHAPE))
    assert all(p.isfinite().all() for p in classifier.parameters())


def test_networks_against_the_published_sizes():
    """The authors' classifier: 784-1000-500-250-250-250-10, noise 0.3 and 0.5; generator: 100-500-500-784."""
    classifier, generator = Classifier(), Generator()
    sizes = [(m.in_features, m.out_features) for m in classifier.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(784, 1000), (1000, 500), (500, 250), (250, 250), (250, 250), (250, 10)]
    assert [m.std for m in classifier.modules() if isinstance(m, GaussianNoise)] == [0.3] + [0.5] * 5
    sizes = [(m.in_features, m.out_features) for m in generator.modules() if isinstance(m, nn.Linear)]
    assert sizes == [(100, 500), (500, 500), (500, 784)]
    images = generator(normal(5, 100) * 10)
    assert images.shape == (5, 1, 28, 28) and images.abs().max() <= 1 and images.min() < 0 < images.max()
    assert classifier(images).shape == (5, 10) and classifier.features(images).shape == (5, 250)
    assert isinstance(classifier.features[-1], nn.ReLU), "matched after the activation, before the noise"


def test_weights_have_the_length_that_their_scale_says():
    classifier = initialize_(Classifier(SHAPE, 3, (8, 6)), pictures(50).images)
    for layer in classifier.modules():
        if isinstance(layer, nn.Linear):
            scale = layer.parametrizations.weight.original0.flatten()
            torch.testing.assert_close(layer.weight.norm(dim=1), scale)


# Recipe and study


def test_recipe_gives_the_trainer_no_labels():
    data = pictures(60)
    experiment = systems.get("semi-supervised-gan").experiment(Budget.CPU, 0, data)
    game = experiment.game
    assert len(experiment.data) == 1 and torch.equal(experiment.data[0], data.images)
    assert game.labels.bincount().tolist() == [10, 10, 10]
    rows = [int((data.images == image).flatten(1).all(1).nonzero()) for image in game.labelled_images]
    assert torch.equal(data.labels[rows], game.labels)


def test_constants():
    """The authors' published code: batches of 100, Adam 0.003 and beta1 0.5, averages 0.9999, 300 epochs."""
    experiment = systems.get("semi-supervised-gan").experiment(Budget.GPU, data=pictures(30))
    chosen = experiment.settings
    assert chosen.batch_size == 100 and experiment.steps == 300 * 600 and chosen.schedule is None
    assert chosen.ema["discriminator"] == 0.9999 and experiment.game.weight == 0.5
    for player, make in chosen.optimizers.items():
        optimizer = make(experiment.game.players[player].parameters())
        assert optimizer.defaults["lr"] == 3e-3 and optimizer.defaults["betas"] == (0.5, 0.999)


def test_study_has_the_papers_numbers_of_labels():
    cells = studies.get("semi-supervised").cells(Budget.SMOKE)
    assert {(c.labels["method"], int(c.labels["labels"])) for c in cells} == {
        (method, n) for method in ("feature-matching", "labels-alone") for n in (20, 50, 100, 200)
    } | {("adversarial", 100)}


@pytest.mark.parametrize(
    ("name", "terms"),
    [
        ("feature-matching-20", {"discriminator/adversarial", "generator/feature matching"}),
        ("adversarial-100", {"discriminator/adversarial", "generator/adversarial"}),
        ("labels-alone-20", set()),
    ],
)
def test_study_cells_play_what_they_are_named_for(name, terms):
    (cell,) = (c for c in studies.get("semi-supervised").cells(Budget.SMOKE) if c.name == name)
    outcome = cell.run(0)
    assert 0 < outcome.figures["test_error_percent"] < 100
    assert set(outcome.history.names) == {"step", "seconds", "discriminator/labelled"} | terms
    alone = not terms
    assert (outcome.images is None) == ("fid" not in outcome.figures) == alone
    assert any("no generator" in note for note in outcome.notes) == alone
