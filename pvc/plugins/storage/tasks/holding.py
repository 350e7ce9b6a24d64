"""A task that this node is at: begins it in the tree, tells how far it is, and writes its end with the records.

Every write demands that the task still is this attempt of this node. Touches no storage.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict, Create, Delete, Disconnected, Op, Put, SessionState, Znode
from pvc.core.records import encode
from pvc.core.states import move
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.tasks import (
    MOVES,
    Outcome,
    at_begin,
    begun,
    may_be_own,
    new_size,
    records_after,
    titled,
    why_void,
)
from pvc.plugins.storage.records import Task, TaskKind, TaskPhase, Volume, decoded
from pvc.plugins.storage.tasks.growing import wishes
from pvc.plugins.storage.tasks.history import ending

INTERVAL = 0.5
"""Seconds at least between two writes of a task's progress."""
OUT_OF_TOUCH = 0.5
"""Part of the session timeout for which a session may be suspended before the work is stopped. The session lives that
long at least; others wait for another session timeout after its end before they take over."""
TRIES = 10
"""Refused writes of a task's end after which looking again does not help."""


class Stopped(Exception):
    """The work on a task is to stop: backends let it through."""


class Cancelled(Stopped):
    """Somebody has asked for its end."""


class Lost(Stopped):
    """Somebody else may be at the task by now: nothing may be written, and nothing more be done to the storage."""


