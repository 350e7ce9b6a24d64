"""Reservations and releases: one transaction each, refused with the reason, and right beside others at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pvc.core import keys as core
from pvc.core.coordination import Conflict, Create, Delete, Op, Put
from pvc.core.lookup import NotFound
from pvc.core.model import Vm, VmState
from pvc.core.records import encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.book import read_book, read_leases
from pvc.plugins.networking.gateway.decide.addresses import allocate
from pvc.plugins.networking.gateway.requests import release, reserve, residents, shared_macs, unreserve
from pvc.plugins.networking.records import Lease, Network, NetworkKind, Ports, Upstream
from pvc.plugins.networking.requests import Refused, add, find_network, modify, remove
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.runtime import World

LAN = Network(
    "lan",
    NetworkKind.MANAGED,
    vni=100,
    ipv4="10.1.0.0/24",
    ipv4_gateway="10.1.0.1",
    ipv6="fd00:1::/64",
    ipv6_gateway="fd00:1::1",
    dhcp_range=("10.1.0.100", "10.1.0.199"),
)
MAC, OTHER = "52:54:00:00:00:0a", "52:54:00:00:00:0b"
UUID = "11111111-2222-4333-8444-55555555555{}"


@pytest.fixture
def clients() -> tuple[FakeCoordinator, FakeCoordinator]:
    """Two sessions on a tree with network lan, vm1 on it with MAC, and vm0 without an interface."""
    ensemble = FakeEnsemble(World(0).process("ensemble"), expire_after=10)
    one, two = ensemble.connect("one"), ensemble.connect("two")
    add(one, LAN)
    for path in (core.VMS, core.NAMES):
        if one.get(path) is None:
            one.commit([Create(path)])
    define(one, 0, "")
    define(one, 1, interface(MAC))
    return one, two


@pytest.fixture
def client(clients: tuple[FakeCoordinator, FakeCoordinator]) -> FakeCoordinator:
    return clients[0]


def interface(mac: str) -> str:
    element = f"<mac address='{mac}'/>" if mac else ""
    return f"<interface type='network'>{element}<source network='lan'/></interface>"


def define(client: FakeCoordinator, number: int, devices: str) -> None:
    uuid, name = UUID.format(number), f"vm{number}"
    vm = Vm(uuid, name, VmState.STOPPED, node="hv1", memory=64, vcpus=1)
    xml = f"<domain><name>{name}</name><devices>{devices}</devices></domain>"
    client.commit(
        [
            Create(core.name(name), uuid.encode()),
            Create(core.vm(uuid), encode(vm)),
            Create(core.vm_xml(uuid), xml.encode()),
        ]
    )


def gives(client: FakeCoordinator, *macs: str, names: str = "vm") -> None:
    """The gateway's holder gives addresses to VMs."""
    network, version = find_network(client, "lan")
    book = read_book(client, "lan")
    client.commit(book.ops(allocate(network, book.leases, dict.fromkeys(macs, names), 5.0), version))


class Overtaken:
    """A client whose first transaction is preceded by what somebody else does."""

    def __init__(self, client: FakeCoordinator, other: Callable[[], object]) -> None:
        self._client, self._other = client, other
        self.commits = 0

    def commit(self, ops: list[Op]) -> tuple[str, ...]:
        self.commits += 1
        if self.commits == 1:
            self._other()
        return self._client.commit(ops)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_addresses_are_reserved_for_a_vm_by_name_and_the_other_version_of_ip_is_chosen(client: FakeCoordinator) -> None:
    lease = reserve(client, "lan", "vm1", ("10.1.0.7",), 3.0)
    assert (lease.mac, lease.name, lease.ipv4, lease.reserved, lease.since) == (MAC, "vm1", "10.1.0.7", True, 3.0)
    assert lease.ipv6 is not None and lease.ipv6.startswith("fd00:1::")
    assert read_leases(client, "lan") == {MAC: lease}
    again = reserve(client, "lan", UUID.format(1), ("fd00:1::7",), 9.0)
    assert again == replace(lease, ipv6="fd00:1::7") and read_leases(client, "lan") == {MAC: again}
    gives(client, MAC, names="vm1")
    assert read_leases(client, "lan") == {MAC: again}


