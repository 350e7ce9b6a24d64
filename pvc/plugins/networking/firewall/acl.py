"""The record of a network's rules in the tree: read, and changed by compare-and-set."""

from collections.abc import Callable
from typing import TypeVar

from pvc.core.coordination import Clash, Conflict, Coordinator, Create, Put, Znode
from pvc.core.errors import PvcError
from pvc.core.mirror import Mirror
from pvc.core.records import decode, encode
from pvc.plugins.networking.firewall import keys
from pvc.plugins.networking.firewall.rules import Acl

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


def change_acl(coordinator: Coordinator, network: str, change: Callable[[Acl], tuple[Acl, T]]) -> T:
    """Write what `change` makes of the rules, and answer what it answers beside; called anew if they have changed.

    Raises NoSuchNetwork, Contended, Garbage, TooLarge, Disconnected, and what `change` raises.
    """
    path = keys.acl(network)
    for _ in range(ATTEMPTS):
        znode = coordinator.get(path)
        acl, answer = change(_decoded(znode, network))
        data = encode(acl)
        try:
            coordinator.commit([Create(path, data) if znode is None else Put(path, data, znode.version)])
            return answer
        except Conflict as conflict:
            if znode is None and conflict.clash is Clash.MISSING:
                raise NoSuchNetwork(
                    f"there is no network {network!r}; look for its name in the list of networks"
                ) from conflict
    raise Contended(f"others are changing the rules of {network} all the time; try again")


def _decoded(znode: Znode | None, network: str) -> Acl:
    return Acl() if znode is None else decode(Acl, znode.data, keys.acl(network))
