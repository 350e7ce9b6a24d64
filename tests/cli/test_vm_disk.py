"""`pvc vm disk`: giving VMs volumes and taking them as they run, in a simulated cluster."""

from collections.abc import Iterator
from typing import Any

import pytest

from pvc.plugins.storage.records import TaskKind, VolumeState
from tests.cli.conftest import Keyboard, Terminal, streams_put_back
from tests.plugins.storage.shelves import GIB, KEY, Site

FILE_A = 'file="/fake/fast/a"'


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """VM guest runs on hv1."""
    with Site() as cluster:
        streams_put_back(monkeypatch)
        cluster.define("guest", "hv1")
        cluster.settle()
        yield cluster


@pytest.fixture
def keyboard(site: Site) -> Keyboard:
    return Keyboard(site, Terminal())


def ok(keyboard: Keyboard, *words: str) -> str:
    said = keyboard.type("vm", *words)
    assert said.code == 0, said.err
    return said.out


def refused(keyboard: Keyboard, *words: str) -> str:
    said = keyboard.type("vm", *words)
    assert said.code == 1, said
    return said.err


def rows(keyboard: Keyboard, vm: str = "guest") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = keyboard.type("vm", "disk", "list", vm, "--format", "json").rows
    return found


def test_a_running_vm_gets_a_volume_and_loses_it_again(site: Site, keyboard: Keyboard) -> None:
    said = ok(keyboard, "disk", "add", "guest", "fast", "a", "--serial", "S1")
    assert said == "guest has volume fast/a as vda\n"
    assert FILE_A in site.live("guest") and "<serial>S1</serial>" in site.live("guest")
    assert 'pool="fast"' in ok(keyboard, "dump", "guest")
    assert site.vm("guest").needs == {"storage": ("volume:fast/a",)} and not site.vm("guest").device_changes
    assert ok(keyboard, "disk", "add", "guest", "fast", "b", "--target", "vdf") == "guest has volume fast/b as vdf\n"
    disk = {"target": "vda", "bus": "virtio", "pool": "fast", "volume": "a", "size": GIB}
    row = {**disk, "file": None, "state": None, "reason": None}
    assert rows(keyboard) == [row, {**row, "target": "vdf", "volume": "b"}]
    assert ok(keyboard, "disk", "remove", "guest", "fast/a") == "guest has volume fast/a as vda no more\n"
    assert FILE_A not in site.live("guest") and 'volume="a"' not in ok(keyboard, "dump", "guest")
    assert ok(keyboard, "disk", "remove", "guest", "vdf") == "guest has volume fast/b as vdf no more\n"
    assert rows(keyboard) == [] and site.vm("guest").needs == {}
    assert site.stock.image("fast", "a")  # the volume stays


