"""Studies: the stored experiments that are more than one run of one system.

A study is a table of cells, such as a method on a data set, each run under several seeds. ``ganlib reproduce
NAME`` runs them and writes one JSON file per cell and seed, with the command, the seed, the figures and the
curve, beside the pictures and points that notebooks draw. Nothing is held in memory between cells, so that
``--missing`` goes on where an interrupted study stopped, and two processes can share one.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganlib.training import Budget, History, Trainer

__all__ = ["Cell", "Outcome", "Study", "all_studies", "fit", "get", "load", "run", "study", "table"]

CURVE_ROWS = 60


@dataclass(frozen=True)
class Outcome:
    """What one run of a cell found.

    Attributes:
        figures: name -> number or list of numbers; None where there is none, such as the FID of a run that
            diverged.
        history: of the training, stored thinned to some sixty rows.
        images: samples ``(N, C, H, W)`` in [-1, 1], stored as one picture.
        arrays: further small tensors, stored as they are.
        notes: what a reader of the figures must know.
    """

    figures: dict[str, Any]
    history: History | None = None
    images: Tensor | None = None
    arrays: Mapping[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One entry of a study's table.

    Attributes:
        labels: what distinguishes it, such as ``{"target": "ring", "method": "pacgan2"}``, in lower case,
            digits and hyphens.
        run: seed -> outcome.
    """

    labels: dict[str, str]
    run: Callable[[int], Outcome]

    def __post_init__(self) -> None:
        for label in self.labels.values():
            if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", label):
                raise ValueError(f"labels must be lower case, digits and single hyphens, got {label!r}")

    @property
    def name(self) -> str:
        return "-".join(self.labels.values())


@dataclass(frozen=True)
class Study:
    """A table of cells.

    Attributes:
        name: what ``ganlib reproduce`` calls it.
        title: the same for people.
        paper: authors, year and title of the experiment that it follows.
        notebook: file name of the notebook that shows it.
        seeds: under which each cell is run.
        cells: budget -> cells.
    """

    name: str
    title: str
    paper: str
    notebook: str
    seeds: tuple[int, ...]
    cells: Callable[[Budget], Sequence[Cell]]


_REGISTRY: dict[str, Study] = {}


def study(
    *, name: str, title: str, paper: str, notebook: str, seeds: tuple[int, ...] = (0,)
) -> Callable[[Callable[[Budget], Sequence[Cell]]], Callable[[Budget], Sequence[Cell]]]:
    """Register the decorated function, budget -> cells, as the study ``name``."""

    def register(cells: Callable[[Budget], Sequence[Cell]]) -> Callable[[Budget], Sequence[Cell]]:
        if name in _REGISTRY:
            raise ValueError(f"a study named {name!r} exists already")
        _REGISTRY[name] = Study(name, title, paper, notebook, seeds, cells)
        return cells

    return register


def all_studies() -> list[Study]:
    """Every registered study, by notebook and then by name."""
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    return sorted(_REGISTRY.values(), key=lambda s: (s.notebook, s.name))


def get(name: str) -> Study:
    """The study called ``name``.

    Raises:
        ValueError: if there is none.
    """
    studies = {s.name: s for s in all_studies()}
    if name not in studies:
        raise ValueError(f"no study is called {name!r}; there are {', '.join(sorted(studies))}")
    return studies[name]


def fit(trainer: Trainer, steps: int) -> History:
    """``trainer.fit(steps)`` for a cell: Ctrl-C ends the study, and not this training alone.

    A trainer that is asked to stop returns early, and what it leaves would be stored as if it were whole.

    Raises:
        KeyboardInterrupt: if the trainer was interrupted.
    """
    history = trainer.fit(steps)
    if trainer.interrupted:
        raise KeyboardInterrupt
    return history


def run(
    chosen: Study,
    budget: Budget,
    *,
    seeds: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    folder: str | Path = "results",
    overwrite: bool = True,
) -> list[Path]:
    """Run cells of a study and store what they found; returns the JSON files written.

    Args:
        chosen: the study.
        budget: smoke, cpu or gpu.
        seeds: in place of the study's own.
        names: the cells to run, all if None.
        folder: the results' folder; files go to ``folder/STUDY/CELL-seedK.*``.
        overwrite: run cells again whose file is there.

    Raises:
        ValueError: for an unknown cell, or if two cells share a name.
    """
    listed = chosen.cells(budget)
    cells = {cell.name: cell for cell in listed}
    if len(cells) < len(listed):
        raise ValueError(f"{chosen.name} must have cells of distinct names, got {[c.name for c in listed]}")
    if unknown := sorted(set(names or ()) - set(cells)):
        raise ValueError(f"{chosen.name} has no cell {', '.join(unknown)}; it has {', '.join(cells)}")
    written = []
    for seed in chosen.seeds if seeds is None else seeds:
        for cell in (cells[name] for name in names or cells):
            path = Path(folder) / chosen.name / f"{cell.name}-seed{seed}.json"
            if overwrite or not path.exists():
                _run(chosen, cell, budget, seed, path)
                written.append(path)
    return written


