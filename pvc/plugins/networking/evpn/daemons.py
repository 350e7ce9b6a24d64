"""What EVPN needs of FRR: a Protocol with two implementations, and the values it speaks in.

`frr.py` is the real one, `pvc.testing.frr` the fake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from pvc.core.errors import PvcError


class FrrError(PvcError):
    """A program of FRR is missing, does not start or end, or does not answer."""


class Program(Enum):
    """A daemon of FRR."""

    ZEBRA = "zebra"
    """Between BGP and the kernel: reads its bridges, writes entries of its tunnels."""
    BFDD = "bfdd"
    """Notices within a second that a peer is gone."""
    BGPD = "bgpd"
    """Talks to the other nodes."""


@dataclass(frozen=True, slots=True)
class Speaker:
    """How this node takes part, but for its peers."""

    address: str
    """The node's own IPv4 address, the only one that its bgpd listens on."""
    asn: int = 65000
    port: int = 179
    """TCP port of BGP, its own and its peers'."""
    bfd: bool = False
    reflects: bool = False
    """It hands on to its peers what it hears from others of them (a route reflector)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Which of our daemons there are."""

    running: Mapping[Program, str] = field(default_factory=dict)
    """Those that run, each with the configuration that it was started with."""
    peers: Mapping[str, bool] = field(default_factory=dict)
    """By address the peers that bgpd has, and whether its session with them is up."""


class Daemons(Protocol):
    """The daemons of FRR that are pvc's own, on one machine. They outlive pvcd."""

    def look(self) -> Seen:
        """What there is now. Raises FrrError."""

    def start(self, program: Program, text: str, speaker: Speaker) -> None:
        """Start a daemon that does not run, with this configuration. Returns when it is there. Raises FrrError."""

    def end(self, program: Program) -> None:
        """End a daemon; nothing happens if it does not run. Returns when it is gone. Raises FrrError."""

    def tell(self, commands: Sequence[str]) -> None:
        """Have bgpd take these commands, one after the other. Raises FrrError."""
