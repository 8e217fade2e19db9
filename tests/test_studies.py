"""Studies: cells, what is stored of them, how it is read back, and what an interruption leaves."""

import itertools
import json
import os
import shlex
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from ganlib import studies
from ganlib.__main__ import main
from ganlib.studies import Cell, Outcome
from ganlib.training import Budget, Game, History, Settings, Trainer


class Mean(Game):
    """One number that learns the mean of its data."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1, bias=False)
        self.turns = {"model": 1}
        self.rounds, self.interrupt_at = 0, interrupt_at

    def terms(self, player: str, batch: tuple[torch.Tensor, ...]) -> dict[str, torch.Tensor]:
        self.rounds += 1
        if self.rounds == self.interrupt_at:
            os.kill(os.getpid(), signal.SIGINT)
        return {"fit": (self.model.weight - batch[0]).square().mean()}


def trainer(interrupt_at: int | None = None) -> Trainer:
    settings = Settings({"model": partial(torch.optim.SGD, lr=0.1)}, batch_size=4, log_every=1)
    return Trainer(Mean(interrupt_at), torch.ones(8, 1), settings, progress=False)


@pytest.fixture
def made_up(monkeypatch, tmp_path):
    """A study called `made-up` of four cells; what it returns steers it and counts its runs."""
    studies.all_studies()  # so that the real ones are registered for good, not into the copy
    monkeypatch.setattr(studies, "_REGISTRY", dict(studies._REGISTRY))
    monkeypatch.chdir(tmp_path)
    steer = {"runs": [], "fail": None, "interrupt_at": None, "budgets": []}

    def cell(target: str, method: str, seed: int) -> Outcome:
        steer["runs"].append((target, method, seed))
        if steer["fail"] == (target, method):
            raise RuntimeError("deliberate")
        history = studies.fit(trainer(steer["interrupt_at"]), 3) if method == "pacgan2" else None
        return Outcome(
            figures={"modes": seed + len(target), "share": None if method == "gan" else 0.5, "list": [1, 2]},
            history=history,
            images=torch.linspace(-1, 1, 3).view(3, 1, 1, 1).expand(3, 1, 4, 4) if method == "gan" else None,
            arrays={"points": torch.arange(6.0).view(3, 2).T.half()} if method == "gan" else {},
            notes=("Of one seed.",),
        )

    @studies.study(
        name="made-up", title="Made up", paper="Nobody 2020", notebook="99_toy.ipynb", seeds=(0, 1)
    )
    def cells(budget: Budget) -> list[Cell]:
        steer["budgets"].append(budget)
        return [
            Cell({"target": t, "method": m}, partial(cell, t, m))
            for t in ("ring", "grid")
            for m in ("pacgan2", "gan")
        ]

    return steer


NAMES = ["ring-pacgan2", "ring-gan", "grid-pacgan2", "grid-gan"]


# The registry


def test_registered_studies():
    """Each is whole: names that a path and a shell can hold, cells that differ, seeds, a notebook's name."""
    found = studies.all_studies()
    assert [s.notebook for s in found] == sorted(s.notebook for s in found)
    assert len({s.name for s in found}) == len(found) > 0
    for study in found:
        assert study.name == study.name.lower() and shlex.quote(study.name) == study.name
        assert study.seeds and study.title and study.paper and study.notebook.endswith(".ipynb")
        for budget in Budget:
            names = [cell.name for cell in study.cells(budget)]
            assert names and len(set(names)) == len(names)
            assert all(shlex.quote(name) == name for name in names)


def test_no_study_has_the_name_of_a_system():
    """`ganlib reproduce NAME` takes both, and both have a folder of that name."""
    from ganlib import systems

    assert not {s.name for s in studies.all_studies()} & {s.name for s in systems.all_systems()}


def test_get(made_up):
    assert studies.get("made-up").title == "Made up"
    with pytest.raises(ValueError, match=r"no study is called 'made-down'; there are .*made-up"):
        studies.get("made-down")


def test_a_name_is_given_once(made_up):
    with pytest.raises(ValueError, match="a study named 'made-up' exists already"):
        studies.study(name="made-up", title="", paper="", notebook="")(list)


@pytest.mark.parametrize("label", ["", "Ring", "a b", "a--b", "-a", "a-", "a_b", "a.b", "../a", "ä"])
def test_labels_that_a_path_cannot_hold_are_refused(label):
    with pytest.raises(ValueError, match="labels must be lower case"):
        Cell({"target": "ring", "method": label}, lambda seed: Outcome({}))


