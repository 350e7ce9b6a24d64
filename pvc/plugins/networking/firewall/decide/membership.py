"""What the firewall of a node is to do: from the networks, their rules, and the VMs that are or may come here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pvc.plugins.networking.firewall.decide.ruleset import keeps_out
from pvc.plugins.networking.firewall.rules import Acl, Action, Side
from pvc.plugins.networking.firewall.wanted import FilteredNetwork, Port, Wanted

CLOSED = Acl(Side(Action.DROP), Side(Action.DROP))
"""For rules that nobody can read: what they keep out is not known."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a node's VMs by network."""

    of: Mapping[str, frozenset[Port]] = field(default_factory=dict)
    disputed: tuple[str, ...] = ()
    """Names of devices that are wanted on several networks, and of which none is there yet: nothing passes."""


def ports(expected: Iterable[Mapping[str, frozenset[Port]]], plugged: Mapping[str, frozenset[Port]]) -> Ports:
    """Those that VMs will have by their definitions, and those that are there. A device is where it is plugged in,
    whatever definitions say: nobody else can have its name meanwhile."""
    there = {port.name: network for network, found in plugged.items() for port in found}
    claims: dict[Port, set[str]] = {port: {network} for network, found in plugged.items() for port in found}
    for definition in expected:
        for network, found in definition.items():
            for port in found:
                if port.name not in there:
                    claims.setdefault(port, set()).add(network)
    of: dict[str, set[Port]] = {}
    for port, networks in claims.items():
        if len(networks) == 1:
            of.setdefault(next(iter(networks)), set()).add(port)
    disputed = sorted(port.name for port, networks in claims.items() if len(networks) > 1)
    return Ports({network: frozenset(found) for network, found in of.items()}, tuple(disputed))


def wanted(networks: Iterable[FilteredNetwork], found: Ports, fenced: str) -> Wanted:
    """All networks with their ports, sorted: what is equal looks equal. Where there is no network nothing is fenced."""
    filled = tuple(
        replace(network, ports=tuple(sorted(found.of.get(network.name, ()), key=lambda port: port.name)))
        for network in sorted(networks, key=lambda network: network.name)
    )
    return Wanted(filled, fenced if filled else "")


def must_be_in_force(network: FilteredNetwork) -> bool:
    """Whether VMs must not be on a network of which the rules are not in force."""
    protection = network.protection
    guarded = protection.source_mac or protection.dhcp_answers or protection.router_advertisements
    return guarded or keeps_out(network.acl)