def _run(chosen: Study, cell: Cell, budget: Budget, seed: int, path: Path) -> None:
    from ganlib.runs import save_grid, versions

    start = time.perf_counter()
    outcome = cell.run(seed)
    seconds = time.perf_counter() - start
    path.parent.mkdir(parents=True, exist_ok=True)
    if outcome.images is not None:
        save_grid(outcome.images, path.with_suffix(".png"))
    if outcome.arrays:
        from safetensors.torch import save_file

        tensors = {k: v.contiguous() for k, v in outcome.arrays.items()}
        save_file(tensors, path.with_suffix(".safetensors"))
    words = ["ganlib", "reproduce", chosen.name, "--cells", cell.name, "--seeds", str(seed)]
    content = {
        "study": chosen.name,
        "labels": cell.labels,
        "seed": seed,
        "budget": budget.value,
        "figures": outcome.figures,
        "seconds": round(seconds, 1),
        "notes": list(outcome.notes),
        "command": shlex.join(words),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "versions": versions(),
        "curve": [] if outcome.history is None else _thinned(list(outcome.history)),
    }
    # Written last and at once: a file that is there is whole.
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def _thinned(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    stride = -(-len(rows) // CURVE_ROWS) or 1
    kept = rows[stride - 1 :: stride]
    return [{k: v if isinstance(v, int) else float(f"{v:.5g}") for k, v in row.items()} for row in kept]


def load(name: str, folder: str | Path = "results") -> list[dict[str, Any]]:
    """What is stored of a study, a dictionary per cell and seed in the study's order of cells.

    Keys: labels, seed, figures, seconds, curve, notes, command, and ``path``, the file's: pictures and arrays
    lie beside it, with the suffixes ``.png`` and ``.safetensors``. Empty if nothing is stored.

    Raises:
        ValueError: if there is no such study.
    """
    order = {cell.name: i for i, cell in enumerate(get(name).cells(Budget.CPU))}
    rows = []
    for path in sorted((Path(folder) / name).glob("*-seed*.json")):
        rows.append(json.loads(path.read_text(encoding="utf-8")) | {"path": path})
    return sorted(rows, key=lambda r: (order.get("-".join(r["labels"].values()), len(order)), r["seed"]))


def table(name: str, folder: str | Path = "results") -> list[str]:
    """The lines of a Markdown table of a study's stored figures: mean and standard deviation over seeds."""
    rows = load(name, folder)
    if not rows:
        return []
    chosen = get(name)
    found = [r["figures"].items() for r in rows]
    figures = list(dict.fromkeys(k for items in found for k, v in items if not isinstance(v, list | str)))
    labels = list(dict.fromkeys(label for row in rows for label in row["labels"]))
    lines = [
        f"## {chosen.title}",
        "",
        f"`ganlib reproduce {name}`. After {chosen.paper}. Shown in {chosen.notebook}.",
        "Mean ± standard deviation over the seeds.",
        "",
        "| " + " | ".join([*labels, "seeds", "seconds", *figures]) + " |",
        "|" + "---|" * len(labels) + "--:|" * (2 + len(figures)),
    ]
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(row["labels"].get(k, "") for k in labels), []).append(row)
    for key, group in groups.items():
        columns = [_spread([r["seconds"] for r in group], 0)]
        columns += [_spread([r["figures"].get(k) for r in group]) for k in figures]
        lines.append("| " + " | ".join([*key, str(len(group)), *columns]) + " |")
    return [*lines, ""]


def _spread(values: Sequence[float | None], digits: int | None = None) -> str:
    numbers = torch.tensor([float(v) for v in values if v is not None], dtype=torch.float64)
    if not len(numbers):
        return "-"

    def text(value: Tensor) -> str:
        return f"{float(value):.3g}" if digits is None else f"{float(value):.{digits}f}"

    if len(numbers) == 1:
        return text(numbers[0])
    return f"{text(numbers.mean())} ± {text(numbers.std())}"
