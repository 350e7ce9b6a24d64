"""The flush lock as a gate: fair, bound to the session, never stuck.

An operation draws an ephemeral, sequential ticket and goes when no more than `concurrent - 1` tickets are before it.
The guard demands the ticket in every transaction: when the session dies the ticket goes, and with it the right to
commit. A restarted daemon takes over its own ticket in place rather than waiting for itself.
"""

import logging
from collections.abc import Callable, Sequence

from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Delete
from pvc.core.mirror import Mirror
from pvc.core.model import Operation
from pvc.core.records import encode
from pvc.core.turns import Entered, Refused, Waiting
from pvc.plugins.flushlock import keys
from pvc.plugins.flushlock.decide.queue import Draw, Hold, Place, Queue, Renew, next_step, ticket_of
from pvc.plugins.flushlock.tickets import read_queue


class FlushLock:
    """The gate of one node's daemon."""

    name = "flushlock"
    exclusive = True

    def __init__(
        self, coordinator: Coordinator, mirror: Mirror, log: logging.Logger, concurrent: Callable[[], int]
    ) -> None:
        """`concurrent`: how many operations may move VMs together, asked for at each look."""
        self._coordinator = coordinator
        self._mirror = mirror
        self._log = log
        self._concurrent = concurrent
        self._held: dict[str, str] = {}

    def enter(self, operation: Operation) -> Entered | Waiting | Refused:
        while True:
            self._held.pop(operation.id, None)
            step = next_step(read_queue(self._mirror), operation.id, self._coordinator.session_id, self._concurrent())
            match step:
                case Hold(name):
                    self._held[operation.id] = name
                    return Entered()
                case Queue(_, before):
                    return _waiting(before)
                case Draw():
                    self._draw(operation)
                case Renew(name):
                    self._renew(operation, name)
            self._mirror.forget()

    def foresee(self, operation: Operation) -> Entered | Waiting | Refused:
        queue = read_queue(self._mirror)
        return _waiting(queue) if len(queue) >= self._concurrent() else Entered()

    def guard(self, operation: Operation) -> Sequence[Check]:
        name = self._held.get(operation.id)
        return [Check(keys.ticket(name) if name else keys.PREFIX + "none")]

    def leave(self, operation: Operation) -> None:
        self._held.pop(operation.id, None)
        for place in read_queue(self._coordinator):
            if place.ticket is not None and place.ticket.operation == operation.id:
                try:
                    self._coordinator.commit([Delete(keys.ticket(place.name))])
                except Conflict:  # gone already, with the session it belonged to
                    continue

    def _draw(self, operation: Operation) -> None:
        ticket = Create(keys.PREFIX, encode(ticket_of(operation)), ephemeral=True, sequence=True)
        try:
            self._coordinator.commit([ticket])
        except Conflict as conflict:
            if conflict.clash is not Clash.MISSING:
                raise
            self._make_queue()
            self._coordinator.commit([ticket])

    def _make_queue(self) -> None:
        try:
            self._coordinator.commit([Create(keys.QUEUE)])
        except Conflict as conflict:
            if conflict.clash is not Clash.EXISTS:
                raise

    def _renew(self, operation: Operation, name: str) -> None:
        path = keys.ticket(name)
        try:
            self._coordinator.commit([Delete(path), Create(path, encode(ticket_of(operation)), ephemeral=True)])
            self._log.info("flush lock: took over our own ticket %s from an earlier session", name)
        except Conflict:  # it has just expired: the next look draws a new one
            return


def _waiting(before: Sequence[Place]) -> Waiting:
    first = before[0]
    return Waiting(_in_words(first), len(before), first.ticket.since if first.ticket else None)


def _in_words(place: Place) -> str:
    if place.ticket is None:
        return f"the flush lock is held by ticket {place.name}, which cannot be read"
    ticket = place.ticket
    return f"the flush lock is held by the {ticket.kind.value} of {ticket.node} by {ticket.by}"