def test_cells_of_one_name_are_refused(monkeypatch, tmp_path):
    """a-b and c, a and b-c: the second would overwrite the first."""
    cells = [
        Cell(dict(zip("xy", pair, strict=True)), lambda seed: Outcome({}))
        for pair in (("a-b", "c"), ("a", "b-c"))
    ]
    twins = studies.Study("twins", "", "", "", (0,), lambda budget: cells)
    with pytest.raises(ValueError, match="cells of distinct names"):
        studies.run(twins, Budget.SMOKE, folder=tmp_path)


# Running and storing


def test_every_cell_under_every_seed(made_up, tmp_path):
    written = studies.run(studies.get("made-up"), Budget.SMOKE)
    assert len(written) == 8 and made_up["budgets"] == [Budget.SMOKE]
    assert {p.name for p in written} == {f"{name}-seed{k}.json" for name in NAMES for k in (0, 1)}
    assert sorted(made_up["runs"]) == sorted((*name.split("-"), k) for name in NAMES for k in (0, 1))
    kept = {p.name for p in (tmp_path / "results/made-up").iterdir()}
    with_pictures = {
        f"{t}-gan-seed{k}{end}" for t in ("ring", "grid") for k in (0, 1) for end in (".png", ".safetensors")
    }
    assert kept == {p.name for p in written} | with_pictures


def test_what_is_stored(made_up, tmp_path):
    (path,) = studies.run(
        studies.get("made-up"), Budget.SMOKE, seeds=[3], names=["ring-pacgan2"], folder=tmp_path
    )
    stored = json.loads(path.read_text())
    assert stored["study"] == "made-up" and stored["labels"] == {"target": "ring", "method": "pacgan2"}
    assert stored["figures"] == {"modes": 7, "share": 0.5, "list": [1, 2]}
    assert stored["seed"] == 3 and stored["budget"] == "smoke" and stored["notes"] == ["Of one seed."]
    assert stored["command"] == "ganlib reproduce made-up --cells ring-pacgan2 --seeds 3"
    assert stored["seconds"] >= 0 and stored["threads"] == torch.get_num_threads()
    assert set(stored["versions"]) == {"ganlib", "python", "torch"}
    assert [row["step"] for row in stored["curve"]] == [1, 2, 3]
    assert "model/fit" in stored["curve"][0]


def test_pictures_and_arrays(made_up, tmp_path):
    (path,) = studies.run(
        studies.get("made-up"), Budget.SMOKE, seeds=[0], names=["ring-gan"], folder=tmp_path
    )
    with Image.open(path.with_suffix(".png")) as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape == (4 + 4, 3 * 6 + 2)
    assert pixels[4, [4, 10, 16]].tolist() == [0, 128, 255]
    points = load_file(path.with_suffix(".safetensors"))["points"]
    assert points.dtype == torch.float16 and points.tolist() == [[0, 2, 4], [1, 3, 5]]


def test_recorded_commands_run_as_written(made_up, tmp_path):
    """Each file's command, given to a shell, writes that file again and nothing else."""
    written = studies.run(studies.get("made-up"), Budget.CPU, names=["grid-gan", "ring-pacgan2"])
    for path in written:
        before = json.loads(path.read_text())
        made_up["runs"].clear()
        program, *arguments = shlex.split(before["command"])
        assert program == "ganlib" and main(arguments) == 0
        assert made_up["runs"] == [(*before["labels"].values(), before["seed"])]
        after = json.loads((tmp_path / "results/made-up" / path.name).read_text())
        unsure = {"seconds", "curve"}
        assert {k: v for k, v in after.items() if k not in unsure} == {
            k: v for k, v in before.items() if k not in unsure
        }


def test_stored_cells_are_left_alone_if_asked(made_up, tmp_path):
    first = studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0], names=NAMES[:2])
    again = studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0], overwrite=False)
    assert not set(first) & set(again) and len(again) == 2
    assert len(studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0])) == 4


def test_unknown_cell(made_up, tmp_path):
    with pytest.raises(ValueError, match="made-up has no cell ring-wgan; it has ring-pacgan2, ring-gan"):
        studies.run(studies.get("made-up"), Budget.SMOKE, names=["ring-gan", "ring-wgan"], folder=tmp_path)
    assert not made_up["runs"] and not list(tmp_path.iterdir())


