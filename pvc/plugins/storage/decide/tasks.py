"""What becomes of tasks: which of them a node begins with, what is left to do, how the records change at the end."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from pvc.core.storage import Image
from pvc.plugins.storage.records import ENDED, Snapshot, Task, TaskKind, TaskPhase, Volume, VolumeState

CLOCKS = 30.0
"""Seconds by which the clocks of a node and of a storage may differ."""
SPREAD = 2.0
"""Seconds between the tries of two nodes to take over a task: long enough for the first one's to be heard of."""
KEPT = 100
"""Tasks that are kept after their end."""

MAKES = frozenset({TaskKind.CREATE, TaskKind.CLONE, TaskKind.IMPORT})
"""They make an image, whose record is there before it."""
OF_VOLUMES = MAKES | {
    TaskKind.REMOVE,
    TaskKind.RESIZE,
    TaskKind.RENAME,
    TaskKind.EXPORT,
    TaskKind.SNAPSHOT,
    TaskKind.UNSNAPSHOT,
    TaskKind.PROTECT,
    TaskKind.ROLL_BACK,
}
ALTERS = frozenset({TaskKind.RESIZE, TaskKind.RENAME, TaskKind.SNAPSHOT, TaskKind.UNSNAPSHOT, TaskKind.ROLL_BACK})
"""They change a whole volume. If one that has begun ended without a look at the storage, the volume's record could be
wrong, or the volume hold parts of two."""
CHANGES = ALTERS | {TaskKind.REMOVE}
"""Of these a refusal tells of the attempt that was refused only: one before it may have done part of the work."""
DATED = frozenset({TaskKind.CREATE, TaskKind.CLONE, TaskKind.SNAPSHOT})
"""What they make has a date, where the storage gives one."""
MOVES: Mapping[TaskPhase, frozenset[TaskPhase]] = {
    TaskPhase.ASKED: frozenset({TaskPhase.RUNNING, TaskPhase.FAILED, TaskPhase.CANCELLED}),
    TaskPhase.RUNNING: frozenset({TaskPhase.ASKED, TaskPhase.DONE, TaskPhase.FAILED, TaskPhase.CANCELLED}),
    TaskPhase.DONE: frozenset(),
    TaskPhase.FAILED: frozenset(),
    TaskPhase.CANCELLED: frozenset(),
}


@dataclass(frozen=True, slots=True)
class View:
    """What a node knows when it chooses the tasks to begin with."""

    me: str
    tasks: Collection[Task]
    free: int
    """How many more it may carry out at once."""
    mine: Collection[str] = ()
    """Ids of the tasks whose tickets are of this daemon's session."""
    taken: Collection[str] = ()
    """Ids of the tasks whose tickets are of other sessions."""
    busy: Collection[str] = ()
    """Ids of the tasks that a job of this daemon is at."""
    away: Mapping[str, float] = field(default_factory=dict)
    """Nodes that carry out no tasks now, each with the seconds for which that has been so."""
    rank: int = 0
    """How many other nodes are before this one in taking over."""
    patience: float = 10.0
    """Seconds for which a node must be away before its tasks are taken over."""
    pools: Collection[str] = ()
    """Those that there are."""
    usable: Collection[str] = ()
    """Those that this node can use."""
    kinds: Collection[TaskKind] = ()
    """What it can go on with of that which is about no pool."""


def next_tasks(view: View) -> list[str]:
    """Ids of the tasks to begin with now, the oldest first."""
    chosen = [task for task in view.tasks if task.phase not in ENDED and _is_ours(task, view)]
    return [task.id for task in sorted(chosen, key=lambda task: (task.requested, task.id))][: max(0, view.free)]


def _is_ours(task: Task, view: View) -> bool:
    if task.id in view.busy or task.id in view.taken:
        return False
    if task.node == view.me or task.id in view.mine:
        return True
    given_up = task.kind in OF_VOLUMES and task.pool not in view.pools
    if not given_up and ((task.bound and not task.cancel) or not _is_able(task, view)):
        return False  # what is of a pool that was given up ends without anything being done
    return view.away.get(task.node, 0.0) >= view.patience + view.rank * SPREAD


def _is_able(task: Task, view: View) -> bool:
    if task.kind in OF_VOLUMES:
        return task.pool in view.usable
    return task.kind is TaskKind.ADD_POOL or task.kind in view.kinds


