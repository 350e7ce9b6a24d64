"""The record of a network's rules in the tree: read, and changed by compare-and-set."""

from collections.abc import Callable
from typing import TypeVar

from pvc.core.coordination import Conflict, Coordinator, Create, Put, Znode
from pvc.core.errors import PvcError
from pvc.core.mirror import Mirror
from pvc.core.records import decode, encode
from pvc.plugins.networking.firewall import keys
from pvc.plugins.networking.firewall.rules import NAME, Acl

ATTEMPTS = 10
"""Times that a change is made anew because somebody else was first."""

T = TypeVar("T")


class NoSuchNetwork(PvcError):
    """There is no network of that name."""


class Contended(PvcError):
    """Others have kept changing the rules meanwhile."""


def read_acl(source: Coordinator | Mirror, network: str) -> Acl:
    """The rules of a network; none of its own: everything passes. Raises Garbage, Disconnected."""
    return _decoded(source.get(keys.acl(network)), network)


def demand_network(coordinator: Coordinator, network: str) -> None:
    """Raise NoSuchNetwork unless the network exists. Raises Disconnected."""
    if not NAME.fullmatch(network) or coordinator.get(keys.acl(network).rpartition("/")[0]) is None:
        raise NoSuchNetwork(f"there is no network {network!r}; create it first, or mend the name")


def change_acl(coordinator: Coordinator, network: str, change: Callable[[Acl], tuple[Acl, T]]) -> T:
    """Write what `change` makes of the rules, and answer what it answers beside; called anew if they have changed.

    Raises NoSuchNetwork, Contended, Garbage, TooLarge, Disconnected, and what `change` raises.
    """
    demand_network(coordinator, network)
    path = keys.acl(network)
    for _ in range(ATTEMPTS):
        znode = coordinator.get(path)
        acl, answer = change(_decoded(znode, network))
        data = encode(acl)
        try:
            coordinator.commit([Create(path, data) if znode is None else Put(path, data, znode.version)])
            return answer
        except Conflict:  # written by others since it was read, or gone with its network
            demand_network(coordinator, network)
    raise Contended(f"others are changing the rules of {network} all the time; try again")


def _decoded(znode: Znode | None, network: str) -> Acl:
    return Acl() if znode is None else decode(Acl, znode.data, keys.acl(network))
