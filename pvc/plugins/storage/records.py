"""The records of pools, volumes and tasks, and how they are read. A pool's own record is `core.storage.Pool`."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

from pvc.core.coordination import Coordinator
from pvc.core.mirror import Mirror
from pvc.core.records import Garbage, decode
from pvc.core.storage import Pool
from pvc.plugins.storage import keys

T = TypeVar("T")


class VolumeState(Enum):
    """What is known of a volume.

    MAKING -> READY | gone (the task failed, or was cancelled); READY -> REMOVING -> gone.
    """

    MAKING = "making"
    """A task makes its image; no VM can use it yet."""
    READY = "ready"
    REMOVING = "removing"
    """A task destroys its image. It stays so if that fails: half of it may be gone."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot of a volume."""

    name: str
    created: float
    """Seconds since the epoch."""
    size: int
    """Bytes that the volume had then."""
    protected: bool = False
    """It is not removed, and its volume is not, until that is taken back."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk in a pool: what the cluster knows of it. Its image has the same name."""

    name: str
    size: int
    """Bytes."""
    state: VolumeState = VolumeState.MAKING
    format: str = "raw"
    """Of the image, as libvirt calls it."""
    created: float = 0.0
    """Seconds since the epoch."""
    by: str = ""
    parent: str = ""
    """What it is a linked clone of, as `volume@snapshot` of the same pool; empty: it stands alone."""
    snapshots: tuple[Snapshot, ...] = ()
    task: str | None = None
    """The task that changes or copies it now. No other may be asked for meanwhile, and where that `stills` it, no VM
    may start with it."""


class TaskKind(Enum):
    """What a node is asked to do with the storage."""

    ADD_POOL = "add pool"
    """Look whether a pool can be used, and make its record."""
    CREATE = "create"
    REMOVE = "remove"
    RESIZE = "resize"
    RENAME = "rename"
    CLONE = "clone"
    IMPORT = "import"
    EXPORT = "export"
    SNAPSHOT = "snapshot"
    UNSNAPSHOT = "remove snapshot"
    PROTECT = "protect"
    ROLL_BACK = "roll back"
    ADD_OSD = "add osd"
    REMOVE_OSD = "remove osd"
    MARK_OSD = "mark osd"
    """In or out."""
    SET_FLAG = "set flag"


GOES = frozenset({TaskKind.REMOVE, TaskKind.RENAME})
"""After these there is no volume of that name: no VM is defined with it."""
STILLS = GOES | {TaskKind.ROLL_BACK}
"""No VM may run on the volume meanwhile, nor start with it; see `stills`."""
COPIES = frozenset({TaskKind.CLONE, TaskKind.EXPORT})
"""Likewise where they read the volume itself, and not a snapshot of it."""


class TaskPhase(Enum):
    """How far a task is.

    ASKED -> RUNNING -> DONE | FAILED | CANCELLED; RUNNING -> ASKED when the node that was at it is gone. ASKED ->
    CANCELLED by a client, as long as no node has begun with it.
    """

    ASKED = "asked"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED = frozenset({TaskPhase.DONE, TaskPhase.FAILED, TaskPhase.CANCELLED})
"""Phases that a task never leaves."""


