"""The DCGAN homework's own tests: what they accept and refuse, and that a mistake costs its own part only."""

import json
import zlib
from pathlib import Path

import harness
import pytest

NOTEBOOK = harness.SOURCE / "dcgan" / "dcgan.ipynb"
HERE = Path(__file__).parent / "dcgan"
WRONG, RIGHT = harness.load_variants(HERE / "wrong"), harness.load_variants(HERE / "right")
TRIPLES = harness.triples(WRONG)
PARTS = {
    "generator": 6,
    "discriminator": 6,
    "initialization": 4,
    "discriminator_loss": 5,
    "generator_loss": 4,
    "train_step": 9,
    "fit": 10,
}

# One step instead of a training where it is not what a variant is about: fit-loop judges the loop as ever.
SHORT = {
    "fit-distance": [("STEPS, BAR = 150, 0.2", "STEPS, BAR = 1, 1e9"), ("in range(3)", "in range(1)")],
    "fit-clouds": [("share.min() > 0.05", "share.min() > -1")],
}


def lost(replacements, seed=0):
    return harness.lost(NOTEBOOK, harness.grade(NOTEBOOK, replacements, SHORT, seed=seed))


def names(variants):
    return [variant.name for variant in variants]


def seed_of(variant):
    """Another one for each variant, the same in each run."""
    return zlib.crc32(variant.name.encode())


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_the_solution_gets_full_marks(seed):
    report = harness.run(NOTEBOOK, seed=seed)  # trains to the end
    assert report.errors == {}
    assert sum(report.points.values()) == sum(PARTS.values())


def test_the_released_skeleton_gets_nothing():
    assert lost(harness.skeleton(NOTEBOOK)) == PARTS


@pytest.mark.parametrize("variant", TRIPLES, ids=names(TRIPLES))
def test_a_mistake_costs_its_own_part_and_no_other(variant):
    assert set(lost(variant.replacements, seed_of(variant))) == variant.breaks


@pytest.mark.parametrize("variant", RIGHT, ids=names(RIGHT))
def test_another_style_gets_full_marks(variant):
    report = harness.run(NOTEBOOK, variant.replacements, SHORT, seed=seed_of(variant))
    assert report.errors == {}


def test_a_part_solved_alone_gets_its_points():
    skeleton = harness.skeleton(NOTEBOOK)
    for part in PARTS:
        alone = {cell: source for cell, source in skeleton.items() if cell != part}
        assert part not in lost(alone), f"{part} depends on another part"


@pytest.mark.parametrize(
    "source",
    [
        "def discriminator_loss(real_logits, fake_logits:\n    return 0",
        "raise RuntimeError('at definition')",
        "import sys\n\nsys.exit(1)",
    ],
    ids=["syntax error", "exception", "exit"],
)
def test_a_cell_that_crashes_costs_its_part(source):
    assert lost({"discriminator_loss": source}) == {"discriminator_loss": 5}


@pytest.mark.parametrize("name", ["fit_g_never_updated", "fit_d_never_updated"])
def test_a_loop_that_does_not_train_misses_the_bar(name):
    (variant,) = (variant for variant in WRONG if variant.name == name)
    points = harness.grade(NOTEBOOK, variant.replacements)
    assert points["fit-distance"] == points["fit-clouds"] == 0


def test_every_part_has_its_mistakes():
    assert set().union(*(variant.breaks for variant in WRONG)) == set(PARTS)


def test_every_test_cell_is_locked_worth_points_and_teaches():
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    graded = [c for c in cells if c["metadata"].get("nbgrader", {}).get("grade") and c["cell_type"] == "code"]
    assert {harness.part(c["metadata"]["nbgrader"]["grade_id"]) for c in graded} == set(PARTS)
    for cell in graded:
        source, meta = "".join(cell["source"]), cell["metadata"]["nbgrader"]
        assert meta["locked"] and meta["points"] > 0 and not meta["solution"]
        assert "check" in source
        assert "check_same" not in source.partition("### BEGIN HIDDEN TESTS")[2], (
            "a hidden test must not print what it expected"
        )
