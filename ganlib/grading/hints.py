"""Hints for the instructor on code that does what homework seldom needs. They cost no points."""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import ganlib
from ganlib.grading.parsing import parse
from ganlib.grading.sandbox import BARRED
from ganlib.grading.tracing import imported, tail

# What a dotted name does, by pattern.
_DOES = {
    r"sys\._(getframe|current_frames)|inspect\.(currentframe|stack|trace|get\w+frames)": "reads frames",
    r"(sys|threading)\.(settrace|setprofile)(_all_threads)?|sys\.monitoring(\..*)?": "sets a trace function",
    r"gc\.(get_objects|get_referrers|get_referents)": "searches the objects in memory",
    r"(ctypes|cffi|_ctypes)(\..*)?": "reaches into memory",
    r"os\.(fork\w*|kill\w*|_exit|abort|exec\w+|\w*spawn\w+|system|popen|set\w*id)": "runs or ends processes",
    r"(subprocess|multiprocessing|pty|signal|torch\.multiprocessing)(\..*)?": "runs or signals processes",
    r"(socket|urllib|http|requests|ftplib|smtplib|aiohttp|httpx)(\..*)?": "uses the network",
    r"atexit\..*": "leaves code for later",
    r"ganlib\.grading(\..*)?": "reaches for the grader",
    r"ganlib(\.\w+)*\.__(file|path|spec|loader|dict)__": "looks for ganlib's source",
    r"sys\.(meta_path|path_hooks|modules|addaudithook)|builtins\.__import__": "steers imports",
    r"(torch|torch\.cuda|torch\.random)\.(manual_seed(_all)?|seed|set_rng_state)": "sets a global seed",
    r"(numpy\.)?random\.(seed|set_state|setstate)": "sets a global seed",
}
_DOES = {re.compile(pattern): text for pattern, text in _DOES.items()}

_ATTRIBUTES = {
    **dict.fromkeys(("f_back", "f_globals", "f_locals", "tb_frame", "gi_frame", "cr_frame"), "reads frames"),
    **dict.fromkeys(
        ("__globals__", "__closure__", "__code__", "__subclasses__"), "looks inside functions or classes"
    ),
    **dict.fromkeys(
        ("ast_transformers", "input_transformers_cleanup", "input_transformers_post"), "rewrites code"
    ),
    **dict.fromkeys(("do_execute", "input_transformer_manager"), "rewrites code"),
}
_SHARED = re.compile(
    r"(torch|numpy|builtins|random|math|sys|os|inspect|IPython|warnings|time|gc|ganlib)(\..*)?"
)
_SETTINGS = re.compile(r"torch\.backends\..*|os\.environ|sys\.path|sys\.std\w+")
_WRITERS = {
    "write_text",
    "write_bytes",
    "mkdir",
    "makedirs",
    "touch",
    "unlink",
    "remove",
    "rmtree",
    "rename",
    "replace",
}
_WRITERS |= {
    "symlink",
    "symlink_to",
    "link",
    "hardlink_to",
    "chmod",
    "save",
    "savefig",
    "savez",
    "copy",
    "move",
}

_SOURCE = re.compile(rf"ganlib[./\\]+({'|'.join(BARRED)})\b")

_LEAST_COPY = 60  # nodes of a function that make its agreement with ganlib's more than chance


def hints(
    tree: ast.Module, paths: Mapping[str, str], locked: Mapping[str, str | None]
) -> Iterator[tuple[int, str]]:
    """Line and hint, for one cell.

    paths: what the notebook's imports call the modules, name -> dotted path. locked: names of the homework's
    locked cells, with their path if they are imports.
    """
    for node in ast.walk(tree):
        yield from ((getattr(node, "lineno", 1), text) for text in _node(node, paths))
    yield from _rebound(tree, locked)
    yield from _copied(tree)


def import_paths(trees: list[ast.Module]) -> dict[str, str]:
    """What the imports of some cells call the modules."""
    nodes = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    return {name: path for node in nodes for name, path in imported(node).items()}


def _dotted(node: ast.AST, paths: Mapping[str, str]) -> str:
    """The dotted path of a name that comes from an import, "" for all others."""
    rest = []
    while isinstance(node, ast.Attribute):
        rest.append(node.attr)
        node = node.value
    if isinstance(node, ast.Name) and node.id in paths:
        return ".".join([paths[node.id], *reversed(rest)])
    return ""


