"""A notebook's cell, executed without a kernel: IPython's shell, whose outputs are collected and bounded.

Magics, `!command`, top-level await, displayed objects and matplotlib's figures work as in JupyterLab.
Errors come back as data: type, message, and the frames that lie in the notebook's cells.
"""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from IPython.core.compilerop import CachingCompiler
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.text import LSString, SList
from traitlets import Type
from traitlets.config import Config

OUTPUT = 2**20  # bytes of a cell's outputs
EACH = 100  # bytes that an output takes besides its content
MESSAGE = 4000  # characters of an error's message
FRAMES = 10  # of an error


class Outputs:
    """What a cell shows, in nbformat, cut after `limit` bytes."""

    def __init__(self, limit: int = OUTPUT) -> None:
        self.shown: list[dict] = []
        self.left = limit

    def stream(self, name: str, text: str) -> None:
        """Adds to stdout or stderr."""
        if self.left <= 0:
            return
        kept = text.encode("utf-8", "replace")[: self.left].decode("utf-8", "ignore")
        if not self.shown or self.shown[-1].get("name") != name:
            self.left -= EACH
            self.shown.append({"output_type": "stream", "name": name, "text": io.StringIO()})
        self.left -= len(text)
        self.shown[-1]["text"].write(kept if self.left > 0 else f"{kept}\n[output cut here]\n")

    def rich(self, kind: str, data: dict, **more: Any) -> None:
        """Adds an object's representations, {mime type: str or bytes}, or says that they are too large."""
        data = {mime: b64encode(x).decode() if isinstance(x, bytes) else str(x) for mime, x in data.items()}
        size = EACH + sum(map(len, data.values()))
        if size <= self.left:
            self.left -= size
            self.shown.append({"output_type": kind, "data": data, "metadata": {}, **more})
        else:
            self.stream("stderr", "[a result is too large to be shown]\n")

    def clear(self) -> None:
        """Forgets what was shown; it still counts."""
        self.shown.clear()

    def finished(self) -> list[dict]:
        """The outputs as plain data."""
        return [o | {"text": o["text"].getvalue()} if "text" in o else o for o in self.shown]


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr of a cell; without a name it drops what is written."""

    encoding = "utf-8"

    def __init__(self, shell: Shell | None = None, name: str = "") -> None:
        self.shell, self.name = shell, name

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self.shell is not None:
            self.shell.outputs.stream(self.name, text)
        return len(text)


class _Publisher(DisplayPublisher):
    def publish(self, data: dict, metadata: dict | None = None, **_: Any) -> None:
        self.shell.outputs.rich("display_data", data)

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.clear()


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict, md_dict: dict | None = None) -> None:
        self.shell.outputs.rich("execute_result", format_dict, execution_count=self.prompt_count)

    def finish_displayhook(self) -> None:
        self._is_active = False


class _Compiler(CachingCompiler):
    """Code is called after its cell, so that an error can be told as "cell generator, line 5"."""

    cell = ""

    def get_code_name(self, raw_code: str, transformed_code: str, number: int) -> str:
        return f"<cell {self.cell}>"


class Shell(InteractiveShell):
    """IPython for one notebook; `user_ns` holds its names."""

    displayhook_class = Type(_Hook)
    display_pub_class = Type(_Publisher)
    compiler_class = Type(_Compiler)

    def __init__(self, **kwargs: Any) -> None:
        self.outputs = Outputs()
        config = Config()
        config.HistoryManager.enabled = False  # no SQLite file
        super().__init__(config=config, **kwargs)

    def run(self, cell: str, source: str, limit: int = OUTPUT) -> tuple[list[dict], dict | None]:
        """Executes a cell called `cell`: its outputs and, if it failed, the error (see `describe`)."""
        self.outputs, self.compile.cell = Outputs(limit), cell
        out, err = Stream(self, "stdout"), Stream(self, "stderr")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                result = self.run_cell(source, store_history=True)
                error = result.error_before_exec or result.error_in_exec
            except BaseException as raised:  # an alarm between the cell's own code and IPython's
                error = raised
        return self.outputs.finished(), error and describe(error)

    def showtraceback(self, *args: Any, **kwargs: Any) -> None:
        """Errors are returned by `run`, not printed."""

    showsyntaxerror = showindentationerror = showtraceback

    def ask_exit(self) -> None:
        """`exit` in a cell is an error of the cell."""
        raise SystemExit

    def system(self, cmd: str) -> None:
        """`!command`: what it writes is the cell's output."""
        with _running(self.var_expand(cmd, depth=1)) as process:
            while chunk := process.stdout.read1(65536):
                sys.stdout.write(chunk.decode("utf-8", "replace"))
            self.user_ns["_exit_code"] = process.wait()

    def getoutput(self, cmd: str, split: bool = True, depth: int = 0) -> SList | LSString:
        """`name = !command`: its first MiB."""
        with _running(self.var_expand(cmd, depth=depth + 1)) as process:
            text = process.stdout.read(OUTPUT).decode("utf-8", "replace")
        return SList(text.splitlines()) if split else LSString(text)


@contextlib.contextmanager
def _running(command: str) -> Iterator[subprocess.Popen]:
    process = subprocess.Popen(
        command, shell=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    with process.stdout:
        try:
            yield process
        finally:
            process.kill()  # nothing if it has ended
            process.wait()


def describe(error: BaseException) -> dict:
    """An exception as data: "type", "message", and "frames" in cells as dicts of cell, line, function."""
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith("<cell "):
            place = {"cell": code.co_filename[6:-1], "line": trace.tb_lineno, "function": code.co_name}
            frames.append(place)
        trace = trace.tb_next
    message = error
    if isinstance(error, SyntaxError):
        message = error.msg
        if str(error.filename).startswith("<cell "):
            frames.append({"cell": error.filename[6:-1], "line": error.lineno or 0, "function": "<module>"})
    try:
        message = str(message)[:MESSAGE]
    except BaseException:
        message = "(a message that cannot be read)"
    frames = frames if len(frames) <= FRAMES else frames[: FRAMES // 2] + frames[-FRAMES // 2 :]
    return {"type": type(error).__name__, "message": message, "frames": frames}


def warm() -> None:
    """Pays IPython's first-time costs: a shell that a forked child builds after this takes milliseconds."""
    Shell().run("warm", "1")
