"""Gateways of networks, reservations and leases at the command line."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.coordination import Create
from pvc.core.records import encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.records import Lease, Ports
from pvc.testing.cluster import XML, SimCluster
from tests.cli.conftest import Keyboard, Said, Terminal, streams_put_back

UUID = "11111111-2222-4333-8444-55555555555{}"
MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
LAN = "--ipv4 10.1.0.0/24 --ipv4-gateway 10.1.0.1 --dhcp-range 10.1.0.100-10.1.0.199"

WRONG = (
    ("add x --device eth2 --no-dhcp", 1, "network x is bridged: what it is bridged to looks after addresses"),
    ("add x --device eth2 --domain x.org", 1, "a bridged network has no gateway of the cluster"),
    ("add x --upstream out --upstream-ipv4 192.0.2.9/24", 1, "an upstream needs a gateway"),
    ("modify lan --dhcp-range 10.1.0.9", 1, "'10.1.0.9' is no range of addresses: write it as"),
    ("modify lan --dhcp-range 10.2.0.1-10.2.0.9", 1, "is not within the addresses of hosts in 10.1.0.0/24"),
    ("modify lan --domain a..b", 1, "'a..b' is no domain"),
    ("modify lan --dns ns", 1, "the name server 'ns' is no address"),
    ("modify lan --nat", 1, "network lan has no upstream: say with --upstream which network it is"),
    ("modify lan --upstream nowhere", 1, "the upstream 'nowhere' does not exist"),
    ("modify lan --upstream out --nat", 1, "an upstream needs an address of the gateway there"),
    ("modify lan --domain a.b --no-domain", 2, "an option and its opposite"),
    ("modify lan --no-nat --no-upstream", 2, "an option and its opposite"),
    ("reservation add lan vm9 10.1.0.7", 1, "there is no VM 'vm9'"),
    ("reservation add lan 52:54 10.1.0.7", 1, "'52:54' is no MAC address"),
    (f"reservation add lan {MAC} 10.1.0.1", 1, "10.1.0.1 is the gateway's"),
    (f"reservation add nowhere {MAC}", 1, "there is no network 'nowhere'"),
    (f"reservation remove lan {MAC}", 1, "nothing of network lan is reserved for"),
    ("reservation list nowhere", 1, "there is no network 'nowhere'"),
    (f"lease release lan {MAC}", 1, f"{MAC} has no address of network lan"),
    ("lease list nowhere", 1, "there is no network 'nowhere'"),
)
"""What is typed after `pvc network`, the code that it ends with, and part of the message."""


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keyboard]:
    """One node with the role, network `out` bridged, and network `lan` with a gateway."""
    with SimCluster({"hv1": {"address": "10.0.0.1", "roles": {"networking": True}}}) as cluster:
        cluster.start()
        streams_put_back(monkeypatch)
        keyboard = Keyboard(cluster, Terminal())
        keyboard.type("network", "add", "out", "--device", "eth1")
        keyboard.type("network", "add", "lan", *LAN.split())
        cluster.run(15)
        yield keyboard


def define(keyboard: Keyboard, path: Path, number: int, mac: str) -> Said:
    """Have a VM on network lan defined."""
    interface = f"<interface type='network'><mac address='{mac}'/><source network='lan'/></interface>"
    xml = XML.format(name=f"vm{number}", uuid=UUID.format(number), memory=64)
    path.write_text(xml.replace("</domain>", f"<devices>{interface}</devices></domain>"))
    return keyboard.type("vm", "define", str(path), "--node", "hv1")


def test_a_gateway_is_described_changed_and_shown(keyboard: Keyboard) -> None:
    words = "--domain Lan.Example.Org --dns 192.0.2.53 --dns 192.0.2.54 --upstream out --upstream-ipv4 192.0.2.9/24"
    said = keyboard.type("network", "modify", "lan", *words.split(), "--upstream-ipv4-gateway", "192.0.2.1", "--nat")
    assert said.code == 0 and "upstream out" in said.out, said.err
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert {field: row[field] for field in ("dhcp", "dhcp_range", "domain", "dns", "nat", "shared_macs")} == {
        "dhcp": True,
        "dhcp_range": "10.1.0.100-10.1.0.199",
        "domain": "lan.example.org",
        "dns": ["192.0.2.53", "192.0.2.54"],
        "nat": True,
        "shared_macs": [],
    }
    assert [row[f"upstream{field}"] for field in ("", "_ipv4", "_ipv4_gateway", "_ipv6")] == [
        "out",
        "192.0.2.9/24",
        "192.0.2.1",
        None,
    ]
    said = keyboard.type(
        "network", "modify", "lan", *["--upstream-ipv6", "fd00::9/64", "--upstream-ipv6-gateway", "fd00::1"]
    )
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert (row["upstream_ipv6"], row["upstream_ipv6_gateway"]) == ("fd00::9/64", "fd00::1"), said.err
    said = keyboard.type("network", "info", "lan")
    assert "dhcp range:" in said.out and "10.1.0.100-10.1.0.199" in said.out and "upstream ipv4:" in said.out
    said = keyboard.type("network", "remove", "out", "--yes")
    assert said.code == 1 and "network out is the upstream of lan; `pvc network modify lan --no-upstream`" in said.err
    words = "--no-dhcp --no-dhcp-range --no-domain --no-dns --no-upstream"
    assert keyboard.type("network", "modify", "lan", *words.split()).code == 0
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    fields = ("dhcp", "dhcp_range", "domain", "dns", "upstream", "upstream_ipv4", "nat")
    assert [row[field] for field in fields] == [False, None, "lan.internal", [], None, None, None]


def test_what_makes_no_sense_is_refused_before_anything_is_stored(keyboard: Keyboard) -> None:
    before = keyboard.type("network", "list", "--format", "json").out
    for words, code, why in WRONG:
        said = keyboard.type("network", *words.split())
        assert (said.code, why in said.err) == (code, True), f"{words}: {said.err}"
    assert keyboard.type("network", "list", "--format", "json").out == before
    assert keyboard.type("network", "lease", "list", "--format", "json").rows == []


def test_without_ipv4_there_is_no_range_either(keyboard: Keyboard) -> None:
    assert keyboard.type("network", "modify", "lan", "--no-ipv4").code == 0
    assert keyboard.type("network", "info", "lan", "--format", "json").rows["dhcp_range"] is None


def test_addresses_are_reserved_listed_and_given_up(keyboard: Keyboard, tmp_path: Path) -> None:
    assert define(keyboard, tmp_path / "vm.xml", 1, MAC).code == 0
    said = keyboard.type("network", "reservation", "add", "lan", "vm1", "10.1.0.7")
    assert said.code == 0 and f"reserved on network lan for vm1 ({MAC}): 10.1.0.7" in said.out, said.err
    assert keyboard.type("network", "reservation", "add", "lan", OTHER).code == 0
    rows = keyboard.type("network", "reservation", "list", "--format", "json").rows
    assert [(row["vm"], row["mac"], row["reserved"]) for row in rows] == [("vm1", MAC, True), (None, OTHER, True)]
    assert (rows[0]["network"], rows[0]["ipv4"], rows[0]["node"]) == ("lan", "10.1.0.7", None)
    said = keyboard.type("network", "modify", "lan", "--ipv4", "10.2.0.0/24", "--ipv4-gateway", "10.2.0.1")
    assert said.code == 1 and "the range 10.1.0.100-10.1.0.199 is not within" in said.err
    said = keyboard.type("network", "modify", "lan", "--ipv4-gateway", "10.1.0.7")
    assert said.code == 1 and f"reservations speak against that: vm1 ({MAC}): 10.1.0.7 is the gateway's" in said.err
    said = keyboard.type("network", "lease", "release", "lan", "vm1")
    assert said.code == 1 and "are reserved" in said.err
    said = keyboard.type("network", "reservation", "remove", "lan", "vm1")
    assert said.code == 0 and "it keeps 10.1.0.7 as any VM does" in said.out
    said = keyboard.type("network", "reservation", "remove", "lan", OTHER)
    assert said.code == 0 and "its addresses are free" in said.out
    assert keyboard.type("network", "reservation", "list", "lan", "--format", "json").rows == []
    said = keyboard.type("network", "lease", "release", "lan", "vm1")
    assert (said.code, said.err) == (0, "") and "10.1.0.7" in said.out
    assert keyboard.type("network", "lease", "list", "--format", "json").rows == []


def test_who_releases_the_address_of_a_vm_that_runs_is_told_that_it_goes_on_using_it(keyboard: Keyboard) -> None:
    session = keyboard.cluster.ensemble.connect("gateway")
    lease = Lease(MAC, "vm1", "10.1.0.150", since=60.0)
    session.commit([Create(keys.lease("lan", MAC), encode(lease))])
    ports = Ports({MAC: 1}, {MAC: "vm1"})
    session.commit([Create(keys.node_ports("lan", "hv9"), encode(ports))])
    said = keyboard.type("network", "lease", "list", "lan")
    assert "10.1.0.150" in said.out and "hv9" in said.out and "1970-01-01" in said.out
    said = keyboard.type("network", "lease", "release", "lan", "vm1")
    assert said.code == 0 and "10.1.0.150" in said.out
    assert "it runs on hv9, uses its addresses until it asks again" in said.err
    session.close()


def test_a_mac_address_that_another_vm_has_on_the_network_is_not_defined_again(
    keyboard: Keyboard, tmp_path: Path
) -> None:
    assert define(keyboard, tmp_path / "one.xml", 1, MAC).code == 0
    said = define(keyboard, tmp_path / "two.xml", 2, MAC.upper())
    assert said.code == 1 and f"MAC address {MAC} is that of vm1 on network lan; give vm2 another" in said.err
    assert keyboard.cluster.where().keys() == {"vm1"}
    assert define(keyboard, tmp_path / "two.xml", 2, OTHER).code == 0
    row = keyboard.type("network", "info", "lan", "--format", "json").rows
    assert (row["vms"], row["shared_macs"]) == (["vm1", "vm2"], [])
