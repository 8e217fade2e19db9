"""SNGAN: every layer of the discriminator is normalized, none of the generator, and training keeps it so."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from ganlib import systems
from ganlib.data import Images
from ganlib.layers import mixes_samples
from ganlib.losses import Hinge
from ganlib.models.sngan import normalize_spectrally_
from ganlib.training import Budget, LinearDecay, Trainer


def pictures(n: int = 64) -> Images:
    rng = torch.Generator().manual_seed(0)
    return Images(torch.rand(n, 1, 16, 16, generator=rng) * 2 - 1, torch.zeros(n, dtype=torch.int64))


def weighted(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]


def largest_singular_value(layer: nn.Module) -> float:
    axis = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
    weight = layer.weight.detach().movedim(axis, 0).flatten(1)
    return float(np.linalg.svd(weight.double().numpy(), compute_uv=False)[0])


def test_every_kind_of_layer_is_normalized():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ConvTranspose2d(3, 2, 4, 2), nn.Flatten(), nn.Linear(8, 2))
    biases = [layer.bias for layer in weighted(module)]
    assert normalize_spectrally_(module) is module
    for layer, bias in zip(weighted(module), biases, strict=True):
        assert parametrize.is_parametrized(layer, "weight") and layer.bias is bias
        for _ in range(50):  # power iteration goes on at each use in training mode
            layer.weight  # noqa: B018
        assert largest_singular_value(layer) == pytest.approx(1.0, abs=1e-4)


def test_the_discriminators_layers_are_normalized_and_no_others():
    game = systems.get("sngan").experiment(Budget.SMOKE, data=pictures()).game
    layers = weighted(game.discriminator)
    assert len(layers) == 3 and all(parametrize.is_parametrized(layer, "weight") for layer in layers)
    assert not any(parametrize.is_parametrized(layer, "weight") for layer in weighted(game.generator))
    assert not mixes_samples(game.discriminator), "batch norm would rescale what was normalized"
    assert mixes_samples(game.generator), "the paper's generator has batch norm"


def test_training_keeps_the_norm_at_one():
    experiment = systems.get("sngan").experiment(Budget.SMOKE, data=pictures())
    layers = weighted(experiment.game.discriminator)
    before = [layer.parametrizations.weight.original.detach().clone() for layer in layers]
    trainer = Trainer(experiment.game, experiment.data, experiment.settings, progress=False)
    trainer.fit(experiment.steps)
    for old, layer in zip(before, layers, strict=True):
        assert not torch.equal(old, layer.parametrizations.weight.original), "this is what learns"
        # One power iteration a step, while Adam moves weights of 0.02 by 0.002 a step: it lags by some 15 %.
        assert largest_singular_value(layer) == pytest.approx(1.0, abs=0.3)


def test_constants():
    """Miyato et al. 2018 on CIFAR-10, as published: hinge, Adam 2e-4 (0, 0.9), n_dis 5, m = 64."""
    experiment = systems.get("sngan").experiment(Budget.GPU, data=pictures())
    assert isinstance(experiment.game.adversarial, Hinge)
    assert dict(experiment.game.turns) == {"discriminator": 5, "generator": 1}
    assert experiment.settings.batch_size == 64 and experiment.game.generator.latent_dim == 128
    assert experiment.steps == 50_000 and experiment.settings.schedule == LinearDecay(0, 50_000)
    for player, make in experiment.settings.optimizers.items():
        optimizer = make(experiment.game.players[player].parameters())
        assert optimizer.defaults["lr"] == 2e-4 and optimizer.defaults["betas"] == (0.0, 0.9)
