"""VMs and volumes together: which nodes will do, what a definition becomes, and by which secrets it is reached.

Reads the tree; the storage is asked only before a VM starts (`fencing.py`). At most one VM has a volume: a definition
that names one of another VM is refused, and no VM starts with one that another VM runs with.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from pvc.core import keys as core
from pvc.core.context import Context, Verdict
from pvc.core.coordination import Coordinator
from pvc.core.devices import AT_REST
from pvc.core.errors import NotNow
from pvc.core.lookup import all_vms, read_facts
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, Finding, Severity, Vm, VmActual
from pvc.core.records import decode
from pvc.core.storage import Disk, HypervisorSecret, Pool, StorageError, StorageUnusable
from pvc.plugins.storage import keys
from pvc.plugins.storage.backends import Backends
from pvc.plugins.storage.decide import directories, pools
from pvc.plugins.storage.decide.attachment import (
    Found,
    VolumeName,
    VolumeUnusable,
    faults_in,
    needed_files,
    needed_volumes,
    users_of,
    volumes_of,
    why_never,
    why_not_now,
    with_sources,
)
from pvc.plugins.storage.decide.pooloptions import is_at_rest
from pvc.plugins.storage.fencing import Admission, HasWriter
from pvc.plugins.storage.neighbours import published_in
from pvc.plugins.storage.records import ENDED, Task, Volume, decoded, read_pools, stills
from pvc.plugins.storage.schema import SECTION

T = TypeVar("T")

LOOK_AFRESH = 300.0
"""Seconds after which the records of all VMs are asked for again though no watch has fired: they are many."""


class Attachments:
    """Answers for one daemon, or for one client."""

    def __init__(self, context: Context, backends: Backends) -> None:
        self._coordinator = context.coordinator
        self._log = context.log
        self._node = context.node
        self._backends = backends
        self._admission = Admission(context, backends)
        idle = context.runtime.signal()
        self._places = Mirror(context.coordinator, context.runtime, context.operations_wake)
        self._pools = Mirror(context.coordinator, context.runtime, idle)
        self._vms = Mirror(context.coordinator, context.runtime, idle, look_afresh=LOOK_AFRESH)
        self._keyless: dict[str, str] = {}
        """By pool, why there is nothing to reach its disks by."""

    def verdicts(self, vm: Vm, nodes: Sequence[str]) -> Mapping[str, Verdict]:
        """What speaks against nodes as the place of a VM. Raises Disconnected."""
        needs = vm.needs.get(SECTION, ())
        if not needs:
            return {}
        names = needed_volumes(needs)
        self._places.prefetch([core.vm(vm.uuid), *_paths(names), *(core.node_facts(node) for node in nodes)])
        found = self._found(vm, names)
        fault = faults_in(needs) or _first(why_never, found)
        if fault:
            return {node: Verdict(fault, everywhere=True) for node in nodes}
        not_now = _first(why_not_now, found)
        against = {node: not_now or self._why_not(node, needs, names) for node in nodes}
        return {node: Verdict(why) for node, why in against.items() if why}

    def definition(self, vm: Vm, xml: str) -> str | None:
        """The definition of a VM that starts here.

        Raises NotNow, also while the storage cannot be used or somebody else has a volume open, which may end at any
        time; VolumeUnusable, StorageError, Disconnected.
        """
        names = volumes_of(xml)
        found = look(self._coordinator, names)
        for name in names:
            if why := why_never(name, found[name]) or self._why_busy(vm, name):
                raise VolumeUnusable(f"{vm.name} cannot have volume {name}: {why}")
            if why := why_not_now(name, found[name]):
                raise NotNow(f"{vm.name} cannot have volume {name}: {why}")
        self._demand_usable(vm, {name.pool for name in names})
        try:
            self._admission.demand((pool, name.volume) for name in names if (pool := found[name].pool) is not None)
        except (StorageUnusable, HasWriter) as error:
            raise NotNow(str(error)) from error
        return with_sources(xml, lambda name: self._disk(name, found[name]))

    def secrets(self) -> list[HypervisorSecret]:
        """What the hypervisor here needs for the disks of all pools. Raises Disconnected."""
        secrets, keyless = [], {}
        for name, pool in read_pools(self._pools).items():
            try:
                secret = None if pool is None else self._backends.get(pool).secret()
            except StorageError as error:
                keyless[name] = str(error)
                continue
            if secret is not None:
                secrets.append(secret)
        for name, why in keyless.items():
            if self._keyless.get(name) != why:
                self._log.warning("pool %s: %s", name, why)
        self._keyless = keyless
        return secrets

    def findings(self) -> list[Finding]:
        """One for each pool whose disks no VM can reach from here for want of a key."""
        return [
            Finding(SECTION, Severity.CRITICAL, f"VMs with disks in pool {name} do not start here: {why}")
            for name, why in sorted(self._keyless.items())
        ]

    def _demand_usable(self, vm: Vm, named: Collection[str]) -> None:
        """Raise NotNow if this node has last seen that it cannot use one of these pools: what the hypervisor would say
        of that sounds as if it lasted."""
        states = pools.published_in(read_facts(self._coordinator, self._node)) if named else {}
        for pool in sorted(set(named) & set(states)):
            if why := pools.why_not_usable(pool, states):
                raise NotNow(f"{vm.name} cannot start on {self._node}, which {why}")

    def _found(self, vm: Vm, names: Sequence[VolumeName]) -> dict[VolumeName, Found]:
        """A VM that is not defined yet must not name what another one has: then the cluster itself is asked, because a
        copy may be older than what the transaction that defines it demands."""
        if not names or self._places.get(core.vm(vm.uuid)) is not None:
            return look(self._places, names)
        return look(self._coordinator, names, [one for one in all_vms(self._coordinator)[0] if one.uuid != vm.uuid])

    def _why_not(self, node: str, needs: Sequence[str], names: Sequence[VolumeName]) -> str:
        facts = read_facts(self._places, node)
        states = pools.published_in(facts)
        reasons = [
            directories.why_not(needed_files(needs), published_in(facts)),
            *(pools.why_not_usable(pool, states) for pool in dict.fromkeys(name.pool for name in names)),
        ]
        return " and ".join(reason for reason in reasons if reason)

    def _why_busy(self, vm: Vm, name: VolumeName) -> str:
        """Why a VM must not start with a volume: another one has the lease to run with it. Definitions do not share
        volumes; this is for those that were made before the cluster knew of volumes, or behind its back.

        The leases are read from the cluster, after the own one was written: of two VMs that start at the same moment
        at least one sees the other.
        """
        others = [other for other in users_of(name, self._all_vms()) if other.uuid != vm.uuid]
        paths = [core.vm_actual(other.uuid) for other in others]
        for other, path, znode in zip(others, paths, self._coordinator.get_many(paths), strict=True):
            if znode is None:
                continue
            actual = decode(VmActual, znode.data, path)
            if actual.state not in AT_REST:
                return f"VM {other.name} is {actual.state.value} with it on {actual.node}; stop that first"
        return ""

    def _all_vms(self) -> list[Vm]:
        """The records of all VMs that can be read."""
        paths = [core.vm(uuid) for uuid in self._vms.children(core.VMS) or ()]
        self._vms.prefetch(paths)
        known = [(path, self._vms.get(path)) for path in paths]
        vms = [None if znode is None else decoded(Vm, znode.data, path) for path, znode in known]
        return [vm for vm in vms if vm is not None]

    def _disk(self, name: VolumeName, found: Found) -> Disk:
        assert found.pool is not None and found.volume is not None  # else it has been refused
        return self._backends.get(found.pool).disk(name.volume, found.volume.format)


def look(source: Coordinator | Mirror, names: Sequence[VolumeName], vms: Iterable[Vm] = ()) -> dict[VolumeName, Found]:
    """What the tree says of volumes; `vms`: other VMs, which may have them. Raises Disconnected."""
    others = list(vms)
    return {name: _look(source, name, others) for name in names}


def _paths(names: Iterable[VolumeName]) -> list[str]:
    return [path for name in names for path in (keys.pool(name.pool), keys.volume(name.pool, name.volume))]


def _look(source: Coordinator | Mirror, name: VolumeName, vms: Sequence[Vm]) -> Found:
    volume = _record(source, Volume, keys.volume(name.pool, name.volume))
    task = None if volume is None or volume.task is None else _record(source, Task, keys.task(volume.task))
    pool = _record(source, Pool, keys.pool(name.pool))
    return Found(
        pool,
        volume,
        None if task is None or volume is None or not _is_stilled(task, volume, pool) else task.kind,
        ", ".join(vm.name for vm in users_of(name, vms) if not is_rid_of(source, vm, name)),
    )


def _is_stilled(task: Task, volume: Volume, pool: Pool | None) -> bool:
    return stills(task, volume) or (pool is not None and task.phase not in ENDED and is_at_rest(task.kind, pool))


def is_rid_of(source: Coordinator | Mirror, vm: Vm, name: VolumeName) -> bool:
    """Whether a VM that had a volume as it ran has been stopped, and will not have it again. Raises Disconnected."""
    actual, xml = _record(source, VmActual, core.vm_actual(vm.uuid)), source.get(core.vm_xml(vm.uuid))
    if actual is None or xml is None or actual.state is not ActualState.STOPPED:
        return False
    return name not in volumes_of(xml.data.decode(errors="replace"))


def _record(source: Coordinator | Mirror, kind: type[T], path: str) -> T | None:
    znode = source.get(path)
    return None if znode is None else decoded(kind, znode.data, path)


def _first(why: Callable[[VolumeName, Found], str], found: Mapping[VolumeName, Found]) -> str:
    """The first reason why a node cannot give a VM its volumes; empty: there is none."""
    reasons = ((name, why(name, one)) for name, one in found.items())
    return next((f"cannot use volume {name}: {reason}" for name, reason in reasons if reason), "")
