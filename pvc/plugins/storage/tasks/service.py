"""Carries out the tasks that this node is asked for, and those of nodes that are away; each in a job.

The record in the tree says what is wanted and how far it is, the ticket who is at it: a restart changes nothing.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial

from pvc.core import keys as core
from pvc.core.context import Context
from pvc.core.coordination import Conflict
from pvc.core.mirror import Mirror
from pvc.core.runtime import Signal
from pvc.core.service import Jobs
from pvc.plugins.storage import keys
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide.tasks import View, next_tasks
from pvc.plugins.storage.fencing import Admission
from pvc.plugins.storage.neighbours import serves
from pvc.plugins.storage.poolwatch import PoolWatch
from pvc.plugins.storage.records import Task, TaskKind
from pvc.plugins.storage.schema import Settings
from pvc.plugins.storage.tasks.history import History
from pvc.plugins.storage.tasks.holding import Hold, Lost, begin
from pvc.plugins.storage.tasks.performing import Means, Performer, Unseen, begins_with, carry_out
from pvc.plugins.storage.tasks.tasklist import OTHERS, TaskList

SOON = 0.1
"""Seconds until a task that was just begun is watched, as most are over by then; and until old ones are forgotten after
the end of one, as whoever follows that reads it now."""
LATE = 1.0
"""Seconds to the next try while this daemon does not hold its node's name."""
AGAIN = 3.0
"""Seconds until a task is begun anew after the first attempt that was broken off here; more after the next ones."""
LONGEST_PAUSE = 60.0


class TaskService:
    """Service `storage-tasks`."""

    name = "storage-tasks"
    after: tuple[str, ...] = ("liveness",)

    def __init__(
        self,
        context: Context,
        backends: Backends,
        watch: PoolWatch,
        settings: Settings,
        performers: Mapping[TaskKind, Performer] | None = None,
        able: Callable[[], Collection[TaskKind]] = tuple,
    ) -> None:
        """`performers`: who carries out the kinds of tasks that are about no volume; `able`: which of these this node
        can go on with for others now."""
        self.wake: Signal = context.runtime.signal()
        self._context = context
        self._log = context.log
        self._runtime = context.runtime
        self._backends = backends
        self._watch = watch
        self._settings = settings
        self._means = Means(backends, performers or {}, Admission(context, backends).keep_out)
        self._able = able
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._list = TaskList(context.node, context.coordinator, context.runtime, self._mirror)
        self._history = History(context.coordinator)
        self._to_prune = False
        self._jobs = Jobs(context.runtime, self.wake)
        self._holds: dict[str, Hold] = {}
        self._away_since: dict[str, float] = {}
        self._broken_off: dict[str, float] = {}
        watch.follow(self.wake)

    def step(self) -> float:
        ended = self._jobs.ended()
        for end in ended:
            self._ended(end.key, end.error)
        if not self._context.registered():
            return LATE
        tasks = self._list.read()
        for id, hold in self._holds.items():
            if id in tasks and tasks[id].cancel:
                hold.cancel()
        for id in next_tasks(self._view(list(tasks.values()))):
            self._begin(tasks[id])
        if self._to_prune and not ended:
            self._history.prune()
            self._to_prune = False
        self._to_prune |= bool(ended)
        if self._list.unwatched or self._to_prune:
            return SOON
        return LATE if self._away_since or self._broken_off else OTHERS

    def stop(self) -> None:
        """What is under way stops at its next report; the tasks stay, and are begun anew by whoever comes."""
        for hold in self._holds.values():
            hold.give_up()

    def _view(self, tasks: list[Task]) -> View:
        now, me = self._runtime.monotonic(), self._context.node
        others = {task.node for task in tasks} - {me}
        gone = [node for node in sorted(others) if not serves(self._mirror, node)]
        self._away_since = {node: self._away_since.get(node, now) for node in gone}
        # Nobody has begun with the others, so nobody has a ticket; who begins demands that, too.
        # Of what a job is at, the ticket is this node's; a watch on it would only tell of its own end.
        begun = [task for task in tasks if task.attempts and task.id not in self._holds]
        wanted = [task.id for task in begun if task.node == me or task.node in gone]
        mine, taken = self._tickets(wanted)
        resting = {id for id, until in self._broken_off.items() if until > now}
        self._broken_off = {id: until for id, until in self._broken_off.items() if id in resting}
        return View(
            me=me,
            tasks=tasks,
            free=self._settings.parallel - self._jobs.count(),
            mine=mine,
            taken=taken,
            busy={*self._holds, *resting},
            away={node: now - since for node, since in self._away_since.items()},
            rank=self._rank() if gone else 0,
            patience=self._context.config.zookeeper.session_timeout,
            pools=self._mirror.children(keys.POOLS) or (),
            usable=self._watch.usable(),
            kinds=self._able(),
        )

    def _tickets(self, ids: list[str]) -> tuple[set[str], set[str]]:
        """Those of the tasks whose tickets are of this session, and those whose tickets are of another."""
        paths = {id: keys.task_ticket(id) for id in ids}
        self._mirror.prefetch(paths.values())
        found = {id: self._mirror.get(path) for id, path in paths.items()}
        session = self._context.coordinator.session_id
        mine = {id for id, ticket in found.items() if ticket is not None and ticket.owner == session}
        return mine, {id for id, ticket in found.items() if ticket is not None} - mine

    def _rank(self) -> int:
        """How many nodes that can take tasks over come before this one."""
        names = [name for name in self._mirror.children(core.NODES) or () if name < self._context.node]
        return sum(serves(self._mirror, name) for name in names)

    def _begin(self, task: Task) -> None:
        id = task.id
        try:
            hold = begin(self._context, task, lambda pool: begins_with(task, pool, self._backends))
        except Conflict as conflict:  # somebody was faster, or asked for its end
            self._log.debug("task %s: %s; looking again", id, conflict)
            hold = None
            self.wake.set()
        self._mirror.drop(keys.task_ticket(id))
        if hold is None:
            self._list.forget(id)
            return
        self._list.note(hold.task)
        self._holds[id] = hold
        self._jobs.start(id, partial(self._work, hold))

    def _work(self, hold: Hold) -> None:
        try:
            outcome = carry_out(hold, self._means, self._log)
        except Unseen as why:
            hold.tell(str(why))
            raise
        hold.end(outcome)

    def _ended(self, id: str, error: Exception | None) -> None:
        hold = self._holds.pop(id)
        if error is None:
            self._list.over(id)
            return
        self._list.forget(id)
        self._broken_off[id] = self._runtime.monotonic() + min(LONGEST_PAUSE, AGAIN * hold.task.attempts)
        what = "is not this node's any more" if isinstance(error, Lost) else f"was broken off: {error}"
        self._log.warning("task %s %s; looking again", id, what)
