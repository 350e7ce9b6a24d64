"""Finding what an administrator named: nodes by name, VMs by name or UUID; or the nearest names."""

import difflib
import uuid as uuids
from collections.abc import Iterable
from typing import TypeVar

from pvc.core import keys
from pvc.core.coordination import Coordinator
from pvc.core.errors import PvcError
from pvc.core.mirror import Mirror
from pvc.core.model import Node, NodeFacts, Vm
from pvc.core.records import Garbage, decode

T = TypeVar("T")


class NotFound(PvcError):
    """No node or VM goes by that name."""


class LacksRole(PvcError):
    """The node that was named does not have the role that the request is for."""


def find_node(coordinator: Coordinator, name: str) -> Node:
    """The node of that name. Raises NotFound with the nearest names, Garbage, Disconnected."""
    znode = coordinator.get(keys.node(name)) if _is_plain(name) else None
    if znode is None:
        raise NotFound(_missing("node", name, coordinator.children(keys.NODES) or (), "pvc node list"))
    return decode(Node, znode.data, keys.node(name))


def find_vm(coordinator: Coordinator, text: str) -> Vm:
    """The VM of that name or UUID. Raises NotFound with the nearest names, Garbage, Disconnected."""
    uuid = _uuid(text) or _uuid_of_name(coordinator, text)
    znode = coordinator.get(keys.vm(uuid)) if uuid else None
    if znode is None or uuid is None:
        raise NotFound(_missing("VM", text, coordinator.children(keys.NAMES) or (), "pvc vm list"))
    return decode(Vm, znode.data, keys.vm(uuid))


def demand_role(coordinator: Coordinator, node: Node, role: str) -> None:
    """Raise LacksRole, naming the nodes that have the role, if this one does not. Raises Disconnected."""
    if role not in node.roles:
        having = ", ".join(nodes_with_role(coordinator, role)) or "none"
        raise LacksRole(f"{node.name} does not have the {role} role; nodes that have it: {having}")


def nodes_with_role(coordinator: Coordinator, role: str, only: str | None = None) -> list[str]:
    """The names of the nodes with a role; of all, or of `only` this one, which then must have it.

    Raises NotFound, LacksRole, Garbage, Disconnected.
    """
    if only is not None:
        demand_role(coordinator, find_node(coordinator, only), role)
        return [only]
    return [node.name for node in all_nodes(coordinator)[0] if role in node.roles]


def read_facts(source: Coordinator | Mirror, name: str) -> NodeFacts:
    """What a node has published; nothing, if that cannot be read. Raises Disconnected."""
    znode = source.get(keys.node_facts(name))
    try:
        return NodeFacts() if znode is None else decode(NodeFacts, znode.data, keys.node_facts(name))
    except Garbage:
        return NodeFacts()


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three known names that look like `name`, best first."""
    return difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)


def all_nodes(coordinator: Coordinator) -> tuple[list[Node], list[Garbage]]:
    """Every node by name, and the records that are none."""
    names = coordinator.children(keys.NODES) or ()
    return _decode_all(coordinator, Node, [keys.node(name) for name in names])


def all_vms(coordinator: Coordinator) -> tuple[list[Vm], list[Garbage]]:
    """Every VM by name, and the records that are none."""
    uuids_known = coordinator.children(keys.VMS) or ()
    vms, garbage = _decode_all(coordinator, Vm, [keys.vm(uuid) for uuid in uuids_known])
    return sorted(vms, key=lambda vm: vm.name), garbage


def _decode_all(coordinator: Coordinator, kind: type[T], paths: list[str]) -> tuple[list[T], list[Garbage]]:
    records: list[T] = []
    garbage: list[Garbage] = []
    for path, znode in zip(paths, coordinator.get_many(paths), strict=True):
        if znode is None:
            continue
        try:
            records.append(decode(kind, znode.data, path))
        except Garbage as error:
            garbage.append(error)
    return records, garbage


def _uuid(text: str) -> str | None:
    try:
        return str(uuids.UUID(text)) if len(text) == 36 else None
    except ValueError:
        return None


def _uuid_of_name(coordinator: Coordinator, name: str) -> str | None:
    znode = coordinator.get(keys.name(name)) if _is_plain(name) else None
    return None if znode is None else _uuid(znode.data.decode(errors="replace"))


def _is_plain(name: str) -> bool:
    """Whether the text can be one step of a path."""
    return bool(name) and "/" not in name and "\0" not in name and name not in (".", "..")


def _missing(kind: str, name: str, known: Iterable[str], where: str) -> str:
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else f"`{where}` shows them all"
    return f"there is no {kind} {name!r}; {hint}"
