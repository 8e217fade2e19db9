"""The instructor's page: from rows to one HTML file that stands alone.

It needs no network and no script but the few lines of `assets/report.js` that sort and filter its table; a
content security policy lets nothing else run. The template escapes whatever a student wrote.
"""

from __future__ import annotations

import base64
import hashlib
import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import quote

from ganlib.grading.homework import Homework
from ganlib.grading.report import Row, number, visible
from ganlib.grading.similarity import Pair

ASSETS = Path(__file__).parent / "assets"
MOST = 25  # rows of the shorter tables
LOG = 4000  # characters of a log that are shown, its end


def page(rows: Sequence[Row], pairs: Sequence[Pair], homework: Homework, assignment: str) -> str:
    """The report of an assignment; rows in the order of the table of everyone, at least one."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        # Sees every value that the template prints, before it is escaped.
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    environment.filters |= {"number": number, "address": lambda text: quote(text, safe="")}
    script = (ASSETS / "report.js").read_text(encoding="utf-8")
    by_hand = {Homework.part(cell.grade_id) for cell in homework.cells if cell.kind == "written"}
    best = dict.fromkeys(homework.parts, 0.0)
    for grade_id, points in homework.points.items():
        best[Homework.part(grade_id)] += points
    scores = {
        part: [row.part(part) for row in rows if not (row.waiting and part in by_hand)] for part in best
    }
    totals = [row.total for row in rows]
    return environment.get_template("report.html.j2").render(
        assignment=assignment,
        written=datetime.now(timezone.utc).astimezone().strftime("%d %B %Y, %H:%M %Z"),
        rows=rows,
        best=best,
        by_hand=by_hand,
        total=histogram("Total", totals, sum(best.values())),
        parts=[histogram(part, scores[part], best[part]) for part in best],
        median=statistics.median(totals),
        failing=failing(rows)[:MOST],
        slowest=sorted(rows, key=lambda row: -row.seconds)[:10],
        pairs=pairs[:MOST],
        pairs_in_all=len(pairs),
        most=MOST,
        log_length=LOG,
        style=(ASSETS / "report.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


@dataclass(frozen=True)
class Histogram:
    """Bars of equal width from 0, the best score with one of its own: (lowest, highest, students)."""

    name: str
    best: float
    count: int
    mean: float
    bars: list[tuple[float, float, int]]

    @property
    def tallest(self) -> int:
        """Students in the highest bar."""
        return max(count for *_, count in self.bars)

    @property
    def words(self) -> str:
        """The same for somebody who cannot see it."""
        spans = {(low, high): f"{number(low)} to {number(high)}" for low, high, _ in self.bars if low < high}
        counts = [f"{spans.get((low, high), number(low))}: {n}" for low, high, n in self.bars if n]
        return f"Students by points of {self.name}, out of {number(self.best)}. {'; '.join(counts)}."


def histogram(name: str, scores: Sequence[float], best: float) -> Histogram:
    """Count scores in at most 13 bars, as wide as 1, 2, 5, 10, ... points.

    Scores beyond the best, which an instructor can give by hand, count in the last bar.
    """
    width = next(w * 10**e for e in range(9) for w in (1, 2, 5) if best / (w * 10**e) <= 12)
    last = math.ceil(best / width)
    counts = Counter(last if score >= best else int(score / width) for score in scores)
    bars = [(i * width, min((i + 1) * width - 1, best), counts[i]) for i in range(last)]
    mean = statistics.fmean(scores) if scores else math.nan
    return Histogram(name, best, len(scores), mean, [*bars, (best, best, counts[last])])


def failing(rows: Sequence[Row]) -> list[tuple[str, str, list[Row]]]:
    """Test cell, first line of what it said, and the students whom it said it to; the commonest first."""
    found = defaultdict(list)
    for row in rows:
        if row.status == "graded":
            for grade_id, message in row.messages.items():
                found[grade_id, (message.splitlines() or ["no message"])[0]].append(row)
    ordered = sorted(found.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(grade_id, line, students) for (grade_id, line), students in ordered]
