# The notebook handed in is a link to the instructor's; others lead to the gradebook and to the root.
# stock: 7 of 7
# solves:
# %% folder
(folder / "tiny.ipynb").unlink()
(folder / "tiny.ipynb").symlink_to(course / "source" / "tiny" / "tiny.ipynb")
(folder / "book.db").symlink_to(course / "gradebook.db")
(folder / "root").symlink_to("/")
