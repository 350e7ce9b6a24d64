"""The `consolelog` section of pvc.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECTION = "consolelog"

SCHEMA: dict[str, Any] = {
    "directory": {
        "type": "string",
        "check_with": "absolute_path",
        "default": "/var/log/libvirt",
        "meta": {
            "help": "Where the hypervisor writes the log files of serial consoles. A file outside is never followed.",
        },
    },
    "append": {
        "type": "string",
        "allowed": ["off", "on"],
        "default": "off",
        "meta": {
            "help": 'What the hypervisor does with the file when a VM starts or arrives: "off" begins it anew, so that '
            'files stay small; "on" keeps what is in it and lets it grow. Followers lose nothing either way. In '
            "quotes: without them YAML reads a boolean.",
            "allowed": '"off" or "on", in quotes',
        },
    },
    "lines": {
        "type": "integer",
        "min": 1,
        "max": 1_000_000,
        "default": 1000,
        "meta": {"help": "Lines of each VM's console that the cluster keeps.", "unit": "lines"},
    },
    "bytes": {
        "type": "integer",
        "coerce": "octets",
        "min": 16 * 1024,
        "max": 64 * 1024 * 1024,
        "default": 256 * 1024,
        "meta": {"help": "Bytes of each VM's console that the cluster keeps, at most.", "unit": "bytes"},
    },
    "interval": {
        "type": "number",
        "min": 0.05,
        "max": 60,
        "default": 0.5,
        "meta": {"help": "Shortest time between two publications of one VM's console.", "unit": "s"},
    },
    "max_rate": {
        "type": "integer",
        "coerce": "octets",
        "min": 4 * 1024,
        "default": 128 * 1024,
        "meta": {
            "help": "What one VM may publish in the long run; what a flood prints beyond it is skipped, and readers "
            "are told how much.",
            "unit": "bytes/s",
        },
    },
    "console_uri": {
        "type": "string",
        "check_with": "uri_template",
        "default": "qemu+ssh://{address}/system",
        "meta": {
            "help": "How `pvc console` reaches the libvirt of a VM's node. {address} and {node} stand for that node's.",
        },
    },
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The section, typed. Keys and units as in SCHEMA."""

    directory: str = "/var/log/libvirt"
    append: str = "off"
    lines: int = 1000
    bytes: int = 256 * 1024
    interval: float = 0.5
    max_rate: int = 128 * 1024
    console_uri: str = "qemu+ssh://{address}/system"


def settings(section: Mapping[str, Any]) -> Settings:
    """The settings that a validated section holds; what is missing has its default."""
    return Settings(**{key: section[key] for key in SCHEMA if key in section})
