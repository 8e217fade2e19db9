"""A real browser grades by hand in formgrader what `ganlib grade` has graded, and reads the report."""

import csv
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from functools import partial
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

ROOT = Path(__file__).resolve().parents[2]
GRADING = ROOT / "tests" / "grading"
if str(GRADING) not in sys.path:  # `import courses`, here and in worker processes
    sys.path.insert(0, str(GRADING))
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome found: `apt-get install chromium` to run the browser tests"
)
PATIENCE = 120_000  # milliseconds; a busy machine is no failure
RAN = "document.title = 'a script of a student ran'"
HOSTILE = f'Means shift, too. <script>{RAN}</script><img src=x onerror="{RAN}"> [here](javascript:alert(1))'


class Course:
    """The tiny homework, released; ann has solved all of it, bob one part."""

    def __init__(self, folder: Path) -> None:
        import courses

        spec = importlib.util.spec_from_file_location("tiny", GRADING / "conftest.py")
        spec.loader.exec_module(module := importlib.util.module_from_spec(spec))
        tiny = module.Tiny()
        self.folder = folder
        shutil.copy(ROOT / "assignments" / "nbgrader_config.py", folder)
        tiny.write_source(folder)
        courses.release(folder)
        tiny.write_submission(folder, "ann")
        notebook = tiny.submission(["scale"])
        notebook["cells"][-1]["source"] = HOSTILE
        display = f'from IPython.display import HTML\nHTML("<script>{RAN}</script>")'
        notebook["cells"][-2]["source"] = display
        tiny.write_submission(folder, "bob", notebook)

    def submission(self, student: str) -> str:
        """Formgrader's name of a submitted notebook."""
        with self.gradebook() as book:
            return book.find_submission_notebook("tiny", "tiny", student).id

    def gradebook(self):
        """The gradebook, open."""
        from nbgrader.api import Gradebook

        return Gradebook(f"sqlite:///{self.folder / 'gradebook.db'}", "gan")

    def exported(self) -> dict[str, float]:
        """Scores as `nbgrader export` writes them."""
        from nbgrader.plugins import CsvExportPlugin

        with self.gradebook() as book:
            CsvExportPlugin(to=str(self.folder / "grades.csv")).export(book)
        with (self.folder / "grades.csv").open(encoding="utf-8") as file:
            return {row["student_id"]: float(row["score"]) for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course after a real run; where there is no sandbox, in the degraded mode."""
    import courses

    from ganlib.grading.run import grade_class

    course = Course(tmp_path_factory.mktemp("course"))
    station = partial(courses.light_station, confined=None, hide=[course.folder])
    summary = grade_class(course.folder, "tiny", workers=1, station=station)
    assert summary.scores == {"ann": 7, "bob": 1}
    return course


@pytest.fixture(scope="module")
def server(course, tmp_path_factory):
    """JupyterLab, started in the course's folder so that formgrader has its settings; its address."""
    folder = tmp_path_factory.mktemp("lab")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port-retries=0"]
    command += [f"--port={url.rsplit(':', 1)[1]}", "--ip=127.0.0.1", "--IdentityProvider.token="]
    command += ["--ServerApp.password=", "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=course.folder
        )
        try:
            end = time.monotonic() + PATIENCE / 1000
            while not _answers(url):
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.2)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url):
    try:
        urllib.request.urlopen(f"{url}/api", timeout=5).close()
        return True
    except OSError:
        return False


@pytest.fixture
def page():
    with playwright.sync_playwright() as p:
        # As root, and in containers whose /dev/shm is small, Chromium starts only with these.
        browser = p.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        page.set_default_timeout(PATIENCE)
        yield page
        browser.close()


def test_points_by_hand_are_entered_exported_and_kept(course, server, page):
    # JupyterLab's menu opens formgrader, which lists the run's scores.
    page.goto(f"{server}/lab")
    page.locator('.lm-MenuBar-itemLabel:text-is("Nbgrader")').click()
    page.locator('.lm-Menu-itemLabel:text-is("Formgrader")').click()
    formgrader = page.frame_locator('iframe[src*="formgrader"]')
    formgrader.get_by_role("link", name="Manual Grading").click()
    formgrader.locator('a[href$="/gradebook/tiny"]').click()
    formgrader.locator('a[href$="/gradebook/tiny/tiny"]').click()
    formgrader.locator("td", has_text="7 / 10").wait_for()
    formgrader.locator("td", has_text="1 / 10").wait_for()

    # The written answer of bob is shown as text, whatever it is, and gets its points.
    page.goto(f"{server}/formgrader/submissions/{course.submission('bob')}/")
    points = page.locator("#reason")
    points.wait_for()
    assert "Means shift, too." in page.locator("body").inner_text()
    assert "student ran" not in page.title() and page.locator('a[href^="javascript:alert"]').count() == 0
    page.wait_for_function("document.querySelector('#scale-values').placeholder === '1'")
    with page.expect_response(
        lambda response: "/api/grade/" in response.url and response.request.method == "PUT"
    ):
        points.fill("2.5")
        points.press("Tab")
    assert course.exported() == {"ann": 7.0, "bob": 3.5}

    # Graded again, by a stand-in for the Station: by hand stays by hand.
    from quick_station import QuickStation

    from ganlib.grading.run import grade_class

    summary = grade_class(course.folder, "tiny", force=True, workers=1, station=QuickStation)
    assert summary.graded == 2
    assert course.exported() == {"ann": 7.0, "bob": 3.5}


def test_the_report_sorts_filters_and_runs_nothing_else(course, page):
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: said.append(request.url) if request.url[:4] != "file" else None)
    page.goto((course.folder / "grading" / "tiny" / "report.html").as_uri())
    students = page.locator("#everyone tbody tr:visible th")
    assert students.all_inner_texts() == ["ann", "bob"]
    page.get_by_role("button", name="Total").click()
    assert students.all_inner_texts() == ["bob", "ann"]
    page.get_by_role("button", name="Total").click()
    assert students.all_inner_texts() == ["ann", "bob"]
    page.get_by_label("Filter").fill("BOB")
    assert students.all_inner_texts() == ["bob"]
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"document.title=1\">')")
    page.wait_for_timeout(100)
    assert page.title() == "tiny: report" and not [text for text in said if "Content Security" not in text]
