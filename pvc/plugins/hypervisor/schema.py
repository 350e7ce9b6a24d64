"""The `hypervisor` section of pvc.yaml."""

from typing import Any

from pvc.plugins.hypervisor.decide.planner import Selector

SECTION = "hypervisor"

_MIGRATION: dict[str, Any] = {
    "uri": {
        "type": "string",
        "check_with": "uri_template",
        "default": "qemu+tcp://{address}/system",
        "meta": {
            "help": "How this node's libvirt reaches the target's. {address} and {node} stand for the target's. The "
            "default is not encrypted: use qemu+tls or qemu+ssh outside a trusted network."
        },
    },
    "parallel": {
        "type": "integer",
        "min": 1,
        "default": 1,
        "meta": {"help": "How many VMs a flush moves at the same time.", "unit": "VMs"},
    },
    "inbound": {
        "type": "integer",
        "min": 1,
        "nullable": True,
        "default": 3,
        "meta": {
            "help": "How many VMs flushes send to this node at the same time, all together; null for any number.",
            "unit": "VMs",
        },
    },
    "retries": {
        "type": "integer",
        "min": 0,
        "default": 2,
        "meta": {"help": "How many further targets a flush tries for a VM whose move failed.", "unit": "targets"},
    },
    "bandwidth": {
        "type": "integer",
        "min": 1,
        "nullable": True,
        "default": None,
        "meta": {"per_vm": True, "help": "Cap on the transfer rate of one migration; null for none.", "unit": "MiB/s"},
    },
    "downtime": {
        "type": "list",
        "schema": {"type": "float", "min": 0.001, "max": 2000},
        "minlength": 1,
        "default": [0.3, 0.6, 1.2],
        "meta": {
            "per_vm": True,
            "help": "Longest pause of the guest at the end of a migration: the first value at first, the next ones "
            "as the migration does not converge.",
            "unit": "seconds",
        },
    },
    "auto_converge": {
        "type": "boolean",
        "default": True,
        "meta": {"per_vm": True, "help": "Slow a guest down that changes its memory faster than it can be copied."},
    },
    "post_copy": {
        "type": "boolean",
        "default": False,
        "meta": {
            "per_vm": True,
            "help": "As the last resort let the guest run on the target before all its memory is there. It always "
            "ends, but the guest is lost if either node or the network fails meanwhile.",
        },
    },
    "connections": {
        "type": "integer",
        "min": 1,
        "max": 255,
        "default": 1,
        "meta": {
            "per_vm": True,
            "help": "Parallel connections for the memory of one VM. Where post_copy is allowed it is one all the same: "
            "QEMU does not bear both.",
            "unit": "connections",
        },
    },
    "tls": {
        "type": "boolean",
        "default": False,
        "meta": {
            "help": "Encrypt the memory on its way; QEMU needs certificates for that (migrate_tls_x509_cert_dir in "
            "qemu.conf). The scheme of `uri` says how the control connection is protected."
        },
    },
    "deadline_per_gib": {
        "type": "float",
        "min": 1,
        "default": 60.0,
        "meta": {
            "per_vm": True,
            "help": "Time that a migration may take for each GiB of memory (at least one GiB is counted); then it is "
            "aborted, or switched to post-copy where allowed.",
            "unit": "seconds",
        },
    },
}

_PLACEMENT: dict[str, Any] = {
    "selector": {
        "type": "string",
        "allowed": [selector.value for selector in Selector],
        "default": "mem",
        "meta": {
            "help": "Which node is best for a VM: mem (most memory free), vcpus (fewest virtual processors for each of "
            "its own), load (lowest load for each processor) or vms (fewest VMs).",
            "per_vm": True,
        },
    },
    "head_room": {
        "type": "integer",
        "min": 0,
        "default": 0,
        "meta": {
            "help": "Memory that stays free on a node when VMs are sent there; a VM that comes home may use it.",
            "unit": "MiB",
        },
    },
}

SCHEMA: dict[str, Any] = {
    "uri": {
        "type": "string",
        "default": "qemu:///system",
        "meta": {"help": "The libvirt that runs this node's VMs."},
    },
    "memory": {
        "type": "integer",
        "min": 1,
        "nullable": True,
        "default": None,
        "meta": {
            "live": True,
            "help": "Memory that VMs may use on this node; null: all of it but `reserve`.",
            "unit": "MiB",
        },
    },
    "reserve": {
        "type": "integer",
        "min": 0,
        "default": 512,
        "meta": {"live": True, "help": "Memory kept for the host itself when `memory` is not set.", "unit": "MiB"},
    },
    "shutdown_timeout": {
        "type": "float",
        "min": 1,
        "default": 180.0,
        "meta": {
            "live": True,
            "help": "Time a guest gets to shut down when its policy allows a flush to shut it down; after that it "
            "stays where it is.",
            "unit": "seconds",
        },
    },
    "placement": {
        "type": "dict",
        "default": {},
        "schema": _PLACEMENT,
        "meta": {"live": True, "help": "Which node a VM goes to."},
    },
    "migration": {
        "type": "dict",
        "default": {},
        "schema": _MIGRATION,
        "meta": {"live": True, "help": "How VMs are moved while they run; a change holds for moves that begin later."},
    },
}
