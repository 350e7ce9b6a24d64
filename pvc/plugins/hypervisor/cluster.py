"""Reads what placement needs to know of the nodes, from the daemon's mirror or the client's connection."""

from pvc.core import keys
from pvc.core.coordination import Coordinator
from pvc.core.mirror import Mirror
from pvc.core.model import FINAL, Node, NodeFacts, Operation, OperationKind
from pvc.core.records import Garbage, decode
from pvc.plugins.hypervisor.decide.placement import Candidate


def read_candidates(source: Coordinator | Mirror) -> list[Candidate]:
    """Every node whose record can be read, by name. Raises Disconnected."""
    candidates = []
    for name in source.children(keys.NODES) or ():
        candidate = read_candidate(source, name)
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
    facts = _facts(source, name)
    return Candidate(
        name=name,
        alive=source.get(keys.node_session(name)) is not None,
        state=node.state,
        roles=node.roles,
        memory=facts.memory,
        cpus=facts.cpus,
        load=facts.load,
        flush_asked=_flush_asked(source, name),
        vms=facts.vms,
        vcpus=facts.vcpus,
        spread=facts.spread,
        limits=facts.limits,
        arriving=facts.arriving,
        inbound=facts.inbound,
        version=znode.version,
    )


def _facts(source: Coordinator | Mirror, name: str) -> NodeFacts:
    znode = source.get(keys.node_facts(name))
    try:
        return NodeFacts() if znode is None else decode(NodeFacts, znode.data, keys.node_facts(name))
    except Garbage:
        return NodeFacts()


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
