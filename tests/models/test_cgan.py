"""CGAN: where the label enters, what the best discriminator makes of it, and how the run is scored."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import nn

from ganlib import systems
from ganlib.data import Images, mnist
from ganlib.losses import NonSaturating
from ganlib.models import cgan
from ganlib.models.cgan import Discriminator, Generator, MLPDiscriminator, MLPGenerator
from ganlib.models.conditional import ConditionalGAN, requested_accuracy
from ganlib.theory.discriminator import optimal_discriminator
from ganlib.training import Budget


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def perceptrons(shape=(1, 8, 8), classes=3) -> tuple[MLPGenerator, MLPDiscriminator]:
    generator = MLPGenerator(classes, 5, (4, 6, 7), shape)
    return generator, MLPDiscriminator(classes, (6, 4, 5), (3, 2, 2), shape, dropout=0.0)


def convolutions(classes=3) -> tuple[Generator, Discriminator]:
    return Generator(classes, 5, 4, 4, 1, 8), Discriminator(classes, 4, 1, 8)


class Fixed(nn.Module):
    """A generator of discrete q(x|y): the samples of one batch, as they are."""

    latent_dim = 1

    def __init__(self, samples: torch.Tensor) -> None:
        super().__init__()
        self.samples = nn.Parameter(samples)

    def forward(self, z, labels):
        return self.samples


networks = pytest.mark.parametrize("make", [perceptrons, convolutions])


def arrays(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().double().numpy() for name, p in module.named_parameters()}


# The paper's networks


def test_perceptrons_by_hand():
    """In numpy's float64; 1e-5 is float32's rounding over layers of ten units or fewer, with room."""
    generator, discriminator = perceptrons()
    z, labels, x = torch.randn(4, 5), torch.tensor([0, 2, 1, 2]), torch.randn(4, 1, 8, 8)
    y = np.eye(3)[labels]

    p = arrays(generator)
    behind_z = z.double().numpy() @ p["from_z.weight"].T + p["from_z.bias"]
    behind_y = y @ p["from_y.weight"].T + p["from_y.bias"]
    h = np.maximum(np.concatenate([behind_z, behind_y], 1), 0) @ p["joint.1.weight"].T + p["joint.1.bias"]
    wanted = np.tanh(np.maximum(h, 0) @ p["joint.3.weight"].T + p["joint.3.bias"])
    found = generator(z, labels)
    assert found.shape == (4, 1, 8, 8)
    np.testing.assert_allclose(found.detach().flatten(1), wanted, atol=1e-5)

    p = arrays(discriminator)

    def maxout(inputs, name, pieces):
        maps = inputs @ p[f"{name}.linear.weight"].T + p[f"{name}.linear.bias"]
        return maps.reshape(len(maps), -1, pieces).max(2)

    sides = maxout(x.flatten(1).double().numpy(), "from_x.1", 3), maxout(y, "from_y", 2)
    h = maxout(np.concatenate(sides, 1), "joint.1", 2)
    wanted = (h @ p["joint.3.weight"].T + p["joint.3.bias"])[:, 0]
    np.testing.assert_allclose(discriminator(x, labels).detach(), wanted, atol=1e-5)


def test_the_papers_sizes():
    """Weights and biases of section 4.1's layers, on its 784 pixels."""

    def linear(inputs, outputs):
        return (inputs + 1) * outputs

    generator, discriminator = MLPGenerator(10, shape=(1, 28, 28)), MLPDiscriminator(10, shape=(1, 28, 28))
    count = [sum(p.numel() for p in network.parameters()) for network in (generator, discriminator)]
    assert count[0] == linear(100, 200) + linear(10, 1000) + linear(1200, 1200) + linear(1200, 784)
    assert count[1] == linear(784, 240 * 5) + linear(10, 50 * 5) + linear(240 + 50, 240 * 4) + linear(240, 1)
    assert generator.latent_dim == 100
    assert [m.p for m in discriminator.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


# What the label does


@networks
def test_discriminator_judges_image_and_label_together(make):
    """A score of x plus a score of y has no such difference of differences; 1e-4 is far above rounding."""
    discriminator = make()[1].eval()
    x = torch.randn(2, 1, 8, 8)
    scores = torch.stack([discriminator(x, torch.full((2,), label)) for label in (0, 1)])
    together = scores[0, 0] - scores[0, 1] - scores[1, 0] + scores[1, 1]
    assert together.abs() > 1e-4


@networks
def test_each_sample_answers_to_its_own_label(make):
    generator, discriminator = (network.eval() for network in make())
    z, labels = torch.randn(6, 5), torch.tensor([0, 1, 2, 0, 1, 2])
    order = torch.tensor([3, 5, 0, 1, 4, 2])
    images, turned = generator(z, labels), generator(z[order], labels[order])
    # the same sums in another place of the batch: equal but for float32's last digits
    torch.testing.assert_close(turned, images[order], atol=1e-6, rtol=1e-5)
    x = images.detach()
    judged, again = discriminator(x, labels), discriminator(x[order], labels[order])
    torch.testing.assert_close(again, judged[order], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(generator(z, (labels + 1) % 3), images, atol=1e-4)
    assert not torch.allclose(discriminator(x, (labels + 1) % 3), judged, atol=1e-4)


@networks
def test_swapped_labels_change_both_losses(make):
    """Of fakes that do not depend on labels: what changes is what D makes of the pairs."""
    game = ConditionalGAN(Fixed(torch.randn(6, 1, 8, 8)), make()[1], NonSaturating(), classes=3)
    batch = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])
    for player in game.turns:
        losses = [
            game.loss(player, (batch[0], y))["adversarial"].item() for y in (batch[1], batch[1].flip(0))
        ]
        assert abs(losses[0] - losses[1]) > 1e-5  # rounding: 1e-7


