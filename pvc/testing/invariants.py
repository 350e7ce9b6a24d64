"""Watches a simulated cluster for broken promises, at every transaction and at the end. Never changes anything.

It knows what has happened from the transactions alone, so it does not believe what the code under test believes.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pvc.core import keys
from pvc.core.coordination import Create, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.model import (
    FINAL,
    NODE_MOVES,
    PHASE_MOVES,
    ActualState,
    Node,
    NodeFacts,
    NodeState,
    Operation,
    OperationKind,
    Policy,
    Vm,
    VmActual,
    VmState,
)
from pvc.core.records import Garbage, decode
from pvc.plugins.flushlock import keys as lock_keys
from pvc.plugins.flushlock.decide.queue import Ticket
from pvc.testing.cluster import Log, SimCluster
from pvc.testing.ledger import unaccounted
from pvc.testing.runtime import World

T = TypeVar("T")

BEGUN = frozenset({ActualState.MIGRATING, ActualState.STOPPING})
"""States of a VM in which the move that was ordered has begun."""


STALE = 40.0
"""Seconds after which every daemon has heard what a node has published, whatever news it has lost."""

GONE = frozenset({ActualState.STOPPED, ActualState.FAILED, ActualState.DEPARTED})
"""States in which the holder of the lease says that the VM does not execute there."""


class Journal(Log):
    """The log of all daemons, which also keeps the errors that only a defect of the program explains."""

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.defects: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and not isinstance(error, PvcError):
            self.defects.append(f"{self.lines[-1]}: {type(error).__name__}: {error}")


class Invariants:
    """The promises, checked at each change of the shared tree; `broken` lists what did not hold."""

    def __init__(self, cluster: SimCluster) -> None:
        """How many operations may have their turn together, and how many nodes may be out of service, is what the
        nodes' configuration says; of the first it is the most that has ever been said, for a reload that lowers it does
        not end the turn of who has one before the next look."""
        self.broken: list[str] = []
        self._cluster = cluster
        self._concurrent = 1
        self._most_out: int | None = None
        self._note_limits()
        self._known: dict[str, bytes] = {}
        self._ordered: dict[str, str] = {}
        """By VM: the operation whose order it follows."""
        self._promised: dict[str, dict[str, int]] = {}
        """By operation and node, joined: MiB of each VM that the operation has ordered there."""
        self._facts: dict[str, list[tuple[float, NodeFacts]]] = {}
        """By node: what it has published, each with the time."""
        self.journal = Journal(cluster.world)
        cluster.log = self.journal
        cluster.on_commit(self._committed)

    def _note_limits(self) -> None:
        locks = [node.config.section("flushlock") for node in self._cluster.nodes.values()]
        self._concurrent = max([self._concurrent, *(int(lock["concurrent"]) for lock in locks if lock)])
        self._most_out = max((int(lock["max_flushed"]) for lock in locks if lock and lock["max_flushed"]), default=None)

    def problems(self) -> list[str]:
        """Everything that has gone wrong so far."""
        cluster = self._cluster
        return [
            *self.broken,
            *(f"a VM ran twice: {text}" for text in cluster.fabric.twice),
            *(f"a network had two gateways: {text}" for text in cluster.gateways.twice),
            *(f"two attempts were at one volume: {text}" for text in cluster.pools.together),
            *(f"a task failed: {error!r}" for error in cluster.world.failures),
            *(f"a defect: {text}" for text in self.journal.defects),
        ]

    def problems_at_rest(self) -> list[str]:
        """What must not be when nothing fails any more and everything has had time to end."""
        found = self.problems()
        for name in self._cluster.nodes:
            operation = self._operation(self._cluster.nodes[name].config.node)
            if operation is not None and operation.phase not in FINAL:
                found.append(f"the operation of {name} has not ended: {operation}")
        if queue := self._cluster.client.children(lock_keys.QUEUE):
            found.append(f"tickets are left in the flush lock's queue: {', '.join(queue)}")
        return [*found, *self._misplaced(), *unaccounted(self._cluster)]

    def _misplaced(self) -> list[str]:
        cluster = self._cluster
        found: list[str] = []
        for name in cluster.client.children(keys.NAMES) or ():
            vm, actual = cluster.vm(name), cluster.actual(name)
            hosts = cluster.fabric.running(vm.uuid)
            wanted = [actual.node] if vm.state is VmState.RUNNING else []
            if hosts != wanted or (not wanted and actual.state is not ActualState.STOPPED):
                found.append(f"{name} is wanted {vm.state.value}, executes on {hosts or 'no host'}: {vm}, {actual}")
            for host in cluster.nodes.values():
                if host.host.state_of(vm.uuid) is not None and host.name not in hosts:
                    found.append(f"{host.name} still has a guest of {name} that does not execute there")
        return found

    def _committed(self, session: str, ops: Sequence[Op], created: tuple[str, ...]) -> None:
        self._note_limits()
        before = {op.path: self._known.get(op.path) for op in ops}
        paths = iter(created)
        for op in ops:
            if isinstance(op, Create):
                self._known[next(paths)] = op.data
            elif isinstance(op, Put):
                self._known[op.path] = op.data
            elif isinstance(op, Delete):
                self._known.pop(op.path, None)
        author = session.partition("/")[0]
        author = self._cluster.nodes[author].config.node if author in self._cluster.nodes else author
        self._gateways_handed_over(ops)
        for op in ops:
            if isinstance(op, Create | Put) and op.path.endswith("/facts"):
                self._published(op.path.split("/")[2], _decoded(NodeFacts, op.data))
            if isinstance(op, Create):
                self._created(op)
            elif isinstance(op, Put):
                self._put(author, op, before)

    def _gateways_handed_over(self, ops: Sequence[Op]) -> None:
        """Who gives a ticket back is silent before; only its successor of the same node puts one in its place."""
        kinds = {(type(op), op.path) for op in ops}
        for path in [path for kind, path in kinds if kind is Delete and (Put, path.removesuffix("/ticket")) in kinds]:
            network = path.split("/")[2]
            acting = [] if (Create, path) in kinds else self._cluster.gateways.acting(network)
            self._demand(not acting, f"the gateway of {network} is handed over while it acts on {', '.join(acting)}")

    def _created(self, op: Create) -> None:
        self._demand(op.ephemeral or not op.path.startswith(lock_keys.QUEUE + "/"), f"{op.path} is not ephemeral")

    def _put(self, author: str, op: Put, before: Mapping[str, bytes | None]) -> None:
        old = before[op.path]
        decides = op.path.startswith(("/vms/", "/nodes/")) and not op.path.endswith(("/facts", "/plugins"))
        decides = decides and not (op.path.startswith("/nodes/") and "/vms/" in op.path)
        self._demand(op.version >= 0 or not decides, f"{author} writes {op.path} whatever its version is")
        match op.path.split("/")[1:]:
            case ["nodes", name]:
                self._node_changed(name, _decoded(Node, old), _decoded(Node, op.data))
            case ["nodes", name, "operation"]:
                was, now = _decoded(Operation, old), _decoded(Operation, op.data)
                self._operation_changed(was, now)
                if was and now and was.id == now.id and was.began is None and now.began is not None:
                    self._begun(now, _decoded(Node, before.get(keys.node(name))))
            case ["vms", uuid]:
                self._wanted_changed(author, uuid, _decoded(Vm, old), _decoded(Vm, op.data))
            case ["vms", uuid, "actual"]:
                self._actual_changed(author, uuid, _decoded(VmActual, old), _decoded(VmActual, op.data))

    def _node_changed(self, name: str, old: Node | None, new: Node | None) -> None:
        if old is None or new is None or old.state is new.state:
            return
        self._demand(new.state in NODE_MOVES[old.state], f"node {name}: {old.state.value} => {new.state.value}")
        if new.state is NodeState.FLUSHED:
            there = [guest.name for guest in self._cluster.fabric.host(name).executing()]
            self._demand(not there, f"{name} is called flushed, but {', '.join(there)} executes there")

    def _operation_changed(self, old: Operation | None, new: Operation | None) -> None:
        if old is None or new is None or old.phase is new.phase:
            return
        if old.id != new.id:
            self._demand(old.phase in FINAL, f"{new} replaces {old}, which has not ended")
            return
        step = f"operation of {new.node}: {old.phase.value} => {new.phase.value}"
        self._demand(new.phase in PHASE_MOVES[old.phase], step)

    def _begun(self, operation: Operation, node: Node | None) -> None:
        """An operation has its first turn; `node` is its node as it was before."""
        if self._most_out is None or operation.kind is OperationKind.UNFLUSH:
            return
        if node is not None and node.state is not NodeState.READY:
            return  # it was out of service already
        known = [path.split("/")[2] for path in self._known if path.startswith("/nodes/") and path.count("/") == 2]
        out = [name for name in known if name != operation.node and not self._serves(name)]
        few = len(out) < self._most_out
        self._demand(few, f"the flush of {operation.node} begins though {', '.join(out)} are out of service")

    def _serves(self, name: str) -> bool:
        node = _decoded(Node, self._known.get(keys.node(name)))
        return node is not None and node.state is NodeState.READY and keys.node_session(name) in self._known

    def _wanted_changed(self, author: str, uuid: str, old: Vm | None, new: Vm | None) -> None:
        if old is None or new is None:
            return
        if author not in self._cluster.nodes and not new.guards:
            self._ordered.pop(uuid, None)  # an administrator's order, perhaps to the same node
        if old.node == new.node:
            return
        self._ordered.pop(uuid, None)
        actual = _decoded(VmActual, self._known.get(keys.vm_actual(uuid)))
        if author not in self._cluster.nodes or actual is None or actual.node == new.node:
            return  # an administrator, or a node that says that the VM stays where it is
        operation = self._operation(author)
        if operation is None or operation.phase in FINAL:
            self._demand(False, f"{author} orders {new.name} to {new.node} without any operation")
            return
        self._ordered[uuid] = operation.id
        fit = self._takes(new.node, new) and not self._is_to_be_flushed(new.node)
        self._demand(fit, f"{new.name} is ordered to {new.node}, which is out of service or to be flushed")
        room = self._has_room(new.node, operation.id, uuid, new)
        self._demand(room, f"{new.name} is ordered to {new.node}, whose memory the {operation.kind.value} exceeds")
        self._demand(
            self._has_turn(operation.id),
            f"{author} orders {new.name} to {new.node}, but it is not the turn of its {operation.kind.value}",
        )

    def _published(self, name: str, facts: NodeFacts | None) -> None:
        if facts is not None:
            now = self._cluster.world.time
            past = self._facts.get(name, [])
            recent = [entry for entry in past if entry[0] > now - STALE]
            self._facts[name] = [*past[len(past) - len(recent) - 1 :], (now, facts)]

    def _has_room(self, name: str, operation: str, uuid: str, vm: Vm) -> bool:
        """Whether everything that the operation has ordered to the node fits there, beside what the node said that it
        has. Who gives an order may not have heard the last of it yet."""
        promised = self._promised.setdefault(f"{operation} {name}", {})
        promised[uuid] = vm.memory
        ordered = {uuid: memory for uuid, memory in promised.items() if self._is_wanted_on(name, uuid)}
        for _, facts in self._facts.get(name, []):
            there = {uuid: memory for uuid, memory in facts.vms.items() if self._has_business(name, uuid)}
            if facts.memory is not None and sum({**there, **ordered}.values()) <= facts.memory:
                return True
        return False

    def _is_wanted_on(self, name: str, uuid: str) -> bool:
        vm = _decoded(Vm, self._known.get(keys.vm(uuid)))
        return vm is not None and vm.node == name and vm.state is VmState.RUNNING

    def _has_business(self, name: str, uuid: str) -> bool:
        actual = _decoded(VmActual, self._known.get(keys.vm_actual(uuid)))
        return self._is_wanted_on(name, uuid) or (actual is not None and name in (actual.node, actual.target))

    def _actual_changed(self, author: str, uuid: str, old: VmActual | None, new: VmActual | None) -> None:
        vm = _decoded(Vm, self._known.get(keys.vm(uuid)))
        if old is None or new is None or vm is None:
            return
        self._demand(_may_hand_over(author, old, new), f"{author} turns the lease of {vm.name} from {old} into {new}")
        if author == old.node and new.state in GONE:
            there = self._cluster.fabric.host(author).executes(uuid)
            self._demand(not there, f"{author} says that {vm.name} is {new.state.value}, but it executes there")
        if new.state is ActualState.RUNNING and old.state in (ActualState.MIGRATING, ActualState.STARTING):
            node = _decoded(Node, self._known.get(keys.node(new.node or "")))
            taken_in = node is not None and node.state is NodeState.FLUSHED
            self._demand(not taken_in, f"{vm.name} comes to {new.node}, which is called flushed")
        if new.state is ActualState.STARTING and old.node is None:
            wanted = vm.state is VmState.RUNNING and vm.node == author
            self._demand(wanted, f"{author} starts {vm.name}, which is wanted {vm.state.value} on {vm.node}")
            self._demand(self._takes(author, vm), f"{author} starts {vm.name}, though it is out of service")
        if new.state is old.state or new.state not in BEGUN:
            return
        self._demand(new.target in (None, vm.node), f"{vm.name} goes to {new.target}, but is wanted on {vm.node}")
        moves = new.state is ActualState.MIGRATING
        if moves and new.target is not None:
            fit = self._takes(new.target, vm) and not self._is_to_be_flushed(new.target)
            self._demand(fit, f"{vm.name} sets off for {new.target}, which is out of service or to be flushed")
        if not moves and vm.state is VmState.RUNNING and vm.restart <= new.restart:
            moves = True
            self._demand(vm.policy is Policy.SHUTDOWN, f"{vm.name} is shut down against its policy")
        ordered_by = self._ordered.get(uuid)
        if moves and ordered_by is not None:
            self._demand(self._has_turn(ordered_by), f"the move of {vm.name} begins after the turn of who ordered it")

    def _takes(self, name: str, vm: Vm) -> bool:
        """Whether the node is in service for the VM at this moment."""
        node = _decoded(Node, self._known.get(keys.node(name)))
        return node is not None and (
            node.state is NodeState.READY or (node.state is NodeState.UNFLUSHING and vm.home == name)
        )

    def _is_to_be_flushed(self, name: str) -> bool:
        operation = self._operation(name)
        return operation is not None and operation.kind is OperationKind.FLUSH and operation.phase not in FINAL

    def _has_turn(self, operation: str) -> bool:
        """Whether the operation's ticket exists, among the first."""
        prefix = lock_keys.QUEUE + "/"
        queue = sorted(path for path in self._known if path.startswith(prefix))
        tickets = [_decoded(Ticket, self._known[path]) for path in queue[: self._concurrent]]
        return any(ticket is not None and ticket.operation == operation for ticket in tickets)

    def _operation(self, node: str) -> Operation | None:
        return _decoded(Operation, self._known.get(keys.node_operation(node)))

    def _demand(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(f"{self._cluster.world.time:.2f} {otherwise}")


def _may_hand_over(author: str, old: VmActual, new: VmActual) -> bool:
    """Whether `author` may write this change: only the holder, then the target of a move, touches the lease."""
    if old.node is None:
        return new.node in (None, author)
    if old.state is ActualState.ASTRAY and new.state is ActualState.RUNNING:
        return new.node == author
    if author == old.node:
        moving = old.state in (ActualState.MIGRATING, ActualState.DEPARTED)
        return new.node in (author, None) or (moving and new.node == old.target)
    if author != old.target:
        return False
    return new.node == author or (new.node is None and old.state is ActualState.DEPARTED)


def _decoded(kind: type[T], data: bytes | None) -> T | None:
    try:
        return None if data is None else decode(kind, data, "")
    except Garbage:
        return None
