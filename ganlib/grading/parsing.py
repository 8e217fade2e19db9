"""Python source of a notebook's cells as a syntax tree, in a program of several threads."""

from __future__ import annotations

import ast
import re
import threading

_lock = threading.Lock()

_MAGIC = re.compile(
    r"^(?P<indent>[ \t]*)(?P<target>\w[\w, ]*=[ ]*)?(?P<mark>[!%])(?P<text>.*)$", re.MULTILINE
)
_HELP = re.compile(r"^([ \t]*)(?:\?.*|[\w.]+\?+)[ \t]*$", re.MULTILINE)


def parse(source: str) -> ast.Module:
    """`ast.parse`, safe in threads. Raises SyntaxError, ValueError, RecursionError or MemoryError, as that.

    CPython before 3.11.8 and 3.12.2 counts the depth of a parse for all threads together, and raises
    SystemError where two of them parse at once (gh-106905).
    """
    with _lock:
        for _ in range(20):
            try:
                return ast.parse(source)
            except SystemError:  # a thread of someone else's parses, too
                continue
        raise MemoryError("the source could not be parsed in peace")


def parse_cell(source: str) -> ast.Module | None:
    """A cell as IPython would run it, magics turned into calls, lines kept; None if it cannot run at all."""
    lines = source.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[start].startswith("%%"):  # the body of %%time and its like runs as if it stood alone
        source = "\n".join([*lines[:start], "", *lines[start + 1 :]])
    for transform in (str, _without_magics):
        try:
            return parse(transform(source))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return None


def _without_magics(source: str) -> str:
    def call(match: re.Match[str]) -> str:
        target, text = match["target"] or "", match["text"].strip()
        name = "run_line_magic" if match["mark"] == "%" else "getoutput" if target else "system"
        return f"{match['indent']}{target}get_ipython().{name}({text!r})"

    # IPython's own transformer takes minutes on a cell of thousands of such lines.
    return _MAGIC.sub(call, _HELP.sub(r"\1pass", source))