def test_without_addresses_a_vm_keeps_those_it_has_or_gets_some(client: FakeCoordinator) -> None:
    gives(client, OTHER)
    had = read_leases(client, "lan")[OTHER]
    assert reserve(client, "lan", OTHER.upper(), (), 9.0) == replace(had, reserved=True)
    fresh = reserve(client, "lan", "vm1", (), 9.0)
    assert fresh.ipv4 is not None and fresh.ipv6 is not None
    modify(client, "lan", {"dhcp": False})
    with pytest.raises(Refused, match="no address to give by itself: it is full, or has no gateway or no DHCP"):
        reserve(client, "lan", "52:54:00:00:00:0c", (), 9.0)


@pytest.mark.parametrize(
    ("who", "addresses", "why"),
    [
        ("vm1", "10.2.0.7", "10.2.0.7 is no address of a host in 10.1.0.0/24"),
        ("vm1", "10.1.0.255", "10.1.0.255 is no address of a host in 10.1.0.0/24"),
        ("vm1", "10.1.0.1", "10.1.0.1 is the gateway's"),
        ("vm1", "fd00:1::", "fd00:1:: is no address of a host in fd00:1::/64"),
        ("vm1", "here", "'here' is no IP address"),
        ("vm1", "fd00:1::5%x", "'fd00:1::5%x' is no IP address"),
        ("vm1", "10.1.0.7 10.1.0.8", "10.1.0.7 and 10.1.0.8: at most one IPv4 address"),
        ("vm1", "10.1.0.9", "10.1.0.9 is reserved for nobody known (52:54:00:00:00:99); `pvc network reservation rem"),
        ("vm1", "10.1.0.98", "10.1.0.98 belongs to gone (52:54:00:00:00:98); `pvc network lease release lan 52:54:00:"),
        ("52:54:00:00:00", "", "'52:54:00:00:00' is no MAC address: write it as 52:54:00:12:34:56"),
        ("53:54:00:00:00:0a", "", "53:54:00:00:00:0a is no MAC address that a VM can have"),
        ("vm0", "", "the definition of vm0 has no interface on network lan"),
        ("vm2", "", "the definition of vm2 gives no MAC address to its interface on network lan"),
        ("vm3", "", f"vm3 has several MAC addresses on network lan ({MAC}, {OTHER}); name one of them"),
    ],
)
def test_a_reservation_is_refused_with_the_conflict_in_words(
    client: FakeCoordinator, who: str, addresses: str, why: str
) -> None:
    define(client, 2, interface(""))
    define(client, 3, interface(MAC) + interface(OTHER))
    for lease in (
        Lease("52:54:00:00:00:99", "", "10.1.0.9", reserved=True),
        Lease("52:54:00:00:00:98", "gone", "10.1.0.98"),
    ):
        client.commit([Create(keys.lease("lan", lease.mac), encode(lease))])
    before = read_leases(client, "lan")
    with pytest.raises(Refused) as refused:
        reserve(client, "lan", who, tuple(addresses.split()), 3.0)
    assert why in str(refused.value)
    assert read_leases(client, "lan") == before


def test_who_and_what_do_not_exist_are_named(client: FakeCoordinator) -> None:
    add(client, Network("out", NetworkKind.BRIDGED, device="eth0"))
    add(client, Network("bare", NetworkKind.MANAGED))
    with pytest.raises(NotFound, match="there is no VM 'vm9'"):
        reserve(client, "lan", "vm9", (), 3.0)
    with pytest.raises(NotFound, match="there is no network 'lam'; did you mean lan"):
        reserve(client, "lam", "vm1", (), 3.0)
    with pytest.raises(Refused, match="network out is bridged"):
        reserve(client, "out", MAC, (), 3.0)
    with pytest.raises(Refused, match="network bare has no subnet"):
        reserve(client, "bare", MAC, (), 3.0)


