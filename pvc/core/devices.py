"""Changing the devices of a VM: in its definition, and at once in the VM as it runs.

Roles ask here; the node that runs the VM carries it out. The definition changes in the same transaction as the wish.
If the wish fails, because the hypervisor refuses or the guest does not let go, that node puts the definition back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pvc.core import keys
from pvc.core.context import Verdict
from pvc.core.coordination import Check, Conflict, Coordinator, Op, Put
from pvc.core.decide.devices import keys_of, with_device, without_device
from pvc.core.errors import PvcError
from pvc.core.lookup import LacksRole, demand_role, find_node
from pvc.core.mirror import Mirror
from pvc.core.model import ActualState, DeviceChange, DeviceStep, Vm, VmActual
from pvc.core.records import Garbage, decode, encode

TRIES = 10
"""How often a request is repeated when somebody else changes the VM at the same moment."""
MOST_WAITING = 32
"""Changes of one VM that may wait for the node that runs it: they are part of its record."""
FAILED_KEPT = 5
"""Changes that failed and are still told of."""
AT_REST = frozenset({ActualState.STOPPED, ActualState.FAILED})
"""States of a VM that has no devices now; its next start gives it those of its definition."""

Propose = Callable[[str], tuple[DeviceChange, Sequence[Op]]]
"""From the definition as it is: the change, and what else must be so, or is written, in the same transaction."""


class Refused(PvcError):
    """The change makes no sense for this VM as it is; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Ending:
    """What became of a change."""

    why: str = ""
    """Why it was not made; empty: it was."""
    at_next_start: bool = False
    """It is in the definition alone, as the VM does not run."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A VM as it is at this moment."""

    vm: Vm
    actual: VmActual
    xml: str
    versions: tuple[int, int, int]

    def put(self, vm: Vm, xml: str) -> list[Op]:
        uuid, (vm_version, actual_version, xml_version) = vm.uuid, self.versions
        return [
            Put(keys.vm(uuid), encode(vm), vm_version),
            Check(keys.vm_actual(uuid), actual_version),
            Put(keys.vm_xml(uuid), xml.encode(), xml_version),
        ]


def waiting(vm: Vm) -> list[DeviceChange]:
    """The changes that the VM as it runs has not seen yet, in order."""
    return [change for change in vm.device_changes if not change.failed]


def failed(vm: Vm) -> list[DeviceChange]:
    """The last changes that failed, in order."""
    return [change for change in vm.device_changes if change.failed]


def with_growths(vm: Vm, changes: Sequence[DeviceChange]) -> Vm:
    """The record with these wishes that disks be seen in their new size, instead of earlier ones about the same disks:
    a size that is out of date would cut off what has been added since."""
    new = {change.key for change in changes}
    others = (known for known in vm.device_changes if known.step is not DeviceStep.GROW or known.key not in new)
    return replace(vm, device_changes=(*others, *changes))


def without_growths(vm: Vm) -> Vm:
    """The record of a VM that is about to start: it sees every disk as it is."""
    kept = tuple(known for known in vm.device_changes if known.step is not DeviceStep.GROW)
    return vm if kept == vm.device_changes else replace(vm, device_changes=kept)


def request_change(
    coordinator: Coordinator,
    vm: Vm,
    propose: Propose,
    needs: Callable[[str], Mapping[str, tuple[str, ...]]],
    judge: Callable[[Vm, tuple[str, ...]], Mapping[str, Verdict]],
) -> DeviceChange:
    """Change the definition of a VM by one device, and have the node that runs it do the same to the VM.

    `needs` says what a definition needs of the roles, `judge` what they say of nodes as its place. Raises Refused, what
    these and `propose` raise, BadDevice, Garbage, Disconnected; then nothing is stored.
    """
    for left in reversed(range(TRIES)):
        read = _read(coordinator, vm)
        change, further = propose(read.xml)
        wanted, xml = _changed(read, change, needs)
        if change.step is DeviceStep.PLUG:
            _demand_place(coordinator, read, wanted, change.role, judge)
        try:
            coordinator.commit([*read.put(wanted, xml), *further])
            return change
        except Conflict:
            if not left:
                raise
    raise AssertionError("unreachable")


