"""Reads how things stand with gateways, and counts the time for which they have stood so. Decides nothing."""

from dataclasses import dataclass

from pvc.core import keys as core
from pvc.core.coordination import Znode
from pvc.core.mirror import Mirror
from pvc.core.runtime import Runtime
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.decide.election import Standing, Ticket
from pvc.plugins.networking.records import Gateway, Ready, decoded


@dataclass(frozen=True, slots=True)
class Case:
    """One gateway as it was read."""

    standing: Standing
    version: int | None
    """Of the record; None: there is none yet."""
    ticket: Znode | None
    ready: bool
    """Somebody says that it is ready."""


class CaseBook:
    """What one node knows of all gateways."""

    def __init__(self, me: str, mirror: Mirror, runtime: Runtime) -> None:
        self._me = me
        self._mirror = mirror
        self._runtime = runtime
        self._orphans: dict[str, tuple[int | None, float]] = {}
        self._asked: dict[str, tuple[str, float]] = {}

    def of(self, name: str, wanted: bool, session: int) -> Case:
        """How things stand with the gateway of a network, for the session that this node has. Raises Disconnected."""
        znode, ticket = self._mirror.get(keys.gateway(name)), self._mirror.get(keys.gateway_ticket(name))
        record = (decoded(Gateway, znode.data, keys.gateway(name)) if znode else None) or Gateway()
        version = znode.version if znode else None
        ready = self._mirror.get(keys.gateway_ready(name)) if record.next else None
        said = decoded(Ready, ready.data, keys.gateway_ready(name)) if ready else None
        standing = Standing(
            wanted=wanted,
            record=record,
            ticket=self._whose(ticket, record, session),
            ready=said.node if said else "",
            orphaned=self._orphaned(name, version, ticket),
            asked=self._asked_for(name, record.next),
            next_lives=bool(record.next and self._mirror.get(core.node_session(record.next))),
        )
        return Case(standing, version, ticket, ready is not None)

    def _whose(self, ticket: Znode | None, record: Gateway, session: int) -> Ticket:
        if ticket is None:
            return Ticket.NONE
        if ticket.owner == session:
            return Ticket.OURS
        return Ticket.STALE if record.node == self._me else Ticket.THEIRS

    def _orphaned(self, name: str, version: int | None, ticket: Znode | None) -> float:
        """Counted anew when anybody has written the record meanwhile."""
        now = self._runtime.monotonic()
        if ticket is not None:
            self._orphans.pop(name, None)
            return 0.0
        if name not in self._orphans or self._orphans[name][0] != version:
            self._orphans[name] = (version, now)
        return now - self._orphans[name][1]

    def _asked_for(self, name: str, chosen: str | None) -> float:
        now = self._runtime.monotonic()
        if chosen is None:
            self._asked.pop(name, None)
            return 0.0
        if name not in self._asked or self._asked[name][0] != chosen:
            self._asked[name] = (chosen, now)
        return now - self._asked[name][1]
