"""How a client asks for a task: in one transaction, repeated if somebody was faster; of a node that can do it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pvc.core.coordination import Conflict, Coordinator, Create, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.lookup import NotFound, nearest
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Runtime
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.tasks import made_by
from pvc.plugins.storage.decide.workers import Worker, choose, why_none, why_not
from pvc.plugins.storage.records import Task, TaskKind, TaskPhase, Volume, VolumeState
from pvc.plugins.storage.requests.ledger import Refused
from pvc.plugins.storage.tasks.history import ending

T = TypeVar("T")

TRIES = 100
"""How often a request is repeated when others write at the same moment. One of them is done each time."""
SHORTEST_ID = 4
"""Characters of a task's id that one may be named by, if they are the first and it is the only one."""


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks."""

    coordinator: Coordinator
    runtime: Runtime
    by: str
    own: str = ""
    """The name of the node that this machine would be; it need not be one."""

    def new_task(self, kind: TaskKind, node: str, **fields: Any) -> Task:
        """A task of this kind, asked for now."""
        return Task(self.runtime.new_id(), kind, node, self.by, self.runtime.now(), **fields)


def ask(client: Client, attempt: Callable[[], tuple[Task, Sequence[Op]]]) -> Task:
    """Write the task that `attempt` answers together with its operations; it is called anew if somebody was faster.

    Where tasks are kept must be there (`make_places`): it is where a pool is. Raises what `attempt` raises, Conflict if
    the records keep changing, Disconnected.
    """

    coordinator = client.coordinator

    def write(asked: tuple[Task, Sequence[Op]]) -> None:
        task, ops = asked
        record, wakes = encode(task), keys.asked(task.node)
        others = [*ops, Create(keys.task(task.id), record)]
        try:
            coordinator.commit([*others, Put(wakes, record)])
        except Conflict as conflict:
            if conflict.op.path != wakes:
                raise
            make_places(coordinator)
            coordinator.commit([*others, Create(wakes, record)])  # the first task that this node is asked for

    return _repeated(attempt, write)[0]


def committed(coordinator: Coordinator, attempt: Callable[[], tuple[T, Sequence[Op]]]) -> T:
    """The answer of `attempt`, once its operations are done; it is called again if somebody was faster."""
    return _repeated(attempt, lambda answer: coordinator.commit(answer[1]))[0]


def _repeated(attempt: Callable[[], T], write: Callable[[T], object]) -> T:
    for left in reversed(range(TRIES)):
        try:
            answer = attempt()
            write(answer)
            return answer
        except Conflict:
            if not left:
                raise
    raise AssertionError("unreachable")


def make_places(coordinator: Coordinator) -> None:
    """Make where pools and tasks are kept, if nobody has yet. Raises Disconnected."""
    places = (keys.STORAGE, keys.POOLS, keys.TASKS, keys.ASKED, keys.ENDED_TASKS)
    for path, znode in zip(places, coordinator.get_many(places), strict=True):
        if znode is None:
            try:
                coordinator.commit([Create(path)])
            except Conflict:  # somebody else has, a moment ago
                continue


def worker(client: Client, workers: Sequence[Worker], pool: str | None) -> str:
    """The node to ask for work on a pool (None: one yet to be made). Raises Refused."""
    chosen = choose(workers, pool, client.own)
    if chosen is None:
        raise Refused(why_none(workers, pool))
    return chosen.name


def bound_worker(client: Client, workers: Sequence[Worker], pool: str, node: str | None, what: str) -> str:
    """The node that has the file which the work is about; `node` as it was named. Raises Refused, NotFound."""
    name = client.own if node is None else node
    found = next((one for one in workers if one.name == name), None)
    if found is None and node is None:
        names = ", ".join(one.name for one in workers) or "none"
        raise Refused(f"this machine is no node with the storage role; say with --node where {what} is: {names}")
    return demand_able(found, workers, pool, name)


def named_worker(workers: Sequence[Worker], name: str) -> str:
    """The node of that name, for a pool that is yet to be made. Raises Refused, NotFound."""
    return demand_able(next((one for one in workers if one.name == name), None), workers, None, name)


def demand_able(found: Worker | None, workers: Sequence[Worker], pool: str | None, name: str) -> str:
    """The name of the worker that was found. Raises NotFound, and Refused if it cannot work on the pool."""
    if found is None:
        names = [one.name for one in workers]
        close = nearest(name, names)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are: {', '.join(names) or 'none'}"
        raise NotFound(f"there is no node {name!r} with the storage role; {hint}")
    if why := why_not(found, pool):
        raise Refused(f"node {name} {why}; mend that, or say another node")
    return found.name


def find_task(coordinator: Coordinator, text: str) -> Task:
    """The task of that id, or of an id that begins so. Raises NotFound, Garbage, Disconnected."""
    _, folders = coordinator.look([], [keys.TASKS, keys.ENDED_TASKS])
    ids = {id for folder in folders for id in folder or ()}
    found = [id for id in ids if id == text or (len(text) >= SHORTEST_ID and id.startswith(text))]
    if len(found) > 1:
        raise NotFound(f"several tasks have an id that begins with {text!r}; say more of it")
    for path in [path_of(id) for id in found for path_of in (keys.task, keys.ended_task)]:
        if (znode := coordinator.get(path)) is not None:
            return decode(Task, znode.data, path)
    raise _no_task(text)


def cancel(client: Client, id: str) -> Task:
    """Ask a task to end; one that nobody has begun with ends at once. Raises NotFound, Refused, Garbage, Disconnected.

    `id`: the whole one.
    """
    coordinator, path = client.coordinator, keys.task(id)

    def attempt() -> tuple[Task, Sequence[Op]]:
        znode = coordinator.get(path)
        if znode is None:
            raise _not_in_hand(coordinator, id)
        task = decode(Task, znode.data, path)
        if task.phase is TaskPhase.ASKED and not task.attempts:
            message = f"cancelled by {client.by} before anybody had begun with it"
            now = client.runtime.now()
            ended = replace(task, cancel=True, phase=TaskPhase.CANCELLED, finished=now, message=message)
            return ended, [*ending(ended, znode.version), *_given_up(coordinator, task)]
        asked = replace(task, cancel=True)
        return asked, [Put(path, encode(asked), znode.version)]

    return committed(coordinator, attempt)


def _not_in_hand(coordinator: Coordinator, id: str) -> PvcError:
    path = keys.ended_task(id)
    znode = coordinator.get(path)
    if znode is None:
        return _no_task(id)
    task = decode(Task, znode.data, path)
    return Refused(f"task {id} has ended already: {task.phase.value}; {task.message}")


def _no_task(text: str) -> NotFound:
    return NotFound(f"there is no task {text!r}; `pvc storage task list --all` shows those that are kept")


def _given_up(coordinator: Coordinator, task: Task) -> list[Op]:
    """What makes volumes what they were before a task was asked for that nobody has begun with."""
    ops: list[Op] = []
    for name in {task.volume, task.new} - {""}:
        path = keys.volume(task.pool, name)
        znode = coordinator.get(path)
        if znode is None:
            continue
        try:
            volume = decode(Volume, znode.data, path)
        except Garbage:
            continue
        if volume.task == task.id:
            gone = volume.state is VolumeState.MAKING and name == made_by(task)  # else the end of that is not known
            ops.append(
                Delete(path, znode.version) if gone else Put(path, encode(replace(volume, task=None)), znode.version)
            )
    return ops
