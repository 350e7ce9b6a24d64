"""What is said to dnsmasq and nftables for a router, and the frames that announce it."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from pvc.plugins.networking.gateway.decide import silence
from pvc.plugins.networking.gateway.decide.announcement import announcement
from pvc.plugins.networking.gateway.decide.dnsmasq import configuration, forgets, hosts, names, servers
from pvc.plugins.networking.gateway.decide.translation import translation
from pvc.plugins.networking.gateway.routers import Host, Leg, Router, Services

DIRECTORY = Path("/run/pvc/networking/routers/a")
LAN = Leg("pvb-a", "02:00:00:00:01:01", 1450, ("10.1.0.1/24", "fd00:1::1/64"))
UPSTREAM = Leg("pvb-out", "02:00:00:00:01:03", 1450, ("fe80::9/64", "192.0.2.10/24", "2001:db8::10/64"))
VM = Host("52:54:00:00:00:0A", "vm1", "10.1.0.7", "fd00:1::7")
ROUTER = Router("a", LAN, Services("a.internal", True, True, 600, (VM,)), True)


def test_addresses_come_only_from_the_hosts_that_are_named() -> None:
    ranges = [line for line in configuration(ROUTER, DIRECTORY).splitlines() if line.startswith("dhcp-range")]
    assert ranges == ["dhcp-range=10.1.0.0,static,255.255.255.0,600", "dhcp-range=fd00:1::,static,slaac,64,600"]
    assert hosts(ROUTER.services) == "52:54:00:00:00:0a,10.1.0.7,[fd00:1::7],vm1\n"


@pytest.mark.parametrize(
    "router, absent",
    [
        (replace(ROUTER, services=Services("a.internal")), "dhcp-"),
        (replace(ROUTER, lan=replace(LAN, addresses=("10.1.0.1/24", "fe80::1/64"))), "enable-ra"),
        (replace(ROUTER, lan=replace(LAN, addresses=("fd00:1::1/64",))), "255.255"),
        (replace(ROUTER, lan=replace(LAN, addresses=("fd00:1::1/80",))), "slaac"),
    ],
)
def test_what_a_network_has_no_addresses_for_is_not_served(router: Router, absent: str) -> None:
    assert absent not in configuration(router, DIRECTORY)


def test_nobody_is_asked_for_names_of_the_cluster() -> None:
    services = Services("a.internal", names={"vm2.b.internal": ("10.2.0.7",)}, forwarders=("192.0.2.53",))
    assert servers(services) == "server=/a.internal/\nserver=/b.internal/\nserver=192.0.2.53\n"
    assert servers(Services("a.internal")) == "server=/a.internal/\nserver=/#/\n"


def test_names_are_those_of_the_hosts_and_of_all_the_cluster() -> None:
    services = replace(ROUTER.services, names={"VM2.b.internal.": ("10.2.0.7",), "vm1.a.internal": ("10.1.0.7",)})
    assert names(services) == "10.1.0.7 vm1.a.internal\n10.2.0.7 vm2.b.internal\nfd00:1::7 vm1.a.internal\n"


@pytest.mark.parametrize("name", ["bad name", "x\n10.0.0.1 www.bank.example", "-x", "a..b"])
def test_what_is_no_name_is_left_out_wherever_it_comes_from(name: str) -> None:
    bad = replace(VM, name=name)
    assert hosts(Services("a.internal", hosts=(bad,))) == "52:54:00:00:00:0a,10.1.0.7,[fd00:1::7]\n"
    assert names(Services("a.internal", hosts=(bad,), names={name: ("10.0.0.1",)})) == ""
    assert servers(Services("a.internal", names={f"x.{name}": ("10.0.0.1",)})).count("\n") == 2


def test_only_who_lost_an_address_has_to_be_forgotten() -> None:
    one, other = hosts(ROUTER.services), hosts(Services("a", hosts=(Host("52:54:00:00:00:0b", ipv4="10.1.0.8"),)))
    assert [forgets(one, one), forgets(one, one + other), forgets(one + other, one), forgets(one, other)] == [
        False,
        False,
        True,
        True,
    ]


def test_translation_is_to_the_addresses_that_the_world_can_answer_to() -> None:
    text = translation(replace(ROUTER, upstream=UPSTREAM, nat=True))
    assert 'oifname "upstream" ip saddr != 192.0.2.10 snat ip to 192.0.2.10\n' in text
    assert 'oifname "upstream" ip6 saddr != 2001:db8::10 snat ip6 to 2001:db8::10\n' in text
    assert "fe80" not in text and "maxseg" not in text
    assert "snat" not in translation(replace(ROUTER, upstream=UPSTREAM))
    assert "maxseg size set rt mtu" in translation(replace(ROUTER, upstream=replace(UPSTREAM, mtu=1500)))


def test_holding_names_all_ports_of_a_router_and_forgets_the_others() -> None:
    text = silence.holding(["a"], 2.5)
    assert text.startswith(silence.definition())
    assert text.splitlines()[-2:] == [
        "flush set bridge pvc_gateways held",
        "add element bridge pvc_gateways held"
        ' { "pvg-a" timeout 2500ms, "pvr-a" timeout 2500ms, "pvu-a" timeout 2500ms }',
    ]
    assert silence.holding([], 1.0).endswith("flush set bridge pvc_gateways held\n")
    listing = 'elements = { "pvg-a" timeout 6s expires 5s,\n "pvr-b" timeout 6s expires 5s, "pvg-c-d" timeout 6s }'
    assert silence.held(listing) == {"a", "c-d"}


def test_announcements_say_who_has_which_address() -> None:
    arp = announcement("02:00:00:00:01:01", IPv4Address("10.1.0.1"))
    assert arp.hex() == (
        "ffffffffffff" "020000000101" "0806" "0001" "0800" "0604" "0001"
        "020000000101" "0a010001" "000000000000" "0a010001"
    ).ljust(120, "0")  # fmt: skip
    advertised = announcement("02:00:00:00:01:01", IPv6Address("fe80::1"))
    assert advertised[:14].hex() == "333300000001" "020000000101" "86dd"  # fmt: skip
    assert advertised[54:56] + advertised[58:] == bytes.fromhex(
        "8800" "a0000000" "fe800000000000000000000000000001" "0201" "020000000101"
    )  # fmt: skip
    covered = advertised[22:54] + len(advertised[54:]).to_bytes(4, "big") + b"\0\0\0\x3a" + advertised[54:]
    assert sum(int.from_bytes(covered[at : at + 2], "big") for at in range(0, len(covered), 2)) % 0xFFFF == 0
