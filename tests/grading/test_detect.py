"""Use of ganlib's own answers is seen whatever way it takes; honest code is left alone."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from ganlib.grading import parsing
from ganlib.grading.detect import detect
from ganlib.grading.homework import Homework

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def homework(tiny):
    """The tiny homework: parts scale, centre, count."""
    return Homework.from_notebook(tiny.source(), "tiny")


def look(homework, before=None, scale=None, after=None, **answers):
    """Findings on a notebook with one more cell before and after the part `scale`, and these answers."""
    notebook, cells = homework.notebook(), []
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
        if grade_id == "scale" and before is not None:
            cells.append(nbformat.v4.new_code_cell(before, id="student-1"))
        cell.source = {"scale": scale, **answers}.get(grade_id) or cell.source
        cells.append(cell)
        if grade_id == "count-hidden" and after is not None:
            cells.append(nbformat.v4.new_code_cell(after, id="student-2"))
    notebook.cells = cells
    return detect(homework, notebook)


def returns(expression):
    """The answer to `scale` that returns this."""
    return f"def scale(values, factor):\n    return {expression}\n"


EVASIONS = {
    "from": ("from ganlib.models.wgan_gp import Critic as C", "C()"),
    "import as": ("import ganlib.models.wgan_gp as w", "w.Critic()"),
    "import": ("import ganlib.models.wgan_gp", "ganlib.models.wgan_gp.Critic()"),
    "package": ("from ganlib import models as m", "m.wgan_gp.Critic()"),
    "star": ("from ganlib.models.wgan_gp import *", "Critic()"),
    "star of a package": ("from ganlib.losses import *", "GradientPenalty()"),
    "losses": ("import ganlib.losses as L", "L.GradientPenalty()"),
    "importlib": ("import importlib\nm = importlib.import_module('ganlib.models.wgan_gp')", "m.Critic()"),
    "directly": ("", "__import__('ganlib.models.gan').models.gan.GAN()"),
    "getattr": ("import ganlib\nC = getattr(getattr(ganlib, 'models'), 'gan').GAN", "C()"),
    "alias of alias": ("import ganlib as g\nh = g\nC = h.models.gan.GAN", "C()"),
    "for": ("from ganlib.models.gan import GAN\nfor C in [GAN]:\n    pass", "C()"),
    "tuple": ("from ganlib.models import gan as w\nC, (D, *E) = w.GAN, (1, 2)", "C()"),
    "subclass": ("from ganlib.models.gan import GAN\nclass C(GAN):\n    pass", "C()"),
    "helper": ("from ganlib.models.gan import GAN\ndef a(): return GAN()\ndef b(): return a()", "b()"),
    "partial": ("import functools\nfrom ganlib.models.gan import GAN\nC = functools.partial(GAN)", "C()"),
    "dictionary": ("from ganlib.models.gan import GAN\nbox = {}\nbox['c'] = GAN", "box['c']()"),
    "try": ("try:\n    from ganlib.models.gan import GAN as C\nexcept ImportError:\n    C = None", "C()"),
    "with": ("with open('x'):\n    from ganlib.models.gan import GAN as C", "C()"),
    "kept as a subclass": ("from ganlib.models.gan import GAN\nclass C(GAN): pass\nclass GAN: pass", "C()"),
    "kept under another name": ("from ganlib.models.gan import GAN\nC = GAN\nclass GAN: pass", "C()"),
    "magic": ("%%time\nfrom ganlib.models.gan import GAN as C", "C()"),
    "among magics": ("%matplotlib inline\n!ls\nfrom ganlib.models.gan import GAN as C\nC?", "C()"),
}


@pytest.mark.parametrize("name", EVASIONS)
def test_every_way_to_ganlibs_answers_is_seen(homework, name):
    before, expression = EVASIONS[name]
    found = look(homework, before, returns(expression))
    assert set(found.barred) == {"scale"}
    assert re.fullmatch(
        r"scale uses ganlib\.[\w.]+ \(cell (scale|student-1), line \d\)\. The task is to write .+ yourself\.",
        found.barred["scale"],
    )


@pytest.mark.parametrize(
    "scale",
    [
        "from ganlib.losses import interpolate as scale",
        "from ganlib.losses import interpolate\nscale = interpolate",
        "import ganlib.losses\nscale = lambda values, factor: ganlib.losses.interpolate(values, factor)",
        "from ganlib.losses import R1\ndef scale(values, factor, R1=R1):\n    return R1(values)",
        "from ganlib.losses import R1\ndef d(f):\n    return lambda *a: R1(*a)\n@d\ndef scale(a, b): pass",
        "def scale(values, factor):\n    from ganlib.losses import R1 as K\n    return K(values)",
        "import ganlib\ndef scale(values, factor):\n    g = ganlib\n    return g.losses.R1(values)",
        "from ganlib.losses import R1\nclass N:\n    def f(self): return R1()\ndef scale(a, b): return N()",
        "import ganlib\ndef scale(values, factor):\n    return [(lambda: ganlib.losses.R1)() for _ in (1,)]",
    ],
)
def test_within_the_answer_itself(homework, scale):
    assert set(look(homework, scale=scale).barred) == {"scale"}


def test_only_the_parts_that_use_it_are_barred(homework):
    helper = "from ganlib.losses import R1\ndef helper(x):\n    return R1(x)"
    found = look(
        homework, helper, returns("helper(values)"), count="def count(text):\n    return scale(text, 1)"
    )
    assert set(found.barred) == {"scale", "count"}, "count stands on scale, which is ganlib's"
    assert set(look(homework, helper, count="def count(text):\n    return helper(text)").barred) == {"count"}


@pytest.mark.parametrize(
    "module", ["layers", "training", "studies", "systems", "models", "losses", "grading"]
)
def test_every_module_with_answers_is_barred(homework, module):
    assert look(homework, f"import ganlib.{module} as m", returns("m.x")).barred


INNOCENT = {
    "an import that nothing uses": ("from ganlib.models.gan import GAN", "values * factor", None),
    "an own class of the same name, ganlib's tried before": (
        "from ganlib.models.gan import GAN\nGAN()\nclass GAN:\n    pass",
        "GAN()",
        None,
    ),
    "an own class of the same name, ganlib's compared after": (
        "class GAN:\n    pass",
        "GAN()",
        "from ganlib.models.gan import GAN\nprint(GAN())",
    ),
    "a comparison": (
        "from ganlib.losses import R1\ndef compare(f):\n    return f, R1()",
        "1",
        "compare(scale)",
    ),
    "what is harmless": (
        "import ganlib, ganlib.data, ganlib.plots, ganlib.metrics as m\nfrom ganlib.data import mnist\n"
        "print(ganlib, ganlib.__version__)",
        "mnist(values), ganlib.data.mnist, m.fid, getattr(ganlib.data, factor), ganlib.__version__",
        None,
    ),
    "text": ("# from ganlib.models.gan import GAN", "'ganlib.models.gan', print('see ganlib.losses')", None),
    "an argument of the same name": ("from ganlib.losses import R1 as values", "values * factor", None),
    "an unused local import": ("", "1\n    from ganlib.losses import R1", None),
    "names of its own": (
        "class n:\n    pass\nn.training = n.models = n.losses = 1",
        "n.training, n.losses",
        None,
    ),
    "a cell that does not parse": ("from ganlib.models.gan import (\nC = ", "C()", None),
    "methods called eval": ("net = np.x\nnet.eval()", "net.eval('1')", None),
}


@pytest.mark.parametrize("name", INNOCENT)
def test_innocent_code_is_left_alone(homework, name):
    before, expression, after = INNOCENT[name]
    found = look(homework, before, returns(expression), after)
    assert found.barred == {} and found.flags == ()


def test_threads_do_not_parse_at_once(monkeypatch):
    """Some versions of CPython then raise SystemError in the wrong thread: an innocent student's."""
    inside, calls = [0], []

    def fragile(source):
        inside[0] += 1
        alone = inside[0] == 1
        time.sleep(0.002)
        inside[0] -= 1
        calls.append(alone)
        if not alone or len(calls) in (3, 4):
            raise SystemError("AST constructor recursion depth mismatch")
        return compile(source, "", "exec", 1024)

    monkeypatch.setattr(parsing, "ast", SimpleNamespace(parse=fragile))
    with ThreadPoolExecutor(4) as pool:
        trees = list(pool.map(parsing.parse, ["x = 1"] * 12))
    assert len(trees) == 12 and len(calls) == 14 and all(calls)


