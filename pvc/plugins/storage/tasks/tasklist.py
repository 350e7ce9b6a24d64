"""What one node knows of the tasks: its own at once, by watches; others' every few seconds; ended ones for good.

So the progress of a task, written twice a second, wakes nobody but the node that is at it.
"""

from pvc.core.coordination import Coordinator
from pvc.core.mirror import Mirror
from pvc.core.runtime import Runtime
from pvc.plugins.storage import keys
from pvc.plugins.storage.records import Task, decoded

OTHERS = 5.0
"""Seconds between looks at the tasks of other nodes."""


class TaskList:
    """The tasks as one node knows them."""

    def __init__(self, me: str, coordinator: Coordinator, runtime: Runtime, mirror: Mirror) -> None:
        self._me = me
        self._coordinator = coordinator
        self._runtime = runtime
        self._mirror = mirror
        self._known: dict[str, Task] = {}
        self.unwatched = False
        """Whether changes of some of this node's tasks would not be told: `read` must be called again soon."""
        self._looked = runtime.monotonic()

    def read(self) -> dict[str, Task]:
        """The tasks in hand by id; not those whose records cannot be read. Raises Disconnected.

        A new task can be begun with after one read of it: it is watched from the next call on.
        """
        ids = self._mirror.children(keys.TASKS) or ()
        self._known = {id: self._known[id] for id in ids if id in self._known}
        new = [id for id in ids if id not in self._known]
        self._take([*new, *self._due()])
        own = [id for id, task in self._known.items() if task.node == self._me]
        watched = [id for id in own if id not in new]
        self.unwatched = len(watched) < len(own)
        self._mirror.prefetch([keys.task(id) for id in watched])
        for id in watched:
            znode = self._mirror.get(keys.task(id))
            task = decoded(Task, znode.data, keys.task(id)) if znode else None
            if task is not None:
                self._known[id] = task
        return dict(self._known)

    def note(self, task: Task) -> None:
        """This node has just written a task of its own."""
        self._known[task.id] = task
        self._mirror.drop(keys.task(task.id))

    def forget(self, id: str) -> None:
        """Read a task again next time: it has just been written."""
        self._known.pop(id, None)
        self._mirror.drop(keys.task(id))

    def _due(self) -> list[str]:
        now = self._runtime.monotonic()
        if now - self._looked < OTHERS:
            return []
        self._looked = now
        return [id for id, task in self._known.items() if task.node != self._me]

    def _take(self, ids: list[str]) -> None:
        if not ids:
            return
        for id, znode in zip(ids, self._coordinator.get_many([keys.task(id) for id in ids]), strict=True):
            task = decoded(Task, znode.data, keys.task(id)) if znode else None
            if task is not None:
                self._known[id] = task