class Hold:
    """One attempt of this node at a task; also the `Report` of its work. Used by the thread of the work alone, but for
    `cancel` and `give_up`."""

    def __init__(self, context: Context, task: Task, version: int, named: "Named", pool: Pool | None) -> None:
        """`named`, `pool`: what the task is about, as it is now."""
        self._context = context
        self._coordinator = context.coordinator
        self._runtime = context.runtime
        self._session = context.coordinator.session_id
        self._version = version
        self._written = context.runtime.monotonic()
        self._silent_since: float | None = None
        self._given_up = False
        self._too_late = False
        self._at_work = False
        self._named: Named | None = named
        self.task = task
        self.pool = pool
        """That of its volumes. It cannot go, or become another one, while a task is about it."""
        self.volume = _records(named).get(task.volume)
        """The record of its volume, if there is one, as this attempt began."""
        self.cancelled = task.cancel

    @property
    def touched(self) -> bool:
        """Whether this attempt has begun with the work, or an earlier one may have."""
        return self._at_work or may_be_own(self.task)

    @property
    def to_stop(self) -> bool:
        """Whether somebody has asked for its end, and it still can be broken off."""
        return self.cancelled and not self._too_late

    def cancel(self) -> None:
        """Have the work stopped at its next report."""
        self.cancelled = True

    def see_it_through(self) -> None:
        """From now on the work must not be broken off halfway, whoever asks: `cancel` comes too late."""
        self._too_late = True

    def give_up(self) -> None:
        """Have the work stopped and nothing written: the daemon ends."""
        self._given_up = True

    def __call__(self, done: int, total: int) -> None:
        """As `Report`. Raises Cancelled, Lost."""
        self._demand_touch()
        if self.to_stop:
            raise Cancelled
        now = self._runtime.monotonic()
        if now - self._written < INTERVAL or (done, total) == (self.task.done, self.task.total):
            return
        try:
            self._write(replace(self.task, done=done, total=total))
        except Disconnected:  # how far it is may be told later; `_demand_touch` knows how long that may last
            self._written = now

    def stage(self, doing: str, *, osd_uuid: str = "") -> None:
        """Write down, before it begins, what is done now, and to which OSD if it is about one; `doing` is short.

        Raises Disconnected, Cancelled, Lost.
        """
        self._demand_touch()
        if self.to_stop:
            raise Cancelled
        now = replace(self.task, doing=doing, osd_uuid=osd_uuid or self.task.osd_uuid)
        if now != self.task:
            self._write(now)
        self._at_work = True

    def tell(self, message: str) -> None:
        """Write down why the task goes on. Raises Disconnected, Lost."""
        self._demand_touch()
        if message != self.task.message:
            self._write(replace(self.task, message=message))

    def end(self, outcome: Outcome) -> None:
        """Write how it has ended. Raises Lost, Disconnected if that is not known, Conflict."""
        for left in reversed(range(TRIES)):
            try:
                self._end(outcome)
                break
            except Conflict:  # somebody asked for its end, or wrote a record meanwhile
                if not left:
                    raise
                self._named = None
                self._read_again()

    def _end(self, outcome: Outcome) -> None:
        self._demand_touch()
        now = self._runtime.now()
        further: list[Op] = []
        if self.task.kind is TaskKind.ADD_POOL and outcome.phase is TaskPhase.DONE:
            outcome, further = self._add_pool(outcome)
        elif self.task.pool:
            named = _read_named(self._context, self.task) if self._named is None else self._named
            records = _records(named)
            after = records_after(self.task, records, outcome, now)
            further = _written(self.task.pool, after, named)
            if (size := new_size(self.task, records, after, outcome)) is not None:
                further += wishes(self._coordinator, self.task, size, now)
        ended = replace(self.task, phase=outcome.phase, message=outcome.message, finished=now)
        self._coordinator.commit([Delete(keys.task_ticket(self.task.id)), *ending(ended, self._version), *further])
        move(self._context.log, titled(ended), TaskPhase.RUNNING, ended.phase, MOVES, ended.message)

    def _add_pool(self, outcome: Outcome) -> tuple[Outcome, list[Op]]:
        pool = self.task.proposed
        assert pool is not None  # it was looked at
        data, path = encode(pool), keys.pool(pool.name)
        there = self._coordinator.get(path)
        if there is None:
            above = [Create(part) for part in (keys.STORAGE, keys.POOLS) if self._coordinator.get(part) is None]
            return outcome, [*above, Create(path, data), Create(keys.volumes(pool.name))]
        if there.data == data and self.task.attempts > 1:
            return outcome, []
        return Outcome(TaskPhase.FAILED, f"there is a pool {pool.name} already; choose another name"), []

    def _write(self, task: Task) -> None:
        """Write the task as it is now. Raises Disconnected, Lost, Cancelled."""
        path = keys.task(task.id)
        for _ in range(TRIES):
            try:
                self._coordinator.commit([Check(keys.task_ticket(task.id)), Put(path, encode(task), self._version)])
            except Conflict:
                self._read_again()
                task = replace(task, cancel=self.task.cancel)
                continue
            self._version += 1
            self.task = task
            self._written = self._runtime.monotonic()
            return
        raise Lost

    def _read_again(self) -> None:
        """The task and its version as they are, if it still is this attempt. Raises Lost, Disconnected."""
        path = keys.task(self.task.id)
        znode, ticket = self._coordinator.get_many([path, keys.task_ticket(self.task.id)])
        now = decoded(Task, znode.data, path) if znode else None
        if znode is None or now is None or ticket is None or ticket.owner != self._session:
            raise Lost
        if (now.node, now.attempts, now.phase) != (self.task.node, self.task.attempts, TaskPhase.RUNNING):
            raise Lost
        self.task, self._version = now, znode.version
        self.cancelled = self.cancelled or now.cancel

    def _demand_touch(self) -> None:
        """Raise Lost if the session is another one, or out of touch for so long that it may be at its end."""
        state = self._coordinator.state
        if self._given_up or state in (SessionState.LOST, SessionState.CLOSED):
            raise Lost
        if state is SessionState.CONNECTED:
            self._silent_since = None
            if self._coordinator.session_id != self._session:
                raise Lost
            return
        now = self._runtime.monotonic()
        if self._silent_since is None:
            self._silent_since = now
        if now - self._silent_since > OUT_OF_TOUCH * self._context.config.zookeeper.session_timeout:
            raise Lost


Named = Mapping[str, tuple[Volume | None, int | None]]
"""The volumes that a task names: the record, None if there is none that can be read, and the version of its znode."""


