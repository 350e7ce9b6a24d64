"""Reads what the limit needs to know of the nodes from the tree."""

from dataclasses import dataclass
from typing import TypeVar

from pvc.core import keys
from pvc.core.coordination import Check, Coordinator
from pvc.core.mirror import Mirror
from pvc.core.model import Node, NodeFacts, NodeState, Operation, Severity
from pvc.core.records import Garbage, decode
from pvc.plugins.flushlock.decide.limit import Neighbour, why_out_of_service

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Look:
    """All nodes but one at one moment."""

    others: tuple[Neighbour, ...]
    state: NodeState
    """Of the one."""
    checks: tuple[Check, ...]
    """Fail as soon as the one has changed, or another that served may not serve any more."""


def look_around(source: Coordinator | Mirror, me: str) -> Look:
    """The nodes beside node `me`. Raises Disconnected."""
    others: list[Neighbour] = []
    checks: list[Check] = []
    state = NodeState.READY
    for name in source.children(keys.NODES) or ():
        znode = source.get(keys.node(name))
        if znode is None:
            continue
        node = _decoded(Node, znode.data)
        if name == me:
            state = node.state if node is not None else state
            checks.append(Check(keys.node(name), znode.version))
            continue
        other = _neighbour(source, name, node)
        others.append(other)
        if not why_out_of_service(other):
            checks += [Check(keys.node(name), znode.version), Check(keys.node_session(name))]
    return Look(tuple(others), state, tuple(checks))


def _neighbour(source: Coordinator | Mirror, name: str, node: Node | None) -> Neighbour:
    facts = _read(source, NodeFacts, keys.node_facts(name)) or NodeFacts()
    critical = [finding.text for finding in facts.findings if finding.severity is Severity.CRITICAL]
    return Neighbour(
        name=name,
        state=node.state if node is not None else None,
        answers=source.get(keys.node_session(name)) is not None,
        critical=critical[0] if critical else "",
        operation=_read(source, Operation, keys.node_operation(name)),
    )


def _read(source: Coordinator | Mirror, kind: type[T], path: str) -> T | None:
    znode = source.get(path)
    return None if znode is None else _decoded(kind, znode.data)


def _decoded(kind: type[T], data: bytes) -> T | None:
    try:
        return decode(kind, data, "")
    except Garbage:
        return None