@pytest.mark.parametrize("assignment", ["dcgan", "wgan_gp"])
def test_the_catalogue_of_the_homework(assignment):
    """Right variants: no bars, no hints. Wrong ones: bars where ganlib's answer is used."""
    homework = Homework.load(ROOT / "assignments" / "source" / assignment / f"{assignment}.ipynb")
    folder = ROOT / "tests" / "assignments" / assignment
    wrong = sorted(folder.glob("wrong/*.py"))
    telling = [path for path in wrong if re.search("ganlib|seed", path.read_text(encoding="utf-8"))]
    for path in [*sorted(folder.glob("right/*.py")), *telling, *wrong[::10]]:
        _, *sections = re.split(r"^# %% (\S+)\n", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        notebook, sources = homework.notebook(), dict(zip(sections[::2], sections[1::2], strict=True))
        for cell in notebook.cells:
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id")
            cell.source = sources.get(grade_id, cell.source)
        found = detect(homework, notebook)
        copies = {name for name in sources if re.search(r"\bganlib\.(models|losses)", sources[name])}
        assert set(found.barred) == {homework.part(name) for name in copies}, path.name
        seeded = re.search(r"seed\(", "".join(sources.values()))
        if path.parent.name == "right" or not (seeded or copies):
            assert found.flags == (), path.name
        elif seeded:
            assert all("sets a global seed" in flag for flag in found.flags) and found.flags


@pytest.mark.parametrize(
    "source, hint",
    [
        ("import torch\ntorch.allclose = print", "line 2: changes torch.allclose for everyone"),
        (
            "import torch.nn as nn\nnn.Module.__call__ = print",
            "changes torch.nn.Module.__call__ for everyone",
        ),
        ("np.ndarray.__eq__ = print", "line 1: changes numpy.ndarray.__eq__"),
        ("import builtins\nsetattr(builtins, 'isinstance', print)", "changes builtins.isinstance"),
        ("import builtins as b\ndel b.AssertionError", "changes builtins.AssertionError"),
        ("import sys\n\nsys._getframe(1).f_locals", "line 3: reads frames (sys._getframe)"),
        ("from inspect import currentframe", "reads frames (inspect.currentframe)"),
        ("e.__traceback__.tb_frame.f_back", "reads frames (tb_frame)"),
        ("import sys\nsys.settrace(print)", "sets a trace function (sys.settrace)"),
        ("import sys\nsys.setprofile(print)", "sets a trace function"),
        ("import gc\ngc.get_objects()", "searches the objects in memory (gc.get_objects)"),
        ("import ctypes", "reaches into memory (ctypes)"),
        ("import os\nos.fork()", "runs or ends processes (os.fork)"),
        ("from os import _exit\n_exit(0)", "runs or ends processes (os._exit)"),
        ("import subprocess as s\ns.run(['ls'])", "runs or signals processes (subprocess)"),
        ("!ls", "line 1: runs a shell command"),
        ("\n\nfiles = !ls", "line 3: runs a shell command"),
        ("import urllib.request", "uses the network (urllib.request)"),
        ("import socket", "uses the network (socket)"),
        ("open('/etc/passwd', 'w')", "writes outside its folder ('/etc/passwd')"),
        ("from pathlib import Path\nPath('../x').write_text('a')", "writes outside its folder ('../x')"),
        ("get_ipython().ast_transformers.append(print)", "rewrites code (ast_transformers)"),
        ("get_ipython().input_transformers_cleanup.append(print)", "rewrites code"),
        ("get_ipython().kernel.do_execute = print", "rewrites code (do_execute)"),
        ("import sys\nsys.meta_path.insert(0, print)", "steers imports (sys.meta_path)"),
        ("import sys\nsys.modules['torch'] = print", "steers imports (sys.modules)"),
        ("def check(*a): pass", "line 1: redefines check of a locked cell"),
        ("if 1:\n    np = 3", "line 2: redefines np of a locked cell"),
        ("import math as np", "redefines np of a locked cell"),
        ("import torch\ntorch.manual_seed(0)", "sets a global seed (torch.manual_seed)"),
        ("np.random.seed(0)", "sets a global seed (numpy.random.seed)"),
        ("import random\nrandom.seed(0)", "sets a global seed (random.seed)"),
        ("import base64\n__import__(base64.b64decode(x).decode())", "runs or imports what is computed"),
        (
            "exec('from ganlib.models.gan import GAN')",
            "reads ganlib's source or finds it by name ('from ganlib.mo",
        ),
        ("open('/x/ganlib/losses/penalties.py')", "reads ganlib's source or finds it by name ('/x/ganlib"),
        ("!cat /x/ganlib/models/gan.py", "reads ganlib's source"),
        ("import sys\nsys.modules['ganlib.models']", "steers imports (sys.modules)"),
        ("import ganlib.data\nganlib.data.__file__", "looks for ganlib's source (ganlib.data.__file__)"),
        ("import ganlib.grading.judge", "reaches for the grader"),
        ("open('/proc/1/environ')", "looks at processes ('/proc/1/environ')"),
        ("import atexit\natexit.register(print)", "leaves code for later (atexit.register)"),
        ("().__class__.__base__.__subclasses__()", "looks inside functions or classes (__subclasses__)"),
    ],
)
def test_hints_name_cell_and_line(homework, source, hint):
    found = look(homework, source)
    assert found.barred == {}
    assert any(flag.startswith("cell student-1, line ") and hint in flag for flag in found.flags), found.flags


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\nimport torch.nn as nn, torch\ntorch.backends.cudnn.benchmark = True",
        "g = torch.Generator().manual_seed(0)\nnet = nn.Linear(1, 1)\nnet.weight.data = 0\nnet.forward = 3",
        "with open('notes.txt', 'w') as f:\n    f.write('/etc/passwd ../x')\nopen('/etc/hosts')",
        "def f(np, check):\n    same = 1\n    return [check for check in np]",
        "import re, time\nre.compile('x')\ntime.sleep(0)\nmodel.eval()\nx = 3 if x else 4",
        "import matplotlib.pyplot as plt\nplt.savefig('a.png')\n%matplotlib inline\nnp?",
        "text = 'sys._getframe'  # torch.manual_seed(0)\n'''import ctypes'''",
    ],
)
def test_ordinary_code_gets_no_hints(homework, source):
    assert look(homework, source).flags == ()