@networks
def test_generators_label_path_gets_gradient_and_the_other_player_none(make):
    """Only the classes asked for: the columns, or rows, of the others have a gradient of exactly zero."""
    game = ConditionalGAN(*make(), NonSaturating(), classes=3)
    batch = torch.randn(4, 1, 8, 8), torch.tensor([0, 2, 2, 0])
    game.loss("generator", batch)["adversarial"].backward()
    generator = game.generator
    slopes = generator.embedding.weight.grad if make is convolutions else generator.from_y.weight.grad.T
    assert slopes[0].norm() > 0 and slopes[2].norm() > 0 and not slopes[1].any()
    assert all(p.grad is None for p in game.discriminator.parameters())

    game.zero_grad()
    game.loss("discriminator", batch)["adversarial"].backward()
    table = (
        game.discriminator.planes.weight.grad
        if make is convolutions
        else game.discriminator.from_y.linear.weight.grad.T
    )
    assert table[0].norm() > 0 and table[2].norm() > 0 and not table[1].any()
    assert all(p.grad is None or not p.grad.any() for p in generator.parameters())


P = np.array([[6, 1, 1], [1, 1, 6]]) / 8
Q = np.array([[2, 2, 4], [4, 2, 2]]) / 8


def test_best_discriminator_compares_within_the_class():
    r"""D*(x, y) = p(x|y) / (p(x|y) + q(x|y)), at three places x and for two labels y.

    A batch of 16 holds each pair as often as p and q say, so its loss is the expectation. 0.01: LBFGS stops
    some thousandths short. D* without labels, of p(x) and q(x), is 0.2 or more away at the first place.
    """
    places = torch.tensor([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.7]])
    labels = torch.arange(2).repeat_interleave(8)

    def rows(table):
        return torch.cat([places.repeat_interleave(torch.tensor(8 * row).long(), 0) for row in table])

    network = MLPDiscriminator(2, (16, 4, 16), (2, 2, 2), (2,), dropout=0.0)
    game = ConditionalGAN(Fixed(rows(Q)), network, NonSaturating(), classes=2)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = game.loss("discriminator", (rows(P), labels))["adversarial"]
        loss.backward()
        return loss

    optimizer.step(closure)
    pairs = places.repeat(2, 1), torch.arange(2).repeat_interleave(3)
    found = network(*pairs).sigmoid().detach().double().numpy().reshape(2, 3)
    np.testing.assert_allclose(found, optimal_discriminator(P, Q), atol=0.01)
    unconditional = optimal_discriminator(P.mean(0), Q.mean(0))
    assert abs(found[:, 0] - unconditional[0]).min() > 0.2
    # and the loss there: -C(G) = log 4 - 2 E_y JSD
    shares = optimal_discriminator(P, Q)
    value = -(P * np.log(shares) + Q * np.log(1 - shares)).sum() / 2
    assert closure().item() == pytest.approx(value, abs=1e-3)


