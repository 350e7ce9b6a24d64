"""Keeps this node's share of the cluster's networks as it should be: reads, decides with `decide/`, changes devices.

Everything stays in place when it stops: VMs go on talking while the daemon is away.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from pvc.core.context import Context
from pvc.core.coordination import Check, Conflict, Create, Delete, Op, Put
from pvc.core.mirror import Mirror
from pvc.core.model import Finding
from pvc.core.observers import HERE, VmEvent
from pvc.core.records import Garbage, decode, encode
from pvc.core.runtime import Inbox, Signal
from pvc.plugins.networking import keys
from pvc.plugins.networking.dataplane import Dataplane, DataplaneError, Seen
from pvc.plugins.networking.decide.attachment import (
    NetworkState,
    NetworkUnusable,
    findings,
    macs_of,
    published,
)
from pvc.plugins.networking.decide.claims import claim, elsewhere
from pvc.plugins.networking.decide.dataplane import Plan, View, bridge_of, plan
from pvc.plugins.networking.decide.ports import port_named
from pvc.plugins.networking.evpn.service import EvpnService
from pvc.plugins.networking.gateway.decide.wanted import TRANSIT, has_gateway, lan_mac, transit, transit_mac
from pvc.plugins.networking.records import (
    Gateway,
    Network,
    Ports,
    Traffic,
    decoded,
    read_networks,
    read_nodes,
    read_ports,
)
from pvc.plugins.networking.schema import SECTION

LOOK = 15.0
"""Seconds between looks at the kernel when nothing else happens: somebody may have changed a device by hand."""
AGAIN = 5.0
"""Seconds to the next look while a network cannot be used: what is wrong may have been put right."""
MANY = 50
"""Changes from which on they are made all at once, before what is left is made one by one, with a reason for each."""
AWHILE = 0.3
"""Seconds for which frames to a gateway that has just begun go on being sent to all nodes."""
LATE = 1.0
"""Seconds to the next try after the tree has refused something."""
HEARSAY = 30.0
"""Seconds after the daemon's start for which MAC addresses stay claimed though no VM with them has been seen yet: the
VMs that were here before are told one by one."""


class Guard(Protocol):
    """Who decides whether VMs may be on a network, as far as devices do not: the firewall."""

    def report_to(self, listener: Signal) -> None:
        """Set `listener` whenever a judgement is another one."""

    def plugged(self, devices: Mapping[str, frozenset[str]]) -> None:
        """Hear of the VMs' devices in the bridges, by network."""

    def judgement(self, network: str) -> str | None:
        """Why VMs must not be on a network; empty: they may; None: not known yet."""


class Meter(Protocol):
    """Who adds up what VMs send and receive."""

    def counted(self, now: Mapping[str, Mapping[str, Traffic]]) -> None:
        """Hear what the kernel has counted so far, by network and device of a VM."""


class Nudge:
    """The service's signal, which keeps in mind whether it was set for more than the record of a gateway."""

    def __init__(self, signal: Signal) -> None:
        self.of_gateways = signal
        """The same service is woken by it, and need not hurry."""
        self.hurry = True

    def set(self) -> None:
        self.hurry = True
        self.of_gateways.set()

    def wait(self, timeout: float | None) -> bool:
        return self.of_gateways.wait(timeout)


