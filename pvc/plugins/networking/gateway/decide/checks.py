"""What speaks against the gateway of a network as somebody wants it; every answer names the conflict."""

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

from pvc.plugins.networking.gateway.decide.domains import domain_of, why_no_domain
from pvc.plugins.networking.gateway.decide.pools import host_range, number_of
from pvc.plugins.networking.records import Network, NetworkKind, Upstream

Interface = IPv4Interface | IPv6Interface


def gateway_problems(network: Network, others: Sequence[Network]) -> Iterator[str]:
    """Everything that speaks against what the network says of its gateway."""
    others = [other for other in others if other.name != network.name]
    if network.kind is NetworkKind.BRIDGED:
        if network.dhcp_range or network.domain or network.dns or network.upstream or not network.dhcp:
            yield "a bridged network has no gateway of the cluster: no DHCP, names, name servers and upstream"
        return
    yield from _dhcp_range(network)
    yield from _names(network, others)
    if network.upstream is not None:
        yield from _upstream(network, network.upstream, others)
    for user in used_by(network.name, others):
        yield f"network {network.name} must stay bridged: it is the upstream of network {user}"
    yield from _subnet_is_outside(network, others)


def used_by(name: str, others: Sequence[Network]) -> list[str]:
    """The networks whose upstream a network is."""
    return sorted(other.name for other in others if other.upstream is not None and other.upstream.network == name)


def upstream_address(upstream: Upstream | None, version: int) -> Interface | None:
    """The gateway's own address there with its prefix; None: it has none of that version of IP."""
    if upstream is None:
        return None
    text = upstream.ipv4 if version == 4 else upstream.ipv6
    try:
        found = None if text is None else ip_interface(text)
    except ValueError:
        return None
    return found if found is not None and found.version == version else None


def _dhcp_range(network: Network) -> Iterator[str]:
    if network.dhcp_range is None:
        return
    hosts = host_range(network.ipv4, 4)
    if hosts is None:
        yield "a range for DHCP needs an IPv4 subnet"
        return
    text = "-".join(network.dhcp_range)
    first, last = (number_of(each, 4) for each in network.dhcp_range)
    if first is None or last is None:
        yield f"{text!r} is no range of IPv4 addresses: write it as 192.0.2.100-192.0.2.199"
    elif first not in hosts or last not in hosts:
        yield f"the range {text} is not within the addresses of hosts in {network.ipv4}"
    elif first > last:
        yield f"the range {text} ends before it begins"
    elif first == last == number_of(network.ipv4_gateway, 4):
        yield f"the range {text} has no address but the gateway's"


def _names(network: Network, others: Sequence[Network]) -> Iterator[str]:
    if network.domain is not None and (why := why_no_domain(network.domain)):
        yield why
    for other in others:
        if other.kind is NetworkKind.MANAGED and domain_of(other) == domain_of(network):
            yield f"the domain {domain_of(network)} is that of network {other.name}"
    for server in network.dns:
        if _bad_address(server):
            yield f"the name server {server!r} is no address of a host"
        elif server in (network.ipv4_gateway, network.ipv6_gateway):
            yield f"the name server {server} is the gateway itself, which would ask itself for ever"


def _bad_address(text: str) -> bool:
    try:
        found = ip_address(text)
    except ValueError:
        return True
    return found.is_unspecified or found.is_multicast or found.is_loopback or "%" in text


def _upstream(network: Network, upstream: Upstream, others: Sequence[Network]) -> Iterator[str]:
    beyond = next((other for other in others if other.name == upstream.network), None)
    if beyond is None or beyond.kind is not NetworkKind.BRIDGED:
        bridged = ", ".join(other.name for other in others if other.kind is NetworkKind.BRIDGED) or "none"
        what = "does not exist" if beyond is None else "is managed"
        yield f"the upstream {upstream.network!r} {what}: name a bridged network (there are: {bridged})"
    own = {4: network.ipv4_gateway, 6: network.ipv6_gateway}
    if not any(own.values()):
        yield "an upstream needs a gateway: give the network --ipv4-gateway or --ipv6-gateway"
    found = {version: upstream_address(upstream, version) for version in (4, 6)}
    for version, text, via in ((4, upstream.ipv4, upstream.ipv4_gateway), (6, upstream.ipv6, upstream.ipv6_gateway)):
        yield from _upstream_address(version, text, found[version], via)
    if not (upstream.ipv4 or upstream.ipv6):
        yield "an upstream needs an address of the gateway there: --upstream-ipv4 or --upstream-ipv6"
    elif upstream.nat and not any(own[version] and found[version] for version in (4, 6)):
        yield "NAT needs an upstream address and a gateway of the same version of IP"
    yield from _taken_upstream([one for one in found.values() if one is not None], network, others)


def _upstream_address(version: int, text: str | None, address: Interface | None, via: str | None) -> Iterator[str]:
    if text is None:
        if via is not None:
            yield f"the upstream gateway {via} needs an IPv{version} address of our own there"
        return
    if address is None or "/" not in text or "%" in text:
        example = "192.0.2.10/24" if version == 4 else "2001:db8::10/64"
        yield f"{text!r} is no IPv{version} address with the length of its prefix: write it as {example}"
        return
    if _bad_address(str(address.ip)) or not _is_host(address, int(address.ip)):
        yield f"the upstream address {text} is no address of a host"
    if via is None:
        return
    gateway = number_of(via, version)
    if gateway is None or "%" in via:
        yield f"the upstream gateway {via!r} is no IPv{version} address"
    elif gateway == int(address.ip):
        yield f"the upstream gateway {via} is our own address there"
    elif ip_address(via).is_link_local and version == 6:
        return  # as routers of IPv6 announce themselves; it is looked for on the upstream network alone
    elif ip_address(via) not in address.network or not _is_host(address, gateway):
        yield f"the upstream gateway {via} is no address of a host in {address.network}"


def _is_host(address: Interface, number: int) -> bool:
    """Whether a host of the address's network can have this one; very small networks consist of hosts."""
    hosts = host_range(str(address.network), address.version)
    return address.network.num_addresses <= 2 or hosts is None or number in hosts


def _taken_upstream(found: Sequence[Interface], network: Network, others: Sequence[Network]) -> Iterator[str]:
    """Conflicts of our addresses there with other networks."""
    for address in found:
        for other in others:
            theirs = upstream_address(other.upstream, address.version)
            if theirs is not None and theirs.ip == address.ip:
                yield f"the upstream address {address.ip} is that of network {other.name}"
        for each in (network, *others):
            if subnet := _shared(each, address):
                yield f"the upstream's subnet {address.network} overlaps {subnet} of network {each.name}"


def _subnet_is_outside(network: Network, others: Sequence[Network]) -> Iterator[str]:
    """A subnet of VMs that is also beyond another's upstream could not be reached there."""
    for other in others:
        for version in (4, 6):
            address = upstream_address(other.upstream, version)
            if address is not None and (subnet := _shared(network, address)):
                yield f"subnet {subnet} overlaps {address.network}, which is upstream of network {other.name}"


def _shared(network: Network, address: Interface) -> str:
    """The subnet of the network that overlaps that of an address outside; empty: none does."""
    text = network.ipv4 if address.version == 4 else network.ipv6
    try:
        subnet = None if text is None else ip_network(text)
    except ValueError:
        return ""
    return "" if text is None or subnet is None or not subnet.overlaps(address.network) else text
