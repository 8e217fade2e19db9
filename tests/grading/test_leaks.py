"""Nothing that a student receives tells of hidden tests, solutions or this machine, whatever they try.

Submissions that try to make the grader talk are graded by a real Station, and one by a plain `nbgrader
autograde`; then everything in release/ and feedback/ is searched for each hidden line, for each text and each
longer number that stands in hidden tests alone, for each line of a solution, and for paths.
"""

import ast
import contextlib
import copy
import functools
import html
import json
import os
import re
import shutil
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell
from nbgrader import api
from nbgrader.converters import Autograde, GenerateAssignment, GenerateFeedback

from ganlib.grading import hide
from ganlib.grading import station as stations
from ganlib.grading.defuse import defused
from ganlib.grading.gradebook import Course
from ganlib.grading.homework import Homework
from ganlib.grading.journal import Journal
from ganlib.grading.sandbox import Limits

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(cell_seconds=10, total_seconds=60)

# Hidden tests that ask with inputs of their own and compare with values that are worth knowing.
HIDDEN = {
    "scale-values": """
hidden_factor = 31415.5
check(same(ask_scale([2718281.0, 1.0], hidden_factor), [85396156755.5, 31415.5]), "a large factor")
""",
    "centre-columns": """
concealed = np.array([[98765.25, 0.0], [98767.25, 1.0]])
check(same(ask_centre(concealed), [[-1.0, -0.5], [1.0, 0.5]]), "large values: the mean is off")
""",
    "count-words": """
sentence = "zyzzyva quondam zyzzyva eldritch"
check(ask_count(sentence) == 3, "rare words")
""",
}

# What each function does when it is asked for the second time, by a hidden test: until then it is right.
PROVOCATION = {
    "raises": """
    frames = [f"{x.filename} {x.code_context} {x.frame.f_locals}" for x in inspect.stack()]
    gathered.append(frames)
    raise ValueError(f"{inputs} {frames} {traceback.format_stack()}")""",
    "asserts": """
    assert False, f"got {inputs}, and {sys._getframe(1).f_back.f_locals}" """,
    "names the exception": """
    raise type(str(inputs), (Exception,), {})("see my type")""",
    "names the function": """
    name, space = "_".join(re.findall(r"\\w+", str(inputs))), {}
    exec(f"def f_{name}(): raise KeyError", space)
    space[f"f_{name}"]()""",
    "prints": """
    print(inputs, file=sys.stderr)
    print(inputs, globals())
    traceback.print_stack()
    warnings.warn(str(inputs))""",
    "describes itself": """
    return Described(str(inputs))""",
    "exits": """
    os.write(2, str(inputs).encode())
    raise SystemExit(str(inputs))""",
}
FUNCTION = """
def {name}(*inputs):
    asked = calls.setdefault("{name}", [])
    asked.append(inputs)
    if len(asked) == 1:
        return right["{name}"](*inputs)
    gathered.append(inputs){provocation}
"""
FIRST = """
import glob, inspect, os, re, sys, traceback, warnings
gathered, calls = [], {}
right = {
    "scale": lambda values, factor: values * factor,
    "centre": lambda rows: rows - rows.mean(axis=0),
    "count": lambda text: len(set(text.split())),
}


class Described(str):
    def __repr__(self):
        return str(gathered)
    __str__ = __repr__


course = bytes.fromhex("@COURSE@").decode()
for path in ["*", "../*", course + "/source/*/*", course + "/autograded/*/*/*", course + "/grading/*/*/*"]:
    for name in glob.glob(path):
        if os.path.isfile(name):
            print(name, open(name, errors="replace").read())
print(sys.path, np.__file__, os.environ, os.getcwd(), sys.executable)
"""
LAST = """
from IPython.display import HTML
print(gathered)
display(HTML(f"<script>document.title='{gathered}'</script>"))
raise RuntimeError(str(gathered))
"""
MARKDOWN = "<script>document.title = 'ran'</script> [here](javascript:alert(1)) <img src=x onerror=alert(1)>"


# --- what must not be found -------------------------------------------------------------------------


