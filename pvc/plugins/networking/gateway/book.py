"""The leases of a network in the tree: read together, and changed together or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass

from pvc.core.coordination import Check, Coordinator, Create, Delete, Op, Put
from pvc.core.mirror import Mirror
from pvc.core.records import Garbage, decode, encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.decide.addresses import has_address
from pvc.plugins.networking.records import Lease

BATCH = 1000
"""Leases that one transaction should change at most: about a third of what one may carry."""


@dataclass(frozen=True, slots=True)
class Book:
    """All leases of one network as they were read."""

    network: str
    version: int | None
    """Of what stands for all of them; None: the network is older than leases, and has none."""
    leases: Mapping[str, Lease]
    """By MAC address; without those that cannot be read."""
    kept: frozenset[str]
    """The MAC addresses that have a record, readable or not."""

    def guard(self) -> Op:
        """The operation that is refused if any lease has changed since, and makes others' changes be refused."""
        path = keys.leases(self.network)
        return Create(path) if self.version is None else Put(path, b"", self.version)

    def ops(self, changes: Mapping[str, Lease], network_version: int) -> list[Op]:
        """The operations that make these changes if nothing has changed since; a lease without any address is deleted.

        `network_version`: of the network's record that they were decided by.
        """
        check = Check(keys.network(self.network), network_version)
        return [check, self.guard(), *map(self._op, changes.values())]

    def _op(self, lease: Lease) -> Op:
        path = keys.lease(self.network, lease.mac)
        if not has_address(lease):
            return Delete(path)
        return Put(path, encode(lease)) if lease.mac in self.kept else Create(path, encode(lease))


def read_book(coordinator: Coordinator, network: str) -> Book:
    """The leases of a network, to change them. Raises Disconnected."""
    above = coordinator.get(keys.leases(network))  # first: whatever changes afterwards makes the change fail
    macs = () if above is None else coordinator.children(keys.leases(network)) or ()
    leases = _read(coordinator, network, macs)
    return Book(network, None if above is None else above.version, leases, frozenset(macs))


def read_leases(source: Coordinator | Mirror, network: str) -> dict[str, Lease]:
    """The leases of a network by MAC address, to look at; not those that cannot be read. Raises Disconnected."""
    return _read(source, network, source.children(keys.leases(network)) or ())


def _read(source: Coordinator | Mirror, network: str, macs: tuple[str, ...]) -> dict[str, Lease]:
    paths = [keys.lease(network, mac) for mac in macs]
    if isinstance(source, Mirror):
        source.prefetch(paths)
        znodes = [source.get(path) for path in paths]
    else:
        znodes = source.get_many(paths)
    found: dict[str, Lease] = {}
    for mac, path, znode in zip(macs, paths, znodes, strict=True):
        try:
            if znode is not None:
                found[mac] = decode(Lease, znode.data, path)
        except Garbage:
            continue
    return found
