"""What a run will cost: operations against counts by hand, memory against the profiler, time against sums."""

import copy
import math
from dataclasses import replace
from functools import partial
from itertools import accumulate

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from toys import adam, dcgan, pictures, settings, wgan_gp

from ganlib import runs, systems
from ganlib.__main__ import main
from ganlib.data import Images
from ganlib.losses import R1, R2, GradientPenalty, Lazy, NonSaturating, Wasserstein
from ganlib.models import progan
from ganlib.models.dcgan import Generator
from ganlib.models.gan import GAN
from ganlib.models.wgan_gp import Critic
from ganlib.training import Budget, Experiment, Game, Growth, Settings
from ganlib.training.estimate import Device, _Meter, device_named, estimate, measure, without_memory

ANY = Device("any", "32-true", 1e12, 1e12, 1e-6, "made up")
HALF = replace(ANY, precision="bf16-mixed")
N = 8
# Multiplications of toys.dcgan's convolutions per sample: places x kernel x channels in x channels out.
# A transposed convolution's places are those of its input.
G = (1 * 16 * 6 * 8, 16 * 16 * 8 * 4, 64 * 16 * 4 * 1)
D = (64 * 16 * 1 * 4, 16 * 16 * 4 * 8, 1 * 16 * 8 * 1)


def experiment(game: Game, data: Tensor | None = None, steps: int = 10, **changes) -> Experiment:
    data = pictures() if data is None else data
    chosen = {"optimizers": dict.fromkeys(game.turns, adam), "batch_size": N} | changes
    return Experiment(game, (data,), settings(**chosen), steps)


# Operations


def test_operations_of_a_gan_by_hand():
    """Each gradient of a convolution costs what the convolution costs; the first layers need none of x, z."""
    flops = estimate(experiment(dcgan()), ANY).flops
    fakes, both = sum(G), 2 * sum(D)
    assert flops["discriminator"] == 2 * N * (fakes + both + both + 2 * sum(D[1:]))
    judged = sum(D) + sum(D)  # forwards, and back to the fakes
    assert flops["generator"] == 2 * N * (fakes + sum(G) + sum(G[1:]) + judged)


