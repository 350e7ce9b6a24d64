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
    "parallel": {
        "type": "integer",
        "min": 1,
        "max": 64,
        "default": 4,
        "meta": {"help": "How many tasks, such as imports, this node carries out at the same time; others wait."},
    },
    "ceph": {
        "type": "dict",
        "schema": {
            "conf": {
                "type": "string",
                "default": "/etc/ceph/ceph.conf",
                "check_with": "absolute_path",
                "meta": {"help": "Where Ceph's own configuration is.", "allowed": "an absolute path"},
            },
            "user": {
                "type": "string",
                "default": "admin",
                "minlength": 1,
                "meta": {
                    "help": "The client as which pvcd speaks to Ceph, without `client.`; its keyring is where Ceph's"
                    " configuration says."
                },
            },
            "deadline": {
                "type": "number",
                "min": 1,
                "max": 600,
                "default": 15.0,
                "meta": {
                    "help": "Time in which Ceph has to answer before it counts as hanging.",
                    "unit": "s",
                },
            },
            "osd_method": {
                "type": "string",
                "allowed": ["lvm", "raw"],
                "default": "lvm",
                "meta": {
                    "help": "How ceph-volume makes OSDs of this node: on a logical volume, or on the bare device, which"
                    " the machine then does not start by itself."
                },
            },
        },
        "default": {},
        "meta": {"help": "How this node reaches Ceph; needed only where a pool or an OSD of it is."},
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
class CephSettings:
    """How a node reaches Ceph."""

    conf: str = "/etc/ceph/ceph.conf"
    user: str = "admin"
    deadline: float = 15.0
    """Seconds."""
    osd_method: str = "lvm"
    """`lvm` or `raw`."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The section, typed. Keys and units as in SCHEMA."""

    directories: Mapping[str, Directory] = field(default_factory=dict)
    interval: float = 10.0
    deadline: float = 5.0
    nearly_full: int = 90
    parallel: int = 4
    ceph: CephSettings = CephSettings()


def settings_from(section: Mapping[str, Any]) -> Settings:
    """The settings that a validated section holds."""
    return Settings(
        directories={name: Directory(**entry) for name, entry in section["directories"].items()},
        interval=float(section["interval"]),
        deadline=float(section["deadline"]),
        nearly_full=section["nearly_full"],
        parallel=section["parallel"],
        ceph=CephSettings(**section["ceph"]),
    )
