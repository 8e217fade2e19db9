"""A quick import leaves out one grammar, and nothing of what nbformat checks."""

import subprocess
import sys

CODE = """
import sys
from ganlib.grading.imports import GRAMMAR, import_quickly

import_quickly("nbformat", "nbgrader.apps.baseapp")
assert GRAMMAR not in sys.modules and "jsonschema" in sys.modules
import nbformat

notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1")])
nbformat.validate(notebook)
notebook.cells[0].outputs = [{"output_type": "nonsense"}]
try:
    nbformat.validate(notebook)
except nbformat.ValidationError:
    print("refused")
try:
    import_quickly("no_such_module")
except ModuleNotFoundError:
    assert GRAMMAR not in sys.modules
"""


def test_the_grammar_is_left_out_and_notebooks_are_validated():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "refused"
