"""The command line: every command, its files, its errors in one line, its exit codes."""

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.datasets import FakeData

import ganlib
from ganlib import runs, studies, systems
from ganlib.__main__ import main
from ganlib.data import Images
from ganlib.training import Budget, Experiment, Game, Settings
from ganlib.training.checkpoint import read

SHARED = Path(__file__).resolve().parents[1] / "../shared/data"
RUN_FILES = {"samples.png", "history.json", "metrics.json", "checkpoint.safetensors"}
FIGURES = {"fid": 12.5, "fid_over_floor": 5.0, "class_balance": 0.05, "rarest_digit_share": 0.0625}


class Toy(Game):
    """One number that is drawn to the data's mean: a system whose runs take milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.turns = {"model": 1}
        self.interrupt_at: int | None = None
        self.rounds = 0

    def terms(self, player: str, batch: tuple[Tensor, ...]) -> dict[str, Tensor]:
        self.rounds += 1
        if self.rounds == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return {"fit": (self.model.weight - batch[0].mean()).square().mean()}

    def sample(self, n: int, rng: torch.Generator | None = None) -> Tensor:
        return self.model.weight.detach().view(1, 1, 1, 1).expand(n, 1, 8, 8).clone()


@pytest.fixture
def toy(monkeypatch, tmp_path):
    """A system called `toy`, and tmp_path as the working folder; what it returns steers the recipe."""
    monkeypatch.setattr(systems, "_REGISTRY", dict(systems._REGISTRY))
    monkeypatch.chdir(tmp_path)
    steer = {"interrupt_at": None, "budgets": [], "loss": 0.0}

    @systems.system(name="toy", title="Toy", paper="Nobody 2020", lectures=("UBC",), notebook="99_toy.ipynb")
    def recipe(budget: Budget, data: Images | None = None) -> Experiment:
        steer["budgets"].append(budget)
        game = Toy()
        game.interrupt_at = steer["interrupt_at"]
        chosen = Settings({"model": partial(torch.optim.SGD, lr=0.1)}, batch_size=4, log_every=2)
        images = torch.linspace(-1, 1, 16).view(16, 1, 1, 1) + steer["loss"]
        return Experiment(game, (images,), chosen, steps=6, evaluate=lambda game: dict(FIGURES))

    return steer


def fails(capsys, *arguments: str, code: int = 2) -> str:
    """The one line that a failing command leaves on stderr."""
    assert main(list(arguments)) == code
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert out == "" and len(lines) == 1, err
    assert lines[0].startswith("ganlib: ") and "Traceback" not in err
    return lines[0]


# systems


def test_systems(capsys):
    assert main(["systems"]) == 0
    out = capsys.readouterr().out
    for s in systems.all_systems():
        for text in (s.name, s.title, s.paper, s.notebook, *s.lectures):
            assert text in out


def test_systems_as_json(capsys):
    assert main(["systems", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [s.name for s in systems.all_systems()]
    assert all(list(row) == ["name", "title", "paper", "lectures", "notebook"] for row in rows)


# train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of DCGAN at the smoke budget."""
    out = tmp_path_factory.mktemp("runs") / "dcgan"
    assert main(["train", "dcgan", "--budget", "smoke", "--seed", "3", "--out", str(out)]) == 0
    return out


def test_train_writes_a_run(trained):
    assert {p.name for p in trained.iterdir()} == RUN_FILES
    about = json.loads((trained / "metrics.json").read_text())
    assert (about["system"], about["budget"], about["seed"], about["steps"]) == ("dcgan", "smoke", 3, 6)
    assert about["command"] == "ganlib train dcgan --budget smoke --seed 3"
    assert about["versions"]["ganlib"] == ganlib.__version__ and about["processes"] == 1
    assert about["metrics"]["fid"] > 0 and about["seconds"] >= 0
    history = json.loads((trained / "history.json").read_text())
    assert [row["step"] for row in history] == [2, 4, 6]
    assert set(history[0]) == {"step", "seconds", "discriminator/adversarial", "generator/adversarial"}
    with Image.open(trained / "samples.png") as image:
        assert image.size == (8 * 34 + 2, 8 * 34 + 2)  # 64 pictures of 32 pixels, two between and around
    assert read(trained / "checkpoint.safetensors")[1]["step"] == 6


