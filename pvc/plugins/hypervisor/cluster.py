"""Reads what placement needs to know of the nodes, from the daemon's mirror or the client's connection."""

from collections.abc import Iterable

from pvc.core import keys
from pvc.core.coordination import Coordinator, Op, Put
from pvc.core.lookup import read_facts
from pvc.core.mirror import Mirror
from pvc.core.model import FINAL, Node, Operation, OperationKind, Vm
from pvc.core.records import Garbage, decode, encode
from pvc.plugins.hypervisor.decide.placement import Candidate
from pvc.plugins.hypervisor.records import Promise, Promises, read_promises


def prefetch_nodes(mirror: Mirror, names: Iterable[str]) -> None:
    """Ask at once for all that `read_candidate` reads of these nodes. Raises Disconnected."""
    parts = (keys.node, keys.node_facts, keys.node_vms, keys.node_session, keys.node_operation)
    mirror.prefetch(part(name) for name in names for part in parts)


def read_candidates(source: Coordinator | Mirror, without: str | None = None) -> list[Candidate]:
    """Every node whose record can be read, by name, but one. Raises Disconnected."""
    candidates = []
    for name in source.children(keys.NODES) or ():
        candidate = read_candidate(source, name) if name != without else None
        if candidate is not None:
            candidates.append(candidate)
    return candidates


def read_candidate(source: Coordinator | Mirror, name: str) -> Candidate | None:
    """One node; None if there is no readable record of it. Raises Disconnected."""
    znode = source.get(keys.node(name))
    if znode is None:
        return None
    try:
        node = decode(Node, znode.data, keys.node(name))
    except Garbage:
        return None
    facts = read_facts(source, name)
    promises, promises_version = read_promises(source, name)
    coming = {uuid: promise for uuid, promise in promises.vms.items() if uuid not in facts.vms}
    return Candidate(
        name=name,
        alive=source.get(keys.node_session(name)) is not None,
        state=node.state,
        roles=node.roles,
        memory=facts.memory,
        cpus=facts.cpus,
        load=facts.load,
        flush_asked=_flush_asked(source, name),
        fenced=node.fence is not None,
        vms={**facts.vms, **{uuid: promise.memory for uuid, promise in coming.items()}},
        vcpus={**facts.vcpus, **{uuid: promise.vcpus for uuid, promise in coming.items()}},
        spread={**facts.spread, **{uuid: promise.spread for uuid, promise in coming.items() if promise.spread}},
        limits=facts.limits,
        arriving=facts.arriving,
        inbound=facts.inbound,
        version=znode.version,
        promised=tuple(coming),
        promises_version=promises_version,
    )


def promise_op(target: Candidate, vm: Vm) -> Op:
    """The operation that promises a VM to a node, beside what was promised to it before; it fails if anything was
    promised since the node was read."""
    before = {uuid: Promise(target.vms[uuid], target.vcpus[uuid], target.spread.get(uuid)) for uuid in target.promised}
    vms = {**before, vm.uuid: Promise(vm.memory, vm.vcpus, vm.spread)}
    return Put(keys.node_vms(target.name), encode(Promises(vms)), target.promises_version)


def _flush_asked(source: Coordinator | Mirror, name: str) -> bool:
    """Whether a flush waits or runs; a record that cannot be read counts as one, to be on the safe side."""
    znode = source.get(keys.node_operation(name))
    if znode is None:
        return False
    try:
        operation = decode(Operation, znode.data, keys.node_operation(name))
    except Garbage:
        return True
    return operation.kind is OperationKind.FLUSH and operation.phase not in FINAL
