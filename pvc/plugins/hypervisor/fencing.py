"""Declaring a node dead, and giving its VMs to others: each a transaction that fails if the node's daemon answers."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.lookup import all_vms, find_node
from pvc.core.model import Fence, Node, Vm, VmActual, VmState
from pvc.core.records import Garbage, encode
from pvc.core.runtime import Runtime
from pvc.plugins.hypervisor.decide.fencing import Left, in_place_of
from pvc.plugins.hypervisor.records import VmRecords, index_ops, read_vm
from pvc.plugins.hypervisor.requests import TRIES, Judge, Refused, startable
from pvc.plugins.hypervisor.settings import PlacementSettings


class StillAlive(PvcError):
    """The node's daemon answers: it is not dead."""

    def __init__(self, node: str) -> None:
        super().__init__(
            f"the daemon of {node} answers; flush the node if it is to be emptied, or stop pvcd there first"
        )


@dataclass(frozen=True, slots=True)
class Freed:
    """What became of one VM of a node that was declared dead."""

    vm: Vm
    runs_on: str | None = None
    """Where it is to start; None: nowhere, `why` tells."""
    why: str = ""


def declare(coordinator: Coordinator, runtime: Runtime, name: str, by: str, reason: str) -> Fence:
    """Declare a node dead; the declaration that stands, if it was declared before. Raises StillAlive, NotFound."""
    for left in reversed(range(TRIES)):
        node, version = _read(coordinator, name)
        if node.fence is not None and not node.fence.returned:
            return node.fence
        cut = node.fence.cut if node.fence else {}
        fence = Fence(runtime.new_id(), by, runtime.now(), reason, cut)
        try:
            _commit(coordinator, name, [Put(keys.node(name), encode(replace(node, fence=fence)), version)])
            return fence
        except Conflict:
            if not left:
                raise
    raise AssertionError("unreachable")


def vms_of(coordinator: Coordinator, name: str) -> tuple[list[Vm], list[Garbage]]:
    """The VMs whose lease the node holds, that were on their way to it, or that it is to start; and the records of VMs
    that cannot be read, so that nobody knows that of them. Raises Disconnected."""
    vms, unreadable = all_vms(coordinator)
    touched = []
    for vm in vms:
        try:
            records = read_vm(coordinator, vm.uuid)
        except Garbage as garbage:
            unreadable.append(garbage)
            continue
        if records is not None and _is_touched(name, records):
            touched.append(records.vm)
    return touched, unreadable


def free(
    coordinator: Coordinator,
    runtime: Runtime,
    name: str,
    vm: Vm,
    placement: PlacementSettings,
    judge: Judge,
) -> Freed:
    """Take the lease of one VM from a node that was declared dead, and choose where it runs now if it is to run.

    Raises StillAlive, Refused if the node is not declared dead (any more), Garbage, Conflict, Disconnected.
    """
    for left in reversed(range(TRIES)):
        node, version = _read(coordinator, name)
        if node.fence is None:
            raise Refused(f"{name} is back in service; its VMs stay its own")
        records = read_vm(coordinator, vm.uuid)
        if records is None:
            return Freed(vm, why="is not defined any more")
        if not _is_touched(name, records):
            return Freed(records.vm, None, "has nothing to do with it any more")
        what = in_place_of(name, records.actual, runtime.now(), f"{name} was declared dead by {node.fence.by}")
        if isinstance(what, Left):
            return Freed(records.vm, None, what.why)
        wanted, freed, promise = _placed(coordinator, name, records.vm, what, placement, judge)
        ops = [*promise, *records.put(vm=wanted, actual=what), *_index(coordinator, freed, what)]
        try:
            _commit(coordinator, name, [Check(keys.node(name), version), *ops])
            return freed
        except Conflict:
            if not left:
                raise
    raise AssertionError("unreachable")


def _is_touched(name: str, records: VmRecords) -> bool:
    actual, vm = records.actual, records.vm
    waits_for_it = actual.node is None and vm.node == name and vm.state is VmState.RUNNING
    return waits_for_it or name in (actual.node, actual.target)


def _placed(
    coordinator: Coordinator, dead: str, vm: Vm, actual: VmActual, placement: PlacementSettings, judge: Judge
) -> tuple[Vm, Freed, Sequence[Op]]:
    """The wanted state without the dead node, what is to be told of it, and what promises the VM to a node."""
    fresh = replace(vm, generation=vm.generation + 1, guards=())
    if actual.target is not None:
        if (
            vm.node == dead and vm.state is VmState.RUNNING
        ):  # it was called back, and the dead node would have to start it
            vm = replace(fresh, node=actual.target)
        return vm, Freed(vm, None, f"was on its way to {actual.target}, which says whether it arrived"), ()
    if vm.state is not VmState.RUNNING:
        return vm, Freed(vm, None, "was to be stopped, and is"), ()
    try:
        placed, promise = startable(coordinator, fresh, placement, judge)
    except Refused as refused:
        return fresh, Freed(fresh, None, str(refused)), ()
    return placed, Freed(placed, placed.node), promise


def _index(coordinator: Coordinator, freed: Freed, actual: VmActual) -> list[Op]:
    node = freed.runs_on or actual.target
    return [] if node is None else index_ops(coordinator, node, freed.vm.uuid)


def _read(coordinator: Coordinator, name: str) -> tuple[Node, int]:
    """A node and the version of its record; the record is read first, so what is older than the version is refused."""
    znode = coordinator.get(keys.node(name)) if name in (coordinator.children(keys.NODES) or ()) else None
    node = find_node(coordinator, name)
    return node, 0 if znode is None else znode.version


def _commit(coordinator: Coordinator, name: str, ops: Sequence[Op]) -> None:
    """Commit only while the node's daemon has no session: making what it would have, and taking it away, fails if it
    is there. Raises StillAlive, Conflict."""
    session = keys.node_session(name)
    try:
        coordinator.commit([Create(session), Delete(session), *ops])
    except Conflict as conflict:
        if conflict.op.path == session and conflict.clash is Clash.EXISTS:
            raise StillAlive(name) from conflict
        raise