def ending(source: Mirror | Coordinator, vm: Vm, change: DeviceChange) -> Ending | None:
    """What became of a change; None: it is still to be made. Raises Garbage, Disconnected."""
    znode, actual = source.get(keys.vm(vm.uuid)), source.get(keys.vm_actual(vm.uuid))
    if znode is None or actual is None:
        return Ending("the VM is not defined any more")
    record = decode(Vm, znode.data, keys.vm(vm.uuid))
    is_now = decode(VmActual, actual.data, keys.vm_actual(vm.uuid))
    for known in record.device_changes:
        if known.id == change.id and known.failed:
            return Ending(known.failed)
    if is_now.state in AT_REST:
        return Ending(at_next_start=True)
    if all(known.id != change.id for known in record.device_changes):
        return Ending()
    holder = is_now.node
    if holder is not None and source.get(keys.node_session(holder)) is None:
        return Ending(f"the daemon of {holder}, where it was last, does not answer; it is done when that is back")
    return None


def _read(coordinator: Coordinator, vm: Vm) -> _Read:
    paths = [keys.vm(vm.uuid), keys.vm_actual(vm.uuid), keys.vm_xml(vm.uuid)]
    record, actual, xml = coordinator.get_many(paths)
    if record is None or actual is None:
        raise Refused(f"{vm.name} is not defined any more; `pvc vm list` shows what is")
    if xml is None:
        raise Garbage(paths[2], "there is nothing")
    return _Read(
        decode(Vm, record.data, paths[0]),
        decode(VmActual, actual.data, paths[1]),
        xml.data.decode(errors="replace"),
        (record.version, actual.version, xml.version),
    )


def _changed(
    read: _Read, change: DeviceChange, needs: Callable[[str], Mapping[str, tuple[str, ...]]]
) -> tuple[Vm, str]:
    """The record and the definition as they are to be."""
    vm, plugs = read.vm, change.step is DeviceStep.PLUG
    if plugs == (change.key in keys_of(read.xml)):
        raise Refused(f"{vm.name} has {'an' if plugs else 'no'} {change.key} {'already' if plugs else 'to remove'}")
    xml = with_device(read.xml, change.device) if plugs else without_device(read.xml, change.key)
    used = needs(xml)
    if plugs and change.role not in used:
        raise Refused(f"no node that runs VMs has the {change.role} role; switch it on in the pvc.yaml of one")
    if read.actual.state is ActualState.STOPPED:
        return replace(vm, needs=used, device_changes=()), xml
    before = waiting(vm)
    if change.key in [known.key for known in before]:
        raise Refused(f"an earlier change of {change.key} of {vm.name} is not made yet; wait for that, or stop the VM")
    if len(before) >= MOST_WAITING:
        raise Refused(f"{len(before)} changes of devices of {vm.name} wait for its node; wait for them, or stop the VM")
    # What the VM runs with it still needs where it goes: a need ends when the device is gone.
    kept = used if plugs else vm.needs
    return replace(vm, needs=kept, device_changes=(*failed(vm)[-FAILED_KEPT:], *before, change)), xml


def _demand_place(
    coordinator: Coordinator,
    read: _Read,
    wanted: Vm,
    role: str,
    judge: Callable[[Vm, tuple[str, ...]], Mapping[str, Verdict]],
) -> None:
    """Raise Refused if the VM is, or is on its way to, where it cannot have the device; of a VM that does not run, if
    there is no such place at all: its start chooses one."""
    runs = read.actual.state not in AT_REST
    places = tuple(dict.fromkeys(node for node in (read.actual.node, read.actual.target, wanted.node) if node))
    verdicts = judge(wanted, places)
    for place in places:
        why = ""
        try:
            demand_role(coordinator, find_node(coordinator, place), role)
        except LacksRole as lacks:
            why = str(lacks) if runs else ""
        verdict = verdicts.get(place)
        if not why and verdict is not None and verdict.veto and (runs or verdict.everywhere):
            why = f"a node {verdict.veto}" if verdict.everywhere else f"{place} {verdict.veto}"
        if why:
            advice = f"; `pvc vm move {wanted.name} NODE` takes it to another node" if runs else ""
            raise Refused(f"{wanted.name} {'is on' if runs else 'belongs on'} {place}, and {why}{advice}")
