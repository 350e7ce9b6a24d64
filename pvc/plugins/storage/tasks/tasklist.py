"""What one node knows of the tasks: its own at once, by watches; others' every few seconds.

So a task that is asked for, and its progress, written twice a second, wake nobody but the node that is at it.
"""

from pvc.core.coordination import Coordinator, Znode
from pvc.core.mirror import Mirror
from pvc.core.runtime import Runtime
from pvc.plugins.storage import keys
from pvc.plugins.storage.records import Task, decoded

OTHERS = 5.0
"""Seconds between looks at all tasks, those of other nodes included."""


class TaskList:
    """The tasks as one node knows them."""

    def __init__(self, me: str, coordinator: Coordinator, runtime: Runtime, mirror: Mirror) -> None:
        self._me = me
        self._coordinator = coordinator
        self._runtime = runtime
        self._mirror = mirror
        self._known: dict[str, Task] = {}
        self._asked: int | None = None
        """How often this node had been asked for something when it last looked; None: it has not looked."""
        self._look_at = runtime.monotonic()
        self.unwatched = False
        """Whether changes of some of this node's tasks would not be told: `read` must be called again soon."""

    def read(self) -> dict[str, Task]:
        """The tasks in hand by id; not those whose records cannot be read. Raises Disconnected.

        What this node is asked for it reads at once, and watches from the next call on: most is over by then.
        """
        before = set(self._known)
        self._hear()
        if self._runtime.monotonic() >= self._look_at:
            self._look()
        own = [id for id, task in self._known.items() if task.node == self._me]
        watched = [id for id in own if id in before]
        self.unwatched = len(watched) < len(own)
        self._mirror.prefetch([keys.task(id) for id in watched])
        for id in watched:
            self._keep(id, self._mirror.get(keys.task(id)))
        return dict(self._known)

    def note(self, task: Task) -> None:
        """This node has just written a task of its own."""
        self._known[task.id] = task
        self._mirror.drop(keys.task(task.id))

    def over(self, id: str) -> None:
        """A task has ended: it is not among those in hand any more."""
        self._known.pop(id, None)
        self._mirror.drop(keys.task(id))

    def forget(self, id: str) -> None:
        """Look for a task again next time: it may have changed, or have ended."""
        self.over(id)
        self._look_at = self._runtime.monotonic()

    def _hear(self) -> None:
        """Take what this node has been asked for, or look for it soon if that is more than the last thing."""
        path = keys.asked(self._me)
        znode = self._mirror.get(path)
        before, self._asked = self._asked, -1 if znode is None else znode.version
        if before == self._asked:
            return
        task = decoded(Task, znode.data, path) if znode and before == znode.version - 1 else None
        if task is None:
            self._look_at = self._runtime.monotonic()
        else:
            self._known.setdefault(task.id, task)

    def _look(self) -> None:
        """Look at all tasks."""
        ids = self._coordinator.children(keys.TASKS) or ()
        self._known = {id: self._known[id] for id in ids if id in self._known}
        wanted = [id for id in ids if id not in self._known or self._known[id].node != self._me]
        for id, znode in zip(wanted, self._coordinator.get_many([keys.task(id) for id in wanted]), strict=True):
            self._keep(id, znode)
        self._look_at = self._runtime.monotonic() + OTHERS

    def _keep(self, id: str, znode: Znode | None) -> None:
        """Note a task as it was read; one that cannot be read stays what it was known as."""
        if znode is None:
            self._known.pop(id, None)
        elif (task := decoded(Task, znode.data, keys.task(id))) is not None:
            self._known[id] = task
