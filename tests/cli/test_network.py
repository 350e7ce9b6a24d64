"""`pvc network`, and VMs that name networks."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.testing.cluster import XML, SimCluster
from tests.cli.conftest import Keyboard, Terminal, streams_put_back

UUID = "11111111-2222-4333-8444-555555555555"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """Two nodes with the role, one without."""
    nodes = {f"hv{number}": {"address": f"10.0.0.{number}", "roles": {"networking": True}} for number in (1, 2)}
    with SimCluster({**nodes, "hv3": {}}) as cluster:
        cluster.start()
        streams_put_back(monkeypatch)
        yield Keyboard(cluster, Terminal())


@pytest.fixture
def definition(tmp_path: Path) -> str:
    """A VM on network lan, in a file."""
    path = tmp_path / "guest.xml"
    interface = "<mac address='52:54:00:00:00:0a'/><source network='lan'/>"
    devices = f"<devices><interface type='network'>{interface}</interface></devices></domain>"
    path.write_text(XML.format(name="guest", uuid=UUID, memory=64).replace("</domain>", devices))
    return str(path)


def test_who_gives_a_network_no_gateway_hears_what_its_vms_do_without(keyboard: Keyboard) -> None:
    said = keyboard.type("network", "add", "lan", "--ipv4", "10.1.0.0/24")
    assert "10.1.0.0/24 has no gateway" in said.err and "network modify lan --ipv4-gateway ADDRESS" in said.err
    assert not keyboard.type("network", "modify", "lan", "--no-dhcp").err
    assert "no gateway" in keyboard.type("network", "modify", "lan", "--dhcp").err
    assert not keyboard.type("network", "modify", "lan", "--ipv4-gateway", "10.1.0.1").err


def test_a_network_is_made_changed_shown_and_forgotten(keyboard: Keyboard) -> None:
    said = keyboard.type("network", "add", "lan", "--ipv4", "10.1.0.0/24", "--ipv4-gateway", "10.1.0.1")
    assert said.code == 0 and "network lan is made: managed, VNI 100, 10.1.0.0/24" in said.out
    said = keyboard.type("network", "add", "dmz", "--device", "eth1", "--vlan", "7")
    assert said.code == 0 and "bridged to eth1, VLAN 7" in said.out and not said.err
    keyboard.cluster.run(15)
    rows = {row["name"]: row for row in keyboard.type("network", "list", "--format", "json").rows}
    assert (rows["lan"]["kind"], rows["lan"]["vni"], rows["lan"]["up"]) == ("managed", 100, ["hv1", "hv2"])
    assert (rows["dmz"]["vlan"], rows["dmz"]["up"], rows["dmz"]["down"]) == (7, [], ["hv1", "hv2"])
    assert keyboard.type("network", "modify", "lan", "--mtu", "1400", "--no-ipv4").code == 0
    keyboard.cluster.run(15)
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert (row["mtu"], row["ipv4"], row["ipv4_gateway"], row["vms"]) == (1400, None, None, [])
    first = {key: value for key, value in row["nodes"][0].items() if "_" not in key}
    assert first == {"node": "hv1", "mtu": 1400, "interfaces": 0, "problem": None}
    said = keyboard.type("network", "remove", "lan")
    assert said.code == 1 and "Forget network lan? Nobody is there to answer" in said.err
    assert keyboard.type("network", "remove", "lan", "--yes").code == 0
    assert [row["name"] for row in keyboard.type("network", "list", "--format", "json").rows] == ["dmz"]


def test_the_gateway_of_a_network_is_shown(keyboard: Keyboard) -> None:
    keyboard.type("network", "add", "lan", "--ipv4", "10.1.0.0/24", "--ipv4-gateway", "10.1.0.1")
    keyboard.type("network", "add", "plain")
    assert keyboard.cluster.run_until(lambda: keyboard.cluster.gateways.acting("lan") == ["hv1"], 10)
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert (row["gateway"], row["gateway_next"], row["gateway_home"]) == ("hv1", None, "hv1")
    assert row["gateway_since"] > 1_000_000_000
    row = keyboard.type("network", "info", "plain", "--format", "json").rows
    assert (row["gateway"], row["gateway_since"], row["gateway_home"]) == (None, None, None)
    assert re.search("gateway since: +2023-", keyboard.type("network", "info", "lan").out)
    keyboard.cluster.kill_daemon("hv1")
    keyboard.cluster.kill_daemon("hv2")
    keyboard.cluster.run(15)
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert (row["gateway"], row["gateway_since"], row["gateway_home"]) == (None, None, "hv1")


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        ("add LAN", 1, "'LAN' is no name for a network"),
        ("add lan --vlan 7", 1, "a managed network has no device and no VLAN"),
        ("add dmz --device eth1 --vni 7", 1, "a bridged network has no VNI"),
        ("modify lan --mtu 1400", 1, "there is no network 'lan'"),
        ("modify lan", 2, "nothing to change"),
        ("modify lan --ipv4-gateway 10.0.0.1 --no-ipv4", 2, "an option and its opposite"),
        ("info lan", 1, "there is no network 'lan'"),
        ("remove lan --yes", 1, "there is no network 'lan'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_stored(
    keyboard: Keyboard, words: str, code: int, why: str
) -> None:
    said = keyboard.type("network", *words.split())
    assert (said.code, why in said.err) == (code, True), said.err
    assert keyboard.type("network", "list", "--format", "json").rows == []


def test_a_vm_on_a_network_that_does_not_exist_is_not_defined_nor_started(keyboard: Keyboard, definition: str) -> None:
    for words in (["--node", "hv1"], []):
        said = keyboard.type("vm", "define", definition, *words)
        assert said.code == 1 and "knows no network lan; `pvc network list`" in said.err, said.err
    assert keyboard.cluster.where() == {}
    assert keyboard.type("network", "add", "lan").code == 0
    keyboard.cluster.run(15)
    assert keyboard.type("vm", "define", definition, "--node", "hv1").code == 0
    assert keyboard.cluster.vm("guest").needs == {"networking": ("network:lan",)}
    said = keyboard.type("network", "remove", "lan", "--yes")
    assert said.code == 1 and "VMs use network lan: guest" in said.err
    assert keyboard.type("vm", "start", "guest").code == 0
    said = keyboard.type("vm", "move", "guest", "hv3")
    assert said.code == 1 and "hv3 does not have the networking role; nodes that have it: hv1, hv2" in said.err
    keyboard.cluster.run(1)
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert row["vms"] == ["guest"] and [node["interfaces"] for node in row["nodes"]] == [1, 0]


def test_a_vm_goes_where_its_network_is_up(keyboard: Keyboard, definition: str) -> None:
    keyboard.cluster.nodes["hv1"].dataplane.add("pvb-lan", kind="bridge")
    keyboard.type("network", "add", "lan")
    keyboard.cluster.run(15)
    assert keyboard.type("vm", "define", definition).code == 0
    assert keyboard.cluster.vm("guest").node == "hv2"
    said = keyboard.type("vm", "move", "guest", "hv1")
    assert said.code == 1 and "it cannot use network lan: device pvb-lan exists and was not made by pvc" in said.err


def test_a_networks_rules_are_counted_and_named(keyboard: Keyboard) -> None:
    keyboard.type("network", "add", "lan")
    assert keyboard.type("network", "acl", "add", "lan", "in", "--action", "drop", "--protocol", "udp").code == 0
    assert keyboard.type("network", "acl", "default", "lan", "in", "drop").code == 0
    info = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert (info["rules_in"], info["default_in"], info["rules_out"], info["default_out"]) == (1, "drop", 0, "accept")
    said = keyboard.type("network", "acl", "list", "nowhere")
    assert said.code == 1 and "there is no network 'nowhere'" in said.err
