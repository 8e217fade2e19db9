"""What a student gets to read: feedback without hidden tests; and pages that run nothing of a student's.

`HideTests` is the nbconvert preprocessor that `nbgrader_config.py` puts before the feedback page. It trusts
no output of the autograded notebook: under a plain `nbgrader autograde` tests and student share a process, so
what is printed or raised may quote a hidden test. What may be read it takes from the run's own result,
`grading/<assignment>/results/<student>.json`; without one a page shows sources, scores and the literal
messages of checks, and no outputs. Even so an answer has seen the inputs of the hidden questions that it was
asked, so the outputs of student cells that ran after such a question are left out.

`Harmless` is for every HTML page, formgrader's among them: a student's Markdown, raw cells and rich outputs
could carry scripts into the instructor's session.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from nbconvert.preprocessors import Preprocessor
from nbformat.v4 import new_output
from traitlets import Unicode

from ganlib.grading.defuse import defused
from ganlib.grading.gradebook import fingerprint
from ganlib.grading.parsing import parse
from ganlib.grading.verdict import clean

_HIDDEN = re.compile(r"[^\n]*BEGIN HIDDEN TESTS.*?(?:END HIDDEN TESTS[^\n]*\n?|\Z)", re.DOTALL)
_PICTURES = ("image/png", "image/jpeg")


class HideTests(Preprocessor):
    """Takes hidden tests, and whatever could quote them, out of a feedback page."""

    course = Unicode(help="the course's folder, which holds grading/").tag(config=True)

    def preprocess(self, notebook, resources):
        """The notebook that the page is made of."""
        result = self._result(notebook, resources["nbgrader"])
        judged = iter(result["notebook"]["cells"] if result else ())
        asked_hidden = False
        for cell in notebook.cells:
            shown = next(judged, None)
            if cell.cell_type != "code":
                continue
            meta = cell.metadata.get("nbgrader", {})
            if meta.get("grade") and not meta.get("solution"):
                verdict = result["cells"].get(meta["grade_id"]) if result else None
                cell.outputs = [_told(verdict) if verdict else _guessed(cell)]
                if hidden(cell.source):
                    asked_hidden = True
                    cell.source = f"{without_hidden(cell.source)}\n# Hidden tests follow.".strip()
            elif shown and shown["source"] == cell.source and not asked_hidden:
                cell.outputs = [_plain(output) for output in shown["outputs"]]
            else:
                cell.outputs = []
        return notebook, resources

    def _result(self, notebook: Mapping, about: Mapping) -> dict | None:
        """The run's result that this notebook was made from, if there is one."""
        folder = Path(self.course) / "grading" / about["assignment"] / "results"
        try:
            result = json.loads((folder / f"{about['student']}.json").read_bytes())
            return result if notebook.metadata["ganlib"]["result"] == fingerprint(result) else None
        except (OSError, ValueError, LookupError, TypeError):
            return None


class Harmless(Preprocessor):
    """Leaves nothing in a notebook that a browser would run."""

    def preprocess(self, notebook, resources):
        """The notebook with plain outputs, defused text where it is not the instructor's, and no metadata."""
        notebook.metadata.clear()
        for cell in notebook.cells:
            meta = cell.metadata.get("nbgrader", {})
            for key in set(cell.metadata) - {"nbgrader"}:
                del cell.metadata[key]
            if cell.cell_type == "code":
                cell.outputs = [_plain(output) for output in cell.outputs]
            elif not meta.get("locked") or meta.get("solution"):
                cell.cell_type, cell.source = "markdown", defused(cell.source)
                cell.pop("attachments", None)
        return notebook, resources


def without_hidden(source: str) -> str:
    """The source without its hidden tests and their marks; a region without an end hides all that follows."""
    return _HIDDEN.sub("", source)


def hidden(source: str) -> list[str]:
    """The hidden regions of a cell, marks included."""
    return _HIDDEN.findall(source)


def _told(verdict: Mapping) -> dict:
    """What the judge says about a test."""
    if verdict["passed"]:
        return new_output("stream", name="stdout", text="Passed.")
    message = clean(verdict["message"])
    said = "hidden test" in message or not verdict["hidden"]
    return _failure(f"{'This test failed' if said else 'A hidden test failed'}: {message}")


def _guessed(cell: Mapping) -> dict:
    """What can be said of a test that ran beside the student's code: a message of the cell, word by word."""
    errors = [x for x in cell["outputs"] if x["output_type"] == "error" or x.get("name") == "stderr"]
    if not errors:
        return new_output("stream", name="stdout", text="Passed, unless the score says otherwise.")
    came = str(errors[0].get("evalue", ""))
    known = [text for text in _messages(cell["source"]) if came == text or came.startswith(f"{text}\n")]
    return _failure(f"This test failed{': ' if known else '.'}{max(known, key=len, default='')}")


def _messages(source: str) -> Iterator[str]:
    """The literal messages of a test cell's checks and asserts."""
    for node in ast.walk(parse(source)):
        match node:
            case ast.Assert(msg=ast.Constant(value=str(text))):
                yield text
            case ast.Call(func=ast.Name(id="check" | "check_same"), args=[*_, ast.Constant(value=str(text))]):
                yield text


def _failure(text: str) -> dict:
    return new_output("error", ename="Failed", evalue=text, traceback=[text])


def _plain(output: Mapping) -> dict:
    """An output of text and pictures alone."""
    match output["output_type"]:
        case "stream":
            return new_output("stream", name=output["name"], text=clean("".join(output["text"])))
        case "error":
            text = clean("\n".join(output["traceback"]))
            return new_output("error", ename=clean(output["ename"]), evalue="", traceback=[text])
    data = {kind: value for kind, value in output["data"].items() if kind in _PICTURES}
    if "text/plain" in output["data"]:
        data["text/plain"] = clean("".join(output["data"]["text/plain"]))
    return new_output("display_data", data=data)
