"""One file per lecture system: its networks, its game, its recipe."""
