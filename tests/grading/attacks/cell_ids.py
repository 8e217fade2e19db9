# nbformat's own cell ids: all the same, too long, not even strings.
# stock: no score
# solves: scale
# %% tamper
for cell, name in zip(notebook["cells"], ["same", "same", "x" * 10_000, 7, None, "", "../../x", {}], strict=False):
    cell["id"] = name
