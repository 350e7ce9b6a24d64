"""The `storage` section of pvc.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SECTION = "storage"

SCHEMA: dict[str, Any] = {
    "directories": {
        "type": "dict",
        "keysrules": {
            "type": "string",
            "check_with": "name",
            "meta": {"allowed": "lower-case letters, digits and inner dashes, 63 characters at most"},
        },
        "valuesrules": {
            "type": "dict",
            "schema": {
                "path": {
                    "type": "string",
                    "required": True,
                    "check_with": "absolute_path",
                    "meta": {"help": "Where the directory is, the same on every node.", "allowed": "an absolute path"},
                },
                "mount": {
                    "type": "boolean",
                    "default": True,
                    "meta": {
                        "help": "Something must be mounted there: without it the directory below is not the shared one."
                    },
                },
            },
        },
        "default": {},
        "meta": {
            "help": "Shared directories that hold disks of VMs, by a name of choice.",
            "allowed": "a mapping of names to directories",
        },
    },
    "interval": {
        "type": "number",
        "min": 0.5,
        "max": 3600,
        "default": 10.0,
        "meta": {"help": "Time between two looks at a directory.", "unit": "s"},
    },
    "deadline": {
        "type": "number",
        "min": 0.5,
        "max": 600,
        "default": 5.0,
        "meta": {"help": "Time in which a directory has to answer before it counts as unusable.", "unit": "s"},
    },
    "nearly_full": {
        "type": "integer",
        "min": 1,
        "max": 100,
        "default": 90,
        "meta": {"help": "A directory that is full to this part is reported.", "unit": "%"},
    },
}


@dataclass(frozen=True, slots=True)
class Directory:
    """One entry of `directories`."""

    path: str
    mount: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """The section, typed. Keys and units as in SCHEMA."""

    directories: Mapping[str, Directory] = field(default_factory=dict)
    interval: float = 10.0
    deadline: float = 5.0
    nearly_full: int = 90


def settings_from(section: Mapping[str, Any]) -> Settings:
    """The settings that a validated section holds."""
    return Settings(
        directories={name: Directory(**entry) for name, entry in section["directories"].items()},
        interval=float(section["interval"]),
        deadline=float(section["deadline"]),
        nearly_full=section["nearly_full"],
    )
