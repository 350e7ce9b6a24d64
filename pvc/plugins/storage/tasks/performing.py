"""Carries a task out through its pool's backend, and says how that has ended. Runs in a job; writes no record."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pvc.core.coordination import CoordinationError
from pvc.core.errors import PvcError
from pvc.core.storage import (
    Backend,
    BadPool,
    DamagedImage,
    Feature,
    Image,
    ImageExists,
    ImageInUse,
    NoSuchImage,
    Pool,
    StorageError,
    Unsupported,
)
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide.strangers import why_left
from pvc.plugins.storage.decide.tasks import (
    ALTERS,
    CHANGES,
    DATED,
    MAKES,
    OF_VOLUMES,
    Need,
    Outcome,
    is_own,
    made_by,
    need,
)
from pvc.plugins.storage.records import Task, TaskKind, TaskPhase, stills
from pvc.plugins.storage.tasks.holding import Cancelled, Hold, Lost

Performer = Callable[[Task, Hold], str]
"""Carries out one kind of task; says what it has done. It tells `Hold` how far it is, as a `Report`, and `stage` what
it is at. What it raises is why the task has failed; `Stopped` it lets through. It may be called again for one task,
when an earlier attempt was broken off."""


class Unseen(Exception):
    """What has become of a volume cannot be seen: the task must not end before it can, or its record would be wrong."""


CANCELLED = "it was cancelled, and has left nothing half done"
ON_THE_WAY = "it was cancelled on the way"
REFUSALS = (ImageExists, ImageInUse, Unsupported, BadPool)
"""What a backend raises before it has changed anything in that call."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a node has to carry out tasks with."""

    backends: Backends
    performers: Mapping[TaskKind, Performer]
    keep_out: Callable[[Pool], object]
    """Sees to it that no node that was declared dead writes to a pool. Raises StorageError, CoordinationError."""


def carry_out(hold: Hold, means: Means, log: logging.Logger) -> Outcome:
    """How a task has ended. Raises Lost, Unseen, CoordinationError: nothing is known then, it is to be begun anew."""
    try:
        return _carried_out(hold, means)
    except (Lost, Unseen, CoordinationError):
        raise
    except Cancelled:
        text = ON_THE_WAY if hold.touched else CANCELLED
        return Outcome(TaskPhase.CANCELLED, text, untouched=not hold.touched)
    except PvcError as error:
        return Outcome(TaskPhase.FAILED, str(error), untouched=not hold.touched)
    except Exception as error:  # the edge of what plugins bring: the task must not be tried for ever
        log.exception("task %s", hold.task.id)
        return Outcome(TaskPhase.FAILED, _unexpected(error), untouched=not hold.touched)


def begins_with(task: Task, pool: Pool | None, backends: Backends) -> str:
    """What the first attempt at a task does at once; empty: it looks at the storage before it does anything."""
    try:
        dated = pool is not None and task.kind in OF_VOLUMES and _is_dated(task, backends.get(pool))
    except Exception:  # whatever a plugin brings: the attempt meets it as well, and fails by it
        return ""
    return _DOING[task.kind] if dated else ""


def _is_dated(task: Task, backend: Backend) -> bool:
    return task.kind in DATED and Feature.DATED in backend.features


def _carried_out(hold: Hold, means: Means) -> Outcome:
    task = hold.task
    if task.kind in OF_VOLUMES:
        if hold.pool is None:
            raise StorageError(f"there is no pool {task.pool} any more; add it again, or choose another one")
        return _on_volume(hold, hold.pool, means)
    if hold.cancelled and not hold.touched:
        raise Cancelled
    if task.kind is TaskKind.ADD_POOL:
        return Outcome(TaskPhase.DONE, _tried(task, means.backends))
    if task.kind not in means.performers:
        raise StorageError(f"node {task.node} knows nothing of {task.kind.value}; ask another one, or update pvc on it")
    return Outcome(TaskPhase.DONE, means.performers[task.kind](task, hold))


def _tried(task: Task, backends: Backends) -> str:
    if task.proposed is None:
        raise BadPool("the task says of no pool what it is; ask for it again with this version of pvc")
    backends.fresh(task.proposed).look()
    return f"pool {task.proposed.name} can be used"


