"""Ceph's flag noout while nodes with OSDs are out of service: set with the first of them, unset with the last, and left
alone where somebody else has set it. The tree knows for whom; to be used in jobs, for Ceph may hang."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Conflict, Create, Delete, Op, Put
from pvc.core.model import FINAL, Node, NodeState
from pvc.core.records import decode, encode
from pvc.core.requests import read_operation
from pvc.core.storage import StorageError
from pvc.plugins.storage import keys
from pvc.plugins.storage.ceph.cluster import NOOUT, CephCluster

Commit = Callable[[Sequence[Op]], tuple[str, ...]]
TRIES = 10
"""Refused writes after which looking again does not help."""


@dataclass(frozen=True, slots=True)
class Noout:
    """That pvc has set the flag, and for whom: it is not there where somebody else had set it before."""

    nodes: tuple[str, ...]


class NooutKeeper:
    """Sets and unsets the flag for one node."""

    def __init__(self, context: Context, cluster: CephCluster) -> None:
        self._me = context.node
        self._coordinator = context.coordinator
        self._log = context.log
        self._cluster = cluster

    def held(self) -> bool:
        """Whether the flag is set for this node. Raises Garbage, Disconnected."""
        found = self._read()
        return found is not None and self._me in found[0].nodes

    def take(self, commit: Commit) -> None:
        """See to it that the flag is set. Raises StorageError, and what `commit` raises but Conflict."""
        for _ in range(TRIES):
            before = self._read()
            is_set = NOOUT in self._cluster.survey().flags
            found = self._read()
            if found != before:  # who has changed that may have changed the flag since it was looked at
                continue
            if found is None and is_set:
                self._log.info("ceph: noout is set already, and is left to whom has set it")
                return
            try:
                self._put_in(commit, found)
            except Conflict:
                continue
            if not is_set:  # written down first: should this daemon die here, it is known to whom it belongs
                self._cluster.set_flag(NOOUT, True)
                self._log.info("ceph: noout is set")
            return
        raise StorageError("others change who needs noout all the time; try again")

    def release(self, commit: Commit) -> None:
        """See to it that the flag is not set for this node any more. Raises as `take`."""
        for _ in range(TRIES):
            found = self._read()
            if found is None or self._me not in found[0].nodes:
                return
            others = tuple(node for node in found[0].nodes if node != self._me)
            # With others: one may have come since it was unset, by this daemon or by its life before.
            self._cluster.set_flag(NOOUT, bool(others))
            try:
                if others:
                    commit([Put(keys.NOOUT, encode(Noout(others)), found[1])])
                else:
                    commit([Delete(keys.NOOUT, found[1])])
            except Conflict:
                continue
            self._log.info("ceph: noout is %s", f"still needed by {', '.join(others)}" if others else "unset")
            return
        raise StorageError("others change who needs noout all the time; try again")

    def tidy(self) -> None:
        """Release what a flush has left that ended without its steps, such as one that was cancelled while it waited:
        the node is in service, and nothing is under way. Raises as `release`."""
        if not self.held():
            return
        znode = self._coordinator.get(core.node(self._me))
        asked = read_operation(self._coordinator, self._me)
        if znode is None or (asked is not None and asked[0].phase not in FINAL):
            return
        if decode(Node, znode.data, core.node(self._me)).state is NodeState.READY:
            self.release(self._coordinator.commit)

    def forget(self) -> None:
        """An administrator has unset the flag: nobody's unflush is to do so any more. Raises Disconnected, Conflict."""
        found = self._read()
        if found is not None:
            self._coordinator.commit([Delete(keys.NOOUT, found[1])])

    def _put_in(self, commit: Commit, found: tuple[Noout, int] | None) -> None:
        if found is None:
            above = [Create(keys.STORAGE)] if self._coordinator.get(keys.STORAGE) is None else []
            commit([*above, Create(keys.NOOUT, encode(Noout((self._me,))))])
        elif self._me not in found[0].nodes:
            commit([Put(keys.NOOUT, encode(Noout((*found[0].nodes, self._me))), found[1])])

    def _read(self) -> tuple[Noout, int] | None:
        znode = self._coordinator.get(keys.NOOUT)
        return None if znode is None else (decode(Noout, znode.data, keys.NOOUT), znode.version)