def test_a_copy_of_ganlibs_code_is_a_hint(homework):
    path = ROOT / "ganlib" / "models" / "dcgan.py"
    copied = re.search(
        r"^class Generator.*?(?=^\S)", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    text = re.sub(r"\bwidth\b", "breadth", copied[0].replace("class Generator", "class Painter"))
    text = re.sub(r"\bself\b", "this", re.sub(r'""".*?"""', '"""Mine."""', text, flags=re.DOTALL))
    for attribute in set(re.findall(r"this\.(\w+) = ", text)):
        text = re.sub(rf"this\.{attribute}\b", f"this.my_{attribute}", text)
    assert "this.my_" in text
    found = look(homework, text)
    assert any("Painter is ganlib.models.dcgan.Generator but for names" in flag for flag in found.flags)
    assert found.barred == {}
    assert look(homework, text.replace("2", "3").replace("1", "4")).flags == ()


@pytest.mark.parametrize(
    "source",
    [
        "x = " + "-" * 100_000 + "1",
        "x = " + "(" * 100_000,
        "x = a" + ".a" * 50_000,
        "x = a" + "()" * 50_000,
        "x = " + "1 + " * 30_000 + "1",
        "x = " + "lambda:" * 20_000 + "1",
        "@a\n" * 5000 + "def f(): pass",
        "s = 'exec(s); exec(s)'\nexec(s)",
        "__import__('{:>1000000000}'.format('a'))",
        "x = f'" + "{a}" * 5000 + "'",
        "!ls\n" * 3000 + "x?",
        "x = 1\0",
        "x = '\udc80'",
        "\n".join(f"g{i} = " + "+".join(f"g{j}()" for j in range(0, 300, 3)) for i in range(100)),
    ],
)
def test_code_that_is_hard_to_look_through_raises_nothing(homework, source):
    """Nor does it hide what stands in other cells, unless it says so."""
    found = look(homework, source, "from ganlib.losses import R1 as scale")
    assert found.barred or any("looked through" in flag for flag in found.flags)


def test_names_that_cannot_be_followed_are_said_to_be(homework):
    """2 ** 60 ways lead to `a`; the search gives up, and says so."""
    found = look(homework, "a = np\n" + "if a:\n    a = a.x\n" * 60, returns("a.x"))
    assert found.flags == ("cell scale: too entangled to be followed",)