class NetworkService:
    """Service `networks`; also an observer of VMs, whose MAC addresses it tells the other nodes."""

    name = "networks"
    after: tuple[str, ...] = ("liveness", "evpn")

    def __init__(
        self, context: Context, open_dataplane: Callable[[], Dataplane], guard: Guard, meter: Meter, evpn: EvpnService
    ) -> None:
        self._nudge = Nudge(context.runtime.signal())
        self.wake: Signal = self._nudge
        self._me = context.node
        self._context = context
        self._log: logging.Logger = context.log
        self._open = open_dataplane
        self._evpn = evpn
        evpn.wake_others(self.wake)
        self._dataplane: Dataplane | None = None
        self._mirror = Mirror(context.coordinator, context.runtime, self.wake)
        self._gateways = Mirror(context.coordinator, context.runtime, self._nudge.of_gateways)
        self._places: Mapping[str, Mapping[str, str]] = {}
        """By network, the node that has a MAC address, as was last looked after."""
        self._due = float("-inf")
        self._inbox: Inbox[VmEvent] = Inbox(self.wake)
        self._guests: dict[str, Mapping[str, frozenset[str]]] = {}
        self._begun = context.runtime.monotonic()
        self._heard: set[str] = set()
        self._states: Mapping[str, NetworkState] | None = None
        self._names: dict[str, str] = {}
        self._routed: frozenset[str] = frozenset()
        self._followers: list[Signal] = []
        self._guard, self._meter = guard, meter
        guard.report_to(self.wake)

    def follow(self, follower: Signal) -> None:
        """Set that signal whenever a network is up, or is not any more."""
        self._followers.append(follower)

    def route(self, networks: Collection[str]) -> None:
        """This node has, or makes ready, the gateways of these networks: what they send to must be known."""
        if frozenset(networks) != self._routed:
            self._routed = frozenset(networks)
            self.wake.set()

    def vm_changed(self, event: VmEvent) -> None:
        """See VmObserver."""
        self._inbox.put(event)

    def step(self) -> float:
        hurry, self._nudge.hurry = self._nudge.hurry, False
        if not hurry and (left := self._can_wait()) > 0:
            return left
        self._due = float("-inf")  # also if it ends by an error
        pause = self._look_after_all()
        self._due = self._context.runtime.monotonic() + pause
        return pause

    def _can_wait(self) -> float:
        """Seconds for which a change of gateways' records needs nothing done: to look at all devices takes time that
        the gateway itself needs then. What is sent to all finds it; only what was sent to one node must not go on."""
        now = self._context.runtime.monotonic()
        if now >= self._due or self._evpn.on:
            return 0.0
        networks = read_networks(self._mirror)
        places = self._known(networks, {name: self._here(name) for name in networks})["elsewhere"]
        if any(of.items() - places.get(name, {}).items() for name, of in self._places.items()):
            return 0.0
        if places != self._places:
            self._due = min(self._due, now + AWHILE)
        return self._due - now

    def _look_after_all(self) -> float:
        for event in self._inbox.drain():
            self._guests.pop(event.uuid, None)
            if event.change in HERE:
                self._guests[event.uuid] = macs_of(event.xml)
                self._heard.update(*self._guests[event.uuid].values())
                self._names.update(
                    dict.fromkeys((mac for of in self._guests[event.uuid].values() for mac in of), event.name)
                )
        if not self._context.registered():
            return LATE
        networks = read_networks(self._mirror)
        here = {name: self._here(name) for name in networks}
        told = [self._tell(name, macs) for name, macs in here.items()]
        states = self._set_up(networks, here)
        if states != self._states:
            self._note(states)
            self._states = states
            self._context.refresh_facts()
            for follower in self._followers:
                follower.set()
        if not all(told):
            return LATE
        return AGAIN if any(state.problem for state in states.values()) else LOOK

    def stop(self) -> None:
        """Devices and entries stay: VMs keep running, and other nodes keep sending."""
        if self._dataplane is not None:
            self._dataplane.close()

    def facts(self) -> Mapping[str, Any]:
        """What the node publishes; nothing before the first look."""
        return published({name: state for name, state in (self._states or {}).items() if name != TRANSIT})

    def findings(self) -> list[Finding]:
        """What is wrong with the networks on this node."""
        return findings(self._states or {})

    def bridge(self, network: str) -> tuple[str, int]:
        """The bridge to plug a VM into, and its MTU. Raises NetworkUnusable. From any thread."""
        state = (self._states or {}).get(network)
        if state is None:
            raise NetworkUnusable(
                f"network {network} is not set up on this node; `pvc network info {network}` says more"
            )
        if state.problem:
            raise NetworkUnusable(f"network {network} cannot be used on this node: {state.problem}")
        return bridge_of(network), state.mtu

    def _here(self, network: str) -> frozenset[str]:
        """The MAC addresses on a network that are on this node."""
        found = frozenset(mac for macs in self._guests.values() for mac in macs.get(network, ()))
        if self._context.runtime.monotonic() - self._begun < HEARSAY:
            found |= self._mine(network)[0].macs.keys() - self._heard
        return found

    def _mine(self, network: str) -> tuple[Ports, int | None]:
        """What this node claims, and the version of the record; None: there is none."""
        path = keys.node_ports(network, self._me)
        znode = self._mirror.get(path)
        if znode is None:
            return Ports(), None
        try:
            return decode(Ports, znode.data, path), znode.version
        except Garbage:
            return Ports(), znode.version

    def _tell(self, network: str, here: frozenset[str]) -> bool:
        """Publish the MAC addresses that are here; whether that is done. Others' are read only if there is something
        new to claim."""
        mine, version = self._mine(network)
        names = {mac: name for mac in here if (name := self._names.get(mac, mine.names.get(mac, "")))}
        if set(mine.macs) == here and names == mine.names and (here or version is None):
            return True
        others = {node: ports for node, ports in read_ports(self._mirror, network).items() if node != self._me}
        claimed = claim(here, mine, others)
        named = {mac: names[mac] for mac in claimed.macs if mac in names}
        path, data = keys.node_ports(network, self._me), encode(replace(claimed, names=named))
        change: Op = Put(path, data, version) if version is not None else Create(path, data)
        if not here and version is not None:
            change = Delete(path, version)
        try:
            self._context.coordinator.commit([Check(keys.network(network)), change])
        except Conflict as conflict:  # the network was removed meanwhile, or an answer to an earlier write was lost
            self._log.debug("network %s: %s; looking again", network, conflict)
            self._mirror.forget()
            return False
        finally:
            self._mirror.drop(path)
            self._mirror.drop(keys.ports(network))
        return True

    def _set_up(
        self, networks: Mapping[str, Network | None], here: Mapping[str, frozenset[str]]
    ) -> dict[str, NetworkState]:
        """Change what is not as it should be, and look whether it is then."""
        try:
            dataplane = self._opened()
            known = self._known(networks, here)
            self._places = known.get("elsewhere", {})
            wanted = {**networks, TRANSIT: transit()} if any(map(has_gateway, networks.values())) else networks
            before = dataplane.look()
            first = plan(View(wanted, before, **known))
            if sum(map(len, first.changes.values())) >= MANY:
                dataplane.apply_many([change for steps in first.changes.values() for change in steps])
                before = dataplane.look()
                first = plan(View(wanted, before, **known))
            refused = {name: why for name in first.changes if (why := self._change(dataplane, name, first))}
            seen = dataplane.look() if first.changes else before
            last = plan(View(wanted, seen, **known)) if first.changes else first
        except (DataplaneError, ImportError) as error:
            return {name: NetworkState(problem=str(error)) for name in networks}
        plugged = {name: _plugged(name, seen) for name in networks}
        self._guard.plugged(plugged)
        self._meter.counted({name: {device: seen.traffic[device] for device in plugged[name]} for name in networks})
        states = {name: _state(name, last, refused) for name in {**wanted, **last.problems}}
        return dict(self._judged(states))

    def _judged(self, states: Mapping[str, NetworkState]) -> Iterator[tuple[str, NetworkState]]:
        """The states with what the guard says; without the networks that it does not know yet."""
        for name, state in states.items():
            why = "" if state.problem or name == TRANSIT else self._guard.judgement(name)
            if why is not None:
                yield name, NetworkState(problem=why) if why else state

    def _opened(self) -> Dataplane:
        if self._dataplane is None:
            self._dataplane = self._open()
        return self._dataplane

    def _change(self, dataplane: Dataplane, network: str, wanted: Plan) -> str:
        """Make the changes for one network; why that ended early, or nothing."""
        for change in wanted.changes[network]:
            try:
                dataplane.apply(change)
            except DataplaneError as error:
                return str(error)
            self._log.debug("network %s: %s", network, change)
        return ""

    def _known(self, networks: Mapping[str, Network | None], here: Mapping[str, frozenset[str]]) -> dict[str, Any]:
        """What the decision needs of the tree besides the networks. Who has no VM on a network needs to know of nobody
        else's: its frames go to all nodes, and it is not woken by theirs."""
        nodes = read_nodes(self._mirror)
        mine = nodes.pop(self._me, None)
        peers = {name: node.address for name, node in nodes.items() if SECTION in node.roles}
        known = {"address": mine.address if mine else "", "peers": peers, "unfit": self._evpn.problem}
        if self._evpn.on:
            return {**known, "told": False}
        found = {
            name: {
                **elsewhere(self._me, macs, read_ports(self._mirror, name)),
                **self._gateway(networks[name], lan_mac),
            }
            for name, macs in here.items()
            if macs or name in self._routed
        }
        if self._routed:
            others = [self._gateway(network, transit_mac) for network in networks.values()]
            found[TRANSIT] = {mac: node for of in others for mac, node in of.items()}
        return {**known, "elsewhere": found}

    def _gateway(self, network: Network | None, mac_of: Callable[[int], str]) -> dict[str, str]:
        """The MAC address of a network's gateway, and the other node that has it; nothing while it is being handed
        over: what is sent to all finds it wherever it is."""
        if network is None or not has_gateway(network):
            return {}
        znode = self._gateways.get(keys.gateway(network.name))
        record = decoded(Gateway, znode.data, keys.gateway(network.name)) if znode else None
        if record is None or record.next or record.patience or record.node in (None, self._me):
            return {}
        return {mac_of(network.vni or 0): str(record.node)}

    def _note(self, states: Mapping[str, NetworkState]) -> None:
        before = self._states or {}
        for name, state in sorted(states.items()):
            if name not in before or (before[name].problem, before[name].warning) != (state.problem, state.warning):
                self._log.info("network %s: %s", name, state.problem or state.warning or f"up, MTU {state.mtu}")
        for name in sorted(before.keys() - states.keys()):
            self._log.info("network %s: gone", name)


def _state(name: str, seen: Plan, refused: Mapping[str, str]) -> NetworkState:
    """How a network is, from what a fresh look still finds to be done."""
    warning = seen.warnings.get(name, "")
    if problem := seen.problems.get(name, ""):
        return NetworkState(problem=problem)
    if seen.changes.get(name):
        return NetworkState(problem=refused.get(name) or "a change did not take; look at `ip -details link`")
    return NetworkState(seen.mtus.get(name, 0), warning=warning)


def _plugged(network: str, seen: Seen) -> frozenset[str]:
    """The devices of VMs in a network's bridge: those that are named for one, and taps of whatever name."""
    bridge = bridge_of(network)
    links = [link for link in seen.links.values() if link.master == bridge]
    return frozenset(link.name for link in links if port_named(link.name) or link.kind == "tun")
