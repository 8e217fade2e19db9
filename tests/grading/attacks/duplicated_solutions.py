# Every solution cell stands there three times under one id; the first two are broken.
# stock: no score; those after it: no score
# solves: scale
# %% tamper
wrong = "scale = centre = count = None"
notebook["cells"][2:2] = [
    dict(cell, source=wrong, id=f"again-{i}-{k}") for k in range(2) for i, cell in enumerate(solutions)
]
