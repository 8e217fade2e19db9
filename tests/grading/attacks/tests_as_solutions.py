# The tests bear the id of a cell that the student may change.
# stock: no score; those after it: no score
# solves: scale
# %% tamper
for cell in tests[1:]:
    cell["metadata"]["nbgrader"]["grade_id"] = "reason"
