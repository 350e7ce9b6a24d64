"""How much VMs have sent and received, from what the kernel has counted at their devices."""

from collections.abc import Mapping

from pvc.plugins.networking.records import Traffic


def growth(before: Mapping[str, Traffic], now: Mapping[str, Traffic]) -> Traffic:
    """What has come since `before`, by device; one that counts less than before has been made anew."""
    total = Traffic()
    for device, counted in now.items():
        earlier = before.get(device, Traffic())
        total = plus(total, minus(counted, earlier) if _is_later(counted, earlier) else counted)
    return total


def plus(one: Traffic, other: Traffic) -> Traffic:
    """Both together."""
    return Traffic(
        one.received_bytes + other.received_bytes,
        one.received_packets + other.received_packets,
        one.sent_bytes + other.sent_bytes,
        one.sent_packets + other.sent_packets,
    )


def minus(one: Traffic, other: Traffic) -> Traffic:
    """The first without the second."""
    return Traffic(
        one.received_bytes - other.received_bytes,
        one.received_packets - other.received_packets,
        one.sent_bytes - other.sent_bytes,
        one.sent_packets - other.sent_packets,
    )


def _is_later(one: Traffic, other: Traffic) -> bool:
    return one.received_bytes >= other.received_bytes and one.sent_bytes >= other.sent_bytes