def test_operations_of_a_second_backward_pass_by_hand():
    """The penalty's slope is a backward pass; its gradient goes back through that and the forward pass."""
    with_penalty = wgan_gp()
    without = wgan_gp()
    without.regularizers = ()
    flops = [estimate(experiment(g), ANY).flops for g in (with_penalty, without)]
    slope = 2 * sum(D)  # forwards, and back to the points
    through_it = 2 * sum(D)  # to the weights, and to what came from the layer above
    # A leaky ReLU hands a zero to what it was computed from, so all layers below the last are gone through.
    through_forwards = 2 * sum(D[:2])
    expected = 2 * N * (slope + through_it + through_forwards)
    assert flops[0]["discriminator"] - flops[1]["discriminator"] == 2 * expected  # two critic steps
    assert flops[0]["generator"] == flops[1]["generator"]


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("transposed", [False, True])
def test_operations_of_grouped_convolutions_by_hand(groups, transposed):
    x = torch.ones(2, 6, 5, 5, requires_grad=True)
    weight = torch.ones(
        (6, 12 // groups, 3, 3) if transposed else (12, 6 // groups, 3, 3), requires_grad=True
    )
    run = F.conv_transpose2d if transposed else F.conv2d
    with _Meter(ANY) as meter:
        out = run(x, weight, stride=2, groups=groups)
        forwards = meter.flops
        out.sum().backward()
    assert out.shape == ((2, 12, 11, 11) if transposed else (2, 12, 2, 2))
    assert forwards == 2 * 2 * (25 if transposed else 4) * 9 * 6 * 12 // groups
    assert meter.flops == 3 * forwards


def test_lazy_terms_count_for_their_share():
    def flops(*regularizers):
        with torch.random.fork_rng():
            return estimate(
                experiment(GAN(Generator(6, 4, 1, 16), Critic(4, 1, 16), Wasserstein(), regularizers)), ANY
            ).flops

    bare, r1, r2 = flops(), flops(R1()), flops(R2())
    lazy = flops(Lazy(R1(), 4), Lazy(R2(), 16))
    for player in bare:
        share = (r1[player] - bare[player]) / 4 + (r2[player] - bare[player]) / 16
        assert lazy[player] == pytest.approx(bare[player] + share, rel=1e-12)
    assert flops(Lazy(R1(), 4))["discriminator"] < r1["discriminator"]


def test_lazy_terms_count_wholly_for_memory():
    def activations(*regularizers):
        game = GAN(Generator(6, 4, 1, 16), Critic(4, 1, 16), Wasserstein(), regularizers)
        return estimate(experiment(game), ANY).memory["activations"]

    assert activations(Lazy(R1(), 16)) == activations(R1()) > 1.2 * activations()


def test_growth_is_summed_over_its_sizes():
    """Against games that do not grow, each of one size, with their batch sizes and rounds."""
    growth = Growth((4, 8, 16), (16, 8, 4), images=160)

    def made(growth, **changes):
        game = progan.GrowingGAN(*progan.networks(16, 1, 32, 8), NonSaturating(), growth)
        return experiment(game, batch_size=growth.batches, steps=growth.rounds, **changes)

    found = estimate(made(growth), ANY)
    total, peaks = dict.fromkeys(found.flops, 0.0), []
    for size, batch, rounds in zip(growth.sizes, growth.batch_sizes, (10, 2 * 20, 2 * 40), strict=True):
        single = made(Growth((16,), (batch,), 1))
        single.game.growth = Growth((size,), (batch,), 1)
        alone = estimate(single, ANY)
        peaks.append(alone.memory["activations"])
        for player, flops in alone.flops.items():
            total[player] += rounds * flops
    assert found.steps == growth.rounds == 130
    for player, flops in total.items():
        assert found.flops[player] == pytest.approx(flops / 130, rel=1e-12)
    assert found.memory["activations"] == max(peaks)


def test_batch_sizes_of_a_schedule_are_summed():
    small, large = (estimate(experiment(dcgan(), batch_size=n), ANY) for n in (4, 8))
    both = estimate(experiment(dcgan(), batch_size={0: 4, 2: 8}, steps=10), ANY)
    for player, flops in both.flops.items():
        assert flops == pytest.approx((2 * small.flops[player] + 8 * large.flops[player]) / 10, rel=1e-12)
    assert both.seconds == pytest.approx((2 * small.seconds + 8 * large.seconds) / 10, rel=1e-12)
    assert both.memory == large.memory


def test_data_as_bytes_are_floats_in_the_game():
    pixels = torch.zeros(48, 1, 16, 16, dtype=torch.uint8)
    a, b = estimate(experiment(dcgan(), pixels), ANY), estimate(experiment(dcgan()), ANY)
    assert a.flops == b.flops and a.memory["activations"] == b.memory["activations"]
    assert 4 * a.memory["data"] == b.memory["data"] == 48 * 256 * 4


# Memory


class Chain(Game):
    """Sigmoids of one another: each keeps its output for the backward pass, and nothing else."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.turns, self.length = {"model": 1}, length

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        y = batch[0] * self.model.weight
        for _ in range(self.length):
            y = y.sigmoid()
        return {"mean": y.mean()}


def test_what_the_backward_pass_needs_is_kept_and_no_more():
    rows = torch.zeros(64, 100)
    found = [
        estimate(experiment(Chain(n), rows, batch_size=10, ema={}), ANY).memory["activations"]
        for n in (5, 10, 20)
    ]
    per_output = 10 * 100 * 4
    assert found[1] - found[0] == 5 * per_output and found[2] - found[1] == 10 * per_output
    # Going back, the five are there, the batch, and two gradients: of an output, and of what it came from.
    # Besides, there are the loss and some more scalars.
    assert 8 * per_output < found[0] < 8 * per_output + 100


def test_gradients_are_counted_with_what_stays():
    """One at a time passes through the backward pass; then it stays, and is not counted there any longer."""
    model = nn.Sequential(*(nn.Linear(300, 300, bias=False) for _ in range(4)))

    class Tall(Chain):
        def terms(self, player, batch):
            return {"mean": self.model(batch[0]).mean()}

    game = Tall(1)
    game.model = model
    memory = estimate(experiment(game, torch.zeros(4, 300), batch_size=1, ema={}), ANY).memory
    weight = 300 * 300 * 4
    assert memory["gradients"] == 4 * weight and weight < memory["activations"] < 1.1 * weight


def test_a_game_is_looked_at_as_it_trains():
    """Dropout has a mask to keep when it is in training mode, which is where this game is not left."""

    class Dropping(Chain):
        def terms(self, player, batch):
            return {
                "mean": nn.functional.dropout(batch[0] * self.model.weight, training=self.training).mean()
            }

    def activations(game):
        made = experiment(game, torch.zeros(64, 100), batch_size=10, ema={})
        return estimate(made, ANY).memory["activations"]

    assert activations(Dropping(0).eval()) == activations(Dropping(0)) > activations(Chain(0))


@pytest.mark.parametrize("regularizers", [(), (GradientPenalty(),)])
def test_peak_is_the_profilers(regularizers):
    """The same turn on true tensors, with every allocation and release as torch's own profiler saw it.

    Perceptrons, since convolutions on a processor also allocate workspaces, which are no tensors.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critic = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1))
        generator = nn.Sequential(nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 20))
    generator.latent_dim = 3
    game, data = GAN(generator, critic, Wasserstein(), regularizers), torch.zeros(100, 20)
    with torch.profiler.profile(
        profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]
    ) as seen:
        sum(game.loss("discriminator", (data,)).values()).backward()
    sizes = [e.nbytes() for e in seen.profiler.kineto_results.events() if e.name() == "[memory]"]
    peak = max(accumulate(sizes))
    # Of the discriminator's turn alone, whose peak is the round's: its fakes are made without a graph, and it
    # judges twice as many samples. Gradients, here few, are counted among what stays.
    made = experiment(game, data, batch_size=100)
    found = estimate(made, ANY).memory["activations"] - data.nbytes
    assert found == pytest.approx(peak, rel=0.05)


