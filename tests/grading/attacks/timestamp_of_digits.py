# A time of handing in of a million digits.
# stock: hangs, and with it the class
# solves: scale
# %% tamper
files["timestamp.txt"] = b"1" * 1_000_000
