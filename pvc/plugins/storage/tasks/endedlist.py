"""The list of the tasks that have ended, so that who looks for those in hand does not read a hundred others.

It saves reads and decides nothing: a task that is missing here is read, and its record says how it stands. One that is
here has ended, as both are written in one transaction.
"""

from collections.abc import Iterable

from pvc.core.coordination import Coordinator, Create, Delete, Op, Znode
from pvc.plugins.storage import keys
from pvc.plugins.storage.records import ENDED, Task, decoded


def enlisting(there: Znode | None, id: str) -> list[Op]:
    """What is to be written together with the end of a task; `there`: the list.

    Nothing where there is none: the next client that asks for something makes it.
    """
    return [] if there is None else [Create(keys.ended_task(id))]


def striking(coordinator: Coordinator, id: str) -> list[Op]:
    """What is to be done together with the removal of a task. Raises Disconnected."""
    return [] if coordinator.get(keys.ended_task(id)) is None else [Delete(keys.ended_task(id))]


def in_hand(coordinator: Coordinator) -> list[Task]:
    """The tasks that have not ended. Raises Disconnected."""
    _, (ids, over) = coordinator.look([], [keys.TASKS, keys.ENDED_TASKS])
    paths = perhaps_in_hand(ids, over)
    return open_tasks(paths, coordinator.get_many(paths))


def perhaps_in_hand(ids: Iterable[str] | None, over: Iterable[str] | None) -> list[str]:
    """Where the tasks are that have to be read, of those that there are and those in the list."""
    listed = set(over or ())
    return [keys.task(id) for id in ids or () if id not in listed]


def open_tasks(paths: Iterable[str], znodes: Iterable[Znode | None]) -> list[Task]:
    """Those of the tasks that were read which have not ended."""
    found = [decoded(Task, znode.data, path) for path, znode in zip(paths, znodes, strict=True) if znode is not None]
    return [task for task in found if task is not None and task.phase not in ENDED]
