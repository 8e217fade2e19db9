"""The package as it is shipped: its dependencies, its wheel, and what may not stand in a tracked file."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
import yaml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge calls a package differently
IMPORT_NAMES = {
    "ipython": "IPython",
    "pillow": "PIL",
    "pot": "ot",
    "pyyaml": "yaml",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}  # where Python does


def requirements(lines: list[str]) -> dict[str, str]:
    """Names to version bounds, of lines such as `torch>=2.4` and `tomli>=2.0; python_version < '3.11'`."""
    parsed = {}
    for line in lines:
        name, bound = re.fullmatch(r"([A-Za-z0-9_-]+)(?:\[[\w,]+\])?\s*([^;]*?)\s*(?:;.*)?", line).groups()
        parsed[name.lower()] = bound
    return parsed


def pip_requirements(*extras: str) -> dict[str, str]:
    lines = PROJECT["dependencies"] + [r for e in extras for r in PROJECT["optional-dependencies"][e]]
    return requirements(lines)


def conda_requirements() -> dict[str, str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    assert "-e ." in pip, "environment.yml does not install ganlib itself"
    lines = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    return requirements(lines + [line for line in pip if line != "-e ."])


def tracked_files() -> list[Path]:
    """What git tracks, or would once added."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs a git checkout")
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def imported(source: str) -> set[str]:
    """Top-level names of all modules that Python source imports, at its head or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module)
    return {name.split(".")[0] for name in names}


def code_of(path: Path) -> str:
    """The Python in a module, or in the cells of a notebook without its magics."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = ["".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "code"]
    return "\n".join(re.sub(r"^(\s*)[%!].*", r"\1pass", c, flags=re.M) for c in cells if c[:2] != "%%")


# --- dependencies -----------------------------------------------------------


def test_conda_environment_is_in_step_with_pyproject():
    """Same packages, same lowest versions; `bench` stays out, for conda-forge has no torchgan."""
    wanted = pip_requirements("course", "chem", "grading", "test")
    wanted = {CONDA_NAMES.get(name, name): bound for name, bound in wanted.items()}
    listed = conda_requirements()
    assert listed.pop("pip") == ""
    assert listed.pop("python") == PROJECT["requires-python"]
    assert listed == wanted


def test_every_requirement_has_a_lowest_version_and_no_highest():
    bounds = pip_requirements("course", "chem", "grading", "test", "bench")
    assert "<" in bounds.pop("ruff")  # whose verdict on the same code changes with its minor releases
    for name, bound in bounds.items():
        assert re.fullmatch(r">=\d+(\.\d+)*", bound), f"{name}{bound}"


@pytest.mark.parametrize(
    ("patterns", "extras"),
    [
        (("ganlib/**/*.py",), ("course", "chem", "grading")),
        (("notebooks/*.ipynb", "assignments/source/*/*.ipynb", "assignments/*.py"), ("course", "chem")),
        (("tests/**/*.py",), ("course", "chem", "grading", "test")),
        (("benchmarks/**/*.py",), ("course", "chem", "grading", "test", "bench")),
    ],
    ids=["ganlib", "notebooks", "tests", "benchmarks"],
)
def test_what_is_imported_is_declared(patterns, extras):
    declared = {IMPORT_NAMES.get(name, name.replace("-", "_")) for name in pip_requirements(*extras)}
    own = {"ganlib", "tests", "benchmarks", "harness", "quick_station", "courses"}  # the tests' own modules
    own |= {"tomllib"}  # in the standard library from 3.11
    undeclared = {}
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        if path.parent.name in ("right", "wrong", "barred", "attacks"):  # fragments of notebooks
            continue
        beside = {sibling.stem for sibling in path.parent.glob("*.py")} | own
        if extra := imported(code_of(path)) - declared - beside - set(sys.stdlib_module_names):
            undeclared[str(path.relative_to(ROOT))] = extra
    assert not undeclared


