"""What a lab consists of, and the texts made from it: no process is started here."""

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from pvc.lab import settings
from pvc.lab.errors import LabError
from pvc.lab.network import bridge_batch, cut_commands, cuts_in, heal_commands, host_batch
from pvc.lab.shape import Kind, Shape, from_json, to_json
from pvc.lab.state import State
from pvc.lab.vm import mac, vm_id, vm_xml


def test_vms_are_spread_round_robin() -> None:
    nodes = ["hv1", "hv2", "hv3", "hv1", "hv2", "hv3"]
    assert Shape(nodes=3, vms=6).placement() == {f"vm{i}": node for i, node in enumerate(nodes, 1)}


def test_every_host_has_a_name_and_an_address_of_its_own() -> None:
    hosts = Shape(nodes=100, zookeepers=5).hosts()
    assert len({host.name for host in hosts}) == len({host.address for host in hosts}) == 106


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (Shape(nodes=0), "1 to 100 nodes, not 0"),
        (Shape(nodes=101), "1 to 100 nodes, not 101"),
        (Shape(vms=-1), "0 to 1000 VMs, not -1"),
        (Shape(zookeepers=2), "choose --zookeepers 1, 3 or 5"),
        (Shape(vm_image="windows"), "no VM image 'windows'; choose --vm-image tiny or linux"),
        (Shape(hypervisor_only=("hv1",)), "without --networking and --storage all nodes are hypervisors only"),
        (Shape(ceph=True), "without --storage no node would use Ceph"),
        (Shape(networking=True, hypervisor_only=("hv1", "hv4")), "no node hv4; it has hv1 to hv3"),
    ],
)
def test_a_shape_that_cannot_be_made_is_refused(shape: Shape, message: str) -> None:
    with pytest.raises(LabError, match=message):
        shape.check()


def test_a_shape_is_kept_and_read_again() -> None:
    shape = Shape(
        nodes=2,
        vms=9,
        vm_args="rate=10",
        node_memory=512,
        networking=True,
        storage=True,
        hypervisor_only=("hv2",),
        session_timeout=20.0,
    )
    assert from_json(to_json(shape)) == shape


@pytest.mark.parametrize("text", ['{"nodes": 2, "sheep": 4}', "[3]", "{"])
def test_a_shape_of_another_version_is_refused_and_says_what_to_do(text: str) -> None:
    with pytest.raises(LabError, match=r"made by another version.*take it down"):
        from_json(text)


@pytest.mark.parametrize("name", ["", "Lab", "a/b", "..", "9lab", "x" * 21])
def test_a_bad_name_for_a_lab_is_refused(name: str) -> None:
    with pytest.raises(LabError, match="is no name for a lab"):
        State(name, Path("/tmp"))


def test_a_directory_too_deep_for_sockets_is_refused() -> None:
    with pytest.raises(LabError, match="set PVC_LAB_DIR to a shorter directory"):
        State("lab", Path("/tmp") / ("x" * 60))


def test_the_longest_path_to_a_socket_fits() -> None:
    state = State("l" * 20, Path("/tmp") / ("x" * 34))
    assert len(f"{state.path}/hv100/run/libvirt-admin-sock") < 100


def test_a_node_tells_its_daemon_who_it_is() -> None:
    shape = Shape(zookeepers=3, node_memory=512, session_timeout=20.0)
    text = settings.pvc_text(shape, shape.host("hv2"))
    assert yaml.safe_load(text) == {
        "node": "hv2",
        "address": "10.77.2.2",
        "zookeeper": {"hosts": ["zk1:2181", "zk2:2181", "zk3:2181"], "session_timeout": 20},
        "roles": {"hypervisor": True},
        "plugins": {"flushlock": True, "consolelog": True},
        "hypervisor": {"uri": "qemu:///system", "memory": 512},
        "consolelog": {"console_uri": "qemu+tcp://{address}/system"},
    }


def test_with_networking_each_node_has_the_role_but_those_left_out() -> None:
    shape = Shape(nodes=2, networking=True, hypervisor_only=("hv2",))
    roles = {name: yaml.safe_load(settings.pvc_text(shape, shape.host(name)))["roles"] for name in ("hv1", "hv2")}
    assert roles == {"hv1": {"hypervisor": True, "networking": True}, "hv2": {"hypervisor": True}}


