"""How the lock stands: who holds it, who waits, when it may be over, and what is wrong, in words."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pvc.core.commands import when
from pvc.core.decide.pace import moves_at_a_time, seconds_left
from pvc.core.model import FINAL, Operation, OutcomeState, Phase
from pvc.plugins.flushlock.decide.queue import Place, Ticket, ticket_of

PLUGIN = "flushlock"


@dataclass(frozen=True, slots=True)
class Member:
    """One node of the cluster, as far as the lock is concerned."""

    name: str
    session: int
    """The session of its daemon; 0: it does not answer."""
    takes_turns: bool
    """Whether its daemon has the flush lock."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """What it publishes of its section of pvc.yaml."""
    operation: Operation | None = None
    """The flush or unflush that it has in hand or had last."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One place of the queue, with or without a ticket."""

    ticket: Ticket | None
    """What its ticket says, or would say; None: it cannot be read."""
    place: Place | None
    """None: the operation holds no ticket, because it waits elsewhere or its daemon is away."""
    operation: Operation | None
    """None: the ticket cannot be read, or its operation is not the one that its node has in hand."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that keeps the lock from going round, and what to do about it."""

    node: str
    text: str


def entries(queue: Sequence[Place], members: Mapping[str, Member]) -> list[Entry]:
    """Tickets in their order, then active operations without a ticket in the order of request."""
    found = [Entry(place.ticket, place, _operation_of(place.ticket, members)) for place in queue]
    listed = {place.ticket.operation for place in queue if place.ticket is not None}
    others = [member.operation for member in members.values() if member.operation is not None]
    free = [operation for operation in others if operation.phase not in FINAL and operation.id not in listed]
    free.sort(key=lambda operation: (operation.requested, operation.id))
    return [*found, *(Entry(ticket_of(operation), None, operation) for operation in free)]


def expected_ends(line: Sequence[Entry], history: Sequence[Operation], now: float) -> list[float | None]:
    """When each is expected to end, in seconds since the epoch; None: unknown."""
    ends: list[float | None] = []
    for entry in line:
        operation = entry.operation
        if operation is None or entry.place is None:
            ends.append(None)
            continue
        left = seconds_left(operation, history, now, moves_at_a_time(operation))
        if operation.phase is not Phase.QUEUED:
            ends.append(None if left is None else now + left)
            continue
        before = [end for end in ends if end is not None]
        ends.append(max([now, *before]) + left if left is not None and len(before) == len(ends) else None)
    return ends


def concurrent(members: Mapping[str, Member]) -> int:
    """How many operations may have the lock together, as the nodes that answer publish it."""
    published = [member.settings.get("concurrent", "") for member in members.values() if member.session]
    return max((int(value) for value in published if value.isdigit()), default=1)


def lock_in_words(line: Sequence[Entry], at_a_time: int) -> str:
    """Who holds the lock and how many wait, in one sentence."""
    tickets = [entry for entry in line if entry.place is not None]
    holders = [_holder_in_words(entry) for entry in tickets[:at_a_time]]
    waiting = len(line) - len(holders)
    said = [*holders, *([f"{waiting} waiting"] if waiting else [])]
    return "; ".join(said if holders else ["free", *said])


def doing(operation: Operation, member: Member | None) -> str:
    """What an operation does at the moment."""
    if member is not None and not member.session:
        return "its daemon does not answer"
    if operation.waiting:
        return operation.waiting
    moving = [f"{o.name} -> {o.target}" for o in operation.outcomes.values() if o.state is OutcomeState.MOVING]
    return _moved(operation) + (f", moving {', '.join(moving)}" if moving else "")


def problems(line: Sequence[Entry], members: Mapping[str, Member]) -> list[Problem]:
    """What is wrong with the lock."""
    found = [_ticket_problem(entry.place, entry.operation, members) for entry in line if entry.place is not None]
    found += [
        _ticketless_problem(entry.operation, members.get(entry.operation.node))
        for entry in line
        if entry.place is None and entry.operation is not None
    ]
    return [*(problem for problem in found if problem is not None), *_disagreements(members)]


def _operation_of(ticket: Ticket | None, members: Mapping[str, Member]) -> Operation | None:
    """The operation of a ticket, if it is the one that its node has in hand."""
    member = members.get(ticket.node) if ticket is not None else None
    operation = member.operation if member is not None else None
    if operation is None or ticket is None or operation.id != ticket.operation:
        return None
    return operation if operation.phase not in FINAL else None


def _holder_in_words(entry: Entry) -> str:
    ticket = entry.ticket
    if ticket is None:
        return "held by a ticket that cannot be read"
    did = f": {_moved(entry.operation)}" if entry.operation is not None else ""
    return f"held by the {ticket.kind.value} of {ticket.node} by {ticket.by} since {when(ticket.since)}{did}"


def _moved(operation: Operation) -> str:
    if not operation.outcomes:
        return operation.phase.value
    done = sum(outcome.state is OutcomeState.MOVED for outcome in operation.outcomes.values())
    return f"{done} of {len(operation.outcomes)} moved"


def _ticket_problem(place: Place, operation: Operation | None, members: Mapping[str, Member]) -> Problem | None:
    ticket = place.ticket
    if ticket is None:
        owner = next((member.name for member in members.values() if member.session == place.owner), "")
        goes = f"the daemon of {owner}; restart it" if owner else "a daemon that is gone; if it stays, delete it"
        return Problem(owner, f"ticket {place.name} cannot be read; it goes with the session of {goes}")
    member = members.get(ticket.node)
    session = member.session if member is not None else 0
    its = f"ticket {place.name} of {ticket.node}"
    if not session:
        again = f"the {ticket.kind.value} takes a new turn when the daemon is back"
        return Problem(ticket.node, f"{its}: its daemon does not answer; it goes when that session ends, and {again}")
    if operation is None:
        return Problem(
            ticket.node,
            f"{its}: its operation has ended or was replaced; it goes with the session of the daemon: restart pvcd "
            f"on {ticket.node} if it stays",
        )
    if session != place.owner:
        return Problem(
            ticket.node,
            f"{its}: it is of an earlier session of the daemon, which takes it over; restart pvcd there if it stays",
        )
    return None


def _ticketless_problem(operation: Operation, member: Member | None) -> Problem | None:
    its = f"the {operation.kind.value} of {operation.node}"
    if member is None or not member.session:
        return Problem(operation.node, f"{its} stands still: its daemon does not answer; start pvcd there")
    return Problem(operation.node, f"{its} waits: {operation.waiting}") if operation.waiting else None


def _disagreements(members: Mapping[str, Member]) -> Iterator[Problem]:
    """Where nodes that answer are not configured alike."""
    alive = [member for member in members.values() if member.session]
    having = [member for member in alive if member.takes_turns]
    for key in sorted({key for member in having for key in member.settings}):
        names: dict[str, list[str]] = {}
        for member in having:
            names.setdefault(member.settings.get(key, "unknown"), []).append(member.name)
        if len(names) > 1:
            said = "; ".join(f"{value} on {', '.join(which)}" for value, which in sorted(names.items()))
            yield Problem("", f"{PLUGIN}.{key} differs: {said}; make it the same in pvc.yaml on all nodes")
    without = [member.name for member in alive if not member.takes_turns]
    if having and without:
        yield Problem(
            "", f"{', '.join(without)} flush without taking turns; set plugins.{PLUGIN}: true in pvc.yaml there"
        )
