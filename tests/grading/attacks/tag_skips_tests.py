# The tag that makes nbclient skip a cell, on every test.
# stock: 7 of 7
# solves: scale
# %% tamper
for cell in tests:
    cell["metadata"]["tags"] = ["skip-execution"]