def test_with_storage_each_node_has_the_role_and_the_shared_directory_but_those_left_out() -> None:
    shape = Shape(nodes=2, storage=True, hypervisor_only=("hv2",))
    with_role, without = (yaml.safe_load(settings.pvc_text(shape, shape.host(name))) for name in ("hv1", "hv2"))
    assert with_role["roles"] == {"hypervisor": True, "storage": True}
    assert with_role["storage"]["directories"] == {"shared": {"path": "/mnt/shared"}}
    assert without["roles"] == {"hypervisor": True} and "storage" not in without


def test_ceph_has_a_host_of_its_own_and_at_most_three_osds() -> None:
    shape = Shape(nodes=4, storage=True, ceph=True)
    assert shape.of_kind(Kind.CEPH) == (shape.host("ceph1"),)
    assert [host.name for host in shape.osd_hosts()] == ["hv1", "hv2", "hv3"]
    assert Shape(nodes=4, storage=True).osd_hosts() == ()


def test_a_vm_has_the_disks_it_was_given_in_their_order() -> None:
    xml = vm_xml("vm1", vm_id("lab", "vm1"), 64, Path("/k"), "", disks=("fast/vm1-root", "/mnt/shared/a&b.raw"))
    volume, file = ET.fromstring(xml).findall("devices/disk")
    source, path = volume.find("source"), file.find("source")
    assert source is not None and (source.get("pool"), source.get("volume")) == ("fast", "vm1-root")
    assert path is not None and path.get("file") == "/mnt/shared/a&b.raw"
    targets = [target.get("dev") for target in ET.fromstring(xml).findall("devices/disk/target")]
    assert targets == ["vda", "vdb"] and (volume.get("type"), file.get("type")) == ("volume", "file")


def test_the_client_knows_the_servers_and_how_consoles_are_reached() -> None:
    assert yaml.safe_load(settings.client_text(Shape(zookeepers=1))) == {
        "zookeeper": {"hosts": ["zk1:2181"]},
        "consolelog": {"console_uri": "qemu+tcp://{address}/system"},
    }


def test_only_several_zookeepers_are_a_quorum() -> None:
    assert "server." not in settings.zookeeper_text(Shape(), Path("/d"))
    assert "server.3=zk3:2888:3888" in settings.zookeeper_text(Shape(zookeepers=3), Path("/d"))


def test_no_two_libvirts_have_the_same_identity() -> None:
    texts = [settings.libvirtd_text(lab, host) for lab in ("a", "b") for host in Shape().of_kind(Kind.NODE)]
    identities = {line for text in texts for line in text.splitlines() if line.startswith("host_uuid")}
    assert len(identities) == 6


def test_a_vm_has_a_console_and_a_power_button_but_no_log() -> None:
    xml = vm_xml("vm<1>", vm_id("lab", "vm1"), 64, Path("/k"), "name=vm1 text='a&b'", Path("/i"))
    root = ET.fromstring(xml)
    assert root.findtext("name") == "vm<1>"
    assert root.findtext("os/cmdline") == "name=vm1 text='a&b'"
    assert root.findtext("os/initrd") == "/i"
    assert root.find("features/acpi") is not None
    assert root.find("devices/serial/target") is not None
    assert root.find("devices/serial/log") is None


def test_the_tiny_kernel_has_no_second_port_and_the_linux_one_has() -> None:
    identity, boot = vm_id("lab", "vm1"), (Path("/k"), "name=vm1", None)
    plain, full = (
        ET.fromstring(vm_xml("vm1", identity, 64, *boot)),
        ET.fromstring(vm_xml("vm1", identity, 64, *boot, shell=True, networks=("lan", "dmz"))),
    )
    assert plain.findall("devices/serial[@type='unix']") == plain.findall("devices/interface") == []
    port = full.find("devices/serial[@type='unix']/source")
    assert port is not None and port.get("path") == "/run/libvirt/vm1.shell"
    assert [str(source.get("network")) for source in full.findall("devices/interface/source")] == ["lan", "dmz"]
    addresses = [str(found.get("address")) for found in full.findall("devices/interface/mac")]
    assert len(set(addresses)) == 2 and all(address.startswith("52:54:00:") for address in addresses)
    assert mac(identity, "lan") == addresses[0] != mac(vm_id("lab", "vm2"), "lan")


