"""Collects what one trace is judged from: the tree's records, and the answers of the nodes that matter."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from pvc.core import keys as core
from pvc.core.coordination import Coordinator
from pvc.core.errors import PvcError
from pvc.core.lookup import NotFound, all_nodes, find_vm, read_facts
from pvc.core.model import Node, Vm, VmActual
from pvc.core.records import Garbage, decode
from pvc.core.runtime import Runtime
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide.attachment import published_in
from pvc.plugins.networking.firewall.acl import read_acl
from pvc.plugins.networking.firewall.rules import Acl
from pvc.plugins.networking.records import Gateway, Lease, Network, NetworkKind, Ports, read_networks, read_ports
from pvc.plugins.networking.schema import SECTION
from pvc.plugins.networking.trace.asking import PATIENCE, ask
from pvc.plugins.networking.trace.decide.case import Address, Case, End, addresses_of
from pvc.plugins.networking.trace.decide.interfaces import interfaces_of
from pvc.plugins.networking.trace.records import Inquiry

GatewayMac = Callable[[int], str]
"""The MAC address of the gateway of the network with that VNI, in that network."""


class NotTraceable(PvcError):
    """What was asked for cannot be traced; the message says why."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be traced."""

    vm: str
    network: str | None = None
    to: str | None = None
    """A VM, or an address."""


@dataclass(frozen=True, slots=True)
class _Read:
    """What the tree tells before anybody is asked."""

    networks: Mapping[str, Network | None]
    leases: Mapping[str, Mapping[str, Lease]]
    ports: Mapping[str, Mapping[str, Ports]] = field(default_factory=dict)


def gather(
    coordinator: Coordinator,
    runtime: Runtime,
    wish: Wish,
    gateway_mac: GatewayMac | None = None,
    *,
    patience: float = PATIENCE,
) -> Case:
    """Everything that is known of the way. Raises NotFound, NotTraceable, Garbage, Disconnected."""
    known = read_networks(coordinator)
    vm = find_vm(coordinator, wish.vm)
    address = _address(wish.to)
    leases = {} if address is None else _leases(coordinator, known)
    other = _destination(coordinator, wish.to, address, leases)
    if other is not None and other.uuid == vm.uuid:
        raise NotTraceable(f"{wish.to} is {vm.name} itself; name another VM, or leave --to out")
    ends = [_end(coordinator, one) for one in (vm, other) if one is not None]
    chosen = _chosen(ends, wish, known, address, leases)
    read = _Read(
        known, leases or _leases(coordinator, chosen), {name: read_ports(coordinator, name) for name in chosen}
    )
    ends = [End(one.vm, one.actual, one.interfaces, _macs(one, chosen, read.ports)) for one in ends]
    nodes = {node.name: node for node in all_nodes(coordinator)[0] if SECTION in node.roles}
    gateways = {name: found for name in chosen if (found := _gateway(coordinator, name)) is not None}
    whom = _whom(ends, nodes, chosen, gateways)
    macs = {name: tuple(sorted({mac for end in ends for mac in end.macs.get(name, ())})) for name in chosen}
    of_gateways = {
        name: gateway_mac(network.vni)
        for name, network in chosen.items()
        if gateway_mac is not None and network is not None and network.vni is not None
    }
    asked = {name: (*found, *([of_gateways[name]] if name in of_gateways else [])) for name, found in macs.items()}
    inquiry = Inquiry("", tuple(end.vm.uuid for end in ends), asked)
    return Case(
        ends=tuple(ends),
        networks=chosen,
        nodes=nodes,
        states={node: published_in(read_facts(coordinator, node)) for node in nodes},
        ports=read.ports,
        gateways=gateways,
        tickets=frozenset(name for name in chosen if coordinator.get(keys.gateway_ticket(name)) is not None),
        gateway_macs=of_gateways,
        leases=read.leases,
        acls={name: _acl(coordinator, name) for name in chosen},
        asked=frozenset(whom),
        answers=ask(coordinator, runtime, dict.fromkeys(whom, inquiry), patience),
        address=address,
    )


