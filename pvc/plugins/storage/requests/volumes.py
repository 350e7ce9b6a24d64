"""What clients ask of volumes: each request is one transaction, repeated if somebody was faster."""

from collections.abc import Sequence

from pvc.core.coordination import Op
from pvc.plugins.storage.decide.attachment import VolumeName
from pvc.plugins.storage.decide.pooloptions import first_format, is_at_rest
from pvc.plugins.storage.decide.sizes import exactly, why_no_size
from pvc.plugins.storage.records import Task, TaskKind, Volume
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.requests.changing import (
    Consent,
    Situation,
    Where,
    asked_of,
    changed,
    demand_contents,
    demand_name,
    demand_path,
    granted,
    made,
)
from pvc.plugins.storage.requests.ledger import Refused, clones, find_snapshot, read_workers
from pvc.plugins.storage.tasks.growing import unseen

FORMATS = ("qcow2", "raw")
"""What a volume can be exported as."""


def add(client: Client, where: Where, size: int) -> Task:
    """Make an empty volume of so many bytes. Raises Refused, NotFound, Disconnected."""
    _demand_size(size)
    return made(client, where, TaskKind.CREATE, first_format, size=size)


def load(client: Client, where: Where, path: str, node: str | None) -> Task:
    """Make a volume of a file that `node` (None: this machine) has. Raises Refused, NotFound, Disconnected."""
    demand_path(path)
    return made(client, where, TaskKind.IMPORT, first_format, node=node, bound=True, path=path)


def remove(client: Client, where: Where, *, snapshots: bool, consent: Consent = granted) -> Task:
    """Destroy a volume that nobody uses; with `snapshots`, those as well. Raises Refused, NotFound, Disconnected."""

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        guards = _demand_unnamed(situation, volume, "removed")
        _demand_removable(situation, volume, snapshots=snapshots)
        return guards

    return changed(client, where, TaskKind.REMOVE, check, further=asked_of(consent), whole=False)


def resize(client: Client, where: Where, size: int, *, shrink: bool, consent: Consent = granted) -> Task:
    """Give a volume another size in bytes; a smaller one with `consent`. Raises Refused, NotFound, Disconnected."""
    _demand_size(size)

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        vms, guards = situation.users(volume.name)
        waits, lost = unseen(client.coordinator, vms, VolumeName(where.pool, where.volume))
        if waits:
            raise Refused(f"{waits} is still to see that {where} has {exactly(volume.size)}; wait for that, or stop it")
        if size == volume.size and lost:  # it is shown to them once more
            return guards
        if size == volume.size:
            raise Refused(f"volume {where} has {exactly(size)} already")
        if size < volume.size and not shrink:
            raise Refused(
                f"volume {where} has {exactly(volume.size)}, more than {exactly(size)}: what lies beyond would be"
                " lost; say --shrink if the file system in it is smaller already"
            )
        if size < volume.size or is_at_rest(TaskKind.RESIZE, situation.pool):
            return situation.still(volume.name, f"volume {where} cannot be given {exactly(size)}")
        return []

    def further(situation: Situation, volume: Volume, task: Task) -> Sequence[Op]:
        if size < volume.size:
            consent(volume)
        return []

    return changed(client, where, TaskKind.RESIZE, check, further=further, size=size)


def rename(client: Client, where: Where, new: str) -> Task:
    """Give a volume that no VM names another name. Raises Refused, NotFound, Disconnected."""
    demand_name("volume", new)

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        guards = _demand_unnamed(situation, volume, "renamed")
        _demand_unlinked(situation, volume, "renamed")
        situation.demand_free(new)
        return [situation.guard(), *guards]

    return changed(client, where, TaskKind.RENAME, check, new=new)


def clone(client: Client, where: Where, new: str, snapshot: str | None) -> Task:
    """Make a volume with the contents of another, or of a snapshot of it. Raises Refused, NotFound, Disconnected."""
    demand_name("volume", new)

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        situation.demand_free(new)
        return [situation.guard(), *demand_contents(situation, volume, snapshot, "cloned")]

    def with_copy(situation: Situation, volume: Volume, task: Task) -> Sequence[Op]:
        size = volume.size if snapshot is None else find_snapshot(volume, where.pool, snapshot).size
        return [situation.new(task, new, size, volume.format)]

    return changed(client, where, TaskKind.CLONE, check, further=with_copy, new=new, snapshot=snapshot or "")


def save(client: Client, where: Where, path: str, node: str | None, format: str, snapshot: str | None) -> Task:
    """Write a volume, or a snapshot of it, to a new file of `node` (None: this machine).

    Raises Refused, NotFound, Disconnected.
    """
    demand_path(path)
    if format not in FORMATS:
        raise Refused(f"{format!r} is no format to export as; there are {' and '.join(FORMATS)}")

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        return demand_contents(situation, volume, snapshot, "exported")

    return changed(
        *(client, where, TaskKind.EXPORT, check),
        node=node,
        bound=True,
        path=path,
        format=format,
        snapshot=snapshot or "",
    )


def _demand_removable(situation: Situation, volume: Volume, *, snapshots: bool) -> None:
    """Raise Refused if clones need a volume, or its snapshots are not to go with it. Raises Disconnected."""
    name = f"{situation.pool.name}/{volume.name}"
    if kept := [one.name for one in volume.snapshots if one.protected]:
        raise Refused(
            f"volume {name} has protected snapshots: {', '.join(kept)};"
            f" `pvc storage snapshot protect --off {situation.pool.name} {volume.name} {kept[0]}` takes that back"
        )
    _demand_unlinked(situation, volume, "removed")
    if volume.snapshots and not snapshots:
        names = ", ".join(one.name for one in volume.snapshots)
        raise Refused(f"volume {name} has snapshots: {names}; say --snapshots if they are to go with it")


def beyond(client: Client, pool: str, size: int) -> str:
    """What there is to say of a volume that is larger than its pool; empty: it is not. Raises Disconnected."""
    totals = [one.pools[pool].total for one in read_workers(client.coordinator, ()) if pool in one.pools]
    total = max(totals, default=0)
    if not total or size <= total:
        return ""
    return f"{exactly(size)} are more than pool {pool} has in all ({exactly(total)}): its VMs can fill the pool up"


def _demand_size(size: int) -> None:
    if why := why_no_size(size):
        raise Refused(why)


def _demand_unnamed(situation: Situation, volume: Volume, what: str) -> list[Op]:
    """Raise Refused if VMs have a volume; what sees to it that none gets it any more."""
    vms, guards = situation.users(volume.name, for_good=True)
    if vms:
        names = ", ".join(vm.name for vm in vms)
        raise Refused(
            f"volume {situation.pool.name}/{volume.name} cannot be {what}: it is a disk of {names}; take it from there"
            " first"
        )
    return guards


def _demand_unlinked(situation: Situation, volume: Volume, what: str) -> None:
    if linked := clones(situation.client.coordinator, situation.pool.name, volume.name):
        raise Refused(
            f"volume {situation.pool.name}/{volume.name} cannot be {what}: {', '.join(linked)} share its data"
            " as clones of a snapshot; remove them first"
        )
