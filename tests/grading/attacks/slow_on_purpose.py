# Many cells, each just within its limit.
# stock: hangs, and with it the class
# solves: scale
# %% + centre
import time

time.sleep(0.8 * @CELL_SECONDS@)
# %% tamper
cells = notebook["cells"]
[slow] = [cell for cell in cells if "time.sleep" in cell["source"]]
position = cells.index(slow)
cells[position:position] = [dict(slow, id=f"slow-{i}") for i in range(60)]
# %% centre
centre = lambda rows: rows - rows.mean(axis=0)
# %% count
count = lambda text: len(set(text.split()))