def test_what_stays_by_hand():
    game = dcgan()
    weights = {name: 4 * sum(p.numel() for p in getattr(game, name).parameters()) for name in game.turns}
    buffers = {name: sum(b.nbytes for b in getattr(game, name).buffers()) for name in game.turns}
    sgd, rms = partial(torch.optim.SGD, lr=0.1), partial(torch.optim.RMSprop, lr=0.1)
    momentum = partial(torch.optim.SGD, lr=0.1, momentum=0.9)
    for optimizer, moments in ((adam, 2), (sgd, 0), (rms, 1), (momentum, 1)):
        both = {"generator": optimizer, "discriminator": sgd}
        memory = estimate(experiment(copy.deepcopy(game), optimizers=both), ANY).memory
        assert memory["optimizers"] == moments * weights["generator"]
    assert memory["gradients"] == sum(weights.values())
    assert memory["weights"] == sum(weights.values()) + sum(buffers.values())
    assert memory["averages"] == weights["generator"] + buffers["generator"]
    assert memory["data"] == pictures().nbytes


def test_bfloat16_halves_what_convolutions_keep():
    """A wide network, whose weights (cast once more) are little beside its maps; the losses stay float32."""
    data = torch.zeros(64, 1, 64, 64)
    game = lambda: GAN(Generator(6, 16, 1, 64), Critic(16, 1, 64), Wasserstein())  # noqa: E731
    full, half = (
        estimate(experiment(game(), data, batch_size=64), device).memory["activations"]
        for device in (ANY, HALF)
    )
    assert 0.5 < half / full < 0.7


# Time


