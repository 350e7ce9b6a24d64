"""One result of a benchmark, and the table and file they end up in."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Result:
    """A measured figure: the median of `n` measurements, their extremes, what it is held against."""

    name: str
    value: float
    unit: str
    target: float | None
    """It should be at most this; None: reported only."""
    baseline: float | None
    """The same by other means in the same run, in `unit` (or seconds, for a ratio)."""
    n: int
    min: float
    max: float


def result(
    name: str, values: Sequence[float], unit: str, *, target: float | None = None, baseline: float | None = None
) -> Result:
    """The result for repeated measurements of one thing."""
    return Result(name, median(values), unit, target, baseline, len(values), min(values), max(values))


def table(results: Sequence[Result]) -> str:
    """The results as aligned lines."""
    rows = [("WHAT", "MEDIAN", "MIN", "MAX", "TARGET", "BASELINE", "N", "")]
    for one in results:
        met = "" if one.target is None else "met" if one.value <= one.target else "MISSED"
        rows.append(
            (
                one.name,
                f"{one.value:.3g} {one.unit}".strip(),
                f"{one.min:.3g}",
                f"{one.max:.3g}",
                "" if one.target is None else f"<= {one.target:g}",
                "" if one.baseline is None else f"{one.baseline:.3g}",
                str(one.n),
                met,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def save(results: Sequence[Result], path: Path) -> None:
    """Write the results as a JSON list."""
    path.write_text(json.dumps([asdict(one) for one in results], indent=2) + "\n")
