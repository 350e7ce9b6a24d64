"""The records of one VM, read together with the versions that a write must name."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from pvc.core import keys
from pvc.core.coordination import Check, Clash, Conflict, Coordinator, Create, Op, Put
from pvc.core.mirror import Mirror
from pvc.core.model import Vm, VmActual, VmDoubt, VmState
from pvc.core.records import Garbage, decode, encode


@dataclass(frozen=True, slots=True)
class VmRecords:
    """What is wanted and what is, as read at one moment."""

    vm: Vm
    vm_version: int
    actual: VmActual
    actual_version: int

    def put(self, *, vm: Vm | None = None, actual: VmActual | None = None) -> list[Op]:
        """Operations that replace either or both, and fail if either has changed since it was read."""
        uuid = self.vm.uuid
        return [
            Check(keys.vm(uuid), self.vm_version)
            if vm is None or vm == self.vm
            else Put(keys.vm(uuid), encode(vm), self.vm_version),
            Check(keys.vm_actual(uuid), self.actual_version)
            if actual is None or actual == self.actual
            else Put(keys.vm_actual(uuid), encode(actual), self.actual_version),
        ]


@dataclass(frozen=True, slots=True)
class Promise:
    """A VM that was ordered to a node, and what it will need there."""

    memory: int
    """MiB."""
    vcpus: int
    spread: str | None = None


@dataclass(frozen=True, slots=True)
class Promises:
    """The VMs that were ordered to a node and that its facts do not know of yet: the content of `nodes/<node>/vms`.

    Every order rewrites it, so that two flushes cannot promise the same room at the same moment.
    """

    vms: Mapping[str, Promise] = field(default_factory=dict)
    """By UUID."""


def read_promises(source: Coordinator | Mirror, node: str) -> tuple[Promises, int]:
    """What was promised to a node and still is wanted there, and the version that an order must name.

    Raises Disconnected. Promises that cannot be read count as none: they only guard against a race.
    """
    path = keys.node_vms(node)
    znode = source.get(path)
    if znode is None or not znode.data:
        return Promises(), 0 if znode is None else znode.version
    try:
        written = decode(Promises, znode.data, path)
        if isinstance(source, Mirror):
            source.prefetch(keys.vm(uuid) for uuid in written.vms)
        return Promises(
            {uuid: one for uuid, one in written.vms.items() if _is_wanted(source, uuid, node)}
        ), znode.version
    except Garbage:
        return Promises(), znode.version


def _is_wanted(source: Coordinator | Mirror, uuid: str, node: str) -> bool:
    znode = source.get(keys.vm(uuid))
    if znode is None:
        return False
    vm = decode(Vm, znode.data, keys.vm(uuid))
    return vm.node == node and vm.state is VmState.RUNNING


@dataclass(frozen=True, slots=True)
class MoveReport:
    """How far a migration is, for those who watch. Bytes, bytes per second, seconds; see MigrationProgress."""

    rung: str
    """Where on the ladder it is, in words."""
    elapsed: float
    total: int
    remaining: int
    rate: int
    dirty_rate: int | None
    downtime: float | None
    throttle: int | None
    iteration: int


def prefetch_vms(mirror: Mirror, uuids: Iterable[str]) -> None:
    """Ask at once for all that `read_vm` reads of these VMs. Raises Disconnected."""
    mirror.prefetch(part(uuid) for uuid in uuids for part in (keys.vm, keys.vm_actual))


def read_vm(source: Coordinator | Mirror, uuid: str) -> VmRecords | None:
    """The VM's records; None if the cluster does not know it. Raises Garbage, Disconnected."""
    vm = source.get(keys.vm(uuid))
    actual = source.get(keys.vm_actual(uuid))
    if vm is None or actual is None:
        return None
    return VmRecords(
        decode(Vm, vm.data, keys.vm(uuid)),
        vm.version,
        decode(VmActual, actual.data, keys.vm_actual(uuid)),
        actual.version,
    )


def read_doubt(source: Coordinator | Mirror, uuid: str) -> VmDoubt | None:
    """The doubt about who runs the VM; None: there is none. Raises like `read_vm`."""
    znode = source.get(keys.vm_doubt(uuid))
    return None if znode is None else decode(VmDoubt, znode.data, keys.vm_doubt(uuid))


def commit_with_index(commit: Callable[[list[Op]], object], ops: list[Op], node: str, uuid: str) -> None:
    """Commit `ops`, and in the same transaction make sure that the node looks at the VM from now on.

    Mostly the VM is not in the node's index yet, so that is tried first instead of asked. Raises Conflict.
    """
    path = keys.node_vm(node, uuid)
    try:
        commit([*ops, Create(path)])
    except Conflict as conflict:
        if conflict.op.path != path or conflict.clash is not Clash.EXISTS:
            raise
        commit([*ops, Check(path)])


def index_ops(source: Coordinator | Mirror, node: str, uuid: str) -> list[Op]:
    """Operations that make sure that the node looks at the VM from now on."""
    path = keys.node_vm(node, uuid)
    return [Create(path) if source.get(path) is None else Check(path)]
