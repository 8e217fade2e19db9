"""Checkpoints: what is in them, what damage does to them, and a real kill at a random moment."""

import os
import random
import signal
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import toys
from safetensors import safe_open
from torch import nn
from toys import Mean, dcgan, mean_settings, pictures, settings, wgan_gp

import ganlib
from ganlib.models.dcgan import Discriminator, Generator
from ganlib.training import CheckpointError, LinearDecay, Trainer
from ganlib.training.checkpoint import NAME, PREVIOUS, load, load_run, load_weights, read, save, save_weights


def trainer(out: Path | None, game=None, data=None, **changes) -> Trainer:
    return Trainer(
        game or dcgan(), pictures() if data is None else data, settings(**changes), out=out, progress=False
    )


def assert_same_run(a: Path, b: Path) -> None:
    """Every tensor bit for bit: weights, statistics, averages, optimizers, random state, pending sums."""
    (left, about_left), (right, about_right) = read(a / NAME), read(b / NAME)
    assert left.keys() == right.keys()
    assert {name.split(".")[0] for name in left} >= {"game", "ema", "random"}
    assert not [name for name in left if not torch.equal(left[name], right[name])]
    rows = [[{**row, "seconds": 0} for row in about["history"]] for about in (about_left, about_right)]
    assert rows[0] == rows[1]
    assert about_left["step"] == about_right["step"]


# Resuming


@pytest.mark.parametrize("make", [dcgan, wgan_gp])
@pytest.mark.parametrize("log_every", [1, 3])
def test_resumed_run_equals_an_undisturbed_one(make, log_every, tmp_path):
    """Stopped at 4 of 7 by a new trainer on a game with other weights; a log interval is cut in two."""
    chosen = {"checkpoint_every": 4, "log_every": log_every}
    whole = trainer(tmp_path / "whole", make(), **chosen)
    whole.fit(7)
    first = trainer(tmp_path / "cut", make(), **chosen)
    first._call_back = lambda: (_ for _ in ()).throw(SystemExit) if first.step >= 4 else None
    with pytest.raises(SystemExit):
        first.fit(7)
    for file in (tmp_path / "cut").iterdir():  # what was written at step 4 alone may count
        if read(file)[1]["step"] != 4:
            file.unlink()
    second = trainer(tmp_path / "cut", make(seed=9), **chosen)
    assert second.resume() is True and second.step == 4
    second.fit(7)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, lr=0.1),
        partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        torch.optim.RMSprop,
        torch.optim.AdamW,
        torch.optim.Adagrad,
        partial(torch.optim.Adam, fused=True),
        partial(torch.optim.Adam, amsgrad=True),
    ],
)
def test_state_of_any_optimizer(optimizer, tmp_path):
    chosen = {"optimizers": {"discriminator": optimizer, "generator": optimizer}, "checkpoint_every": 1}
    whole = trainer(tmp_path / "whole", **chosen)
    whole.fit(4)
    trainer(tmp_path / "cut", **chosen).fit(2)
    second = trainer(tmp_path / "cut", **chosen)
    second.resume()
    second.fit(4)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_schedule_goes_on_where_it_was(tmp_path):
    chosen = {"schedule": LinearDecay(1, 5)}
    trainer(tmp_path / "whole", **chosen).fit(4)
    trainer(tmp_path / "cut", **chosen).fit(2)
    second = trainer(tmp_path / "cut", **chosen)
    second.resume()
    second.fit(4)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_nothing_to_resume(tmp_path):
    assert trainer(tmp_path).resume() is False
    assert trainer(tmp_path / "missing").resume() is False
    assert trainer(None).resume() is False


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer(None, checkpoint_every=1).fit(2)
    assert not list(tmp_path.iterdir())


def test_interval_and_the_one_before_are_kept(tmp_path):
    trainer(tmp_path, checkpoint_every=2).fit(5)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([NAME, PREVIOUS])
    assert read(tmp_path / NAME)[1]["step"] == 5 and read(tmp_path / PREVIOUS)[1]["step"] == 4
    trainer(tmp_path / "end", checkpoint_every=None).fit(5)
    assert [p.name for p in (tmp_path / "end").iterdir()] == [NAME]


