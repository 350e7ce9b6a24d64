"""Gateways: what is refused of what a network says of them."""

from dataclasses import replace

import pytest

from pvc.plugins.networking.decide.networks import TRANSIT_VNI, problems, why_not_removed
from pvc.plugins.networking.gateway.decide.typed import GatewayRefused, Typed
from pvc.plugins.networking.records import Network, NetworkKind, Upstream

OUT = Network("out", NetworkKind.BRIDGED, device="eth0")
UP = Upstream("out", "192.0.2.10/24", "192.0.2.1", "2001:db8::10/64", "2001:db8::1", nat=True)
LAN = Network(
    "lan",
    NetworkKind.MANAGED,
    vni=100,
    ipv4="10.1.0.0/24",
    ipv4_gateway="10.1.0.1",
    ipv6="fd00:1::/64",
    ipv6_gateway="fd00:1::1",
    dhcp_range=("10.1.0.100", "10.1.0.199"),
    domain="lan.example.org",
    dns=("192.0.2.53", "2001:db8::53"),
    upstream=UP,
)
OLD = Network(
    "old",
    NetworkKind.MANAGED,
    vni=7,
    ipv4="10.7.0.0/24",
    ipv4_gateway="10.7.0.1",
    domain="old.example.org",
    upstream=Upstream("out", "192.0.2.20/24"),
)
OTHERS = [OUT, OLD, Network("other", NetworkKind.MANAGED, vni=8)]


def up(**changes: object) -> Network:
    return replace(LAN, upstream=replace(UP, **changes))  # type: ignore[arg-type]


def test_a_gateway_with_everything_is_not_refused_nor_beside_itself() -> None:
    assert problems(LAN, [*OTHERS, LAN]) == []
    assert problems(OLD, [OUT, LAN]) == []
    assert problems(OUT, [OUT, LAN, OLD]) == []
    assert problems(up(ipv6_gateway="fe80::1"), OTHERS) == []
    only_ipv4 = replace(UP, ipv6=None, ipv6_gateway=None)
    assert problems(replace(LAN, upstream=only_ipv4), OTHERS) == []
    point_to_point = replace(only_ipv4, ipv4="192.0.2.10/31", ipv4_gateway="192.0.2.11")
    assert problems(replace(LAN, upstream=point_to_point), OTHERS) == []
    assert problems(replace(LAN, upstream=replace(only_ipv4, ipv4_gateway=None)), OTHERS) == []


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (replace(LAN, dhcp_range=("10.1.0.9", "10.1.0.8")), "the range 10.1.0.9-10.1.0.8 ends before it begins"),
        (replace(LAN, dhcp_range=("10.1.0.9", "10.1.1.8")), "is not within the addresses of hosts in 10.1.0.0/24"),
        (replace(LAN, dhcp_range=("10.1.0.0", "10.1.0.8")), "is not within the addresses of hosts"),
        (replace(LAN, dhcp_range=("10.1.0.8", "10.1.0.255")), "is not within the addresses of hosts"),
        (replace(LAN, dhcp_range=("10.1.0.1", "10.1.0.1")), "has no address but the gateway's"),
        (replace(LAN, dhcp_range=("10.1.0.1", "fd00:1::9")), "is no range of IPv4 addresses: write it as"),
        (replace(LAN, ipv4=None, ipv4_gateway=None), "a range for DHCP needs an IPv4 subnet"),
        (replace(LAN, domain="lan..org"), "'lan..org' is no domain"),
        (replace(LAN, domain="old.example.org"), "the domain old.example.org is that of network old"),
        (replace(LAN, domain="other.internal"), "the domain other.internal is that of network other"),
        (replace(LAN, dns=("ns1",)), "the name server 'ns1' is no address of a host"),
        (replace(LAN, dns=("127.0.0.1",)), "the name server '127.0.0.1' is no address of a host"),
        (replace(LAN, dns=("10.1.0.1",)), "the name server 10.1.0.1 is the gateway itself"),
        (up(network="none"), "the upstream 'none' does not exist: name a bridged network (there are: out)"),
        (up(network="lan"), "the upstream 'lan' does not exist"),
        (up(network="old"), "the upstream 'old' is managed: name a bridged network"),
        (up(ipv4="192.0.2.10"), "'192.0.2.10' is no IPv4 address with the length of its prefix"),
        (up(ipv4="2001:db8::9/64"), "'2001:db8::9/64' is no IPv4 address with the length of its prefix"),
        (up(ipv4="192.0.2.0/24"), "the upstream address 192.0.2.0/24 is no address of a host"),
        (up(ipv4="224.0.0.9/24"), "the upstream address 224.0.0.9/24 is no address of a host"),
        (up(ipv4="192.0.2.20/24"), "the upstream address 192.0.2.20 is that of network old"),
        (up(ipv4="10.1.5.9/16", ipv4_gateway=None), "10.1.0.0/16 overlaps 10.1.0.0/24 of network lan"),
        (up(ipv4="10.7.0.9/25", ipv4_gateway=None), "10.7.0.0/25 overlaps 10.7.0.0/24 of network old"),
        (replace(OLD, name="new", vni=9, domain=None, ipv4="192.0.2.0/25"), "which is upstream of network old"),
        (up(ipv4_gateway="192.0.3.1"), "192.0.3.1 is no address of a host in 192.0.2.0/24"),
        (up(ipv4_gateway="192.0.2.255"), "192.0.2.255 is no address of a host in 192.0.2.0/24"),
        (up(ipv4_gateway="192.0.2.10"), "the upstream gateway 192.0.2.10 is our own address there"),
        (up(ipv4_gateway="router"), "the upstream gateway 'router' is no IPv4 address"),
        (up(ipv4_gateway="169.254.0.1"), "169.254.0.1 is no address of a host in 192.0.2.0/24"),
        (up(ipv6_gateway="fe80::1%eth1"), "the upstream gateway 'fe80::1%eth1' is no IPv6 address"),
        (up(ipv6="2001:db8::10%eth1/64"), "'2001:db8::10%eth1/64' is no IPv6 address with the length of its prefix"),
        (up(ipv6_gateway="192.0.2.1"), "the upstream gateway '192.0.2.1' is no IPv6 address"),
        (up(ipv4=None), "the upstream gateway 192.0.2.1 needs an IPv4 address of our own there"),
        (replace(LAN, upstream=Upstream("out")), "an upstream needs an address of the gateway there"),
        (replace(LAN, ipv4_gateway=None, ipv6_gateway=None), "an upstream needs a gateway"),
        (
            replace(LAN, ipv6_gateway=None, upstream=Upstream("out", ipv6="2001:db8::10/64", nat=True)),
            "NAT needs an upstream address and a gateway of the same version of IP",
        ),
        (replace(OUT, kind=NetworkKind.MANAGED, device="", vni=9), "must stay bridged: it is the upstream of"),
        (replace(OUT, dhcp=False), "a bridged network has no gateway of the cluster"),
        (replace(OUT, domain="out.org"), "a bridged network has no gateway of the cluster"),
        (replace(OUT, dns=("192.0.2.53",)), "a bridged network has no gateway of the cluster"),
        (replace(OUT, upstream=UP), "a bridged network has no gateway of the cluster"),
        (replace(LAN, vni=TRANSIT_VNI), f"VNI {TRANSIT_VNI} does not exist"),
        (replace(OUT, name="o", device="pvg-lan"), "device pvg-lan cannot carry a network"),
    ],
)
def test_a_gateway_is_refused_with_the_conflict_in_words(network: Network, why: str) -> None:
    assert why in "; ".join(problems(network, OTHERS))


