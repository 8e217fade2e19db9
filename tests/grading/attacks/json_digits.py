# An integer of five thousand digits, more than Python reads.
# stock: no score
# solves:
# %% tamper
notebook["metadata"]["large"] = "@DIGITS@"
files["tiny.ipynb"] = json.dumps(notebook).replace('"@DIGITS@"', "1" + "0" * 5000).encode()