def test_sample(trained, tmp_path, capsys):
    for name, seed in (("a.png", "1"), ("b.png", "1"), ("c.png", "2")):
        assert main(["sample", str(trained), "-n", "16", "--seed", seed, "--out", str(tmp_path / name)]) == 0
    assert "16 samples" in capsys.readouterr().out
    a, b, c = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png", "c.png"))
    assert a == b != c
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (8 * 34 + 2, 2 * 34 + 2)


def test_sample_draws_what_training_showed(trained, tmp_path):
    """The same averaged weights and latents as samples.png."""
    assert main(["sample", str(trained), "--out", str(tmp_path / "grid.png")]) == 0
    with Image.open(tmp_path / "grid.png") as new, Image.open(trained / "samples.png") as old:
        new, old = (torch.from_numpy(np.array(image)).float() for image in (new, old))
    assert (new - old).abs().max() <= 1, "rounding to bytes may fall to either side"


def test_evaluate(trained, capsys):
    path = trained / "metrics.json"
    before = json.loads(path.read_text())
    path.write_text(json.dumps({**before, "metrics": {}}))
    assert main(["evaluate", str(trained)]) == 0
    assert "fid_over_floor: " in capsys.readouterr().out
    after = json.loads(path.read_text())
    assert after["metrics"] == pytest.approx(before["metrics"], rel=1e-3)
    assert {**after, "metrics": None} == {**before, "metrics": None}


def test_reading_a_run(trained):
    run, experiment, step = runs.read(trained)
    assert (run.system, run.budget, run.seed, step) == ("dcgan", Budget.SMOKE, 3, 6)
    assert experiment.game.sample(2).shape == (2, 1, 32, 32)
    assert runs.load_history(trained)["step"] == [2, 4, 6]


def test_train_reports_and_chooses_a_folder(toy, tmp_path, capsys):
    assert main(["train", "toy", "--budget", "smoke"]) == 0
    out = capsys.readouterr().out
    assert "fid: 12.5" in out and "6 steps" in out and str(Path("runs/toy")) in out
    assert {p.name for p in (tmp_path / "runs/toy").iterdir()} == RUN_FILES


def test_budget_option_beats_the_environment(toy, monkeypatch):
    monkeypatch.setenv("GANLIB_BUDGET", "gpu")
    assert main(["train", "toy", "--out", "a"]) == 0
    assert main(["train", "toy", "--out", "b", "--budget", "smoke"]) == 0
    assert toy["budgets"] == [Budget.GPU, Budget.SMOKE]


def test_steps_and_seed(toy, tmp_path):
    assert main(["train", "toy", "--out", "a", "--budget", "cpu", "--steps", "3", "--seed", "5"]) == 0
    about = json.loads((tmp_path / "a/metrics.json").read_text())
    assert about["steps"] == 3 and about["seed"] == 5
    assert about["command"] == "ganlib train toy --budget cpu --seed 5 --steps 3"


def test_a_run_is_not_overwritten_unasked(toy, tmp_path, capsys):
    assert main(["train", "toy", "--out", "a"]) == 0
    before = {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()}
    capsys.readouterr()
    line = fails(capsys, "train", "toy", "--out", "a")
    assert "--resume" in line and "--overwrite" in line
    assert {p.name: p.read_bytes() for p in (tmp_path / "a").iterdir()} == before


def test_resume_and_overwrite_contradict_each_other(toy, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["train", "toy", "--resume", "--overwrite"])
    assert stopped.value.code == 2 and "not allowed with" in capsys.readouterr().err


def test_a_schedule_is_not_outrun(tmp_path, monkeypatch, capsys):
    """Beyond its recipe's steps DCGAN would train at rate zero; fewer steps are a shorter run."""
    monkeypatch.chdir(tmp_path)
    line = fails(capsys, "train", "dcgan", "--budget", "smoke", "--steps", "7", "--dry-run")
    assert "fall to zero at step 6" in line and "got 7" in line
    assert main(["train", "dcgan", "--budget", "smoke", "--steps", "5", "--dry-run"]) == 0


def test_a_run_that_was_killed_is_pointed_at_resume(toy, tmp_path, capsys):
    assert main(["train", "toy", "--out", "a"]) == 0
    (tmp_path / "a/metrics.json").unlink()
    capsys.readouterr()
    assert "--resume" in fails(capsys, "sample", "a")


