"""The `networking` section of pvc.yaml."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import AddressValueError, IPv4Address
from typing import Any

SECTION = "networking"


class Fabric(Enum):
    """How nodes know where the MAC addresses of managed networks are."""

    STATIC = "static"
    """Each pvcd tells the others, and writes what they told it into the kernel."""
    EVPN = "evpn"
    """BGP: an FRR of pvc's own (`evpn/`)."""


def _is_ipv4_host(field: str, value: Any, error: Callable[[str, str], None]) -> None:
    try:
        address = IPv4Address(value)
    except AddressValueError:
        error(field, "use the IPv4 address of a neighbor")
        return
    if address.is_multicast or address.is_unspecified or address.is_loopback or int(address) == 2**32 - 1:
        error(field, f"{address} is no address of a neighbor")


_EVPN: dict[str, Any] = {
    "asn": {
        "type": "integer",
        "min": 1,
        "max": 2**32 - 2,
        "default": 65000,
        "meta": {"help": "Number of the autonomous system, the same on all nodes and neighbors (iBGP)."},
    },
    "neighbors": {
        "type": "list",
        "schema": {
            "type": "string",
            "check_with": _is_ipv4_host,
            "meta": {"allowed": "IPv4 addresses of route reflectors"},
        },
        "default": [],
        "meta": {
            "help": "Route reflectors that nodes talk to, and to nobody else; a node whose address is among them is "
            "one. Without any every node with the role talks to every other."
        },
    },
    "port": {
        "type": "integer",
        "min": 1,
        "max": 65535,
        "default": 179,
        "meta": {
            "help": "TCP port of BGP, the same on all nodes and neighbors; another one where the hosts have a bgpd of "
            "their own."
        },
    },
    "bfd": {
        "type": "boolean",
        "default": False,
        "meta": {"help": "Notice within a second rather than nine that a neighbor is gone (BFD, UDP port 3784)."},
    },
}

SCHEMA: dict[str, Any] = {
    "bridges": {
        "type": "list",
        "schema": {
            "type": "string",
            "regex": r"[^\s/:]{1,15}",
            "meta": {"allowed": "names of bridges, each of at most 15 characters without spaces, '/' and ':'"},
        },
        "default": [],
        "meta": {"help": "Linux bridges that this node should have; one that is missing or down is reported."},
    },
    "bridge_netfilter": {
        "type": "string",
        "allowed": ["disable", "leave"],
        "default": "disable",
        "meta": {
            "help": "Where the host's own rules for routed packets (iptables, ip6tables, arptables) also see what goes "
            "between VMs: disable that for all bridges of the host while the cluster has networks, or leave it."
        },
    },
    "interval": {
        "type": "number",
        "min": 0.5,
        "max": 3600,
        "default": 5.0,
        "meta": {"help": "Time between two looks at the bridges.", "unit": "s"},
    },
    "fabric": {
        "type": "string",
        "allowed": [fabric.value for fabric in Fabric],
        "default": Fabric.STATIC.value,
        "meta": {
            "help": "How nodes know where the VMs of managed networks are: static (pvcd tells them) or evpn (BGP, by "
            "Debian's package frr). The same on all nodes."
        },
    },
    "evpn": {
        "type": "dict",
        "schema": _EVPN,
        "default": {},
        "meta": {"help": "BGP EVPN between the nodes. Without effect where the fabric is static."},
    },
}


@dataclass(frozen=True, slots=True)
class EvpnSettings:
    """The part `evpn`, typed."""

    asn: int = 65000
    neighbors: tuple[str, ...] = ()
    port: int = 179
    bfd: bool = False


@dataclass(frozen=True, slots=True)
class Settings:
    """The section, typed. Keys and units as in SCHEMA."""

    bridges: tuple[str, ...] = ()
    interval: float = 5.0
    bridge_netfilter: str = "disable"
    fabric: Fabric = Fabric.STATIC
    evpn: EvpnSettings = field(default_factory=EvpnSettings)


def settings_from(section: Mapping[str, Any]) -> Settings:
    """The settings that a validated section holds."""
    evpn = section["evpn"]
    return Settings(
        tuple(section["bridges"]),
        float(section["interval"]),
        str(section["bridge_netfilter"]),
        Fabric(section["fabric"]),
        EvpnSettings(evpn["asn"], tuple(evpn["neighbors"]), evpn["port"], evpn["bfd"]),
    )
