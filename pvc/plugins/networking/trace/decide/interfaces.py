"""The interfaces on networks of the cluster in a VM's definition, as it is stored or as it is live."""

from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.plugins.networking.decide.dataplane import network_of


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface of a VM."""

    network: str
    mac: str = ""
    """Empty: the definition leaves it to be chosen at the start."""
    device: str = ""
    """The node's side of it; empty: the definition does not say."""


def interfaces_of(xml: str) -> tuple[Interface, ...]:
    """Those on networks of the cluster, in their order; none if the definition cannot be read."""
    try:
        root: Element = fromstring(xml, forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError):  # refused where it is defined, in words
        return ()
    found = []
    for element in root.findall("devices/interface"):
        network = _network(element)
        if network:
            device = _said(element, "target", "dev")
            found.append(Interface(network, _said(element, "mac", "address").lower(), device))
    return tuple(found)


def _network(element: Element) -> str:
    if element.get("type") == "network":
        return _said(element, "source", "network")
    return (network_of(_said(element, "source", "bridge")) or "") if element.get("type") == "bridge" else ""


def _said(element: Element, child: str, attribute: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(attribute, "").strip()