def test_overwrite_begins_anew(toy, tmp_path):
    assert main(["train", "toy", "--out", "a", "--seed", "1"]) == 0
    assert main(["train", "toy", "--out", "a", "--seed", "2", "--overwrite"]) == 0
    assert main(["train", "toy", "--out", "b", "--seed", "2"]) == 0
    again, fresh = (read(tmp_path / name / "checkpoint.safetensors") for name in "ab")
    assert torch.equal(again[0]["game.model.weight"], fresh[0]["game.model.weight"])
    assert [r["step"] for r in again[1]["history"]] == [2, 4, 6]


def test_overwriting_leaves_nothing_of_the_old_run(toy, tmp_path, monkeypatch, capsys):
    """A new run that dies before its first checkpoint must not be resumed from the old one's."""
    assert main(["train", "toy", "--out", "a", "--steps", "2"]) == 0
    assert main(["train", "toy", "--out", "a", "--resume"]) == 0  # now there is a previous checkpoint too
    monkeypatch.setattr("ganlib.training.Trainer._round", lambda self: (_ for _ in ()).throw(SystemExit))
    with pytest.raises(SystemExit):
        main(["train", "toy", "--out", "a", "--overwrite"])
    assert not [p for p in (tmp_path / "a").iterdir()]


def test_resume_goes_on(toy, tmp_path):
    assert main(["train", "toy", "--out", "a", "--steps", "3"]) == 0
    assert main(["train", "toy", "--out", "a", "--resume"]) == 0
    assert main(["train", "toy", "--out", "b"]) == 0
    cut, whole = (read(tmp_path / name / "checkpoint.safetensors")[0] for name in "ab")
    assert cut.keys() == whole.keys() and all(torch.equal(cut[k], whole[k]) for k in cut)
    assert json.loads((tmp_path / "a/metrics.json").read_text())["steps"] == 6


def test_resume_where_there_is_nothing_begins(toy, tmp_path):
    assert main(["train", "toy", "--out", "a", "--resume"]) == 0
    assert json.loads((tmp_path / "a/metrics.json").read_text())["steps"] == 6


def test_resume_of_another_run_is_refused(toy, capsys):
    assert main(["train", "toy", "--out", "a", "--budget", "smoke"]) == 0
    capsys.readouterr()
    assert "toy at budget smoke" in fails(capsys, "train", "toy", "--out", "a", "--budget", "cpu", "--resume")
    Path("a/metrics.json").unlink()  # as if it had been killed
    assert "seed" in fails(capsys, "train", "toy", "--out", "a", "--seed", "1", "--resume")
    line = fails(capsys, "train", "dcgan", "--budget", "smoke", "--out", "a", "--resume")
    assert "checkpoint in a is of another" in line


def test_ctrl_c_leaves_a_complete_run(toy, tmp_path, capsys):
    toy["interrupt_at"] = 3
    assert main(["train", "toy", "--out", "a"]) == 130
    assert "--resume" in capsys.readouterr().err.splitlines()[-1]
    assert {p.name for p in (tmp_path / "a").iterdir()} == RUN_FILES
    assert json.loads((tmp_path / "a/metrics.json").read_text())["steps"] == 3
    toy["interrupt_at"] = None
    assert main(["train", "toy", "--out", "a", "--resume"]) == 0
    assert main(["train", "toy", "--out", "b"]) == 0
    cut, whole = (read(tmp_path / name / "checkpoint.safetensors")[0] for name in "ab")
    assert all(torch.equal(cut[k], whole[k]) for k in whole)


def test_ctrl_c_elsewhere(toy, monkeypatch, capsys):
    monkeypatch.setattr(runs, "evaluate", lambda run: (_ for _ in ()).throw(KeyboardInterrupt))
    assert fails(capsys, "evaluate", "x", code=130) == "ganlib: interrupted"


def test_dry_run_writes_nothing(toy, tmp_path, capsys):
    assert main(["train", "dcgan", "--budget", "smoke", "--dry-run"]) == 0
    out = capsys.readouterr().out
    # Width 8 at 32 x 32 by hand: 16 weights per pair of channels, two per batch norm's channel.
    generator = 16 * (64 * 32 + 32 * 16 + 16 * 8 + 8) + 1 + 2 * (32 + 16 + 8)
    for text in ("system: dcgan", "budget: smoke", "steps: 6", "(1000, 1, 32, 32) float32", f"{generator:,}"):
        assert text in out
    assert "1 x discriminator, 1 x generator" in out
    assert not list(tmp_path.iterdir())