def test_a_reservation_that_is_given_up_stays_with_a_vm_that_exists_and_else_goes(client: FakeCoordinator) -> None:
    reserve(client, "lan", "vm1", ("10.1.0.107",), 3.0)
    reserve(client, "lan", OTHER, ("10.1.0.8",), 3.0)
    assert unreserve(client, "lan", "vm1").ipv4 == "10.1.0.107"
    assert unreserve(client, "lan", OTHER).ipv4 is None
    (left,) = read_leases(client, "lan").values()
    assert (left.mac, left.ipv4, left.reserved) == (MAC, "10.1.0.107", False)
    with pytest.raises(Refused, match="nothing of network lan is reserved for vm1"):
        unreserve(client, "lan", "vm1")


def test_a_lease_is_released_by_the_name_of_a_vm_that_is_gone_but_a_reservation_is_not(client: FakeCoordinator) -> None:
    gives(client, OTHER, names="gone")
    assert release(client, "lan", "gone").mac == OTHER
    assert read_leases(client, "lan") == {}
    with pytest.raises(Refused, match=f"{OTHER} has no address of network lan"):
        release(client, "lan", OTHER)
    reserve(client, "lan", "vm1", (), 3.0)
    with pytest.raises(Refused, match=f"`pvc network reservation remove lan {MAC}` comes first"):
        release(client, "lan", "vm1")


def test_a_lease_that_cannot_be_read_is_nobodys_and_can_be_released(client: FakeCoordinator) -> None:
    client.commit([Create(keys.lease("lan", OTHER), b"junk")])
    assert read_leases(client, "lan") == {}
    gives(client, OTHER)
    assert read_leases(client, "lan")[OTHER].ipv4 is not None
    client.commit([Put(keys.lease("lan", OTHER), b"junk")])
    release(client, "lan", OTHER)
    assert client.get(keys.lease("lan", OTHER)) is None


def test_of_two_who_reserve_one_address_at_once_one_hears_whose_it_is(
    clients: tuple[FakeCoordinator, FakeCoordinator],
) -> None:
    one, two = clients
    late: Any = Overtaken(one, lambda: reserve(two, "lan", OTHER, ("10.1.0.7",), 3.0))
    with pytest.raises(Refused, match=f"10.1.0.7 is reserved for nobody known \\({OTHER}\\)"):
        reserve(late, "lan", "vm1", ("10.1.0.7",), 3.0)
    assert list(read_leases(one, "lan")) == [OTHER]


def test_what_the_holder_gives_and_what_is_reserved_at_the_same_moment_is_never_the_same(
    clients: tuple[FakeCoordinator, FakeCoordinator],
) -> None:
    one, two = clients
    gives(one, OTHER)
    wanted = read_leases(one, "lan")[OTHER].ipv4 or ""
    release(one, "lan", OTHER)
    late: Any = Overtaken(two, lambda: reserve(one, "lan", "vm1", (wanted,), 3.0))
    with pytest.raises(Conflict):
        gives(late, OTHER)
    gives(two, OTHER)
    leases = read_leases(one, "lan")
    assert leases[MAC].ipv4 == wanted != leases[OTHER].ipv4


def test_a_network_that_changes_meanwhile_is_looked_at_again(clients: tuple[FakeCoordinator, FakeCoordinator]) -> None:
    one, two = clients
    late: Any = Overtaken(one, lambda: modify(two, "lan", {"ipv4_gateway": "10.1.0.7"}))
    with pytest.raises(Refused, match=r"10\.1\.0\.7 is the gateway's"):
        reserve(late, "lan", "vm1", ("10.1.0.7",), 3.0)


