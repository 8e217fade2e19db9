"""What a student, and nbgrader, are told about a cell: messages, failing statements, outputs.

All that comes from the student's process is text to be shown, and is cleaned before: no control characters,
no folders, no HTML or scripts, bounded. A test that fails in a hidden region shows its check's message
alone.
"""

from __future__ import annotations

import ast
import base64
import builtins
import re
import traceback
from collections.abc import Mapping
from typing import Any

from ganlib.grading.parsing import parse

SHOWN = 2000  # characters of a message
OUTPUTS = 200  # of a cell
_IMAGES = ("image/png", "image/jpeg")  # beside text/plain all that is kept: HTML and SVG can hold scripts
_PATH = re.compile(r"(?<![\w/.:])(?:/[\w.@+-]+)+/([\w.@+-]+)")
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")


class StudentError(Exception):
    """The student's code raised.

    kind: the exception's type. frames: where in the student's cells, as dicts of cell, line, function.
    outputs: what the cell had shown until then. All three are what the student's process says.
    """

    kind: str
    frames: list[dict]
    outputs: Any


class Ended(Exception):
    """The student's process is gone, or had to be killed."""


class Overtime(Exception):
    """A cell, or the whole submission, took too long."""


class Refused(Exception):
    """A test that is not run, and the reason."""


# A test may say `except ValueError`, as it can in JupyterLab, where it calls the student's code directly.
_KNOWN = {
    error.__name__: type(error.__name__, (StudentError, error), {})
    for error in (
        *(AssertionError, AttributeError, IndexError, KeyError, NameError, NotImplementedError),
        *(RuntimeError, TypeError, ValueError, ZeroDivisionError),
    )
}


def student_error(kind: str, message: str, frames: list, outputs: Any = None) -> StudentError:
    """What the student's process reports, as an exception to raise here."""
    error = _KNOWN.get(kind, StudentError)(clean(message))
    error.kind, error.outputs = clean(kind, 60), outputs
    error.frames = [f for f in frames if isinstance(f, dict) and type(f.get("line")) is int]
    return error


# --- cleaning --------------------------------------------------------------------------------------


def clean(text: str, limit: int = SHOWN) -> str:
    """The text without control characters and folders, cut to the limit."""
    text, whole = text[:limit], len(text) <= limit
    text = _PATH.sub(r"\1", _ESCAPE.sub("", text))
    if not text.replace("\n", "").replace("\t", "").isprintable():
        text = "".join(c for c in text if c in "\n\t\xa0" or c.isprintable())
    return text if whole else text + " [...]"


def clean_outputs(outputs: Any, limit: int) -> list[dict]:
    """What of a cell's outputs is well formed nbformat, harmless, and within the limit of bytes."""
    kept: list[dict] = []
    for output in outputs[:OUTPUTS] if isinstance(outputs, (list, tuple)) else ():
        match output:
            case {"output_type": "stream", "name": "stdout" | "stderr" as name, "text": str(text)}:
                kept.append({"output_type": "stream", "name": name, "text": clean(text, max(0, limit))})
            case {"output_type": "display_data" | "execute_result" as kind, "data": dict(data)}:
                data = {mime: value for mime, value in data.items() if _harmless(mime, value)}
                if "text/plain" in data:
                    data["text/plain"] = clean(data["text/plain"], max(0, limit))
                extra = {"execution_count": None} if kind == "execute_result" else {}
                if not data:
                    continue
                kept.append({"output_type": kind, "data": data, "metadata": {}} | extra)
            case _:
                continue
        limit -= size(kept[-1])
        if limit <= 0:
            if "data" in kept[-1]:
                kept.pop()  # half an image is none
            break
    return kept


def size(output: dict) -> int:
    """About how many bytes an output takes in the notebook's file."""
    return 100 + len(output.get("text", "")) + sum(map(len, output.get("data", {}).values()))


def _harmless(mime: Any, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return mime == "text/plain" or (mime in _IMAGES and bool(base64.b64decode(value, validate=True)))
    except ValueError:
        return False


def as_output(kind: str, message: str) -> dict:
    """An nbformat error, by which nbgrader gives a test cell no points."""
    return {
        "output_type": "error",
        "ename": kind,
        "evalue": message,
        "traceback": message.splitlines() or [kind],
    }


# --- explaining ------------------------------------------------------------------------------------


def told(error: StudentError, lengths: Mapping[str, int]) -> str:
    """The student's own exception in words: a check's message alone, others with their type; and where.

    lengths: how many lines each of the student's cells has; no other place is believed.
    """
    text = str(error.args[0]) if error.args else ""
    if error.kind != "AssertionError" or not text:
        text = f"{error.kind}: {text}" if text else error.kind
    return text + "".join(
        f"\n  in cell {f['cell']}, line {f['line']}, {clean(str(f.get('function')), 80)}"
        for f in _believed(error.frames, lengths)
    )


def _told_of_hidden(error: StudentError, lengths: Mapping[str, int]) -> str:
    """As `told`, without what could repeat a hidden test's numbers: messages, names of the student's own."""
    known = isinstance(getattr(builtins, error.kind, None), type)
    text = f"{error.kind if known else 'an exception'} in a hidden test"
    return text + "".join(
        f"\n  in cell {f['cell']}, line {f['line']}" for f in _believed(error.frames, lengths)[-1:]
    )


def _believed(frames: list[dict], lengths: Mapping[str, int]) -> list[dict]:
    return [f for f in frames[:10] if 1 <= f["line"] <= lengths.get(str(f.get("cell")), 0)]


def explain(error: Exception, source: str, name: str, lengths: Mapping[str, int]) -> tuple[str, bool]:
    """Why the test cell failed, in words for the student, and whether it failed in a hidden region.

    name: the file name under which the source was compiled. lengths: as for `told`.
    """
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == name]
    line = lines[0] if lines else None  # the outermost: that is where the test stood
    hidden = line in hidden_lines(source)
    if isinstance(error, StudentError):
        text = _told_of_hidden(error, lengths) if hidden else told(error, lengths)
    elif isinstance(error, AssertionError):
        text = str(error) or ("a hidden check does not hold" if hidden else "this does not hold:")
    elif isinstance(error, Ended) and hidden:
        text = "your code ended or blocked its process in a hidden test"
    elif isinstance(error, (Ended, Overtime, Refused)):
        text = str(error)
    elif hidden:
        text = f"your answer does not have the form that the test expects ({type(error).__name__})"
    else:
        text = f"{type(error).__name__}: {error}"
    if line is not None and not hidden:
        text += "\n\n" + statement(source, line)
    return clean(text), hidden


def hidden_lines(source: str) -> set[int]:
    """Numbers of the lines between the marks of hidden tests, marks included."""
    found, inside = set(), False
    for number, line in enumerate(source.splitlines(), 1):
        inside = inside or "### BEGIN HIDDEN TESTS" in line
        if inside:
            found.add(number)
        inside = inside and "### END HIDDEN TESTS" not in line
    return found


def statement(source: str, line: int) -> str:
    """The statement that holds the line, of a loop or function its first lines alone."""
    best = None
    for node in ast.walk(parse(source)):
        if isinstance(node, ast.stmt) and node.lineno <= line <= node.end_lineno:
            best = node  # ast.walk goes from the outside in
    if best is None:
        return ""
    body = getattr(best, "body", None)
    end = best.end_lineno if not body else max(best.lineno, body[0].lineno - 1)
    return "\n".join(source.splitlines()[best.lineno - 1 : min(end, best.lineno + 11)])
