"""What the data plane tells the firewall of its networks. Values only."""

from dataclasses import dataclass, field

from pvc.plugins.networking.firewall.rules import Acl


@dataclass(frozen=True, slots=True)
class Port:
    """A VM's device in a bridge. It need not exist yet: name it before the VM starts, and it is never open."""

    name: str
    mac: str
    """Of the VM's side, as in its definition."""


@dataclass(frozen=True, slots=True)
class Protection:
    """What VMs of a network may not pretend to be."""

    source_mac: bool = False
    """Each sends from its own MAC address only, in ARP as well."""
    dhcp_answers: bool = False
    """None answers as a DHCP server."""
    router_advertisements: bool = False
    """None sends router advertisements or redirects."""


MANAGED = Protection(True, True, True)
"""For a network whose addresses, leases and routers are ours."""


@dataclass(frozen=True, slots=True)
class FilteredNetwork:
    """One network on this node."""

    name: str
    bridge: str
    ports: tuple[Port, ...] = ()
    """Those of VMs only: what comes from and goes to any other port of the bridge is not filtered there."""
    acl: Acl = field(default_factory=Acl)
    protection: Protection = Protection()
    dhcp: bool = False
    """The network gives leases: a VM can ask for one whatever the rules say."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that the firewall of a node is to do."""

    networks: tuple[FilteredNetwork, ...] = ()
    fenced: str = ""
    """How the names of VMs' devices begin: one that no network names gets nothing through. Empty: it gets all."""
