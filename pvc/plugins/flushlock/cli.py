"""`pvc node queue`, and the flush lock's part of `pvc status`."""

from collections.abc import Mapping

from pvc.core.commands import CommandLine, Moment
from pvc.core.coordination import Coordinator
from pvc.core.history import read_history
from pvc.plugins.flushlock.decide.standing import (
    Entry,
    Member,
    concurrent,
    doing,
    entries,
    expected_ends,
    lock_in_words,
    problems,
)
from pvc.plugins.flushlock.members import read_members
from pvc.plugins.flushlock.tickets import read_queue

COLUMNS = ("place", "node", "kind", "by", "since", "phase", "doing", "expected_end")


def add_commands(cli: CommandLine) -> None:
    """Add the plugin's command to the group `node`."""

    @cli.group("node").command("queue", listing=True)
    def queue() -> None:
        """Show who holds the flush lock and who waits, first come first, and when each may have ended."""
        coordinator = cli.connect()
        places = read_queue(coordinator)
        members = read_members(coordinator)
        line = entries(places, members)
        ends = expected_ends(line, read_history(coordinator)[0], cli.runtime.now())
        rows = [_row(index, entry, members, end) for index, (entry, end) in enumerate(zip(line, ends, strict=True))]
        cli.show(rows, COLUMNS)


def _row(index: int, entry: Entry, members: Mapping[str, Member], end: float | None) -> dict[str, object]:
    name = entry.place.name if entry.place is not None else None
    ticket, operation = entry.ticket, entry.operation
    if ticket is None:
        return {"place": index, "node": "?", "doing": f"ticket {name} cannot be read", "ticket": name}
    return {
        "place": index,
        "node": ticket.node,
        "kind": ticket.kind,
        "by": ticket.by,
        "since": Moment(ticket.since),
        "phase": operation.phase if operation else "",
        "doing": doing(operation, members.get(ticket.node)) if operation else "has ended, or was replaced",
        "expected_end": None if end is None else Moment(end),
        "operation": ticket.operation,
        "reason": operation.reason if operation else "",
        "ticket": name,
    }


def lock_row(coordinator: Coordinator) -> str:
    places = read_queue(coordinator)
    members = read_members(coordinator)
    return lock_in_words(entries(places, members), concurrent(members))


def problem_rows(coordinator: Coordinator) -> list[dict[str, str]]:
    places = read_queue(coordinator)
    members = read_members(coordinator)
    return [{"node": found.node, "text": found.text} for found in problems(entries(places, members), members)]