@dataclass(frozen=True, slots=True)
class Task:
    """One piece of work on the storage: asked for by a client, carried out by a node, followed by anybody."""

    id: str
    kind: TaskKind
    node: str
    """Who carries it out. While it has not ended and that node is not alive, another one that can use the pool takes
    it over, unless it is `bound`."""
    by: str
    requested: float
    """Seconds since the epoch."""
    bound: bool = False
    """Only this node can do it: it is about a file or a device of its own."""
    pool: str = ""
    volume: str = ""
    snapshot: str = ""
    new: str = ""
    """The name that a volume gets: RENAME, CLONE."""
    size: int | None = None
    """Bytes."""
    path: str = ""
    """A file of the node: IMPORT, EXPORT. A device: ADD_OSD."""
    format: str = ""
    on: bool = True
    """PROTECT, MARK_OSD (in), SET_FLAG: or the contrary."""
    again: bool = False
    """REMOVE: of a volume that an earlier removal has left half removed. Known once it has begun."""
    osd: int | None = None
    osd_uuid: str = ""
    """REMOVE_OSD: which OSD had that number when it began. Another one may have it by now."""
    flag: str = ""
    proposed: Pool | None = None
    """ADD_POOL."""
    phase: TaskPhase = TaskPhase.ASKED
    attempts: int = 0
    """How often a node has begun with it. What is found half done from the second on may be this task's own."""
    began: float | None = None
    finished: float | None = None
    done: int | None = None
    """Bytes, or parts, that are done, of `total`; None: it does not tell."""
    total: int | None = None
    doing: str = ""
    """What it is at, in words."""
    message: str = ""
    """One closing sentence: what was done, or why not and what to do."""
    cancel: bool = False
    """Somebody asked for its end."""


def stills(task: Task, volume: Volume) -> bool:
    """Whether no VM may run on a volume, nor start with it, because of a task about it, wherever it is kept.

    One that makes it smaller takes from under a VM what that has just seen; what is copied must not change meanwhile.
    """
    shrinks = task.kind is TaskKind.RESIZE and task.size is not None and task.size < volume.size
    copies = task.kind in COPIES and not task.snapshot
    return task.phase not in ENDED and (task.kind in STILLS or shrinks or copies)


def read_pools(source: Coordinator | Mirror) -> dict[str, Pool | None]:
    """All pools by name; None for one whose record cannot be read. Raises Disconnected."""
    names = source.children(keys.POOLS) or ()
    return _read_all(source, Pool, {name: keys.pool(name) for name in names})


def read_volumes(source: Coordinator | Mirror, pool: str) -> dict[str, Volume | None]:
    """All volumes of a pool by name; None for one whose record cannot be read. Raises Disconnected."""
    names = source.children(keys.volumes(pool)) or ()
    return _read_all(source, Volume, {name: keys.volume(pool, name) for name in names})


def read_tasks(source: Coordinator | Mirror) -> dict[str, Task | None]:
    """The tasks in hand and the last that have ended, by id; None for one whose record cannot be read.

    One that ends meanwhile is there as it has ended. Raises Disconnected.
    """
    return {**_tasks_in_hand(source), **_read_all(source, Task, _paths(source, keys.ENDED_TASKS, keys.ended_task))}


def in_hand(source: Coordinator | Mirror) -> list[Task]:
    """The tasks that have not ended. Raises Disconnected."""
    return [task for task in _tasks_in_hand(source).values() if task is not None]


def _tasks_in_hand(source: Coordinator | Mirror) -> dict[str, Task | None]:
    return _read_all(source, Task, _paths(source, keys.TASKS, keys.task))


def _paths(source: Coordinator | Mirror, folder: str, path_of: Callable[[str], str]) -> dict[str, str]:
    return {name: path_of(name) for name in source.children(folder) or ()}


def decoded(kind: type[T], data: bytes, path: str) -> T | None:
    """The record; None if it cannot be read."""
    try:
        return decode(kind, data, path)
    except Garbage:
        return None


def _read_all(source: Coordinator | Mirror, kind: type[T], paths: Mapping[str, str]) -> dict[str, T | None]:
    found: dict[str, T | None] = {}
    for name, (path, znode) in zip(paths, _znodes(source, paths.values()), strict=True):
        if znode is not None:
            found[name] = decoded(kind, znode, path)
    return found


def _znodes(source: Coordinator | Mirror, paths: Iterable[str]) -> list[tuple[str, bytes | None]]:
    wanted = list(paths)
    if isinstance(source, Mirror):
        source.prefetch(wanted)
        znodes = [source.get(path) for path in wanted]
    else:
        znodes = source.get_many(wanted)
    return [(path, None if znode is None else znode.data) for path, znode in zip(wanted, znodes, strict=True)]
