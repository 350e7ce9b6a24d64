"""Which addresses belong to which MAC address."""

from collections.abc import Mapping
from ipaddress import ip_network

from pvc.plugins.networking.records import Lease, Network


def allocate(network: Network, leases: Mapping[str, Lease], macs: Mapping[str, str], now: float) -> dict[str, Lease]:
    """New or changed leases for these MAC addresses, each with its VM's name: the next free addresses."""
    if network.ipv4 is None:
        return {}
    taken = {lease.ipv4 for lease in leases.values()} | {network.ipv4_gateway}
    free = (str(host) for host in ip_network(network.ipv4).hosts() if str(host) not in taken)
    return {mac: Lease(mac, name, next(free), since=now) for mac, name in macs.items() if mac not in leases}
