"""What all requests about volumes have in common: how they read the pool, and what they write.

The records of all volumes that a task is about name it, that of a clone's source included. Whoever adds or removes a
name rewrites the pool's index, and a name that a task gives away or takes counts as taken as long as the task lasts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pvc.core.coordination import Create, Op, Put
from pvc.core.model import Vm
from pvc.core.records import encode
from pvc.core.storage import Pool
from pvc.plugins.storage import keys
from pvc.plugins.storage.decide.names import is_text, why_no_name
from pvc.plugins.storage.records import Task, TaskKind, Volume
from pvc.plugins.storage.requests.asking import Client, ask, bound_worker, worker
from pvc.plugins.storage.requests.ledger import (
    Refused,
    Sight,
    demand_idle,
    demand_known,
    demand_ready,
    demand_still,
    find_snapshot,
    found_volume,
    read_sight,
    unattended,
    users,
)


@dataclass(frozen=True, slots=True)
class Where:
    """One volume, named."""

    pool: str
    volume: str

    def __str__(self) -> str:
        return f"{self.pool}/{self.volume}"


@dataclass(frozen=True, slots=True)
class Situation:
    """A pool as a request finds it."""

    client: Client
    sight: Sight

    @property
    def pool(self) -> Pool:
        return self.sight.pool

    def guard(self) -> Op:
        """What makes one of two requests be repeated that add or remove names at once."""
        return Put(keys.volumes(self.pool.name), b"", self.sight.index)

    def demand_free(self, name: str) -> None:
        """Raise Refused if there is a volume of that name, or a task makes one."""
        if self.sight.volumes[name] is not None:
            raise Refused(f"there is a volume {name} in pool {self.pool.name} already; choose another name")
        demand_idle(self.sight.tasks, self.pool.name, name)

    def still(self, volume: str, what: str) -> list[Op]:
        """What sees to it that no VM runs on a volume; `what` cannot be done. Raises Refused, Disconnected."""
        vms, guards = self.users(volume)
        return [*guards, *demand_still(self.client.coordinator, vms, what)]

    def users(self, volume: str, *, for_good: bool = False) -> tuple[list[Vm], list[Op]]:
        """The VMs that have a volume, and what makes the transaction fail if one gets it meanwhile; see `unattended`.

        Raises Disconnected.
        """
        guards = unattended(self.client.coordinator, for_good=for_good)
        return users(self.client.coordinator, self.pool.name, volume), guards

    def new(self, task: Task, name: str, size: int, format: str) -> Op:
        """The record of a volume that a task makes."""
        volume = Volume(name, size, format=format, created=task.requested, by=task.by, task=task.id)
        return Create(keys.volume(self.pool.name, name), encode(volume))

    def whose(self, node: str | None, *, bound: bool) -> str:
        """The node to ask; `node`: as it was named. Raises Refused, NotFound."""
        if bound:
            return bound_worker(self.client, self.sight.workers, self.pool.name, node, "the file")
        return worker(self.client, self.sight.workers, self.pool.name)


Judge = Callable[[Situation, Volume], Sequence[Op]]
"""What must be so of a volume, or Refused; the operations that see to it."""
Further = Callable[[Situation, Volume, Task], Sequence[Op]]
"""What else is written with a task."""

Consent = Callable[[Volume], None]
"""Asked once nothing else speaks against what destroys data of a volume, just before it is written; raises if the
answer is no. Asked again if somebody was faster: it may be about another volume then."""


def granted(volume: Volume) -> None:
    """Consent that was given before."""


def asked_of(consent: Consent) -> Further:
    """Nothing but the question."""

    def further(_situation: Situation, volume: Volume, _task: Task) -> Sequence[Op]:
        consent(volume)
        return ()

    return further


def changed(
    client: Client,
    where: Where,
    kind: TaskKind,
    judge: Judge,
    *,
    further: Further = lambda _situation, _volume, _task: (),
    whole: bool = True,
    node: str | None = None,
    **fields: Any,
) -> Task:
    """Ask for a task about a volume that there is, and have its record name it; `whole`: it must be ready.

    Raises Refused, NotFound, Garbage, Disconnected.
    """

    def attempt() -> tuple[Task, Sequence[Op]]:
        sight = read_sight(client.coordinator, where.pool, [where.volume, fields.get("new", "")], node or client.own)
        situation = Situation(client, sight)
        found = found_volume(client.coordinator, where.pool, where.volume, sight.volumes.get(where.volume))
        demand_idle(sight.tasks, where.pool, where.volume)
        demand_known(found.volume, sight)
        if whole:
            demand_ready(found.volume, where.pool)
        guards = judge(situation, found.volume)
        whose = situation.whose(node, bound=fields.get("bound", False))
        task = client.new_task(kind, whose, pool=where.pool, volume=where.volume, **fields)
        more = further(situation, found.volume, task)
        return task, [found.busy_with(task.id, where.pool), *guards, *more]

    return ask(client, attempt)


def made(
    client: Client,
    where: Where,
    kind: TaskKind,
    format_of: Callable[[Pool], str],
    *,
    size: int | None = None,
    node: str | None = None,
    **fields: Any,
) -> Task:
    """Ask for a task that makes a volume. Raises Refused, NotFound, Garbage, Disconnected."""
    demand_name("volume", where.volume)

    def attempt() -> tuple[Task, Sequence[Op]]:
        sight = read_sight(client.coordinator, where.pool, [where.volume], node or client.own)
        situation = Situation(client, sight)
        situation.demand_free(where.volume)
        whose = situation.whose(node, bound=fields.get("bound", False))
        task = client.new_task(kind, whose, pool=where.pool, volume=where.volume, size=size, **fields)
        return task, [situation.guard(), situation.new(task, where.volume, size or 0, format_of(situation.pool))]

    return ask(client, attempt)


def demand_name(kind: str, name: str) -> None:
    """Raise Refused if nothing of this kind can go by that name."""
    if why := why_no_name(kind, name):
        raise Refused(why)


def demand_path(path: str) -> None:
    """Raise Refused if that names no file."""
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise Refused(f"{path!r} will not do: name a file from the root of the node, as /srv/images/disk.qcow2")
    if not is_text(path):
        raise Refused(f"{path!r} is not UTF-8; give the file another name")


def demand_contents(situation: Situation, volume: Volume, snapshot: str | None, what: str) -> Sequence[Op]:
    """Raise Refused or NotFound if the contents cannot be read at rest. Raises Disconnected."""
    if snapshot is not None:
        find_snapshot(volume, situation.pool.name, snapshot)
        return []
    name = f"{situation.pool.name}/{volume.name}"
    return situation.still(volume.name, f"volume {name} cannot be {what} without --snapshot")
