# Metadata a hundred thousand levels deep.
# stock: no score
# solves:
# %% tamper
notebook["metadata"]["deep"] = "@DEEP@"
files["tiny.ipynb"] = json.dumps(notebook).replace('"@DEEP@"', "[" * 100_000 + "]" * 100_000).encode()
