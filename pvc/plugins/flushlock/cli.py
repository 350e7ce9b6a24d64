"""`pvc node queue`: who holds the flush lock and who waits for it."""

from pvc.core import keys as core_keys
from pvc.core.commands import CommandLine, Moment
from pvc.core.coordination import Coordinator
from pvc.core.model import Operation
from pvc.core.records import Garbage, decode
from pvc.plugins.flushlock.decide.queue import Place
from pvc.plugins.flushlock.tickets import read_queue

COLUMNS = ("place", "node", "kind", "by", "since", "phase", "doing")


def add_commands(cli: CommandLine) -> None:
    """Add the plugin's command to the group `node`."""

    @cli.group("node").command("queue", listing=True)
    def queue() -> None:
        """Show who holds the flush lock and who waits for it, first come first."""
        coordinator = cli.connect()
        places = read_queue(coordinator)
        cli.show([_row(coordinator, index, place) for index, place in enumerate(places)], COLUMNS)


def _row(coordinator: Coordinator, index: int, place: Place) -> dict[str, object]:
    ticket = place.ticket
    if ticket is None:
        return {"place": index, "node": "?", "doing": f"ticket {place.name} cannot be read", "ticket": place.name}
    operation = _operation(coordinator, ticket.node)
    current = operation is not None and operation.id == ticket.operation
    return {
        "place": index,
        "node": ticket.node,
        "kind": ticket.kind.value,
        "by": ticket.by,
        "since": Moment(ticket.since),
        "phase": operation.phase.value if operation and current else "",
        "doing": _doing(operation) if operation and current else "",
        "operation": ticket.operation,
        "reason": operation.reason if operation and current else "",
        "ticket": place.name,
    }


def _operation(coordinator: Coordinator, node: str) -> Operation | None:
    path = core_keys.node_operation(node)
    znode = coordinator.get(path)
    try:
        return None if znode is None else decode(Operation, znode.data, path)
    except Garbage:
        return None


def _doing(operation: Operation) -> str:
    if operation.waiting:
        return operation.waiting
    moving = [f"{o.name} -> {o.target}" for o in operation.outcomes.values() if o.state.value == "moving"]
    done = sum(o.state.value == "moved" for o in operation.outcomes.values())
    return f"{done} of {len(operation.outcomes)} moved" + (f", moving {', '.join(moving)}" if moving else "")
