"""`pvc node history`: finished flushes and unflushes, and what became of each VM."""

from typing import Annotated, Any

import typer

from pvc.cli.application import Application
from pvc.core.commands import Moment
from pvc.core.history import read_history
from pvc.core.lookup import find_node
from pvc.core.model import Operation, OutcomeState

COLUMNS = ("finished", "node", "kind", "by", "ended", "moved", "of", "seconds", "id", "reason", "message")
SHOWN = 8
"""Characters of an operation's id in the table: enough for `--operation`."""


def add_commands(cli: Application) -> None:
    """Add `history` to the group `node`."""
    Name = Annotated[
        str | None, typer.Argument(metavar="NODE", help="Only of this node.", autocompletion=cli.complete_nodes)
    ]
    Number = Annotated[int, typer.Option("--number", "-n", min=1, help="How many; 1: the last one in full.")]
    Id = Annotated[str, typer.Option("--operation", metavar="ID", help="This one in full: its id, or how it begins.")]

    @cli.group("node").command("history", listing=True)
    def history(name: Name = None, number: Number = 20, operation: Id = "") -> None:
        """Show finished flushes and unflushes, the newest first; a single one with what became of each VM."""
        coordinator = cli.connect()

        def is_meant(past: Operation) -> bool:
            return name in (None, past.node) and past.id.startswith(operation)

        found, garbage = read_history(coordinator, None if operation else number, is_meant)
        for error in garbage:
            cli.note(f"pvc: {error}")
        if name is not None and not found:
            find_node(coordinator, name)  # perhaps only the name is wrong
        if operation and len(found) != 1:
            cli.fail(_none_or_many(operation, found))
        cli.show([_row(past) for past in found], COLUMNS, one=bool(operation) or (number == 1 and bool(found)))


def outcome_rows(operation: Operation) -> list[dict[str, Any]]:
    """A row for each VM of an operation, by name."""
    return [
        {
            "vm": outcome.name,
            "state": outcome.state,
            "from": outcome.source,
            "to": outcome.target,
            "seconds": outcome.seconds,
            "memory": outcome.memory,
            "tries": list(outcome.tries),
            "why": outcome.why,
        }
        for outcome in sorted(operation.outcomes.values(), key=lambda outcome: outcome.name)
    ]


def _row(past: Operation) -> dict[str, Any]:
    took = None if past.began is None or past.finished is None else past.finished - past.began
    return {
        "operation": past.id,
        "id": past.id[:SHOWN],
        "node": past.node,
        "kind": past.kind,
        "by": past.by,
        "reason": past.reason,
        "requested": Moment(past.requested),
        "began": None if past.began is None else Moment(past.began),
        "finished": None if past.finished is None else Moment(past.finished),
        "seconds": took,
        "ended": past.phase,
        "cancelled_by": past.cancelled_by or None,
        "moved": sum(outcome.state is OutcomeState.MOVED for outcome in past.outcomes.values()),
        "of": len(past.outcomes),
        "outcomes": outcome_rows(past),
        "message": past.message,
    }


def _none_or_many(wanted: str, found: list[Operation]) -> str:
    if not found:
        return f"no finished operation has an id that begins with {wanted!r}; `pvc node history` shows the last ones"
    ids = ", ".join(past.id for past in found[:3])
    return f"{len(found)} operations have an id that begins with {wanted!r} ({ids} ...); give more of it"
