"""Games that train in milliseconds; run as a program, one of them in a process that a test may kill.

python toys.py train GAME STEPS OUT       print the step after every round; resume what is in OUT
torchrun ... toys.py together OUT         train both games on several processes, save each rank's weights
"""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from ganlib.losses import GradientPenalty, NonSaturating, Wasserstein
from ganlib.models import progan
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.models.gan import GAN
from ganlib.models.wgan_gp import Critic
from ganlib.training import Game, Growth, Settings, Trainer

# eps keeps Adam's step smooth where a gradient is near zero. With 1e-8 a rounding difference in such a
# gradient becomes a whole step of the learning rate, and no tolerance could compare two ways of computing it.
adam = partial(torch.optim.Adam, lr=2e-3, betas=(0.5, 0.9), eps=1e-3)


def pictures(n: int = 48) -> Tensor:
    rng = torch.Generator().manual_seed(1)
    return torch.rand(n, 1, 16, 16, generator=rng) * 2 - 1


def dcgan(seed: int = 0) -> GAN:
    """Batch norm in both networks, so that statistics and separate passes take part."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GAN(Generator(6, 4, 1, 16), Discriminator(4, 1, 16), NonSaturating())


def wgan_gp(seed: int = 0) -> GAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GAN(Generator(6, 4, 1, 16), Critic(4, 1, 16), Wasserstein(), [GradientPenalty()], n_critic=2)


GROWTH = Growth((8, 16), (16, 2), images=256)
"""8 x 8 pixels for 16 rounds, then 128 rounds of fading in."""


def growing(seed: int = 0) -> progan.GrowingGAN:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        players = progan.Generator(6, (6, 4, 4), 1), progan.Critic((6, 4, 4), 1)
        return progan.GrowingGAN(*players, Wasserstein(drift=1e-3), GROWTH, [GradientPenalty()])


GAMES = {"dcgan": dcgan, "wgan-gp": wgan_gp}
ALL = GAMES | {"growing": growing}  # its critic compares the samples of a batch, so processes would matter


def settings(**changes) -> Settings:
    basic = Settings(
        optimizers={"discriminator": adam, "generator": adam},
        batch_size=8,
        ema={"generator": 0.9},
        precision="32-true",
        log_every=1,
    )
    return replace(basic, **changes)


def long_settings(game: str) -> Settings:
    """A checkpoint every three rounds, and the growing game's batches and restarts."""
    schedule = {"batch_size": GROWTH.batches, "restarts": GROWTH.starts} if game == "growing" else {}
    return settings(checkpoint_every=3, **schedule)


class Mean(Game):
    """One player, one number: learns the mean of its data. Its loss on a batch is known by hand."""

    def __init__(self, start: float = 0.0) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.model.weight, start)
        self.turns = {"model": 1}
        self.seen: list[Tensor] = []
        self.losses: list[float] = []

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        self.seen.append(batch[0].flatten().clone())
        loss = (self.model.weight - batch[0]).square().mean()
        self.losses.append(loss.item())
        return {"fit": loss}

    def sample(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        return self.model.weight.detach().expand(n, 1).clone()


def mean_settings(**changes) -> Settings:
    basic = Settings(
        optimizers={"model": partial(torch.optim.SGD, lr=0.1)},
        batch_size=4,
        precision="32-true",
        log_every=1,
    )
    return replace(basic, **changes)


def train(game: str, steps: int, out: str) -> None:
    trainer = Trainer(
        ALL[game](),
        pictures(),
        long_settings(game),
        out=out,
        callbacks=[lambda trainer: print(trainer.step, flush=True)],
        progress=False,
    )
    trainer.resume()
    trainer.fit(steps)


def together(out: Path) -> None:
    rank = int(os.environ["RANK"])
    for name, make in GAMES.items():
        chosen = settings(checkpoint_every=2, log_every=2)
        # Each rank starts elsewhere, as a script without a seed would: the first one's weights must win.
        trainer = Trainer(make(seed=rank), pictures(), chosen, progress=False, out=out / name)
        trainer.fit(4)
        torch.save(trainer.game.state_dict(), out / f"{name}.{rank}.pt")
        torch.save(trainer.averages["generator"].state_dict(), out / f"{name}.average.{rank}.pt")
        again = Trainer(make(seed=7), pictures(), chosen, progress=False, out=out / name)
        again.resume()
        again.fit(6)
        torch.save(again.game.state_dict(), out / f"{name}.resumed.{rank}.pt")


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(sys.argv[2], int(sys.argv[3]), sys.argv[4])
    else:
        together(Path(sys.argv[2]))
        torch.distributed.destroy_process_group()
