# Tests and setup are replaced: they check nothing and are not locked.
# stock: 1 of 7; aims at the sanitiser
# solves: scale
# %% tamper
for cell in [*tests, by_id["setup"]]:
    cell["source"] = "check = lambda *_: None"
    cell["metadata"]["nbgrader"] |= {"locked": False, "checksum": "0" * 32}
    cell["metadata"] |= {"deletable": True, "editable": True}
