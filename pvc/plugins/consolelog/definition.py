"""The log element in a VM's libvirt XML: adding it, and finding the file that it names."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree as tree

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import ParseError, fromstring

from pvc.core.errors import PvcError

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]{0,99}")
_NAMESPACES = {"qemu": "http://libvirt.org/schemas/domain/qemu/1.0"}


class BadXml(PvcError):
    """A VM's XML cannot be read."""


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    """The log file of a VM's first serial console, as a live definition names it."""

    path: str
    append: bool
    """False: every start of the emulator, also to receive the VM from another node, begins the file anew."""
    run: str
    """The emulator's number on its node; empty: not told."""


def log_path(directory: str, name: str, uuid: str) -> str:
    """Where a VM's console goes: named for the VM, or for its UUID if the name would make an odd file name."""
    return f"{directory.rstrip('/')}/{file_stem(name, uuid)}-console.log"


def file_stem(name: str, uuid: str) -> str:
    """What files of a VM are named for: its name, or its UUID if the name would make an odd file name."""
    return name if _PLAIN_NAME.fullmatch(name) else uuid


def with_log(xml: str, path: str, append: str) -> str | None:
    """The definition with a log file for its first serial console; None if it has one, or has no serial console.

    A definition that cannot be read is left as it is: the hypervisor refuses it and says why.
    """
    try:
        domain = _parsed(xml)
    except BadXml:
        return None
    console = _serial(domain)
    if console is None or console.find("log") is not None:
        return None
    console.append(tree.Element("log", {"file": path, "append": append}))
    for prefix, uri in _NAMESPACES.items():  # else the writer invents prefixes, which libvirt accepts and people do not
        tree.register_namespace(prefix, uri)
    return tree.tostring(domain, encoding="unicode")


def console_file(xml: str) -> ConsoleFile | None:
    """The log file that a live definition names; None if its console has none. Raises BadXml."""
    domain = _parsed(xml)
    console = _serial(domain)
    log = None if console is None else console.find("log")
    path = "" if log is None else log.get("file", "")
    if log is None or not path:
        return None
    return ConsoleFile(path, log.get("append") == "on", domain.get("id", ""))


def has_console(xml: str) -> bool:
    """Whether a definition has a serial console. Raises BadXml."""
    return _serial(_parsed(xml)) is not None


def _serial(domain: tree.Element) -> tree.Element | None:
    """The element of the first serial console. libvirt makes a serial of a console that stands alone, and keeps a
    console that mirrors the first serial equal to it."""
    serial = domain.find("devices/serial")
    if serial is not None:
        return serial
    for console in domain.findall("devices/console"):
        target = console.find("target")
        if target is None or target.get("type", "serial") == "serial":
            return console
    return None


def _parsed(xml: str) -> tree.Element:
    try:
        parsed: tree.Element = fromstring(xml)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise BadXml(f"the VM's XML cannot be read: {error}; look at it with `pvc vm dump`") from error
    return parsed