def test_seconds_and_history_go_on(tmp_path):
    first = trainer(tmp_path)
    first.fit(3)
    second = trainer(tmp_path)
    second.resume()
    history = second.fit(5)
    assert history["step"] == [1, 2, 3, 4, 5]
    assert history["seconds"] == sorted(history["seconds"])
    assert history["seconds"][3] > first.history["seconds"][2]


# A real kill


@pytest.mark.parametrize("game", ["dcgan", "wgan-gp", "growing"])
def test_kill_at_a_random_moment_and_resume(game, tmp_path):
    """SIGKILL leaves no chance to tidy up; the run resumed in a new process ends bit-equal.

    The growing game is killed while its second size fades in.
    """
    steps, moment = 60, random.randint(20, 45) if game == "growing" else random.randint(4, 45)
    program = [sys.executable, toys.__file__, "train", game, str(steps), str(tmp_path / "killed")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(ganlib.__file__).parents[1]), os.environ["PYTHONPATH"]]),
        "OMP_NUM_THREADS": str(torch.get_num_threads()),  # another number of threads sums in another order
    }
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True, env=environment) as child:
        for line in child.stdout:
            if int(line) >= moment:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL, "the run had ended before it was killed"
    done = read(tmp_path / "killed" / NAME)[1]["step"]
    assert done < steps, "it was killed too late"
    if game == "growing":
        assert 0 < toys.GROWTH.at(done).alpha < 1, "no size was fading in"
    again = subprocess.run(program, capture_output=True, text=True, env=environment, timeout=300)
    assert again.returncode == 0, again.stderr
    assert int(again.stdout.split()[0]) > done >= 3, "it began anew"
    whole = Trainer(
        toys.ALL[game](), pictures(), toys.long_settings(game), out=tmp_path / "whole", progress=False
    )
    whole.fit(steps)
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


# Damage


def tensor_start(content: bytes) -> int:
    """Where the tensors begin in a safetensors file: after an 8-byte length and that long a header."""
    return 8 + struct.unpack("<Q", content[:8])[0]


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


