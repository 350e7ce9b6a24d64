"""Storage in memory: the public fake of a storage that all nodes share, and of the `Backend` of each node.

A `FakeStorage` outlives daemons and nodes. Contents are short texts: what an image holds after a clone, a roll-back or
an import can be compared. It checks what the contract says and decides nothing else.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from pvc.core.runtime import Runtime
from pvc.core.storage import (
    BadPool,
    DamagedImage,
    Disk,
    Feature,
    HypervisorSecret,
    Image,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    OpenBackend,
    Pool,
    Report,
    Room,
    StorageError,
    StorageUnusable,
    Unsupported,
)

GLANCE = 1.0
"""Seconds between looks of a call that hangs at whether it still does."""
PARTS = 10
"""A long call is done, and reports, in so many parts."""
TERABYTE = 1 << 40


@dataclass(frozen=True, slots=True)
class FakeContents:
    """What an image, a snapshot or a file holds."""

    size: int
    """Bytes."""
    text: str = ""


@dataclass(slots=True)
class FakeImage:
    """One image, its snapshots, and who has it open."""

    contents: FakeContents
    format: str = "raw"
    parent: str = ""
    snapshots: dict[str, FakeContents] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    opened: list[str] = field(default_factory=list)
    """Addresses of the machines that write to it, once for each program."""
    made: float | None = None
    """Seconds since the epoch; None: nobody knows."""
    snapshots_made: dict[str, float] = field(default_factory=dict)
    damage: str = ""
    """Why it cannot be read; empty: it can."""


@dataclass(frozen=True, slots=True)
class _Failure:
    call: str
    node: str | None
    error: StorageError
    halfway: bool


Place = tuple[str | None, str | None]
"""A node and a pool; None: every one."""


class FakeStorage:
    """The shared storage of a whole cluster, each pool with images of its own, and the files of the nodes."""

    def __init__(self, runtime: Runtime, features: frozenset[Feature] = frozenset(Feature)) -> None:
        self._runtime = runtime
        self.features = features
        """Of all pools; may be changed at any time."""
        self.total = TERABYTE
        """Bytes of room in each pool; what images have in size is taken from it."""
        self.leaves_halves = False
        """Whether a long call whose daemon dies leaves a half image under the name it was asked for."""
        self.images: dict[tuple[str, str], FakeImage] = {}
        """By pool and name."""
        self.files: dict[tuple[str, str], FakeContents | str] = {}
        """By node and path: what a file holds, or why it is no image."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """How often each node made each call, those that fail or hang included."""
        self.secrets: dict[str, HypervisorSecret] = {}
        """What hypervisors must know, by pool."""
        self.absent: set[str] = set()
        """Addresses of machines that are cut off."""
        self._pauses: dict[Place, float] = {}
        self._hanging: set[Place] = set()
        self._unusable: dict[Place, str] = {}
        self._full: set[str] = set()
        self._failures: list[_Failure] = []

    def open_on(self, node: str, address: str | None = None) -> OpenBackend:
        """What makes pools' backends on a node; `address`: of its machine, by default the node's name."""

        def open_backend(pool: Pool, /) -> FakeBackend:
            for option in pool.options:
                if option != "format":
                    raise BadPool(f"pool {pool.name}: there is no option {option}; it has only format")
            if (format := pool.options.get("format", "raw")) not in ("raw", "qcow2"):
                raise BadPool(f"pool {pool.name}: format cannot be {format}; it is raw or qcow2")
            return FakeBackend(self, node, address or node, pool)

        return open_backend

    def image(self, pool: str, name: str) -> FakeImage:
        """An image, with all there is to know. Raises NoSuchImage."""
        if (pool, name) not in self.images:
            raise NoSuchImage(f"pool {pool} has no image {name}")
        return self.images[pool, name]

    def opens(self, pool: str, name: str, address: str) -> None:
        """A program on a machine opens an image in order to write. Raises NoSuchImage, StorageUnusable."""
        self.admit(address)
        self.image(pool, name).opened.append(address)

    def closes(self, pool: str, name: str, address: str) -> None:
        """It closes it, or dies."""
        self.image(pool, name).opened.remove(address)

    def writes(self, pool: str, name: str, text: str, address: str = "") -> None:
        """A machine changes what an image holds. Raises NoSuchImage, StorageUnusable if it is cut off."""
        self.admit(address)
        image = self.image(pool, name)
        image.contents = replace(image.contents, text=text)

    def slow(self, seconds: float, *, node: str | None = None, pool: str | None = None) -> None:
        """Every call takes so long, and every part of a long call again; 0: no longer."""
        self._pauses[node, pool] = seconds

    def hang(self, hangs: bool = True, *, node: str | None = None, pool: str | None = None) -> None:
        """Every call waits until it is told that it no longer does; one that is under way, at its next part."""
        (self._hanging.add if hangs else self._hanging.discard)((node, pool))

    def spoil(self, why: str, *, node: str | None = None, pool: str | None = None) -> None:
        """Every call says that the storage cannot be used, and why; empty: no longer."""
        self._unusable[node, pool] = why

    def fail_once(self, call: str, error: StorageError, *, node: str | None = None, halfway: bool = False) -> None:
        """The next call of that name fails, a long one when half of it is done if `halfway`."""
        self._failures.append(_Failure(call, node, error, halfway))

    def fill(self, pool: str, full: bool = True) -> None:
        """Nothing more goes into a pool."""
        (self._full.add if full else self._full.discard)(pool)

    def count(self, call: str, node: str | None = None) -> int:
        """How often a node, or all together, made a call."""
        return sum(times for (who, what), times in self.calls.items() if what == call and node in (None, who))

    def now(self) -> float:
        """By the storage's clock."""
        return self._runtime.now()

    def room(self, pool: str) -> Room:
        """How full a pool is."""
        used = sum(image.contents.size for (where, _), image in self.images.items() if where == pool)
        return Room(self.total, 0 if pool in self._full else max(0, self.total - used))

    def enter(self, node: str, address: str, pool: str, call: str) -> None:
        """What happens to every call before it does anything. Raises StorageUnusable, and what it was told to."""
        self.calls[node, call] += 1
        self.pause(node, pool)
        self.admit(address)
        for place, why in self._unusable.items():
            if why and _within(node, pool, place):
                raise StorageUnusable(f"pool {pool}: {why}")
        self.fail(node, call, halfway=False)

    def pause(self, node: str, pool: str) -> None:
        """Take the time that a part of a call takes."""
        while any(_within(node, pool, place) for place in self._hanging):
            self._runtime.sleep(GLANCE)
        pause = max((seconds for place, seconds in self._pauses.items() if _within(node, pool, place)), default=0.0)
        if pause:
            self._runtime.sleep(pause)

    def fail(self, node: str, call: str, *, halfway: bool) -> None:
        """Raises what this call was told to raise at this point."""
        for failure in self._failures:
            if failure.call == call and failure.node in (None, node) and failure.halfway == halfway:
                self._failures.remove(failure)
                raise failure.error

    def admit(self, address: str) -> None:
        """Raises StorageUnusable if a machine is cut off."""
        if address in self.absent:
            raise StorageUnusable(f"{address} is cut off; have it readmitted once it has been off")