def begun(task: Task, me: str, now: float, doing: str = "", volume: Volume | None = None) -> Task:
    """The task as a node writes it down when it begins, perhaps anew; `doing`: what a first attempt begins with;
    `volume`: the record of its volume as it is."""
    half = task.kind is TaskKind.REMOVE and volume is not None and volume.state is VolumeState.REMOVING
    return replace(
        task,
        node=me,
        phase=TaskPhase.RUNNING,
        attempts=task.attempts + 1,
        began=task.began or now,
        done=None,
        doing=task.doing if task.attempts else doing,
        again=task.again if task.attempts else half,
    )


def why_void(task: Task, records: Mapping[str, Volume]) -> str:
    """Why there is nothing for a task to do; empty: there is. `records`: the volumes that it names, by name."""
    if task.kind not in OF_VOLUMES:
        return ""
    name = made_by(task) or task.volume
    record = records.get(name)
    if record is None or record.task != task.id:
        return f"the record of volume {name} does not wait for this task any more; ask for it again if it is wanted"
    return ""


def made_by(task: Task) -> str:
    """The name of the image that a task makes; empty: it makes none."""
    if task.kind is TaskKind.CLONE:
        return task.new
    return task.volume if task.kind in MAKES else ""


def at_begin(task: Task, records: Mapping[str, Volume]) -> dict[str, Volume]:
    """The records of volumes that change when a task begins."""
    volume = records.get(task.volume)
    if task.kind is TaskKind.REMOVE and volume and volume.state is VolumeState.READY:
        return {volume.name: replace(volume, state=VolumeState.REMOVING)}
    return {}


class Need(Enum):
    """What is left to do of a task, by what the storage has."""

    DO = "do"
    NOTHING = "nothing"
    """An earlier attempt has done it, or it is so anyhow."""
    REFUSE = "refuse"
    """What is to be made is there already, and is not of this task's making."""


def need(task: Task, images: Mapping[str, Image | None], own: bool) -> Need:
    """What is left to do. `images`: what is there by the names in the task; `own`: what the task makes may be there
    because it has made it itself."""
    volume = images.get(task.volume)
    there = Need.NOTHING if own else Need.REFUSE
    match task.kind:
        case TaskKind.CREATE | TaskKind.CLONE | TaskKind.IMPORT:
            # An image gets its name when it is whole.
            made = images.get(made_by(task))
            fits = made is not None and task.size in (None, made.size)
            return Need.DO if made is None else there if fits else Need.REFUSE
        case TaskKind.RENAME:
            if images.get(task.new) is None:
                return Need.DO
            # A move that was broken off may have left both names; if they are of two images the storage refuses.
            return Need.REFUSE if not own else Need.NOTHING if volume is None else Need.DO
        case TaskKind.SNAPSHOT:
            return there if volume is not None and task.snapshot in volume.snapshots else Need.DO
        case TaskKind.UNSNAPSHOT:
            return Need.NOTHING if volume is not None and task.snapshot not in volume.snapshots else Need.DO
        case TaskKind.REMOVE:
            return Need.NOTHING if volume is None else Need.DO
        case TaskKind.RESIZE:
            return Need.NOTHING if volume is not None and volume.size == task.size else Need.DO
        case _:
            return Need.DO


def may_be_own(task: Task) -> bool:
    """Whether an earlier attempt has begun with the work, so that what the task was to make may be there because of it:
    it had looked before whether it was there, and then said what it was doing."""
    return task.attempts > 1 and bool(task.doing)


def is_own(task: Task, images: Mapping[str, Image | None]) -> bool:
    """Whether what the task was to make, if it is there, is of its making by its date: nobody has looked before."""
    made = _made_at(task, images)
    return bool(task.doing) and task.began is not None and made is not None and made >= task.began - CLOCKS


