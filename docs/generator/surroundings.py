"""What surrounds the programs: environment variables and files. `tests/docs` compares the names with the code."""

from collections.abc import Mapping

ENVIRONMENT: Mapping[str, tuple[str, str]] = {
    "PVC_CONFIG": ("pvc, pvcd", "The configuration file, where `--config` names none."),
    "PVC_ZOOKEEPER": (
        "pvc",
        "The servers, as `--zookeeper`: `host:port,host:port`, optionally with `/root` at the end.",
    ),
    "PVC_TRACE_HOOKS": ("pvc, pvcd", "`1`: log every call of a plugin's hook."),
    "PVC_NODE": ("set by pvc cluster roll", "For the command of `--run`: the node whose turn it is."),
    "PVC_NODE_ADDRESS": (
        "set by pvc cluster roll",
        "For the command of `--run`: the address of that node, or its name.",
    ),
    "PVC_LAB": ("set by pvc lab", "Inside of a lab: its name."),
    "PVC_LAB_DIR": ("pvc lab", "Where the labs of this machine are kept, if not in `/var/lib/pvc-lab`."),
}
"""Each variable of ours: who reads or sets it, and what it is for."""

ALIEN_ENVIRONMENT: Mapping[str, tuple[str, str]] = {
    "PAGER": ("pvc vm log", "The program that pages a log on a terminal; `less -R` if it is not set."),
    "NOTIFY_SOCKET": ("pvcd", "Set by systemd for `Type=notify`: where readiness is told."),
    "JOURNAL_STREAM": ("pvcd", "Set by systemd: log lines then carry their priority as the journal reads it."),
}
"""Variables of others that the programs read."""

FILES: Mapping[str, str] = {
    "/etc/pvc/pvc.yaml": "The configuration, where neither `--config` nor `PVC_CONFIG` names another.",
    "/etc/pvc/conf.d": "More of the configuration: its files `*.yaml`, read after the main one beside it.",
    "/etc/machine-id": "The identity of the machine: a node's name belongs to the machine that registered it.",
    "/var/log/libvirt": "Where libvirt writes the consoles of VMs (`consolelog.directory`).",
    "/var/lib/pvc-lab": "The labs of this machine (`PVC_LAB_DIR`).",
}
"""Files and directories that the programs use by themselves; others are named in the configuration."""
