"""The same tests on the fake devices and on the kernel's, in a network namespace of the test's own."""

from collections.abc import Iterator

import pytest

from pvc.plugins.networking.dataplane import (
    FLOOD,
    AddBridge,
    AddTunnel,
    AddVlan,
    Change,
    Dataplane,
    DataplaneError,
    Entry,
    Forward,
    Link,
    Mute,
    Plug,
    Raise,
    Remove,
    Resize,
    StopLearning,
    Withdraw,
)
from pvc.testing.dataplane import FakeDataplane
from tests.contract.namespaces import DataplaneInside, Hosts

ADDRESS = "10.99.0.1"
MAC = "52:54:00:00:00:0a"


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.lab)])
def dataplane(request: pytest.FixtureRequest) -> Iterator[Dataplane]:
    """The devices of a host that has ADDRESS on eth0."""
    if request.param == "fake":
        yield FakeDataplane(ADDRESS)
        return
    hosts = Hosts(1)
    try:
        door = DataplaneInside(hosts.spaces, "h1")
        try:
            yield door
        finally:
            door.close()
    finally:
        hosts.close()


def make(dataplane: Dataplane, *changes: Change) -> None:
    for change in changes:
        dataplane.apply(change)


def test_the_machines_own_devices_are_seen_and_bear_no_mark(dataplane: Dataplane) -> None:
    eth0 = dataplane.look().links["eth0"]
    assert (eth0.owned, eth0.up, eth0.mtu, eth0.addresses) == (False, True, 1500, (ADDRESS,))
    assert dataplane.look().forwarding == {}


def test_a_bridge_and_a_tunnel_are_seen_as_they_were_made(dataplane: Dataplane) -> None:
    make(dataplane, AddBridge("pvb-a"), AddTunnel("pvx-a", 100, ADDRESS))
    bridge = dataplane.look().links["pvb-a"]
    assert (bridge.kind, bridge.owned, bridge.up, bridge.speaks_ipv6) == ("bridge", True, False, True)
    make(dataplane, Mute("pvb-a"), Mute("pvx-a"), Resize("pvx-a", 1450), Resize("pvb-a", 1450))
    make(dataplane, Plug("pvx-a", "pvb-a"))
    assert dataplane.look().links["pvx-a"].learns
    make(dataplane, StopLearning("pvx-a"), Raise("pvx-a"), Raise("pvb-a"))
    seen = dataplane.look()
    assert seen.links["pvb-a"] == Link("pvb-a", "bridge", owned=True, up=True, mtu=1450)
    assert seen.links["pvx-a"] == Link(
        "pvx-a", "vxlan", owned=True, up=True, mtu=1450, master="pvb-a", learns=False, vni=100, local=ADDRESS
    )
    assert seen.forwarding == {"pvx-a": frozenset()}


def test_frames_to_everybody_have_many_entries_and_those_to_one_address_the_last(dataplane: Dataplane) -> None:
    make(dataplane, AddTunnel("pvx-a", 100, ADDRESS))
    everybody = [Entry(FLOOD, "10.99.0.2"), Entry(FLOOD, "10.99.0.3")]
    make(dataplane, *(Forward("pvx-a", entry) for entry in (*everybody, Entry(MAC, "10.99.0.2"))))
    make(dataplane, Forward("pvx-a", Entry(MAC, "10.99.0.3")))
    assert dataplane.look().forwarding["pvx-a"] == {*everybody, Entry(MAC, "10.99.0.3")}
    make(dataplane, Withdraw("pvx-a", Entry(MAC, "10.99.0.3")), Withdraw("pvx-a", everybody[0]))
    assert dataplane.look().forwarding["pvx-a"] == {everybody[1]}


def test_what_is_removed_is_gone_and_its_ports_are_free(dataplane: Dataplane) -> None:
    make(dataplane, AddBridge("pvb-a"), AddTunnel("pvx-a", 100, ADDRESS), Plug("pvx-a", "pvb-a"), Remove("pvb-a"))
    seen = dataplane.look()
    assert "pvb-a" not in seen.links
    assert seen.links["pvx-a"].master == ""
    make(dataplane, Remove("pvx-a"))
    assert dataplane.look().forwarding == {}


@pytest.mark.parametrize(
    "change",
    [
        AddBridge("pvb-a"),
        AddTunnel("pvx-b", 100, ADDRESS),
        Remove("pvb-b"),
        Plug("pvx-a", "pvb-b"),
        Raise("pvb-b"),
        StopLearning("pvx-a"),
        Withdraw("pvx-a", Entry(MAC, "10.99.0.2")),
    ],
)
def test_a_change_that_cannot_be_is_refused_in_words_and_changes_nothing(dataplane: Dataplane, change: Change) -> None:
    make(dataplane, AddBridge("pvb-a"), AddTunnel("pvx-a", 100, ADDRESS), Raise("pvx-a"))
    before = dataplane.look()
    with pytest.raises(DataplaneError, match=";"):
        dataplane.apply(change)
    assert dataplane.look() == before


def test_many_changes_at_once_come_to_the_same_as_one_by_one(dataplane: Dataplane) -> None:
    entries = [Entry(FLOOD, "10.99.0.2"), Entry(FLOOD, "10.99.0.3"), Entry(MAC, "10.99.0.2")]
    make(dataplane, AddBridge("pvb-old"), AddTunnel("pvx-old", 100, ADDRESS))
    dataplane.apply_many(
        [
            *(Remove("pvx-old"), AddBridge("pvb-a"), Mute("pvb-a"), AddTunnel("pvx-a", 100, ADDRESS), Mute("pvx-a")),
            *(Resize("pvx-a", 1450), Plug("pvx-a", "pvb-a"), StopLearning("pvx-a")),
            *(Forward("pvx-a", entry) for entry in entries),
            *(Raise("pvx-a"), Resize("pvb-a", 1450), Raise("pvb-a"), Withdraw("pvx-a", entries[1])),
        ]
    )
    seen = dataplane.look()
    assert "pvx-old" not in seen.links
    assert seen.links["pvb-a"] == Link("pvb-a", "bridge", owned=True, up=True, mtu=1450)
    assert seen.links["pvx-a"] == Link(
        "pvx-a", "vxlan", owned=True, up=True, mtu=1450, master="pvb-a", learns=False, vni=100, local=ADDRESS
    )
    assert seen.forwarding == {"pvx-a": {entries[0], entries[2]}}


def test_of_many_changes_those_that_are_refused_keep_none_of_the_others_from_being_made(dataplane: Dataplane) -> None:
    dataplane.apply_many(
        [AddBridge("pvb-a"), Plug("pvx-a", "pvb-a"), Raise("pvx-a"), AddBridge("pvb-b"), Raise("pvb-b")]
    )
    seen = dataplane.look()
    assert (seen.links["pvb-a"].up, seen.links["pvb-b"].up) == (False, True)


def test_a_vlan_is_made_or_the_kernel_says_that_it_knows_none(dataplane: Dataplane) -> None:
    try:
        dataplane.apply(AddVlan("pvv-a", "eth0", 5))
    except DataplaneError as error:
        assert "Operation not supported; is the kernel's module for it there?" in str(error)
        pytest.skip("this kernel has no 8021q: the request was sent and refused")
    assert dataplane.look().links["pvv-a"].vlan == 5