def _made_at(task: Task, images: Mapping[str, Image | None]) -> float | None:
    image = images.get(made_by(task) or task.volume)
    if image is None or task.kind is not TaskKind.SNAPSHOT:
        return None if image is None else image.made
    return dict(zip(image.snapshots, image.snapshots_made, strict=False)).get(task.snapshot)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt has ended, and what the storage has then."""

    phase: TaskPhase
    message: str
    images: Mapping[str, Image | None] = field(default_factory=dict)
    """By name, those that the task names; None: there is none. One that is missing here is not known."""
    untouched: bool = False
    """With a failure: the storage refused before it changed anything."""
    parent: str = ""
    """What the image that was made is a linked clone of, though it is not among `images`."""


def records_after(task: Task, records: Mapping[str, Volume], outcome: Outcome, now: float) -> dict[str, Volume | None]:
    """The records of volumes that change at the end of a task, by name; None: it goes."""
    own = {name: record for name, record in records.items() if record.task == task.id}
    changed: dict[str, Volume | None] = {name: replace(record, task=None) for name, record in own.items()}
    if outcome.phase is TaskPhase.DONE:
        changed |= _done(task, own, outcome, now)
    else:
        changed |= _not_done(task, own, outcome)
    return changed


def _done(task: Task, own: Mapping[str, Volume], outcome: Outcome, now: float) -> dict[str, Volume | None]:
    name = made_by(task) or (task.new if task.kind is TaskKind.RENAME else task.volume)
    image = outcome.images.get(name)
    record = own.get(task.volume if task.kind is TaskKind.RENAME else name)
    if record is None:
        return {}
    if task.kind is TaskKind.REMOVE:
        return {name: None}
    after = replace(record, name=name, task=None, snapshots=_snapshots(task, record, now))
    if outcome.parent:
        after = replace(after, parent=outcome.parent)
    if image is not None:
        after = replace(after, size=image.size, format=image.format, parent=image.parent)
    if task.kind in MAKES:
        after = replace(after, state=VolumeState.READY)
    return {name: after, **({task.volume: None} if task.kind is TaskKind.RENAME else {})}


def _snapshots(task: Task, record: Volume, now: float) -> tuple[Snapshot, ...]:
    others = tuple(snapshot for snapshot in record.snapshots if snapshot.name != task.snapshot)
    match task.kind:
        case TaskKind.SNAPSHOT:
            return (*others, Snapshot(task.snapshot, now, record.size))
        case TaskKind.UNSNAPSHOT:
            return others
        case TaskKind.PROTECT:
            return tuple(
                replace(each, protected=task.on) if each.name == task.snapshot else each for each in record.snapshots
            )
        case _:
            return record.snapshots


def _not_done(task: Task, own: Mapping[str, Volume], outcome: Outcome) -> dict[str, Volume | None]:
    changed: dict[str, Volume | None] = {}
    for name, record in own.items():
        known, image = name in outcome.images, outcome.images.get(name)
        if record.state is VolumeState.MAKING and task.kind in MAKES:
            # With `untouched` an image of that name is somebody else's. What is not known stays, for it may be there.
            gone = outcome.untouched or (known and image is None)
            changed[name] = None if gone else replace(record, task=None)
        elif record.state is not VolumeState.READY and known and image is None:
            changed[name] = None
        elif record.state is VolumeState.REMOVING and outcome.untouched and not task.again:
            kept = tuple(each for each in record.snapshots if image is None or each.name in image.snapshots)
            changed[name] = replace(record, task=None, state=VolumeState.READY, snapshots=kept)
        elif image is not None and record.state is VolumeState.READY:
            changed[name] = replace(record, task=None, size=image.size)
    return changed


def new_size(
    task: Task, before: Mapping[str, Volume], after: Mapping[str, Volume | None], outcome: Outcome
) -> int | None:
    """The bytes that VMs which run with the volume of a task are to see from now on; None: what they see is right.

    A volume never becomes smaller while a VM runs with it. One that is asked for the size it has already is meant for
    VMs that could not be made to see it.
    """
    old, new = before.get(task.volume), after.get(task.volume)
    if task.kind is not TaskKind.RESIZE or old is None or new is None or new.size < old.size:
        return None
    return new.size if new.size > old.size or outcome.phase is TaskPhase.DONE else None


def superfluous(tasks: Collection[Task]) -> list[str]:
    """Ids of the ended tasks to forget: all but the last."""
    ended = [task for task in tasks if task.phase in ENDED]
    ended.sort(key=lambda task: (task.finished or task.requested, task.id))
    return [task.id for task in ended[: max(0, len(ended) - KEPT)]]


def titled(task: Task) -> str:
    """The task in a few words, as the log names it."""
    what = f"{task.pool}/{task.volume}" if task.volume else task.pool or task.path or task.flag
    if task.osd is not None and not what:
        what = f"osd.{task.osd}"
    what += f"@{task.snapshot}" if task.snapshot else ""
    return f"task {task.kind.value} {what}".rstrip() + (f" to {task.new}" if task.new else "")
