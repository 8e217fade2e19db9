"""PacGAN's networks, its score of a mixture, and the system."""

import math

import pytest
import torch
from torch import nn

from ganlib import systems
from ganlib.data import Images
from ganlib.data.toy import Mixture, grid, ring
from ganlib.layers import MinibatchDiscrimination
from ganlib.losses import NonSaturating
from ganlib.models.gan import GAN, Maxout
from ganlib.models.pacgan import (
    MixtureDiscriminator,
    MixtureGenerator,
    mixture_score,
    mixture_settings,
)
from ganlib.training import Budget

# Networks


def test_networks_have_the_published_sizes():
    """The authors' code: four batch-normed layers of 400 without biases, three maxout layers of 200 x 5."""
    generator = sum(p.numel() for p in MixtureGenerator().parameters())
    assert generator == 2 * 400 + 3 * 400**2 + 4 * 2 * 400 + (400 * 2 + 2)
    discriminator = sum(p.numel() for p in MixtureDiscriminator(m=2).parameters())
    assert discriminator == (4 + 1) * 1000 + 2 * (200 + 1) * 1000 + 201
    kinds = [type(layer) for layer in MixtureDiscriminator().layers]
    assert kinds.count(Maxout) == 3 and nn.BatchNorm1d not in kinds


def test_shapes():
    assert MixtureGenerator(width=8, latent_dim=3)(torch.zeros(6, 3)).shape == (6, 2)
    for m, kernels in ((1, 0), (2, 0), (1, 5)):
        assert MixtureDiscriminator(8, m, kernels)(torch.zeros(6, 2 * m)).shape == (6,)


@pytest.mark.parametrize("m", [1, 2, 3])
def test_units_of_the_first_layer_start_on_one_point_each(m):
    """Weights on a pack's other points are 0; its own are those of a layer with two inputs: uniform between
    -1/sqrt(2) and 1/sqrt(2), torch's bound for two inputs."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = MixtureDiscriminator(600, m).layers[0].linear.weight.detach()
    seen = weights.view(600, 5, m, 2).abs().amax((1, 3)) > 0
    assert torch.equal(seen, torch.arange(600)[:, None] % m == torch.arange(m))
    # The largest of 6,000 uniform draws is within a thousandth or two of the bound.
    assert weights.abs().max().item() == pytest.approx(2**-0.5, rel=5e-3)


def test_kernels_let_the_last_layer_see_the_batch():
    """A point's logit depends on the others with minibatch discrimination, and not without."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        alone, together = MixtureDiscriminator(8), MixtureDiscriminator(8, kernels=5)
    assert not any(isinstance(m, MinibatchDiscrimination) for m in alone.modules())
    point, near, far = torch.zeros(1, 2), torch.full((1, 2), 0.01), torch.full((1, 2), 5.0)
    for network, moves in ((alone, False), (together, True)):
        logits = [network(torch.cat([point, other]))[0] for other in (near, far)]
        assert (not torch.allclose(*logits)) is moves


# Score


def test_score_by_hand():
    """Four modes, std 0.1; five points: two on mode 0, one 2.9 deviations and one 3.1 from mode 1, one astray
    next to mode 2. Shares 2/5, 2/5, 1/5, 0 give KL = 0.8 log 1.6 + 0.2 log 0.8."""
    target = Mixture(torch.tensor([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]]), 0.1)
    points = torch.tensor([[0.0, 0.0], [0.0, 0.1], [4.29, 0.0], [4.31, 0.0], [0.5, 4.0]])
    found = mixture_score(points, target)
    assert found["modes"] == 2
    assert found["quality"] == pytest.approx(3 / 5, abs=1e-12)
    # 1e-12: sums of five float64 numbers
    assert found["reverse_kl"] == pytest.approx(0.8 * math.log(1.6) + 0.2 * math.log(0.8), abs=1e-12)


def test_score_of_the_data_themselves():
    """All modes; quality 1 - exp(-9/2), the mass of a Gaussian in the plane within three deviations."""
    for target in (ring(8, 1.0, 0.01), grid(5, 2.0, 0.05)):
        found = mixture_score(target.sample(20_000, torch.Generator().manual_seed(0)), target)
        assert found["modes"] == len(target.centres)
        # five standard errors of a share of 20,000
        assert found["quality"] == pytest.approx(1 - math.exp(-4.5), abs=5 * math.sqrt(0.011 / 20_000))
        # 2 N KL is about chi-square with k - 1 degrees, of mean 24 and deviation 7 at most
        assert found["reverse_kl"] < 60 / 40_000


def test_score_of_a_collapsed_generator():
    target = grid(5, 2.0, 0.05)
    found = mixture_score(target.centres[:1].repeat(100, 1), target)
    assert found == {"modes": 1, "quality": 1.0, "reverse_kl": pytest.approx(math.log(25), abs=1e-12)}


# System


def test_system_packs_two_points():
    experiment = systems.get("pacgan").experiment(Budget.SMOKE)
    game, (points,) = experiment.game, experiment.data
    assert points.shape == (1000, 2) and game.discriminator.m == 2
    assert game.discriminator(points[:6]).shape == (3,)
    assert set(experiment.evaluate(game)) == {"modes", "quality", "reverse_kl"}
    assert systems.get("pacgan").experiment(Budget.GPU).settings.schedule is None


@pytest.mark.parametrize("name", ["pacgan", "mrgan", "unrolled-gan"])
def test_toys_take_no_other_data(name):
    images = Images(torch.zeros(4, 1, 8, 8), torch.zeros(4, dtype=torch.int64))
    with pytest.raises(ValueError, match=f"data must be None, since {name} plays on points"):
        systems.get(name).experiment(Budget.SMOKE, data=images)


def test_batches_hold_whole_packs():
    game = GAN(MixtureGenerator(4), MixtureDiscriminator(4), NonSaturating())
    for budget in Budget:
        assert all(mixture_settings(game, ring(), budget, 8).batch_size % m == 0 for m in (2, 3, 4))
