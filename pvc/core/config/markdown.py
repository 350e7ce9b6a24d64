"""The reference of all keys as Markdown tables, for `pvc config reference` and the documents."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from pvc.core.config.problems import value_text
from pvc.core.config.reference import Entry


def tables(entries: Sequence[Entry], heading: str = "##") -> Iterator[str]:
    """The lines of one table for each section, each with a heading; `heading` is what marks it as one."""
    for section, found in groupby(entries, _section):
        yield from ("", f"{heading} {section}", "", "| key | default | allowed | meaning |", "|---|---|---|---|")
        for entry in found:
            yield f"| `{entry.path}` | {_default(entry)} | {cell(entry.allowed)} | {_meaning(entry)} |"


def cell(value: str) -> str:
    """Text that fits into one cell of a table."""
    return " ".join(value.split()).replace("|", "\\|").replace("<", "&lt;")


def _section(entry: Entry) -> str:
    return entry.path.partition(".")[0] if "." in entry.path else "Top level"


def _default(entry: Entry) -> str:
    if entry.path == "node":
        return cell(str(entry.default))
    default = entry.default if isinstance(entry.default, str) else value_text(entry.default)
    return "null" if entry.default is None else f"`{cell(default)}`"


def _meaning(entry: Entry) -> str:
    marks = (" *Per VM.*" if entry.per_vm else "") + (" *Live.*" if entry.live else "")
    return cell(entry.help) + marks
