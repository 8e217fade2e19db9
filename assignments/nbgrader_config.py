"""nbgrader's settings for this course: run every command in this folder, or name it with --course-dir."""

import os
import re
import sys
from pathlib import Path

from nbconvert.preprocessors import Preprocessor

c = get_config()  # noqa: F821, RUF100 - nbgrader puts get_config into this file's namespace

# nbgrader runs `alembic` by its bare name when it makes the gradebook: it shall find this environment's.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


class HideTests(Preprocessor):
    """Takes hidden tests, and the tracebacks that quote them, out of the feedback page."""

    _hidden = re.compile(r"[^\n]*BEGIN HIDDEN TESTS.*?END HIDDEN TESTS[^\n]*\n?", re.DOTALL)

    def preprocess_cell(self, cell, resources, index):
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("grade"):
            cell.source = self._hidden.sub("", cell.source)
            for output in cell.outputs:
                if output.output_type == "error":
                    output.traceback = [f"{output.ename}: {output.evalue}"]
        return cell, resources


c.CourseDirectory.course_id = "gan"
c.CourseDirectory.root = str(Path(__file__).resolve().parent)

# A cell that takes longer is interrupted and counts as failed; the cells after it still run.
c.Execute.timeout = 300
c.Execute.interrupt_on_timeout = True
c.Execute.kernel_name = "python3"
c.Execute.shutdown_kernel = "immediate"  # a graceful end costs a second per submission and changes nothing

# A deleted test cell comes back and is graded, instead of leaving the submission without a score.
c.OverwriteCells.add_missing_cells = True

c.ClearSolutions.code_stub = {"python": "# Your code goes here.\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "*Your answer goes here.*"

# Only the students' page: formgrader, which the instructor reads, keeps the tests and their tracebacks.
c.GenerateFeedback.HTMLExporter.preprocessors = [HideTests]
