"""nbgrader's settings for this course: run every command in this folder, or name it with --course-dir."""

import os
import sys
from pathlib import Path

from nbgrader.plugins import LateSubmissionPlugin

from ganlib.grading.collect import Extractor
from ganlib.grading.hide import Harmless, HideTests

c = get_config()  # noqa: F821, RUF100 - nbgrader puts get_config into this file's namespace

FOLDER = Path(__file__).resolve().parent

# nbgrader runs `alembic` by its bare name when it makes the gradebook: it shall find this environment's.
os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])

c.CourseDirectory.course_id = "gan"
c.CourseDirectory.root = str(FOLDER)

# What students get: stubs in place of solutions.
c.ClearSolutions.code_stub = {"python": "# Your code goes here.\nraise NotImplementedError"}
c.ClearSolutions.text_stub = "*Your answer goes here.*"

# Feedback without hidden tests. Formgrader, which the instructor reads, keeps them. No page runs a student's
# scripts.
c.HideTests.course = str(FOLDER)
c.HTMLExporter.preprocessors = [Harmless]
c.GenerateFeedback.HTMLExporter.preprocessors = [HideTests, Harmless]

# `nbgrader zip_collect`: a hostile or broken archive harms no other, and what it holds stays in its folder.
c.ZipCollectApp.extractor_plugin = Extractor

# `nbgrader autograde`, for whoever cannot use `ganlib grade`: a cell that takes longer is interrupted and
# fails, the cells after it still run, and a deleted test cell comes back instead of leaving no score.
c.Execute.timeout = 300
c.Execute.interrupt_on_timeout = True
c.Execute.kernel_name = "python3"
c.Execute.shutdown_kernel = "immediate"
c.OverwriteCells.add_missing_cells = True


class Late(LateSubmissionPlugin):
    """Takes a share of the points off for each day begun after the due date; the first hour is free."""

    SHARE = 0.0  # e.g. 0.1 for a tenth a day; 0 takes nothing

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float:
        days = 0 if total_seconds_late <= 3600 else 1 + total_seconds_late // 86400
        return min(score, score * self.SHARE * days)


c.AssignLatePenalties.plugin_class = Late