def _end(coordinator: Coordinator, vm: Vm) -> End:
    znode, xml = coordinator.get_many([core.vm_actual(vm.uuid), core.vm_xml(vm.uuid)])
    actual = VmActual() if znode is None else decode(VmActual, znode.data, core.vm_actual(vm.uuid))
    return End(vm, actual, interfaces_of("" if xml is None else xml.data.decode(errors="replace")))


def _destination(
    coordinator: Coordinator, to: str | None, address: Address | None, leases: Mapping[str, Mapping[str, Lease]]
) -> Vm | None:
    """The VM at the other end; None: no VM is known to be there. Raises NotFound."""
    if to is None or address is None:
        return None if to is None else find_vm(coordinator, to)
    names = [one.name for of in leases.values() for one in of.values() if address in addresses_of(one) and one.name]
    try:
        return find_vm(coordinator, names[0]) if names else None
    except NotFound:  # the address is kept for a VM that is no more
        return None


def _chosen(
    ends: list[End],
    wish: Wish,
    known: Mapping[str, Network | None],
    address: Address | None,
    leases: Mapping[str, Mapping[str, Lease]],
) -> dict[str, Network | None]:
    """The networks to follow: with another end those that both are on, else all of either. Raises NotTraceable."""
    own = {one.network for one in ends[0].interfaces}
    if not own:
        raise NotTraceable(
            f"{ends[0].vm.name} has no interface on a network of the cluster; its definition names them as "
            "`<source network='...'/>`"
        )
    if wish.network is not None and wish.network not in own:
        raise NotTraceable(f"{ends[0].vm.name} is not on network {wish.network}; it is on {', '.join(sorted(own))}")
    own = own if wish.network is None else {wish.network}
    if len(ends) == 1:
        return {name: known.get(name) for name in sorted(own)}
    others = {one.network for one in ends[1].interfaces}
    there = {name for name, of in leases.items() if any(address in addresses_of(one) for one in of.values())}
    others = others & there or others
    if not others:
        raise NotTraceable(f"{ends[1].vm.name} has no interface on a network of the cluster; name another VM")
    return {name: known.get(name) for name in sorted(own & others or own | others)}


def _macs(end: End, networks: Iterable[str], ports: Mapping[str, Mapping[str, Ports]]) -> dict[str, tuple[str, ...]]:
    """By network the MAC addresses of a VM: as defined, and as its node says."""
    found = {}
    for name in networks:
        defined = {one.mac for one in end.interfaces if one.network == name and one.mac}
        claimed = ports[name].get(end.actual.node or "", Ports())
        found[name] = tuple(sorted(defined | {mac for mac, vm in claimed.names.items() if vm == end.vm.name}))
    return found


def _whom(
    ends: list[End],
    nodes: Mapping[str, Node],
    networks: Mapping[str, Network | None],
    gateways: Mapping[str, Gateway],
) -> set[str]:
    """The nodes to ask: those of both ends and of gateways; without another end everybody who sends to the VM."""
    managed = any(network is not None and network.kind is NetworkKind.MANAGED for network in networks.values())
    if len(ends) == 1 and managed:
        return set(nodes)
    found = {end.actual.node for end in ends} | {gateway.node for gateway in gateways.values()}
    return {name for name in found if name is not None and name in nodes}


def _leases(coordinator: Coordinator, networks: Collection[str]) -> dict[str, dict[str, Lease]]:
    found: dict[str, dict[str, Lease]] = {}
    for name in networks:
        macs = coordinator.children(keys.leases(name)) or ()
        znodes = coordinator.get_many([keys.lease(name, mac) for mac in macs])
        found[name] = {}
        for mac, znode in zip(macs, znodes, strict=True):
            try:
                if znode is not None:
                    found[name][mac] = decode(Lease, znode.data, keys.lease(name, mac))
            except Garbage:
                continue
    return found


def _gateway(coordinator: Coordinator, network: str) -> Gateway | None:
    znode = coordinator.get(keys.gateway(network))
    try:
        return None if znode is None else decode(Gateway, znode.data, keys.gateway(network))
    except Garbage:
        return None


def _acl(coordinator: Coordinator, network: str) -> Acl | None:
    try:
        return read_acl(coordinator, network)
    except Garbage:
        return None


def _address(text: str | None) -> Address | None:
    try:
        return ip_address(text or "")
    except ValueError:
        return None
