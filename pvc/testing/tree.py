"""The tree that a ZooKeeper ensemble keeps, in memory: nodes, versions, counters, transactions that are undone whole.

Knows no sessions beyond their ids and no watches: it answers what changed, `pvc.testing.coordinator` tells whom.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from pvc.core.coordination import ANY_VERSION, Check, Clash, Conflict, CoordinationError, Create, Delete, Op, Put, Znode


class Change(Enum):
    """What happened to one node, as a watch would be told."""

    CREATED = "created"
    """It exists now: for those who found it missing."""
    WRITTEN = "written"
    """Its data was replaced."""
    DELETED = "deleted"
    """It is gone."""
    CHILDREN = "children"
    """A node right below it came or went."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A transaction that was done: full paths of what it created and the changes, both in order."""

    created: tuple[str, ...]
    changes: tuple[tuple[Change, str], ...]


@dataclass(slots=True)
class _Node:
    data: bytes
    created: float
    modified: float
    owner: int
    created_zxid: int
    version: int = 0
    children: set[str] = field(default_factory=set)
    made: int = 0
    """Children ever created, sequential or not: what ZooKeeper takes sequence numbers from."""


@dataclass(slots=True)
class _Transaction:
    owner: int
    now: float
    zxid: int
    created: list[str] = field(default_factory=list)
    changes: list[tuple[Change, str]] = field(default_factory=list)
    undo: list[Callable[[], None]] = field(default_factory=list)


class Tree:
    """Nodes by path; "/" always exists. Not safe for threads: whoever owns it holds a lock."""

    def __init__(self, now: float) -> None:
        self._nodes = {"/": _Node(b"", now, now, 0, 0)}
        self._ephemerals: dict[int, dict[str, None]] = {}
        self._zxid = 0

    def get(self, path: str) -> Znode | None:
        """The node as it is now."""
        node = self._nodes.get(_checked(path))
        if node is None:
            return None
        return Znode(node.data, node.version, node.created, node.modified, node.owner, node.created_zxid)

    def children(self, path: str) -> tuple[str, ...] | None:
        """Names below a node, sorted; None if it does not exist."""
        node = self._nodes.get(_checked(path))
        return None if node is None else tuple(sorted(node.children))

    def ephemerals(self, owner: int) -> tuple[str, ...]:
        """Paths of the nodes that live with that session, in the order of their creation."""
        return tuple(self._ephemerals.get(owner, ()))

    def apply(self, ops: Sequence[Op], owner: int, now: float) -> Applied:
        """Do all of `ops` for the session `owner`, or raise Conflict and change nothing."""
        transaction = _Transaction(owner, now, self._zxid + 1)
        try:
            for op in ops:
                self._apply_one(op, transaction)
        except Exception:  # whatever it was, a transaction is done whole or not at all: undone and raised again
            for undo in reversed(transaction.undo):
                undo()
            raise
        self._zxid += 1
        return Applied(tuple(transaction.created), tuple(transaction.changes))

    def dump(self) -> dict[str, object]:
        """Every path with its value: decoded JSON where it is JSON, text otherwise; sorted by path."""
        return {path: _readable(node.data) for path, node in sorted(self._nodes.items())}

    def _apply_one(self, op: Op, transaction: _Transaction) -> None:
        _checked(op.path)
        if isinstance(op, Create):
            self._create(op, transaction)
            return
        node = self._nodes.get(op.path)
        if node is None:
            raise Conflict(op, Clash.MISSING)
        if op.version not in (ANY_VERSION, node.version):
            raise Conflict(op, Clash.CHANGED)
        if isinstance(op, Put):
            self._put(op, node, transaction)
        elif isinstance(op, Delete):
            self._delete(op, node, transaction)
        else:
            assert isinstance(op, Check)

    def _create(self, op: Create, transaction: _Transaction) -> None:
        parent_path, _, name = op.path.rpartition("/")
        parent_path = parent_path or "/"
        parent = self._nodes.get(parent_path)
        if parent is None:
            raise Conflict(op, Clash.MISSING)
        if parent.owner:
            raise CoordinationError(f"create {op.path}: {parent_path} is ephemeral and can have no children")
        suffix = f"{parent.made:010d}" if op.sequence else ""
        path, name = op.path + suffix, name + suffix
        if path in self._nodes:
            raise Conflict(op, Clash.EXISTS)
        owner = transaction.owner if op.ephemeral else 0
        self._add(path, _Node(op.data, transaction.now, transaction.now, owner, transaction.zxid))
        parent.made += 1

        def undo() -> None:
            parent.made -= 1
            self._remove(path)

        transaction.undo.append(undo)
        transaction.created.append(path)
        transaction.changes += [(Change.CREATED, path), (Change.CHILDREN, parent_path)]

    def _put(self, op: Put, node: _Node, transaction: _Transaction) -> None:
        data, version, modified = node.data, node.version, node.modified
        node.data, node.version, node.modified = op.data, version + 1, transaction.now

        def undo() -> None:
            node.data, node.version, node.modified = data, version, modified

        transaction.undo.append(undo)
        transaction.changes.append((Change.WRITTEN, op.path))

    def _delete(self, op: Delete, node: _Node, transaction: _Transaction) -> None:
        if op.path == "/":
            raise CoordinationError("delete /: the root stays")
        if node.children:
            raise Conflict(op, Clash.NOT_EMPTY)
        self._remove(op.path)
        transaction.undo.append(lambda: self._add(op.path, node))
        transaction.changes += [(Change.DELETED, op.path), (Change.CHILDREN, op.path.rpartition("/")[0] or "/")]

    def _add(self, path: str, node: _Node) -> None:
        parent_path, _, name = path.rpartition("/")
        self._nodes[path] = node
        self._nodes[parent_path or "/"].children.add(name)
        if node.owner:
            self._ephemerals.setdefault(node.owner, {})[path] = None

    def _remove(self, path: str) -> None:
        parent_path, _, name = path.rpartition("/")
        node = self._nodes.pop(path)
        self._nodes[parent_path or "/"].children.discard(name)
        if node.owner:
            self._ephemerals[node.owner].pop(path)


def _checked(path: str) -> str:
    if path != "/" and (not path.startswith("/") or path.endswith("/") or "//" in path):
        raise ValueError(f"{path!r} is no path of the tree: it must start with one slash and not end with one")
    return path


def _readable(data: bytes) -> object:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")
