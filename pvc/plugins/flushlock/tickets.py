"""Reads the queue of tickets from the tree."""

from pvc.core.coordination import Coordinator, Znode
from pvc.core.mirror import Mirror
from pvc.core.records import Garbage, decode
from pvc.plugins.flushlock import keys
from pvc.plugins.flushlock.decide.queue import Place, Ticket


def read_queue(source: Coordinator | Mirror) -> list[Place]:
    """All tickets, first come first. A ticket that cannot be read keeps its place. Raises Disconnected."""
    places = []
    for name in sorted(source.children(keys.QUEUE) or ()):
        znode = source.get(keys.ticket(name))
        if znode is not None:
            places.append(Place(name, znode.owner, _ticket(znode, keys.ticket(name))))
    return places


def _ticket(znode: Znode, path: str) -> Ticket | None:
    try:
        return decode(Ticket, znode.data, path)
    except Garbage:
        return None
