"""A lab with networking for proofs on real VMs: nodes, networks, VMs plugged into them, and the world outside."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pvc.core.threads import ThreadRuntime
from pvc.lab.cluster import Lab
from pvc.lab.shape import Kind, Shape
from tests.lab.cluster import UNHURRIED, RealCluster
from tests.lab.guests import Guest, HostSeat, Seat, until_answered


@dataclass(frozen=True)
class Site(RealCluster):
    """The product in a lab with networking. VMs have the image `linux`."""

    @property
    def upstream(self) -> HostSeat:
        """The world outside: 192.0.2.1/24 and 2001:db8::1/64, behind eth1 of each node."""
        return HostSeat(self.lab, "upstream")

    def host(self, name: str) -> HostSeat:
        """A host of the lab, to run commands on."""
        return HostSeat(self.lab, name)

    def networked_nodes(self) -> list[str]:
        """The nodes with the role."""
        shape = self.lab.shape
        return [host.name for host in shape.of_kind(Kind.NODE) if "networking" in shape.roles(host)]

    def add_network(self, name: str, *options: str) -> None:
        """`pvc network add`; returns when the network is up on every node with the role."""
        self.ok("network", "add", name, *options)
        nodes = self.networked_nodes()
        self.wait(f"{name} is up", lambda: self.ask("network", "info", name)["up"] == nodes)

    def add_guest(self, name: str, node: str, *networks: str, arguments: str = "") -> Guest:
        """Define a VM that is plugged into networks, and start it on a node.

        `arguments` go to its kernel: `address=10.1.0.5/24 router=10.1.0.1 dns=10.1.0.1` instead of DHCP,
        `ipv6.disable=1` for one that says nothing unasked.
        """
        xml = self.lab.write_vm(name, arguments=f"rate=0 {arguments}".strip(), networks=networks)
        self.ok("vm", "define", str(xml), "--node", node)
        self.ok("vm", "start", name)
        return Guest(self.lab, name)

    def remove_guest(self, guest: Guest) -> None:
        """Power a VM off and forget it."""
        self.ok("vm", "stop", guest.name, "--yes")
        self.ok("vm", "undefine", guest.name, "--yes")

    def reaches(self, seat: Seat, address: str) -> None:
        """Wait until an address answers pings from there."""
        until_answered(seat, address, ThreadRuntime())


@contextmanager
def site(
    labs_directory: Path, name: str, *, nodes: int = 3, hypervisor_only: tuple[str, ...] = (), zookeepers: int = 1
) -> Iterator[Site]:
    """A site of that name for as long as the block lasts."""
    shape = Shape(
        nodes=nodes,
        vms=0,
        zookeepers=zookeepers,
        vm_image="linux",
        networking=True,
        hypervisor_only=hypervisor_only,
        session_timeout=UNHURRIED,
    )
    lab = Lab(name, shape, directory=labs_directory)
    try:
        lab.up()
        yield Site(lab)
    finally:
        lab.down()
