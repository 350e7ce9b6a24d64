"""Networks: what is refused, what two clients at once get, and what a node is told to change."""

from dataclasses import replace
from typing import Any

import pytest

from pvc.core.coordination import Op
from pvc.core.lookup import NotFound
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import FLOOD, AddTunnel, Change, Entry, Forward, Link, Remove, Seen
from pvc.plugins.networking.decide.claims import claim, elsewhere
from pvc.plugins.networking.decide.dataplane import Plan, View, plan
from pvc.plugins.networking.decide.networks import free_vni, problems, why_not_removed
from pvc.plugins.networking.firewall.acl import change_acl, read_acl
from pvc.plugins.networking.firewall.decide.order import with_default
from pvc.plugins.networking.firewall.rules import Acl, Action, Direction
from pvc.plugins.networking.records import Network, NetworkKind, Ports, read_networks
from pvc.plugins.networking.requests import Refused, add, modify, remove
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.dataplane import FakeDataplane
from pvc.testing.runtime import World

LAN = Network("lan", NetworkKind.MANAGED, vni=100)
DMZ = Network("dmz", NetworkKind.BRIDGED, device="eth1")
MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"


@pytest.mark.parametrize(
    ("network", "why"),
    [
        (replace(LAN, name="Lan"), "'Lan' is no name for a network: use 1 to 11 lower-case"),
        (replace(LAN, name="a-name-too-long"), "is no name for a network"),
        (replace(LAN, name="lan-"), "is no name for a network"),
        (replace(LAN, name="../x"), "is no name for a network"),
        (replace(LAN, vni=0), "VNI 0 does not exist: use 1 to 16777214"),
        (replace(LAN, vni=2**24), "VNI 16777216 does not exist"),
        (replace(LAN, vni=2**24 - 1), "VNI 16777215 does not exist"),
        (replace(LAN, vni=7), "VNI 7 is that of network old"),
        (replace(LAN, mtu=100), "an MTU of 100 is none: use 576 to 65485"),
        (replace(LAN, mtu=1000, ipv6="2001:db8:1::/64"), "an MTU of 1000 is too little for IPv6"),
        (replace(LAN, vlan=5), "a managed network has no device and no VLAN"),
        (replace(LAN, ipv4="10.0.0.0/33"), "'10.0.0.0/33' is no subnet: write it as 192.0.2.0/24"),
        (replace(LAN, ipv4="10.1.0.7/24"), "10.1.0.7/24 is an address in a subnet: the subnet is 10.1.0.0/24"),
        (replace(LAN, ipv4="2001:db8::/64"), "2001:db8::/64 is no IPv4 subnet"),
        (replace(LAN, ipv6="fd00::%x/64"), "'fd00::%x/64' is no subnet: write it as 2001:db8::/64"),
        (replace(LAN, ipv6="fd00::/64", ipv6_gateway="fd00::1%x"), "the gateway 'fd00::1%x' is no address"),
        (replace(LAN, ipv4="10.1.0.0/31"), "too small for a network"),
        (replace(LAN, ipv4="224.0.0.0/8"), "cannot be the subnet of a network of VMs"),
        (replace(LAN, ipv4="10.0.0.128/25"), "subnet 10.0.0.128/25 overlaps 10.0.0.0/24 of network old"),
        (replace(LAN, ipv4="10.0.0.0/16"), "subnet 10.0.0.0/16 overlaps 10.0.0.0/24 of network old"),
        (replace(LAN, ipv6="2001:db8::/48"), "subnet 2001:db8::/48 overlaps 2001:db8::/64 of network old"),
        (
            replace(LAN, ipv4="10.1.0.0/24", ipv4_gateway="10.2.0.1"),
            "gateway 10.2.0.1 is not in the subnet 10.1.0.0/24",
        ),
        (replace(LAN, ipv4="10.1.0.0/24", ipv4_gateway="10.1.0.255"), "10.1.0.255 is no address of a host in"),
        (replace(LAN, ipv4="10.1.0.0/24", ipv4_gateway="10.1.0.0"), "10.1.0.0 is no address of a host in"),
        (replace(LAN, ipv4="10.1.0.0/24", ipv4_gateway="here"), "the gateway 'here' is no address"),
        (replace(LAN, ipv6_gateway="fd00::1"), "the gateway fd00::1 needs an IPv6 subnet"),
        (replace(DMZ, vlan=4095), "VLAN 4095 does not exist: use 1 to 4094"),
        (replace(DMZ, vlan=0), "VLAN 0 does not exist"),
        (replace(DMZ, device="eth 1"), "'eth 1' is no name of a network device"),
        (replace(DMZ, device=""), "'' is no name of a network device"),
        (replace(DMZ, device="pvb-lan"), "device pvb-lan cannot carry a network"),
        (replace(DMZ, device="eth0"), "device eth0 carries network out already"),
        (replace(DMZ, device="eth0", vlan=9), "VLAN 9 of eth0 carries network out9 already"),
        (replace(DMZ, ipv4="10.1.0.0/24"), "a bridged network has no VNI and no subnet"),
    ],
)
def test_a_network_is_refused_with_the_conflict_in_words(network: Network, why: str) -> None:
    others = [
        Network("old", NetworkKind.MANAGED, vni=7, ipv4="10.0.0.0/24", ipv6="2001:db8::/64"),
        Network("out", NetworkKind.BRIDGED, device="eth0"),
        Network("out9", NetworkKind.BRIDGED, device="eth0", vlan=9),
    ]
    assert why in "; ".join(problems(network, others))


