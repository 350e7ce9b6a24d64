"""The dead man's switch: lets frames pass through this node's gateways for a while, as long as its session is proven.

So it does for routers that are made ready: their legs are down, and nothing passes until they have the ticket.

Nothing here takes or gives a gateway. Whoever else is to have one must wait for this session to expire, which is later.
"""

import logging
from collections.abc import Collection

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict
from pvc.core.runtime import Signal
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.routers import RouterError, Routers

PASSING = 0.7
"""The part of the session timeout for which frames pass after the last proof. The rest is for what ZooKeeper may count
otherwise: the servers tell the leader of a client only twice a tick, and a session has at least two ticks."""
PROOFS = 0.2
"""The part of the session timeout between two proofs."""
ENOUGH = 0.4
"""The part of the session timeout for which frames of a prepared router must pass yet, so that it may begin without
another call: the next proof comes long before."""
LONGEST = 20.0
"""Seconds of session timeout that are believed: a server may grant less than was asked for, but 40 by default."""
IDLE = 30.0
AGAIN = 1.0
ROUNDING = 0.01
"""Seconds added to a pause up to a moment: a pause too short by a rounding error would be over before the moment."""


class Tenure:
    """Service `tenure`: proves every few seconds that the tickets of this node's gateways are its own."""

    name = "tenure"
    after: tuple[str, ...] = ("liveness",)

    def __init__(self, context: Context, routers: Routers, lost: Signal) -> None:
        """`lost` is set when a ticket turns out not to be this session's."""
        self.wake: Signal = context.runtime.signal()
        self.problem = ""
        """Why frames cannot be let pass; empty: they can."""
        self._context = context
        self._coordinator = context.coordinator
        self._runtime = context.runtime
        self._log: logging.Logger = context.log
        self._routers = routers
        self._lost = lost
        self._session_timeout = min(context.config.zookeeper.session_timeout, LONGEST)
        self._between_proofs = PROOFS * self._session_timeout
        self._lock = context.runtime.mutex()
        self._joined: dict[str, float] = {}
        self._prepared: set[str] = set()
        self._proven: dict[str, float] = {}
        """Of each router that may pass frames, when what it rests on was last so: its ticket, or the session alone for
        one that is prepared."""
        self._held: frozenset[str] = frozenset()
        self._held_until = float("-inf")
        self._session = 0
        context.coordinator.listen(lambda _state: self.wake.set())

    def prepare(self, network: str) -> None:
        """Hold a router whose legs are down and stay so until the ticket is drawn: then nothing has to be held first.

        Nothing passes legs that are down; and what the kernel lets pass once they are up ends before this session can,
        as with any other router.
        """
        with self._lock:
            self._follow_session()
            if network in self._proven or not self._context.registered():
                return
        sent, session = self._runtime.monotonic(), self._coordinator.session_id
        if not self._reaches_the_leader():
            return
        with self._lock:
            self._follow_session()
            if session == self._session:
                self._prepared.add(network)
                self._proven[network] = sent
                self._hold()
        self.wake.set()

    def join(self, network: str, session: int, proven: float | None = None) -> None:
        """The ticket of a gateway is that session's: `proven` at that time, or not yet (None)."""
        with self._lock:
            self._follow_session()
            if session == self._session:
                begins_held = network in self._prepared and self._passes_long_enough(network)
                self._joined[network] = self._runtime.monotonic()
                self._prepared.discard(network)
                if proven is not None and not begins_held:
                    self._proven[network] = proven
                    self._hold()
        self.wake.set()

    def leave(self, network: str) -> None:
        """This node's router of a network is down. The next proof is without it; no call is spent on it at once."""
        with self._lock:
            self._joined.pop(network, None)
            self._prepared.discard(network)
            self._proven.pop(network, None)

    def prepared(self) -> frozenset[str]:
        """The networks whose router here is held although this node is not their gateway."""
        with self._lock:
            return frozenset(self._prepared)

    def joined(self) -> frozenset[str]:
        """The networks whose gateway this node is in the session that it has now."""
        with self._lock:
            return frozenset(self._joined) if self._session == self._coordinator.session_id else frozenset()

    def step(self) -> float:
        """Prove them all, if it is time."""
        with self._lock:
            self._follow_session()
            networks = sorted(self._joined.keys() | self._prepared)
            now = self._runtime.monotonic()
            proofs = [self._proven.get(network, float("-inf")) for network in networks]
            until = min(proofs, default=now) + self._between_proofs
        if not networks or not self._context.registered():
            return AGAIN if networks else self._let_go()
        if now < until:
            return until - now + ROUNDING
        sent, session = now, self._coordinator.session_id
        if not self._reaches_the_leader():
            return AGAIN
        tickets = self._coordinator.get_many([keys.gateway_ticket(network) for network in networks])
        own = {network for network, ticket in zip(networks, tickets, strict=True) if ticket and ticket.owner == session}
        if self._coordinator.session_id == session:
            self._note(sent, networks, own)
        return self._between_proofs

    def stop(self) -> None:
        """What passes goes on until its time is over."""

    def _reaches_the_leader(self) -> bool:
        """A read alone proves nothing: a server that is cut off from the others answers it from what it remembers."""
        try:
            self._coordinator.commit([Check(core.node_session(self._context.node))])
        except Conflict:
            return False
        return True

    def _note(self, sent: float, networks: Collection[str], own: Collection[str]) -> None:
        with self._lock:
            asked = [network for network in networks if self._joined.get(network, sent) < sent]
            lost = [network for network in asked if network not in own]
            self._proven.update({network: sent for network in asked if network in own})
            self._proven.update(dict.fromkeys(self._prepared.intersection(networks), sent))
            for network in lost:
                self._joined.pop(network)
                self._proven.pop(network, None)
            self._hold()
        if lost:
            self._log.warning("the gateway of %s is this node's no longer", ", ".join(lost))
            self._lost.set()

    def _follow_session(self) -> None:
        """With another session every ticket is gone."""
        session = self._coordinator.session_id
        if session == self._session:
            return
        if self._joined or self._prepared:
            self._joined.clear()
            self._prepared.clear()
            self._proven.clear()
            self._hold()
            self._lost.set()
        self._session = session

    def _passes_long_enough(self, network: str) -> bool:
        """Whether the kernel lets a router's frames pass until the next proof and well beyond."""
        left = self._held_until - self._runtime.monotonic()
        return network in self._held and left >= ENOUGH * self._session_timeout

    def _let_go(self) -> float:
        """Nobody is to be held any more: say so once."""
        with self._lock:
            if self._held and not self._proven:
                self._hold()
        return IDLE

    def _hold(self) -> None:
        """For as long as the oldest proof allows, so never for longer than any of them does."""
        until = min(self._proven.values(), default=float("-inf")) + PASSING * self._session_timeout
        left = until - self._runtime.monotonic()
        networks = frozenset(self._proven) if left > 0 else frozenset()
        self._held = frozenset()
        try:
            self._routers.hold(sorted(networks), max(left, 0.0))
            if networks and self._runtime.monotonic() >= until:
                networks = frozenset()  # stopped in between: the kernel began to count too late
                self._routers.hold((), 0.0)
        except RouterError as error:
            self.problem = str(error)
        else:
            self._held, self._held_until = networks, until
            self.problem = ""
