"""What the cluster's shared memory can do: a Protocol with two implementations.

`core/zookeeper.py` is the real one (kazoo), `pvc.testing.coordinator` the fake; tests/contract runs the same tests on
both. Paths are relative to the cluster's root and start with "/". Nothing here knows what the paths mean.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from pvc.core.errors import PvcError

LARGEST_WRITE = 900_000
"""Bytes that one transaction may carry: ZooKeeper drops the *session* of a client that sends more than about 1 MiB."""

ANY_VERSION = -1
"""As the version of an operation: whatever the version is, as long as the node exists."""


class SessionState(Enum):
    """Where a session with the cluster stands.

    CONNECTED <-> SUSPENDED; SUSPENDED -> LOST; LOST -> CONNECTED (as a new session). CLOSED is final.
    """

    CONNECTED = "connected"
    """Reads are current and writes may be tried."""
    SUSPENDED = "suspended"
    """No server is reached; the session may still live. Start nothing new."""
    LOST = "lost"
    """The session has expired: its ephemeral nodes are gone. Read everything again before acting."""
    CLOSED = "closed"
    """Closed by ourselves."""


@dataclass(frozen=True, slots=True)
class Znode:
    """One node of the tree as it was read."""

    data: bytes
    version: int
    """Counts the writes since it was created; a write can demand it (compare-and-set)."""
    created: float
    """Seconds since the epoch, on the server's clock."""
    modified: float
    """Seconds since the epoch, on the server's clock."""
    owner: int
    """The session id an ephemeral node lives and dies with; 0 for a persistent one."""
    created_zxid: int
    """The transaction that created it: another value means another node of the same name."""


@dataclass(frozen=True, slots=True)
class Create:
    """Make a node; its parent must exist and it must not. `sequence` appends a ten-digit counter to the name."""

    path: str
    data: bytes = b""
    ephemeral: bool = False
    sequence: bool = False


@dataclass(frozen=True, slots=True)
class Put:
    """Replace the data of a node that exists at `version`."""

    path: str
    data: bytes
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a node that exists at `version` and has no children."""

    path: str
    version: int = ANY_VERSION


@dataclass(frozen=True, slots=True)
class Check:
    """Demand that a node exists at `version`; changes nothing."""

    path: str
    version: int = ANY_VERSION


Op = Create | Put | Delete | Check


class CoordinationError(PvcError):
    """The shared tree could not be read or written."""


class Disconnected(CoordinationError):
    """No server answered. A write may or may not have happened: look again before repeating it."""


class TooLarge(CoordinationError):
    """Refused before sending: more than LARGEST_WRITE bytes in one transaction."""


def refuse_too_large(ops: Sequence[Op]) -> None:
    """Raise TooLarge if one transaction of these operations is more than a server would take."""
    # 100 bytes an operation stand for its header, its access list and the root that is put before its path.
    size = sum(100 + len(op.path) + len(op.data if isinstance(op, Create | Put) else b"") for op in ops)
    if size > LARGEST_WRITE:
        largest = max(ops, key=lambda op: len(op.data) if isinstance(op, Create | Put) else 0)
        raise TooLarge(
            f"a transaction of {len(ops)} operations has {size} bytes, at most {LARGEST_WRITE} are allowed;"
            f" the largest part is {largest.path}"
        )


class Clash(Enum):
    """Why one operation of a transaction was refused."""

    MISSING = "missing"
    """The node, or for Create its parent, does not exist."""
    EXISTS = "exists"
    """Create: the node exists already."""
    CHANGED = "changed"
    """The node is not at the version demanded."""
    NOT_EMPTY = "not empty"
    """Delete: the node has children."""


class Conflict(CoordinationError):
    """A transaction was refused whole because of one operation; nothing has changed."""

    def __init__(self, op: Op, clash: Clash) -> None:
        super().__init__(f"{type(op).__name__.lower()} {op.path}: {clash.value}")
        self.op = op
        self.clash = clash


Watch = Callable[[], None]
"""Called once, soon after what was read has changed (or may have, when the session changes). Runs on a foreign thread:
it must return at once and may only set a signal or drop a cache entry."""


class Coordinator(Protocol):
    """One session with the cluster."""

    @property
    def state(self) -> SessionState: ...

    @property
    def session_id(self) -> int:
        """The id of the session, to compare with `Znode.owner`; 0 while there is none."""

    def listen(self, listener: Callable[[SessionState], None]) -> None:
        """Call `listener` on each change of `state`, on a foreign thread, like a watch."""

    def get(self, path: str, watch: Watch | None = None) -> Znode | None:
        """Read a node; None if it does not exist (the watch then fires on its creation). Raises Disconnected."""

    def children(self, path: str, watch: Watch | None = None) -> tuple[str, ...] | None:
        """Names of a node's children, sorted; None if the node does not exist (the watch then fires on its creation).

        Raises Disconnected.
        """

    def get_many(self, paths: Sequence[str], watches: Sequence[Watch] = ()) -> list[Znode | None]:
        """Read many nodes, pipelined, in the order asked for; `watches`: none, or one for each. Raises Disconnected."""

    def look(
        self, nodes: Sequence[str], folders: Sequence[str]
    ) -> tuple[list[Znode | None], list[tuple[str, ...] | None]]:
        """Read nodes and then the names in folders, as `get` and `children` do, pipelined, in the order asked for.

        Raises Disconnected.
        """

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        """Do all operations as one transaction, or none; the names that Create operations made, in their order.

        Raises Conflict if one was refused, TooLarge before sending, Disconnected if the outcome is unknown.
        """

    def close(self) -> None:
        """End the session: its ephemeral nodes go at once."""
