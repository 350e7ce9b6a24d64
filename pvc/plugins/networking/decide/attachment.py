"""VMs and the cluster's networks: what a definition asks for, what it becomes, and which node will do."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as tree
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.core.errors import PvcError
from pvc.core.model import Finding, NodeFacts, Severity
from pvc.core.records import Garbage, decode, encode
from pvc.plugins.networking.decide.dataplane import network_of
from pvc.plugins.networking.decide.ports import Interface, by_network, device_of, interfaces_of, network_named
from pvc.plugins.networking.firewall.wanted import Port
from pvc.plugins.networking.keys import STATE
from pvc.plugins.networking.schema import SECTION

PREFIX = "network:"
"""Before the name of a network, among the bridges that a VM needs: no bridge has a colon in its name."""
LONGEST_TEXT = 300
"""Characters of a problem or warning in the facts: even if each is written with an escape, a fact is not cut off."""
QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"


class NetworkUnusable(PvcError):
    """A VM cannot start here, because a network that it uses cannot be used."""


@dataclass(frozen=True, slots=True)
class Attached:
    """One interface of a definition on a network of the cluster."""

    network: str
    mac: str
    """Empty: it has none, and gets another one at each start."""
    model: str


@dataclass(frozen=True, slots=True)
class NetworkState:
    """One network as a node publishes it."""

    mtu: int = 0
    """Of the VMs on it, in bytes; 0: it cannot be used."""
    problem: str = ""
    """Why it cannot be used on this node; empty: it can."""
    warning: str = ""
    """What is not as it should be though it can be used."""


def published(states: Mapping[str, NetworkState]) -> dict[str, str]:
    """The facts that tell of networks; every one shorter than a fact may be."""
    return {f"{STATE}{name}": encode(_short(state)).decode() for name, state in sorted(states.items())}


def published_in(facts: NodeFacts) -> dict[str, NetworkState]:
    """The networks in a node's facts, by name; not what cannot be read."""
    found = {}
    for key, text in facts.extra.items():
        if key.startswith(STATE):
            try:
                found[key.removeprefix(STATE)] = decode(NetworkState, text.encode(), key)
            except Garbage:
                continue
    return found


def networks_of(xml: str) -> tuple[str, ...]:
    """The networks that a libvirt definition names; none if it cannot be read."""
    root = _parsed(xml)
    if root is None:
        return ()
    interfaces = root.findall("devices/interface[@type='network']")
    return tuple(sorted({name for interface in interfaces if (name := network_named(interface))}))


def defined_macs(xml: str, network: str) -> tuple[str, ...]:
    """The MAC addresses that a definition gives its interfaces on a network; empty text for each that has none."""
    return tuple(one.mac for one in attached_in(xml) if one.network == network)


def attached_in(xml: str) -> tuple[Attached, ...]:
    """The interfaces of a definition that are on networks, in its order; none if it cannot be read."""
    root = _parsed(xml)
    return tuple(
        Attached(name, _attribute(one, "mac", "address").lower(), _attribute(one, "model", "type"))
        for one, name in ([] if root is None else _attached(root))
    )


def macs_in(xml: str) -> frozenset[str]:
    """All MAC addresses of a definition, whatever its interfaces are on."""
    root = _parsed(xml)
    interfaces = [] if root is None else root.findall("devices/interface")
    return frozenset(mac for one in interfaces if (mac := _attribute(one, "mac", "address").lower()))


def needed(xml: str) -> tuple[str, ...]:
    """The same as a VM's record keeps them."""
    return tuple(f"{PREFIX}{name}" for name in networks_of(xml))


def needed_networks(needs: Sequence[str]) -> tuple[str, ...]:
    """The networks among what a VM needs of this role; the rest are bridges."""
    return tuple(need.removeprefix(PREFIX) for need in needs if need.startswith(PREFIX))


