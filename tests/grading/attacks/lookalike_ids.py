# Ids that look like others: zero-width joiners, another alphabet's letters, full width, white space.
# stock: no score
# solves: scale
# %% tamper
for cell, change in zip(
    tests, (lambda s: s.replace("a", "а"), lambda s: s + "\u200d", lambda s: s + "\n", str.upper), strict=True
):
    cell["metadata"]["nbgrader"]["grade_id"] = change(cell["metadata"]["nbgrader"]["grade_id"])