# --- what is installed ------------------------------------------------------


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> zipfile.ZipFile:
    """The wheel of a copy of the sources, so that no build folder is left in this one."""
    source = tmp_path_factory.mktemp("source")
    for path in tracked_files():
        relative = path.relative_to(ROOT)
        if relative.parts[0] == "ganlib" or relative.name in ("pyproject.toml", "README.md", "LICENSE"):
            (source / relative).parent.mkdir(parents=True, exist_ok=True)
            (source / relative).write_bytes(path.read_bytes())
    # The build backend itself, in place of `pip wheel`: pip would ask the network for setuptools.
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('.'))"
    done = subprocess.run([sys.executable, "-c", build], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return zipfile.ZipFile(source / done.stdout.splitlines()[-1])


def test_wheel_holds_every_module_and_asset_and_nothing_else(wheel):
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    tracked = [path.relative_to(ROOT).as_posix() for path in tracked_files()]
    assert shipped == {name for name in tracked if name.startswith("ganlib/")}


def test_wheel_metadata(wheel):
    import ganlib

    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"\nVersion: {ganlib.__version__}\n" in metadata
    assert "\nRequires-Python: >=3.10\n" in metadata
    assert "\nLicense-Expression: MIT\n" in metadata
    for extra in ("course", "test", "bench"):
        assert f"\nProvides-Extra: {extra}\n" in metadata
    assert "ganlib = ganlib.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()


# --- what stands in tracked files -------------------------------------------

# Folders in which somebody's own files lie, unless they are part of a URL or of a longer path.
MACHINE_PATH = re.compile(
    r"(?<![\w.~$})+/-])/(?:home|Users|root|work|mnt|media|private)/[\w.-]+"  # Linux, macOS
    r"|(?<!\w)[A-Za-z]:\\{1,2}Users\\{1,2}[\w.-]+"  # Windows, as it is and escaped in JSON
)
# What a stored warning or traceback would show besides.
NOTEBOOK_PATH = re.compile(r"site-packages/|/tmp/ipykernel|\\\\Temp\\\\ipykernel")


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("saved to /home/ada/course/runs", True),
        ('"/Users/ada"', True),
        (r"C:\Users\ada", True),
        (r'"C:\\Users\\ada"', True),
        ("https://example.org/home/index.html", False),
        ("under /home/<name> or $HOME/Users/x", False),
    ],
)
def test_machine_path_pattern(text, hit):
    assert bool(MACHINE_PATH.search(text)) is hit


def test_no_tracked_file_holds_a_path_of_somebodys_machine():
    found = []
    for path in tracked_files():
        if path == Path(__file__).resolve():
            continue  # its examples are such paths
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # an image or an archive
        hits = MACHINE_PATH.findall(text)
        if path.suffix == ".ipynb":
            hits += NOTEBOOK_PATH.findall(text)
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert not found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_notebook_is_stored_as_one_clean_run(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    code = [c for c in notebook["cells"] if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert outputs, "stored without outputs: run `make notebooks`"
    assert [output for output in outputs if output["output_type"] == "error"] == []
    # Counted 1, 2, 3, ...: executed from top to bottom in one go, with no cell edited or run again since.
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))


# --- commands ---------------------------------------------------------------


def test_ci_runs_the_command_of_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "set -euo pipefail" in script
    assert "export CI=true" in script
    assert script.rstrip().endswith("make test")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "make test" in readme
    assert "make lab" in readme


@pytest.fixture
def make(tmp_path):
    """Runs make on a copy of the Makefile whose .venv has a Python that only notes what it is asked.

    Returns whether make succeeded and the modules that Python was asked to run; `broken` is one that fails.
    """
    if shutil.which("make") is None:
        pytest.skip("needs make")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\n[ "$3" = --version ] && exit\necho "$2" >> asked\n[ "$2" != "$BROKEN" ]\n')
    python.chmod(0o755)
    # What the make that runs these tests tells its children is not for this one.
    outer = {
        "MAKEFLAGS",
        "MFLAGS",
        "MAKELEVEL",
        "MAKEOVERRIDES",
        "TEST_ARGS",
        "LAB_ARGS",
        "PIP_ARGS",
        "PYTHON",
    }
    environment = {name: value for name, value in os.environ.items() if name not in outer}

    def run(target: str, broken: str = "") -> tuple[bool, list[str]]:
        asked = tmp_path / "asked"
        asked.write_text("")
        done = subprocess.run(
            ["make", target], cwd=tmp_path, env=environment | {"BROKEN": broken}, capture_output=True
        )
        return done.returncode == 0, asked.read_text().split()

    return run


def test_make_installs_once_and_again_after_a_failure_or_a_change(make, tmp_path):
    assert make("lab") == (True, ["pip", "jupyterlab"])
    assert make("lab") == (True, ["jupyterlab"])
    an_hour_ahead = time.time() + 3600  # surely after the stamp, whatever the file system's clock resolves
    os.utime(tmp_path / "pyproject.toml", (an_hour_ahead, an_hour_ahead))
    assert make("lab", broken="pip") == (False, ["pip"])
    assert make("lab", broken="jupyterlab") == (False, ["pip", "jupyterlab"])


def test_make_takes_up_a_failed_first_install(make):
    assert make("test", broken="pip") == (False, ["pip"])
    assert make("test") == (True, ["pip", "ruff", "ruff", "pytest"])
    assert make("test") == (True, ["ruff", "ruff", "pytest"])
    assert make("lab") == (True, ["jupyterlab"])  # what the tests need includes what the course needs


def test_make_test_fails_when_style_or_tests_fail(make):
    assert make("test", broken="ruff") == (False, ["pip", "ruff"])
    assert make("test", broken="pytest") == (False, ["ruff", "ruff", "pytest"])
