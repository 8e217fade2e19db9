"""What a run reports: one row per log interval."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class History:
    """Rows of ``{"step": ..., "seconds": ..., "<player>/<term>": mean over the interval}``.

    ``history["generator/adversarial"]`` is a column, ``history[-1]`` a row, ``len`` the number of rows.
    ``seconds`` counts training only and goes on after a resume.
    """

    def __init__(self, rows: list[dict[str, float]] | None = None) -> None:
        self.rows: list[dict[str, float]] = list(rows or [])

    def append(self, row: dict[str, float]) -> None:
        """Add a row."""
        self.rows.append(row)

    @property
    def names(self) -> list[str]:
        """The columns, in the order in which they first appeared."""
        return list(dict.fromkeys(name for row in self.rows for name in row))

    def __getitem__(self, key: str | int) -> Any:
        if isinstance(key, int):
            return self.rows[key]
        if key not in self.names:
            raise KeyError(f"no column {key!r}; there are {self.names}")
        return [row.get(key, float("nan")) for row in self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, float]]:
        return iter(self.rows)

    def save(self, path: str | Path) -> None:
        """Write the rows as a JSON list, one row a line."""
        lines = ",\n".join(json.dumps(row) for row in self.rows)
        Path(path).write_text(f"[\n{lines}\n]\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> History:
        """Read what :meth:`save` wrote."""
        return cls(json.loads(Path(path).read_text(encoding="utf-8")))