def test_other_data(tmp_path, monkeypatch):
    """torchvision's made-up set, in colour; the figures of MNIST are not reported for it."""
    few = (
        40,
        (3, 16, 16),
        *FakeData.__init__.__defaults__[2:],
    )  # 1,000 of 224 x 224 take seconds
    monkeypatch.setattr(FakeData.__init__, "__defaults__", few)
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "run"
    arguments = ["train", "gan", "--budget", "smoke", "--data", "fakedata", "--size", "8"]
    assert main([*arguments, "--out", str(out)]) == 0
    about = json.loads((out / "metrics.json").read_text())
    assert about["data"]["name"] == "fakedata" and about["data"]["size"] == 8 and about["metrics"] == {}
    words = about["command"].split()
    assert words[words.index("--data") + 1] == "fakedata" and words[words.index("--size") + 1] == "8"
    with Image.open(out / "samples.png") as image:
        assert image.size == (8 * 10 + 2, 8 * 10 + 2)


@pytest.mark.skipif(not SHARED.exists(), reason="needs ../shared/data with MNIST's original files")
def test_data_from_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("GANLIB_CACHE", str(tmp_path / "cache"))
    arguments = ["train", "dcgan", "--budget", "smoke", "--dry-run", "--data", "mnist", "--root", str(SHARED)]
    assert main([*arguments, "--size", "16"]) == 0
    assert "(1000, 1, 16, 16) uint8" in capsys.readouterr().out


# Errors


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "dcgann"], ["dcgann", "dcgan"]),
        (["train", "toy", "--steps", "0"], ["--steps", "0"]),
        (["train", "toy", "--seed", "-1"], ["seed", "-1"]),
        (["train", "toy", "--out", "file"], ["file"]),
        (["train", "dcgan", "--budget", "smoke", "--data", "nosuch"], ["nosuch"]),
        (["train", "dcgan", "--budget", "smoke", "--data", "mnist", "--root", "none"], ["MNIST", "none"]),
        (["train", "gan", "--budget", "smoke", "--data", "fakedata", "--size", "0"], ["size", "0"]),
        (["sample", "none"], ["none", "metrics.json"]),
        (["evaluate", "none"], ["none", "metrics.json"]),
        (["reproduce", "toy", "nosuch"], ["nosuch"]),
    ],
)
def test_errors_are_one_line(arguments, words, toy, tmp_path, capsys):
    (tmp_path / "file").touch()
    line = fails(capsys, *arguments)
    assert all(word in line for word in words)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_bad_budget_in_the_environment(toy, monkeypatch, capsys):
    monkeypatch.setenv("GANLIB_BUDGET", "huge")
    assert "GANLIB_BUDGET" in fails(capsys, "train", "toy")


def test_a_run_without_its_checkpoint(toy, tmp_path, capsys):
    assert main(["train", "toy", "--out", "a"]) == 0
    (tmp_path / "a/checkpoint.safetensors").unlink()
    capsys.readouterr()
    assert "checkpoint.safetensors does not exist" in fails(capsys, "sample", "a")


@pytest.mark.parametrize("out", ["none/grid.png", "grid.nosuch", "."])
def test_a_picture_that_cannot_be_written(out, toy, capsys):
    assert main(["train", "toy", "--out", "a"]) == 0
    capsys.readouterr()
    fails(capsys, "sample", "a", "--out", out)


@pytest.mark.parametrize("n", ["0", "-4"])
def test_number_of_samples(n, trained, capsys):
    assert "n must be at least 1" in fails(capsys, "sample", str(trained), "-n", n)


def test_a_loss_that_is_no_number(toy, tmp_path, capsys):
    toy["loss"] = float("nan")
    assert main(["train", "toy", "--out", "a"]) == 2
    err = capsys.readouterr().err  # below the progress bar, which is on stderr too
    assert "model/fit is nan at step 2" in err.splitlines()[-1]
    assert "Traceback" not in err


