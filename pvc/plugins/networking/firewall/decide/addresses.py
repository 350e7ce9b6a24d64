"""Addresses as they are typed, stored and rendered."""

import ipaddress
import re
from collections.abc import Iterable, Mapping

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SET = re.compile(r"@([a-z][a-z0-9-]{0,30})")
SET_NAMES = "a lower-case letter, then lower-case letters, digits and dashes, 31 characters at most"
ALLOWED = "an address (10.0.0.1, fd00::1), a network (10.0.0.0/8, fd00::/64) or a set of the network (@name)"


class NotAnAddress(ValueError):
    """Neither an address nor a network; the message says what is wrong and what is allowed."""


def network_of(text: str) -> Network:
    """The network that a text names, an address being a network of one. Raises NotAnAddress."""
    try:
        if "%" in text:
            raise ValueError
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_interface(text).network if "%" not in text else None
    except ValueError:
        meant = None
    if meant is not None:
        raise NotAnAddress(f"{text!r} is an address within a network; say {text.partition('/')[0]} or {meant}")
    raise NotAnAddress(f"{text!r} is no address; allowed: {ALLOWED}")


def stored(network: Network) -> str:
    """As it is stored and shown: an address without its length."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def families(networks: Iterable[Network]) -> set[int]:
    """The versions of IP that they are of."""
    return {network.version for network in networks}


def resolved(entries: Iterable[str], sets: Mapping[str, tuple[str, ...]]) -> list[Network]:
    """The networks that a rule's addresses and sets stand for. Raises NotAnAddress."""
    found: list[Network] = []
    for entry in entries:
        if not entry.startswith("@"):
            found.append(network_of(entry))
        elif entry[1:] not in sets:
            raise NotAnAddress(f"there is no set {entry}")
        else:
            found += [network_of(each) for each in sets[entry[1:]]]
    return found


def merged(networks: Iterable[Network], version: int) -> list[str]:
    """Those of one version, sorted, without overlaps: nft before 1.0.3 refuses sets in which intervals overlap."""
    if version == 4:
        four = [each for each in networks if isinstance(each, ipaddress.IPv4Network)]
        return [str(each) for each in ipaddress.collapse_addresses(four)]
    six = [each for each in networks if isinstance(each, ipaddress.IPv6Network)]
    return [str(each) for each in ipaddress.collapse_addresses(six)]