# The run


class Painter(nn.Module):
    """A generator that knows the test set; ``obeys`` says whether it looks at the label."""

    latent_dim = 2

    def __init__(self, obeys: bool = True) -> None:
        super().__init__()
        self.unused, self.obeys, self.asked = nn.Parameter(torch.zeros(())), obeys, []
        data = mnist("test")
        self.examples = torch.stack([data.images[data.labels == digit][:50] for digit in range(10)])

    def forward(self, z, labels):
        self.asked.append(labels)
        chosen = labels if self.obeys else (torch.special.ndtr(z[:, 1]) * 10).long()
        return self.examples[chosen, (torch.special.ndtr(z[:, 0]) * 50).long()]


def test_a_generator_that_ignores_its_label_is_right_one_time_in_ten():
    """Five binomial standard deviations of 300 draws: sqrt(0.1 * 0.9 / 300) = 0.017."""
    game = ConditionalGAN(Painter(obeys=False), MLPDiscriminator(10), NonSaturating(), classes=10)
    assert requested_accuracy(game, 300) == pytest.approx(0.1, abs=0.087)


def test_parzen_report_against_scipy():
    """Ten samples of every class, 28 x 28 pixels in [0, 1], the width chosen on images never trained on."""
    game = ConditionalGAN(Painter(), MLPDiscriminator(10), NonSaturating(), classes=10)
    found = cgan.parzen_report(game, Budget.SMOKE)
    (asked,) = game.generator.asked
    assert torch.bincount(asked).tolist() == [10] * 10
    samples = game.sample(100, rng(), asked)[:, :, 2:-2, 2:-2]
    points = [mnist(split, size=28).images[start:][:100] for split, start in (("train", 50_000), ("test", 0))]
    samples, validation, test = ((x.flatten(1).double().numpy() + 1) / 2 for x in (samples, *points))

    def score(sigma, x):
        kernels = [scipy.stats.norm(samples, sigma).logpdf(point).sum(1) for point in x]
        return scipy.special.logsumexp(kernels, axis=1) - np.log(100)

    near = [found["sigma"] * 10 ** (k / 27) for k in (-1, 0, 1)]  # the candidates are 27 to a decade
    middle = [score(sigma, validation).mean() for sigma in near]
    assert max(middle) == middle[1]
    assert np.abs(np.logspace(-1, 0, 28) - found["sigma"]).min() < 1e-12
    scores = score(found["sigma"], test)
    assert found["log_likelihood"] == pytest.approx(scores.mean(), rel=1e-6)  # pixels are float32
    assert found["standard_error"] == pytest.approx(scores.std() / math.sqrt(100), rel=1e-6)


def test_the_run_holds_back_what_the_score_needs():
    made = systems.get("cgan").experiment(Budget.CPU, 0)
    train = mnist("train")
    assert torch.equal(made.data.labels, train.labels[:50_000])
    assert torch.equal(made.data.images[-100:], train.images[49_900:50_000])
    assert made.evaluate is not None


def test_any_labelled_images_will_do():
    images = Images(torch.rand(40, 3, 16, 16, generator=rng()) * 2 - 1, torch.arange(40) % 4)
    made = systems.get("cgan").experiment(Budget.SMOKE, 0, images)
    assert made.game.classes == 4 and made.evaluate is None
    assert made.game.sample(6, rng()).shape == (6, 3, 16, 16)
