"""Devices in definitions, and requests to change them."""

import pytest

from pvc.core import keys
from pvc.core.coordination import Create, Put
from pvc.core.decide.devices import BadDevice, found, key_of, keys_of, target_of, with_device, without_device
from pvc.core.devices import (
    FAILED_KEPT,
    MOST_WAITING,
    Refused,
    ending,
    failed,
    request_change,
    waiting,
    with_growths,
    without_growths,
)
from pvc.core.model import ActualState, DeviceChange, DeviceStep, Vm, VmActual, VmState
from pvc.core.records import decode, encode
from pvc.core.tree import tree_ops
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
CARD = "<interface type='network'><mac address='52:54:00:00:00:0A'/><source network='lan'/></interface>"
KEY = "interface 52:54:00:00:00:0a"
DISK = "<disk type='file'><source file='/a'/><target dev='vda' bus='virtio'/></disk>"
BOTH = f"<domain><devices>{CARD}{DISK}<serial/></devices></domain>"
COMMENTED = f"""<domain type='kvm' xmlns:qemu='{QEMU}'>
  <name>a</name>
  <!-- by hand -->
  <devices>
    <!-- the console -->
    <serial type='pty'/>
  </devices>
  <qemu:commandline><qemu:arg value='-snapshot'/></qemu:commandline>
</domain>"""
UUID = "11111111-2222-4333-8444-555555555555"


def test_interfaces_and_disks_are_told_apart_by_mac_address_and_target() -> None:
    assert keys_of(BOTH) == [KEY, "disk vda"]
    assert (key_of(CARD), key_of(DISK)) == (KEY, "disk vda")
    assert found(BOTH, "disk vda") is not None and found(BOTH, "disk vdb") is None


@pytest.mark.parametrize("device", ["<serial/>", "<interface/>", "<disk><target/></disk>", "", "<", "<!DOCTYPE a><a/>"])
def test_a_device_that_nothing_tells_from_others_is_refused(device: str) -> None:
    with pytest.raises(BadDevice):
        key_of(device)


@pytest.mark.parametrize("xml", [COMMENTED, "<domain/>", "<domain><devices/></domain>", BOTH.replace(CARD, "")])
def test_a_device_that_is_added_and_taken_out_leaves_the_definition_as_it_was(xml: str) -> None:
    added = with_device(xml, CARD)
    assert keys_of(added)[-1] == KEY
    again = without_device(added, KEY)
    assert keys_of(again) == keys_of(xml)
    for kept in ("<!-- by hand -->", "<!-- the console -->", "<qemu:arg", f'xmlns:qemu="{QEMU}"', "\n    <serial"):
        assert (kept in again) == (kept.replace('"', "'") in xml or kept in xml), again


class Site:
    """One VM on one node in a fake tree; whether it runs is its record's word."""

    def __init__(self, state: ActualState) -> None:
        world = World(0)
        self.client: FakeCoordinator = FakeEnsemble(world.process("ensemble"), expire_after=10).connect("client")
        self.client.commit(tree_ops())
        node = {"roles": ["hypervisor", "networking"], "name": "hv1", "state": "ready"}
        self.vm = Vm(UUID, "a", VmState.RUNNING, "hv1", memory=1, vcpus=1)
        self.client.commit(
            [
                Create(keys.node("hv1"), encode(node)),
                Create(keys.node_session("hv1")),
                Create(keys.vm(UUID), encode(self.vm)),
                Create(keys.vm_xml(UUID), COMMENTED.encode()),
                Create(keys.vm_actual(UUID), encode(VmActual(state, "hv1"))),
            ]
        )

    def ask(self, number: int, step: DeviceStep = DeviceStep.PLUG) -> DeviceChange:
        card = CARD.replace("0A", f"{number:02x}")
        change = DeviceChange(str(number), step, key_of(card), card, "networking", "me", 0.0)
        return request_change(
            self.client, self.vm, lambda _xml: (change, ()), lambda _xml: {"networking": ("x",)}, lambda *_: {}
        )

    def now(self) -> Vm:
        znode = self.client.get(keys.vm(UUID))
        assert znode is not None
        return decode(Vm, znode.data, "vm")

    def write(self, **fields: object) -> None:
        values = {name: getattr(self.now(), name) for name in Vm.__slots__}
        self.client.commit([Put(keys.vm(UUID), encode(Vm(**{**values, **fields})))])


def test_only_so_many_changes_wait_and_only_the_last_failures_are_kept() -> None:
    site = Site(ActualState.RUNNING)
    for number in range(MOST_WAITING):
        site.ask(number)
    with pytest.raises(Refused, match="wait for its node"):
        site.ask(MOST_WAITING)
    lost = [
        DeviceChange(str(n), DeviceStep.PLUG, f"k{n}", CARD, "networking", "me", 0.0, failed="no") for n in range(9)
    ]
    site.write(device_changes=tuple(lost))
    site.ask(MOST_WAITING)
    assert failed(site.now()) == lost[-FAILED_KEPT:] and len(waiting(site.now())) == 1


def test_what_a_stopped_vm_has_not_seen_is_forgotten_with_the_next_request() -> None:
    site = Site(ActualState.RUNNING)
    change = site.ask(1)
    assert ending(site.client, site.vm, change) is None
    site.client.commit([Put(keys.vm_actual(UUID), encode(VmActual()))])
    end = ending(site.client, site.vm, change)
    assert end is not None and end.at_next_start and not end.why
    site.ask(1, DeviceStep.UNPLUG)
    assert site.now().device_changes == ()


def test_the_definition_decides_what_can_be_added_and_removed() -> None:
    site = Site(ActualState.STOPPED)
    with pytest.raises(Refused, match="has no interface 52:54:00:00:00:01 to remove"):
        site.ask(1, DeviceStep.UNPLUG)
    site.ask(1)
    with pytest.raises(Refused, match="has an interface 52:54:00:00:00:01 already"):
        site.ask(1)


def test_a_newer_size_takes_the_place_of_an_older_one_and_a_start_makes_all_void() -> None:
    def grow(number: int, disk: str, size: int, failed: str = "") -> DeviceChange:
        return DeviceChange(str(number), DeviceStep.GROW, disk, DISK, "storage", "me", 0.0, failed, size)

    unplug = DeviceChange("1", DeviceStep.UNPLUG, "disk vda", DISK, "storage", "me", 0.0)
    old, lost, other, new = (
        grow(2, "disk vda", 5),
        grow(3, "disk vda", 4, "no"),
        grow(4, "disk vdb", 6),
        grow(5, "disk vda", 7),
    )
    vm = Vm(UUID, "a", VmState.RUNNING, "hv1", memory=1, vcpus=1, device_changes=(unplug, old, lost, other))
    assert with_growths(vm, [new]).device_changes == (unplug, other, new)
    assert without_growths(with_growths(vm, [new])).device_changes == (unplug,)
    assert without_growths(without_growths(vm)) == without_growths(vm)
    assert (target_of("disk vda"), target_of(KEY)) == ("vda", "")
