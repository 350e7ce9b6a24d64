"""How listings look: tables for people, JSON and YAML for programs, with the same field names."""

import json
import sys
from collections.abc import Mapping, Sequence
from enum import Enum, StrEnum
from typing import Any, TextIO

import typer
import yaml

from pvc.core.commands import Moment, Seconds, Size, in_units, when


class Format(StrEnum):
    """What `--format` takes."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_COLOURS = {
    "green": {"ready", "running", "done", "ok", "moved", "yes"},
    "yellow": {"flushing", "flushed", "unflushing", "migrating", "starting", "stopping", "queued", "moving", "warning"},
    "red": {"failed", "incomplete", "critical", "dead", "kept", "departed", "no"},
}
_COLOUR_OF = {word: colour for colour, words in _COLOURS.items() for word in words}


def write(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], form: Format, *, one: bool, to: TextIO | None = None
) -> None:
    """Write a listing. `columns` are those of the table; `one` is a single record, written field by field."""
    out = to or sys.stdout
    if form is Format.TABLE:
        lines = fields_of(rows[0]) if one and rows else table(rows, columns, colour=out.isatty())
        out.writelines(line + "\n" for line in lines)
        return
    plain = [{name: _plain(value) for name, value in row.items()} for row in rows]
    value: Any = plain[0] if one and plain else plain
    if form is Format.JSON:
        out.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
    else:
        out.write(yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, colour: bool) -> list[str]:
    """Aligned lines under a heading; a value never breaks a line."""
    cells = [[text_of(row.get(column)) for column in columns] for row in rows]
    heads = [column.replace("_", " ").upper() for column in columns]
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    lines = ["  ".join(head.ljust(width) for head, width in zip(heads, widths, strict=True)).rstrip()]
    for row in cells:
        padded = [_coloured(cell, width, colour) for cell, width in zip(row, widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    return lines


def fields_of(row: Mapping[str, Any]) -> list[str]:
    """One record, a field a line; lists and mappings are indented below their name."""
    width = max((len(name) for name in row), default=0) + 2
    lines: list[str] = []
    for name, value in row.items():
        head = f"{name.replace('_', ' ')}:".ljust(width)
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            lines.append(head.rstrip())
            lines.extend(f"  {line}" for line in table(value, list(value[0]), colour=False))
        elif isinstance(value, Mapping) and value:
            lines.append(head.rstrip())
            lines.extend(f"  {key}: {json.dumps(_plain(item), ensure_ascii=False)}" for key, item in value.items())
        else:
            lines.append(f"{head}{text_of(value)}".rstrip())
    return lines


def text_of(value: Any) -> str:
    """A value as one word or line for people."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Moment):
        return when(value)
    if isinstance(value, Seconds):
        return f"{value:.4f}"
    if isinstance(value, Size):
        return in_units(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return ",".join(text_of(item) for item in value) or "-"
    if isinstance(value, Mapping) and not value:
        return "-"
    return " ".join(str(value).split()) or "-"


def _coloured(cell: str, width: int, colour: bool) -> str:
    padded = cell.ljust(width)
    found = _COLOUR_OF.get(cell)
    return typer.style(padded, fg=found) if colour and found else padded


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Moment | Seconds):
        return float(value)
    if isinstance(value, Size):
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
