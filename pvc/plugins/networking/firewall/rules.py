"""What a firewall rule is, and the record of a network's rules. Values only; `decide/typed.py` checks what is typed."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum


class Direction(Enum):
    """As the VM sees it."""

    IN = "in"
    """What a VM receives."""
    OUT = "out"
    """What a VM sends."""


class Action(Enum):
    """What becomes of a packet that a rule fits."""

    ACCEPT = "accept"
    DROP = "drop"
    """It vanishes."""
    REJECT = "reject"
    """It vanishes and its sender is told. Of what VMs send only: a bridge cannot answer for a VM that receives."""


class Protocol(Enum):
    """What a rule fits; `any` fits every frame, IP or not."""

    ANY = "any"
    TCP = "tcp"
    UDP = "udp"
    SCTP = "sctp"
    ICMP = "icmp"
    ICMPV6 = "icmpv6"


NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
"""Of a network: what can be part of a path of the tree and of a chain's name."""

WITH_PORTS = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)


@dataclass(frozen=True, slots=True, order=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. It fits a packet that fits all its parts; an empty part fits everything."""

    action: Action
    protocol: Protocol = Protocol.ANY
    source: tuple[str, ...] = ()
    """Addresses and networks, as Python's ipaddress writes networks, and sets of addresses as `@name`."""
    destination: tuple[str, ...] = ()
    source_ports: tuple[PortRange, ...] = ()
    ports: tuple[PortRange, ...] = ()
    """Of the destination."""
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """The rules of one direction, first come first served, and what becomes of what none of them fits."""

    default: Action = Action.ACCEPT
    """Accept or drop."""
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, slots=True)
class Acl:
    """The firewall of one network."""

    incoming: Side = Side()
    outgoing: Side = Side()
    sets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses and networks by a name that rules can use."""

    def side(self, direction: Direction) -> Side:
        """The rules of one direction."""
        return self.incoming if direction is Direction.IN else self.outgoing

    def with_side(self, direction: Direction, side: Side) -> "Acl":
        """The same with other rules in one direction."""
        return replace(self, incoming=side) if direction is Direction.IN else replace(self, outgoing=side)
