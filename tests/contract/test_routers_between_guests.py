"""Guests that get addresses, names and packets from real routers in network namespaces, and nothing if nobody holds."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from pvc.core.process import CommandFailed
from pvc.plugins.networking.gateway.decide.announcement import announcement
from pvc.plugins.networking.gateway.routers import Host, Leg, Route, Router, Services
from tests.contract.routing import MTU, Pinger, Site, Wire, until

pytestmark = pytest.mark.lab

VM, STRANGER = "52:54:00:00:00:0a", "52:54:00:00:00:0c"
LAN = Leg("lan-a", "02:00:00:00:01:01", MTU, ("10.1.0.1/24", "fd00:1::1/64"))
LAN_B = Leg("lan-b", "02:00:00:00:02:01", MTU, ("10.2.0.1/24", "fd00:2::1/64"))
HOSTS = (Host(VM, "vm1", "10.1.0.7", "fd00:1::7"),)
ADDRESS_OPTION = b"\0\x05\0\x18"
"""Code and length of what gives an IPv6 address in DHCPv6."""
NAMES = {"vm2.b.internal": ("10.2.0.7",)}
A = Router("a", LAN, Services("a.internal", True, True, 3600, HOSTS, NAMES), active=True)
UPSTREAM = Leg(
    "upstream",
    "02:00:00:00:01:03",
    MTU,
    ("192.0.2.10/24", "2001:db8::10/64"),
    (Route("0.0.0.0/0", "192.0.2.1"), Route("::/0", "2001:db8::1")),
)


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[Site]:
    made = Site(machines=2)
    yield made
    made.close()


def test_a_guest_gets_its_own_address_and_names_and_a_stranger_gets_none(site: Site) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    routers.settle(A)
    site.guest("vm", "lan-a", VM)
    site.guest("stranger", "lan-a", STRANGER)
    assert site.leases("vm").split() == ["10.1.0.7/24", "10.1.0.1", "10.1.0.1", "a.internal", "vm1", "1450", "3600"]
    assert IPv6Address("fd00:1::7").packed in site.asks_by_dhcp6("vm", VM)
    assert ADDRESS_OPTION not in site.asks_by_dhcp6("stranger", STRANGER)
    assert site.leases("stranger") == ""
    assert site.leases("stranger", "-r", "10.1.0.7") == ""
    site.spaces.ip("vm", "addr add 10.1.0.7/24 dev eth0")
    assert site.spaces.answers("vm", "10.1.0.1")
    assert "10.1.0.7" in site.resolves("vm", "vm1.a.internal", "10.1.0.1")
    assert "10.2.0.7" in site.resolves("vm", "vm2.b.internal", "10.1.0.1")
    assert "vm1.a.internal" in site.resolves("vm", "10.1.0.7", "10.1.0.1")
    assert "REFUSED" not in site.resolves("vm", "vm2.b.internal", "10.1.0.1"), "it has no IPv6, and that is known"
    assert "NXDOMAIN" in site.resolves("vm", "nobody.a.internal", "10.1.0.1")
    until(lambda: "fd00:1::5054:ff:fe00:a/64" in site.spaces.ip("vm", "-6 addr"), "no address by advertisement")


def test_hosts_and_names_come_and_go_without_a_new_dnsmasq_unless_one_must_be_forgotten(site: Site) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    routers.settle(replace(A, services=replace(A.services, hosts=())))
    pid = site.dnsmasq("m1", "a")
    site.guest("vm", "lan-a", VM)
    assert site.leases("vm") == ""
    routers.settle(A)
    until(lambda: "10.1.0.7/24" in site.leases("vm"), "the new host is not known")
    renamed = replace(A.services, names={"vm3.c.internal": ("10.3.0.7",)})
    routers.settle(replace(A, services=renamed))
    site.spaces.ip("vm", "addr add 10.1.0.7/24 dev eth0")
    until(lambda: "10.3.0.7" in site.resolves("vm", "vm3.c.internal", "10.1.0.1"), "the new name is not known")
    until(lambda: "NXDOMAIN" in site.resolves("vm", "vm2.b.internal", "10.1.0.1"), "the old name is known for ever")
    assert site.dnsmasq("m1", "a") == pid
    routers.settle(replace(A, services=replace(renamed, hosts=())))
    assert site.leases("vm", "-r", "10.1.0.7") == "", "a lease outlived its host"
    moved = (replace(HOSTS[0], ipv4="10.1.0.8"),)
    routers.settle(replace(A, services=replace(renamed, hosts=moved)))
    until(lambda: "10.1.0.8/24" in site.leases("vm", "-r", "10.1.0.7"), "it keeps its old address")


def test_leases_survive_an_unclean_end_of_dnsmasq(site: Site) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    routers.settle(A)
    site.guest("vm", "lan-a", VM)
    lease = site.leases("vm")
    site.kill(site.dnsmasq("m1", "a"))
    routers.settle(A)
    assert site.leases("vm", "-r", "10.1.0.7") == lease != ""


def test_guests_of_two_networks_reach_each_other_over_the_transit(site: Site) -> None:
    routers = site.routers["m1"]
    across_a = (Route("10.2.0.0/24", "fe80::2"), Route("fd00:2::/64", "fe80::2"))
    across_b = (Route("10.1.0.0/24", "fe80::1"), Route("fd00:1::/64", "fe80::1"))
    a = replace(A, transit=Leg("transit", "02:00:00:00:01:02", MTU, ("fe80::1/64",), across_a))
    b = Router(
        "b", LAN_B, Services("b.internal"), True, Leg("transit", "02:00:00:00:02:02", MTU, ("fe80::2/64",), across_b)
    )
    routers.hold(["a", "b"], 60.0)
    for router in (a, b):
        routers.settle(router)
    site.guest("vm", "lan-a", VM, "10.1.0.7/24", "fd00:1::7/64", via="10.1.0.1")
    site.guest("peer", "lan-b", STRANGER, "10.2.0.7/24", "fd00:2::7/64", via="10.2.0.1")
    site.spaces.ip("peer", "-6 route add default via fd00:2::1")
    site.spaces.ip("vm", "-6 route replace default via fd00:1::1")
    assert site.spaces.answers("vm", "10.2.0.1") and site.spaces.answers("vm", "10.2.0.7")
    assert site.spaces.answers("vm", "fd00:2::7")
    routers.settle(replace(b, active=False))
    assert not site.spaces.answers("vm", "10.2.0.7")


@pytest.mark.parametrize("nat", [True, False])
def test_packets_leave_the_cluster_with_the_address_that_they_should(site: Site, nat: bool) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    routers.settle(replace(A, upstream=UPSTREAM, nat=nat))
    site.guest("vm", "lan-a", VM, "10.1.0.7/24", "fd00:1::7/64", via="10.1.0.1")
    site.spaces.ip("vm", "-6 route replace default via fd00:1::1")
    site.guest("world", "upstream", STRANGER, "192.0.2.1/24", "2001:db8::1/64")
    wire = Wire(site.spaces, "world")
    try:
        assert site.spaces.answers("vm", "192.0.2.1") is nat, "only what was translated has a way back"
        assert site.spaces.answers("vm", "2001:db8::1") is nat
        frames = wire.frames(UPSTREAM.mac)
    finally:
        wire.close()
    source = IPv4Address("192.0.2.10" if nat else "10.1.0.7").packed
    assert source in {frame[26:30] for frame in frames if frame[12:14] == b"\x08\0" and frame[23] == 1}
    if not nat:
        site.spaces.ip("world", "route add 10.1.0.0/24 via 192.0.2.10")
        assert site.spaces.answers("vm", "192.0.2.1") and site.spaces.answers("world", "10.1.0.7")


def test_a_connection_through_nat_goes_on_behind_a_router_that_knows_nothing_of_it(site: Site) -> None:
    routers, router = site.routers["m1"], replace(A, upstream=UPSTREAM, nat=True)
    routers.hold(["a"], 60.0)
    routers.settle(router)
    site.guest("vm", "lan-a", VM, "10.1.0.7/24", via="10.1.0.1")
    site.guest("world", "upstream", STRANGER, "192.0.2.1/24")
    with site.spaces.inside("world"):
        listener = socket.create_server(("192.0.2.1", 7))
    with site.spaces.inside("vm"):
        client = socket.create_connection(("192.0.2.1", 7), timeout=10)
    server, _ = listener.accept()
    with listener, client, server:
        server.settimeout(10)
        client.sendall(b"before")
        assert server.recv(100) == b"before"
        routers.remove("a")
        routers.settle(router)
        came_in = site.came_in("m1", "a")["upstream"]
        server.sendall(b"meanwhile")
        until(lambda: site.came_in("m1", "a")["upstream"] > came_in, "nothing comes back")
        client.sendall(b"after")
        assert server.recv(100) == b"after"
        assert client.recv(100) == b"meanwhile"


def test_not_one_frame_passes_when_nobody_holds_and_all_do_again_when_somebody_does(site: Site) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    routers.settle(replace(A, upstream=UPSTREAM, nat=True))
    site.guest("vm", "lan-a", VM, "10.1.0.7/24", via="10.1.0.1")
    site.guest("world", "upstream", STRANGER, "192.0.2.1/24")
    vm, world = Wire(site.spaces, "vm"), Wire(site.spaces, "world")
    try:
        with Pinger(site.spaces, "vm", "192.0.2.1") as established:
            routers.hold(["a"], 0.2)
            until(lambda: not routers.look()["a"].held, "it is held for ever")
            vm.frames(LAN.mac), world.frames(UPSTREAM.mac)
            sent, came_in = established.sent, site.came_in("m1", "a")
            site.inside_router("m1", "a", "ip", "neigh", "flush", "all")
            assert not site.spaces.answers("world", "192.0.2.10")
            vm.send(announcement(VM, IPv4Address("10.1.0.7")))
            site.spaces.ip("vm", "neigh flush all")
            assert not site.spaces.answers("vm", "10.1.0.1")
            with suppress(CommandFailed):
                site.inside_router("m1", "a", "busybox", "ping", "-c", "1", "-W", "1", "10.1.0.7")
            until(lambda: established.sent > sent + 20, "the flow has ended")
            assert (vm.frames(LAN.mac), world.frames(UPSTREAM.mac)) == ([], [])
            assert site.came_in("m1", "a") == came_in
            answered = len(established.answered)
            routers.hold(["a"], 60.0)
            until(lambda: len(established.answered) > answered, "it does not come back")
    finally:
        vm.close()
        world.close()


def test_holding_again_and_again_loses_nothing(site: Site) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    routers.settle(A)
    site.guest("vm", "lan-a", VM, "10.1.0.7/24", via="10.1.0.1")
    with Pinger(site.spaces, "vm", "10.1.0.1") as pinger:
        for number in range(100):
            routers.hold(["a", f"n{number}"], 60.0)
    assert (pinger.lost, pinger.sent > 100) == (0, True)


def test_a_new_daemon_finds_all_and_no_packet_is_lost(site: Site) -> None:
    routers = site.routers["m1"]
    routers.hold(["a"], 60.0)
    router = replace(A, upstream=UPSTREAM, nat=True)
    routers.settle(router)
    site.guest("vm", "lan-a", VM, "10.1.0.7/24", via="10.1.0.1")
    site.guest("world", "upstream", STRANGER, "192.0.2.1/24")
    with Pinger(site.spaces, "vm", "192.0.2.1") as pinger:
        for _ in range(3):
            routers.restart()
            assert routers.look()["a"].problem == ""
            routers.settle(router)
            routers.hold(["a"], 60.0)
            routers.settle(replace(router, services=replace(router.services, names={})))
    assert pinger.lost == 0


def test_a_router_that_moves_tells_bridges_and_neighbours_and_goes_on(pair: Site) -> None:
    first, second = pair.routers["m1"], pair.routers["m2"]
    first.hold(["a"], 60.0)
    first.settle(A)
    second.settle(replace(A, active=False))
    pair.guest("vm", "lan-a", VM, "10.1.0.7/24", via="10.1.0.1")
    wire = Wire(pair.spaces, "vm")
    try:
        with Pinger(pair.spaces, "vm", "10.1.0.1") as pinger:
            first.settle(replace(A, active=False))
            second.hold(["a"], 60.0)
            wire.frames(LAN.mac)
            second.settle(A)
            answered = len(pinger.answered)
            until(lambda: len(pinger.answered) > answered + 3, "it does not come back")
        frames = wire.frames(LAN.mac)
    finally:
        wire.close()
    assert announcement(LAN.mac, IPv4Address("10.1.0.1")) in frames
    assert any(frame[12:14] == b"\x86\xdd" and frame[54] == 136 for frame in frames), "no neighbour advertisement"
    learned = pair.spaces.run("m1", "bridge", "fdb", "show", "br", "lan-a", "dynamic")
    assert f"{LAN.mac} dev m2-lan-a" in learned
    assert pair.spaces.ip("vm", "neigh show 10.1.0.1").split()[4] == LAN.mac