def _node(node: ast.AST, paths: Mapping[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = (
            [alias.name for alias in node.names] if isinstance(node, ast.Import) else imported(node).values()
        )
        for path in names:
            yield from _does(path)
    elif isinstance(node, ast.Attribute):
        if node.attr in _ATTRIBUTES:
            yield f"{_ATTRIBUTES[node.attr]} ({node.attr})"
        yield from _does(_dotted(node, paths))
        if not isinstance(node.ctx, ast.Load):
            yield from _patch(_dotted(node, paths))
    elif isinstance(node, ast.Call):
        yield from _call(node, paths)


def _does(path: str) -> Iterator[str]:
    yield from (f"{text} ({path})" for pattern, text in _DOES.items() if path and pattern.fullmatch(path))


def _patch(path: str) -> Iterator[str]:
    if path and _SHARED.fullmatch(path) and not _SETTINGS.fullmatch(path):
        yield f"changes {path} for everyone"


def _call(node: ast.Call, paths: Mapping[str, str]) -> Iterator[str]:
    name = tail(node.func)
    parts = [*node.args, *(keyword.value for keyword in node.keywords)]
    parts += getattr(getattr(node.func, "value", None), "args", [])  # Path("...").write_text
    texts = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    if name in ("setattr", "delattr") and node.args:
        yield from _patch(
            _dotted(node.args[0], paths) and f"{_dotted(node.args[0], paths)}.{(texts or ['?'])[0]}"
        )
    if (
        name in ("system", "getoutput")
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Call)
    ):
        yield "runs a shell command"  # what a line that begins with ! becomes
    reads = (t for t in texts if _SOURCE.search(t) and name not in ("print", "warn"))
    yield from (f"reads ganlib's source or finds it by name ({t[:60]!r})" for t in reads)
    yield from (f"looks at processes ({t[:60]!r})" for t in texts if t.startswith("/proc"))
    computes = name in ("__import__", "import_module", "exec") or (
        name == "eval" and isinstance(node.func, ast.Name)
    )
    if computes and not any(isinstance(argument, ast.Constant) for argument in node.args):
        yield f"runs or imports what is computed ({name})"
    writes = name in _WRITERS or (
        name == "open" and any(re.fullmatch("[rwaxbt+]*[wax+][bt+]*", t) for t in texts)
    )
    if writes and (outside := [t for t in texts if re.match(r"[/~]|\.\.(/|$)|.*/\.\./", t)]):
        yield f"writes outside its folder ({outside[0][:60]!r})"


def _rebound(tree: ast.Module, locked: Mapping[str, str | None]) -> Iterator[tuple[int, str]]:
    """Names of locked cells that the cell binds anew, outside functions."""
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [name for name, path in imported(node).items() if locked.get(name, path) != path]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        else:
            names = [node.id] if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load) else []
            inner = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
            waiting += () if isinstance(node, inner) else ast.iter_child_nodes(node)
        yield from ((node.lineno, f"redefines {name} of a locked cell") for name in names if name in locked)


# --- copies of ganlib's code -----------------------------------------------------------------------


def _copied(tree: ast.Module) -> Iterator[tuple[int, str]]:
    prints = _fingerprints(tree)
    for node, mark in prints.items():
        if mark in _library():
            yield node.lineno, f"{node.name} is {_library()[mark]} but for names and comments"


def _fingerprints(tree: ast.Module) -> dict[ast.FunctionDef | ast.ClassDef, str]:
    """Functions and classes of some size -> a digest that names, docstrings and annotations do not change."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            shape = list(_shape(node, {}))
            if len(shape) >= _LEAST_COPY:
                found[node] = hashlib.sha256("\n".join(shape).encode(errors="replace")).hexdigest()
    return found


def _shape(node: ast.AST, names: dict[str, str], me: str | None = None) -> Iterator[str]:
    """The tree in words: each name is the number of its first appearance, and so is an attribute of self."""
    yield type(node).__name__
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        heads = [node.args] if isinstance(node, ast.FunctionDef) else node.bases
        me = node.args.args[0].arg if isinstance(node, ast.FunctionDef) and node.args.args else me
        parts: list[ast.AST] = [*heads, *node.decorator_list, *body]
    else:
        name = getattr(node, "id", getattr(node, "arg", None))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == me:
            name = f"self.{node.attr}"
        if isinstance(name, str):
            yield names.setdefault(name, str(len(names)))
        elif isinstance(node, ast.Attribute | ast.Constant):
            yield repr(getattr(node, "attr", getattr(node, "value", "")))
        skip = {"annotation", "returns", "ctx", "type_comment"}
        fields = [value for key, value in ast.iter_fields(node) if key not in skip]
        parts = [part for value in fields for part in (value if isinstance(value, list) else [value])]
    for part in parts:
        if isinstance(part, ast.AST):
            yield from _shape(part, names, me)


@functools.cache
def _library() -> dict[str, str]:
    """Digests of the functions and classes in ganlib's barred modules -> their dotted names."""
    root, marks = Path(ganlib.__file__).parent, {}
    for path in sorted(
        path for name in BARRED if name != "grading" for path in root.glob(f"{name}*/**/*.py")
    ):
        module = ".".join(path.relative_to(root.parent).with_suffix("").parts)
        for node, mark in _fingerprints(parse(path.read_text(encoding="utf-8"))).items():
            marks.setdefault(mark, f"{module}.{node.name}")
    return marks
