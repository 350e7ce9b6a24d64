"""What an administrator asks of the addresses of one MAC address: the new lease, or why it cannot be."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address

from pvc.plugins.networking.gateway.decide.addresses import address_of, has_address, with_address
from pvc.plugins.networking.gateway.decide.pools import number_of, pools, why_no_host
from pvc.plugins.networking.records import Lease, Network, NetworkKind

MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")

Address = IPv4Address | IPv6Address


def why_no_mac(text: str) -> str:
    """Why that is no MAC address of a VM, in lower case; empty: it is one."""
    if not MAC.fullmatch(text):
        return f"{text!r} is no MAC address: write it as 52:54:00:12:34:56"
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        return f"{text} is no MAC address that a VM can have: its first byte must be even"
    return ""


def why_none(network: Network) -> str:
    """Why a network has no leases; empty: it can have some."""
    if network.kind is NetworkKind.BRIDGED:
        return f"network {network.name} is bridged: what it is bridged to looks after addresses"
    if network.ipv4 is None and network.ipv6 is None:
        return f"network {network.name} has no subnet; give it one with `pvc network modify {network.name}`"
    return ""


def reserved(
    network: Network, leases: Mapping[str, Lease], wanted: Lease, addresses: Sequence[str], now: float
) -> tuple[Lease, list[str]]:
    """The reservation, and all that speaks against it. What `addresses` does not say stays, or is chosen.

    `wanted`: the MAC address and the name of the VM, empty if it is not known. `now`: seconds since the epoch.
    """
    given, wrong = _parsed(addresses)
    for address in given.values():
        wrong += _objections(network, leases, wanted.mac, address)
    before = leases.get(wanted.mac, wanted)
    lease = replace(before, name=wanted.name or before.name, reserved=True, since=before.since or now)
    for version in (4, 6):
        lease = with_address(lease, version, _address(network, leases, lease, version, given.get(version)))
    if not has_address(lease) and not wrong:
        wrong.append(
            f"network {network.name} has no address to give by itself: it is full, or has no gateway or no DHCP;"
            " say which one the reservation is for"
        )
    return lease, wrong


def unreserved(lease: Lease, *, known: bool) -> Lease:
    """What becomes of a reservation: it stays with its VM as any lease does, if there is one on the network."""
    return replace(lease, reserved=False) if known else replace(lease, reserved=False, ipv4=None, ipv6=None)


def _address(
    network: Network, leases: Mapping[str, Lease], lease: Lease, version: int, given: Address | None
) -> str | None:
    """The address of this version of IP in the reservation: the one that is given, the one it has, or a free one."""
    if given is not None:
        return str(given)
    own = address_of(lease, version)
    if own is not None and not why_no_host(network, own, version):
        return own
    pool = pools(network).get(version)
    if pool is None or not network.dhcp:
        return None
    others = [address_of(other, version) for mac, other in leases.items() if mac != lease.mac]
    number = pool.choose(lease.mac, {number_of(text, version) for text in others})
    return None if number is None else pool.text(number)


def _parsed(texts: Sequence[str]) -> tuple[dict[int, Address], list[str]]:
    found: dict[int, Address] = {}
    wrong = []
    for text in texts:
        try:
            if "%" in text:
                raise ValueError
            address = ip_address(text)
        except ValueError:
            wrong.append(f"{text!r} is no IP address")
            continue
        if address.version in found:
            wrong.append(f"{found[address.version]} and {address}: at most one IPv{address.version} address")
        found[address.version] = address
    return found, wrong


def _objections(network: Network, leases: Mapping[str, Lease], mac: str, address: Address) -> list[str]:
    found = [why] if (why := why_no_host(network, str(address), address.version)) else []
    for other in leases.values():
        if other.mac == mac or number_of(address_of(other, address.version), address.version) != int(address):
            continue
        whose, what = f"{other.name or 'nobody known'} ({other.mac})", f"{network.name} {other.mac}"
        if other.reserved:
            found.append(f"{address} is reserved for {whose}; `pvc network reservation remove {what}` frees it")
        else:
            found.append(f"{address} belongs to {whose}; `pvc network lease release {what}` frees it")
    return found