class FakeBackend:
    """One pool of a `FakeStorage` as one node reaches it."""

    def __init__(self, storage: FakeStorage, node: str, address: str, pool: Pool) -> None:
        self._storage = storage
        self._node = node
        self._address = address
        self._pool = pool.name
        self._format = pool.options.get("format", "raw")

    @property
    def features(self) -> frozenset[Feature]:
        return self._storage.features - (frozenset() if self._format == "raw" else {Feature.DATED})

    def look(self) -> Room:
        self._enter("look")
        return self._storage.room(self._pool)

    def images(self) -> Sequence[str]:
        self._enter("images")
        return [name for pool, name in self._storage.images if pool == self._pool]

    def inspect(self, image: str) -> Image:
        self._enter("inspect")
        found = self._find(image)
        if found.damage:
            raise DamagedImage(f"{image} {found.damage}; remove it")
        return Image(
            size=found.contents.size,
            format=found.format,
            used=found.contents.size if found.contents.text else 0,
            snapshots=tuple(found.snapshots),
            parent=found.parent,
            **self._dates(found),
        )

    def create(self, image: str, size: int) -> None:
        self._enter("create")
        self._must_be_new(image)
        self._must_fit(size)
        self._storage.images[self._pool, image] = FakeImage(FakeContents(size), self._format, made=self._storage.now())

    def remove(self, image: str) -> None:
        self._enter("remove")
        found = self._unopened(image)
        for snapshot in found.snapshots:
            self._must_be_free(image, snapshot)
        del self._storage.images[self._pool, image]

    def resize(self, image: str, size: int) -> None:
        self._enter("resize")
        found = self._find(image) if Feature.LIVE_RESIZE in self.features else self._unopened(image)
        self._must_fit(size - found.contents.size)
        found.contents = replace(found.contents, size=size)

    def rename(self, image: str, new: str) -> None:
        self._enter("rename")
        self._unopened(image)
        self._must_be_new(new)
        for (pool, _), other in self._storage.images.items():
            if pool == self._pool and other.parent.startswith(f"{image}@"):
                other.parent = f"{new}@{other.parent.partition('@')[2]}"
        self._storage.images[self._pool, new] = self._storage.images.pop((self._pool, image))

    def clone(self, image: str, snapshot: str | None, new: str, report: Report) -> None:
        self._enter("clone")
        contents = self._source(image, snapshot)
        linked = snapshot is not None and Feature.LINKED_CLONES in self.features
        self._make("clone", new, contents, report, f"{image}@{snapshot}" if linked else "")

    def load(self, path: str, image: str, report: Report) -> None:
        self._enter("load")
        contents = self._storage.files.get((self._node, path), "does not exist")
        if isinstance(contents, str):
            raise StorageError(f"{path} {contents}; name a file of {self._node} that is a raw or a qcow2 image")
        self._make("load", image, contents, report)

    def save(self, image: str, snapshot: str | None, path: str, format: str, report: Report) -> None:
        self._enter("save")
        contents = self._source(image, snapshot)
        if (self._node, path) in self._storage.files:
            raise ImageExists(f"there is a file {path} already; name another")
        self._take_time("save", contents.size, report)
        self._storage.files[self._node, path] = contents

    def add_snapshot(self, image: str, snapshot: str) -> None:
        self._enter("add_snapshot")
        found = self._for_snapshots(image, live=True)
        if snapshot in found.snapshots:
            raise ImageExists(f"{image} has a snapshot {snapshot} already; choose another name")
        found.snapshots[snapshot] = found.contents
        found.snapshots_made[snapshot] = self._storage.now()

    def remove_snapshot(self, image: str, snapshot: str) -> None:
        self._enter("remove_snapshot")
        found = self._for_snapshots(image, live=True)
        self._source(image, snapshot, live=True)
        self._must_be_free(image, snapshot)
        del found.snapshots[snapshot]

    def protect_snapshot(self, image: str, snapshot: str, on: bool) -> None:
        self._enter("protect_snapshot")
        self._source(image, snapshot, live=True)
        found = self._find(image)
        (found.protected.add if on else found.protected.discard)(snapshot)

    def roll_back(self, image: str, snapshot: str, report: Report) -> None:
        self._enter("roll_back")
        found = self._for_snapshots(image, live=False)
        contents = self._source(image, snapshot)
        self._take_time("roll_back", contents.size, report)
        found.contents = contents

    def disk(self, image: str, format: str) -> Disk:
        return Disk("file", format, f"<source file='/fake/{self._pool}/{image}'/>", {"cache": "none"})

    def secret(self) -> HypervisorSecret | None:
        return self._storage.secrets.get(self._pool)

    def addresses(self) -> Sequence[str]:
        return [self._address] if Feature.CUTS_OFF in self.features else []

    def writers(self, image: str) -> Sequence[str] | None:
        self._enter("writers")
        opened = tuple(dict.fromkeys(self._find(image).opened))
        return opened if Feature.CUTS_OFF in self.features else None

    def cut_off(self, addresses: Sequence[str]) -> None:
        self._enter("cut_off")
        if Feature.CUTS_OFF not in self.features:
            raise Unsupported("this storage cannot cut a machine off; see to it that the machine is off")
        self._storage.absent.update(addresses)
        for image in self._storage.images.values():
            image.opened = [address for address in image.opened if address not in addresses]

    def readmit(self, addresses: Sequence[str]) -> None:
        self._enter("readmit")
        self._storage.absent.difference_update(addresses)

    def _enter(self, call: str) -> None:
        self._storage.enter(self._node, self._address, self._pool, call)

    def _dates(self, found: FakeImage) -> dict[str, Any]:
        if Feature.DATED not in self.features:
            return {}
        times = tuple(found.snapshots_made.get(name, 0.0) for name in found.snapshots)
        return {"made": found.made, "snapshots_made": times}

    def _find(self, image: str) -> FakeImage:
        return self._storage.image(self._pool, image)

    def _unopened(self, image: str) -> FakeImage:
        found = self._find(image)
        if found.opened:
            raise ImageInUse(f"{image} is open on {found.opened[0]}; stop the VM that uses it")
        return found

    def _for_snapshots(self, image: str, *, live: bool) -> FakeImage:
        if Feature.SNAPSHOTS not in self.features:
            raise Unsupported("this storage has no snapshots; clone the volume")
        return self._find(image) if live and Feature.LIVE_SNAPSHOTS in self.features else self._unopened(image)

    def _source(self, image: str, snapshot: str | None, live: bool = False) -> FakeContents:
        """What is to be read: an image at rest, where the storage cannot read one that changes, or a snapshot."""
        found = self._find(image) if live or Feature.LIVE_SNAPSHOTS in self.features else self._unopened(image)
        if snapshot is None:
            return found.contents
        if snapshot not in found.snapshots:
            raise NoSuchImage(f"{image} has no snapshot {snapshot}")
        return found.snapshots[snapshot]

    def _must_be_new(self, image: str) -> None:
        if (self._pool, image) in self._storage.images:
            raise ImageExists(f"pool {self._pool} has an image {image} already; choose another name")

    def _must_fit(self, size: int) -> None:
        room = self._storage.room(self._pool)
        if size > 0 and size > room.free:
            raise StorageError(f"pool {self._pool} is full; remove volumes or give it more room")

    def _must_be_free(self, image: str, snapshot: str) -> None:
        if snapshot in self._find(image).protected:
            raise ImageInUse(f"snapshot {snapshot} of {image} is protected; take that back first")
        for (pool, name), other in self._storage.images.items():
            if pool == self._pool and other.parent == f"{image}@{snapshot}":
                raise ImageInUse(f"{name} is a linked clone of {image}@{snapshot}; remove it first")

    def _make(self, call: str, image: str, contents: FakeContents, report: Report, parent: str = "") -> None:
        """Make an image in time, and nothing if anything but the death of the daemon stops that."""
        self._must_be_new(image)
        self._must_fit(contents.size)
        key = self._pool, image
        if self._storage.leaves_halves:
            self._storage.images[key] = FakeImage(
                replace(contents, text="half"), self._format, made=self._storage.now()
            )
            with _removed_if_stopped(lambda: self._storage.images.pop(key, None)):
                self._take_time(call, contents.size, report)
        else:
            self._take_time(call, contents.size, report)
            self._must_be_new(image)
        self._storage.images[key] = FakeImage(contents, self._format, parent, made=self._storage.now())

    def _take_time(self, call: str, size: int, report: Report) -> None:
        for part in range(1, PARTS + 1):
            self._storage.pause(self._node, self._pool)
            self._storage.admit(self._address)
            if part == PARTS // 2:
                self._storage.fail(self._node, call, halfway=True)
            report(size * part // PARTS, size)


@contextmanager
def _removed_if_stopped(remove: Callable[[], object]) -> Iterator[None]:
    try:
        yield
    except Exception:  # whatever it was that stopped it, it is undone and raised again
        remove()
        raise


def _within(node: str, pool: str, place: Place) -> bool:
    return place[0] in (None, node) and place[1] in (None, pool)
