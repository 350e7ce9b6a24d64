"""Watches the simulated storage: no two attempts are ever at one volume together, whoever makes them."""

from collections.abc import Iterator
from contextlib import contextmanager

from pvc.core.storage import OpenBackend, Pool, Report
from pvc.testing.storage import FakeBackend, FakeStorage


class PoolsWatch:
    """Which calls are under way that change images."""

    def __init__(self) -> None:
        self.together: list[str] = []
        """What must never be: two calls at one image."""
        self._at: dict[tuple[str, str], str] = {}

    @contextmanager
    def at_work(self, pool: str, who: str, images: tuple[str, ...]) -> Iterator[None]:
        """Around a call that changes images. The death of its daemon ends it, too."""
        mine = [(pool, image) for image in images if (pool, image) not in self._at]
        self.together += [
            f"{who} while {self._at[pool, image]} is at {pool}/{image}" for image in images if (pool, image) in self._at
        ]
        self._at.update(dict.fromkeys(mine, who))
        try:
            yield
        finally:
            for key in mine:
                del self._at[key]


class WatchedBackend(FakeBackend):
    """A pool of a `FakeStorage` whose changing calls are watched."""

    def __init__(self, storage: FakeStorage, watch: PoolsWatch, node: str, address: str, pool: Pool) -> None:
        super().__init__(storage, node, address, pool)
        self._watch = watch
        self._who, self._where = node, pool.name

    def create(self, image: str, size: int) -> None:
        with self._at("create", image):
            super().create(image, size)

    def remove(self, image: str) -> None:
        with self._at("remove", image):
            super().remove(image)

    def resize(self, image: str, size: int) -> None:
        with self._at("resize", image):
            super().resize(image, size)

    def rename(self, image: str, new: str) -> None:
        with self._at("rename", image, new):
            super().rename(image, new)

    def clone(self, image: str, snapshot: str | None, new: str, report: Report) -> None:
        with self._at("clone", image, new):
            super().clone(image, snapshot, new, report)

    def load(self, path: str, image: str, report: Report) -> None:
        with self._at("load", image):
            super().load(path, image, report)

    def add_snapshot(self, image: str, snapshot: str) -> None:
        with self._at("add_snapshot", image):
            super().add_snapshot(image, snapshot)

    def remove_snapshot(self, image: str, snapshot: str) -> None:
        with self._at("remove_snapshot", image):
            super().remove_snapshot(image, snapshot)

    def roll_back(self, image: str, snapshot: str, report: Report) -> None:
        with self._at("roll_back", image):
            super().roll_back(image, snapshot, report)

    @contextmanager
    def _at(self, call: str, *images: str) -> Iterator[None]:
        with self._watch.at_work(self._where, f"{call} by {self._who}", images):
            yield


def opened_on(storage: FakeStorage, watch: PoolsWatch, node: str, address: str | None) -> OpenBackend:
    """What makes the watched backends of pools on a node."""
    usual = storage.open_on(node, address)

    def open_backend(pool: Pool, /) -> FakeBackend:
        usual(pool)  # refuses options that make no sense
        return WatchedBackend(storage, watch, node, address or node, pool)

    return open_backend
