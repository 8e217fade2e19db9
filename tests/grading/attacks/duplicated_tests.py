# Each test stands there twice, the second one empty.
# stock: no score; those after it: no score
# solves: scale
# %% tamper
notebook["cells"] += [dict(cell, source="", id=f"again-{i}") for i, cell in enumerate(tests)]