DAMAGE = {
    "half": lambda b: b[: len(b) // 2],
    "one byte short": lambda b: b[:-1],
    "header only": lambda b: b[: tensor_start(b) // 2],
    "empty": lambda b: b"",
    "zeros": lambda b: bytes(len(b)),
    "text": lambda b: b"not a checkpoint\n",
    "a bit of the first tensor": lambda b: flip(b, tensor_start(b)),
    "a bit of the last tensor": lambda b: flip(b, len(b) - 1),
    "a bit in the middle": lambda b: flip(b, (tensor_start(b) + len(b)) // 2),
    "a digit of the step": lambda b: flip(b, b.index(rb"step\": ") + len(rb"step\": ")),
    "a letter of a key": lambda b: flip(b, b.index(b"position")),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    """A folder with checkpoints of steps 2 and 4."""
    folder = tmp_path_factory.mktemp("sound")
    trainer(folder, checkpoint_every=2).fit(4)
    return folder


@pytest.fixture
def folder(sound, tmp_path) -> Path:
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_checkpoint_is_refused_and_the_previous_used(kind, folder, capsys):
    path = folder / NAME
    path.write_bytes(DAMAGE[kind](path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"checkpoint\.safetensors is (truncated|damaged)"):
        read(path)
    t = trainer(folder, checkpoint_every=2)
    assert t.resume() and t.step == 2
    message = capsys.readouterr().err
    assert NAME in message and f"using {PREVIOUS}, step 2" in message
    t.fit(6)
    assert read(folder / NAME)[1]["step"] == 6


@pytest.mark.parametrize("kind", ["half", "empty", "a bit in the middle"])
def test_both_damaged(kind, folder):
    for name in (NAME, PREVIOUS):
        (folder / name).write_bytes(DAMAGE[kind]((folder / name).read_bytes()))
    with pytest.raises(CheckpointError, match=rf"no usable checkpoint in .*{NAME}.*{PREVIOUS}"):
        trainer(folder).resume()


def test_missing(tmp_path):
    with pytest.raises(CheckpointError, match="does not exist"):
        load(tmp_path)


def test_kill_between_the_two_renames(folder, monkeypatch, capsys):
    t = trainer(folder, checkpoint_every=2)
    t.resume()
    replace = Path.replace
    renamed = []

    def killed(self, target):
        if renamed:
            raise SystemExit
        renamed.append(target)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemExit):
        t.fit(6)
    monkeypatch.undo()
    assert not (folder / NAME).exists(), "the test did not hit the moment it is about"
    again = trainer(folder, checkpoint_every=2)
    assert again.resume() and again.step == 4
    again.fit(6)
    trainer(folder / "whole", checkpoint_every=2).fit(6)
    assert_same_run(folder / "whole", folder)


def test_kill_while_writing(folder, monkeypatch):
    """Half of the new file is there: the old ones stand, and the half is never taken for a checkpoint."""
    import ganlib.training.checkpoint

    before = {name: (folder / name).read_bytes() for name in (NAME, PREVIOUS)}

    def killed(tensors, path, metadata):
        Path(path).write_bytes(before[NAME][:1000])
        raise SystemExit

    monkeypatch.setattr(ganlib.training.checkpoint, "save_file", killed)
    t = trainer(folder, checkpoint_every=1)
    t.resume()
    with pytest.raises(SystemExit):
        t.fit(6)
    monkeypatch.undo()
    assert {name: (folder / name).read_bytes() for name in (NAME, PREVIOUS)} == before
    again = trainer(folder, checkpoint_every=1)
    assert again.resume() and again.step == 4
    again.fit(5)
    assert sorted(p.name for p in folder.iterdir()) == sorted([NAME, PREVIOUS]), "the half was left behind"


# Whose checkpoint


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": 1}, "seed"),
        ({"batch_size": 4}, "batch_size"),
        ({"ema": {"generator": 0.5}}, "ema"),
        ({"ema": {}}, "ema"),
        ({"precision": "bf16-mixed"}, "precision"),
        ({"schedule": LinearDecay(1, 9)}, "schedule"),
        ({"optimizers": {"discriminator": toys.adam, "generator": partial(toys.adam, lr=0.1)}}, "optimizers"),
        ({"optimizers": {"discriminator": toys.adam, "generator": torch.optim.RMSprop}}, "optimizers"),
    ],
)
def test_other_settings_are_refused(changes, word, folder):
    with pytest.raises(CheckpointError, match=word):
        trainer(folder, **changes).resume()


def test_what_does_not_change_the_result_may_differ(folder):
    assert trainer(folder, log_every=7, checkpoint_every=9).resume()


def test_other_games_are_refused(folder):
    with pytest.raises(CheckpointError, match=r"turns|game"):
        trainer(folder, wgan_gp()).resume()
    wider = dcgan()
    wider.generator = Generator(6, 8, 1, 16)
    with pytest.raises(CheckpointError, match="another game"):
        trainer(folder, wider).resume()


@pytest.mark.parametrize("data", [pictures(40), pictures().flip(0)], ids=["fewer", "as many"])
def test_other_data_are_refused(data, folder):
    with pytest.raises(CheckpointError, match="data"):
        trainer(folder, data=data).resume()


def test_a_refusal_leaves_the_folder_alone(folder):
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(CheckpointError):
        trainer(folder, seed=1).resume()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


# Contents


def test_everything_is_in_one_file_without_pickle(folder):
    with safe_open(folder / NAME, framework="pt") as file:
        names = set(file.keys())
        metadata = file.metadata()
    kinds = {name.split(".")[0] for name in names}
    assert kinds == {"game", "ema", "optimizer", "random"}
    assert {f"game.{name}" for name in dcgan().state_dict()} <= names
    assert '"step": 4' in metadata["ganlib"]


def test_tensors_come_back_as_they_were(tmp_path):
    tensors = {
        "float": torch.randn(3, 4),
        "strided": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "bfloat16": torch.randn(5).bfloat16(),
        "integer": torch.tensor(7),
        "bytes": torch.arange(9, dtype=torch.uint8),
        "empty": torch.zeros(0, 2),
        "nan": torch.tensor([float("nan"), float("inf")]),
    }
    save(tmp_path, tensors, {"step": 1})
    found, metadata = read(tmp_path / NAME)
    assert metadata == {"step": 1} and found.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert found[name].dtype == tensor.dtype
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_tied_weights_can_be_saved(tmp_path):
    game = Mean()
    game.alias = game.model
    t = Trainer(game, torch.ones(8, 1), mean_settings(), out=tmp_path, progress=False)
    t.fit(2)
    again = Mean()
    again.alias = again.model
    second = Trainer(again, torch.ones(8, 1), mean_settings(), out=tmp_path, progress=False)
    assert second.resume()
    assert torch.equal(again.model.weight, game.model.weight)


def test_load_run_takes_the_averaged_weights(sound):
    game = dcgan(seed=5)
    assert load_run(game, sound) == 4
    tensors, _ = load(sound)
    for name, value in game.generator.state_dict().items():
        assert torch.equal(value, tensors[f"ema.generator.{name}"])
    for name, value in game.discriminator.state_dict().items():
        assert torch.equal(value, tensors[f"game.discriminator.{name}"])
    with pytest.raises(CheckpointError, match="another game"):
        load_run(wgan_gp(), sound)


class Pair(Mean):
    """One player made of two of the game's modules, and an attribute of neither name."""

    def __init__(self):
        super().__init__()
        self.turns = {"both": 1}
        self.other = nn.Linear(1, 1)

    @property
    def players(self):
        return {"both": nn.ModuleList([self.model, self.other])}

    def terms(self, player, batch):
        return {"error": (self.other(self.model(batch[0])) - 2).square().mean()}


def test_load_run_finds_the_averages_of_a_player_that_is_several_modules(tmp_path):
    chosen = mean_settings(optimizers={"both": partial(torch.optim.SGD, lr=0.1)}, ema={"both": 0.5})
    t = Trainer(Pair(), torch.ones(8, 1), chosen, out=tmp_path, progress=False)
    t.fit(3)
    assert load_run(game := Pair(), tmp_path) == 3
    with t.averaged() as averaged:
        for name, value in averaged.state_dict().items():
            assert torch.equal(game.state_dict()[name], value)
            assert not torch.equal(value, load(tmp_path)[0][f"game.{name}"]), "the averages equal the weights"


# Weights alone


def test_weights_in_half_precision(tmp_path):
    game, other = dcgan(), dcgan(seed=1)
    game.generator.layers[2].num_batches_tracked += 70_000  # more than half precision can count
    save_weights(game, tmp_path / "weights.safetensors")
    load_weights(other, tmp_path / "weights.safetensors")
    for name, value in game.state_dict().items():
        found = other.state_dict()[name]
        assert found.dtype == value.dtype
        if value.is_floating_point():
            # 11 bits, rounded to the nearest: half a unit in the last place is 2^-12, subnormals below 6e-5.
            torch.testing.assert_close(found, value, rtol=2**-11, atol=1e-7)
        else:
            assert torch.equal(found, value)
    numbers = sum(v.numel() for v in game.state_dict().values())
    names = len(game.state_dict())
    assert (tmp_path / "weights.safetensors").stat().st_size < 2 * numbers + 150 * names


def test_weights_of_another_module_or_none(tmp_path):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(CheckpointError, match=r"weights\.safetensors cannot be loaded"):
        load_weights(dcgan(), path)
    save_weights(Discriminator(4, 1, 16), path)
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_weights(Discriminator(8, 1, 16), path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_weights(Discriminator(4, 1, 16), path)
