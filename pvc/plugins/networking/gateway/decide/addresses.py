"""Which addresses belong to which MAC address."""

from collections.abc import Mapping

from pvc.plugins.networking.records import Lease, Network


def allocate(network: Network, leases: Mapping[str, Lease], macs: Mapping[str, str], now: float) -> dict[str, Lease]:
    """New or changed leases for these MAC addresses, each with its VM's name."""
    return {mac: Lease(mac, name, since=now) for mac, name in macs.items() if mac not in leases}
