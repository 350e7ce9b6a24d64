"""Reads a libvirt domain definition that somebody hands in, and refuses what could not run or could do harm."""

import re
from dataclasses import dataclass
from uuid import UUID
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.core.errors import PvcError

LARGEST = 256 * 1024
"""Bytes of a definition; real ones have a few thousand."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
"""What a VM may be called: the name becomes a step of a path, part of a file name, and a word on a command line."""

MEBIBYTE = 1024 * 1024

MOST_MEMORY = 2**40
"""MiB, which is an exbibyte; also keeps the number within what a record can hold."""

UNITS = {
    **dict.fromkeys(("b", "bytes"), 1),
    **dict.fromkeys(("k", "kib"), 1024),
    "kb": 1000,
    **dict.fromkeys(("m", "mib"), 1024**2),
    "mb": 1000**2,
    **dict.fromkeys(("g", "gib"), 1024**3),
    "gb": 1000**3,
    **dict.fromkeys(("t", "tib"), 1024**4),
    "tb": 1000**4,
}
"""Bytes in each unit of the element `memory`, from libvirt's description of the domain XML."""


class BadDefinition(PvcError):
    """The definition cannot be used; the message says what to change."""


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition that has everything the cluster needs to know."""

    uuid: str
    name: str
    memory: int
    """MiB, rounded up."""
    vcpus: int
    xml: str


def read_definition(text: str) -> Definition:
    """The definition in `text`. Raises BadDefinition naming everything that is missing or wrong."""
    root = _parse(text)
    if root.tag != "domain":
        raise BadDefinition(f"the outermost element is <{root.tag}>; a libvirt <domain> is needed")
    problems: list[str] = []
    name = _text(root, "name", problems)
    uuid = _text(root, "uuid", problems)
    memory = _memory(root, problems)
    vcpus = _whole(root, "vcpu", problems)
    if name and not NAME.fullmatch(name):
        problems.append(
            f"<name>{name}</name>: use 1 to 64 letters, digits, '.', '_', '+', '-', beginning with one of the first two"
        )
    if uuid and not _is_uuid(uuid):
        problems.append(f"<uuid>{uuid}</uuid> is no UUID; `uuidgen` makes one")
    if problems:
        raise BadDefinition("the definition cannot be used: " + "; ".join(problems))
    return Definition(str(UUID(uuid)), name, memory, vcpus, text)


def macs_on_networks(text: str) -> frozenset[tuple[str, str]]:
    """The MAC addresses that a definition gives its interfaces on networks, each with the name of the network."""
    try:
        interfaces = _parse(text).findall("devices/interface[@type='network']")
    except BadDefinition:
        return frozenset()
    found = set()
    for interface in interfaces:
        source, mac = interface.find("source"), interface.find("mac")
        if source is not None and mac is not None:
            found.add((mac.get("address", "").strip().lower(), source.get("network", "").strip()))
    return frozenset(pair for pair in found if all(pair))


def _parse(text: str) -> Element:
    if len(text.encode(errors="replace")) > LARGEST:
        raise BadDefinition(f"the definition has more than {LARGEST // 1024} KiB; is it the right file?")
    try:
        root: Element = fromstring(text, forbid_dtd=True)
    except DefusedXmlException as error:
        raise BadDefinition("the XML has a document type or entities, which are refused; remove them") from error
    except (ParseError, ValueError) as error:
        raise BadDefinition(f"the XML is not well-formed: {error}") from error
    return root


def _text(root: Element, tag: str, problems: list[str]) -> str:
    text = (root.findtext(tag) or "").strip()
    if not text:
        problems.append(f"<{tag}> is missing")
    return text


def _whole(root: Element, tag: str, problems: list[str]) -> int:
    text = _text(root, tag, problems)
    if not text:
        return 0
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) == 0:
        problems.append(f"<{tag}>{text}</{tag}> must be a whole number above 0")
        return 0
    return int(text)


def _memory(root: Element, problems: list[str]) -> int:
    amount = _whole(root, "memory", problems)
    element = root.find("memory")
    unit = "KiB" if element is None else element.get("unit", "KiB")
    if unit.lower() not in UNITS:
        problems.append(f"<memory unit='{unit}'>: use one of b, KiB, MiB, GiB, TiB")
        return 0
    memory = -(-amount * UNITS[unit.lower()] // MEBIBYTE)
    if memory > MOST_MEMORY:
        problems.append(f"<memory unit='{unit}'>{amount}</memory> is more than any host has")
    return memory


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return len(text) in (32, 36)
