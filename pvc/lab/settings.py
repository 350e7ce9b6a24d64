"""The texts of the configuration files of a lab's daemons. Pure: values in, text out."""

import json
import uuid
from pathlib import Path

from pvc.lab.shape import Host, Kind, Shape

LAB_HOSTS = uuid.UUID("b1f0a8de-6a3c-5c35-8f57-0a53d1c0a7f4")
CONSOLES = {"console_uri": "qemu+tcp://{address}/system"}
"""Every host of a lab reaches every libvirt like that."""
SHARED = "/mnt/shared"
"""Where every host of a lab has the directory that they share."""


def hosts_text(shape: Shape) -> str:
    """/etc/hosts of every host."""
    return "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in shape.hosts())


def machine_id_text(lab: str, host: Host) -> str:
    """/etc/machine-id of a host: its own, and the same after each boot."""
    return f"{uuid.uuid5(LAB_HOSTS, f'{lab}/{host.name}').hex}\n"


def zookeeper_text(shape: Shape, data: Path) -> str:
    """zoo.cfg; ticks of half a second allow sessions as short as one second."""
    servers = shape.of_kind(Kind.ZOOKEEPER)
    quorum = [f"server.{host.number}={host.name}:2888:3888" for host in servers] if len(servers) > 1 else []
    lines = [
        f"dataDir={data}",
        "clientPort=2181",
        "tickTime=500",
        "initLimit=20",
        "syncLimit=10",
        "maxSessionTimeout=60000",
        "maxClientCnxns=0",
        "admin.enableServer=false",
        "4lw.commands.whitelist=*",
        *quorum,
    ]
    return "\n".join(lines) + "\n"


def libvirtd_text(lab: str, host: Host) -> str:
    """libvirtd.conf: open on the lab's network, which nobody outside reaches; sockets for root only."""
    return f"""\
listen_tls = 0
listen_tcp = 1
listen_addr = "{host.address}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_rw_perms = "0700"
unix_sock_ro_perms = "0700"
host_uuid = "{uuid.uuid5(LAB_HOSTS, f"{lab}/{host.name}")}"
log_outputs = "2:stderr"
"""


def qemu_text() -> str:
    """qemu.conf: as little around QEMU as there can be in a lab."""
    return """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
dynamic_ownership = 0
"""


def client_text(shape: Shape) -> str:
    """pvc.yaml of the client: where the cluster is, and how consoles are reached."""
    return _yaml({"zookeeper": {"hosts": list(shape.zookeeper_hosts())}, "consolelog": CONSOLES})


def pvc_text(shape: Shape, host: Host) -> str:
    """pvc.yaml of a node."""
    hypervisor: dict[str, object] = {"uri": "qemu:///system"}
    if shape.node_memory is not None:
        hypervisor["memory"] = shape.node_memory
    sections: dict[str, object] = {
        "node": host.name,
        "address": host.address,
        "zookeeper": {"hosts": list(shape.zookeeper_hosts()), "session_timeout": shape.session_timeout},
        "roles": dict.fromkeys(shape.roles(host), True),
        "plugins": {"flushlock": True, "consolelog": True},
        "hypervisor": hypervisor,
        "consolelog": CONSOLES,
    }
    if "storage" in shape.roles(host):
        interval = 4 if shape.ceph else 2  # a question to Ceph costs half a second of a processor
        sections["storage"] = {"directories": {"shared": {"path": SHARED}}, "interval": interval}
    return _yaml(sections)


def _yaml(sections: dict[str, object]) -> str:
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in sections.items())
