"""Where the names of a notebook come from: which of ganlib's modules does a function use?

Nothing is executed. A notebook is a sequence of bindings: each top-level import, definition and assignment
binds a name, in the notebook's order, and uses other names. `Trace.read` collects these, `Trace.origin`
follows them.
"""

from __future__ import annotations

import ast
import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ganlib
from ganlib.grading.parsing import parse
from ganlib.grading.sandbox import BARRED

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_MOST_STEPS = 100_000  # about a second: real notebooks need some ten thousand


class Use(NamedTuple):
    """A dotted name that some code evaluates: of a global name or, if `known`, of a module."""

    root: str
    rest: tuple[str, ...]
    known: bool
    where: str


Names = dict[
    str, "Use | None"
]  # a function's own names: what an import or an assignment makes them, else None


class Tangled(Exception):
    """Too deep or too much to be followed."""


@dataclass
class Binding:
    """One place where a global name gets its value."""

    order: int
    strong: bool  # replaces what the name was; weak: under a condition, or a part of the object is set
    uses: Sequence[Use]
    same_as: Use | None = None  # what it is another name of


class Trace:
    """Bindings of all cells read so far, in order."""

    def __init__(self) -> None:
        self.order = 0
        self._bindings: dict[str, list[Binding]] = defaultdict(list)
        self._cell = ""
        self._steps = 0

    def read(self, cell: str, tree: ast.Module) -> None:
        """Add a cell. Raises Tangled if it is too deep or too long; what stands before that place is kept."""
        self._cell = cell
        try:
            for statement in tree.body:
                self._statement(statement, True)
        except RecursionError:
            raise Tangled from None

    def origin(self, name: str, order: int) -> tuple[str, str] | None:
        """The barred module that `name` leads to when all up to `order` has run, and where it is used.

        None if there is none. Raises Tangled if it cannot be said with a reasonable effort.
        """
        self._steps = 0
        try:
            return self._follow(name, order, set())
        except RecursionError:
            raise Tangled from None

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Tangled

    # --- collecting ---

    def _bind(self, name: str, strong: bool, uses: Sequence[Use], same_as: Use | None = None) -> None:
        self.order += 1
        self._bindings[name].append(Binding(self.order, strong, uses, same_as))

    def _statement(self, node: ast.stmt, strong: bool) -> None:
        """A statement outside functions."""
        if isinstance(node, ast.Import | ast.ImportFrom):
            for name, path in imported(node).items():
                use = Use(path, (), True, self._where(node))
                self._bind(name, strong, [use], use)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._bind(node.name, strong, list(self._uses(node, ())))
        elif isinstance(node, ast.Assign):
            self._assign(node.targets, node.value, strong)
        elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
            self._assign([node.target], node.value, strong and isinstance(node, ast.AnnAssign))
        else:
            if isinstance(node, ast.For):
                self._assign([node.target], node.iter, False)
            for child in _blocks(node):
                self._statement(child, strong and isinstance(node, ast.With))

    def _assign(self, targets: Iterable[ast.expr], value: ast.expr, strong: bool) -> None:
        uses, same_as, waiting = list(self._uses(value, ())), self._chain(value, ()), list(targets)
        while waiting:
            target = waiting.pop()
            if isinstance(target, ast.Name):
                self._bind(target.id, strong, uses, same_as)
            elif isinstance(target, ast.Tuple | ast.List | ast.Starred):
                waiting, same_as = [*waiting, *ast.iter_child_nodes(target)], None
            elif isinstance(target, ast.Subscript) and isinstance(target.value, ast.Name):
                self._bind(target.value.id, False, uses)  # box["a"] = ...: a part of it is set

    def _uses(self, node: ast.AST, scopes: tuple[Names, ...]) -> Iterator[Use]:
        """All dotted names that the code evaluates, those of its inner functions among them."""
        self._step()
        outer, inner = ast.iter_child_nodes(node), ()
        if isinstance(node, _FUNCTIONS):  # decorators and defaults belong to where it is defined
            defaults = [*node.args.defaults, *filter(None, node.args.kw_defaults)]
            outer = [*getattr(node, "decorator_list", ()), *defaults]
            inner = node.body if isinstance(node.body, list) else [node.body]
        elif isinstance(node, _COMPREHENSIONS):
            outer, inner = (), outer
        elif chain := self._chain(node, scopes):
            yield chain
            outer = () if isinstance(node, ast.Name | ast.Attribute) else outer
        for child in outer:
            yield from self._uses(child, scopes)
        if inner:
            scopes = (*scopes, self._own(node, scopes))
            for child in inner:
                yield from self._uses(child, scopes)

    def _own(self, function: ast.AST, scopes: tuple[Names, ...]) -> Names:
        """The names that a function or comprehension binds for itself."""
        names, waiting = {}, [function]
        while waiting:
            self._step()
            node = waiting.pop()
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {name: Use(path, (), True, "") for name, path in imported(node).items()}
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                names[node.targets[0].id] = self._chain(node.value, (*scopes, names))
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.setdefault(node.id, None)
            elif isinstance(node, ast.arg):
                names[node.arg] = None
            elif node is not function and isinstance(
                node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
            ):
                names[node.name] = None
            if node is function or not isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
                waiting += reversed(list(ast.iter_child_nodes(node)))
        return names

    def _chain(self, node: ast.AST, scopes: tuple[Names, ...]) -> Use | None:
        """The dotted name that an expression is, through `getattr` and imports of a constant text, too."""
        if isinstance(node, ast.Name):
            for names in reversed(scopes):
                if node.id in names:
                    use = names[node.id]
                    return use and use._replace(where=self._where(node))
            return Use(node.id, (), False, self._where(node))
        if isinstance(node, ast.Attribute):
            base = self._chain(node.value, scopes)
            return base and base._replace(rest=(*base.rest, node.attr))
        if (
            isinstance(node, ast.Call)
            and node.args
            and isinstance(text := getattr(node.args[-1], "value", None), str)
        ):
            if tail(node.func) == "getattr":
                base = self._chain(node.args[0], scopes)
                return base and base._replace(rest=(*base.rest, text))
            if tail(node.func) in ("import_module", "__import__"):
                return Use(text, (), True, self._where(node))
        return None

    def _where(self, node: ast.AST) -> str:
        return f"cell {self._cell}, line {getattr(node, 'lineno', 1)}"

    # --- following ---

    def _active(self, name: str, order: int) -> list[Binding]:
        """The bindings that may hold at a time: the last strong one before it, and weak ones since."""
        active = []
        for binding in reversed(self._bindings.get(name, ())):
            self._step()
            if binding.order <= order:
                active.append(binding)
                if binding.strong:
                    break
        return active

    def _paths(self, use: Use, order: int) -> set[str]:
        """Dotted paths that a use can stand for; empty if it comes from no import."""
        if use.known:
            return {".".join((use.root, *use.rest))}
        return {
            ".".join((path, *use.rest))
            for binding in self._active(use.root, order)
            if binding.same_as is not None
            for path in self._paths(binding.same_as, binding.order - 1)
        }

    def _follow(self, name: str, order: int, seen: set[tuple[str, int]]) -> tuple[str, str] | None:
        if (name, order) in seen:
            return None
        seen.add((name, order))
        for binding in self._active(name, order):
            for use in binding.uses:
                # A function looks names up when it is called, an assignment when it is made.
                for time in (order, binding.order - 1):
                    barred = [path for path in sorted(self._paths(use, time)) if is_barred(path)]
                    if barred:
                        return barred[0], use.where
                    if not use.known and (found := self._follow(use.root, time, seen)):
                        return found
        return None


