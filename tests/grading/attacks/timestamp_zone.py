# A time of handing in whose zone is looked for among the files of the machine.
# stock: no score
# solves: scale
# %% tamper
files["timestamp.txt"] = b"2020-01-01 00:00:00 " + b"9" * 5000
