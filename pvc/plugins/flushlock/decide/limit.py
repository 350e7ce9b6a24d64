"""Whether a flush may begin while other nodes are out of service, or would be before it."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core.model import Cancel, NodeState, Operation, OperationKind, Phase
from pvc.core.turns import Waiting


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another node as the gate's look found it."""

    name: str
    state: NodeState | None
    """None: its record cannot be read."""
    answers: bool
    """Whether its daemon holds a session."""
    critical: str = ""
    """What its first critical finding says; empty: it has none."""
    operation: Operation | None = None
    """The flush or unflush that it has in hand or had last."""


def flush_that_waits(operation: Operation, state: NodeState, others: Sequence[Neighbour], most: int) -> Waiting | None:
    """For whom a flush of a node in `state` waits so that at most `most` nodes are out of service; None: for nobody.

    An unflush, a flush that has begun, and one of a node that is out of service already make nothing worse: they never
    wait, so what a flush waits for can always go on. A flush that was asked for earlier counts too, whether or not it
    has been let in: it goes first, without any ticket.
    """
    if operation.kind is OperationKind.UNFLUSH or operation.began is not None or state is not NodeState.READY:
        return None
    out = {other.name: text for other in others if (text := why_out_of_service(other))}
    earlier = [other.name for other in others if other.name not in out and _goes_before(other, operation)]
    count = len(out) + len(earlier)
    if count < most:
        return None
    texts = [*out.values(), *(f"the flush of {name} was asked for earlier" for name in earlier)]
    nodes = "1 node is" if count == 1 else f"{count} nodes are"
    soon = " or about to be" if earlier else ""
    much = f"{nodes} out of service{soon}, and at most {most} may be (max_flushed)"
    return Waiting(f"{_listed(texts)}: {much}; {_advice(others)}", len(earlier))


def why_out_of_service(node: Neighbour) -> str:
    """Why the cluster has to do without the node, in words; empty: it serves."""
    if node.state is None:
        return f"the record of {node.name} cannot be read"
    if node.state is not NodeState.READY:
        return f"{node.name} is {node.state.value}"
    if not node.answers:
        return f"{node.name} does not answer"
    return f"{node.name} is not healthy ({node.critical})" if node.critical else ""


def _goes_before(other: Neighbour, operation: Operation) -> bool:
    """Whether the other node has a flush that was asked for earlier and has yet to begin."""
    theirs = other.operation
    return (
        theirs is not None
        and theirs.kind is OperationKind.FLUSH
        and theirs.phase is Phase.QUEUED
        and theirs.cancel is Cancel.NO
        and (theirs.requested, theirs.id) < (operation.requested, operation.id)
    )


def _advice(others: Sequence[Neighbour]) -> str:
    """What an administrator can do about what is in the way."""
    away = [other.name for other in others if other.state in (NodeState.FLUSHING, NodeState.FLUSHED)]
    if away:
        return f"when the work on it is done, `pvc node unflush {away[0]}` makes room"
    ill = [other.name for other in others if other.state is not NodeState.UNFLUSHING and why_out_of_service(other)]
    if ill:
        return f"bring {ill[0]} back, or `pvc node forget` it if it is gone for good"
    return "wait for it, or cancel it"


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