def is_barred(path: str) -> bool:
    """Whether a dotted path leads into a part of ganlib that holds what homework asks for."""
    return path.startswith(tuple(f"ganlib.{name}." for name in BARRED)) or path[7:] in BARRED


def _blocks(node: ast.stmt) -> Iterator[ast.stmt]:
    """The statements inside an if, for, while, with, try or match."""
    for name in ("body", "orelse", "finalbody", "handlers", "cases"):
        for child in getattr(node, name, ()):
            yield from [child] if isinstance(child, ast.stmt) else child.body


def tail(node: ast.AST | None) -> str | None:
    """The last name of a dotted name."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else None


def imported(node: ast.Import | ast.ImportFrom) -> dict[str, str]:
    """Name bound by an import -> dotted path of what it is."""
    if isinstance(node, ast.Import):
        short = {alias: alias.name.split(".")[0] for alias in node.names}
        return {
            alias.asname or short[alias]: alias.name if alias.asname else short[alias] for alias in node.names
        }
    if node.names[0].name == "*":
        return {name: f"{node.module}.{name}" for name in _exports(node.module or "")}
    return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}


@functools.cache
def _exports(module: str) -> frozenset[str]:
    """The classes and functions that `from module import *` brings in, for the barred modules; else none."""
    place = Path(ganlib.__file__).parent.joinpath(*module.split(".")[1:])
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if is_barred(module) and path.is_file():
            body = parse(path.read_text(encoding="utf-8")).body
            imports = [name for node in body if isinstance(node, ast.ImportFrom) for name in imported(node)]
            return frozenset([*imports, *(node.name for node in body if hasattr(node, "name"))])
    return frozenset()
