# Ten thousand files beside the notebook, some of them large.
# stock: hangs, and with it the class
# solves: scale
# %% folder
for i in range(10_000):
    (folder / f"f{i}").touch()
with open(folder / "sparse.npy", "wb") as file:
    file.truncate(2**40)
