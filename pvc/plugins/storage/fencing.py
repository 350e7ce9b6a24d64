"""Exactly one writer: keeps nodes that were declared dead out of the storage before anything of theirs starts here, and
has them let in again once they are back. Never keeps out a node that nobody has declared dead."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Conflict, Put
from pvc.core.decide.fencing import after_cut, after_readmission
from pvc.core.errors import PvcError
from pvc.core.lookup import all_nodes, read_facts
from pvc.core.mirror import Mirror
from pvc.core.model import Finding, Node, Severity
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Signal
from pvc.core.service import Jobs
from pvc.core.storage import Backend, Feature, Pool, StorageError
from pvc.plugins.storage import keys
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide.fencing import Readmission, addresses_of, due, returned, strangers, to_be_cut
from pvc.plugins.storage.decide.pools import published_in
from pvc.plugins.storage.schema import SECTION

TRIES = 10
"""How often a write is tried again when somebody else changes the node's record at the same moment."""
LOOK = 10.0
"""Seconds between looks at the nodes when nothing happens."""


class HasWriter(PvcError):
    """Something else has a volume open: a VM must not start with it."""


class Admission:
    """Asked before a VM starts with volumes, and before work that nobody may write beside. Called from jobs, as it asks
    the storage."""

    def __init__(self, context: Context, backends: Backends) -> None:
        self._context = context
        self._coordinator = context.coordinator
        self._backends = backends
        self._done: set[tuple[str, str, tuple[str, ...]]] = set()
        """Declaration, pool and addresses: what this daemon has seen done."""

    def demand(self, volumes: Iterable[tuple[Pool, str]]) -> None:
        """See to it that nobody else writes to these volumes, each a pool and a name.

        Raises HasWriter, StorageError, Conflict, Disconnected.
        """
        wanted = list(volumes)
        for pool in {pool.name: pool for pool, _ in wanted}.values():
            backend = self._backends.get(pool)
            if Feature.CUTS_OFF not in backend.features:
                continue
            # What is left of a guest that died here is no writer: the lease is this node's, and its guest is gone.
            known = [*backend.addresses(), *self.keep_out(pool)]
            for volume in (name for other, name in wanted if other.name == pool.name):
                self._demand_alone(pool.name, volume, backend.writers(volume), known)

    def keep_out(self, pool: Pool) -> list[str]:
        """Keep the nodes that were declared dead out of a pool, if it can do that; their addresses there.

        Raises StorageError, Conflict, Disconnected.
        """
        backend = self._backends.get(pool)
        if Feature.CUTS_OFF not in backend.features:
            return []
        dead = to_be_cut(all_nodes(self._coordinator)[0])
        return [address for node in dead for address in self._cut_off(node.name, pool.name, backend)]

    def _demand_alone(self, pool: str, volume: str, writers: Sequence[str] | None, known: Sequence[str]) -> None:
        if others := strangers(writers, known):
            raise HasWriter(
                f"volume {volume} of pool {pool} is open at {', '.join(others)}; find out what has it open there, or, "
                "if that host is dead, declare its node dead with `pvc node fence`; if that has been done, or there is "
                "no such node, see to it that the host is off, and have the storage itself keep that address out "
                "(Ceph: `ceph osd blocklist add ADDRESS:0/0 315360000`)"
            )

    def _cut_off(self, name: str, pool: str, backend: Backend) -> tuple[str, ...]:
        """Keep one node out of a pool, having written that it is; its addresses there."""
        node = self._note(name, pool)
        if node is None or node.fence is None:
            return ()
        addresses = node.fence.cut[pool]
        if (this := (node.fence.id, pool, addresses)) not in self._done:
            backend.cut_off(addresses)
            self._done.add(this)
            self._context.log.info("pool %s: keeps %s out, which was declared dead", pool, name)
        return addresses

    def _note(self, name: str, pool: str) -> Node | None:
        """Write that a pool keeps a node out; the node as it is now; None: it is back."""
        for left in reversed(range(TRIES)):
            znode = self._coordinator.get(core.node(name))
            node = None if znode is None else decode(Node, znode.data, core.node(name))
            if znode is None or node is None or node.fence is None or node.fence.returned:
                return None
            addresses = addresses_of(node, pool, published_in(read_facts(self._coordinator, name)))
            if not addresses:
                raise StorageError(
                    f"{name} was declared dead, and its address is not known, so pool {pool} cannot keep it out; set "
                    "`address` in its pvc.yaml before you start it again"
                )
            new = after_cut(node.fence, pool, addresses)
            if new == node.fence:
                return node
            try:
                self._coordinator.commit([Put(core.node(name), encode(replace(node, fence=new)), znode.version)])
                return replace(node, fence=new)
            except Conflict:
                if not left:
                    raise
        raise AssertionError("unreachable")