def test_a_stopped_vm_has_it_from_its_next_start_on(site: Site, keyboard: Keyboard) -> None:
    ok(keyboard, "stop", "guest", "--yes")
    assert (
        ok(keyboard, "disk", "add", "guest", "fast", "a") == "guest has volume fast/a as vda from its next start on\n"
    )
    ok(keyboard, "start", "guest")
    assert FILE_A in site.live("guest")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("add nobody fast a", "there is no VM 'nobody'"),
        ("add guest slow a", "guest cannot have volume slow/a: there is no pool slow; `pvc storage pool list`"),
        (
            "add guest fast c",
            "guest cannot have volume fast/c: there is no such volume; `pvc storage volume list fast`",
        ),
        ("add guest fast ../a", "'../a' is no name for a pool or volume"),
        ("add guest fast making", "it is still being made"),
        ("add guest fast removing", "it is being removed"),
        ("add guest fast busy", "its removal was asked for"),
        ("add guest fast other", "it is a disk of VM other, and a volume can be of one"),
        ("add guest fast a --bus scsi", "its definition has no SCSI controller; define the VM with <controller"),
        ("add guest fast a --target sda", "a disk on bus virtio cannot be called 'sda'; say vda, vdb, and so on"),
        ("add guest fast a --serial a'b", '"a\'b" is no serial number'),
        ("remove guest vdb", "guest has no disk vdb; it has none"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_stored(
    site: Site, keyboard: Keyboard, words: str, why: str
) -> None:
    for name, state in (
        ("making", VolumeState.MAKING),
        ("removing", VolumeState.REMOVING),
        ("busy", VolumeState.READY),
        ("other", VolumeState.READY),
    ):
        site.add_volume(name, state)
    site.begin_task("busy", TaskKind.REMOVE)
    site.define("other", "hv2", volumes=["fast/other"], run=False)
    before = site.dump()
    assert why in refused(keyboard, "disk", *words.split())
    assert site.dump() == before


def test_a_vm_has_a_volume_and_a_name_of_a_disk_once(keyboard: Keyboard) -> None:
    ok(keyboard, "disk", "add", "guest", "fast", "a")
    assert "guest has volume fast/a already, as vda" in refused(keyboard, "disk", "add", "guest", "fast", "a")
    taken = refused(keyboard, "disk", "add", "guest", "fast", "b", "--target", "vda")
    assert "it has a disk vda already; choose another name, or none" in taken


def test_a_vm_where_the_pool_cannot_be_used_is_to_be_moved_first(site: Site, keyboard: Keyboard) -> None:
    ok(keyboard, "move", "guest", "hv3")
    why = refused(keyboard, "disk", "add", "guest", "fast", "a")
    assert "guest is on hv3, and hv3 does not have the storage role" in why and "`pvc vm move guest NODE`" in why
    assert rows(keyboard) == []


def test_a_disk_that_the_hypervisor_refuses_is_told_and_the_definition_put_back(site: Site, keyboard: Keyboard) -> None:
    site.fabric.fail_plug(site.vm("guest").uuid, "no more PCI slots")
    assert "that is not done: no more PCI slots" in refused(keyboard, "disk", "add", "guest", "fast", "a")
    assert FILE_A not in site.live("guest") and site.vm("guest").needs == {}
    (row,) = rows(keyboard)
    assert (row["volume"], row["state"], row["reason"]) == ("a", "could not be plugged in", "no more PCI slots")
    ok(keyboard, "disk", "add", "guest", "fast", "a")


def test_a_volume_that_a_guest_does_not_let_go_of_stays_its_own(site: Site, keyboard: Keyboard) -> None:
    site.define("other", "hv2", run=False)
    ok(keyboard, "disk", "add", "guest", "fast", "a")
    site.fabric.keeps_devices(site.vm("guest").uuid)
    removal = keyboard.begin("vm", "disk", "remove", "guest", "a")
    site.run(5)
    assert [row["state"] for row in rows(keyboard)] == ["is being unplugged"]
    assert "it is a disk of VM guest" in refused(keyboard, "disk", "add", "other", "fast", "a")
    again = refused(keyboard, "disk", "add", "guest", "fast", "a")
    assert "volume fast/a is still being unplugged from guest; wait for that, or stop the VM" in again
    assert site.run_until(removal.has_ended, 60)
    assert removal.code == 1 and "its guest has not let go of it" in removal.err
    assert 'volume="a"' in ok(keyboard, "dump", "guest")


def test_a_vm_that_is_stopped_while_it_loses_a_disk_has_lost_it(site: Site, keyboard: Keyboard) -> None:
    site.define("other", "hv2", run=False)
    ok(keyboard, "disk", "add", "guest", "fast", "a")
    site.fabric.keeps_devices(site.vm("guest").uuid)
    keyboard.begin("vm", "disk", "remove", "guest", "a")
    site.run(5)
    ok(keyboard, "stop", "guest", "--yes")
    ok(keyboard, "disk", "add", "other", "fast", "a")
    assert "it is a disk of VM other" in refused(keyboard, "disk", "add", "guest", "fast", "a")


def test_a_definition_that_names_anothers_volume_is_refused(site: Site, keyboard: Keyboard) -> None:
    ok(keyboard, "disk", "add", "guest", "fast", "a")
    xml = ok(keyboard, "dump", "guest").replace(site.vm("guest").uuid, KEY.uuid).replace("guest", "copy")
    for words in ((), ("--node", "hv2")):
        said = keyboard.type("vm", "define", "-", *words, stdin=xml)
        assert said.code == 1 and "cannot use volume fast/a: it is a disk of VM guest" in said.err
    said = keyboard.type("vm", "define", "-", "--node", "hv2", stdin=xml.replace('volume="a"', 'volume="b"'))
    assert said.code == 0, said.err


def test_a_key_is_defined_before_a_disk_is_plugged_in_and_is_shown_nowhere(site: Site, keyboard: Keyboard) -> None:
    site.stock.secrets["fast"] = KEY
    ok(keyboard, "disk", "add", "guest", "fast", "a")
    assert KEY.uuid in site.live("guest") and site.nodes["hv1"].host.known_secrets == {KEY.uuid: KEY}
    site.run(5)  # hv2, which nobody has given a reason to hurry, looks by itself
    ok(keyboard, "move", "guest", "hv2")
    shown = [ok(keyboard, *words) for words in (("info", "guest"), ("dump", "guest"), ("disk", "list", "guest"))]
    health = [str(site.health(node)) for node in site.nodes]
    everything = "\n".join([site.dump(), *site.log.lines, *shown, *health, site.live("guest")])
    assert f"secret {KEY.uuid} (ceph pvc client.libvirt): defined" in everything
    assert KEY.value.decode() not in everything


def test_a_key_whose_use_is_taken_is_reported_and_left_alone(site: Site, keyboard: Keyboard) -> None:
    host = site.nodes["hv1"].host
    foreign = type(KEY)("99999999-2222-3333-4444-555555555555", KEY.usage, KEY.name, b"theirs")
    host.known_secrets[foreign.uuid] = foreign
    site.stock.secrets["fast"] = KEY
    site.run(30)
    (finding,) = [finding for finding in site.health("hv1") if finding.source == "hypervisor"]
    assert f"libvirt has another secret for ceph '{KEY.name}', {foreign.uuid}" in finding.text
    assert "libvirt has another secret" in refused(keyboard, "disk", "add", "guest", "fast", "a")
    assert host.known_secrets == {foreign.uuid: foreign}
    del host.known_secrets[foreign.uuid]
    site.run(30)
    assert [finding for finding in site.health("hv1") if finding.source == "hypervisor"] == []
    ok(keyboard, "disk", "add", "guest", "fast", "a")


def test_a_pool_without_its_key_is_reported(site: Site, keyboard: Keyboard) -> None:
    site.shelves["hv1"].keyless = "client.libvirt has no keyring on this node; copy it to /etc/ceph"
    site.run(30)
    (finding,) = [finding for finding in site.health("hv1") if "do not start here" in finding.text]
    assert finding.text.startswith("VMs with disks in pool fast do not start here: client.libvirt has no keyring")
