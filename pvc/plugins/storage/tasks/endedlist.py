"""The list of the tasks that have ended, so that who looks for those in hand does not read a hundred others.

It saves reads and decides nothing: a task that is missing here is read, and its record says how it stands. One that is
here has ended, as both are written in one transaction.
"""

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
    ids = coordinator.children(keys.TASKS) or ()
    over = set(coordinator.children(keys.ENDED_TASKS) or ()) if ids else set()
    paths = [keys.task(id) for id in ids if id not in over]
    found = [
        decoded(Task, znode.data, path)
        for path, znode in zip(paths, coordinator.get_many(paths), strict=True)
        if znode is not None
    ]
    return [task for task in found if task is not None and task.phase not in ENDED]
