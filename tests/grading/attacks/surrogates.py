# Half characters, that no file can be written with, in sources and ids.
# stock: no score
# solves: scale
# %% tamper
by_id["count"]["source"] = "count = '\ud800'"
by_id["reason"]["source"] = "\udfff because \x00 \x1b[2J \u202e"
notebook["cells"].append({"id": "s", "cell_type": "raw", "metadata": {"\ud800": 1}, "source": "\ud800"})
