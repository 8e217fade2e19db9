"""``import ganlib`` costs next to nothing; what is heavy comes when it is used."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import ganlib

HEAVY = ["torch", "torchvision", "numpy", "scipy", "matplotlib", "IPython", "ipywidgets", "lightning_fabric"]
# What a library user pays for torch alone must not grow by what only plots, notebooks or runs need.
UNUSED_BY_TRAINING = [
    "matplotlib",
    "IPython",
    "ipywidgets",
    "nbgrader",
    "sklearn",
    "torchmetrics",
    "scipy.optimize",
]


def modules_after(statement: str) -> set[str]:
    """The modules that a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    # From the folder of the package under test, which `python -c` searches first.
    root = Path(ganlib.__file__).parents[1]
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, timeout=300, check=True)
    return set(json.loads(run.stdout.splitlines()[-1]))


def test_import_ganlib_loads_nothing_heavy():
    loaded = modules_after("import ganlib")
    assert "ganlib" in loaded
    assert not loaded & set(HEAVY)


def test_models_and_trainer_load_no_plotting_and_no_notebook_library():
    loaded = modules_after("import ganlib; ganlib.systems.all_systems(); ganlib.training.Trainer")
    assert {"torch", "ganlib.models.dcgan", "ganlib.training.trainer"} <= loaded
    assert not loaded & set(UNUSED_BY_TRAINING)


@pytest.mark.parametrize("name", ganlib.__all__)
def test_subpackages_come_on_first_use(name):
    assert getattr(ganlib, name).__name__ == f"ganlib.{name}"
    assert name in dir(ganlib)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'gan'"):
        _ = ganlib.gan
    assert not hasattr(ganlib, "nonsense")


def test_version():
    assert ganlib.__version__.count(".") == 2