@pytest.mark.parametrize("arguments", [[], ["nosuch"], ["train"], ["train", "toy", "--budget", "huge"]])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert "usage: ganlib" in capsys.readouterr().err


# reproduce


def test_reproduce_writes_the_table(toy, tmp_path, capsys):
    assert main(["reproduce", "toy", "--seeds", "0", "4"]) == 0
    assert set(toy["budgets"]) == {Budget.CPU}
    folder = tmp_path / "results"
    assert {p.name for p in folder.iterdir()} == {"README.md", "toy"}
    kept = RUN_FILES - {"checkpoint.safetensors"}
    assert {p.name for p in (folder / "toy/seed0").iterdir()} == kept | {"weights.safetensors"}
    assert {p.name for p in (folder / "toy/seed4").iterdir()} == kept
    rows = [line for line in (folder / "README.md").read_text().splitlines() if line.startswith("| toy")]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:3] for row in cells] == [["toy", "0", "6"], ["toy", "4", "6"]]
    assert cells[0][4:8] == ["12.50", "5.0", "0.050", "6.2%"]
    # A second time, with the old runs there, and with another system's row kept in the table.
    assert main(["reproduce", "toy", "--seeds", "0"]) == 0
    assert (folder / "README.md").read_text().count("| toy") == 2


def test_further_figures_stand_in_columns_of_their_seeds():
    made = {"fid": 1.0, "fid_floor": 1.0, "fid_over_floor": 1.0, "class_balance": 0.0, "samples": 9}
    found = [
        {"system": "told", "seed": seed, "seconds": 7.0, "metrics": made | {"requested_accuracy": share}}
        for seed, share in ((0, 0.25), (2, 0.98765))
    ]
    found.append({"system": "plane", "seed": 1, "seconds": 7.0, "metrics": {"modes": 8.0, "samples": 9}})
    title, _, head, _, *rows, _ = runs.further_figures(found)
    assert title.startswith("#") and head == "| system | figure | seed 0 | seed 1 | seed 2 |"
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    # The FID table above tells the seconds of the runs that have a row there.
    assert cells == [
        ["told", "requested accuracy", "0.25", "", "0.9877"],
        ["plane", "seconds", "", "7", ""],
        ["plane", "modes", "", "8", ""],
    ]
    assert runs.further_figures([]) == []


def test_reproduce_weights_are_the_averaged_ones(toy, tmp_path):
    from ganlib.training.checkpoint import load_weights

    assert main(["train", "toy", "--budget", "cpu", "--out", "a"]) == 0
    assert main(["reproduce", "toy", "--seeds", "0"]) == 0
    game = Toy()
    load_weights(game, tmp_path / "results/toy/seed0/weights.safetensors")
    wanted = runs.read(tmp_path / "a")[1].game.model.weight
    torch.testing.assert_close(game.model.weight, wanted, rtol=2**-11, atol=0)  # half precision has 11 bits


def test_reproduce_resumes_what_was_cut_off(toy, tmp_path):
    toy["interrupt_at"] = 3
    assert main(["reproduce", "toy", "--seeds", "0"]) == 130
    assert not (tmp_path / "results/README.md").exists()
    toy["interrupt_at"] = None
    assert main(["reproduce", "toy", "--seeds", "0"]) == 0
    assert main(["train", "toy", "--budget", "cpu", "--out", "a"]) == 0
    history = json.loads((tmp_path / "results/toy/seed0/history.json").read_text())
    assert [row["step"] for row in history] == [2, 3, 4, 6], "it began anew"


def test_points_of_the_plane_are_drawn_as_a_scatter_plot(toy, tmp_path, monkeypatch):
    """1,000 of them at least, whatever is asked for: 64 points would show no distribution."""
    asked = []

    def points(self, n, rng=None):
        asked.append(n)
        return torch.randn(n, 2, generator=rng)

    monkeypatch.setattr(Toy, "sample", points)
    assert main(["train", "toy", "--out", "a"]) == 0
    assert asked[-1] == 1000
    with Image.open("a/samples.png") as image:
        assert image.size == (320, 320)
    before = Path("a/samples.png").read_bytes()
    assert main(["sample", "a", "-n", "64", "--out", "b.png"]) == 0
    assert Path("b.png").read_bytes() == before, "the same latents"
    assert main(["sample", "a", "-n", "2000", "--out", "c.png"]) == 0 and asked[-1] == 2000


