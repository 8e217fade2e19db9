"""A real browser opens JupyterLab, runs notebooks, moves what moves, and looks whether pictures change."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

ROOT = Path(__file__).resolve().parents[2]
BROWSER = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome found: `apt-get install chromium` to run the browser tests"
)
PATIENCE = 120_000  # milliseconds; a busy machine is no failure
# All cells in the page, not only those in view; and no question about news in the way.
SETTINGS = {
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false"}',
}
# Of these notebooks only the imports and the cell that shows the widget run here. All cells of all notebooks
# run in tests/notebooks, and those of 02 in the browser, too.
WIDGETS = {"03": "EarthMover()", "05": "GANLab()", "11": "ManifoldBrush", "12": "EdgesToDigits"}


def _shorten(path, widget):
    """Leaves of the code cells the first one and those in which the widget's name stands."""
    content = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    kept = [code[0], *(cell for cell in code[1:] if widget in "".join(cell["source"]))]
    assert len(kept) > 1, f"{path.stem} shows no {widget}"
    content["cells"] = [cell for cell in content["cells"] if cell["cell_type"] != "code" or cell in kept]
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """JupyterLab on a copy of the notebooks, with settings of its own; its address."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    if (ROOT / "results").exists():
        shutil.copytree(ROOT / "results", folder / "results")
    for number, widget in WIDGETS.items():
        _shorten(folder / "notebooks" / f"{notebook(number)}.ipynb", widget)
    for name, text in SETTINGS.items():
        file = folder / f"config/settings/@jupyterlab/{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    environment = {
        "GANLIB_BUDGET": "smoke",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "config/settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "config/workspaces"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += ["--port-retries=0", "--ip=127.0.0.1", "--IdentityProvider.token=", "--ServerApp.password="]
    command += [f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=log, stderr=subprocess.STDOUT, cwd=folder
        )
        try:
            _wait_for(url + "/api", process, folder / "log")
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(url, process, log):
    end = time.monotonic() + PATIENCE / 1000
    while time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
    raise TimeoutError(log.read_text())


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as p:
        # As root, and in containers whose /dev/shm is small, Chromium starts only with these.
        chromium = p.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture
def open_notebook(server, browser, request):
    """Open a notebook, run all of it to the end, and return the page."""
    pages = []

    def opened(name):
        page = browser.new_page(viewport={"width": 1280, "height": 1100})
        pages.append(page)
        page.set_default_timeout(PATIENCE)
        page.goto(f"{server}/lab/workspaces/{name}/tree/notebooks/{name}.ipynb")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
        # Cells that are run before the kernel has answered are dropped without a word.
        page.locator(".jp-StatusBar-Widget").get_by_text("| Idle").wait_for()
        page.locator('.lm-MenuBar-itemLabel:text-is("Run")').click()
        page.locator('.lm-Menu-itemLabel:text-is("Run All Cells")').click()
        page.wait_for_function(f"{PROMPTS}.some(text => text.includes('*'))")
        page.wait_for_function(f"{PROMPTS}.every(text => !text.includes('*'))")
        errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]')
        assert errors.count() == 0, errors.all_inner_texts()
        return page

    yield opened
    for number, page in enumerate(pages):
        if folder := os.environ.get("GANLIB_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{request.node.name}-{number}.png")
        page.close()


def notebook(number):
    """The name of the notebook with that number."""
    (path,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    return path.stem


PROMPTS = "[...document.querySelectorAll('.jp-CodeCell .jp-InputArea-prompt')].map(p => p.textContent)"


def test_a_slider_redraws_the_two_gaussians(open_notebook):
    page = open_notebook(notebook("02"))
    picture = page.locator("img.ganlib-figure").first
    picture.scroll_into_view_if_needed()
    before = picture.evaluate(SHA)
    slider = page.locator(".widget-slider [role=slider], .widget-slider .noUi-handle").first
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(REDRAWN, arg=[picture.element_handle(), before])


def test_a_dragged_pile_redraws_the_plan(open_notebook):
    page = open_notebook(notebook("03"))
    picture, pile = page.locator("img.ganlib-figure").first, page.locator("[data-pile=p6]").first
    pile.scroll_into_view_if_needed()
    before, height = picture.evaluate(SHA), float(pile.get_attribute("aria-valuenow"))
    box = pile.bounding_box()
    x = box["x"] + box["width"] / 2
    page.mouse.move(x, box["y"] + 0.95 * box["height"])
    page.mouse.down()
    page.mouse.move(x, box["y"] + 0.5 * box["height"], steps=5)
    page.mouse.up()
    page.wait_for_function(REDRAWN, arg=[picture.element_handle(), before])
    assert float(pile.get_attribute("aria-valuenow")) > height


# The bytes of an image, whose address is a new blob each time whether or not they have changed.
SHA = """async image => {
    const bytes = await (await fetch(image.src)).arrayBuffer();
    return new Uint8Array(await crypto.subtle.digest('SHA-256', bytes)).join(' ');
}"""

REDRAWN = f"async ([image, before]) => await ({SHA})(image) !== before"


def test_the_gan_lab_plays_pauses_steps_and_draws(open_notebook):
    page = open_notebook(notebook("05"))
    lab = page.locator(".ganlab").first
    lab.scroll_into_view_if_needed()
    plane = lab.locator("canvas.plane")
    page.wait_for_function("document.querySelector('.ganlab .plane').dataset.frame > 0")

    def steps():
        texts = lab.locator(".numbers b").all_inner_texts()
        return tuple(int(text.split()[0]) for text in texts[:2])

    def pixels():
        return plane.evaluate("canvas => canvas.toDataURL()")

    def wait_for_more(than):
        page.wait_for_function(
            "n => parseInt(document.querySelector('.ganlab .numbers b').textContent) > n", arg=than
        )

    # Playing changes the picture.
    d, _ = steps()
    before = pixels()
    lab.get_by_role("button", name="Play").click()
    wait_for_more(d + 10)
    assert pixels() != before

    # A cell runs while it plays: the kernel answers.
    page.locator(".jp-Notebook .jp-CodeCell .cm-content").last.click()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.keyboard.press("Enter")
    page.keyboard.type("print('answered', 6 * 7)")
    page.keyboard.press("Control+Enter")
    page.get_by_text("answered 42", exact=True).wait_for()
    lab.scroll_into_view_if_needed()

    # Pause stops it: once the button says so and the kernel's last frame has come, nothing moves any more.
    lab.get_by_role("button", name="Pause").click()
    lab.get_by_role("button", name="Play").wait_for()
    page.wait_for_function(STILL, polling=500)
    still, picture = steps(), pixels()
    page.wait_for_timeout(700)  # ten frames' time
    assert (steps(), pixels()) == (still, picture)

    # One step of one player moves that player alone, and the picture.
    lab.get_by_role("button", name="D only").click()
    wait_for_more(still[0])
    assert steps() == (still[0] + 1, still[1])
    assert pixels() != picture

    # What is not to be seen is not drawn.
    picture = pixels()
    lab.get_by_label("heat map of D").uncheck()
    page.wait_for_function(CHANGED, arg=picture)

    lab.get_by_role("button", name="Reset").click()
    page.wait_for_function("parseInt(document.querySelector('.ganlab .numbers b').textContent) === 0")

    # A target drawn with the mouse: the kernel's points of it take the place of those of the face.
    frame = plane.get_attribute("data-frame")
    lab.get_by_label("Target", exact=True).select_option("drawn by hand")
    page.wait_for_function(NEWER, arg=frame)
    lab.get_by_role("button", name="Clear drawing").click()
    box, frame = plane.bounding_box(), plane.get_attribute("data-frame")
    x, y = box["x"] + box["width"] / 4, box["y"] + box["height"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + box["width"] / 2, y, steps=5)
    picture = pixels()  # the stroke is there, the points are still those of the face
    page.mouse.up()
    page.wait_for_function(NEWER, arg=frame)
    page.wait_for_function(CHANGED, arg=picture)


NEWER = "n => document.querySelector('.ganlab .plane').dataset.frame > Number(n)"
CHANGED = "before => document.querySelector('.ganlab .plane').toDataURL() !== before"
# Whether the number of steps is what it was at the last call.
STILL = """() => {
    const now = document.querySelector('.ganlab .numbers b').textContent, before = window.stepsBefore;
    window.stepsBefore = now;
    return now === before;
}"""


def test_the_manifold_follows_the_brush(open_notebook):
    page = open_notebook(notebook("11"))
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    brush = page.locator(".ganbrush").first
    brush.scroll_into_view_if_needed()
    sample, result, status = (brush.locator(name) for name in ("canvas.sample", "canvas.result", ".status"))
    page.wait_for_function("document.querySelector('.ganbrush .sample').dataset.frame > 0")
    box = sample.bounding_box()

    def pixels():
        return [canvas.evaluate("canvas => canvas.toDataURL()") for canvas in (sample, result)]

    def stroke(begin, end, tool, during=lambda: None):
        brush.get_by_role("button", name=tool).click()
        (x0, y0), (x1, y1) = (
            (box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (begin, end)
        )
        page.mouse.move(x0, y0)
        page.mouse.down()
        page.mouse.move(x1, y1, steps=4)
        during()
        page.mouse.up()

    # The sample follows while the button is down, the photo when it is let go.
    before, frame = pixels(), sample.get_attribute("data-frame")
    follows = "n => document.querySelector('.ganbrush .sample').dataset.frame > Number(n)"
    stroke((0.3, 0.2), (0.7, 0.2), "White brush", lambda: page.wait_for_function(follows, arg=frame))
    status.get_by_text("1 stroke,").wait_for()
    page.wait_for_function(REPAINTED, arg=["result", before[1]])
    assert pixels()[0] != before[0]
    # What was asked for is tinted blue.
    red, _, blue = sample.evaluate(
        "c => [...c.getContext('2d').getImageData(c.width / 2, c.height / 5, 1, 1).data].slice(0, 3)"
    )
    assert blue > red

    # A patch that is dragged is another stroke; taken back, all is as it was.
    stroke((0.5, 0.5), (0.6, 0.5), "Drag a patch")
    status.get_by_text("2 strokes,").wait_for()
    for _ in range(2):
        brush.get_by_role("button", name="Undo").click()
    page.wait_for_function(BACK, arg=before)

    # Without a mouse: two steps to the left, and a dab of black.
    brush.get_by_role("button", name="Black brush").focus()
    page.keyboard.press("Enter")
    sample.focus()
    for key in ("ArrowLeft", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    status.get_by_text("1 stroke,").wait_for()
    assert not complaints


REPAINTED = "([name, before]) => document.querySelector(`.ganbrush .${name}`).toDataURL() !== before"
BACK = """before => ['sample', 'result'].every(
    (name, i) => document.querySelector(`.ganbrush .${name}`).toDataURL() === before[i])"""


def test_an_outline_becomes_a_digit(open_notebook):
    page = open_notebook(notebook("12"))
    complaints = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    widget = page.locator(".ganedges").first
    widget.scroll_into_view_if_needed()
    sheet, status = widget.locator("canvas.sheet"), widget.locator(".status")
    pictures = widget.locator("canvas.picture")
    page.wait_for_function("document.querySelector('.ganedges .sheet').dataset.frame > 0")

    def pixels():
        return [canvas.evaluate("canvas => canvas.toDataURL()") for canvas in [sheet, *pictures.all()]]

    widget.get_by_role("button", name="Clear").click()
    status.get_by_text("An empty sheet").wait_for()
    page.wait_for_function(DARK)
    empty = pixels()

    # The pictures follow while the button is down. Of a stroke the outline is drawn, not what it covers.
    widget.get_by_role("button", name="Stroke", exact=True).click()
    box, frame = sheet.bounding_box(), sheet.get_attribute("data-frame")
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 4
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x, y + box["height"] / 2, steps=6)
    page.wait_for_function(LATER, arg=frame)
    page.mouse.up()
    status.get_by_text("pixels of outline").wait_for()
    page.wait_for_function(ALL_OTHER, arg=empty)
    page.wait_for_function(OUTLINED)

    # Taken back, the sheet is as it was; an example is the outline of a digit.
    widget.get_by_role("button", name="Undo").click()
    page.wait_for_function(ALL_AS, arg=empty)
    widget.get_by_role("button", name="Example").click()
    status.get_by_text("begun with that of a").wait_for()
    widget.get_by_role("button", name="Clear").click()
    page.wait_for_function(ALL_AS, arg=empty)

    # Without a mouse: the pen goes down, two pixels to the left, and up again.
    widget.get_by_role("button", name="Outline", exact=True).focus()
    page.keyboard.press("Enter")
    sheet.focus()
    for key in ("Space", "ArrowLeft", "ArrowLeft", "Space"):
        page.keyboard.press(key)
    status.get_by_text("3 pixels of outline").wait_for()
    assert not complaints


LATER = "n => document.querySelector('.ganedges .sheet').dataset.frame > Number(n)"
DARK = """() => {
    const sheet = document.querySelector('.ganedges .sheet');
    const data = sheet.getContext('2d').getImageData(0, 0, sheet.width, sheet.height).data;
    return data.every((level, i) => i % 4 === 3 || level === 0);
}"""
# In the middle of the sheet it is dark, and two of its pixels to the right bright.
OUTLINED = """() => {
    const sheet = document.querySelector('.ganedges .sheet');
    const level = aside => sheet.getContext('2d').getImageData(
        sheet.width * (0.5 + aside), sheet.height / 2, 1, 1).data[0];
    return level(0) === 0 && level(0.08) === 255;
}"""
_ALL = "[...document.querySelectorAll('.ganedges canvas')]"
ALL_AS = f"before => {_ALL}.every((canvas, i) => canvas.toDataURL() === before[i])"
ALL_OTHER = f"before => {_ALL}.every((canvas, i) => canvas.toDataURL() !== before[i])"
