# A graded cell that the homework does not know, worth a thousand points.
# stock: no score
# solves: scale
# %% tamper
bonus = dict(tests[0], source="pass", id="bonus", metadata={"nbgrader": dict(tests[0]["metadata"]["nbgrader"])})
bonus["metadata"]["nbgrader"] |= {"grade_id": "bonus", "points": 1000}
notebook["cells"].append(bonus)
