"""Guests of the simulated hypervisors: their records, and what is read from a definition."""

from dataclasses import dataclass, field
from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pvc.plugins.hypervisor.host import GuestState, HypervisorError

MIB = 1 << 20
UNITS = {"b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "MB": 10**6, "M": MIB, "MiB": MIB, "GiB": 1 << 30}
"""libvirt's units of memory that definitions in tests may use."""


@dataclass(slots=True)
class FakeGuest:
    """One guest on one host."""

    uuid: str
    name: str
    xml: str
    memory: int
    """Bytes."""
    state: GuestState
    halted: bool = False
    disk_sizes: dict[str, int] = field(default_factory=dict)
    """Bytes by target, of disks that the guest was told have grown."""


def parsed_guest(xml: str) -> FakeGuest:
    """The guest that a libvirt definition describes, as if it ran. Raises HypervisorError for what is none."""
    try:
        domain = fromstring(xml)
    except (ParseError, DefusedXmlException) as error:
        raise HypervisorError(f"the definition is no XML: {error}; correct it") from error
    uuid, name = domain.findtext("uuid"), domain.findtext("name")
    if domain.tag != "domain" or not uuid or not name:
        raise HypervisorError("the definition lacks a <domain> with <uuid> and <name>; add them")
    memory = domain.find("memory")
    size = 128 * MIB
    if memory is not None and memory.text:
        size = int(memory.text) * UNITS[memory.get("unit", "KiB")]
    return FakeGuest(uuid.strip(), name.strip(), xml, size, GuestState.RUNNING)


def secrets_in(xml: str) -> list[str]:
    """The UUIDs of the secrets that a definition, or a device, refers to."""
    return [uuid for secret in fromstring(xml).iter("secret") if (uuid := secret.get("uuid", ""))]
