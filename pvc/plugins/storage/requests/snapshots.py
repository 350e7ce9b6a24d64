"""What clients ask of snapshots: each request is one transaction, repeated if somebody was faster."""

from collections.abc import Sequence

from pvc.core.coordination import Op
from pvc.plugins.storage.decide.pooloptions import is_at_rest
from pvc.plugins.storage.records import Task, TaskKind, Volume
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.requests.changing import Consent, Situation, Where, asked_of, changed, demand_name, granted
from pvc.plugins.storage.requests.ledger import Refused, clones, find_snapshot


def add(client: Client, where: Where, name: str) -> Task:
    """Keep what a volume holds now under a name. Raises Refused, NotFound, Disconnected."""
    demand_name("snapshot", name)

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        if name in [one.name for one in volume.snapshots]:
            raise Refused(f"volume {where} has a snapshot {name} already; choose another name")
        if not is_at_rest(TaskKind.SNAPSHOT, situation.pool):
            return []
        if volume.format == "raw":
            raise Refused(f"volume {where} is a raw file, which keeps no snapshots; clone it, or use qcow2")
        return situation.still(volume.name, f"volume {where}, a file, can have no snapshot made")

    return changed(client, where, TaskKind.SNAPSHOT, check, snapshot=name)


def remove(client: Client, where: Where, name: str, *, consent: Consent = granted) -> Task:
    """Give a snapshot up. Raises Refused, NotFound, Disconnected."""

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        if find_snapshot(volume, where.pool, name).protected:
            off = f"pvc storage snapshot protect --off {where.pool} {where.volume} {name}"
            raise Refused(f"snapshot {name} of volume {where} is protected; `{off}` takes that back")
        if linked := clones(situation.client.coordinator, where.pool, where.volume, name):
            raise Refused(
                f"snapshot {name} of volume {where} cannot be removed: {', '.join(linked)} share its data as clones;"
                " remove them first"
            )
        if is_at_rest(TaskKind.UNSNAPSHOT, situation.pool):
            return situation.still(volume.name, f"snapshot {name} of volume {where}, a file, cannot be removed")
        return []

    return changed(client, where, TaskKind.UNSNAPSHOT, check, further=asked_of(consent), snapshot=name)


def protect(client: Client, where: Where, name: str, *, on: bool) -> Task:
    """Have a snapshot, and so its volume, not be removed until that is taken back. Raises Refused, NotFound."""

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        if find_snapshot(volume, where.pool, name).protected is on:
            raise Refused(f"snapshot {name} of volume {where} is {'protected already' if on else 'not protected'}")
        return []

    return changed(client, where, TaskKind.PROTECT, check, snapshot=name, on=on)


def roll_back(client: Client, where: Where, name: str, *, consent: Consent = granted) -> Task:
    """Make a volume what it was at a snapshot. Raises Refused, NotFound, Disconnected."""

    def check(situation: Situation, volume: Volume) -> Sequence[Op]:
        find_snapshot(volume, where.pool, name)
        return situation.still(volume.name, f"volume {where} cannot be rolled back")

    return changed(client, where, TaskKind.ROLL_BACK, check, further=asked_of(consent), snapshot=name)
