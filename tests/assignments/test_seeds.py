"""What the homework's cells must be so that fresh numbers, a sandbox and feedback work."""

import ast
import re

import harness
import numpy as np
import pytest

NOTEBOOKS = {name: harness.SOURCE / name / f"{name}.ipynb" for name in ("dcgan", "wgan_gp")}
BARRED = ("models", "losses", "layers", "training", "studies", "systems", "grading")
both = pytest.mark.parametrize("notebook", NOTEBOOKS.values(), ids=NOTEBOOKS)


def cells(notebook):
    """Source of every code cell by grade_id or position, and the ids of the test cells."""
    code = harness.code_cells(notebook)
    return {c["id"]: c["source"] for c in code}, [c["id"] for c in code if c["points"] is not None]


def calls(source):
    """Every call in a source, with the name of what is called."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            yield name, node


def hidden(source):
    """The lines of hidden regions, as code."""
    return "\n".join(re.findall(r"### BEGIN HIDDEN TESTS\n(.*?)### END HIDDEN TESTS", source, re.DOTALL))


@pytest.fixture(scope="module")
def plays(monkeypatch_module):
    """A function that runs a homework's setup and solutions in a new namespace, and returns it."""
    monkeypatch_module.setenv("NBGRADER_EXECUTION", "autograde")

    def play(notebook, replacements):
        namespace = {"__name__": "__main__"}
        for cell in harness.code_cells(notebook):
            if cell["solution"] or cell["id"] in ("setup", "train_step_reference"):
                exec(compile(replacements.get(cell["id"], cell["source"]), cell["id"], "exec"), namespace)
        return namespace

    return play


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@both
def test_every_number_a_test_draws_comes_from_the_seed(notebook):
    sources, tests = cells(notebook)
    assert len(re.findall(r"^SEED = 0\b", sources["setup"], re.MULTILINE)) == 1
    for grade_id, source in sources.items():
        for name, call in calls(source):
            if name == "default_rng":
                assert "SEED" in ast.unparse(call.args[0]), f"{grade_id}: {ast.unparse(call)}"
            assert name != "manual_seed" or grade_id not in tests, grade_id
            for keyword in call.keywords:
                if keyword.arg == "seed" and grade_id in tests:
                    assert "SEED" in ast.unparse(keyword.value), f"{grade_id}: {ast.unparse(call)}"


@both
def test_no_two_tests_draw_the_same_numbers(notebook):
    sources, tests = cells(notebook)
    drawn = [
        number
        for grade_id in tests
        for number in re.findall(r"default_rng\(\[SEED, (\d+)\]", sources[grade_id])
    ]
    assert len(drawn) == len(set(drawn)) > 8


@both
def test_a_hidden_test_shows_no_values(notebook):
    sources, tests = cells(notebook)
    for grade_id in tests:
        for name, call in calls(hidden(sources[grade_id])):
            assert name not in ("print", "check_same"), grade_id
            if name in ("check", "AssertionError"):
                assert isinstance(call.args[-1], ast.Constant), f"{grade_id}: {ast.unparse(call.args[-1])}"
        assert "assert " not in hidden(sources[grade_id]), grade_id


@both
def test_what_runs_in_the_sandbox_needs_nothing_that_is_barred(notebook):
    for grade_id, source in cells(notebook)[0].items():
        tree = ast.parse(source)
        shown = {
            node
            for block in tree.body
            if isinstance(block, ast.If) and "SHOW" in ast.unparse(block.test)
            for node in ast.walk(block)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and "ganlib" in ast.unparse(node):
                assert node in shown, f"{grade_id}: {ast.unparse(node)}"
                assert not any(f"ganlib.{name}" in ast.unparse(node) for name in BARRED), grade_id


def plain(value):
    """True for what may travel: trees of lists and dicts with text keys, numbers, texts, arrays."""
    if isinstance(value, dict):
        return all(isinstance(key, str) and plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(plain, value))
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind in "fiub"
    return value is None or type(value) in (bool, int, float, str)


@both
def test_questions_and_answers_are_plain_data(notebook, plays):
    sources, tests = cells(notebook)
    namespace = plays(notebook, {})
    asked = set()

    def watched(name, ask):
        def call(*args, **kwargs):
            answer = ask(*args, **kwargs)
            asked.add(name)
            # An argument may be a tuple: it arrives as a list.
            assert all(plain(list(a) if isinstance(a, tuple) else a) for a in (*args, *kwargs.values())), name
            assert plain(answer), f"{name} answers with other things than plain data"
            return answer

        return call

    for name in [name for name in namespace if name.startswith("ask_")]:
        if name not in ("ask_network", "ask_loss"):
            namespace[name] = watched(name, namespace[name])
    for grade_id in tests:
        source = sources[grade_id].replace("STEPS, BAR = 150, 0.2", "STEPS, BAR = 2, 1e9")
        source = source.replace("ROUNDS, BAR = 150, 0.2", "ROUNDS, BAR = 2, 1e9").replace("> 0.05", "> -1")
        exec(compile(source, grade_id, "exec"), namespace)
    assert asked == {name for name in namespace if name.startswith("ask_")} - {"ask_network", "ask_loss"}


@pytest.mark.parametrize(
    ("homework", "test", "variant"),
    [
        ("dcgan", "train_step-discriminator", "log_sigmoid"),
        ("wgan_gp", "train_round-critic", "undetached"),
    ],
)
def test_a_missing_detach_is_told_and_costs_nothing(homework, test, variant, plays, capsys):
    notebook = NOTEBOOKS[homework]
    sources, _ = cells(notebook)
    variants = harness.load_variants(harness.ROOT / "tests" / "assignments" / homework / "right")
    (undetached,) = (v for v in variants if v.name == variant)
    exec(sources[test], plays(notebook, {}))
    assert capsys.readouterr().out == ""
    exec(sources[test], plays(notebook, undetached.replacements))
    assert "Advice, no points" in capsys.readouterr().out


def test_the_catalogue_is_as_large_as_it_should_be():
    kinds = {kind: [] for kind in ("wrong", "right")}
    for homework in NOTEBOOKS:
        for kind, found in kinds.items():
            found += harness.load_variants(harness.ROOT / "tests" / "assignments" / homework / kind)
    assert len(kinds["wrong"]) >= 60 and len(kinds["right"]) >= 12
    assert all(v.breaks for v in kinds["wrong"]) and not any(v.breaks for v in kinds["right"])
