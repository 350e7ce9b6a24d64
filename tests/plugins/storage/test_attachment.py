"""What a definition says of the cluster's volumes, and what it becomes."""

import re
from xml.etree import ElementTree as tree

import pytest

from pvc.core.storage import Disk, Pool
from pvc.plugins.storage.decide.attachment import (
    Attached,
    Found,
    VolumeName,
    VolumeUnusable,
    chosen,
    device,
    disks_of,
    faults_of,
    needed,
    needed_files,
    needed_volumes,
    volumes_of,
    why_never,
    why_not_now,
    with_sources,
)
from pvc.plugins.storage.records import TaskKind, Volume, VolumeState

A, B = VolumeName("fast", "a"), VolumeName("fast", "b")
FILE = Disk("file", "qcow2", "<source file='/srv/a.qcow2'/>", {"cache": "none", "discard": "unmap"})
RBD = Disk(
    "network",
    "raw",
    "<source protocol='rbd' name='fast/a'><host name='mon1'/><auth username='libvirt'>"
    "<secret type='ceph' uuid='U'/></auth></source>",
)


def domain(*disks: str) -> str:
    return f"<domain><name>web</name><devices><emulator/>{''.join(disks)}</devices></domain>"


def disk(inside: str = "", source: str = "<source pool='fast' volume='a'/>", target: str = "vda") -> str:
    return f"<disk type='volume' device='disk'>{source}<target dev='{target}' bus='virtio'/>{inside}</disk>"


def rewritten(xml: str, to: Disk = FILE) -> tree.Element:
    text = with_sources(xml, lambda _name: to)
    assert text is not None
    found = tree.fromstring(text).find("devices/disk")
    assert found is not None
    return found


def test_the_volumes_of_a_definition_are_found_each_once_and_nothing_else_is() -> None:
    xml = domain(disk(), disk(source="<source pool='fast' volume='b'/>", target="vdb"), "<disk type='file'/>")
    assert volumes_of(xml) == (A, B)
    assert needed(xml) == ("volume:fast/a", "volume:fast/b")
    assert needed_volumes((*needed(xml), "/srv/x.img")) == (A, B)
    assert needed_files((*needed(xml), "/srv/x.img")) == ("/srv/x.img",)
    assert volumes_of("<domain") == () == needed("<domain")


def test_a_disk_becomes_what_its_backend_says_and_keeps_what_the_definition_says() -> None:
    inside = "<boot order='1'/><serial>S1</serial><readonly/><driver name='qemu' cache='writeback' io='threads'/>"
    found = rewritten(domain(disk(inside)))
    assert found.get("type") == "file" and found.get("device") == "disk"
    driver, source, target = found.find("driver"), found.find("source"), found.find("target")
    assert driver is not None and source is not None and target is not None
    assert dict(driver.attrib) == {
        "name": "qemu",
        "type": "qcow2",
        "cache": "writeback",
        "io": "threads",
        "discard": "unmap",
    }
    assert dict(source.attrib) == {"file": "/srv/a.qcow2"}
    assert dict(target.attrib) == {"dev": "vda", "bus": "virtio"}
    assert found.findtext("serial") == "S1" and found.find("readonly") is not None
    assert [boot.get("order") for boot in found.findall("boot")] == ["1"]


def test_a_disk_without_a_driver_gets_one() -> None:
    driver = rewritten(domain(disk())).find("driver")
    assert driver is not None
    assert dict(driver.attrib) == {"name": "qemu", "type": "qcow2", "cache": "none", "discard": "unmap"}


def test_a_source_keeps_its_parts_and_loses_what_it_is_reached_by_elsewhere() -> None:
    source = "<source pool='fast' volume='a'><seclabel model='dac' relabel='no'/><auth username='x'/></source>"
    found = rewritten(domain(disk("<auth username='other'/>", source)), RBD)
    assert found.get("type") == "network"
    assert [(part.tag, part.get("username")) for part in found.iter("auth")] == [("auth", "libvirt")]
    assert found.find("source/host") is not None and found.find("source/seclabel") is not None


def test_a_format_that_is_not_the_volumes_is_refused() -> None:
    with pytest.raises(VolumeUnusable, match="volume fast/a is raw, and it is qcow2; take that out"):
        rewritten(domain(disk("<driver name='qemu' type='raw'/>")))
    assert rewritten(domain(disk("<driver name='qemu' type='raw'/>")), RBD).get("type") == "network"


