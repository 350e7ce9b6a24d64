"""A real daemon's firewall between real guests: rules hold between two ports of one bridge, and replacing them leaks
nothing."""

import json
import socket
from collections.abc import Iterator

import pytest

from pvc.core.coordination import Create
from pvc.core.keys import node_vm, vm, vm_xml
from pvc.core.observers import VmChange
from pvc.plugins.networking.decide.ports import device_of
from pvc.plugins.networking.firewall.acl import change_acl
from pvc.plugins.networking.firewall.decide.order import with_default, with_rule
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction, PortRange, Protocol, Rule
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.requests import add
from tests.contract.test_networks_between_hosts import MACS, Site
from tests.nftables import rules_met

pytestmark = pytest.mark.lab

ADDRESSES = {"ga": "172.16.9.1", "gb": "172.16.9.2"}


@pytest.fixture
def site() -> Iterator[Site]:
    """One host's daemon, a managed network, and two guests in its bridge there."""
    site = Site(hosts=1)
    try:
        site.start("h1")
        add(site.admin, Network("lan", NetworkKind.MANAGED))
        site.until_up("h1", "lan")
        yield site
    finally:
        site.close()


def plug_in(site: Site, guest: str) -> None:
    """As a VM that is started: the node has business with it first, then its device comes, then the node is told."""
    interface = f"<interface type='network'><mac address='{MACS[guest]}'/><source network='lan'/></interface>"
    xml = f"<domain><devices>{interface}</devices></domain>".encode()
    site.admin.commit([Create(vm(guest), b"{}"), Create(vm_xml(guest), xml), Create(node_vm("h1", guest))])
    device = device_of(MACS[guest])
    site.until(lambda: device in rules(site))
    site.lan.guest(guest, "h1", "pvb-lan", MACS[guest], f"{ADDRESSES[guest]}/24", device)
    site.hosts["h1"].says(VmChange.STARTED, guest)


def rules(site: Site) -> str:
    """Those in force."""
    return json.dumps(rules_met(site.hosts["h1"].kernel.read()))


def opens(site: Site, source: str, target: str, port: int) -> bool:
    """Whether a connection comes about in a second; the answer of one that is refused counts too: it got through."""
    with site.lan.spaces.inside(source), socket.socket() as caller:
        caller.settimeout(1)
        try:
            caller.connect((ADDRESSES[target], port))
        except ConnectionRefusedError:
            return True
        except TimeoutError:
            return False
        return True


def change(site: Site, made: Acl, seen: str) -> None:
    """Give the network these rules, and wait until they are in force."""
    change_acl(site.admin, "lan", lambda _old: (made, None))
    site.until(lambda: seen in rules(site))


def test_rules_hold_between_two_ports_of_one_bridge_and_are_lifted_again(site: Site) -> None:
    plug_in(site, "ga")
    plug_in(site, "gb")
    assert site.lan.spaces.answers("ga", ADDRESSES["gb"])
    closed, _ = with_rule(Acl(), Direction.IN, Rule(Action.DROP, Protocol.TCP, ports=(PortRange(22, 22),)), None)
    change(site, closed, "lan in 1")
    assert [opens(site, "ga", "gb", port) for port in (21, 22, 23)] == [True, False, True]
    assert site.lan.spaces.answers("ga", ADDRESSES["gb"])
    open_22, _ = with_rule(
        with_default(Acl(), Direction.IN, Action.DROP),
        Direction.IN,
        Rule(Action.ACCEPT, Protocol.TCP, ports=(PortRange(22, 22),)),
        None,
    )
    site.until(lambda: "lan in 1" in rules(site))
    change_acl(site.admin, "lan", lambda _old: (open_22, None))
    site.until(lambda: [opens(site, "ga", "gb", port) for port in (22, 23)] == [True, False])
    assert not site.lan.spaces.answers("ga", ADDRESSES["gb"])
    change_acl(site.admin, "lan", lambda _old: (Acl(), None))
    site.until(lambda: opens(site, "ga", "gb", 23))


def test_a_vm_whose_port_no_record_names_is_heard_by_nobody_until_its_node_is_told(site: Site) -> None:
    plug_in(site, "ga")
    site.hosts.pop("h1").close()  # it would tell of the port at its next look; its rules stay
    site.lan.guest("gb", "h1", "pvb-lan", MACS["gb"], f"{ADDRESSES['gb']}/24", device_of(MACS["gb"]))
    assert not site.lan.spaces.answers("gb", ADDRESSES["ga"])
    site.start("h1")
    site.hosts["h1"].says(VmChange.STARTED, "gb")
    site.until(lambda: device_of(MACS["gb"]) in rules(site))
    assert site.lan.spaces.answers("gb", ADDRESSES["ga"])


def test_the_hosts_own_rules_do_not_see_what_goes_between_vms(site: Site) -> None:
    drop = "table ip theirs { chain c { type filter hook forward priority 0; policy drop; }; }"
    site.lan.spaces.run("h1", "nft", drop)
    plug_in(site, "ga")
    plug_in(site, "gb")
    assert site.hosts["h1"].kernel.intruders() == ()
    assert site.lan.spaces.answers("ga", ADDRESSES["gb"])
    switch = "net.bridge.bridge-nf-call-iptables"
    site.hosts.pop("h1").close()  # nobody looks after it
    site.lan.spaces.run("h1", "sysctl", "-qw", f"{switch}=1")
    assert not site.lan.spaces.answers("ga", ADDRESSES["gb"]), "this test could not fail"
    site.start("h1")
    site.until(lambda: site.hosts["h1"].kernel.intruders() == ())
    assert site.lan.spaces.answers("ga", ADDRESSES["gb"])
    site.lan.spaces.run("h1", "sysctl", "-qw", f"{switch}=1")
    change_acl(site.admin, "lan", lambda _old: (with_default(Acl(), Direction.OUT, Action.ACCEPT), None))
    site.until(lambda: site.hosts["h1"].kernel.intruders() == ())


def test_the_kernel_counts_what_a_vm_sends_and_receives_as_the_vm_sees_it(site: Site) -> None:
    plug_in(site, "ga")
    plug_in(site, "gb")
    door, ga, gb = site.hosts["h1"].door, device_of(MACS["ga"]), device_of(MACS["gb"])
    before = door.look().traffic[ga]
    with site.lan.spaces.inside("ga"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(bytes(1000), (ADDRESSES["gb"], 9))
        sender.sendto(bytes(1000), (ADDRESSES["gb"], 9))

    def counted() -> bool:
        """Each port is counted at its own time."""
        now = door.look().traffic
        return now[ga].sent_bytes > before.sent_bytes + 2000 and now[gb].received_bytes > 2000

    site.until(counted)
    assert door.look().traffic[ga].received_bytes < before.received_bytes + 2000
