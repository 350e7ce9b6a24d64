"""The `networking` section of pvc.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECTION = "networking"

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
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The section, typed. Keys and units as in SCHEMA."""

    bridges: tuple[str, ...] = ()
    interval: float = 5.0
    bridge_netfilter: str = "disable"


def settings_from(section: Mapping[str, Any]) -> Settings:
    """The settings that a validated section holds."""
    return Settings(tuple(section["bridges"]), float(section["interval"]), str(section["bridge_netfilter"]))
