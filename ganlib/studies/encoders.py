"""What an encoder adds to a GAN of digits, and what it does not: BiGAN and the mode-regularized GAN.

Latents, widths, the encoder's last layer and the weights were chosen on seed 0 with the figures in view; the
numbers of rounds are what either game plays in about the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ganlib.data import Images, mnist
from ganlib.losses import NonSaturating
from ganlib.models.bigan import BiGAN, PairDiscriminator
from ganlib.models.dcgan import Discriminator, Encoder, Generator
from ganlib.models.gan import GAN
from ganlib.models.mrgan import ModeRegularizedGAN
from ganlib.models.recipes import adam, digit_report, image_data
from ganlib.random import normal
from ganlib.studies import Cell, Outcome, fit, study
from ganlib.training import Budget, LinearDecay, Settings, Trainer

LATENTS = 16
STEPS = {"bigan": 2100, "mrgan": 1250}
NOTE = (
    "The dcgan recipe's networks at width 24 with 16 latents. The encoder ends in a batch norm without "
    "weights, so that codes lie where latents do; neither paper has it. Chosen on seed 0."
)


@study(
    name="encoders",
    title="What encoders add, on digits",
    paper="Donahue et al. 2017, Adversarial Feature Learning; Che et al. 2017, Mode Regularized Generative "
    "Adversarial Networks",
    notebook="11_latent_spaces.ipynb",
    seeds=(0, 1, 2),
)
def encoders(budget: Budget) -> list[Cell]:
    """An encoder that the adversarial game alone trains, and one that a reconstruction error trains."""
    return [Cell({"method": method}, partial(play, method, budget)) for method in STEPS]


def game(method: str, budget: Budget) -> GAN:
    """The dcgan recipe's networks and an encoder that is the generator's mirror image.

    The encoder's last layer gives each code the mean 0 and the variance 1 of the latents. Without it the
    mode-regularized game's codes grow far longer than latents, for nothing tells E where G expects them.
    """
    width = budget.pick(smoke=8, cpu=24, gpu=128)
    generator = Generator(LATENTS, width)
    encoder = nn.Sequential(Encoder(LATENTS, width), nn.BatchNorm1d(LATENTS, affine=False))
    loss = NonSaturating(real_label=0.9)
    if method == "bigan":
        return BiGAN(generator, PairDiscriminator(LATENTS, width), encoder, loss)
    weights = {"distance_weight": 10.0, "mode_weight": 0.4}
    return ModeRegularizedGAN(generator, Discriminator(width), encoder, loss, **weights)


def settings(method: str, steps: int, budget: Budget, seed: int) -> Settings:
    """Those of the dcgan recipe, with the encoder's rate that of the generator."""
    slow = adam(1e-3, 0.5, 0.99)
    fast = adam(4e-3, 0.5, 0.99)
    makers = {"bigan": ["autoencoder"], "mrgan": ["generator", "encoder"]}[method]
    return Settings(
        optimizers={"discriminator": slow} | dict.fromkeys(makers, fast),
        batch_size=budget.pick(smoke=16, cpu=64, gpu=128),
        ema=dict.fromkeys(makers, 0.995),
        schedule=LinearDecay(2 * steps // 5, steps),
        seed=seed,
        log_every=budget.pick(smoke=2, cpu=50, gpu=100),
    )


def play(method: str, budget: Budget, seed: int) -> Outcome:
    """One cell: reconstructions of test digits, samples, and the codes."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = game(method, budget)
    steps = budget.pick(smoke=4, cpu=STEPS[method], gpu=20 * STEPS[method])
    train = image_data(None, budget)
    chosen = settings(method, steps, budget, seed)
    trainer = Trainer(made, (train.images,), chosen, progress=False)
    history = fit(trainer, steps)
    held_out = mnist("test")
    if budget is Budget.SMOKE:
        held_out = Images(*(t[:100] for t in held_out))
    with trainer.averaged(), made.evaluating():
        figures = inversion(made.generator, made.encoder, train, held_out)
        report = digit_report(None, budget)(made)
        few = one_of_each(held_out)
        again = made.generator(made.encoder(few.to(made.device)))
    figures |= {name: report[name] for name in ("fid", "fid_over_floor", "class_balance")}
    shown = {"originals": pixels(few), "reconstructions": pixels(again)}
    return Outcome(figures | {"rounds": steps}, history, trainer.sample(64), shown, notes=(NOTE,))


def inversion(generator: nn.Module, encoder: nn.Module, train: Images, held_out: Images) -> dict[str, float]:
    r"""How far E inverts G, each way round, and what its codes know.

    ``reconstruction_psnr`` (decibels) and ``same_digit`` compare G(E(x)) with x, unseen digits; ``latent_r2``
    is :math:`1 - |E(G(z)) - z|^2 / |z|^2` over fresh latents; ``code_norm`` the root mean square of E(x), 1
    for codes that lie as latents do; ``nearest_neighbour`` the share of held-out digits whose nearest code
    among 10,000 of the training set is that of the same digit.
    """
    from ganlib.metrics import ClassifierFeatures, psnr

    device = next(encoder.parameters()).device
    images, labels = held_out.images.to(device), held_out.labels.to(device)
    codes = in_parts(encoder, images)
    again = in_parts(generator, codes)
    z = normal(2000, codes.shape[1], device=device, rng=torch.Generator().manual_seed(0))
    missed = (in_parts(encoder, in_parts(generator, z)) - z).square().sum() / z.square().sum()
    known = in_parts(encoder, train.images[:10_000].to(device))
    nearest = torch.cdist(codes, known).argmin(1)
    values = {
        "reconstruction_psnr": psnr(again, images).mean(),
        "same_digit": (ClassifierFeatures().to(device).predict(again) == labels).double().mean(),
        "latent_r2": 1 - missed,
        "code_norm": codes.square().mean().sqrt(),
        "nearest_neighbour": (train.labels.to(device)[nearest] == labels).double().mean(),
    }
    return {name: float(value) for name, value in values.items()}


def in_parts(network: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """``network(rows)`` in float32, 500 rows at a time, without a graph."""
    with torch.no_grad():
        return torch.cat([network(part).float() for part in rows.split(500)])


def one_of_each(digits: Images) -> Tensor:
    """Twenty images, two of each digit: the first in the set."""
    order = torch.stack([(digits.labels == digit).nonzero()[:2, 0] for digit in range(10)], 1)
    return digits.images[order.flatten()]


def pixels(images: Tensor) -> Tensor:
    """Bytes of images in [-1, 1], to be stored."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().byte().cpu()
