"""What the tree knows of the addresses in managed networks: read when they have changed, written under a version."""

from collections.abc import Mapping
from itertools import islice

from pvc.core.coordination import Conflict, Coordinator, Create, Delete, Op, Put
from pvc.core.mirror import Mirror
from pvc.core.records import encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.records import Lease, decoded

MOST = 1000
"""Leases that one transaction writes: about 300 KB."""


class LeaseBook:
    """The leases of every network, each read again only when its version is another one."""

    def __init__(self, coordinator: Coordinator, mirror: Mirror) -> None:
        self._coordinator = coordinator
        self._mirror = mirror
        self._known: dict[str, tuple[tuple[float, int], Mapping[str, Lease]]] = {}

    def of(self, network: str) -> Mapping[str, Lease]:
        """The leases of a network by MAC address; none whose record cannot be read. Raises Disconnected."""
        index = self._mirror.get(keys.leases(network))
        if index is None:
            return {}
        version = (index.created_zxid, index.version)
        if network not in self._known or self._known[network][0] != version:
            self._known[network] = (version, self._read(network))
        return self._known[network][1]

    def write(self, network: str, leases: Mapping[str, Lease]) -> bool:
        """Write new or changed leases, and forget those without any address; whether nobody else has changed any
        meanwhile. Raises Disconnected."""
        path = keys.leases(network)
        known, index = self.of(network), self._mirror.get(path)
        guard: Op = Create(path) if index is None else Put(path, b"", index.version)
        first = islice(leases.items(), MOST)  # the rest with the next step
        try:
            self._coordinator.commit([guard, *(_op(network, mac, lease, known) for mac, lease in first)])
        except Conflict:
            return False
        finally:
            self._mirror.drop(path)
            self._known.pop(network, None)
        return True

    def _read(self, network: str) -> Mapping[str, Lease]:
        macs = self._coordinator.children(keys.leases(network)) or ()
        paths = [keys.lease(network, mac) for mac in macs]
        found = zip(macs, self._coordinator.get_many(paths), strict=True)
        leases = {mac: decoded(Lease, znode.data, keys.lease(network, mac)) for mac, znode in found if znode}
        return {mac: lease for mac, lease in leases.items() if lease is not None}


def _op(network: str, mac: str, lease: Lease, known: Mapping[str, Lease]) -> Op:
    path = keys.lease(network, mac)
    if mac in known and lease.ipv4 is None and lease.ipv6 is None:
        return Delete(path)
    return Put(path, encode(lease)) if mac in known else Create(path, encode(lease))
