"""Addresses of VMs: given once, kept, never to two, and what is said when there are none left."""

import time
from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pvc.plugins.networking.gateway.decide.addresses import (
    allocate,
    astray,
    findings,
    has_address,
    shared,
    shortages,
)
from pvc.plugins.networking.gateway.decide.domains import domain_of, label_of, why_no_domain
from pvc.plugins.networking.records import Lease, Network, NetworkKind, Ports

LAN = Network("lan", NetworkKind.MANAGED, vni=100, ipv4="10.1.0.0/29", ipv4_gateway="10.1.0.1")
DUAL = replace(LAN, ipv6="fd00:1::/64", ipv6_gateway="fd00:1::1")


def mac(number: int) -> str:
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in number.to_bytes(3, "big"))


def macs(*numbers: int) -> dict[str, str]:
    """These MAC addresses, each of a VM of its own."""
    return {mac(number): f"vm{number}" for number in numbers}


def applied(leases: Mapping[str, Lease], changes: Mapping[str, Lease]) -> dict[str, Lease]:
    """All leases afterwards, as whoever writes them has them."""
    return {at: lease for at, lease in {**leases, **changes}.items() if has_address(lease)}


def given_to(network: Network, leases: Mapping[str, Lease], *numbers: int, now: float = 1.0) -> dict[str, Lease]:
    return applied(leases, allocate(network, leases, macs(*numbers), now))


NETWORKS = st.builds(
    lambda ipv4, ipv6, dhcp_range: replace(LAN, **ipv4, **ipv6, dhcp_range=dhcp_range if ipv4["ipv4"] else None),
    st.sampled_from(
        [
            {"ipv4": "10.1.0.0/29", "ipv4_gateway": "10.1.0.1"},
            {"ipv4": "10.1.0.0/29", "ipv4_gateway": "10.1.0.3"},
            {"ipv4": "10.1.0.0/28", "ipv4_gateway": "10.1.0.14"},
            {"ipv4": "10.9.0.0/8", "ipv4_gateway": "10.1.0.1"} | {"ipv4": "10.0.0.0/8"},
            {"ipv4": None, "ipv4_gateway": None},
        ]
    ),
    st.sampled_from(
        [
            {},
            {"ipv6": "fd00:1::/64", "ipv6_gateway": "fd00:1::1"},
            {"ipv6": "fd00:1::/126", "ipv6_gateway": "fd00:1::2"},
        ]
    ),
    st.sampled_from([None, None, ("10.1.0.2", "10.1.0.4"), ("10.1.0.1", "10.1.0.2")]),
)
STEPS = st.lists(
    st.tuples(NETWORKS, st.sets(st.integers(0, 11), max_size=9), st.sampled_from([None, None, 0, 1, 2])),
    min_size=1,
    max_size=6,
)


@given(STEPS)
def test_addresses_are_inside_never_the_gateways_and_never_of_two_whatever_happens(
    steps: list[tuple[Network, set[int], int | None]],
) -> None:
    leases: dict[str, Lease] = {}
    for now, (network, present, pinned) in enumerate(steps, 1):
        here = macs(*present)
        changes = allocate(network, leases, here, float(now))
        written = dict(leases)
        for at, lease in changes.items():
            written = applied(written, {at: lease})
            demand_each_its_own(written)
        for at, lease in leases.items():
            if lease.reserved:
                assert replace(written[at], name="", since=0, ipv4=None, ipv6=None).reserved
                assert lease.ipv4 in (None, written[at].ipv4) and lease.ipv6 in (None, written[at].ipv6)
        demand_inside(network, written)
        assert allocate(network, written, here, now + 0.5) == {}
        lacking = [at for at in here for version in (4, 6) if lacks(network, written.get(at), version)]
        assert bool(shortages(network, written, here)) == bool(lacking)
        leases = pinned_one(written, pinned)


def demand_each_its_own(leases: Mapping[str, Lease]) -> None:
    held = [address for lease in leases.values() for address in (lease.ipv4, lease.ipv6) if address]
    assert len(held) == len(set(held)), held