def test_a_network_that_leads_out_for_others_stays() -> None:
    assert "network out is the upstream of lan, old; `pvc network modify lan --no-upstream`" in why_not_removed(
        "out", [], {}, ["lan", "old"]
    )


def test_what_was_typed_changes_what_it_names_and_nothing_else() -> None:
    assert Typed().nothing() and Typed().of(LAN) == LAN
    typed = Typed(dhcp=False, dhcp_range="10.1.0.2 - 10.1.0.9", domain="Other.Org.", dns=("192.0.2.1", "192.0.2.1"))
    assert typed.of(LAN) == replace(
        LAN, dhcp=False, dhcp_range=("10.1.0.2", "10.1.0.9"), domain="other.org", dns=("192.0.2.1",)
    )
    assert Typed(nat=False).of(LAN).upstream == replace(UP, nat=False)
    assert Typed(upstream="wan", upstream_ipv4="192.0.2.9/24").of(LAN).upstream == Upstream("wan", "192.0.2.9/24")
    bare = Typed(dropped=frozenset({"dhcp_range", "domain", "dns", "upstream"})).of(LAN)
    assert (bare.dhcp_range, bare.domain, bare.dns, bare.upstream) == (None, None, (), None)
    assert Typed(nat=True, domain="x", dropped=frozenset({"upstream", "domain", "dns"})).contradictions() == [
        "domain",
        "upstream",
    ]
    with pytest.raises(GatewayRefused, match="say with --upstream which network"):
        Typed(nat=True).of(replace(LAN, upstream=None))
    with pytest.raises(GatewayRefused, match="is no range of addresses"):
        Typed(dhcp_range="10.1.0.2").of(LAN)
    with pytest.raises(GatewayRefused, match="is bridged"):
        Typed(dhcp=True).of(OUT)