def test_seconds_by_hand():
    """By one of the three limits alone, the others out of play."""
    game = Chain(3)

    def seconds(**limits):
        device = Device(
            "any", "32-true", **({"flops": math.inf, "bandwidth": math.inf, "launch": 0.0} | limits), basis=""
        )
        return estimate(
            experiment(copy.deepcopy(game), torch.zeros(64, 100), batch_size=10, steps=7, ema={}), device
        ).seconds

    # mul, 3 sigmoids, mean, the terms' stack and sum: 7. Going back: a one to begin with, the mean's share, 3
    # sigmoids, the product with the data and its sum over them: 7; of sums and stacks only views are taken.
    operations = seconds(launch=1.0) / 7
    assert operations == 14
    longer = Chain(4)
    game, before = longer, operations
    assert seconds(launch=1.0) / 7 == before + 2  # a sigmoid, and its backward
    game = Chain(3)
    shorter = seconds(bandwidth=1.0)
    game = Chain(4)
    # A sigmoid reads and writes once; its backward pass reads two tensors and writes one.
    assert seconds(bandwidth=1.0) - shorter == 7 * 5 * 10 * 100 * 4
    conv = estimate(experiment(dcgan(), steps=3), Device("any", "32-true", 1.0, math.inf, 0.0, ""))
    assert conv.seconds == pytest.approx(3 * sum(conv.flops.values()), rel=1e-12)


def test_an_operation_takes_the_longest_of_its_three_times():
    def seconds(**limits):
        given = {"flops": 1e9, "bandwidth": 1e9, "launch": 1e-6} | limits
        with _Meter(Device("any", "32-true", **given, basis="")) as meter:
            torch.ones(100, 50) @ torch.ones(50, 10)
        return meter.seconds

    product, ones = 2 * 100 * 50 * 10, (100 * 50 + 50 * 10) * 4
    moved = ones + 100 * 10 * 4
    free = {"launch": 0.0, "bandwidth": math.inf}
    assert seconds(**free) == pytest.approx(product / 1e9)
    assert seconds(launch=0.0, flops=math.inf) == pytest.approx((ones + moved) / 1e9)
    assert seconds(launch=0.0) == pytest.approx((ones + max(product, moved)) / 1e9)
    assert seconds(launch=1.0) == 3.0


def test_optimizers_and_averages_take_time():
    """Adam reads weight, gradient, two moments and writes three of them; an average is three passes more."""
    slow = Device("any", "32-true", math.inf, 1.0, 0.0, "")
    averaged, plain = (
        estimate(experiment(dcgan(), ema=ema, steps=1), slow).seconds for ema in ({"generator": 0.9}, {})
    )
    g, d = (
        sum(p.nbytes for p in getattr(dcgan(), name).parameters()) for name in ("generator", "discriminator")
    )
    assert averaged - plain == 3 * g
    sgd = {"generator": partial(torch.optim.SGD, lr=0.1), "discriminator": partial(torch.optim.SGD, lr=0.1)}
    without = estimate(experiment(dcgan(), ema={}, steps=1, optimizers=sgd), slow).seconds
    assert plain - without == 4 * (g + d)


def test_the_device_at_hand_is_measured():
    found = measure(torch.device("cpu"), "32-true")
    # From the slowest notebook to the largest server.
    assert 1e8 < found.flops < 1e14 and 1e8 < found.bandwidth < 1e13 and 1e-8 < found.launch < 1e-3
    assert found.precision == "32-true"


def test_devices_by_name():
    h100 = device_named("h100")
    assert h100.precision == "bf16-mixed" and h100.flops == 0.4 * 989e12  # its data sheet, without sparsity
    assert device_named("a100").flops == pytest.approx(0.4 * 312e12)
    assert device_named("h100", "32-true").flops < h100.flops
    with pytest.raises(ValueError, match="device must be one of t4, a100, h100, got 'abacus'"):
        device_named("abacus")
    with pytest.raises(ValueError, match="precision of t4"):
        device_named("t4", "bf16-mixed")


# Every system, and the command line


