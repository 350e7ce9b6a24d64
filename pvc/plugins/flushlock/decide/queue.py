"""Who may go: the queue of tickets, read as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core.model import Operation, OperationKind


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket's node holds."""

    node: str
    operation: str
    kind: OperationKind
    by: str
    since: float
    """When the operation was asked for, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Place:
    """One ticket in the queue."""

    name: str
    """Its name in the tree."""
    owner: int
    """The session that it lives and dies with."""
    ticket: Ticket | None
    """None: its content cannot be read; it keeps its place all the same."""


@dataclass(frozen=True, slots=True)
class Draw:
    """Draw a ticket: the operation has none."""


@dataclass(frozen=True, slots=True)
class Renew:
    """Take over the operation's own ticket, left by an earlier session of this daemon; its place is kept."""

    name: str


@dataclass(frozen=True, slots=True)
class Hold:
    """The operation's ticket is among the first: it may go."""

    name: str


@dataclass(frozen=True, slots=True)
class Queue:
    """Others are before it."""

    name: str
    before: tuple[Place, ...]


def ticket_of(operation: Operation) -> Ticket:
    """What the ticket of an operation says."""
    return Ticket(operation.node, operation.id, operation.kind, operation.by, operation.requested)


def next_step(queue: Sequence[Place], operation: str, session: int, concurrent: int) -> Draw | Renew | Hold | Queue:
    """What to do for an operation, given the tickets in order.

    Only a ticket of the present session counts: one of an earlier session may vanish at any moment.
    """
    for index, place in enumerate(queue):
        if place.ticket is not None and place.ticket.operation == operation:
            if place.owner != session:
                return Renew(place.name)
            return Hold(place.name) if index < concurrent else Queue(place.name, tuple(queue[:index]))
    return Draw()
