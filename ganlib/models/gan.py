"""The two-player GAN, the game that most systems of the lectures are, and the MLP networks of the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor, nn

from ganlib.layers import mixes_samples
from ganlib.losses import NonSaturating
from ganlib.random import normal
from ganlib.systems import system
from ganlib.training import Budget, Experiment, Game, Settings

if TYPE_CHECKING:
    from ganlib.data import Images


Judge = Callable[[Tensor], Tensor]


class AdversarialLoss(Protocol):
    """Both sides of an adversarial loss on discriminator outputs; see :mod:`ganlib.losses`.

    A loss whose ``generator`` takes the real outputs too, after the fakes', says ``relativistic = True``.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor: ...

    def generator(self, fake: Tensor) -> Tensor: ...


class Regularizer(Protocol):
    """A term added to one side's loss, None when it is not due.

    Those of the discriminator are in :mod:`ganlib.losses.penalties`, those of the generator in
    :mod:`ganlib.losses.auxiliary`.
    """

    name: str

    def __call__(self, discriminator: Judge, real: Tensor, fake: Tensor) -> Tensor | None: ...


class GAN(Game):
    """A generator against a discriminator: networks x loss x regularizers x turns.

    WGAN-GP is this class with a critic, ``Wasserstein()``, ``[GradientPenalty()]`` and ``n_critic=5``; R3GAN
    is this class with ``RelativisticPairing()`` and ``[R1(), R2()]``.

    Args:
        generator: ``(N, latent_dim)`` -> samples ``(N, ...)``; has an attribute ``latent_dim``.
        discriminator: samples -> logits or critic values, one or more per sample.
        loss: both sides of the adversarial loss.
        regularizers: penalties on the discriminator.
        n_critic: discriminator steps per generator step.
        generator_regularizers: further terms of the generator's loss, such as feature matching.

    Raises:
        ValueError: if ``n_critic`` is less than 1, or two terms of one player's loss share a name.

    Source: Goodfellow et al. 2014, Algorithm 1 (its k is ``n_critic``). Lectures: all five.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        loss: AdversarialLoss,
        regularizers: Sequence[Regularizer] = (),
        n_critic: int = 1,
        *,
        generator_regularizers: Sequence[Regularizer] = (),
    ) -> None:
        super().__init__()
        if n_critic < 1:
            raise ValueError(f"n_critic must be at least 1, got {n_critic}")
        for side in (regularizers, generator_regularizers):
            names = ["adversarial", *(regularizer.name for regularizer in side)]
            if len(set(names)) < len(names):
                raise ValueError(f"the terms of a loss need distinct names, got {names}")
        self.generator = generator
        self.discriminator = discriminator
        self.adversarial = loss
        self.regularizers = tuple(regularizers)
        self.generator_regularizers = tuple(generator_regularizers)
        # Those that count their calls belong into checkpoints.
        both = (*self.regularizers, *self.generator_regularizers)
        self.counting = nn.ModuleList(r for r in both if isinstance(r, nn.Module))
        self.turns = {"discriminator": n_critic, "generator": 1}
        # Batch norm must not see real and fake samples in one batch: their statistics would tell them apart,
        # or hide the difference. Without it one pass over both is the same computation, only faster.
        self.separate_passes = mixes_samples(discriminator)

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        real = batch[0]
        if player == "generator":
            fake = self.generator(self.latent(len(real)))
            return self.generator_terms(self.discriminator, real, fake)
        with torch.no_grad():
            fake = self.generator(self.latent(len(real))).to(real.dtype)
        terms = {"adversarial": self.adversarial.discriminator(*self.judge(real, fake))}
        return terms | due(self.regularizers, self.discriminator, real, fake)

    def generator_terms(self, judge: Judge, real: Tensor, fake: Tensor) -> dict[str, Tensor]:
        """The terms of the generator's loss on ``fake``, with ``judge`` for the discriminator."""
        outputs = judge(fake)
        # The real outputs need no graph of their own: the discriminator is frozen in this turn.
        relativistic = getattr(self.adversarial, "relativistic", False)
        sides = (outputs, judge(real)) if relativistic else (outputs,)
        terms = {"adversarial": self.adversarial.generator(*sides)}
        return terms | due(self.generator_regularizers, judge, real, fake)

    def judge(self, real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        """The discriminator's outputs on real and on fake samples, in one pass where that is the same."""
        if self.separate_passes:
            return self.discriminator(real), self.discriminator(fake)
        return self.discriminator(torch.cat([real, fake])).chunk(2)

    def after_step(self, player: str) -> None:
        """Let the parts of the player's network that change with training, such as annealed noise, do so."""
        for module in self.players[player].modules():
            if hasattr(module, "after_step"):
                module.after_step()

    def latent(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        """Latents :math:`z \\sim N(0, I)`, ``(n, latent_dim)``."""
        return normal(n, self.generator.latent_dim, device=self.device, rng=rng)

    def sample(self, n: int, rng: torch.Generator | None = None, batch_size: int = 500) -> Tensor:
        """Draw ``n`` samples in evaluation mode, ``batch_size`` at a time, on the game's device."""
        z = self.latent(n, rng)
        with self.evaluating():
            return torch.cat([self.generator(part).float() for part in z.split(batch_size)])


def due(
    regularizers: Sequence[Regularizer], discriminator: Judge, real: Tensor, fake: Tensor
) -> dict[str, Tensor]:
    """The regularizers' terms by name, those that are due in this turn."""
    terms = {regularizer.name: regularizer(discriminator, real, fake) for regularizer in regularizers}
    return {name: term for name, term in terms.items() if term is not None}


class MLPGenerator(nn.Module):
    """Two hidden layers of rectifiers, ``(N, latent_dim)`` -> ``(N, *shape)`` in [-1, 1].

    The paper's generator of MNIST digits, with tanh for its sigmoid because our pixels lie in [-1, 1].

    Source: Goodfellow et al. 2014, section 5 (1,200 units in the authors' published settings).
    """

    def __init__(
        self, latent_dim: int = 100, width: int = 1200, shape: tuple[int, ...] = (1, 32, 32)
    ) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, width),
            nn.ReLU(inplace=True),
            nn.Linear(width, math.prod(shape)),
            nn.Tanh(),
            nn.Unflatten(1, shape),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class Maxout(nn.Module):
    """The largest of ``pieces`` linear maps per unit, ``(N, inputs)`` -> ``(N, units)`` (Goodfellow 2013)."""

    def __init__(self, inputs: int, units: int, pieces: int = 5) -> None:
        super().__init__()
        self.pieces = pieces
        self.linear = nn.Linear(inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        # Not amax, which shares the gradient between equal pieces and takes far longer for it.
        return self.linear(x).unflatten(1, (-1, self.pieces)).max(dim=2).values


class MLPDiscriminator(nn.Module):
    """Two maxout layers with dropout, images ``(N, *shape)`` -> logits ``(N,)``.

    Source: Goodfellow et al. 2014, section 5 (240 units of 5 pieces in the authors' published settings).
    """

    def __init__(self, width: int = 240, shape: tuple[int, ...] = (1, 32, 32), pieces: int = 5) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(0.2),
            Maxout(math.prod(shape), width, pieces),
            nn.Dropout(0.5),
            Maxout(width, width, pieces),
            nn.Dropout(0.5),
            nn.Linear(width, 1),
            nn.Flatten(0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@system(
    name="gan",
    title="Generative adversarial network (MLP)",
    paper="Goodfellow et al. 2014, Generative Adversarial Nets",
    lectures=(
        "UBC: Generative Adversarial Networks",
        "MIT: GAN algorithm annotated",
        "Aalto: Generative adversarial networks (GAN)",
        "OUC: Minimax Game",
        "Purdue: Generative Adversarial Networks",
    ),
    notebook="06_dcgan_mnist.ipynb",
)
def recipe(budget: Budget, data: Images | None = None) -> Experiment:
    """The first GAN on digits: multilayer perceptrons, the non-saturating loss, k = 1."""
    from ganlib.models.recipes import adam, digit_report, image_data

    images = image_data(data, budget)
    shape = tuple(images.images.shape[1:])
    game = GAN(
        MLPGenerator(width=budget.pick(smoke=64, cpu=1200, gpu=1200), shape=shape),
        MLPDiscriminator(width=budget.pick(smoke=16, cpu=240, gpu=240), shape=shape),
        NonSaturating(),
    )
    return Experiment(
        game,
        images,
        Settings(
            optimizers={"discriminator": adam(2e-4, 0.5), "generator": adam(2e-4, 0.5)},
            batch_size=budget.pick(smoke=16, cpu=128, gpu=100),
            ema={"generator": 0.999},
            log_every=budget.pick(smoke=2, cpu=50, gpu=100),
        ),
        steps=budget.pick(smoke=6, cpu=6000, gpu=60_000),
        evaluate=digit_report(data, budget),
        notes=("Adam and an averaged generator in place of the paper's momentum SGD.",),
    )
