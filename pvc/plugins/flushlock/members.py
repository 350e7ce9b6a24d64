"""Reads what the client shows of the lock from the tree: every node's session, settings and operation."""

from typing import TypeVar

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Znode
from pvc.core.model import Node, NodeFacts, Operation
from pvc.core.records import Garbage, decode
from pvc.plugins.flushlock.decide.standing import PLUGIN, Member
from pvc.plugins.flushlock.keys import FACTS

T = TypeVar("T")


def read_members(coordinator: Coordinator) -> dict[str, Member]:
    """Every node by name; what cannot be read of it is left out. Raises Disconnected."""
    names = coordinator.children(core_keys.NODES) or ()
    paths = (core_keys.node, core_keys.node_session, core_keys.node_facts, core_keys.node_operation)
    znodes = iter(coordinator.get_many([path(name) for name in names for path in paths]))
    return {name: _member(name, *row) for name, *row in zip(names, znodes, znodes, znodes, znodes, strict=True)}


def _member(
    name: str, record: Znode | None, session: Znode | None, facts: Znode | None, operation: Znode | None
) -> Member:
    node = _decoded(Node, record)
    published = (_decoded(NodeFacts, facts) or NodeFacts()).extra
    return Member(
        name=name,
        session=session.owner if session is not None else 0,
        takes_turns=node is not None and PLUGIN in node.plugins,
        settings={key: published[fact] for key, fact in FACTS.items() if fact in published},
        operation=_decoded(Operation, operation),
    )


def _decoded(kind: type[T], znode: Znode | None) -> T | None:
    try:
        return None if znode is None else decode(kind, znode.data, "")
    except Garbage:
        return None
