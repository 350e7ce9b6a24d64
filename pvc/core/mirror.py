"""A local copy of what a service reads, dropped piece by piece by watches.

Reads go through: the first asks the cluster and leaves a watch, later ones cost nothing until the watch fires. A fired
watch or a changed session wakes the service. One mirror belongs to one service; it never writes.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from pvc.core.coordination import Coordinator, Disconnected, SessionState, Znode
from pvc.core.runtime import Runtime, Signal

LOOK_AFRESH = 30.0
"""Seconds after which everything is asked for again though no watch has fired: the safety net for a lost event."""


class Mirror:
    """Read-through, watch-invalidated view of the tree."""

    def __init__(
        self, coordinator: Coordinator, runtime: Runtime, wake: Signal, *, look_afresh: float = LOOK_AFRESH
    ) -> None:
        """`look_afresh`: seconds after which all is asked for again; more for what is large."""
        self._coordinator = coordinator
        self._afresh = look_afresh
        self._wake = wake
        self._runtime = runtime
        self._looked_afresh = runtime.monotonic()
        self._lock = runtime.mutex()
        self._generation = 0
        self._nodes: dict[str, Znode | None] = {}
        self._children: dict[str, tuple[str, ...] | None] = {}
        self._watches: dict[str, _Watch] = {}
        coordinator.listen(self._session_changed)

    def get(self, path: str) -> Znode | None:
        """The node as last seen; None if it does not exist. Raises Disconnected if it must be asked for and cannot."""
        self._look_afresh_sometimes()
        with self._lock:
            if path in self._nodes:
                return self._nodes[path]
            generation = self._generation
        watch = _Watch(self, self._nodes, path)
        znode = self._coordinator.get(path, watch)
        self._keep(path, znode, watch, generation)
        return znode

    def prefetch(self, paths: Iterable[str]) -> None:
        """Ask for all of these that are not known, at once instead of one after the other. Raises Disconnected."""
        self._look_afresh_sometimes()
        with self._lock:
            missing = [path for path in paths if path not in self._nodes]
            generation = self._generation
        if not missing:
            return
        watches = [_Watch(self, self._nodes, path) for path in missing]
        znodes = self._coordinator.get_many(missing, watches)
        for path, znode, watch in zip(missing, znodes, watches, strict=True):
            self._keep(path, znode, watch, generation)

    def children(self, path: str) -> tuple[str, ...] | None:
        """The names below a node as last seen; None if it does not exist. Raises Disconnected like `get`."""
        self._look_afresh_sometimes()
        with self._lock:
            if path in self._children:
                return self._children[path]
            generation = self._generation
        watch = _Watch(self, self._children, path)
        names = self._coordinator.children(path, watch)
        with self._lock:
            if not watch.fired and generation == self._generation:
                self._children[path] = names
        return names

    def forget(self) -> None:
        """Drop everything: the next reads ask the cluster."""
        with self._lock:
            self._looked_afresh = self._runtime.monotonic()
            self._generation += 1
            self._nodes.clear()
            self._children.clear()
            self._watches.clear()

    def drop(self, path: str) -> None:
        """Drop what is known of one node, because a write of our own has just changed it."""
        with self._lock:
            self._nodes.pop(path, None)
            self._children.pop(path, None)

    @contextmanager
    def own_write(self, versions: Mapping[str, int]) -> Iterator[None]:
        """Around a transaction of our own that gives these nodes these versions: the service is not woken by it.

        They are read again at once; one that is of another version by then wakes the service after all. If the
        transaction fails, what was known of them is dropped.
        """
        with self._lock:
            for path in versions:
                watch = self._watches.pop(path, None)
                if watch is not None:
                    watch.expected = True
        try:
            yield
        except BaseException:
            for path in versions:
                self.drop(path)
            raise
        for path, version in versions.items():
            self._read_again(path, version)

    def _keep(self, path: str, znode: Znode | None, watch: "_Watch", generation: int) -> None:
        """Remember what was read, unless it has changed since, or everything was dropped."""
        with self._lock:
            if not watch.fired and generation == self._generation:
                self._nodes[path] = znode
                self._watches[path] = watch

    def _read_again(self, path: str, version: int) -> None:
        self.drop(path)
        try:
            znode = self.get(path)
        except Disconnected:
            self._wake.set()
            return
        if znode is None or znode.version != version:
            self._wake.set()

    def _look_afresh_sometimes(self) -> None:
        if self._runtime.monotonic() - self._looked_afresh >= self._afresh:
            self.forget()

    def _session_changed(self, state: SessionState) -> None:
        if state is not SessionState.SUSPENDED:
            self.forget()
        self._wake.set()


class _Watch:
    """One armed watch. It may fire before the read that armed it has returned: then nothing must be kept."""

    def __init__(
        self, mirror: Mirror, entries: "dict[str, Znode | None] | dict[str, tuple[str, ...] | None]", path: str
    ):
        self._mirror = mirror
        self._entries = entries
        self._path = path
        self.fired = False
        self.expected = False
        """It tells of a write of our own, after which the node is read again."""

    def __call__(self) -> None:
        with self._mirror._lock:
            self.fired = True
            if self.expected:
                return
            self._entries.pop(self._path, None)
        self._mirror._wake.set()
