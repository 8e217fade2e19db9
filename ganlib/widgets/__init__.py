"""Interactive figures for JupyterLab and Notebook 7; each also draws itself as a plain matplotlib figure."""
