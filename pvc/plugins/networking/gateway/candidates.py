"""Reads what there is to know of nodes that may be gateways. Leaves no watches: facts change often, gateways seldom."""

from collections.abc import Collection

from pvc.core import keys as core
from pvc.core.coordination import Coordinator, Znode
from pvc.core.model import FINAL, Node, NodeFacts, NodeState, Operation, OperationKind
from pvc.core.records import Garbage, decode
from pvc.plugins.networking.decide.attachment import published_in
from pvc.plugins.networking.gateway.decide.election import Candidate
from pvc.plugins.networking.records import decoded
from pvc.plugins.networking.schema import SECTION

PARTS = (core.node, core.node_session, core.node_facts, core.node_operation)


def read_candidates(coordinator: Coordinator, without: Collection[str] = ()) -> list[Candidate]:
    """Every node with the role, by name, but some. Raises Disconnected."""
    names = [name for name in coordinator.children(core.NODES) or () if name not in without]
    znodes = coordinator.get_many([part(name) for name in names for part in PARTS])
    found = []
    for number, name in enumerate(names):
        candidate = _candidate(name, *znodes[len(PARTS) * number :][: len(PARTS)])
        if candidate is not None:
            found.append(candidate)
    return found


def _candidate(
    name: str, record: Znode | None, session: Znode | None, facts: Znode | None, operation: Znode | None
) -> Candidate | None:
    node = None if record is None else decoded(Node, record.data, core.node(name))
    if record is None or node is None or SECTION not in node.roles:
        return None
    published = None if facts is None else decoded(NodeFacts, facts.data, core.node_facts(name))
    states = {} if published is None else published_in(published)
    problems = {network: state.problem for network, state in states.items()}
    returns = session is not None and node.state is NodeState.UNFLUSHING
    return Candidate(name, _why_not(node, session, operation), returns, problems, record.version)


def _why_not(node: Node, session: Znode | None, operation: Znode | None) -> str:
    if session is None:
        return "is not alive"
    if node.state is not NodeState.READY:
        return f"is {node.state.value}"
    return "is to be flushed" if _is_flush_asked(node.name, operation) else ""


def _is_flush_asked(name: str, znode: Znode | None) -> bool:
    """A record that cannot be read counts as a flush, to be on the safe side."""
    if znode is None:
        return False
    try:
        operation = decode(Operation, znode.data, core.node_operation(name))
    except Garbage:
        return True
    return operation.kind is OperationKind.FLUSH and operation.phase not in FINAL