def begin(context: Context, known: Task, doing: Callable[[Pool | None], str] = lambda _pool: "") -> Hold | None:
    """Begin with a task, or go on with it; None: somebody else is at it, or it is over, or another node's by now.

    `known`: the task as it was read, maybe a while ago; what it is about does not change. `doing`: what its first
    attempt in that pool begins with, where nothing has to be looked at before; that spares a write. Raises
    Disconnected, and Conflict if it changes at this moment.
    """
    path, ticket_path, volumes = keys.task(known.id), keys.task_ticket(known.id), _paths(known)
    of_it = [path, ticket_path, *([keys.pool(known.pool)] if known.pool else [])]
    found = iter(context.coordinator.get_many([*of_it, *volumes.values()]))
    znode, ticket = next(found), next(found)
    pool = next(found) if known.pool else None
    task = decoded(Task, znode.data, path) if znode else None
    if znode is None or task is None or task.node != known.node:
        return None
    if ticket is not None and ticket.owner != context.coordinator.session_id:
        return None
    named = _decoded(volumes, found)
    records = _records(named)
    if why := why_void(task, records):
        _end_void(context, task, znode.version, ticket, why)
        return None
    there = decoded(Pool, pool.data, keys.pool(task.pool)) if pool else None
    now = begun(task, context.node, context.runtime.now(), doing(there), records.get(task.volume))
    after = at_begin(task, records)
    untouched = [(keys.volume(task.pool, name), version) for name, (_, version) in named.items() if name not in after]
    context.coordinator.commit(
        [
            Put(path, encode(now), znode.version),
            Create(ticket_path, ephemeral=True) if ticket is None else Check(ticket_path),
            *_written(task.pool, after, named),
            *(Check(path, version) for path, version in untouched if version is not None),
        ]
    )
    _note_begin(context, task, now)
    written = {name: (record, (named[name][1] or 0) + 1) for name, record in after.items()}
    return Hold(context, now, znode.version + 1, {**named, **written}, there)


def _read_named(context: Context, task: Task) -> Named:
    """The volumes that a task names, by name. Raises Disconnected."""
    paths = _paths(task)
    return _decoded(paths, context.coordinator.get_many(list(paths.values())) if paths else [])


def _paths(task: Task) -> dict[str, str]:
    """Where the records of the volumes that a task names are, by name."""
    if not task.pool or not task.volume:
        return {}
    return {name: keys.volume(task.pool, name) for name in (task.volume, task.new) if name}


def _decoded(paths: Mapping[str, str], found: Iterable[Znode | None]) -> Named:
    return {
        name: (decoded(Volume, znode.data, path), znode.version) if znode else (None, None)
        for (name, path), znode in zip(paths.items(), found, strict=True)
    }


def _records(named: Named) -> dict[str, Volume]:
    return {name: record for name, (record, _) in named.items() if record is not None}


def _written(pool: str, after: Mapping[str, Volume | None], before: Named) -> list[Op]:
    """What makes the records of volumes these; who adds or removes one rewrites their parent."""
    ops: list[Op] = []
    for name, record in after.items():
        path, (_, version) = keys.volume(pool, name), before.get(name, (None, None))
        if record is None:
            ops += [] if version is None else [Delete(path, version)]
        elif version is None:
            ops.append(Create(path, encode(record)))
        else:
            ops.append(Put(path, encode(record), version))
    moved = any(not isinstance(op, Put) for op in ops)
    return [Put(keys.volumes(pool), b""), *ops] if moved else ops


def _end_void(context: Context, task: Task, version: int, ticket: Znode | None, why: str) -> None:
    ended = replace(task, phase=TaskPhase.FAILED, message=why, finished=context.runtime.now())
    given_back = [Delete(keys.task_ticket(task.id))] if ticket else []
    context.coordinator.commit([*given_back, *ending(ended, version)])
    move(context.log, titled(task), task.phase, TaskPhase.FAILED, MOVES, why)


def _note_begin(context: Context, before: Task, now: Task) -> None:
    if before.phase is TaskPhase.RUNNING:
        why = "its node is away" if before.node != now.node else "the attempt before was broken off"
        move(context.log, titled(now), TaskPhase.RUNNING, TaskPhase.ASKED, MOVES, why)
    move(context.log, titled(now), TaskPhase.ASKED, TaskPhase.RUNNING, MOVES, f"attempt {now.attempts}")
