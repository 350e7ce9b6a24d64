"""The daemons of a lab: how each is started and how one sees that it really works."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvc.lab import settings
from pvc.lab.ceph import MEMORY
from pvc.lab.errors import LabError
from pvc.lab.settings import SHARED
from pvc.lab.shape import Host, Kind, Shape

ZOOKEEPER_CLASSES = "/usr/share/java/slf4j-simple.jar:/usr/share/java/zookeeper.jar"
"""The second names all it needs but a logger; this one writes to standard error."""

PRIVATE = {
    "run": "/run/libvirt",
    "lib": "/var/lib/libvirt",
    "log": "/var/log/libvirt",
    "cache": "/var/cache/libvirt",
    "etc-libvirt": "/etc/libvirt",
    "etc-pvc": "/etc/pvc",
    "run-pvc": "/run/pvc",
}
"""A node's own directories, see `directories_of`."""

SHARED_DIRECTORY, SHARED_SHIM = "shared", "shared.so"
"""In the lab's state directory: what the hosts share, and what has libvirt know it; see kernel/shared.c."""

CEPH_CLIENT = {"etc-ceph": "/etc/ceph"}
CEPH_NODE = {**CEPH_CLIENT, "lib-ceph": "/var/lib/ceph", "log-ceph": "/var/log/ceph", "run-ceph": "/run/ceph"}
"""The same of who uses Ceph, and of a node that may have OSDs. Daemons of the lab keep their own things elsewhere."""
CEPH_DAEMONS = ("mon", "mgr", "osd")

LOST_AT_BOOT = ("run", "run-pvc", "run-ceph")
"""Those of them that a real machine empties when it boots."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """One program that runs on one host."""

    name: str
    host: Host
    command: tuple[str, ...]
    ready: tuple[str, ...]
    """A command on that host whose exit code 0 and output with `sign` says that the daemon works; empty: not known.

    It has a time limit of its own: a server that is just starting may take a connection and never answer it.
    """
    sign: str = ""


def daemons(shape: Shape, state: Path) -> tuple[Daemon, ...]:
    """All daemons of a lab, those that others need first."""
    servers = [zookeeper(host, state) for host in shape.of_kind(Kind.ZOOKEEPER)]
    nodes = shape.of_kind(Kind.NODE)
    return (
        *servers,
        *(monitor(host, state) for host in shape.of_kind(Kind.CEPH)),
        *(mgr(host, state) for host in shape.of_kind(Kind.CEPH)),
        *(osd(number, host, state) for number, host in enumerate(shape.osd_hosts())),
        *(libvirtd(host, state, shared=shape.storage) for host in nodes),
        *(pvcd(host) for host in nodes if not shape.bare),
    )


def zookeeper(host: Host, state: Path) -> Daemon:
    """A ZooKeeper server, tuned to start fast and to write without waiting for the disk."""
    directory = state / host.name
    options = ["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dzookeeper.forceSync=no"]
    logger = ["-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS"]
    main = ["org.apache.zookeeper.server.quorum.QuorumPeerMain", str(directory / "zoo.cfg")]
    ask = f"echo srvr | busybox nc {host.address} 2181"
    command = ("java", *options, *logger, "-cp", ZOOKEEPER_CLASSES, *main)
    return Daemon("zookeeper", host, command, ("timeout", "3", "sh", "-c", ask), "Mode: ")


def libvirtd(host: Host, state: Path, *, shared: bool) -> Daemon:
    """libvirtd; it works once it knows what QEMU can do, which it finds out when first asked."""
    shim = ("env", f"LD_PRELOAD={state / SHARED_SHIM}") if shared else ()
    command = (*shim, "libvirtd", "--listen", "--pid-file", "/run/libvirt/libvirtd.pid")
    ask = (
        "timeout",
        "20",
        "virsh",
        "--connect",
        "qemu:///system",
        "domcapabilities",
        "--virttype",
        "qemu",
        "--machine",
        "pc",
    )
    return Daemon("libvirtd", host, command, ask, "<machine>")


def monitor(host: Host, state: Path) -> Daemon:
    """Ceph's monitor; it works once it leads, for it is the only one."""
    return _ceph("mon", "a", host, state, _own_words("mon.a", state, "mon_status"), '"state": "leader"')


