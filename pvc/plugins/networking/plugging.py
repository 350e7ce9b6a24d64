"""Plugging VMs into networks, and out: what the networking role adds to core's changing of devices."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.core import keys as core
from pvc.core.coordination import Coordinator, Create, Op, Put
from pvc.core.decide.devices import found, key_of
from pvc.core.devices import Refused
from pvc.core.lookup import all_vms
from pvc.core.model import DeviceChange, DeviceStep, Vm
from pvc.core.runtime import Runtime
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide.attachment import Attached, attached_in, macs_in
from pvc.plugins.networking.decide.plugging import chosen, free_mac, interface, why_no_mac, why_no_model
from pvc.plugins.networking.requests import find_network
from pvc.plugins.networking.schema import SECTION


@dataclass(frozen=True, slots=True)
class PlugIn:
    """Proposes one interface more; see `core.devices.Propose`."""

    coordinator: Coordinator
    runtime: Runtime
    by: str
    vm: Vm
    network: str
    mac: str | None
    """None: a free one that is the same each time."""
    model: str = "virtio"

    def __call__(self, xml: str) -> tuple[DeviceChange, Sequence[Op]]:
        """Raises Refused, NotFound, Garbage, Disconnected."""
        if why := why_no_model(self.model) or (self.mac is not None and why_no_mac(self.mac.lower())):
            raise Refused(str(why))
        # Every change of a network, or of who is on it, rewrites this: of two at once one is repeated.
        index = self.coordinator.get(keys.NETWORKS)
        find_network(self.coordinator, self.network)
        mac = self._mac(xml)
        guard: Op = Create(keys.NETWORKS) if index is None else Put(keys.NETWORKS, b"", index.version)
        device = interface(self.network, mac, self.model)
        return _change(self.runtime, self.by, DeviceStep.PLUG, device), [guard]

    def _mac(self, xml: str) -> str:
        """Raises Refused if the one that was asked for is in use."""
        others = {vm.name: macs for vm, macs in self._others()}
        if self.mac is None:
            return free_mac(
                self.vm.uuid, self.network, {*macs_in(xml), *(mac for macs in others.values() for mac in macs)}
            )
        mac = self.mac.lower()
        if mac in macs_in(xml):
            raise Refused(f"{self.vm.name} has an interface with MAC address {mac} already; choose another one")
        for name, macs in others.items():
            if self.network in macs.get(mac, ()):
                raise Refused(f"MAC address {mac} is that of {name} on network {self.network}; choose another one")
        return mac

    def _others(self) -> list[tuple[Vm, dict[str, tuple[str, ...]]]]:
        """Each other VM with its MAC addresses, and the networks on which it has each."""
        vms = [vm for vm in all_vms(self.coordinator)[0] if vm.uuid != self.vm.uuid]
        znodes = self.coordinator.get_many([core.vm_xml(vm.uuid) for vm in vms])
        return [
            (vm, _used("" if znode is None else znode.data.decode(errors="replace")))
            for vm, znode in zip(vms, znodes, strict=True)
        ]


@dataclass(frozen=True, slots=True)
class Unplug:
    """Proposes to take out the interface that `what`, a MAC address or a network's name, means."""

    runtime: Runtime
    by: str
    vm: Vm
    what: str

    def __call__(self, xml: str) -> tuple[DeviceChange, Sequence[Op]]:
        """Raises Refused."""
        one = chosen(self.vm.name, attached_in(xml), self.what)
        if isinstance(one, str):
            raise Refused(one)
        device = found(xml, key_of(interface(one.network, one.mac, one.model)))
        assert device is not None
        return _change(self.runtime, self.by, DeviceStep.UNPLUG, device), []


def attached_by(change: DeviceChange) -> Attached | None:
    """The interface that a change is about; None: it is about something else."""
    if change.role != SECTION:
        return None
    return next(iter(attached_in(f"<domain><devices>{change.device}</devices></domain>")), None)


def _change(runtime: Runtime, by: str, step: DeviceStep, device: str) -> DeviceChange:
    return DeviceChange(runtime.new_id(), step, key_of(device), device, SECTION, by, runtime.now())


def _used(xml: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = dict.fromkeys(macs_in(xml), ())
    for one in attached_in(xml):
        if one.mac:
            found[one.mac] = (*found.get(one.mac, ()), one.network)
    return found