def test_with_networking_each_node_has_a_second_cable_and_upstream_only_that() -> None:
    shape = Shape(nodes=1, networking=True)
    lines = bridge_batch(shape.hosts()).splitlines()
    assert [line for line in lines if "master wan" in line] == [
        "link set hv1-wan master wan up",
        "link set upstream-wan master wan up",
    ]
    assert "link add hv1-wan type veth peer name eth1 netns hv1" in lines
    assert "link set upstream master lan up" not in lines
    assert "192.0.2.1/24" in host_batch(shape.host("upstream"))
    assert "10.77.2.1/16 dev eth0" in host_batch(shape.host("hv1")) and "dev eth1" not in host_batch(shape.host("hv1"))


def test_each_host_has_one_cable_to_the_bridge() -> None:
    lines = bridge_batch(Shape(nodes=2).hosts()).splitlines()
    assert [line for line in lines if "master lan" in line] == [
        f"link set {name} master lan up" for name in ("client", "zk1", "hv1", "hv2")
    ]


def listing(isolated: list[str], cut: list[tuple[str, str]]) -> str:
    """What `nft --json list table` prints, in short."""
    sets = [
        {"set": {"name": "isolated", "elem": isolated}} if isolated else {"set": {"name": "isolated"}},
        {"set": {"name": "cut", "elem": [{"concat": list(pair)} for pair in cut]}},
    ]
    return json.dumps({"nftables": [{"metainfo": {}}, *sets]})


def test_a_cut_goes_both_ways() -> None:
    shape = Shape()
    text = cut_commands(shape.host("hv1"), [shape.host("zk1")])
    assert text == "add element bridge pvc_lab cut { 10.77.2.1 . 10.77.1.1, 10.77.1.1 . 10.77.2.1 }\n"


def test_a_host_that_is_cut_off_from_all_loses_both_cables() -> None:
    shape = Shape(networking=True)
    hv1, upstream = shape.host("hv1"), shape.host("upstream")
    assert cut_commands(hv1, None) == 'add element bridge pvc_lab isolated { "hv1", "hv1-wan" }\n'
    outside = 'add element bridge pvc_lab isolated { "hv1-wan" }\n'
    assert cut_commands(hv1, [upstream]) == cut_commands(upstream, [hv1]) == outside
    assert cut_commands(shape.host("client"), [upstream]) == "", "there never was a way"
    assert cuts_in(listing(["hv1", "hv1-wan", "hv2-wan"], []), {}) == {"hv1": ["all"], "hv2": ["upstream"]}
    assert cuts_in(listing(["upstream-wan"], []), {}) == {"upstream": ["all"]}
    assert heal_commands(listing(["hv1", "hv1-wan", "hv2-wan"], []), hv1).splitlines() == [
        'delete element bridge pvc_lab isolated { "hv1" }',
        'delete element bridge pvc_lab isolated { "hv1-wan" }',
    ]


def test_cuts_are_told_by_name() -> None:
    names = {host.address: host.name for host in Shape().hosts()}
    text = listing(["hv3"], [("10.77.2.1", "10.77.1.1"), ("10.77.1.1", "10.77.2.1")])
    assert cuts_in(text, names) == {"hv1": ["zk1"], "hv3": ["all"], "zk1": ["hv1"]}
    assert cuts_in(listing([], []), names) == {}


def test_healing_one_host_leaves_the_cuts_of_others() -> None:
    text = listing(["hv3", "hv1"], [("10.77.2.1", "10.77.1.1"), ("10.77.2.2", "10.77.1.1")])
    assert heal_commands(text, Shape().host("hv1")).splitlines() == [
        'delete element bridge pvc_lab isolated { "hv1" }',
        "delete element bridge pvc_lab cut { 10.77.2.1 . 10.77.1.1 }",
    ]