def test_a_cell_that_fails_leaves_what_was_there(made_up, tmp_path):
    folder = tmp_path / "results/made-up"
    studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0], names=["ring-gan"])
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    made_up["fail"] = ("ring", "gan")
    with pytest.raises(RuntimeError, match="deliberate"):
        studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0], names=["ring-gan"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_a_write_that_is_cut_off_is_no_result(made_up, tmp_path, monkeypatch):
    """Killed before the file has its name: what is read is the old one, or none."""

    def killed(self, target):
        raise SystemExit

    monkeypatch.setattr(Path, "replace", killed)
    with pytest.raises(SystemExit):
        studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0], names=["ring-pacgan2"])
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert not list((tmp_path / "results/made-up").glob("*.json"))


def test_ctrl_c_in_a_cell_ends_the_study(made_up, tmp_path, capsys):
    """The trainer takes it as a wish to stop early; half a training must not be stored as a whole one."""
    made_up["interrupt_at"] = 2
    assert main(["reproduce", "made-up", "--seeds", "0"]) == 130
    assert made_up["runs"] == [("ring", "pacgan2", 0)]
    assert not list(tmp_path.rglob("*.json"))
    assert "interrupted" in capsys.readouterr().err


def test_fit_is_the_trainers():
    history = studies.fit(trainer(), 4)
    assert isinstance(history, History) and history["step"] == [1, 2, 3, 4]


@pytest.mark.parametrize(("rows", "kept"), [(0, 0), (1, 1), (60, 60), (61, 30), (120, 60), (1000, 58)])
def test_curves_are_thinned(rows, kept):
    """To at most sixty rows, evenly, and steps stay whole numbers."""
    thinned = studies._thinned([{"step": 12_345_678 + i, "fit": 1 / 3} for i in range(1, rows + 1)])
    assert len(thinned) == kept <= 60
    steps = [row["step"] - 12_345_678 for row in thinned]
    assert all(isinstance(step, int) for step in steps)
    assert len({b - a for a, b in itertools.pairwise(steps)}) <= 1
    assert all(row["fit"] == 0.33333 for row in thinned)


# Reading back


def test_load_gives_cells_in_the_studys_order(made_up, tmp_path):
    studies.run(studies.get("made-up"), Budget.SMOKE, folder=tmp_path)
    rows = studies.load("made-up", tmp_path)
    assert [("-".join(r["labels"].values()), r["seed"]) for r in rows] == [
        (n, k) for n in NAMES for k in (0, 1)
    ]
    assert all(json.loads(r["path"].read_text()) == {k: v for k, v in r.items() if k != "path"} for r in rows)
    assert {"labels", "seed", "figures", "seconds", "curve", "notes", "command"} <= set(rows[0])


def test_load_of_nothing(made_up, tmp_path):
    assert studies.load("made-up", tmp_path) == [] and studies.table("made-up", tmp_path) == []
    with pytest.raises(ValueError, match="no study is called 'nosuch'"):
        studies.load("nosuch", tmp_path)


def test_a_cell_that_is_no_longer_in_the_study_comes_last(made_up, tmp_path):
    studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[0], folder=tmp_path)
    path = tmp_path / "made-up/ring-gan-seed0.json"
    path.with_name("a-b-seed0.json").write_text(path.read_text().replace('"ring"', '"a"'))
    assert [r["labels"]["target"] for r in studies.load("made-up", tmp_path)] == [
        "ring",
        "ring",
        "grid",
        "grid",
        "a",
    ]


def test_table_of_means_and_deviations(made_up, tmp_path):
    studies.run(studies.get("made-up"), Budget.SMOKE, folder=tmp_path)
    for path in (tmp_path / "made-up").glob("*.json"):  # seconds that are known
        path.write_text(
            json.dumps(json.loads(path.read_text()) | {"seconds": 20.0 if "seed0" in path.name else 24.0})
        )
    lines = studies.table("made-up", tmp_path)
    assert lines[0] == "## Made up" and "`ganlib reproduce made-up`. After Nobody 2020." in lines[2]
    head, rule, *body = [line for line in lines if line.startswith("|")]
    assert head == "| target | method | seeds | seconds | modes | share |"
    assert rule == "|---|---|--:|--:|--:|--:|"
    # Seeds 0 and 1 give 4 and 5 modes on the ring: 4.5, with a sample deviation of 1/sqrt(2); 20 and 24 s.
    assert body[0] == "| ring | pacgan2 | 2 | 22 ± 3 | 4.5 ± 0.707 | 0.5 ± 0 |"
    assert body[1].endswith("| 4.5 ± 0.707 | - |"), "a figure that no seed has"


def test_table_of_one_seed_has_no_deviation(made_up, tmp_path):
    studies.run(studies.get("made-up"), Budget.SMOKE, seeds=[2], names=["grid-pacgan2"], folder=tmp_path)
    assert studies.table("made-up", tmp_path)[-2].endswith("| 6 | 0.5 |")