def with_bridges(xml: str, uuid: str, bridge: Callable[[str], tuple[str, int]]) -> str | None:
    """The definition of a VM plugged into the bridges of its networks, its devices named; None if it names none.

    `bridge(network)` says the bridge and the MTU. Raises what it raises, and NetworkUnusable.
    """
    root = _parsed(xml)
    found = [] if root is None else list(interfaces_of(root, uuid))
    if root is None or not found:
        return None
    for interface in found:
        if sum(other.mac == interface.mac for other in found) > 1:
            raise NetworkUnusable(f"two interfaces of it have the MAC address {interface.mac}; give each its own")
        plug(interface, *bridge(interface.network))
    tree.register_namespace("qemu", QEMU)  # else the writer invents a prefix, which people do not like to read
    return tree.tostring(root, encoding="unicode")


def plug(interface: Interface, bridge: str, mtu: int) -> None:
    """Plug one interface into a bridge, with this MTU unless it names its own, and name its device."""
    element = interface.element
    element.set("type", "bridge")
    _set(element, "source", "bridge", bridge)
    _set(element, "mac", "address", interface.mac)
    _set(element, "target", "dev", device_of(interface.mac))
    if element.find("mtu") is None:
        _set(element, "mtu", "size", str(mtu))


def ports_of(xml: str, uuid: str) -> Mapping[str, frozenset[Port]]:
    """By network the ports that a VM of this definition has once it runs; none if the definition cannot be read."""
    root = _parsed(xml)
    return {} if root is None else by_network(interfaces_of(root, uuid))


def macs_of(live: str) -> dict[str, frozenset[str]]:
    """By network the MAC addresses that a running VM has on it, from its live definition."""
    root = _parsed(live)
    found: dict[str, set[str]] = {}
    for interface in [] if root is None else root.findall("devices/interface[@type='bridge']"):
        source, mac = interface.find("source"), interface.find("mac")
        network = None if source is None else network_of(source.get("bridge", ""))
        if network and mac is not None and (address := mac.get("address", "").strip().lower()):
            found.setdefault(network, set()).add(address)
    return {network: frozenset(macs) for network, macs in found.items()}


def why_not(networks: Sequence[str], states: Mapping[str, NetworkState]) -> str:
    """Why a node that publishes this cannot run a VM on those networks; empty: it can."""
    return " and ".join(reason for name in networks if (reason := _why_not(name, states)))


def unknown(networks: Sequence[str], known: Sequence[str]) -> str:
    """Why no node can run a VM on those networks; empty: all of them exist."""
    missing = [name for name in networks if name not in known]
    if not missing:
        return ""
    return f"knows no network {' and no network '.join(missing)}; `pvc network list` shows them all"


def findings(states: Mapping[str, NetworkState]) -> list[Finding]:
    """One for each network that cannot be used here, or is not as it should be."""
    found = []
    for name, state in sorted(states.items()):
        if state.problem:
            text = f"network {name} cannot be used, and no VM on it comes here: {state.problem}"
            found.append(Finding(SECTION, Severity.CRITICAL, text))
        elif state.warning:
            found.append(Finding(SECTION, Severity.WARNING, f"network {name}: {state.warning}"))
    return found


def _short(state: NetworkState) -> dict[str, Any]:
    """The fields that say something: of a network that is up the MTU alone."""
    fields = {"mtu": state.mtu, "problem": state.problem[:LONGEST_TEXT], "warning": state.warning[:LONGEST_TEXT]}
    return {name: value for name, value in fields.items() if value}


def _why_not(name: str, states: Mapping[str, NetworkState]) -> str:
    state = states.get(name)
    if state is None:
        return f"has not set up network {name} yet"
    return f"cannot use network {name}: {state.problem}" if state.problem else ""


def _attached(root: Element) -> list[tuple[Element, str]]:
    """The interfaces on networks, each with the name of its network."""
    interfaces = root.findall("devices/interface[@type='network']")
    return [(one, name) for one in interfaces if (name := network_named(one))]


def _attribute(interface: Element, child: str, name: str) -> str:
    part = interface.find(child)
    return "" if part is None else part.get(name, "").strip()


def _set(interface: Element, part: str, name: str, value: str) -> None:
    """Give a part of an interface this one attribute, and no other."""
    found = interface.find(part)
    if found is None:
        found = Element(part)
        interface.append(found)
    found.attrib.clear()
    found.set(name, value)


def _parsed(xml: str) -> Element | None:
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return None
    return root