# reproduce with studies


@pytest.fixture
def made_up(toy, monkeypatch):
    """Two studies, beside the system `toy` and no other; the runs of their cells are noted."""
    seen = []

    def outcome(name: str, seed: int) -> studies.Outcome:
        seen.append((name, seed))
        return studies.Outcome({"modes": 8 - seed})

    def cells(budget: Budget) -> list[studies.Cell]:
        return [studies.Cell({"method": m}, partial(outcome, m)) for m in ("gan", "pacgan2")]

    studies.all_studies()  # the real ones register once, and not into the copy
    made = [
        studies.Study(name, name.title(), "Nobody 2020", "99_toy.ipynb", (0, 1), cells)
        for name in ("first", "second")
    ]
    monkeypatch.setattr(studies, "_REGISTRY", {study.name: study for study in made})
    monkeypatch.setattr(systems, "all_systems", lambda: [systems._REGISTRY["toy"]])
    return seen


def test_reproduce_a_study(made_up, tmp_path):
    assert main(["reproduce", "first"]) == 0
    assert made_up == [("gan", 0), ("pacgan2", 0), ("gan", 1), ("pacgan2", 1)]
    files = {p.name for p in (tmp_path / "results/first").iterdir()}
    assert files == {f"{m}-seed{k}.json" for m in ("gan", "pacgan2") for k in (0, 1)}
    page = (tmp_path / "results/README.md").read_text()
    assert "## First" in page and "| gan | 2 |" in page and "7.5 ± 0.707" in page
    assert "## Second" not in page, "nothing is stored of it"


def test_reproduce_some_cells_and_seeds(made_up, tmp_path):
    assert main(["reproduce", "first", "--cells", "pacgan2", "--seeds", "4", "2"]) == 0
    assert made_up == [("pacgan2", 4), ("pacgan2", 2)]


def test_reproduce_everything(made_up, toy, tmp_path):
    """Without a name: every system and every study."""
    assert main(["reproduce", "--seeds", "0"]) == 0
    assert [name for name, _ in made_up] == ["gan", "pacgan2"] * 2
    assert {p.name for p in (tmp_path / "results").iterdir()} == {"README.md", "first", "second", "toy"}


def test_reproduce_what_is_missing(made_up, tmp_path):
    assert main(["reproduce", "first", "--cells", "gan"]) == 0
    assert main(["reproduce", "toy", "--seeds", "0"]) == 0
    before = (tmp_path / "results/toy/seed0/metrics.json").stat().st_mtime_ns
    made_up.clear()
    assert main(["reproduce", "first", "toy", "--seeds", "0", "--missing"]) == 0
    assert made_up == [("pacgan2", 0)]
    assert (tmp_path / "results/toy/seed0/metrics.json").stat().st_mtime_ns == before
    assert main(["reproduce", "toy", "--seeds", "0"]) == 0
    assert (tmp_path / "results/toy/seed0/metrics.json").stat().st_mtime_ns > before


def test_reproduce_list(made_up, tmp_path, capsys):
    assert main(["reproduce", "--list"]) == 0
    out = capsys.readouterr().out
    for word in ("first: First", "second: Second", "Nobody 2020", "99_toy.ipynb", "gan pacgan2"):
        assert word in out
    assert not made_up and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["first", "--cells", "wgan"], ["first has no cell wgan", "gan, pacgan2"]),
        (["--cells", "gan"], ["--cells needs the name of one study"]),
        (["first", "second", "--cells", "gan"], ["--cells needs the name of one study"]),
        (["toy", "--cells", "gan"], ["--cells needs the name of one study"]),
        (["first", "nosuch"], ["nosuch"]),
    ],
)
def test_reproduce_errors_come_before_any_run(arguments, words, made_up, tmp_path, capsys):
    line = fails(capsys, "reproduce", *arguments)
    assert all(word in line for word in words)
    assert not made_up and not list(tmp_path.iterdir())


# The program


def test_as_a_program(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(ganlib.__file__).parents[1])}
    command = [sys.executable, "-m", "ganlib", "evaluate", "nowhere"]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.splitlines() == ["ganlib: nowhere holds no finished run (no readable metrics.json)"]
