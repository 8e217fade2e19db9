# No notebook at all.
# stock: no score
# solves:
# %% tamper
files["tiny.ipynb"] = b"\x00\xff\xfe PK\x03\x04" * 1000
