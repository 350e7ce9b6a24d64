"""What a flush does with this node's gateways before its VMs go, and what an unflush brings back after them.

It only asks: the holder hands a gateway over, and only to a node that is ready (`service.py`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict, Put
from pvc.core.forecast import Forecast, Prospect
from pvc.core.mirror import Mirror
from pvc.core.model import Operation, OperationKind, Outcome, OutcomeState
from pvc.core.records import encode
from pvc.core.turns import Progress, Turn
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.candidates import read_candidates
from pvc.plugins.networking.gateway.decide.election import Candidate, Wanted, load_of, objection, ranked
from pvc.plugins.networking.gateway.decide.moves import Choice, Move, key_of, restored, vacated
from pvc.plugins.networking.gateway.decide.wanted import has_gateway
from pvc.plugins.networking.records import Gateway, Network, decoded, read_networks

LOOK = 2.0
"""Seconds between looks while a gateway is on its way and nothing happens."""
UNDER_WAY = (OutcomeState.WAITING, OutcomeState.MOVING)


class GatewayMoves:
    """Flush step `gateways`."""

    name = "gateways"
    after: tuple[str, ...] = ()

    def __init__(self, context: Context) -> None:
        self._me = context.node
        self._context = context
        self._coordinator = context.coordinator
        self._mirror = Mirror(context.coordinator, context.runtime, context.operations_wake)

    def vacate(self, turn: Turn) -> Progress:
        for network, (record, version) in self._gateways().items():
            if record.next == self._me and record.node != self._me:  # of an unflush before this flush
                self._put(turn, network, replace(record, next=None), version)
            if turn.abort and record.node == self._me and record.next is not None:
                self._put(turn, network, replace(record, next=None), version)
        return self._go_on(turn)

    def restore(self, turn: Turn) -> Progress:
        if turn.operation.skip or turn.operation.only:
            return Progress(finished=True)
        return self._go_on(turn)

    def foresee(self, operation: Operation) -> Forecast:
        if operation.kind is OperationKind.UNFLUSH and (operation.skip or operation.only):
            return Forecast()
        moves = self._moves(replace(operation, outcomes={}), stopping=False)
        return Forecast(tuple(_prospect(key_of(network), move) for network, move in moves.items() if move.outcome))

    def _go_on(self, turn: Turn) -> Progress:
        moves = self._moves(turn.operation, stopping=turn.stopping)
        if not _under_way(moves.values()):  # a final state is never written from a belief: look again
            self._mirror.forget()
            moves = self._moves(turn.operation, stopping=turn.stopping)
        asked = [self._ask(turn, network, move.order) for network, move in moves.items() if move.order]
        outcomes = {key_of(network): move.outcome for network, move in moves.items() if move.outcome}
        if not all(asked):
            self._mirror.forget()
            return Progress(turn.operation.outcomes, pause=0.1)
        left = [f"{one.name}: {one.why}" for one in outcomes.values() if one.state is OutcomeState.KEPT]
        finished = not _under_way(moves.values())
        return Progress(outcomes, finished=finished, left=tuple(left) if finished else (), pause=LOOK)

    def _moves(self, operation: Operation, *, stopping: bool) -> dict[str, Move]:
        networks, gateways = read_networks(self._mirror), self._gateways()
        now, found, promised = (
            self._context.runtime.now(),
            {},
            load_of([r.node for r, _ in gateways.values() if r.node]),
        )
        for name, (record, _) in gateways.items():
            before = operation.outcomes.get(key_of(name))
            if operation.kind is OperationKind.UNFLUSH:
                why = self._why_not_here(name) if record.home == self._me != record.node else ""
                found[name] = restored(self._me, name, record, before, why, now, stopping=stopping)
                continue
            choose = partial(self._choice, name, networks.get(name), promised)
            found[name] = vacated(self._me, name, record, before, choose, now, stopping=stopping)
            if (target := found[name].order) is not None:
                promised[target] = promised.get(target, 0) + 1
        return found

    def _gateways(self) -> dict[str, tuple[Gateway, int]]:
        """Of each network that has a gateway's address and has had a holder, the record and its version."""
        names = [name for name, network in read_networks(self._mirror).items() if has_gateway(network)]
        self._mirror.prefetch(keys.gateway(name) for name in names)
        found = {}
        for name in names:
            znode = self._mirror.get(keys.gateway(name))
            record = decoded(Gateway, znode.data, keys.gateway(name)) if znode else None
            if znode is not None and record is not None:
                found[name] = (record, znode.version)
        return found

    def _choice(self, name: str, network: Network | None, load: Mapping[str, int]) -> Choice:
        others = read_candidates(self._coordinator, [self._me])
        upstream = network.upstream.network if network and network.upstream else ""
        why = "; ".join(f"{one.name} {objection(one, name)}" for one in others if objection(one, name))
        return Choice(ranked(Wanted(name, upstream), others, load), why or "no other node has the networking role")

    def _why_not_here(self, name: str) -> str:
        """Why this node cannot have a gateway, whatever its own state."""
        own = [one for one in read_candidates(self._coordinator) if one.name == self._me]
        return objection(replace(own[0], why_not=""), name) if own else "this node has no record"

    def _ask(self, turn: Turn, name: str, target: str) -> bool:
        """Ask a node to make the gateway ready; whether all was as it had been read."""
        found = self._gateways().get(name)
        if found is None:
            return False
        record, version = found
        return self._put(turn, name, replace(record, next=target), version, self._as_chosen(target))

    def _as_chosen(self, target: str) -> list[Check]:
        """The target must be alive, and no flush of it asked for, at the moment of the transaction."""
        if target == self._me:
            return []
        candidates: dict[str, Candidate] = {one.name: one for one in read_candidates(self._coordinator)}
        version = candidates[target].version if target in candidates and not candidates[target].why_not else 0
        return [Check(core.node(target), version), Check(core.node_session(target))]

    def _put(self, turn: Turn, name: str, record: Gateway, version: int, checks: Iterable[Check] = ()) -> bool:
        try:
            turn.commit([*checks, Put(keys.gateway(name), encode(record), version)])
        except Conflict as conflict:
            self._context.log.debug("gateway %s: %s; looking again", name, conflict)
            return False
        finally:
            self._mirror.drop(keys.gateway(name))
        if record.next:
            self._context.log.info("gateway %s: ordered from %s to %s", name, record.node, record.next)
        return True


def _under_way(moves: Iterable[Move]) -> bool:
    return any(move.outcome is not None and move.outcome.state in UNDER_WAY for move in moves)


def _prospect(key: str, move: Move) -> Prospect:
    outcome = move.outcome or Outcome("", OutcomeState.LEFT_ALONE)
    kept = outcome.state is OutcomeState.KEPT
    advice = "have another node with the networking role in service" if kept else ""
    target = None if kept else outcome.target
    return Prospect(key, outcome.name, "live", outcome.source, target, why=outcome.why, advice=advice, stays=kept)
