"""What the networks need of the kernel: a Protocol with two implementations, and the values it speaks in.

`netlink.py` is the real one, `pvc.testing.dataplane` the fake; tests/contract runs the same tests on both.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from pvc.core.errors import PvcError
from pvc.plugins.networking.records import Traffic

FLOOD = "00:00:00:00:00:00"
"""As the MAC address of a forwarding entry: where frames go whose receiver has no entry of its own."""


class DataplaneError(PvcError):
    """The kernel refused a change, or does not tell what there is."""


@dataclass(frozen=True, slots=True)
class Link:
    """One network device as it is."""

    name: str
    kind: str = ""
    """The kernel's word: bridge, vxlan, vlan; empty: a plain device."""
    owned: bool = False
    """It bears pvc's mark: it was made by pvc, and nothing else is ever changed or removed."""
    up: bool = False
    mtu: int = 1500
    master: str = ""
    """The bridge that it is plugged into."""
    learns: bool = True
    """As a port of a bridge: the bridge learns from it where MAC addresses are."""
    vni: int | None = None
    """Of a tunnel (vxlan)."""
    local: str = ""
    """Of a tunnel: the address that it sends from."""
    parent: str = ""
    """Of a VLAN: the device that carries it."""
    vlan: int | None = None
    speaks_ipv6: bool = False
    """The host itself may take part in IPv6 on it; asked only of what bears pvc's mark."""
    addresses: tuple[str, ...] = ()
    """The host's own addresses on it, but those of the link alone."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One forwarding entry of a tunnel: frames to this MAC address go to the node at this address."""

    mac: str
    address: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the kernel has."""

    links: Mapping[str, Link] = field(default_factory=dict)
    forwarding: Mapping[str, frozenset[Entry]] = field(default_factory=dict)
    """Of each tunnel that bears pvc's mark."""
    traffic: Mapping[str, Traffic] = field(default_factory=dict)
    """Of each device that is a port of a bridge what it has counted, as who is behind it sees that."""


@dataclass(frozen=True, slots=True)
class AddBridge:
    """Make a bridge without spanning tree that bears pvc's mark; down."""

    name: str


@dataclass(frozen=True, slots=True)
class AddTunnel:
    """Make a vxlan device that bears pvc's mark, and learns nothing by itself; down."""

    name: str
    vni: int
    local: str


@dataclass(frozen=True, slots=True)
class AddVlan:
    """Make a VLAN of a device; it bears pvc's mark; down."""

    name: str
    parent: str
    vlan: int


@dataclass(frozen=True, slots=True)
class Plug:
    """Make a device a port of a bridge."""

    name: str
    bridge: str


@dataclass(frozen=True, slots=True)
class StopLearning:
    """Have the bridge not learn from this port: what is behind it is told by forwarding entries alone."""

    name: str


@dataclass(frozen=True, slots=True)
class Mute:
    """Keep the host itself out of IPv6 on a device: a guest that plays router there must not become the host's."""

    name: str


@dataclass(frozen=True, slots=True)
class Resize:
    """Set a device's MTU, in bytes."""

    name: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Raise:
    """Switch a device on."""

    name: str


@dataclass(frozen=True, slots=True)
class Forward:
    """Add an entry to a tunnel's forwarding; of one MAC address other than FLOOD the last one counts."""

    name: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Take an entry from a tunnel's forwarding."""

    name: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a device that bears pvc's mark."""

    name: str


Change = AddBridge | AddTunnel | AddVlan | Plug | StopLearning | Mute | Resize | Raise | Forward | Withdraw | Remove


class Dataplane(Protocol):
    """The network devices of one machine."""

    def look(self) -> Seen:
        """What there is now. Raises DataplaneError."""

    def apply(self, change: Change) -> None:
        """Make one change. Raises DataplaneError; what was refused has changed nothing."""

    def apply_many(self, changes: Sequence[Change]) -> None:
        """Make many changes, far quicker than one by one. What is refused is left undone and nothing is said of it:
        look again, and `apply` what is left."""

    def close(self) -> None:
        """Give back what is held; every device stays as it is."""
