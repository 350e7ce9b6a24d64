"""The frames by which a router that has just come up tells bridges and neighbours where it is now."""

import struct
from ipaddress import IPv4Address, IPv6Address

EVERYBODY = b"\xff" * 6
ALL_NODES = IPv6Address("ff02::1")
ALL_NODES_MAC = bytes.fromhex("333300000001")
ICMPV6 = 58
OVERRIDE_ROUTER = 0xA0000000
"""Flags of a neighbour advertisement (RFC 4861): it comes from a router, and replaces what the neighbour believes."""


def announcement(mac: str, address: IPv4Address | IPv6Address) -> bytes:
    """A gratuitous ARP (RFC 5944) or an unsolicited neighbour advertisement (RFC 4861), as an Ethernet frame."""
    own = bytes.fromhex(mac.replace(":", ""))
    return _arp(own, address) if isinstance(address, IPv4Address) else _advertisement(own, address)


def _arp(own: bytes, address: IPv4Address) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    frame = EVERYBODY + own + b"\x08\x06" + head + own + address.packed + b"\0" * 6 + address.packed
    return frame.ljust(60, b"\0")


def _advertisement(own: bytes, address: IPv6Address) -> bytes:
    body = struct.pack("!I", OVERRIDE_ROUTER) + address.packed + b"\x02\x01" + own
    pseudo = address.packed + ALL_NODES.packed + struct.pack("!II", len(body) + 4, ICMPV6)
    message = b"\x88\0" + struct.pack("!H", _checksum(pseudo + b"\x88\0\0\0" + body)) + body
    head = struct.pack("!IHBB", 0x60000000, len(message), ICMPV6, 255) + address.packed + ALL_NODES.packed
    return ALL_NODES_MAC + own + b"\x86\xdd" + head + message


def _checksum(data: bytes) -> int:
    """Of the Internet (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
