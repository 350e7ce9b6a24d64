"""The devices in a VM's definition: found, added and taken out as text. Changes nothing else of it.

A device is told apart by what no two devices of one VM share: a network interface by its MAC address, a disk by the
name under which the guest is offered it. Both are the same in the definition and in the live XML.
"""

import re
from io import BytesIO
from xml.etree import ElementTree as tree
from xml.etree.ElementTree import Element, ParseError, TreeBuilder

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, iterparse

from pvc.core.errors import PvcError

GENERATED_PREFIX = re.compile(r"ns\d+")
"""Prefixes of namespaces that the writer of XML keeps for itself."""


class BadDevice(PvcError):
    """The XML cannot be read, or a device in it cannot be told from others."""


def key_of(device: str) -> str:
    """What tells a device, an XML element, from others, such as `interface 52:54:00:12:34:56`. Raises BadDevice."""
    element = _parsed(device)
    key = _key(element)
    if not key:
        raise BadDevice(f"nothing tells this <{element.tag}> from others; give it a MAC address, or a disk a target")
    return key


def keys_of(xml: str) -> list[str]:
    """The keys of all devices that have one. Raises BadDevice."""
    return [key for element in _devices(_parsed(xml)) if (key := _key(element))]


def found(xml: str, key: str) -> str | None:
    """The device of that key; None: there is none. Raises BadDevice."""
    for element in _devices(_parsed(xml)):
        if _key(element) == key:
            element.tail = None
            return tree.tostring(element, encoding="unicode")
    return None


def target_of(key: str) -> str:
    """The name under which a guest is offered the disk of that key; empty: it is no disk's."""
    return key.removeprefix("disk ") if key.startswith("disk ") else ""


def with_device(xml: str, device: str) -> str:
    """The definition with one device more. Raises BadDevice."""
    root, new = _parsed(xml), _parsed(device)
    devices = root.find("devices")
    if devices is None:
        devices = tree.SubElement(root, "devices")
    if len(devices):
        new.tail, devices[-1].tail = devices[-1].tail, devices.text
    devices.append(new)
    return _written(root, xml)


def without_device(xml: str, key: str) -> str:
    """The definition without the device of that key. Raises BadDevice."""
    root = _parsed(xml)
    for devices in root.findall("devices"):
        for position, element in reversed(list(enumerate(devices))):
            if _key(element) == key:
                if position:
                    devices[position - 1].tail = element.tail
                devices.remove(element)
    return _written(root, xml)


def _key(element: Element) -> str:
    if element.tag == "interface":
        mac = _attribute(element, "mac", "address").lower()
        return f"interface {mac}" if mac else ""
    target = _attribute(element, "target", "dev") if element.tag == "disk" else ""
    return f"disk {target}" if target else ""


def _attribute(element: Element, child: str, name: str) -> str:
    part = element.find(child)
    return "" if part is None else part.get(name, "").strip()


def _devices(root: Element) -> list[Element]:
    return root.findall("devices/*")


def _parsed(xml: str) -> Element:
    """The outermost element; comments stay, because a person wrote them."""
    parser = DefusedXMLParser(target=TreeBuilder(insert_comments=True), forbid_dtd=True)
    try:
        parser.feed(xml)
        root: Element = parser.close()
    except (DefusedXmlException, ParseError, ValueError) as error:
        raise BadDevice(f"the XML cannot be read: {error}; `pvc vm dump` shows the definition") from error
    return root


def _written(root: Element, original: str) -> str:
    """The text, with the names that the original has for namespaces."""
    for _, (prefix, uri) in iterparse(BytesIO(original.encode()), events=["start-ns"], forbid_dtd=True):
        if prefix and not GENERATED_PREFIX.fullmatch(prefix):
            tree.register_namespace(prefix, uri)
    return tree.tostring(root, encoding="unicode")
