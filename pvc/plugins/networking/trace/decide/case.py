"""What a trace is judged from, and what the judgement consists of. Values only."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from pvc.core.model import Node, Vm, VmActual
from pvc.plugins.networking.decide.attachment import NetworkState
from pvc.plugins.networking.firewall.rules import Acl, Protocol
from pvc.plugins.networking.records import Gateway, Lease, Network, NetworkKind, Ports
from pvc.plugins.networking.trace.decide.interfaces import Interface
from pvc.plugins.networking.trace.records import Answer, NetworkSeen, PortSeen

Address = IPv4Address | IPv6Address


class Result(Enum):
    """How a step of the way is."""

    OK = "ok"
    BROKEN = "broken"
    UNKNOWN = "not known"


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the way."""

    what: str
    result: Result
    seen: str
    advice: str = ""
    vm: str = ""
    network: str = ""
    node: str = ""


@dataclass(frozen=True, slots=True)
class Probe:
    """The packet that rules are asked about."""

    protocol: Protocol = Protocol.ICMP
    port: int | None = None
    """Of the destination."""


@dataclass(frozen=True, slots=True)
class End:
    """A VM at one end of the way."""

    vm: Vm
    actual: VmActual
    interfaces: tuple[Interface, ...] = ()
    """By its definition."""
    macs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By network those that are known without asking its node."""


@dataclass(frozen=True, slots=True)
class Case:
    """Everything that is known of one way."""

    ends: tuple[End, ...]
    """The VM, and with another end that one."""
    networks: Mapping[str, Network | None]
    """Those that are followed; None: the network does not exist, or its record cannot be read."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    """Those with the role."""
    states: Mapping[str, Mapping[str, NetworkState]] = field(default_factory=dict)
    """What each node publishes of each network."""
    ports: Mapping[str, Mapping[str, Ports]] = field(default_factory=dict)
    """By network and node."""
    gateways: Mapping[str, Gateway] = field(default_factory=dict)
    tickets: frozenset[str] = frozenset()
    """Networks whose gateway somebody has the right to be."""
    gateway_macs: Mapping[str, str] = field(default_factory=dict)
    """By network; none: not known."""
    leases: Mapping[str, Mapping[str, Lease]] = field(default_factory=dict)
    """By network and MAC address."""
    acls: Mapping[str, Acl | None] = field(default_factory=dict)
    """None: the record cannot be read."""
    asked: frozenset[str] = frozenset()
    """Nodes."""
    answers: Mapping[str, Answer | str] = field(default_factory=dict)
    """By node that was asked; text: why it has not answered."""
    address: Address | None = None
    """Where the way leads, if that was said as an address."""

    def answer(self, node: str | None) -> Answer | None:
        """What a node has answered."""
        found = self.answers.get(node or "")
        return found if isinstance(found, Answer) else None

    def seen(self, node: str | None, network: str) -> NetworkSeen | None:
        """What a node has answered of a network."""
        answer = self.answer(node)
        return None if answer is None else answer.networks.get(network)

    def is_managed(self, network: str) -> bool:
        """Whether tunnels carry that network."""
        record = self.networks.get(network)
        return record is not None and record.kind is NetworkKind.MANAGED

    def opposite(self, end: End) -> End | None:
        """The other end, if there is one."""
        return next((one for one in self.ends if one is not end), None)


def addresses_of(lease: Lease) -> list[Address]:
    """The addresses that belong to a MAC address; not what is none."""
    found: list[Address] = []
    for text in (lease.ipv4, lease.ipv6):
        with suppress(ValueError):
            found.append(ip_address(text or ""))
    return found


@dataclass(frozen=True, slots=True)
class Hop:
    """One end on one network, on the node that it runs on."""

    case: Case
    end: End
    network: str
    node: str

    @property
    def record(self) -> Network | None:
        """Of the network."""
        return self.case.networks.get(self.network)

    @property
    def state(self) -> NetworkState:
        """As its node publishes the network; nothing, if it has not."""
        return self.case.states.get(self.node, {}).get(self.network, NetworkState())

    @property
    def seen(self) -> NetworkSeen | None:
        """What its node sees of the network."""
        return self.case.seen(self.node, self.network)

    def ports(self) -> list[PortSeen]:
        """The VM's interfaces on the network, as they are live."""
        answer = self.case.answer(self.node)
        mine = [] if answer is None else answer.ports
        return [port for port in mine if (port.uuid, port.network) == (self.end.vm.uuid, self.network)]

    def macs(self) -> list[str]:
        """The VM's MAC addresses on the network: as they are live, else as far as they are known."""
        return [port.mac for port in self.ports()] or list(self.end.macs.get(self.network, ()))

    def peers(self) -> Iterator[str]:
        """The other nodes that send to this end: where the other end and the gateway are, or everybody."""
        other, gateway = self.case.opposite(self.end), self.case.gateways.get(self.network)
        found: set[str | None] = set()
        if other is None:
            found.update(self.case.asked)
        elif any(one.network == self.network for one in other.interfaces):
            found.add(other.actual.node)
        if gateway is not None:
            found.add(gateway.node)
        yield from sorted(node for node in found if node and node in self.case.nodes and node != self.node)

    def step(self, what: str, result: Result, seen: str, advice: str = "", node: str | None = None) -> Step:
        """A step of this hop, on its own node if no other is named."""
        return Step(what, result, seen, advice, self.end.vm.name, self.network, self.node if node is None else node)

    def ok(self, what: str, seen: str, node: str | None = None) -> Step:
        """A step that is as it should be."""
        return self.step(what, Result.OK, seen, node=node)

    def broken(self, what: str, seen: str, advice: str, node: str | None = None) -> Step:
        """A step at which the way ends."""
        return self.step(what, Result.BROKEN, seen, advice, node)

    def unknown(self, what: str, seen: str, advice: str = "", node: str | None = None) -> Step:
        """A step of which nobody can tell."""
        return self.step(what, Result.UNKNOWN, seen, advice, node)
