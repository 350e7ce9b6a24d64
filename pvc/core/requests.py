"""What clients ask of a node: a flush, an unflush, the end of either. Asking twice is the same as asking once."""

from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.coordination import Conflict, Coordinator, Create, Op, Put, Znode
from pvc.core.errors import PvcError
from pvc.core.model import FINAL, Cancel, Node, Operation
from pvc.core.records import decode, encode

TRIES = 10
"""How often a request is repeated when the node's daemon writes at the same moment."""


class OppositeRunning(PvcError):
    """The opposite operation is under way: it must be cancelled, and have ended, first."""

    def __init__(self, operation: Operation) -> None:
        super().__init__(
            f"{operation.node} has a running {operation.kind.value}; "
            f"cancel it with `pvc node cancel {operation.node}` or wait for its end"
        )
        self.operation = operation


@dataclass(frozen=True, slots=True)
class Asked:
    """The answer to a request: the operation, and whether it was running already."""

    operation: Operation
    attached: bool


def read_operation(coordinator: Coordinator, node: str) -> tuple[Operation, Znode] | None:
    """The operation that the node has in hand or had last. Raises Garbage, Disconnected."""
    path = keys.node_operation(node)
    znode = coordinator.get(path)
    return None if znode is None else (decode(Operation, znode.data, path), znode)


def request(coordinator: Coordinator, wanted: Operation) -> Asked:
    """Ask a node for an operation; attaches to an active one of the same kind.

    Raises OppositeRunning, Conflict if the records keep changing, Disconnected, Garbage.
    """
    for attempt in range(TRIES):
        current = read_operation(coordinator, wanted.node)
        if current is not None and current[0].phase not in FINAL:
            if current[0].kind is not wanted.kind:
                raise OppositeRunning(current[0])
            return Asked(current[0], attached=True)
        try:
            coordinator.commit(request_ops(coordinator, wanted, current[1] if current else None))
            return Asked(wanted, attached=False)
        except Conflict:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def cancel(coordinator: Coordinator, node: str, how: Cancel, by: str) -> Operation | None:
    """Ask the active operation of a node to end; the operation, or None if none is active.

    Raises Conflict if the record keeps changing, Disconnected, Garbage.
    """
    for attempt in range(TRIES):
        current = read_operation(coordinator, node)
        if current is None or current[0].phase in FINAL:
            return None
        operation, znode = current
        if operation.cancel is Cancel.NOW:  # nothing lowers that
            return operation
        asked = replace(operation, cancel=how, cancelled_by=by)
        try:
            coordinator.commit([Put(keys.node_operation(node), encode(asked), znode.version)])
            return asked
        except Conflict:
            if attempt == TRIES - 1:
                raise
    raise AssertionError("unreachable")


def request_ops(coordinator: Coordinator, wanted: Operation, old: Znode | None) -> list[Op]:
    """What writes the operation, and the node's record with it: placements that read the record earlier then fail.

    `old` is the node's ended operation as it was read. Raises PvcError if there is no such node, Disconnected, Garbage.
    """
    path = keys.node(wanted.node)
    znode = coordinator.get(path)
    if znode is None:
        raise PvcError(f"there is no node {wanted.node}; `pvc node list` shows them all")
    node = replace(decode(Node, znode.data, path), operation=wanted.id)
    data, at = encode(wanted), keys.node_operation(wanted.node)
    operation = Create(at, data) if old is None else Put(at, data, old.version)
    return [Put(path, encode(node), znode.version), operation]
