# Numbers that JSON readers stumble over, where numbers are looked for.
# stock: no score; those after it: no score
# solves: scale
# %% tamper
for cell in tests:
    cell["metadata"]["nbgrader"]["points"] = float("nan")
by_id["count"]["metadata"]["nbgrader"]["schema_version"] = float("inf")
notebook["metadata"]["large"] = [-0.0, 1e400, float("-inf")]