def demand_inside(network: Network, leases: Mapping[str, Lease]) -> None:
    gateways = {network.ipv4_gateway, network.ipv6_gateway}
    for lease in leases.values():
        for address, subnet in ((lease.ipv4, network.ipv4), (lease.ipv6, network.ipv6)):
            if address is None or lease.reserved:
                continue
            assert subnet is not None and ip_address(address) in ip_network(subnet)
            assert address not in gateways and ip_address(address) != ip_network(subnet).network_address
            if network.dhcp_range and "." in address:
                first, last = map(ip_address, network.dhcp_range)
                assert int(first) <= int(ip_address(address)) <= int(last)


def lacks(network: Network, lease: Lease | None, version: int) -> bool:
    if (network.ipv4 if version == 4 else network.ipv6) is None:
        return False
    return lease is None or (lease.ipv4 if version == 4 else lease.ipv6) is None


def pinned_one(leases: dict[str, Lease], number: int | None) -> dict[str, Lease]:
    """The leases, one of them reserved."""
    at = None if number is None else mac(number)
    return {**leases, at: replace(leases[at], reserved=True)} if at in leases and at is not None else leases


def test_a_vm_keeps_its_addresses_while_it_is_away_and_a_new_name_is_noted() -> None:
    before = given_to(DUAL, {}, 1, 2, 3)
    assert all(lease.ipv4 and lease.ipv6 and lease.since == 1.0 for lease in before.values())
    assert given_to(DUAL, before, 2, now=50.0) == before
    changes = allocate(DUAL, before, {mac(2): "renamed"}, 60.0)
    assert changes == {mac(2): replace(before[mac(2)], name="renamed")}


def test_a_vm_gets_the_same_address_again_even_if_all_that_was_known_is_lost() -> None:
    big = replace(DUAL, ipv4="10.0.0.0/8", ipv4_gateway="10.0.0.1")
    assert given_to(big, {}, 1, 2, 3)[mac(2)] == given_to(big, {}, 2)[mac(2)]


def test_who_is_new_in_a_full_network_gets_what_the_vm_that_left_first_had() -> None:
    leases = given_to(LAN, {}, 1, 2, now=1.0)
    leases = given_to(LAN, leases, 3, 4, 5, now=2.0)
    leases = {**leases, mac(1): replace(leases[mac(1)], reserved=True)}
    changes = allocate(LAN, leases, macs(4, 6), 3.0)
    assert list(changes) == [mac(2), mac(6)] and not has_address(changes[mac(2)])
    assert changes[mac(6)].ipv4 == leases[mac(2)].ipv4
    assert astray(LAN, applied(leases, changes)) == []


def test_a_network_that_is_full_says_for_whom_and_what_to_do() -> None:
    leases = given_to(LAN, {}, *range(1, 8))
    assert len(leases) == 5
    (text,) = shortages(LAN, leases, macs(*range(1, 8)))
    assert "network lan is full: 5 IPv4 addresses, and none for" in text
    assert "wider --dhcp-range or --ipv4 with `pvc network modify lan`" in text
    assert shortages(LAN, leases, dict.fromkeys(leases, "")) == []


def test_no_address_is_given_away_while_it_is_not_known_whose_vm_is_there() -> None:
    leases = given_to(LAN, {}, 1, 2, 3, 4, 5)
    assert allocate(LAN, leases, macs(6), 2.0, complete=False) == {}
    assert len(allocate(LAN, leases, macs(6), 2.0, most=3)) > 1
    assert allocate(LAN, leases, macs(1), 2.0, most=3, complete=False) == {}
    full, unread = (finding.text for finding in findings(LAN, leases, macs(6), {}, ["hv3"]))
    assert "network lan is full" in full and "cannot be read of hv3" in unread


def test_a_network_without_dhcp_or_gateway_gives_nothing() -> None:
    assert allocate(replace(DUAL, dhcp=False), {}, macs(1), 1.0) == {}
    assert allocate(replace(LAN, ipv4_gateway=None), {}, macs(1), 1.0) == {}
    assert shortages(replace(DUAL, dhcp=False), {}, macs(1)) == []


def test_another_subnet_renews_what_is_outside_and_reports_reservations() -> None:
    leases = given_to(LAN, {}, 1, 2, 3)
    leases[mac(1)] = replace(leases[mac(1)], reserved=True)
    moved = replace(LAN, ipv4="10.2.0.0/24", ipv4_gateway="10.2.0.1")
    after = applied(leases, allocate(moved, leases, macs(1, 2), 9.0))
    assert after[mac(1)] == leases[mac(1)] and mac(3) not in after
    assert ip_address(after[mac(2)].ipv4 or "") in ip_network("10.2.0.0/24") and after[mac(2)].since == 9.0
    (text,) = astray(moved, after)
    assert text == f"vm1 ({mac(1)}): {leases[mac(1)].ipv4} is no address of a host in 10.2.0.0/24"
    assert [finding.text for finding in findings(moved, after, macs(1, 2), {})] == [
        f"network lan: reservations that cannot be kept: {text}"
    ]