def mgr(host: Host, state: Path) -> Daemon:
    """Ceph's manager; it works once it answers as the one that the monitor sends people to."""
    ask = ("ceph", "-c", str(ceph_directory(state) / "ceph.conf"), "tell", "mgr.x", "version")
    return _ceph("mgr", "x", host, state, ask, '"version"')


def osd(number: int, host: Host, state: Path) -> Daemon:
    """One of Ceph's OSDs; it works once it has its place in the cluster's map."""
    return _ceph("osd", str(number), host, state, _own_words(f"osd.{number}", state, "status"), '"state": "active"')


def _ceph(kind: str, identity: str, host: Host, state: Path, ask: Sequence[str], sign: str) -> Daemon:
    conf = str(ceph_directory(state) / "ceph.conf")
    command = ("env", *MEMORY, f"ceph-{kind}", "-f", "-i", identity, "-c", conf)
    return Daemon(kind, host, command, ("timeout", "10", *ask), sign)


def _own_words(name: str, state: Path, question: str) -> Sequence[str]:
    """Asks a daemon of Ceph itself, past the cluster."""
    return ("ceph", "--admin-daemon", str(ceph_directory(state) / "run" / f"ceph-{name}.asok"), question)


def ceph_directory(state: Path) -> Path:
    """Where the Ceph cluster of a lab is."""
    return state / "ceph"


def pvcd(host: Host) -> Daemon:
    """The product's daemon. Whether it works only the cluster can tell: its node is alive there."""
    return Daemon("pvcd", host, (str(program("pvcd")), "--config", "/etc/pvc/pvc.yaml"), ())


def program(name: str) -> Path:
    """A program of this installation. Raises LabError later, where it is used, not here."""
    return Path(sys.executable).with_name(name)


def require_programs(names: Sequence[str]) -> None:
    """Raises LabError if a program of this installation is missing."""
    for name in names:
        if not program(name).exists():
            raise LabError(f"{program(name)} is missing; install the package there: `pip install -e .`, or use --bare")


def write_host(shape: Shape, lab: str, host: Host, state: Path) -> None:
    """Make a host's directory and write what it and its daemons read."""
    (state / host.name).mkdir()
    (state / host.name / "machine-id").write_text(settings.machine_id_text(lab, host))
    if host.kind is Kind.ZOOKEEPER:
        _write_zookeeper(shape, host, state)
    elif host.kind is Kind.NODE:
        _write_node(shape, lab, host, state)
    elif host.kind is Kind.CLIENT:
        for name in directories_of(shape, host):
            (state / host.name / name).mkdir()
        client_file(host, state).write_text(settings.client_text(shape))


def _write_zookeeper(shape: Shape, host: Host, state: Path) -> None:
    data = state / host.name / "data"
    data.mkdir(parents=True, exist_ok=True)
    (data / "myid").write_text(f"{host.number}\n")
    (state / host.name / "zoo.cfg").write_text(settings.zookeeper_text(shape, data))


def _write_node(shape: Shape, lab: str, host: Host, state: Path) -> None:
    directory = state / host.name
    for name in directories_of(shape, host):
        (directory / name).mkdir(parents=True, exist_ok=True)
    (directory / "etc-libvirt" / "libvirtd.conf").write_text(settings.libvirtd_text(lab, host))
    (directory / "etc-libvirt" / "qemu.conf").write_text(settings.qemu_text())
    (directory / "etc-pvc" / "pvc.yaml").write_text(settings.pvc_text(shape, host))


def client_file(host: Host, state: Path) -> Path:
    """The client's pvc.yaml."""
    return state / host.name / "pvc.yaml"


def directories_of(shape: Shape, host: Host) -> Mapping[str, str]:
    """A host's own directories: name in its state directory, and what it lies over."""
    if host.kind is Kind.NODE:
        return {**PRIVATE, **CEPH_NODE} if shape.ceph else PRIVATE
    return CEPH_CLIENT if shape.ceph and host.kind is Kind.CLIENT else {}


def binds(shape: Shape, host: Host, state: Path) -> Mapping[Path, str]:
    """What is bound over what on a host."""
    own = state / host.name
    return {
        own / "machine-id": "/etc/machine-id",
        **{own / name: target for name, target in directories_of(shape, host).items()},
        **({state / SHARED_DIRECTORY: SHARED} if shape.storage else {}),
    }
