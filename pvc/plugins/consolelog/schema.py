"""The `consolelog` section of pvc.yaml."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pvc.core.config.overrides import overlaid, sound

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
        "meta": {
            "help": "Lines of each VM's console that the cluster keeps.",
            "unit": "lines",
            "per_vm": True,
            "live": True,
        },
    },
    "bytes": {
        "type": "integer",
        "coerce": "octets",
        "min": 16 * 1024,
        "max": 64 * 1024 * 1024,
        "default": 256 * 1024,
        "meta": {
            "help": "Bytes of each VM's console that the cluster keeps, at most.",
            "unit": "bytes",
            "per_vm": True,
            "live": True,
        },
    },
    "interval": {
        "type": "number",
        "min": 0.05,
        "max": 60,
        "default": 0.5,
        "meta": {"help": "Shortest time between two publications of one VM's console.", "unit": "s", "live": True},
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
            "per_vm": True,
            "live": True,
        },
    },
    "files": {
        "type": "dict",
        "default": {},
        "meta": {"help": "Files with everything that the node publishes, for longer than the cluster keeps it."},
        "schema": {
            "directory": {
                "type": "string",
                "check_with": "absolute_path",
                "nullable": True,
                "default": None,
                "meta": {
                    "help": "Where they are kept, on the node where the VM runs: NAME.log with what it printed, "
                    "NAME.events with what happened to it. Made if it does not exist; null: no files are kept.",
                },
            },
            "size": {
                "type": "integer",
                "coerce": "octets",
                "min": 64 * 1024,
                "default": 10 * 1024 * 1024,
                "meta": {"help": "A file that would grow beyond this is rotated.", "unit": "bytes"},
            },
            "count": {
                "type": "integer",
                "min": 1,
                "max": 1000,
                "default": 5,
                "meta": {"help": "Rotated files that are kept of each.", "unit": "files"},
            },
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
class FileSettings:
    """The section `files`. Keys and units as in SCHEMA."""

    directory: str | None = None
    size: int = 10 * 1024 * 1024
    count: int = 5


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
    files: FileSettings = FileSettings()


def settings(section: Mapping[str, Any]) -> Settings:
    """The settings that a validated section holds; what is missing has its default."""
    values = {key: section[key] for key in SCHEMA if key in section}
    if "files" in values:
        values["files"] = FileSettings(**values["files"])
    return Settings(**values)


@dataclass(frozen=True, slots=True)
class VmSettings:
    """The settings that hold for one VM, and what its own ones say that cannot be used."""

    settings: Settings
    problems: tuple[str, ...] = ()


def settings_of_vm(node: Settings, options: Mapping[str, Any]) -> VmSettings:
    """The settings of a node with a VM's own laid over them. What this version does not understand is left out."""
    usable = sound(SECTION, SCHEMA, options)
    return VmSettings(settings(overlaid(SECTION, asdict(node), usable.options)), usable.problems)
