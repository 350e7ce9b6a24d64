"""Gateways of networks for real: addresses, ways between networks and out, firewall, and who takes over when."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.guests import Guest, pinging
from tests.lab.site import Site, site
from tests.nftables import packets_counted

pytestmark = pytest.mark.lab

NODES = ("hv1", "hv2", "hv3")
OUTSIDE = "192.0.2.1"


@pytest.fixture(scope="module")
def town(labs_directory: Path) -> Iterator[Site]:
    """Three nodes with the role and one without, a way out, and two networks with gateways."""
    with site(labs_directory, "gates", nodes=4, hypervisor_only=("hv4",)) as made:
        made.add_network("outside", "--device", "eth1")
        out = ("--upstream", "outside", "--upstream-ipv4", "192.0.2.11/24", "--upstream-ipv4-gateway", OUTSIDE, "--nat")
        made.add_network("lan", "--ipv4", "10.1.0.0/24")
        made.add_network("far", "--ipv4", "10.2.0.0/24")
        # One after the other, where each node can have each: only then is it certain that they are spread.
        made.ok("network", "modify", "lan", "--ipv4-gateway", "10.1.0.1", *out)
        made.wait("lan has a gateway", lambda: gateway(made, "lan") is not None)
        made.ok("network", "modify", "far", "--ipv4-gateway", "10.2.0.1")
        made.wait("far has a gateway", lambda: gateway(made, "far") is not None)
        yield made


@pytest.fixture(scope="module")
def guests(town: Site) -> dict[str, Guest]:
    """Two VMs on lan and one on far, each on a node of its own."""
    places = {"a": ("hv1", "lan"), "b": ("hv2", "lan"), "c": ("hv3", "far")}
    return {name: town.add_guest(name, node, network) for name, (node, network) in places.items()}


def gateway(town: Site, network: str) -> str | None:
    """The node that is the gateway of a network now."""
    found: str | None = town.ask("network", "info", network)["gateway"]
    return found


def address_of(town: Site, network: str, vm: str) -> str:
    """The IPv4 address that belongs to a VM on a network."""
    (address,) = [row["ipv4"] for row in town.ask("network", "lease", "list", network) if row["vm"] == vm]
    return str(address)


def leased(town: Site, guest: Guest, network: str) -> str:
    """The address of a VM, once it has it and the tree says the same."""
    address = guest.address("eth0")
    assert address == address_of(town, network, guest.name)
    return address


def test_vms_have_addresses_and_reach_each_other_across_nodes_and_networks_and_out(
    town: Site, guests: dict[str, Guest]
) -> None:
    a, b, c = (guests[name] for name in "abc")
    homes = {name: leased(town, guests[name], network) for name, network in (("a", "lan"), ("b", "lan"), ("c", "far"))}
    assert gateway(town, "lan") != gateway(town, "far"), "gateways are spread"
    town.reaches(a, homes["b"])
    town.reaches(a, "10.1.0.1")
    town.reaches(a, homes["c"])
    town.reaches(c, homes["b"])
    town.reaches(b, OUTSIDE)
    assert homes["c"] in a.ok("nslookup c.far.internal")
    assert homes["b"] in c.ok("nslookup b.lan.internal")


def test_rules_block_and_allow_exactly_what_they_say(town: Site, guests: dict[str, Guest]) -> None:
    a, b, c = (guests[name] for name in "abc")
    home_a, home_b = leased(town, a, "lan"), leased(town, b, "lan")

    def opens(seat: Guest, address: str, seconds: int = 30) -> bool:
        return seat.run(f"echo hello | timeout {seconds} nc {address} 7 | grep -q hello", timeout=60).code == 0

    def dropped() -> int:
        """How many packets to b the rule has dropped."""
        return packets_counted(town.host("hv2").run("nft --json list table bridge pvc").stdout, "lan in 1") or 0

    town.wait("b answers on port 7", lambda: opens(a, home_b))
    rule = ("--action", "drop", "--protocol", "tcp", "--ports", "7", "--from", home_a)
    town.ok("network", "acl", "add", "lan", "in", *rule)
    town.wait("a is kept out by the rule", lambda: not opens(a, home_b, 3) and dropped() > 0)
    town.reaches(a, home_b)
    assert opens(c, home_b), "others are not"
    town.ok("network", "acl", "remove", "lan", "in", "1")
    town.wait("a is let in again", lambda: opens(a, home_b))


def test_a_vm_keeps_its_address_and_its_pings_through_a_live_migration(town: Site, guests: dict[str, Guest]) -> None:
    a, b = guests["a"], guests["b"]
    home = leased(town, a, "lan")
    with pinging(b, home, every=0.01) as pings:
        town.ok("vm", "move", "a", "hv3", "--wait")
    print(f"a is moved: {pings}")
    assert leased(town, a, "lan") == home
    town.reaches(b, home)
    town.ok("vm", "move", "a", "hv1", "--wait")


def test_a_flush_moves_the_gateway_before_the_vms_and_an_unflush_brings_it_back(
    town: Site, guests: dict[str, Guest]
) -> None:
    holder = gateway(town, "lan")
    assert holder is not None
    watcher = next(guests[vm] for vm, node in (("a", "hv1"), ("b", "hv2")) if node != holder)
    town.reaches(watcher, "10.1.0.1")
    with pinging(watcher, "10.1.0.1", every=0.01) as pings:
        town.ok("node", "flush", holder, "--wait")
    print(f"the gateway is moved by a flush: {pings}")
    assert gateway(town, "lan") not in (None, holder)
    town.reaches(watcher, OUTSIDE)
    with pinging(watcher, "10.1.0.1", every=0.01) as pings:
        town.ok("node", "unflush", holder, "--wait")
    print(f"the gateway comes back: {pings}")
    assert gateway(town, "lan") == holder


def test_a_gateway_whose_daemon_restarts_is_not_noticed(town: Site, guests: dict[str, Guest]) -> None:
    holder = gateway(town, "lan")
    assert holder is not None
    watcher = guests["a" if holder != "hv1" else "b"]
    town.reaches(watcher, "10.1.0.1")
    with pinging(watcher, "10.1.0.1", every=0.01) as pings:
        town.lab.kill("pvcd", holder, signal.SIGTERM)
        town.lab.start("pvcd", holder)
        town.wait_alive(*NODES)
    assert pings.lost == [], str(pings)
    assert gateway(town, "lan") == holder


def test_another_node_takes_over_when_the_gateways_node_dies(town: Site, guests: dict[str, Guest]) -> None:
    holder = gateway(town, "lan")
    assert holder is not None
    watcher = guests["a" if holder != "hv1" else "b"]
    home = leased(town, watcher, "lan")
    with pinging(watcher, "10.1.0.1", every=0.01) as pings:
        town.lab.kill("node", holder)
        town.wait("another node has it", lambda: gateway(town, "lan") not in (None, holder), 120)
        town.reaches(watcher, "10.1.0.1")
    print(f"the gateway's node dies: {pings}")
    town.reaches(watcher, OUTSIDE)
    again = watcher.ok("busybox udhcpc -i eth0 -n -t 20 -q -f -s /bin/true 2>&1", timeout=120)
    assert home in again, "it gets its own again"