def test_a_definition_without_volumes_is_left_as_it_is() -> None:
    def none(_name: VolumeName) -> Disk:
        raise AssertionError("nothing was to be asked")

    assert with_sources(domain("<disk type='file'><source file='/x'/><target dev='vda'/></disk>"), none) is None
    assert with_sources("<domain", none) is None


@pytest.mark.parametrize(
    ("disks", "why"),
    [
        ([disk(source="<source pool='fast'/>")], "disk vda does not name one volume"),
        ([disk(source="<source volume='a'/>")], "disk vda does not name one volume"),
        ([disk(source="<source pool=' ' volume='a'/>")], "disk vda does not name one volume"),
        ([disk(source="")], "disk vda does not name one volume"),
        ([disk("<source pool='fast' volume='b'/>")], "disk vda does not name one volume"),
        ([disk(source="<source pool='fast' volume='../x'/>")], "disk vda: '../x' is no name for a pool or volume"),
        ([disk(source="<source pool='a/b' volume='x'/>")], "disk vda: 'a/b' is no name"),
        ([disk("<shareable/>")], "disk vda is <shareable/>: only one VM may write to a volume"),
        ([disk(), disk(target="vdb")], "volume fast/a is more than one of its disks"),
        (["<disk type='volume'><source pool='fast' volume='a'/></disk>"], "a disk of it has no name; write <target"),
    ],
)
def test_what_makes_no_sense_is_told_kept_as_a_need_and_never_rewritten(disks: list[str], why: str) -> None:
    xml = domain(*disks)
    (fault,) = faults_of(xml)
    assert fault.startswith(why)
    assert f"fault:{fault}" in needed(xml)
    with pytest.raises(VolumeUnusable, match=re.escape(fault)):
        with_sources(xml, lambda _name: FILE)


@pytest.mark.parametrize(
    ("found", "never", "now"),
    [
        (Found(None), "there is no pool fast", "there is no pool fast"),
        (
            Found(Pool("fast", "x")),
            "there is no such volume; `pvc storage volume list fast`",
            "there is no such volume",
        ),
        (Found(Pool("fast", "x"), Volume("a", 1, VolumeState.REMOVING)), "it is being removed", "it is being removed"),
        (
            Found(Pool("fast", "x"), Volume("a", 1, VolumeState.READY), user="web2"),
            "it is a disk of VM web2",
            "it is a disk of VM web2",
        ),
        (Found(Pool("fast", "x"), Volume("a", 1, VolumeState.MAKING)), "", "it is still being made"),
        (
            Found(Pool("fast", "x"), Volume("a", 1, VolumeState.READY), TaskKind.ROLL_BACK),
            "",
            "a roll-back to one of its snapshots is under way",
        ),
        (
            Found(Pool("fast", "x"), Volume("a", 1, VolumeState.READY), TaskKind.RESIZE),
            "",
            "a change of its size is under way",
        ),
        (Found(Pool("fast", "x"), Volume("a", 1, VolumeState.READY)), "", ""),
    ],
)
def test_what_speaks_against_a_volume(found: Found, never: str, now: str) -> None:
    for said, expected in ((why_never(A, found), never), (why_not_now(A, found), now)):
        assert said.startswith(expected) and bool(said) == bool(expected)


def test_an_element_that_was_made_is_read_back() -> None:
    xml = domain(device(A, "vdb", "virtio", "S1"))
    assert disks_of(xml) == (Attached("vdb", "virtio", A),) and faults_of(xml) == []
    assert rewritten(xml).findtext("serial") == "S1"


@pytest.mark.parametrize(
    ("what", "target"),
    [("vda", "vda"), ("fast/a", "vda"), ("a", "vda"), ("vdc", "vdc"), ("slow/b", "vdd")],
)
def test_a_disk_is_meant_by_its_target_or_its_volume(what: str, target: str) -> None:
    disks = [
        Attached("vda", "virtio", A),
        Attached("vdb", "virtio", B),
        Attached("vdc", "virtio", file="/x"),
        Attached("vdd", "virtio", VolumeName("slow", "b")),
    ]
    one = chosen("web", disks, what)
    assert isinstance(one, Attached) and one.target == target
    assert chosen("web", disks, "b") == "web has 2 disks b; name the target: vdb, vdd"
    assert chosen("web", disks, "zz") == ("web has no disk zz; it has vda (fast/a), vdb (fast/b), vdc, vdd (slow/b)")
