"""The device of a VM on a network: its MAC address and its name on the node, both known before the VM starts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from xml.etree.ElementTree import Element

from pvc.plugins.networking.firewall.wanted import Port

FENCED = "pvt"
"""How the names of VMs' devices on networks begin. Not `vnet`: libvirt invents a new name at every start and migration
for those, so that nothing could be said of a device before it is there."""
VENDOR = "52:54:00"
"""How MAC addresses begin that are invented for VMs, here and by libvirt's QEMU driver."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One interface on a network in a definition."""

    element: Element
    network: str
    mac: str
    """In lower case; of one that names none it is made up, the same each time."""


def interfaces_of(root: Element, uuid: str) -> Iterator[Interface]:
    """The interfaces of a VM's definition that are on networks."""
    without: dict[str, int] = {}
    for element in root.findall("devices/interface[@type='network']"):
        network = network_named(element)
        if not network:
            continue
        mac = element.find("mac")
        address = "" if mac is None else mac.get("address", "").strip().lower()
        if not address:
            number = without[network] = without.get(network, 0) + 1
            address = stable_mac(uuid, network, number)
        yield Interface(element, network, address)


def network_named(interface: Element) -> str:
    """The network that an interface is on; empty: none."""
    source = interface.find("source")
    return "" if source is None else source.get("network", "").strip()


def stable_mac(uuid: str, network: str, number: int) -> str:
    """The MAC address of the interface that is the `number`-th of those on a network that name none."""
    digest = sha256(f"{uuid.lower()}/{network}/{number}".encode()).hexdigest()
    return ":".join([VENDOR, digest[0:2], digest[2:4], digest[4:6]])


def device_of(mac: str) -> str:
    """The name of a VM's device by its MAC address: the 15 characters that a name may have."""
    return f"{FENCED}{mac.lower().replace(':', '')}"


def port_named(device: str) -> Port | None:
    """The port of a device that bears such a name; None: it is another one's."""
    digits = device.removeprefix(FENCED)
    if len(digits) != 12 or device == digits or not all(digit in "0123456789abcdef" for digit in digits):
        return None
    return Port(device, ":".join(digits[at : at + 2] for at in range(0, 12, 2)))


def port_of(interface: Interface) -> Port | None:
    """The port that an interface will have; None: its MAC address is none, and libvirt will not take it."""
    return port_named(device_of(interface.mac))


def by_network(interfaces: Iterator[Interface]) -> Mapping[str, frozenset[Port]]:
    """The ports of interfaces by network."""
    found: dict[str, set[Port]] = {}
    for interface in interfaces:
        if port := port_of(interface):
            found.setdefault(interface.network, set()).add(port)
    return {network: frozenset(ports) for network, ports in found.items()}
