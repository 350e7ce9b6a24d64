"""Giving VMs volumes while something else happens, between reading and writing, or between looking and doing."""

from collections.abc import Callable, Iterator, Mapping

import pytest

from pvc.core import keys as core
from pvc.core.devices import Refused, ending, request_change
from pvc.core.model import DeviceChange, Vm
from pvc.plugins.hypervisor import requests
from pvc.plugins.storage.decide.attachment import Attached, VolumeName, disks_of
from pvc.plugins.storage.decide.plugging import free_target, why_no_bus, why_no_serial, why_no_target
from pvc.plugins.storage.plugging import PlugIn, Unplug
from pvc.plugins.storage.records import TaskKind, VolumeState
from tests.plugins.storage.shelves import Site

A = VolumeName("fast", "a")


@pytest.fixture
def site() -> Iterator[Site]:
    """VM guest runs on hv1."""
    with Site() as cluster:
        cluster.define("guest", "hv1")
        cluster.settle()
        yield cluster


def wish(site: Site, propose: PlugIn | Unplug, meanwhile: Callable[[], object] = lambda: None) -> DeviceChange:
    """Request a change; `meanwhile` is done once, after everything was read and before anything is written."""
    left = [meanwhile]

    def needs(xml: str) -> Mapping[str, tuple[str, ...]]:
        if left:
            left.pop()()
        return site.needs(xml)

    return request_change(site.client, propose.vm, propose, needs, site.judge)


def plug(site: Site, name: str = "guest", volume: VolumeName = A, target: str | None = None) -> PlugIn:
    return PlugIn(site.client, site.client_process, "tester", site.vm(name), volume, target=target)


def unplug(site: Site, what: str) -> Unplug:
    return Unplug(site.client_process, "tester", site.vm("guest"), what)


def test_of_two_vms_that_want_one_volume_at_the_same_moment_one_is_refused(site: Site) -> None:
    site.define("other", "hv2")
    with pytest.raises(Refused, match="guest cannot have volume fast/a: it is a disk of VM other"):
        wish(site, plug(site), meanwhile=lambda: wish(site, plug(site, "other")))
    assert site.vm("guest").needs == {} and site.vm("other").needs != {}


def test_a_vm_that_is_defined_with_the_volume_at_the_same_moment_has_it(site: Site) -> None:
    with pytest.raises(Refused, match="it is a disk of VM other"):
        wish(site, plug(site), meanwhile=lambda: site.define("other", "hv2", volumes=["fast/a"], run=False))
    assert site.vm("guest").needs == {}


def test_a_vm_that_gets_the_volume_while_another_is_defined_with_it_keeps_it(site: Site) -> None:
    left = [True]

    def judge(vm: Vm, nodes: tuple[str, ...]) -> Mapping[str, object]:
        said = site.judge(vm, nodes)
        if left:
            left.pop()
            wish(site, plug(site))
        return said

    with pytest.raises(requests.Refused, match="it is a disk of VM guest"):
        site.define("other", "hv2", volumes=["fast/a"], run=False, judge=judge)
    assert site.client.children(core.NAMES) == ("guest",)


@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [
        (lambda site: site.change_volume("a", state=VolumeState.REMOVING), "it is being removed"),
        (lambda site: site.begin_task("a", TaskKind.ROLL_BACK), "a roll-back to one of its snapshots is under way"),
        (lambda site: site.remove_volume("a"), "there is no such volume"),
    ],
)
def test_a_task_that_is_asked_for_at_the_same_moment_comes_first(
    site: Site, meanwhile: Callable[[Site], None], why: str
) -> None:
    with pytest.raises(Refused, match=why):
        wish(site, plug(site), meanwhile=lambda: meanwhile(site))
    assert site.vm("guest").needs == {} and site.vm("guest").device_changes == ()


def test_whoever_asks_for_a_task_at_the_same_moment_finds_the_volumes_record_changed(site: Site) -> None:
    before = site.volume_version("a")
    wish(site, plug(site))
    assert site.volume_version("a") == before + 1


def test_a_change_of_the_volume_that_harms_no_vm_is_no_reason_to_refuse(site: Site) -> None:
    wish(site, plug(site), meanwhile=lambda: site.begin_task("a", TaskKind.RESIZE))
    assert site.vm("guest").needs == {"storage": ("volume:fast/a",)}


def test_a_disk_that_leaves_keeps_its_name_until_it_has_left(site: Site) -> None:
    wish(site, plug(site))
    site.settle()
    site.nodes["hv1"].host.down()
    change = wish(site, unplug(site, "vda"))
    wish(site, plug(site, volume=VolumeName("fast", "b")))
    assert disks_of(site.definition("guest")) == (Attached("vdb", "virtio", VolumeName("fast", "b")),)
    with pytest.raises(Refused, match="volume fast/a is still being unplugged from guest"):
        wish(site, plug(site, target="vdc"))
    site.nodes["hv1"].host.up()
    assert site.run_until(lambda: ending(site.client, site.vm("guest"), change) is not None, 20)
    site.run(5)
    assert [disk.target for disk in disks_of(site.live("guest"))] == ["vdb"]


@pytest.mark.parametrize(
    ("bus", "taken", "name"),
    [
        ("virtio", (), "vda"),
        ("virtio", ("vda", "vdc"), "vdb"),
        ("scsi", ("vda",), "sda"),
        ("sata", ("sda", "sdb"), "sdc"),
        ("virtio", tuple(f"vd{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"), "vdaa"),
    ],
)
def test_the_first_free_name_is_taken(bus: str, taken: tuple[str, ...], name: str) -> None:
    assert free_target(bus, taken) == name


def test_what_a_disk_may_be() -> None:
    assert why_no_bus("virtio", False) == "" == why_no_bus("scsi", True)
    assert why_no_bus("ide", True).startswith("there is no bus 'ide' for disks")
    assert "has no SCSI controller" in why_no_bus("scsi", False)
    assert why_no_target("vdb", "virtio", ["vda"]) == "" == why_no_target("sdaa", "sata", [])
    for target, bus in (("sdb", "virtio"), ("vdb", "scsi"), ("vd", "virtio"), ("vdb'", "virtio"), ("vdabcd", "virtio")):
        assert why_no_target(target, bus, []).startswith(f"a disk on bus {bus} cannot be called")
    assert why_no_serial("WD-1.2_3+4") == "" and why_no_serial("") and why_no_serial("x" * 21) and why_no_serial("a b")