class Readmissions:
    """Service `storage-readmission`: has the storage let nodes in again that were declared dead and are back."""

    name = "storage-readmission"
    after: tuple[str, ...] = ("liveness",)

    def __init__(self, context: Context, backends: Backends) -> None:
        self.wake: Signal = context.runtime.signal()
        self._context = context
        self._coordinator = context.coordinator
        self._backends = backends
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._jobs = Jobs(context.runtime, self.wake)
        self._failed: dict[str, str] = {}

    def step(self) -> float:
        for end in self._jobs.ended():
            if end.error is None:
                self._failed.pop(end.key, None)
            elif self._failed.get(end.key) != str(end.error):
                self._failed[end.key] = str(end.error)
                self._context.log.warning("%s cannot be let in again yet: %s", end.key, end.error)
        if self._context.registered():
            for one in self._due():
                self._jobs.start(f"{one.node} to pool {one.pool}", partial(self._readmit, one))
        return LOOK

    def stop(self) -> None:
        """What is on its way is tried again by whoever looks next."""

    def findings(self) -> list[Finding]:
        """What keeps nodes out though they are back."""
        advice = "it is tried again; until then that node takes no VM"
        return [
            Finding(SECTION, Severity.WARNING, f"{what} cannot be let in again yet: {why}; {advice}")
            for what, why in sorted(self._failed.items())
        ]

    def _due(self) -> list[Readmission]:
        nodes = self._nodes()
        if not returned(nodes):
            return []
        alive = self._alive()
        self._mirror.prefetch(core.node_facts(name) for name in alive)
        states = {name: published_in(read_facts(self._mirror, name)) for name in alive}
        return due(nodes, self._context.node, alive, states)

    def _readmit(self, one: Readmission) -> None:
        znode = self._coordinator.get(keys.pool(one.pool))
        backend = None if znode is None else self._backends.get(decode(Pool, znode.data, keys.pool(one.pool)))
        if backend is not None:  # else there is nothing left to be let in to
            backend.readmit(one.addresses)
        for left in reversed(range(TRIES)):
            znode = self._coordinator.get(core.node(one.node))
            node = None if znode is None else decode(Node, znode.data, core.node(one.node))
            if znode is None or node is None or node.fence is None:
                return
            if not node.fence.returned:  # it died once more meanwhile, and may have been cut off again before this
                if backend is not None:
                    backend.cut_off(one.addresses)
                return
            new = replace(node, fence=after_readmission(node.fence, one.pool))
            try:
                self._coordinator.commit([Put(core.node(one.node), encode(new), znode.version)])
                break
            except Conflict:
                if not left:
                    raise
            finally:
                self._mirror.drop(core.node(one.node))
        self._context.log.info("pool %s: lets %s in again", one.pool, one.node)

    def _nodes(self) -> list[Node]:
        names = self._mirror.children(core.NODES) or ()
        self._mirror.prefetch(core.node(name) for name in names)
        found = []
        for name in names:
            znode = self._mirror.get(core.node(name))
            try:
                found += [] if znode is None else [decode(Node, znode.data, core.node(name))]
            except Garbage:
                continue
        return found

    def _alive(self) -> set[str]:
        names = self._mirror.children(core.NODES) or ()
        self._mirror.prefetch(core.node_session(name) for name in names)
        return {name for name in names if self._mirror.get(core.node_session(name)) is not None}
