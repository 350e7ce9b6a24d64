"""What a gateway's node knows of the addresses in managed networks: read when they have changed, changed as a whole."""

from collections.abc import Mapping
from itertools import islice

from pvc.core.coordination import Conflict, Coordinator
from pvc.core.mirror import Mirror
from pvc.plugins.networking import keys
from pvc.plugins.networking.gateway.book import BATCH, Book, read_book
from pvc.plugins.networking.records import Lease


class LeaseBook:
    """The leases of every network, each read again only when its version is another one."""

    def __init__(self, coordinator: Coordinator, mirror: Mirror) -> None:
        self._coordinator = coordinator
        self._mirror = mirror
        self._known: dict[str, tuple[tuple[float, int], Book]] = {}

    def of(self, network: str) -> Mapping[str, Lease]:
        """The leases of a network by MAC address; none whose record cannot be read. Raises Disconnected."""
        index = self._mirror.get(keys.leases(network))
        if index is None:
            return {}
        version = (index.created_zxid, index.version)
        if network not in self._known or self._known[network][0] != version:
            self._known[network] = (version, read_book(self._coordinator, network))
        return self._known[network][1].leases

    def write(self, network: str, leases: Mapping[str, Lease], decided_by: int) -> bool:
        """Write new or changed leases, as many as one transaction should have, and forget those without any address;
        whether nobody else has changed any meanwhile, nor the network, whose record had the version `decided_by`.
        Raises Disconnected."""
        known = self._known.get(network)
        book = known[1] if known is not None else read_book(self._coordinator, network)
        first = dict(islice(leases.items(), BATCH))  # the rest with the next step
        try:
            self._coordinator.commit(book.ops(first, decided_by))
        except Conflict:
            return False
        finally:
            self._mirror.drop(keys.leases(network))
            self._known.pop(network, None)
        return True
