"""The WGAN-GP homework: full marks for what is right, and a mistake costs points in its own part only."""

import zlib

import harness
import pytest

NOTEBOOK = harness.SOURCE / "wgan_gp" / "wgan_gp.ipynb"
VARIANTS = harness.ROOT / "tests" / "assignments" / "wgan_gp"
WRONG = harness.load_variants(VARIANTS / "wrong")
RIGHT = harness.load_variants(VARIANTS / "right")
PARTS = {
    "critic": 6,
    "interpolation": 5,
    "gradient_penalty": 10,
    "critic_loss": 4,
    "generator_loss": 2,
    "train_round": 10,
    "training": 7,
}

# One round of training and no bar, where the training is not what is asked about.
QUICK = {
    "training-clouds": [
        ("ROUNDS, BAR = 150, 0.2", "ROUNDS, BAR = 1, 1e9"),
        ("in range(3)", "in range(1)"),
        ("share.min() > 0.05", "share.min() > -1"),
    ]
}


def named(variants):
    return pytest.mark.parametrize("variant", variants, ids=[variant.name for variant in variants])


def seed_of(variant):
    """Another one for each variant, the same in each run."""
    return zlib.crc32(variant.name.encode())


def by_name(name):
    return next(variant for variant in WRONG if variant.name == name)


def test_points_per_part():
    points: dict[str, float] = {}
    for grade_id, worth in harness.max_points(NOTEBOOK).items():
        points[harness.part(grade_id)] = points.get(harness.part(grade_id), 0) + worth
    assert points == PARTS


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_solution_gets_full_marks(seed):
    report = harness.run(NOTEBOOK, seed=seed)  # trains to the end
    assert report.errors == {}
    assert report.points == harness.max_points(NOTEBOOK)


def test_skeleton_gets_nothing():
    assert set(harness.grade(NOTEBOOK, harness.skeleton(NOTEBOOK), QUICK).values()) == {0}


@named(RIGHT)
def test_right_variant_gets_full_marks(variant):
    report = harness.run(NOTEBOOK, variant.replacements, QUICK, seed=seed_of(variant))
    assert report.errors == {}


@named(harness.triples(WRONG))
def test_wrong_variant_loses_its_part_and_no_other(variant):
    points = harness.grade(NOTEBOOK, variant.replacements, QUICK, seed=seed_of(variant))
    assert set(harness.lost(NOTEBOOK, points)) == variant.breaks


def test_every_part_has_mistakes_in_the_catalogue():
    assert {part for variant in WRONG for part in variant.breaks} == set(PARTS)


@pytest.mark.parametrize("grade_id", PARTS)
def test_a_part_solved_alone_gets_its_points(grade_id):
    others = {k: v for k, v in harness.skeleton(NOTEBOOK).items() if k != grade_id}
    points = harness.grade(NOTEBOOK, others, QUICK)
    earned = {harness.part(g) for g, worth in points.items() if worth}
    assert earned == {grade_id}
    assert sum(points.values()) == PARTS[grade_id]


@pytest.mark.parametrize("name", ["fit_critic_never_updated", "fit_one_round"])
def test_a_loop_that_does_not_train_misses_the_bar(name):
    assert harness.grade(NOTEBOOK, by_name(name).replacements)["training-clouds"] == 0
