"""What clients ask of leases: each request is one transaction, repeated if somebody was faster."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from pvc.core import keys as core
from pvc.core.coordination import Conflict, Coordinator
from pvc.core.lookup import all_vms, find_vm
from pvc.plugins.networking.decide.attachment import defined_macs
from pvc.plugins.networking.gateway.book import Book, read_book
from pvc.plugins.networking.gateway.decide.reservations import reserved, unreserved, why_no_mac, why_none
from pvc.plugins.networking.records import Lease, Network, read_ports
from pvc.plugins.networking.requests import TRIES, Refused, find_network


@dataclass(frozen=True, slots=True)
class Residents:
    """Who has which MAC address of a network."""

    defined: Mapping[str, tuple[str, ...]]
    """By MAC address the VMs whose definitions name it: more than one is a mistake."""
    nodes: Mapping[str, str]
    """By MAC address of a VM that runs, its node."""


def reserve(coordinator: Coordinator, name: str, who: str, addresses: tuple[str, ...], now: float) -> Lease:
    """Reserve addresses of a network for a VM or MAC address; without any, those it has or gets.

    Raises NotFound, Refused, Garbage, Disconnected. `now`: seconds since the epoch.
    """

    def attempt(network: Network, book: Book) -> Lease:
        mac = _mac_of(coordinator, network, who)
        owners = residents(coordinator, network.name).defined.get(mac, ())
        wanted = Lease(mac, owners[0] if len(owners) == 1 else "")
        lease, wrong = reserved(network, book.leases, wanted, addresses, now)
        if wrong:
            raise Refused("; ".join(wrong))
        return lease

    return _changed(coordinator, name, attempt)


def unreserve(coordinator: Coordinator, name: str, who: str) -> Lease:
    """Make an ordinary lease of a reservation, or delete it if no VM on the network has its MAC address.

    Raises NotFound, Refused, Garbage, Disconnected.
    """

    def attempt(network: Network, book: Book) -> Lease:
        mac = _leased_mac_of(coordinator, network, who, book)
        lease = book.leases.get(mac)
        if lease is None or not lease.reserved:
            raise Refused(
                f"nothing of network {name} is reserved for {who}; `pvc network reservation list {name}` shows all"
            )
        there = residents(coordinator, network.name)
        return unreserved(lease, known=mac in there.defined or mac in there.nodes)

    return _changed(coordinator, name, attempt)


def release(coordinator: Coordinator, name: str, who: str) -> Lease:
    """Take its addresses from a MAC address; the lease as it was. Raises NotFound, Refused, Garbage, Disconnected."""
    released: list[Lease] = []

    def attempt(network: Network, book: Book) -> Lease:
        mac = _leased_mac_of(coordinator, network, who, book)
        if mac not in book.kept:
            raise Refused(f"{who} has no address of network {name}; `pvc network lease list {name}` shows all")
        lease = book.leases.get(mac, Lease(mac))  # of one that cannot be read nothing is known; it goes all the same
        if lease.reserved:
            raise Refused(
                f"the addresses of {who} are reserved; `pvc network reservation remove {name} {mac}` comes first"
            )
        released[:] = [lease]
        return replace(lease, ipv4=None, ipv6=None)

    _changed(coordinator, name, attempt)
    return released[0]


def residents(coordinator: Coordinator, name: str) -> Residents:
    """Who has which MAC address of a network. Raises Disconnected."""
    vms, _ = all_vms(coordinator)
    defined: dict[str, tuple[str, ...]] = {}
    paths = [core.vm_xml(vm.uuid) for vm in vms]
    for vm, znode in zip(vms, coordinator.get_many(paths), strict=True):
        for mac in () if znode is None else dict.fromkeys(defined_macs(znode.data.decode(errors="replace"), name)):
            if mac:
                defined[mac] = (*defined.get(mac, ()), vm.name)
    return Residents(defined, places(coordinator, name))


def places(coordinator: Coordinator, name: str) -> dict[str, str]:
    """By MAC address of a running VM on a network, the node that claimed it last. Raises Disconnected."""
    turns: dict[str, tuple[int, str]] = {}
    for node, ports in read_ports(coordinator, name).items():
        for mac, turn in ports.macs.items():
            turns[mac] = max(turns.get(mac, (0, "")), (turn, node))
    return {mac: node for mac, (_, node) in turns.items()}


def shared_macs(coordinator: Coordinator, name: str) -> list[dict[str, str | list[str]]]:
    """The MAC addresses on a network that several VMs have by their definitions. Raises Disconnected."""
    defined = residents(coordinator, name).defined
    return [{"mac": mac, "vms": list(vms)} for mac, vms in sorted(defined.items()) if len(vms) > 1]


def _mac_of(coordinator: Coordinator, network: Network, who: str) -> str:
    """The MAC address that was named, or that a VM has on the network. Raises NotFound, Refused, Disconnected."""
    if ":" in who:
        return _named(who)
    vm = find_vm(coordinator, who)
    znode = coordinator.get(core.vm_xml(vm.uuid))
    macs = () if znode is None else defined_macs(znode.data.decode(errors="replace"), network.name)
    if not any(macs):
        what = "gives no MAC address to its interface" if macs else "has no interface"
        raise Refused(f"the definition of {vm.name} {what} on network {network.name}; name a MAC address")
    return _only(who, network, macs)


def _leased_mac_of(coordinator: Coordinator, network: Network, who: str, book: Book) -> str:
    """The same of those with a lease; the VM and its interface need not exist any more."""
    macs = [mac for mac, lease in sorted(book.leases.items()) if lease.name == who]
    return _only(who, network, macs) if macs and ":" not in who else _mac_of(coordinator, network, who)


def _named(text: str) -> str:
    if why := why_no_mac(text.lower()):
        raise Refused(why)
    return text.lower()


def _only(who: str, network: Network, macs: Sequence[str]) -> str:
    if len(macs) > 1:
        several = ", ".join(mac or "one without a MAC address" for mac in macs)
        raise Refused(f"{who} has several MAC addresses on network {network.name} ({several}); name one of them")
    return _named(macs[0])


def _changed(coordinator: Coordinator, name: str, attempt: Callable[[Network, Book], Lease]) -> Lease:
    """Write the lease that `attempt` makes of all leases of a network, if nothing has changed since they were read."""
    for left in reversed(range(TRIES)):
        network, version = find_network(coordinator, name)
        if why := why_none(network):
            raise Refused(why)
        book = read_book(coordinator, name)
        lease = attempt(network, book)
        try:
            coordinator.commit(book.ops({lease.mac: lease}, version))
            return lease
        except Conflict:
            if not left:
                raise
    raise AssertionError("unreachable")
