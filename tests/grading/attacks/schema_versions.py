# nbgrader's metadata of a version that there never was.
# stock: no score; those after it: no score
# solves: scale
# %% tamper
for cell in [*tests, *solutions]:
    cell["metadata"]["nbgrader"]["schema_version"] = 99
