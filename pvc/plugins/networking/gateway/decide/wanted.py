"""The router that a network's gateway consists of, from the records: addresses, routes, hosts and names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from pvc.plugins.networking.decide.attachment import NetworkUnusable
from pvc.plugins.networking.decide.networks import TRANSIT_VNI
from pvc.plugins.networking.gateway.decide.domains import domain_of, label_of
from pvc.plugins.networking.gateway.routers import Host, Leg, Route, Router, Services
from pvc.plugins.networking.records import Lease, Network, NetworkKind

TRANSIT = "_transit"
"""The network between gateways. No administrator's network can have this name."""
EVERYTHING = {4: "0.0.0.0/0", 6: "::/0"}
LINK_LOCAL = IPv6Address("fe80::")

Plug = Callable[[str], tuple[str, int]]
"""The bridge of a network on this node, and its MTU. Raises NetworkUnusable."""


@dataclass(frozen=True, slots=True)
class Books:
    """What the cluster knows of its managed networks."""

    networks: Mapping[str, Network]
    leases: Mapping[str, Mapping[str, Lease]] = field(default_factory=dict)
    """By network and MAC address."""


def has_gateway(network: Network | None) -> bool:
    """Whether a network wants a gateway."""
    managed = network is not None and network.kind is NetworkKind.MANAGED
    return managed and network is not None and bool(network.ipv4_gateway or network.ipv6_gateway)


def transit() -> Network:
    """The network between gateways, as if somebody had made it."""
    return Network(TRANSIT, NetworkKind.MANAGED, vni=TRANSIT_VNI)


def lan_mac(vni: int) -> str:
    """Of the gateway in its own network: locally administered, the same on whichever node it is."""
    return _mac("02:70:76", vni)


def transit_mac(vni: int) -> str:
    """Of the gateway in the network between gateways."""
    return _mac("02:70:74", vni)


def upstream_mac(vni: int) -> str:
    """Of the gateway in the network that leads out of the cluster."""
    return _mac("02:70:75", vni)


def transit_address(vni: int) -> str:
    """Of the gateway in the network between gateways, without the length of the prefix."""
    return str(LINK_LOCAL + vni)


def names(books: Books) -> dict[str, tuple[str, ...]]:
    """The full name of every VM with an address, and its addresses."""
    found: dict[str, tuple[str, ...]] = {}
    for name, network in sorted(books.networks.items()):
        for lease in books.leases.get(name, {}).values():
            addresses = tuple(address for address in (lease.ipv4, lease.ipv6) if address)
            if addresses and (short := label_of(lease.name)):
                full = f"{short}.{domain_of(network)}"
                found[full] = tuple(dict.fromkeys((*found.get(full, ()), *addresses)))
    return dict(sorted(found.items()))


def router(name: str, books: Books, plug: Plug) -> Router:
    """The active router of a network; without the legs of other networks that cannot be used here.

    Raises NetworkUnusable.
    """
    network = books.networks[name]
    return Router(
        network=name,
        lan=_lan(network, plug),
        services=_services(network, books),
        active=True,
        transit=_leg(lambda: _transit(network, books, plug)),
        upstream=_leg(lambda: _upstream(network, plug)),
        nat=network.upstream is not None and network.upstream.nat,
    )


def _lan(network: Network, plug: Plug) -> Leg:
    bridge, mtu = plug(network.name)
    pairs = ((network.ipv4_gateway, network.ipv4), (network.ipv6_gateway, network.ipv6))
    addresses = tuple(f"{own}/{ip_network(subnet).prefixlen}" for own, subnet in pairs if own and subnet)
    return Leg(bridge, lan_mac(network.vni or 0), mtu, addresses)


def _transit(network: Network, books: Books, plug: Plug) -> Leg | None:
    routes = tuple(
        Route(subnet, transit_address(other.vni or 0))
        for name, other in sorted(books.networks.items())
        if name != network.name
        for subnet, gateway in ((other.ipv4, other.ipv4_gateway), (other.ipv6, other.ipv6_gateway))
        if subnet and gateway
    )
    bridge, mtu = plug(TRANSIT)
    vni = network.vni or 0
    return Leg(bridge, transit_mac(vni), mtu, (f"{transit_address(vni)}/64",), routes)


def _upstream(network: Network, plug: Plug) -> Leg | None:
    up = network.upstream
    if up is None:
        return None
    bridge, mtu = plug(up.network)
    routes = ((4, up.ipv4, up.ipv4_gateway), (6, up.ipv6, up.ipv6_gateway))
    return Leg(
        bridge,
        upstream_mac(network.vni or 0),
        mtu,
        tuple(own for _, own, _ in routes if own),
        tuple(Route(EVERYTHING[version], via) for version, _, via in routes if via),
    )


def _leg(make: Callable[[], Leg | None]) -> Leg | None:
    try:
        return make()
    except NetworkUnusable:
        return None


def _services(network: Network, books: Books) -> Services:
    leases = books.leases.get(network.name, {})
    return Services(
        domain=domain_of(network),
        dhcp4=network.dhcp and network.ipv4_gateway is not None,
        dhcp6=network.dhcp and network.ipv6_gateway is not None,
        hosts=tuple(
            Host(lease.mac, label_of(lease.name), lease.ipv4, lease.ipv6) for _, lease in sorted(leases.items())
        ),
        names=names(books),
        forwarders=network.dns,
    )


def _mac(prefix: str, vni: int) -> str:
    return ":".join((prefix, *(f"{byte:02x}" for byte in vni.to_bytes(3, "big"))))