def test_a_gateway_that_takes_the_address_of_a_vm_gets_it() -> None:
    leases = given_to(LAN, {}, 1)
    taken = replace(LAN, ipv4_gateway=leases[mac(1)].ipv4)
    after = given_to(taken, leases, 1)
    assert after[mac(1)].ipv4 not in (None, taken.ipv4_gateway)


def test_of_leases_that_nobody_needs_not_more_and_more_are_kept() -> None:
    six = replace(DUAL, ipv4=None, ipv4_gateway=None)
    leases = {**given_to(six, {}, 1, now=1.0), mac(9): Lease(mac(9), ipv6="fd00:1::9", reserved=True)}
    leases = given_to(six, leases, 2, 3, now=2.0)
    after = applied(leases, allocate(six, leases, macs(2, 4, 5), 3.0, most=4))
    assert sorted(after) == sorted(mac(number) for number in (2, 4, 5, 9))


def test_what_makes_no_sense_in_the_tree_is_not_given_to_anybody() -> None:
    junk = {mac(1): Lease(mac(1), ipv4="here"), mac(2): Lease(mac(2), ipv4="10.1.0.2"), mac(3): Lease(mac(3), "x")}
    junk[mac(4)] = Lease(mac(4), ipv4="10.1.0.2", since=5.0)
    after = applied(junk, allocate(LAN, junk, macs(1), 9.0))
    assert sorted(after) == [mac(1), mac(2)] and after[mac(2)].ipv4 == "10.1.0.2"
    assert allocate(replace(LAN, ipv4="junk"), {}, macs(1), 1.0) == {}


def test_five_thousand_leases_at_once_take_little_time() -> None:
    wide = replace(DUAL, ipv4="10.0.0.0/8", ipv4_gateway="10.0.0.1")
    exact = replace(DUAL, ipv4="10.0.0.0/16", ipv4_gateway="10.0.0.1", dhcp_range=("10.0.1.0", "10.0.20.135"))
    for network in (wide, exact):
        began = time.perf_counter()
        leases = given_to(network, {}, *range(5000))
        middle = time.perf_counter()
        assert allocate(network, leases, macs(*range(5000)), 2.0) == {}
        print(f"{middle - began:.3f} s, looking again {time.perf_counter() - middle:.3f} s")
        assert len({lease.ipv4 for lease in leases.values()}) == 5000


def test_vms_on_different_nodes_with_one_mac_address_are_a_finding_and_a_vm_on_its_way_is_not() -> None:
    moving = {"hv1": Ports({mac(1): 1}, {mac(1): "vm1"}), "hv2": Ports({mac(1): 2}, {mac(1): "vm1"})}
    assert shared(moving) == {}
    two = {**moving, "hv3": Ports({mac(1): 3}, {mac(1): "copy"})}
    assert shared(two) == {mac(1): ("copy", "vm1")}
    (finding,) = findings(LAN, given_to(LAN, {}, 1), macs(1), two)
    assert "copy and vm1 have the same MAC address" in finding.text


@pytest.mark.parametrize(
    ("name", "label"), [("web", "web"), ("Web-1", "web-1"), ("a.b", ""), ("a_b", ""), ("x" * 64, ""), ("end-", "")]
)
def test_a_vm_has_a_name_if_dns_can_have_it(name: str, label: str) -> None:
    assert label_of(name) == label


def test_a_network_has_a_domain_of_its_own_choice_or_below_internal() -> None:
    assert domain_of(LAN) == "lan.internal" and domain_of(replace(LAN, domain="example.org")) == "example.org"
    assert why_no_domain("lan.example.org") == why_no_domain("lan") == ""
    assert "does not end with a number" in why_no_domain("10.1.0.1")
    assert "leaves no room" in why_no_domain(".".join(["a" * 60] * 4))
    for wrong in ("", "a..b", "-a.b", "a_b", "Lan", "a.b."):
        assert "is no domain" in why_no_domain(wrong)