# Three players; a look at the data; labels; no images.
@pytest.mark.parametrize("name", ["mrgan", "semi-supervised-gan", "sagan", "molgan"])
def test_systems_of_every_kind_have_an_estimate(name):
    made = systems.get(name).experiment(Budget.SMOKE)
    players = set(made.game.turns)
    found = estimate(made, HALF)
    assert set(found.flops) == players and min(found.flops.values()) > 0 and found.seconds > 0
    assert min(found.memory.values()) >= 0 and found.memory["activations"] > 0


def test_tensors_with_and_without_numbers_do_not_mix():
    numbers = torch.zeros(8, 3)
    with without_memory():
        rows = torch.randperm(8)
        assert rows.is_meta and (torch.ones(3) * 2).is_meta
        with pytest.raises(RuntimeError, match="and not both"):
            numbers[rows]


def test_on_the_meta_device_it_is_the_same_and_draws_no_numbers():
    state = torch.get_rng_state()
    real = estimate(experiment(dcgan()), HALF)
    with torch.device("meta"):
        outline = dcgan()
    assert estimate(experiment(outline), HALF) == real
    assert torch.equal(torch.get_rng_state(), state)


def dry_run(capsys, *words: str) -> dict[str, str]:
    assert main(["train", *words, "--dry-run"]) == 0
    return dict(line.split(": ", 1) for line in capsys.readouterr().out.splitlines())


def test_dry_run_without_data(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = dry_run(capsys, "dcgan", "--budget", "gpu", "--size", "64", "--device", "h100")
    assert said["data"] == "(70000, 3, 64, 64) uint8 + (70000,) int64 (made up)"
    assert "H100" in said["time"] and "40 %" in said["basis"] and "860 MB of data" in said["memory"]
    # Radford et al. 2015, figure 1: 1024 channels at 4 x 4, halved to 128 at 32 x 32; kernel 4 here.
    widths = (100, 1024, 512, 256, 128, 3)
    places = (1, 16, 64, 256, 1024)
    generator = sum(16 * a * b * p for a, b, p in zip(widths, widths[1:], places, strict=False))
    assert runs._rounded(2 * 128 * generator, "FLOP")  # a forward pass, of which a turn has more than three
    assert not list(tmp_path.iterdir())


def test_dry_run_of_recipes_that_look_at_numbers(capsys):
    said = dry_run(capsys, "semi-supervised-gan", "--budget", "smoke", "--size", "28", "--device", "a100")
    assert "made up" in said["data"] and "discriminator" in said["operations per step"]


def test_dry_run_of_a_game_that_looks_at_numbers(capsys, monkeypatch):
    class Nosy(Chain):
        def terms(self, player, batch):
            return {"mean": super().terms(player, batch)["mean"] * float(batch[0].mean())}

    monkeypatch.setattr(systems, "_REGISTRY", dict(systems._REGISTRY))

    @systems.system(
        name="nosy", title="Nosy", paper="Nobody 2020", lectures=("UBC",), notebook="99_nosy.ipynb"
    )
    def recipe(budget: Budget, data: Images | None = None) -> Experiment:
        return Experiment(Nosy(1), (torch.zeros(8, 3),), Settings({"model": adam}, batch_size=4), 5)

    said = dry_run(capsys, "nosy")
    assert said["steps"] == "5" and said["costs"].startswith("unknown")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--size", "64"], "--size needs --data"),
        (["--size", "0", "--dry-run"], "--size must be at least 1"),
        (["--device", "h100"], "--device needs --dry-run"),
        (["--device", "abacus", "--dry-run"], "device must be one of"),
    ],
)
def test_errors_of_the_user(words, message, capsys):
    assert main(["train", "dcgan", "--budget", "smoke", *words]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (12, "12 B"),
        (999, "1 kB"),
        (994, "990 B"),
        (12345678, "12 MB"),
        (9.96e8, "1 GB"),
        (1.26e18, "1.3 EB"),
    ],
)
def test_two_digits(value, text):
    assert runs._rounded(value, "B") == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.5, "0.5 seconds"), (119, "120 seconds"), (150, "2.5 minutes"), (7300, "2 hours"), (1e6, "12 days")],
)
def test_durations(seconds, text):
    assert runs._duration(seconds) == text