class Slow:
    """A client that is overtaken after it has read the network, and before it reads the leases."""

    def __init__(self, client: FakeCoordinator, other: Callable[[], object]) -> None:
        self._client, self._others = client, [other]

    def get(self, path: str) -> Any:
        if path == keys.leases("lan") and self._others:
            self._others.pop()()
        return self._client.get(path)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def test_leases_are_never_read_beside_a_network_that_was_another(
    clients: tuple[FakeCoordinator, FakeCoordinator],
) -> None:
    one, two = clients
    slow: Any = Slow(one, lambda: modify(two, "lan", {"ipv4_gateway": "10.1.0.7"}))
    with pytest.raises(Refused, match=r"10\.1\.0\.7 is the gateway's"):
        reserve(slow, "lan", "vm1", ("10.1.0.7",), 3.0)


@pytest.mark.parametrize("before_leases", [False, True])
def test_a_change_that_a_reservation_cannot_bear_is_refused_also_if_it_comes_at_the_same_moment(
    clients: tuple[FakeCoordinator, FakeCoordinator], before_leases: bool
) -> None:
    one, two = clients
    if before_leases:
        one.commit([Delete(keys.leases("lan"))])
    why = f"reservations speak against that: vm1 \\({MAC}\\): 10.1.0.7 is no address of a host in 10.2.0.0/24"
    changes = {"ipv4": "10.2.0.0/24", "ipv4_gateway": "10.2.0.1", "dhcp_range": None}
    late: Any = Overtaken(one, lambda: reserve(two, "lan", "vm1", ("10.1.0.7",), 3.0))
    with pytest.raises(Refused, match=why):
        modify(late, "lan", changes)
    with pytest.raises(Refused, match=why):
        modify(one, "lan", changes)
    assert modify(one, "lan", {"dhcp_range": None}).dhcp_range is None
    unreserve(one, "lan", "vm1")
    assert modify(one, "lan", changes).ipv4 == "10.2.0.0/24"


def test_a_network_that_is_older_than_leases_gets_what_they_are_below(client: FakeCoordinator) -> None:
    client.commit([Delete(keys.leases("lan"))])
    reserve(client, "lan", "vm1", ("10.1.0.7",), 3.0)
    assert list(read_leases(client, "lan")) == [MAC]


def test_a_network_is_removed_with_its_leases_and_the_gateways_ticket(
    clients: tuple[FakeCoordinator, FakeCoordinator],
) -> None:
    one, two = clients
    one.commit([Delete(core.vm_xml(UUID.format(1))), Delete(core.vm(UUID.format(1)))])
    for part in range(7):  # more than one transaction can delete
        macs = [f"52:54:00:00:{part:02x}:{number >> 8:02x}{number & 255:02x}" for number in range(1000)]
        one.commit([Create(keys.lease("lan", mac), b"x") for mac in macs])
    reserve(one, "lan", OTHER, (), 3.0)
    two.commit([Create(keys.gateway("lan")), Create(keys.gateway_ticket("lan"), ephemeral=True)])
    remove(one, "lan")
    assert one.children(keys.NETWORKS) == ()


def test_a_network_that_leads_out_for_another_is_not_removed(client: FakeCoordinator) -> None:
    add(client, Network("out", NetworkKind.BRIDGED, device="eth0"))
    modify(client, "lan", {"upstream": Upstream("out", "192.0.2.9/24")})
    with pytest.raises(Refused, match="network out is the upstream of lan"):
        remove(client, "out")
    with pytest.raises(Refused, match="network out must stay bridged"):
        modify(client, "out", {"kind": NetworkKind.MANAGED, "device": "", "vni": 500})
    modify(client, "lan", {"upstream": None})
    remove(client, "out")


def test_who_shares_a_mac_address_and_where_it_runs_is_seen(client: FakeCoordinator) -> None:
    define(client, 2, interface(MAC.upper()))
    for node, turn in (("hv1", 4), ("hv2", 3)):
        client.commit([Create(keys.node_ports("lan", node), encode(Ports({MAC: turn})))])
    there = residents(client, "lan")
    assert there.defined == {MAC: ("vm1", "vm2")} and there.nodes == {MAC: "hv1"}
    assert shared_macs(client, "lan") == [{"mac": MAC, "vms": ["vm1", "vm2"]}]
