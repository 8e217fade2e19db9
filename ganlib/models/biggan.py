"""BigGAN: SAGAN made larger, and what that took: shared embeddings, z at every level, filters kept apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ganlib.layers.precision import without_autocast
from ganlib.losses import Hinge
from ganlib.models.conditional import ConditionalGAN, conditional_report
from ganlib.models.recipes import adam, image_data
from ganlib.models.sagan import Discriminator, Generator, paper_widths, small_widths
from ganlib.systems import system
from ganlib.training import Budget, Experiment, LinearDecay, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


def off_diagonal_energy(weight: Tensor) -> Tensor:
    r"""How far from orthogonal to each other a layer's filters are, whatever their lengths.

    .. math:: \big\| W W^\top \odot (\mathbf 1 - I) \big\|_F^2 = \sum_{i \ne j} (w_i^\top w_j)^2

    for filters :math:`w_i`, the rows of a weight with its output channels first (the columns of the paper's
    W). Leaving the diagonal out leaves their lengths free, which is what BigGAN changed: the constraint
    :math:`W W^\top = I` was too strong.

    Args:
        weight: ``(outputs, ...)``, at least two-dimensional.

    Returns:
        A scalar, at least 0 up to rounding.

    Raises:
        ValueError: for a weight of fewer than two dimensions.

    Source: Brock et al. 2019 (BigGAN), eq. 3.
    """
    if weight.ndim < 2:
        raise ValueError(f"weight must have at least two dimensions, got shape {tuple(weight.shape)}")
    filters = weight.flatten(1)
    with without_autocast(weight):
        if len(filters) <= filters.shape[1]:
            gram = filters @ filters.T
            return (gram - gram.diag().diag()).square().sum()
        # W W' and W'W have one norm. The first layer of a large generator has 24,576 filters of 20 numbers:
        # the one product would take 2.4 GB, the other 1.6 kB.
        return (filters.T @ filters).square().sum() - filters.square().sum(1).square().sum()


@dataclass(frozen=True)
class OrthogonalRegularization:
    r"""Keeps the filters of a generator apart, as a term of its loss: :math:`\beta \sum_W` of the energies.

    .. math:: R_\beta = \beta \sum_W \big\| W W^\top \odot (\mathbf 1 - I) \big\|_F^2

    over all weights of convolutions and linear layers, as the optimizer moves them, before spectral
    normalization; tables of embeddings are left out. Generators trained with it tolerate truncated latents,
    which they have not seen in training, more often: 60 % of the authors' models against 16 %.

    Args:
        generator: whose weights are meant.
        weight: :math:`\beta`.

    Source: Brock et al. 2019 (BigGAN), section 3.1, eq. 3 (beta 1e-4). The author's published code adds half
    of this term's gradient.
    """

    generator: nn.Module
    weight: float = 1e-4
    name: str = "orthogonality"

    def __call__(self, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> Tensor:
        """The weighted term, a scalar; gradients reach the generator's weights. Samples are not used."""
        tables = {id(m.weight) for m in self.generator.modules() if isinstance(m, nn.Embedding)}
        weights = [p for p in self.generator.parameters() if p.ndim >= 2 and id(p) not in tables]
        return self.weight * torch.stack([off_diagonal_energy(weight) for weight in weights]).sum()


def paper_networks(
    size: int, channels: int, classes: int, width: int = 96
) -> tuple[Generator, Discriminator]:
    """The paper's networks: embeddings of 128 shared, 20 latents per level, attention at 64 x 64 in both.

    At 128 x 128 with 1,000 classes they have 70,433,988 and 87,982,370 parameters. Images below 128 x 128
    have attention at half their side.
    """
    return _networks(
        paper_widths(size, width), min(64, size // 2), size, channels, classes, part=20, shared=128
    )


def _networks(
    widths: tuple[list[int], list[int], int],
    attention: int,
    size: int,
    channels: int,
    classes: int,
    *,
    part: int,
    shared: int,
) -> tuple[Generator, Discriminator]:
    """SAGAN's networks with a shared embedding, a part of z per level and orthogonal first weights."""
    generating, judging, keep = widths
    same = {"attention": attention, "initialize": nn.init.orthogonal_}
    return (
        Generator(part * len(generating), generating, classes, channels, shared=shared, skip_z=True, **same),
        Discriminator(judging, classes, channels, size, keep=keep, **same),
    )


@system(
    name="biggan",
    title="BigGAN",
    paper="Brock et al. 2019, Large Scale GAN Training for High Fidelity Natural Image Synthesis",
    lectures=("Aalto: Images generated with a large-scale SAGAN (Brock et al., 2018)",),
    notebook="14_attention_and_style.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """SAGAN with all of BigGAN's changes; Adam at 5e-5 for G and 2e-4 for D, betas (0, 0.999), on ``gpu``."""
    images = image_data(data, budget)
    channels, size = images.images.shape[1:3]
    classes = int(images.labels.max()) + 1
    slow = budget is Budget.GPU
    steps = budget.pick(smoke=4, cpu=1900, gpu=100_000)
    if slow:
        networks = paper_networks(size, channels, classes)
    else:
        widths = small_widths(size, budget.pick(smoke=8, cpu=16, gpu=16))
        networks = _networks(widths, max(8, size // 2), size, channels, classes, part=16, shared=16)
    generator, _ = networks
    return Experiment(
        ConditionalGAN(
            *networks,
            Hinge(),
            n_critic=2 if slow else 1,
            classes=classes,
            generator_regularizers=[OrthogonalRegularization(generator)],
        ),
        images,
        Settings(
            optimizers={
                "discriminator": adam(2e-4, 0.0, 0.999) if slow else adam(2e-3, 0.0, 0.9),
                "generator": adam(5e-5, 0.0, 0.999) if slow else adam(1e-3, 0.0, 0.9),
            },
            batch_size=budget.pick(smoke=16, cpu=64, gpu=2048),
            ema={"generator": 0.9999 if slow else 0.999},
            schedule=None if slow else LinearDecay(2 * steps // 5, steps),
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=steps,
        evaluate=conditional_report(data, budget),
        notes=()
        if slow
        else (
            "For minutes in place of days: 64, 64, 32 and 16 channels; 64 latents, 16 per level; an "
            "embedding of 16; batches of 64; one step of D per step of G; Adam at 1e-3 for G and 2e-3 for D, "
            "betas (0, 0.9), falling to zero over the last three fifths; averages of 0.999; attention at "
            "16 x 16.",
            "Settings chosen on seed 0 with its FID in view.",
        ),
    )
