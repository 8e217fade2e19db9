"""The registry: every system of the lectures by name, the course's table of contents.

A recipe registers itself with :func:`system`; :func:`get` and :func:`all_systems` find it. A name stands here
only when its system trains.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ganlib.data import Images
    from ganlib.training import Budget, Experiment

Recipe = Callable[..., "Experiment"]

_REGISTRY: dict[str, System] = {}


@dataclass(frozen=True)
class System:
    """A system of the lectures.

    Attributes:
        name: what ``ganlib train`` calls it.
        title: the same for people.
        paper: authors, year and title of the source.
        lectures: the lectures that treat it, with the slide's heading where there is one.
        notebook: file name of the notebook that teaches it.
        recipe: ``recipe(budget, data=None)`` -> :class:`ganlib.training.Experiment`.
    """

    name: str
    title: str
    paper: str
    lectures: tuple[str, ...]
    notebook: str
    recipe: Recipe

    def experiment(self, budget: Budget, seed: int = 0, data: Images | None = None) -> Experiment:
        """Set up a run: networks initialised under ``seed``, embedded MNIST unless ``data`` is given."""
        from dataclasses import replace

        with torch.random.fork_rng():
            torch.manual_seed(seed)
            experiment = self.recipe(budget, data)
        return replace(experiment, settings=replace(experiment.settings, seed=seed))


def system(
    *, name: str, title: str, paper: str, lectures: tuple[str, ...], notebook: str
) -> Callable[[Recipe], Recipe]:
    """Register the decorated recipe as the system ``name``."""

    def register(recipe: Recipe) -> Recipe:
        if name in _REGISTRY:
            raise ValueError(f"a system named {name!r} exists already")
        _REGISTRY[name] = System(name, title, paper, lectures, notebook, recipe)
        return recipe

    return register


def all_systems() -> list[System]:
    """Every registered system, by notebook and then by name."""
    import ganlib.models

    for module in pkgutil.iter_modules(ganlib.models.__path__):
        importlib.import_module(f"ganlib.models.{module.name}")
    return sorted(_REGISTRY.values(), key=lambda s: (s.notebook, s.name))


def get(name: str) -> System:
    """The system called ``name``.

    Raises:
        ValueError: if there is none, with the nearest names.
    """
    systems = {s.name: s for s in all_systems()}
    if name not in systems:
        near = difflib.get_close_matches(name, systems) or sorted(systems)
        raise ValueError(f"no system is called {name!r}; did you mean {' or '.join(near)}?")
    return systems[name]
