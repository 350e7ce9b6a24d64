"""What a lab consists of: its hosts, their names and addresses, its VMs. Pure values, no I/O."""

import json
import re
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any

from pvc.lab.errors import LabError

MOST_NODES = 100
MOST_VMS = 1000
MOST_OSDS = 3
"""As many as Ceph keeps copies of everything."""
UPSTREAM = ("192.0.2.1", "2001:db8::1")
"""Addresses of the outside world, in a /24 and a /64 of those that are set aside for examples."""


class Kind(Enum):
    """What a host of the lab is there for."""

    CLIENT = "client"
    """Runs nothing: where an administrator sits."""
    ZOOKEEPER = "zookeeper"
    """Runs one ZooKeeper server."""
    NODE = "node"
    """Runs libvirtd, pvcd and VMs."""
    CEPH = "ceph"
    """Runs Ceph's monitor and manager."""
    UPSTREAM = "upstream"
    """The outside world: what the nodes' second cables lead to."""


@dataclass(frozen=True, slots=True)
class Host:
    """One machine of the lab: a set of namespaces with an address on one of the lab's networks."""

    name: str
    kind: Kind
    address: str
    """On the cluster's own network; upstream has none there: this is the one it has outside."""
    bridges: tuple[str, ...] = ("lan",)
    """What its cables lead to: `lan` from eth0, `wan`, which is outside, from eth1."""

    @property
    def number(self) -> int:
        """Its place among the hosts of its kind, from 1."""
        return int(re.sub(r"\D", "", self.name) or 1)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a lab was asked to be."""

    nodes: int = 3
    vms: int = 6
    zookeepers: int = 1
    vm_image: str = "tiny"
    """`tiny`: the lab's own kernel, up in a second; `linux`: Debian's cloud kernel."""
    vm_memory: int | None = None
    """MiB per VM; None: what the image needs."""
    vm_args: str = ""
    """Added to the kernel command line of each VM."""
    node_memory: int | None = None
    """MiB that each node claims to have for VMs; None: what libvirt says."""
    bare: bool = False
    """ZooKeeper and libvirtd only: no pvcd, no VMs."""
    networking: bool = False
    """The nodes have the role, and a second cable to an outside world."""
    storage: bool = False
    """The nodes have the role, and all hosts share a directory."""
    ceph: bool = False
    """A small Ceph cluster, with OSDs on the first nodes."""
    hypervisor_only: tuple[str, ...] = ()
    """Nodes without these roles all the same."""
    session_timeout: float = 4.0
    """Seconds after which a silent pvcd counts as dead: few, so that faults are soon noticed."""

    def check(self) -> None:
        """Raises LabError for a shape that cannot be made."""
        if not 1 <= self.nodes <= MOST_NODES:
            raise LabError(f"a lab has 1 to {MOST_NODES} nodes, not {self.nodes}; choose another --nodes")
        if not 0 <= self.vms <= MOST_VMS:
            raise LabError(f"a lab has 0 to {MOST_VMS} VMs, not {self.vms}; choose another --vms")
        if self.zookeepers not in (1, 3, 5):
            raise LabError(
                f"{self.zookeepers} ZooKeeper servers make no sensible majority; choose --zookeepers 1, 3 or 5"
            )
        if self.vm_image not in ("tiny", "linux"):
            raise LabError(f"there is no VM image {self.vm_image!r}; choose --vm-image tiny or linux")
        if self.ceph and not self.storage:
            raise LabError("without --storage no node would use Ceph; add --storage, or leave --ceph out")
        if self.hypervisor_only and not (self.networking or self.storage):
            raise LabError(
                "without --networking and --storage all nodes are hypervisors only; leave --hypervisor-only out"
            )
        if self.ceph and not self.osd_hosts():
            raise LabError("no node is left for Ceph's data; name fewer nodes with --hypervisor-only")
        if unknown := sorted(set(self.hypervisor_only) - {host.name for host in self.of_kind(Kind.NODE)}):
            raise LabError(f"the lab has no node {', '.join(unknown)}; it has hv1 to hv{self.nodes}")

    def hosts(self) -> tuple[Host, ...]:
        """All hosts: the client, the ZooKeeper servers, the nodes, and what networking and Ceph take beside."""
        cables = ("lan", "wan") if self.networking else ("lan",)
        return (
            Host("client", Kind.CLIENT, "10.77.0.2"),
            *(Host(f"zk{i}", Kind.ZOOKEEPER, f"10.77.1.{i}") for i in range(1, self.zookeepers + 1)),
            *(Host(f"hv{i}", Kind.NODE, f"10.77.2.{i}", cables) for i in range(1, self.nodes + 1)),
            *([Host("ceph1", Kind.CEPH, "10.77.3.1")] if self.ceph else []),
            *([Host("upstream", Kind.UPSTREAM, UPSTREAM[0], ("wan",))] if self.networking else []),
        )

    def of_kind(self, kind: Kind) -> tuple[Host, ...]:
        """The hosts of one kind."""
        return tuple(host for host in self.hosts() if host.kind is kind)

    def host(self, name: str) -> Host:
        """The host of that name. Raises LabError if there is none."""
        for host in self.hosts():
            if host.name == name:
                return host
        names = ", ".join(host.name for host in self.hosts())
        raise LabError(f"the lab has no host {name}; it has {names}")

    def roles(self, host: Host) -> tuple[str, ...]:
        """The roles that a node has; no other host has any."""
        if host.kind is not Kind.NODE:
            return ()
        if host.name in self.hypervisor_only:
            return ("hypervisor",)
        further = {"networking": self.networking, "storage": self.storage}
        return ("hypervisor", *(role for role, on in further.items() if on))

    def osd_hosts(self) -> tuple[Host, ...]:
        """The nodes with an OSD, in the order of the OSDs' numbers."""
        able = [host for host in self.of_kind(Kind.NODE) if self.ceph and "storage" in self.roles(host)]
        return tuple(able[:MOST_OSDS])

    def placement(self) -> dict[str, str]:
        """Each VM and the node it starts on, round robin."""
        return {f"vm{i + 1}": f"hv{i % self.nodes + 1}" for i in range(self.vms)}

    def zookeeper_hosts(self) -> tuple[str, ...]:
        """host:port of each ZooKeeper server."""
        return tuple(f"{host.name}:2181" for host in self.of_kind(Kind.ZOOKEEPER))


def to_json(shape: Shape) -> str:
    """The shape as text to keep."""
    return json.dumps(asdict(shape), indent=1) + "\n"


def from_json(text: str) -> Shape:
    """The shape that was kept. Raises LabError if the text is not one."""
    try:
        kept: dict[str, Any] = json.loads(text)
        kept["hypervisor_only"] = tuple(kept["hypervisor_only"])  # JSON has lists only
        return Shape(**kept)
    except (ValueError, TypeError, KeyError) as error:
        raise LabError(f"the lab was made by another version ({error}); take it down with `pvc lab down`") from error
