"""The interface that plugs a VM into a network: its MAC address, and the element of the definition."""

import hashlib
import itertools
import re
from collections.abc import Collection, Sequence
from xml.sax.saxutils import quoteattr

from pvc.plugins.networking.decide.attachment import Attached

OURS = "52:54:00"
"""What MAC addresses of QEMU's guests begin with."""
MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")


def free_mac(uuid: str, network: str, taken: Collection[str]) -> str:
    """The MAC address for a VM's next interface on a network: the same each time, as long as the same are taken."""
    for number in itertools.count():
        digest = hashlib.sha256(f"{uuid} {network} {number}".encode()).digest()
        mac = f"{OURS}:{digest[0]:02x}:{digest[1]:02x}:{digest[2]:02x}"
        if mac not in taken:
            return mac
    raise AssertionError("unreachable")


def why_no_mac(mac: str) -> str:
    """Why that cannot be the MAC address of an interface, in lower case; empty: it can."""
    if not MAC.fullmatch(mac):
        return f"{mac!r} is no MAC address; write six pairs of hexadecimal digits, as 52:54:00:12:34:56"
    if int(mac[:2], 16) & 1:
        return f"{mac} is a multicast address; the first pair of digits must be even"
    return f"{mac} is no address of one interface" if mac == "00:00:00:00:00:00" else ""


def why_no_model(model: str) -> str:
    """Why that cannot be a model of network card; empty: it can, as far as the form goes."""
    if MODEL.fullmatch(model):
        return ""
    return f"{model!r} is no model of a network card; virtio and e1000 are, and libvirt knows more"


def interface(network: str, mac: str, model: str) -> str:
    """The element."""
    return (
        f"<interface type='network'><mac address={quoteattr(mac)}/><source network={quoteattr(network)}/>"
        f"<model type={quoteattr(model)}/></interface>"
    )


def chosen(vm: str, attached: Sequence[Attached], what: str) -> Attached | str:
    """The interface of a VM that a network's name or a MAC address means, or why there is not exactly one."""
    of_it = [one for one in attached if what.lower() in (one.mac, one.network)]
    if not of_it:
        on = ", ".join(dict.fromkeys(one.network for one in attached)) or "none"
        return f"{vm} has no interface on network {what}, nor one of that MAC address; it is on {on}"
    if len(of_it) > 1:
        macs = ", ".join(one.mac or "one without" for one in of_it)
        return f"{vm} has {len(of_it)} interfaces on network {what}; name the MAC address: {macs}"
    if not of_it[0].mac:
        return (
            f"the interface of {vm} on network {what} has no MAC address in the definition, so it cannot be told from "
            "others; undefine the VM and define it with one"
        )
    return of_it[0]