def test_a_network_that_fits_is_not_refused_nor_beside_itself() -> None:
    whole = replace(
        LAN,
        mtu=1400,
        ipv4="10.1.0.0/24",
        ipv4_gateway="10.1.0.1",
        ipv6="2001:db8:1::/64",
        ipv6_gateway="2001:db8:1::1",
    )
    assert problems(whole, [whole, replace(DMZ, vlan=7), replace(DMZ, name="dmz2")]) == []
    assert problems(replace(DMZ, vlan=7), [whole, DMZ]) == []
    assert free_vni([whole, replace(LAN, vni=101)]) == 102


def test_a_network_that_is_used_stays() -> None:
    assert why_not_removed("lan", ["vm1", "vm2"], {}).startswith("VMs use network lan: vm1, vm2")
    assert "2 on hv1" in why_not_removed("lan", [], {"hv1": 2})
    assert why_not_removed("lan", [], {}) == ""


@pytest.fixture
def clients() -> tuple[FakeCoordinator, FakeCoordinator]:
    """Two sessions on one tree."""
    world = World(0)
    ensemble = FakeEnsemble(world.process("ensemble"), expire_after=10)
    return ensemble.connect("one"), ensemble.connect("two")


class Overtaken:
    """A client whose first transaction is preceded by somebody else's request."""

    def __init__(self, client: FakeCoordinator, request: Any) -> None:
        self._client, self._request = client, request
        self.commits = 0

    def commit(self, ops: list[Op]) -> tuple[str, ...]:
        self.commits += 1
        if self.commits == 1:
            self._request()
        return self._client.commit(ops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


@pytest.mark.parametrize("first", [True, False])
def test_of_two_who_add_at_once_one_has_the_vni_and_the_other_hears_of_it(
    clients: tuple[FakeCoordinator, FakeCoordinator], first: bool
) -> None:
    one, two = clients
    if not first:
        add(two, Network("before", NetworkKind.MANAGED))
    late: Any = Overtaken(one, lambda: add(two, replace(LAN, name="fast", vni=500)))
    with pytest.raises(Refused, match="VNI 500 is that of network fast"):
        add(late, replace(LAN, vni=500))
    assert late.commits == 1
    assert "lan" not in read_networks(one)


def test_of_two_who_want_any_vni_at_once_each_gets_one(clients: tuple[FakeCoordinator, FakeCoordinator]) -> None:
    one, two = clients
    late: Any = Overtaken(one, lambda: add(two, replace(LAN, name="fast", vni=None)))
    assert add(late, replace(LAN, vni=None)).vni == 101
    assert {name: network.vni for name, network in read_networks(one).items() if network} == {"fast": 100, "lan": 101}


def test_a_subnet_given_by_modify_is_checked_against_one_that_comes_at_the_same_moment(
    clients: tuple[FakeCoordinator, FakeCoordinator],
) -> None:
    one, two = clients
    add(one, LAN)
    other = Network("new", NetworkKind.MANAGED, ipv4="10.1.0.0/24")
    late: Any = Overtaken(one, lambda: add(two, other))
    with pytest.raises(Refused, match="overlaps"):
        modify(late, "lan", {"ipv4": "10.1.0.0/16"})
    assert modify(one, "lan", {"mtu": 1400}).mtu == 1400


def test_a_network_is_removed_with_all_that_is_below_it(clients: tuple[FakeCoordinator, FakeCoordinator]) -> None:
    one, _ = clients
    add(one, LAN)
    change_acl(one, "lan", lambda acl: (with_default(acl, Direction.IN, Action.DROP), None))
    remove(one, "lan")
    assert one.children(keys.NETWORKS) == ()
    add(one, LAN)
    assert read_acl(one, "lan") == Acl(), "the next network of that name has none of its rules"
    remove(one, "lan")
    with pytest.raises(NotFound, match="there is no network 'lan'"):
        remove(one, "lan")
    with pytest.raises(NotFound, match="network list"):
        modify(one, "a/b", {"mtu": 1400})


# What a node is told to change.


def settled(view: View, dataplane: FakeDataplane) -> tuple[list[Change], Plan]:
    """Plan and change until nothing is left; all that was changed, and the last answer."""
    done: list[Change] = []
    for _ in range(3):
        answer = plan(replace(view, seen=dataplane.look()))
        if not answer.changes:
            return done, answer
        for changes in answer.changes.values():
            for change in changes:
                dataplane.apply(change)
                done.append(change)
    raise AssertionError(f"it does not settle: {answer.changes}")


def view(*networks: Network, **further: Any) -> View:
    peers = {"hv2": "10.0.0.2", "hv3": "10.0.0.3"}
    return View(
        {network.name: network for network in networks}, Seen(), **{"address": "10.0.0.1", "peers": peers, **further}
    )


def test_a_managed_network_is_set_up_at_once_and_then_left_alone() -> None:
    dataplane = FakeDataplane("10.0.0.1")
    elsewhere = {"lan": {MAC: "hv2", OTHER: "hv3"}}
    _, answer = settled(view(LAN, elsewhere=elsewhere), dataplane)
    assert (answer.problems, answer.warnings, answer.mtus) == ({}, {}, {"lan": 1450})
    seen = dataplane.look()
    assert seen.links["pvb-lan"] == Link("pvb-lan", "bridge", owned=True, up=True, mtu=1450)
    assert not seen.links["pvx-lan"].learns and seen.links["pvx-lan"].up and seen.links["pvx-lan"].mtu == 1450
    assert seen.forwarding["pvx-lan"] == {
        Entry(FLOOD, "10.0.0.2"),
        Entry(FLOOD, "10.0.0.3"),
        Entry(MAC, "10.0.0.2"),
        Entry(OTHER, "10.0.0.3"),
    }


def test_a_mac_address_that_moves_is_overwritten_in_one_change() -> None:
    dataplane = FakeDataplane("10.0.0.1")
    settled(view(LAN, elsewhere={"lan": {MAC: "hv2"}}), dataplane)
    changed, _ = settled(view(LAN, elsewhere={"lan": {MAC: "hv3"}}), dataplane)
    assert changed == [Forward("pvx-lan", Entry(MAC, "10.0.0.3"))]
    changed, _ = settled(view(LAN), dataplane)
    assert dataplane.sends("pvx-lan", MAC) == {"10.0.0.2", "10.0.0.3"}


@pytest.mark.parametrize(
    ("address", "mtu", "room"), [("10.0.0.1", 1500, 1450), ("10.0.0.1", 9000, 8950), ("fd00::1", 1500, 1430)]
)
def test_the_mtu_is_what_the_tunnel_leaves(address: str, mtu: int, room: int) -> None:
    dataplane = FakeDataplane(address, mtu=mtu)
    _, answer = settled(view(LAN, address=address, peers={}), dataplane)
    assert answer.mtus == {"lan": room}
    assert settled(view(replace(LAN, mtu=room), address=address, peers={}), dataplane)[1].problems == {}
    too_much = view(replace(LAN, mtu=room + 1), address=address, peers={})
    changed, answer = settled(too_much, dataplane)
    assert changed == [] and f"--mtu {room}" in answer.problems["lan"]


def foreign(name: str, **options: Any) -> FakeDataplane:
    dataplane = FakeDataplane("10.0.0.1")
    dataplane.add(name, **options)
    return dataplane


@pytest.mark.parametrize(
    ("dataplane", "wanted", "why"),
    [
        (foreign("pvb-lan", kind="bridge"), view(LAN), "device pvb-lan exists and was not made by pvc"),
        (foreign("pvx-lan", kind="vxlan"), view(LAN), "device pvx-lan exists and was not made by pvc"),
        (foreign("flannel", kind="vxlan", vni=100), view(LAN), "device flannel, which is not pvc's, uses VNI 100"),
        (FakeDataplane("10.0.0.9"), view(LAN), "no device of this node has its address 10.0.0.1"),
        (FakeDataplane(), view(LAN, address=""), "set `address` in pvc.yaml"),
        (FakeDataplane(), view(LAN, address="hv1.example"), "set `address` in pvc.yaml"),
        (FakeDataplane(), view(DMZ), "this node has no device eth1"),
        (foreign("eth1", master="br0"), view(DMZ), "device eth1 is a port of br0"),
        (foreign("eth1", addresses=["192.0.2.1"]), view(DMZ), "device eth1 has the node's own address 192.0.2.1"),
        (foreign("eth1"), view(replace(DMZ, mtu=9000)), "its MTU is 9000, and device eth1 lets 1500 through"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_touched(dataplane: FakeDataplane, wanted: View, why: str) -> None:
    changed, answer = settled(wanted, dataplane)
    assert changed == []
    assert why in next(iter(answer.problems.values()))


def test_a_record_that_cannot_be_read_has_its_devices_left_alone() -> None:
    dataplane = FakeDataplane("10.0.0.1")
    settled(view(LAN), dataplane)
    changed, answer = settled(replace(view(), networks={"lan": None}), dataplane)
    assert changed == [] and "cannot be read" in answer.problems["lan"]


def test_a_peer_without_a_usable_address_is_a_warning_and_gets_no_entry() -> None:
    dataplane = FakeDataplane("10.0.0.1")
    _, answer = settled(view(LAN, peers={"hv2": "", "hv3": "fd00::3", "hv4": "10.0.0.4"}), dataplane)
    assert "no tunnel leads to hv2, hv3" in answer.warnings["lan"] and answer.problems == {}
    assert dataplane.look().forwarding["pvx-lan"] == {Entry(FLOOD, "10.0.0.4")}


def test_a_bridged_network_takes_the_device_and_a_vlan_leaves_it() -> None:
    dataplane = foreign("eth1")
    _, answer = settled(view(DMZ), dataplane)
    assert answer.mtus == {"dmz": 1500} and dataplane.look().links["eth1"].master == "pvb-dmz"
    dataplane = FakeDataplane()
    dataplane.add("eth1", mtu=9000, addresses=["192.0.2.1"], up=False)
    settled(view(replace(DMZ, vlan=5)), dataplane)
    links = dataplane.look().links
    assert (links["eth1"].master, links["eth1"].up) == ("", True)
    assert links["pvv-dmz"] == Link(
        "pvv-dmz", "vlan", owned=True, up=True, mtu=9000, master="pvb-dmz", parent="eth1", vlan=5
    )
    changed, _ = settled(view(replace(DMZ, vlan=6)), dataplane)
    assert changed[0] == Remove("pvv-dmz") and dataplane.look().links["pvv-dmz"].vlan == 6


def test_the_devices_of_a_network_that_is_gone_are_removed_first_unless_a_vm_is_plugged_in() -> None:
    dataplane = FakeDataplane("10.0.0.1")
    settled(view(LAN), dataplane)
    dataplane.add("vnet3", kind="tun", master="pvb-lan")
    changed, answer = settled(view(), dataplane)
    assert changed == [] and "vnet3 is plugged into pvb-lan" in answer.problems["lan"]
    dataplane.remove("vnet3")
    dataplane.add("pvb-mine", kind="bridge")  # looks like one of ours, and is not
    changed, _ = settled(view(replace(LAN, name="new")), dataplane)
    assert changed[:2] == [Remove("pvx-lan"), Remove("pvb-lan")]
    assert AddTunnel("pvx-new", 100, "10.0.0.1") in changed
    assert "pvb-mine" in dataplane.look().links


def test_devices_follow_the_nodes_address_and_what_was_changed_by_hand_is_put_right() -> None:
    dataplane = FakeDataplane("10.0.0.1")
    settled(view(LAN), dataplane)
    dataplane.change("pvx-lan", mtu=1300, learns=True, up=False)
    dataplane.change("pvb-lan", speaks_ipv6=True, up=False)
    settled(view(LAN), dataplane)
    assert dataplane.look().links["pvb-lan"] == Link("pvb-lan", "bridge", owned=True, up=True, mtu=1450)
    dataplane.change("eth0", addresses=("10.0.0.7",))
    settled(view(LAN, address="10.0.0.7"), dataplane)
    assert dataplane.look().links["pvx-lan"].local == "10.0.0.7"
    assert dataplane.look().links["pvx-lan"].master == "pvb-lan"


# Who has a MAC address.


def test_who_claims_a_mac_address_last_has_it_and_no_clock_is_asked() -> None:
    first = claim([MAC], Ports(), {})
    second = claim([MAC], Ports(), {"hv1": first})
    assert elsewhere("hv3", [], {"hv1": first, "hv2": second}) == {MAC: "hv2"}
    back = claim([MAC], Ports(), {"hv2": second})
    assert elsewhere("hv3", [], {"hv1": back, "hv2": second}) == {MAC: "hv1"}
    assert claim([MAC, OTHER], back, {"hv2": second}).macs == {MAC: 3, OTHER: 1}


def test_what_is_here_is_here_whoever_else_claims_it() -> None:
    assert elsewhere("hv1", [MAC], {"hv2": Ports({MAC: 9, OTHER: 1})}) == {OTHER: "hv2"}
    assert elsewhere("hv1", [], {"hv1": Ports({MAC: 9})}) == {}