_SOLUTION = re.compile(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", re.DOTALL)


def secrets(notebook: dict) -> set[str]:
    """What must not be found: hidden lines, texts and numbers (5 digits and more), lines of solutions."""
    sources = ["".join(cell["source"]) for cell in notebook["cells"]]
    public = "\n".join(_SOLUTION.sub("", hide.without_hidden(source)) for source in sources)
    hidden = [region for source in sources for region in hide.hidden(source)]
    solutions = [region for source in sources for region in _SOLUTION.findall(source)]
    lines = {line.strip() for region in hidden + solutions for line in region.splitlines()}
    found = {line for line in lines if len(line) > 12}
    for region in hidden:
        tree = ast.parse("if True:\n" + "\n".join(f" {line}" for line in region.splitlines()) + "\n pass")
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        messages = {id(node.args[-1]) for node in calls if node.args}  # which a student may read
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and id(node) not in messages:
                long = isinstance(node.value, str) and len(node.value) > 12
                number = isinstance(node.value, (int, float)) and sum(map(str.isdigit, str(node.value))) > 4
                found |= {str(node.value)} if long or number else set()
    return {text for text in found if text not in public} | {"BEGIN HIDDEN", "END HIDDEN", "BEGIN SOLUTION"}


def leaks(folder: Path, forbidden: set[str]) -> list[str]:
    """Which of the forbidden can be read in the folder's files, and which paths of this machine."""
    paths = {str(ROOT), sys.prefix, os.path.realpath(sys.base_prefix), str(Path.home()), str(folder.parent)}
    found = []
    for path in sorted(x for x in folder.rglob("*") if x.is_file()):
        raw = path.read_text(encoding="utf-8", errors="replace")
        text = raw + words(raw)
        if path.suffix == ".ipynb":
            text += "\n".join("".join(cell["source"]) for cell in json.loads(raw)["cells"])
        found += [f"{path.name}: {x}" for x in forbidden | paths - {"/", "/usr"} if x in text]
    return found


# --- a course that was graded -----------------------------------------------------------------------


class Graded:
    """A course whose homework tells secrets in hidden tests, and students who ask for them."""

    def __init__(self, folder: Path, tiny) -> None:
        self.folder, self.tiny = folder, tiny
        path = tiny.write_source(folder)
        self.source = json.loads(path.read_text())
        for cell in self.source["cells"]:
            extra = HIDDEN.get(cell["metadata"].get("nbgrader", {}).get("grade_id"))
            if extra:
                cell["source"] += f"\n### BEGIN HIDDEN TESTS{extra}### END HIDDEN TESTS"
        path.write_text(json.dumps(self.source))
        shutil.copy(ROOT / "assignments" / "nbgrader_config.py", folder)
        self.course = Course(folder)
        self.secrets = secrets(self.source)
        self.convert(GenerateAssignment)

    def convert(self, converter, **settings) -> None:
        """Run one of nbgrader's steps on all students."""
        self.course.settings.assignment_id = "tiny"
        converter(coursedir=self.course.settings, parent=self.course.app, force=True, **settings).start()

    def submission(self, how: str) -> dict:
        """The released notebook with every function provoking in one way, and cells that gather and tell."""
        functions = {x: FUNCTION.format(name=x, provocation=PROVOCATION[how]) for x in self.tiny.right}
        notebook = self.tiny.submission((), functions)
        first = new_code_cell(FIRST.replace("@COURSE@", bytes(self.folder).hex()))
        last = [new_markdown_cell(MARKDOWN), new_code_cell(LAST)]
        notebook["cells"] = [*notebook["cells"][:2], first, *notebook["cells"][2:], *last]
        return notebook

    def page(self, number: int) -> str:
        """A student's feedback."""
        return (self.folder / f"feedback/student{number}/tiny/tiny.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    """The text of an HTML page, whose code is highlighted token by token."""
    return html.unescape(re.sub(r"<[^>]+>", "", page))


@pytest.fixture(scope="module", autouse=True)
def alembic_is_found():
    """nbgrader runs `alembic` by its bare name each time it makes a gradebook; once is enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        patch.setattr(api, "get_alembic_version", functools.cache(api.get_alembic_version))
        yield


@pytest.fixture(scope="module")
def judged(tmp_path_factory, tiny):
    """Each way of provoking, graded by the Station, with feedback."""
    graded = Graded(tmp_path_factory.mktemp("judged"), tiny)
    homework = Homework.load(graded.course.source("tiny"))
    journal = Journal(graded.folder / "grading" / "tiny")
    with pytest.MonkeyPatch.context() as patch:  # this homework needs no torch
        patch.setattr(stations, "JUDGE_WARM", ())
        patch.setattr(stations, "STUDENT_WARM", ())
        station = stations.Station(LIMITS, hide=[graded.folder]).__enter__()
    with contextlib.closing(station):
        for number, how in enumerate(PROVOCATION):
            files = {"tiny.ipynb": json.dumps(graded.submission(how)).encode(), "notes.txt": b"my notes"}
            result = station.grade(homework, files, f"student{number}", seed=number)
            assert result["status"] == "graded", result["log"]
            journal.write(result | {"digest": "", "timestamp": None})
            graded.course.record(journal.read(f"student{number}"), "tiny", {"notes.txt": b"my notes"})
    graded.convert(GenerateFeedback)
    return graded


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny):
    """One provoking submission after `nbgrader autograde`, where tests and student share a process."""
    graded = Graded(tmp_path_factory.mktemp("plain"), tiny)
    tiny.write_submission(graded.folder, "student0", graded.submission("raises"))
    graded.convert(Autograde)
    graded.convert(GenerateFeedback)
    return graded


# --- tests ------------------------------------------------------------------------------------------


def test_the_search_finds_what_there_is(judged, plain):
    for graded in (judged, plain):
        found = "\n".join(leaks(graded.folder / "autograded", graded.secrets))
        for secret in ("hidden_factor = 31415.5", "85396156755.5", "zyzzyva quondam", "BEGIN HIDDEN"):
            assert secret in found
    assert any("return values * factor" in x for x in leaks(judged.folder / "source", judged.secrets))


def test_release_tells_nothing(judged):
    assert leaks(judged.folder / "release", judged.secrets) == []


@pytest.mark.parametrize("assignment", ["dcgan", "wgan_gp"])
def test_the_homeworks_are_released_without_a_word(assignment, tmp_path):
    shutil.copytree(ROOT / "assignments" / "source" / assignment, tmp_path / "source" / assignment)
    shutil.copy(ROOT / "assignments" / "nbgrader_config.py", tmp_path)
    shutil.copytree(tmp_path / "source" / assignment, tmp_path / "source" / assignment / ".ipynb_checkpoints")
    course = Course(tmp_path)
    course.settings.assignment_id = assignment
    GenerateAssignment(coursedir=course.settings, parent=course.app).start()
    notebook = json.loads(course.source(assignment).read_text(encoding="utf-8"))
    forbidden = secrets(notebook)
    assert len(forbidden) > 100
    assert leaks(tmp_path / "release", forbidden) == []


def test_feedback_tells_nothing(judged):
    assert leaks(judged.folder / "feedback", judged.secrets) == []


def test_feedback_says_what_failed(judged):
    pages = {how: words(judged.page(number)) for number, how in enumerate(PROVOCATION)}
    assert "This test failed: ValueError in a hidden test" in pages["raises"]
    assert "in cell scale, line" in pages["raises"]
    assert "A hidden test failed: a large factor" in pages["prints"]  # it returned nothing


def test_feedback_after_plain_autograde_tells_nothing(plain):
    assert leaks(plain.folder / "feedback", plain.secrets) == []
    assert "This test failed" in plain.page(0)


def test_no_page_runs_a_students_script(judged, plain):
    for text in [*map(judged.page, range(len(PROVOCATION))), plain.page(0)]:
        assert "document.title" in text, "the text itself is shown"
        assert not re.search(r"<script[^>]*>[^<]*document\.title", text)
        assert "<img src=x" not in text and 'href="javascript' not in text


def test_a_forged_mark_of_the_run_is_not_believed(judged):
    """The autograded notebook says it is from the run, but has no result, or another's, beside it."""
    notebook = nbformat.read(judged.folder / "autograded/student0/tiny/tiny.ipynb", as_version=4)
    preprocessor = hide.HideTests(course=str(judged.folder))
    for student, mark in (("student1", notebook.metadata.ganlib.result), ("student0", "0" * 64)):
        notebook.metadata.ganlib.result = mark
        about = {"nbgrader": {"assignment": "tiny", "student": student}}
        shown, _ = preprocessor.preprocess(copy.deepcopy(notebook), about)
        own = [cell for cell in shown.cells if cell.cell_type == "code" and not cell.metadata.get("nbgrader")]
        assert own and not any(cell.outputs for cell in own)


@pytest.mark.parametrize(
    "source",
    [
        "x = 1\n### BEGIN HIDDEN TESTS\nsecret = 2\n### END HIDDEN TESTS\ny = 3",
        "x = 1\n    ### BEGIN HIDDEN TESTS\n    secret = 2\n    ### END HIDDEN TESTS\ny = 3",
        "x = 1\n### BEGIN HIDDEN TESTS\nsecret = 2\n### END HIDDEN TESTS\n### BEGIN HIDDEN TESTS\nsecret = 4",
        "x = 1\ny = 3 # BEGIN HIDDEN TESTS secret",
    ],
)
def test_hidden_regions_are_taken_out_whole(source):
    left = hide.without_hidden(source)
    assert "secret" not in left and "HIDDEN" not in left and left.startswith("x = 1\n")
    assert len(hide.hidden(source)) >= 1


MARKUP = {
    "<script>alert(1)</script>": "<script",
    "<img src=x onerror=alert(1)>": "<img",
    "[x](javascript:alert(1))": "href",
    "[x](\njavascript:alert(1))": "href",
    "[x](&#106;avascript:alert(1))": "href",
    "[x](<javascript:alert(1)>)": "href",
    "<javascript:alert(1)>": "href",
    "[x]: javascript:alert(1)\n\n[x]": "href",
    "[x]:\n  javascript:alert(1)\n\n[x]": "href",
    "> [x]: javascript:alert(1)\n\n[x]": "href",
    "[[x](javascript:a)](data:text/html,b)": "href",
    "![x](https://example.org/seen.png)": "<img",
    "$\\href{javascript:alert(1)}{x}$": "\\href",
    "<!-- x --><svg/onload=alert(1)>": "<svg",
}


@pytest.mark.parametrize("text", MARKUP, ids=range(len(MARKUP)))
def test_markdown_is_defused(text):
    from nbconvert.filters.markdown_mistune import markdown2html_mistune as rendered

    assert MARKUP[text] in rendered(text), "nbconvert would have rendered it"
    assert MARKUP[text] not in rendered(defused(text))


def test_honest_markdown_stays():
    text = "# On $D(x) < 1/2$\n\n* *one* and `a[0] < b`\n\n| p |\n|---|\n| [link](https://example.org) |"
    assert defused(text) == text