def _on_volume(hold: Hold, pool: Pool, means: Means) -> Outcome:
    task, backend = hold.task, means.backends.get(pool)
    dated = _is_dated(task, backend)
    earlier = hold.touched  # by an earlier attempt, as this one has done nothing yet
    unseen = dated and task.attempts == 1  # it cannot have made anything, and who makes something says if it is there
    images: Mapping[str, Image | None] = {} if unseen else _first_look(backend, hold)
    if images:
        left = need(task, images, is_own(task, images) if dated else earlier)
        if left is Need.NOTHING:
            return Outcome(TaskPhase.DONE, _said(task), images)
        if left is Need.REFUSE:
            return Outcome(TaskPhase.FAILED, _taken(task), images, untouched=True)
    if why := why_left(task, hold.volume, images.get(task.volume)):
        return Outcome(TaskPhase.FAILED, why, images, untouched=not earlier)
    if earlier and task.kind in ALTERS:
        hold.see_it_through()  # what is left of that attempt may still be at it: only its end is known for sure
    if hold.to_stop:
        text = ON_THE_WAY if earlier and task.kind is TaskKind.REMOVE else CANCELLED
        return Outcome(TaskPhase.CANCELLED, text, images, untouched=not earlier)
    if hold.volume is not None and stills(task, hold.volume):
        _keep_out(hold, pool, means)
    if task.kind is not TaskKind.EXPORT:
        hold.stage(_DOING[task.kind])
    if task.kind is TaskKind.ROLL_BACK:
        hold.see_it_through()  # halfway the volume holds parts of both
    failure: Exception | None = None
    try:
        _WORK[task.kind](backend, task, hold)
    except (Lost, CoordinationError):
        raise
    except Exception as error:  # what has become of the images decides, whatever it was
        failure = error
    if unseen and failure is None:
        return Outcome(TaskPhase.DONE, _said(task), parent=_parent(backend, task))
    return _ended(hold.task, failure, _images_if_known(backend, task), dated=dated, earlier=earlier)


def _first_look(backend: Backend, hold: Hold) -> Mapping[str, Image | None]:
    """Before anything is done; empty: there is a damaged image to remove. Raises StorageError, and Unseen if an earlier
    attempt may have changed something."""
    try:
        return _images(backend, hold.task)
    except DamagedImage:
        if hold.task.kind is TaskKind.REMOVE:
            return {}
        raise  # also after an earlier attempt: this is what has become of it, and waiting does not mend it
    except StorageError as error:
        if hold.touched and hold.task.kind in ALTERS:
            raise _unseen(hold.task, error) from error
        raise


def _keep_out(hold: Hold, pool: Pool, means: Means) -> None:
    """Nobody who was declared dead is to write to what is just read, cut off or rolled back. Raises StorageError, and
    Unseen if an earlier attempt may have changed something."""
    try:
        means.keep_out(pool)
    except StorageError as error:
        if hold.touched and hold.task.kind in CHANGES:
            raise _unseen(hold.task, error) from error
        raise


def _unseen(task: Task, why: Exception | None) -> Unseen:
    reason = why or "the storage does not answer"
    return Unseen(f"what has become of {task.pool}/{task.volume} cannot be seen: {reason}")


def _parent(backend: Backend, task: Task) -> str:
    linked = task.kind is TaskKind.CLONE and task.snapshot and Feature.LINKED_CLONES in backend.features
    return f"{task.volume}@{task.snapshot}" if linked else ""


def _ended(
    task: Task, failure: Exception | None, images: Mapping[str, Image | None], *, dated: bool, earlier: bool
) -> Outcome:
    """How work has ended that was begun; what the storage has now counts for more than what was raised.

    `earlier`: an attempt before this one had begun with it as well, and what that has left may still be at it.
    """
    refused = isinstance(failure, REFUSALS)
    if earlier and isinstance(failure, ImageInUse) and task.kind in CHANGES:
        raise Unseen(f"an earlier attempt may still be at {task.pool}/{task.volume}: {failure}")
    untouched = refused and (not earlier or task.kind in MAKES)
    if not images and not untouched and task.kind in ALTERS:
        raise _unseen(task, failure)
    written = task.kind is TaskKind.EXPORT and isinstance(failure, ImageExists) and earlier
    own = is_own(task, images) if dated else True  # or it was seen before that there was none
    late = dated and earlier and isinstance(failure, ImageExists)  # the program of that attempt has ended after all
    so_now = bool(images) and (late or not refused) and need(task, images, own) is Need.NOTHING
    if failure is None and not images and task.kind not in _LEAVES_IMAGES:
        text = f"pool {task.pool} could not be looked at after the work; look at the storage, and ask again"
        return Outcome(TaskPhase.FAILED, text)
    if failure is None or written or so_now:
        return Outcome(TaskPhase.DONE, _said(task), images)
    if isinstance(failure, Cancelled):
        return Outcome(TaskPhase.CANCELLED, CANCELLED, images)
    if task.kind in MAKES and not own and images.get(made_by(task)) is not None:
        return Outcome(TaskPhase.FAILED, _taken(task), images, untouched=True)
    text = str(failure) if isinstance(failure, PvcError) else _unexpected(failure)
    if dated and isinstance(failure, ImageExists):
        text = _taken(task)
    if task.kind is TaskKind.ROLL_BACK and not untouched:
        text += f"; {task.pool}/{task.volume} may hold parts of both now: have it rolled back before a VM uses it"
    return Outcome(TaskPhase.FAILED, text, images, untouched=untouched)


