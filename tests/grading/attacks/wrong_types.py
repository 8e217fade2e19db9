# Each thing in the file is of another type than it should be.
# stock: no score
# solves: scale
# %% tamper
by_id["reason"]["source"] = {"a": 1}
by_id["count"]["outputs"] = 5
by_id["centre"]["metadata"]["nbgrader"] = []
notebook["cells"] += [None, 3, [], {}, {"cell_type": "quantum", "metadata": None, "source": None}]
notebook["metadata"] = "metadata"
