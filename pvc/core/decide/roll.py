"""The next step of a roll with one node, judged by what the cluster says now and only then by what was recorded."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvc.core.model import (
    FINAL,
    Node,
    NodeFacts,
    NodeSession,
    NodeState,
    Operation,
    OperationKind,
    Phase,
    Severity,
)
from pvc.core.rolls import Roll, RollNode, RollState


@dataclass(frozen=True, slots=True)
class Sight:
    """One node as the cluster describes it at one moment."""

    node: Node
    alive: bool
    """Its daemon is registered."""
    operation: Operation | None
    """In hand, or the last one."""


@dataclass(frozen=True, slots=True)
class Pulse:
    """What tells whether a node is well."""

    session: NodeSession | None
    """The daemon that holds the node's name."""
    registered: float = 0.0
    """When it did, in seconds on the server's clock."""
    facts: NodeFacts | None = None
    published: float = 0.0
    """When it last published them, on the same clock."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask for an operation."""

    kind: OperationKind


@dataclass(frozen=True, slots=True)
class Follow:
    """The operation is asked for: follow it to its end."""

    operation: Operation


@dataclass(frozen=True, slots=True)
class Mark:
    """It has come to that state already: record it."""

    state: RollState


@dataclass(frozen=True, slots=True)
class RunCommand:
    """The node is empty: run the command, or wait for the person."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """The command was begun, and did not end well or it is not known how it ended: only a person knows what to do."""


@dataclass(frozen=True, slots=True)
class Recover:
    """Wait until the node is well."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Go no further."""

    why: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The node is done."""


Step = Ask | Follow | Mark | RunCommand | Doubt | Recover | Stop | Finished


def next_step(entry: RollNode, sight: Sight, others_out: Sequence[str]) -> Step:
    """What to do next with a node. `others_out`: why other nodes of the cluster are out of service."""
    match entry.state:
        case RollState.DONE:
            return Finished()
        case RollState.WAITING:
            return _first(sight, others_out)
        case RollState.FLUSHING | RollState.FLUSHED:
            return _until_flushed(entry, sight)
        case RollState.RUNNING:
            return Doubt()
        case RollState.RAN:
            return Recover() if _active(sight.operation) is None else _operate(OperationKind.UNFLUSH, entry, sight)
        case RollState.UNFLUSHING:
            return _operate(OperationKind.UNFLUSH, entry, sight)


def _first(sight: Sight, others_out: Sequence[str]) -> Step:
    if why := out_of_service(sight):
        return Stop(f"{why}, and not by this roll")
    if others_out:
        return Stop(f"other nodes are out of service: {'; '.join(others_out)}")
    return Ask(OperationKind.FLUSH)


def _until_flushed(entry: RollNode, sight: Sight) -> Step:
    if sight.node.state is not NodeState.FLUSHED or _active(sight.operation) is not None:
        return _operate(OperationKind.FLUSH, entry, sight)
    return RunCommand() if entry.state is RollState.FLUSHED else Mark(RollState.FLUSHED)


def _operate(kind: OperationKind, entry: RollNode, sight: Sight) -> Step:
    operation = sight.operation
    active = _active(operation)
    if active is not None and active.kind is not kind:
        return Stop(f"{active.node} has a running {active.kind.value} by {active.by}")
    if active is not None:
        return Follow(active)
    if operation is not None and operation.id == entry.operation and operation.kind is kind and not _undone(operation):
        return Follow(operation)
    if not sight.alive:
        return Stop(f"the daemon of {entry.name} does not answer")
    return Ask(kind)


def _undone(operation: Operation) -> bool:
    """Whether a flush has ended well, and yet the node was found not flushed: somebody has put it back since."""
    return operation.kind is OperationKind.FLUSH and operation.phase is Phase.DONE


def out_of_service(sight: Sight) -> str:
    """Why a node is not in service; empty: it is."""
    name, active = sight.node.name, _active(sight.operation)
    if not sight.alive:
        return f"the daemon of {name} does not answer"
    if active is not None:
        return f"{name} has a {active.kind.value} by {active.by}"
    if sight.node.state is not NodeState.READY:
        last = f" (the last {sight.operation.kind.value} was by {sight.operation.by})" if sight.operation else ""
        return f"{name} is {sight.node.state.value}{last}"
    return ""


def ailment(name: str, pulse: Pulse, before: NodeSession | None, reboots: bool) -> str:
    """What is wrong with a node after the command; empty: it is well. `before`: its daemon when the command began."""
    session, facts = pulse.session, pulse.facts
    if session is None:
        return f"the daemon of {name} does not answer"
    if reboots and before is not None and session.boot == before.boot:
        return f"{name} has not rebooted"
    # What a daemon says that was started meanwhile counts once it has said something itself.
    if facts is None or (session != before and pulse.published < pulse.registered):
        return f"the daemon of {name} has not said yet how it is"
    critical = [f"{f.source}: {f.text}" for f in facts.findings if f.severity is Severity.CRITICAL]
    return f"{name} has critical findings: {'; '.join(critical)}" if critical else ""


def resumed(roll: Roll) -> Roll:
    """The roll as somebody goes on with it: what has stopped it is done again, what is under way is followed."""
    return replace(roll, nodes=tuple(_resumed(entry, roll.options.command is None) for entry in roll.nodes))


def _resumed(entry: RollNode, pauses: bool) -> RollNode:
    if entry.state is RollState.RUNNING:  # a person may be asked twice, a command is not repeated unasked
        return replace(entry, why="", state=RollState.FLUSHED) if pauses else replace(entry, why="")
    if not entry.why:
        return entry
    state = RollState.RAN if entry.state is RollState.UNFLUSHING else entry.state
    return replace(entry, why="", operation=None, state=state)


def standing(roll: Roll) -> str:
    """Where a roll is, in words."""
    done = sum(entry.state is RollState.DONE for entry in roll.nodes)
    current = next((entry for entry in roll.nodes if entry.state is not RollState.DONE), None)
    if current is None:
        return f"all of {len(roll.nodes)} nodes are done"
    stopped = f", stopped: {current.why}" if current.why else ""
    return f"{current.name} ({done + 1} of {len(roll.nodes)}): {doing(roll, current)}{stopped}"


def doing(roll: Roll, entry: RollNode) -> str:
    """How far a roll is with one node, in words."""
    what = "the pause" if roll.options.command is None else "the command"
    match entry.state:
        case RollState.RUNNING:
            return f"flushed, {what} has begun" if entry.code is None else f"flushed, {what} ended with {entry.code}"
        case RollState.RAN:
            return f"still flushed, {what} is over"
        case _:
            return str(entry.state.value)


def _active(operation: Operation | None) -> Operation | None:
    return operation if operation is not None and operation.phase not in FINAL else None
