"""LSGAN: DCGAN's networks with the least-squares loss and the paper's settings."""

import pytest
import torch

from ganlib import systems
from ganlib.data import Images
from ganlib.losses import LeastSquares
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.training import Budget


def pictures(size: int = 16) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(32, 1, size, size, generator=rng) * 2 - 1, torch.zeros(32, dtype=torch.int64))


def test_only_the_loss_differs_from_dcgan():
    lsgan, dcgan = (systems.get(name).experiment(Budget.CPU, data=pictures()) for name in ("lsgan", "dcgan"))
    assert isinstance(lsgan.game.adversarial, LeastSquares)
    assert isinstance(lsgan.game.generator, Generator) and isinstance(lsgan.game.discriminator, Discriminator)
    assert {n: p.shape for n, p in lsgan.game.named_parameters()} == {
        n: p.shape for n, p in dcgan.game.named_parameters()
    }


def test_the_losses_of_a_round_are_the_papers_squares():
    """Eq. 2 with a = 0 and b = c = 1, from the discriminator's outputs on the very fakes of each turn."""
    experiment = systems.get("lsgan").experiment(Budget.SMOKE, data=pictures())
    game, real = experiment.game, experiment.data[0][:8]
    outputs = []
    handle = game.discriminator.register_forward_hook(lambda *call: outputs.append(call[2].detach()))
    losses = {
        player: sum(game.loss(player, (real,)).values()).item() for player in ("discriminator", "generator")
    }
    handle.remove()
    on_real, on_fake, judged = (o.double().numpy() for o in outputs)
    # Both sides are float32 sums of eight squares.
    expected = ((on_real - 1) ** 2).mean() / 2 + (on_fake**2).mean() / 2
    assert losses["discriminator"] == pytest.approx(expected, rel=1e-5)
    assert losses["generator"] == pytest.approx(((judged - 1) ** 2).mean() / 2, rel=1e-5)


def test_constants():
    """Mao et al. 2017, section 4: 0-1 codes, Adam with beta1 0.5, rate 0.0002 on written characters."""
    experiment = systems.get("lsgan").experiment(Budget.GPU, data=pictures())
    loss = experiment.game.adversarial
    assert (loss.fake, loss.real, loss.target) == (0.0, 1.0, 1.0)
    assert dict(experiment.game.turns) == {"discriminator": 1, "generator": 1}
    for player, make in experiment.settings.optimizers.items():
        optimizer = make(experiment.game.players[player].parameters())
        assert isinstance(optimizer, torch.optim.Adam)
        assert optimizer.defaults["lr"] == 2e-4 and optimizer.defaults["betas"][0] == 0.5
