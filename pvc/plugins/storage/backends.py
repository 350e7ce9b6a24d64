"""Opens the backend of each pool on this node once, and keeps it for all who use it. Asks no storage anything."""

from collections.abc import Callable, Mapping

from pvc.core.runtime import Runtime
from pvc.core.storage import Backend, OpenBackend, Pool, StorageError, StorageUnusable


class Backends:
    """The backends of this node's pools. Safe from any thread."""

    def __init__(self, runtime: Runtime, kinds: Callable[[], Mapping[str, OpenBackend]]) -> None:
        """`kinds` gives what opens a backend, by the name that pools call it; asked for once, when first needed."""
        self._kinds_of_plugins = kinds
        self._kinds: Mapping[str, OpenBackend] | None = None
        self._lock = runtime.mutex()
        self._open: dict[str, tuple[Pool, Backend]] = {}

    def get(self, pool: Pool) -> Backend:
        """The backend of a pool; a new one if its record is not what it was.

        Raises BadPool, and StorageUnusable if no plugin of this node knows such pools.
        """
        with self._lock:
            known = self._open.get(pool.name)
        if known is not None and known[0] == pool:
            return known[1]
        backend = self.fresh(pool)
        with self._lock:
            self._open[pool.name] = pool, backend
        return backend

    def fresh(self, pool: Pool) -> Backend:
        """As `get`, of a pool that there may never be: nothing is kept."""
        if self._kinds is None:
            self._kinds = self._kinds_of_plugins()
        open_backend = self._kinds.get(pool.backend)
        if open_backend is None:
            known = ", ".join(sorted(self._kinds)) or "none"
            raise StorageUnusable(
                f"this node knows no backend {pool.backend}, only {known}; install the plugin that brings it"
            )
        try:
            return open_backend(pool)
        except StorageError:
            raise
        except Exception as error:  # it may be of a third party: whoever asked must not end by it
            raise StorageUnusable(
                f"backend {pool.backend} failed to open: {type(error).__name__}: {error}; report that to its authors"
            ) from error
