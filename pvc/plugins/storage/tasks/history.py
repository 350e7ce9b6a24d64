"""What becomes of a task's record at its end: it moves to the tasks that have ended, of which the last are kept."""

from collections.abc import Sequence

from pvc.core.coordination import Conflict, Coordinator, Create, Delete, Op
from pvc.core.records import encode
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.tasks import superfluous
from pvc.plugins.storage.records import Task, decoded


def ending(ended: Task, version: int) -> Sequence[Op]:
    """What makes a task one that has ended as `ended` has it, if it is at that version; its ticket must be gone."""
    return Delete(keys.task(ended.id), version), Create(keys.ended_task(ended.id), encode(ended))


class History:
    """The tasks that have ended as one node knows them."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._known: dict[str, Task] = {}

    def prune(self) -> None:
        """Forget the oldest. Raises Disconnected."""
        ids = self._coordinator.children(keys.ENDED_TASKS) or ()
        self._known = {id: self._known[id] for id in ids if id in self._known}
        paths = {id: keys.ended_task(id) for id in ids if id not in self._known}
        for id, znode in zip(paths, self._coordinator.get_many(list(paths.values())), strict=True):
            task = decoded(Task, znode.data, paths[id]) if znode else None
            if task is not None:
                self._known[id] = task
        for id in superfluous(self._known.values()):
            try:
                self._coordinator.commit([Delete(keys.ended_task(id))])
            except Conflict:  # another node has
                continue