def _images(backend: Backend, task: Task) -> dict[str, Image | None]:
    """What is there by the names in a task. Raises StorageError."""
    return {name: _image(backend, name) for name in (task.volume, task.new) if name}


def _images_if_known(backend: Backend, task: Task) -> dict[str, Image | None]:
    try:
        return _images(backend, task)
    except StorageError:
        return {}


def _image(backend: Backend, name: str) -> Image | None:
    try:
        return backend.inspect(name)
    except NoSuchImage:
        return None


def _create(backend: Backend, task: Task, hold: Hold) -> None:
    if task.size is None:
        raise StorageError("the task does not say how large the volume shall be; ask for it again")
    backend.create(task.volume, task.size)


def _resize(backend: Backend, task: Task, hold: Hold) -> None:
    if task.size is None:
        raise StorageError("the task does not say how large the volume shall be; ask for it again")
    backend.resize(task.volume, task.size)


def _export(backend: Backend, task: Task, hold: Hold) -> None:
    def report(done: int, total: int) -> None:
        hold.stage(_DOING[task.kind])  # not before: by now the backend has seen that there is no such file
        hold(done, total)

    backend.save(task.volume, task.snapshot or None, task.path, task.format or "raw", report)


_WORK: Mapping[TaskKind, Callable[[Backend, Task, Hold], None]] = {
    TaskKind.CREATE: _create,
    TaskKind.REMOVE: lambda backend, task, hold: backend.remove(task.volume),
    TaskKind.RESIZE: _resize,
    TaskKind.RENAME: lambda backend, task, hold: backend.rename(task.volume, task.new),
    TaskKind.CLONE: lambda backend, task, hold: backend.clone(task.volume, task.snapshot or None, task.new, hold),
    TaskKind.IMPORT: lambda backend, task, hold: backend.load(task.path, task.volume, hold),
    TaskKind.EXPORT: _export,
    TaskKind.SNAPSHOT: lambda backend, task, hold: backend.add_snapshot(task.volume, task.snapshot),
    TaskKind.UNSNAPSHOT: lambda backend, task, hold: backend.remove_snapshot(task.volume, task.snapshot),
    TaskKind.PROTECT: lambda backend, task, hold: backend.protect_snapshot(task.volume, task.snapshot, task.on),
    TaskKind.ROLL_BACK: lambda backend, task, hold: backend.roll_back(task.volume, task.snapshot, hold),
}
_DOING: Mapping[TaskKind, str] = {
    TaskKind.CREATE: "making the image",
    TaskKind.REMOVE: "removing the image",
    TaskKind.RESIZE: "changing the size",
    TaskKind.RENAME: "renaming the image",
    TaskKind.CLONE: "copying",
    TaskKind.IMPORT: "reading the file",
    TaskKind.EXPORT: "writing the file",
    TaskKind.SNAPSHOT: "making the snapshot",
    TaskKind.UNSNAPSHOT: "removing the snapshot",
    TaskKind.PROTECT: "changing the snapshot",
    TaskKind.ROLL_BACK: "rolling back",
}
_LEAVES_IMAGES = frozenset({TaskKind.EXPORT, TaskKind.PROTECT})


def _said(task: Task) -> str:
    volume, snapshot = f"{task.pool}/{task.volume}", f"{task.pool}/{task.volume}@{task.snapshot}"
    match task.kind:
        case TaskKind.REMOVE:
            return f"{volume} is removed"
        case TaskKind.RESIZE:
            return f"{volume} has its new size"
        case TaskKind.RENAME:
            return f"{volume} is {task.pool}/{task.new} now"
        case TaskKind.CLONE:
            return f"{task.pool}/{task.new} is made of {snapshot if task.snapshot else volume}"
        case TaskKind.IMPORT:
            return f"{volume} has the contents of {task.path}"
        case TaskKind.EXPORT:
            return f"{task.path} on {task.node} has the contents of {snapshot if task.snapshot else volume}"
        case TaskKind.SNAPSHOT:
            return f"{snapshot} is made"
        case TaskKind.UNSNAPSHOT:
            return f"{snapshot} is removed"
        case TaskKind.PROTECT:
            return f"{snapshot} is {'protected' if task.on else 'not protected any more'}"
        case TaskKind.ROLL_BACK:
            return f"{volume} is what it was at {task.snapshot}"
        case _:
            return f"{volume} is made"


def _taken(task: Task) -> str:
    if task.kind is TaskKind.SNAPSHOT:
        return f"the image of {task.volume} has a snapshot {task.snapshot} that pvc has not made; choose another name"
    name = task.new if task.kind is TaskKind.RENAME else made_by(task)
    return (
        f"pool {task.pool} has an image {name} that pvc has not made; choose another name,"
        " or rename or remove that image with the storage's own tools"
    )


def _unexpected(error: Exception | None) -> str:
    return f"it failed in a way that pvc does not expect ({type(error).__name__}: {error}); pvcd's log says more"
