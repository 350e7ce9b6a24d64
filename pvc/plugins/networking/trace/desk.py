"""Answers what clients ask of this node: a fresh look at its devices, and what the role's other parts know.

Judges nothing, and opens the kernel's door for the time of one answer only.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TypeVar

from pvc.core.context import Context
from pvc.core.coordination import Conflict, Disconnected, Put, TooLarge
from pvc.core.errors import PvcError
from pvc.core.mirror import Mirror
from pvc.core.observers import HERE, VmEvent
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Inbox, Signal
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import FLOOD, Dataplane, Seen
from pvc.plugins.networking.decide.dataplane import TUNNEL, VLAN, bridge_of
from pvc.plugins.networking.firewall.packetfilter import Count
from pvc.plugins.networking.gateway.routers import Host, RouterState
from pvc.plugins.networking.records import Network, NetworkKind
from pvc.plugins.networking.trace.decide.interfaces import Interface, interfaces_of
from pvc.plugins.networking.trace.records import Answer, Inquiry, NetworkSeen, PortSeen

LOOK = 60.0
"""Seconds between looks for a question that no watch has told of."""
LATE = 1.0
"""Seconds to the next try while this daemon does not hold its node's name."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Parts:
    """What other parts of the role can tell; None: it is not known. Called on the desk's own thread."""

    refusal: Callable[[str], str | None] | None = None
    """Why a network's firewall rules are not in force; empty: they are; None: not known yet."""
    counts: Callable[[], Mapping[str, Count]] | None = None
    """As of PacketFilter."""
    routers: Callable[[], Mapping[str, RouterState]] | None = None
    """As of Routers' `glance`."""
    hosts: Callable[[str], Collection[Host]] | None = None
    """What DHCP of a network's router on this node was given."""


class TraceDesk:
    """Service `trace`; also an observer of VMs, whose devices it learns from their live definitions."""

    name = "trace"
    after: tuple[str, ...] = ("liveness",)

    def __init__(self, context: Context, open_dataplane: Callable[[], Dataplane], parts: Parts | None = None) -> None:
        self.wake: Signal = context.runtime.signal()
        self._path = keys.node_trace(context.node)
        self._context = context
        self._log: logging.Logger = context.log
        self._open = open_dataplane
        self._parts = parts or Parts()
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._inbox: Inbox[VmEvent] = Inbox(self.wake)
        self._guests: dict[str, tuple[str, tuple[Interface, ...]]] = {}

    def vm_changed(self, event: VmEvent) -> None:
        """See VmObserver."""
        self._inbox.put(event)

    def step(self) -> float:
        for event in self._inbox.drain():
            self._guests.pop(event.uuid, None)
            if event.change in HERE:
                self._guests[event.uuid] = event.name, interfaces_of(event.xml)
        if not self._context.registered():
            return LATE
        znode = self._mirror.get(self._path)
        inquiry = None if znode is None else _inquiry(znode.data, self._path)
        if znode is not None and inquiry is not None and inquiry.open:
            self._answer(inquiry, znode.version)
        return LOOK

    def stop(self) -> None:
        """Nothing is held between answers."""

    def _answer(self, inquiry: Inquiry, version: int) -> None:
        try:
            answered = replace(inquiry, answer=self._seen(inquiry))
        except Disconnected:  # it stays open until there is a connection again, or goes with its client
            raise
        except PvcError as error:
            answered = replace(inquiry, error=str(error))
        except Exception as error:  # the one who asked must not wait in vain
            self._log.exception("trace")
            answered = replace(inquiry, error=f"it failed with {error!r}; see its log")
        try:
            self._put(answered, version)
        except TooLarge as error:
            self._put(replace(inquiry, error=str(error)), version)

    def _put(self, answered: Inquiry, version: int) -> None:
        try:
            self._context.coordinator.commit([Put(self._path, encode(answered), version)])
        except Conflict:  # whoever asked has gone
            self._log.debug("the question was withdrawn")
        self._mirror.drop(self._path)

    def _seen(self, inquiry: Inquiry) -> Answer:
        """Raises DataplaneError, Disconnected."""
        with closing(self._open()) as dataplane:
            seen = dataplane.look()
            ports = tuple(self._ports(inquiry, seen))
        counts, routers = _told(self._parts.counts), _told(self._parts.routers)
        return Answer(ports, {name: self._network(name, inquiry, seen, counts, routers) for name in inquiry.macs})

    def _ports(self, inquiry: Inquiry, seen: Seen) -> Iterator[PortSeen]:
        for uuid, (vm, interfaces) in sorted(self._guests.items()):
            for one in interfaces:
                if uuid in inquiry.vms or one.mac in inquiry.macs.get(one.network, ()):
                    link = seen.links.get(one.device)
                    yield PortSeen(uuid, vm, one.network, one.mac, one.device, link, seen.traffic.get(one.device))

    def _network(
        self,
        name: str,
        inquiry: Inquiry,
        seen: Seen,
        counts: Mapping[str, Count] | None,
        routers: Mapping[str, RouterState] | None,
    ) -> NetworkSeen:
        macs, tunnel = inquiry.macs[name], f"{TUNNEL}{name}"
        entries = sorted(seen.forwarding.get(tunnel, ()), key=lambda entry: (entry.mac, entry.address))
        refusal, hosts = self._parts.refusal, self._parts.hosts
        known = None if hosts is None else _told(lambda: hosts(name))
        return NetworkSeen(
            bridge=seen.links.get(bridge_of(name)),
            carrier=seen.links.get(self._carrier(name, seen)),
            forwarding=tuple(entry for entry in entries if entry.mac == FLOOD or entry.mac in macs),
            refusal=None if refusal is None else _told(lambda: refusal(name)),
            counts=None if counts is None else _of_network(name, counts),
            routers_known=routers is not None,
            router=None if routers is None else routers.get(name),
            hosts=None if known is None else tuple(sorted(host.mac for host in known if host.mac in macs)),
        )

    def _carrier(self, name: str, seen: Seen) -> str:
        """The device that leads out of the node."""
        for device in (f"{TUNNEL}{name}", f"{VLAN}{name}"):
            if device in seen.links:
                return device
        path = keys.network(name)
        znode = self._mirror.get(path)
        try:
            network = None if znode is None else decode(Network, znode.data, path)
        except Garbage:
            return ""
        bridged = network is not None and network.kind is NetworkKind.BRIDGED and network.vlan is None
        return network.device if network is not None and bridged else ""


def _of_network(name: str, counts: Mapping[str, Count]) -> dict[str, Count]:
    return {rule: count for rule, count in counts.items() if rule.startswith(f"{name} ")}


def _told(ask: Callable[[], T] | None) -> T | None:
    """What a part tells; None if it cannot: the rest is answered all the same. Raises Disconnected."""
    try:
        return None if ask is None else ask()
    except Disconnected:
        raise
    except PvcError:
        return None


def _inquiry(data: bytes, path: str) -> Inquiry | None:
    try:
        return decode(Inquiry, data, path)
    except Garbage:  # of another version: it goes with its client
        return None
