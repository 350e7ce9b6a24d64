"""What speaks against a network as somebody wants it, or against its removal; every answer names the conflict."""

import re
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from pvc.plugins.networking.gateway.decide.checks import gateway_problems
from pvc.plugins.networking.records import Network, NetworkKind

NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,9}[a-z0-9])?")
"""What a network may be called: its devices are named for it, and the kernel gives them 15 characters."""
DEVICE = re.compile(r"[^\s/:]{1,15}")
OURS = ("pvb-", "pvx-", "pvv-")
"""How the names of the devices begin that pvc makes: bridge, tunnel, VLAN."""
RESERVED = (*OURS, "pvg-", "pvr-", "pvu-")
"""The same, and how the names of gateways' devices begin."""
TRANSIT_VNI = 2**24 - 1
"""The highest VXLAN network identifier (24 bits, RFC 7348): the cluster's own network, from gateway to gateway."""
VNIS = range(1, TRANSIT_VNI)
"""The VXLAN network identifiers that a network can have."""
FIRST_VNI = 100
"""Where looking for a free one begins; the low ones are left to those who choose."""
VLANS = range(1, 4095)
"""VLAN numbers that a network can have (IEEE 802.1Q)."""
MTUS = range(576, 65486)
"""From what every IPv4 host takes (RFC 791) to what VXLAN leaves of the longest IP packet."""
LEAST_IPV6_MTU = 1280
"""RFC 8200."""

Subnet = IPv4Network | IPv6Network


def problems(network: Network, others: Sequence[Network]) -> list[str]:
    """Everything that speaks against the network beside the others; empty: nothing."""
    of_kind = _bridged if network.kind is NetworkKind.BRIDGED else _managed
    return [
        *_general(network),
        *of_kind(network),
        *_conflicts(network, others),
        *gateway_problems(network, others),
    ]


def free_vni(others: Sequence[Network]) -> int:
    """The lowest VNI from FIRST_VNI on that no other network has."""
    used = {other.vni for other in others}
    return next(vni for vni in range(FIRST_VNI, VNIS.stop) if vni not in used)


def why_not_removed(name: str, vms: Sequence[str], plugged: Mapping[str, int], upstream_of: Sequence[str] = ()) -> str:
    """Why a network must stay; empty: it need not. `vms`: whose definitions name it; `plugged`: by node how many
    interfaces of running VMs are on it; `upstream_of`: the networks that lead out of the cluster by it."""
    if upstream_of:
        first = upstream_of[0]
        return f"network {name} is the upstream of {', '.join(upstream_of)}; `pvc network modify {first} --no-upstream`"
    if vms:
        return f"VMs use network {name}: {', '.join(vms)}; take it out of their definitions first"
    if plugged:
        told = ", ".join(f"{count} on {node}" for node, count in sorted(plugged.items()))
        return f"running VMs are plugged into network {name} ({told}); stop or restart them first"
    return ""


def _general(network: Network) -> Iterator[str]:
    if not NAME.fullmatch(network.name):
        yield f"{network.name!r} is no name for a network: use 1 to 11 lower-case letters, digits and '-' between them"
    if network.mtu is not None and network.mtu not in MTUS:
        yield f"an MTU of {network.mtu} is none: use {MTUS.start} to {MTUS.stop - 1}"
    if network.mtu is not None and network.ipv6 is not None and network.mtu < LEAST_IPV6_MTU:
        yield f"an MTU of {network.mtu} is too little for IPv6: use {LEAST_IPV6_MTU} or more, or no IPv6 subnet"


def _bridged(network: Network) -> Iterator[str]:
    if not DEVICE.fullmatch(network.device):
        yield f"{network.device!r} is no name of a network device: use 1 to 15 characters without spaces, '/' and ':'"
    elif network.device.startswith(RESERVED) or network.device == "lo":
        yield f"device {network.device} cannot carry a network: name a device that leads out of the node"
    if network.vlan is not None and network.vlan not in VLANS:
        yield f"VLAN {network.vlan} does not exist: use {VLANS.start} to {VLANS.stop - 1}"
    if network.vni is not None or any((network.ipv4, network.ipv6, network.ipv4_gateway, network.ipv6_gateway)):
        yield "a bridged network has no VNI and no subnet: what it is bridged to looks after addresses"


def _managed(network: Network) -> Iterator[str]:
    if network.vni is None or network.vni not in VNIS:
        yield f"VNI {network.vni} does not exist: use {VNIS.start} to {VNIS.stop - 1}"
    if network.device or network.vlan is not None:
        yield "a managed network has no device and no VLAN: it goes over the nodes' addresses"
    yield from _addressed(4, network.ipv4, network.ipv4_gateway)
    yield from _addressed(6, network.ipv6, network.ipv6_gateway)


def _addressed(version: int, subnet: str | None, gateway: str | None) -> Iterator[str]:
    if subnet is None:
        if gateway is not None:
            yield f"the gateway {gateway} needs an IPv{version} subnet"
        return
    parsed = _subnet(subnet, version)
    if isinstance(parsed, str):
        yield parsed
    elif gateway is not None:
        yield from _gateway(gateway, parsed)


def _subnet(text: str, version: int) -> Subnet | str:
    """The subnet, or what is wrong with it."""
    try:
        if "%" in text:
            raise ValueError
        loose = ip_network(text, strict=False)
    except ValueError:
        return f"{text!r} is no subnet: write it as {'192.0.2.0/24' if version == 4 else '2001:db8::/64'}"
    if loose.version != version:
        return f"{text} is no IPv{version} subnet"
    if str(loose) != str(_written(text)):
        return f"{text} is an address in a subnet: the subnet is {loose}"
    if loose.is_multicast or loose.is_loopback or loose.is_link_local or loose.prefixlen == 0:
        return f"{text} cannot be the subnet of a network of VMs"
    if loose.num_addresses < 4:
        return f"{text} is too small for a network: it needs room for a gateway and a VM"
    return loose


def _written(text: str) -> Subnet | None:
    try:
        return ip_network(text)
    except ValueError:
        return None


def _gateway(text: str, subnet: Subnet) -> Iterator[str]:
    try:
        if "%" in text:
            raise ValueError
        gateway: IPv4Address | IPv6Address = ip_address(text)
    except ValueError:
        yield f"the gateway {text!r} is no address"
        return
    if gateway not in subnet:
        yield f"the gateway {gateway} is not in the subnet {subnet}"
    elif gateway == subnet.network_address or (subnet.version == 4 and gateway == subnet.broadcast_address):
        yield f"the gateway {gateway} is no address of a host in {subnet}"


def _conflicts(network: Network, others: Sequence[Network]) -> Iterator[str]:
    for other in others:
        if other.name == network.name:
            continue
        if network.vni is not None and other.vni == network.vni:
            yield f"VNI {network.vni} is that of network {other.name}"
        if network.device and (other.device, other.vlan) == (network.device, network.vlan):
            part = f"VLAN {network.vlan} of {network.device}" if network.vlan else f"device {network.device}"
            yield f"{part} carries network {other.name} already"
        for own, theirs in ((network.ipv4, other.ipv4), (network.ipv6, other.ipv6)):
            if own is not None and theirs is not None and _overlap(own, theirs):
                yield f"subnet {own} overlaps {theirs} of network {other.name}"


def _overlap(one: str, other: str) -> bool:
    first, second = _written(one), _written(other)
    return first is not None and second is not None and first.version == second.version and _share(first, second)


def _share(first: Subnet, second: Subnet) -> bool:
    return first.network_address in second or second.network_address in first
