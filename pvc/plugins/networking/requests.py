"""What clients ask of networks: each request is one transaction, repeated if somebody was faster."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from pvc.core import keys as core
from pvc.core.coordination import Conflict, Coordinator, Create, Delete, Op, Put
from pvc.core.errors import PvcError
from pvc.core.lookup import NotFound, all_vms, nearest
from pvc.core.records import decode, encode
from pvc.plugins.networking import keys
from pvc.plugins.networking.decide.attachment import networks_of
from pvc.plugins.networking.decide.networks import free_vni, problems, why_not_removed
from pvc.plugins.networking.gateway.book import BATCH, read_book
from pvc.plugins.networking.gateway.decide.addresses import astray
from pvc.plugins.networking.gateway.decide.checks import used_by
from pvc.plugins.networking.records import Network, NetworkKind, read_networks, read_ports

T = TypeVar("T")

TRIES = 10
"""How often a request is repeated when somebody else changes a network at the same moment."""


class Refused(PvcError):
    """The request makes no sense beside what there is; the message says why and what to do."""


def add(coordinator: Coordinator, wanted: Network) -> Network:
    """Make a network; a managed one without a VNI gets a free one. Raises Refused, Disconnected."""

    def attempt(known: Mapping[str, Network | None]) -> tuple[Network, list[Op]]:
        if wanted.name in known:
            raise Refused(f"there is a network {wanted.name} already; `pvc network info {wanted.name}` shows it")
        others = _readable(known)
        managed = wanted.kind is NetworkKind.MANAGED
        network = replace(wanted, vni=free_vni(others)) if managed and wanted.vni is None else wanted
        _demand_sense(network, others)
        name, path = network.name, keys.network(network.name)
        return network, [Create(path, encode(network)), *map(Create, (keys.ports(name), keys.leases(name)))]

    return _changed(coordinator, attempt)


def modify(coordinator: Coordinator, name: str, changes: Mapping[str, Any]) -> Network:
    """Change fields of a network. Raises NotFound, Refused, Garbage, Disconnected."""
    return alter(coordinator, name, lambda network: replace(network, **changes))


def alter(coordinator: Coordinator, name: str, change: Callable[[Network], Network]) -> Network:
    """Make another network of one; `change` is asked anew if somebody was faster.

    Raises NotFound, Refused, Garbage, Disconnected, and what `change` raises.
    """

    def attempt(known: Mapping[str, Network | None]) -> tuple[Network, list[Op]]:
        found, version = find_network(coordinator, name)
        network = change(found)
        _demand_sense(network, _readable(known))
        return network, [Put(keys.network(name), encode(network), version), *_demand_reservations(coordinator, network)]

    return _changed(coordinator, attempt)


def remove(coordinator: Coordinator, name: str) -> None:
    """Forget a network that no VM uses. Raises NotFound, Refused, Disconnected."""

    def attempt(known: Mapping[str, Network | None]) -> tuple[None, list[Op]]:
        if name not in known:
            raise _missing(name, known)
        demand_unused(coordinator, name)
        while len(macs := coordinator.children(keys.leases(name)) or ()) > BATCH:  # too many for one transaction
            coordinator.commit([Delete(keys.lease(name, mac)) for mac in macs[:BATCH]])
        return None, [Delete(path) for path in _tree(coordinator, keys.network(name))]

    _changed(coordinator, attempt)


def demand_unused(coordinator: Coordinator, name: str) -> None:
    """Raise Refused if VMs or other networks use a network. Raises Disconnected."""
    others = [network for network in read_networks(coordinator).values() if network is not None]
    upstream_of = used_by(name, others)
    if why := why_not_removed(name, users(coordinator, name), plugged(coordinator, name), upstream_of):
        raise Refused(why)


def find_network(coordinator: Coordinator, name: str) -> tuple[Network, int]:
    """A network and the version of its record. Raises NotFound with the nearest names, Garbage, Disconnected."""
    plain = bool(name) and "/" not in name and "\0" not in name and name not in (".", "..")
    znode = coordinator.get(keys.network(name)) if plain else None
    if znode is None:
        raise _missing(name, read_networks(coordinator))
    return decode(Network, znode.data, keys.network(name)), znode.version


def users(coordinator: Coordinator, name: str) -> list[str]:
    """The VMs whose definitions name a network. Raises Disconnected."""
    vms, _ = all_vms(coordinator)
    paths = [core.vm_xml(vm.uuid) for vm in vms]
    return [
        vm.name
        for vm, znode in zip(vms, coordinator.get_many(paths), strict=True)
        if znode is not None and name in networks_of(znode.data.decode(errors="replace"))
    ]


def plugged(coordinator: Coordinator, name: str) -> dict[str, int]:
    """How many interfaces of running VMs are on a network, by node. Raises Disconnected."""
    nodes = set(coordinator.children(core.NODES) or ())
    ports = read_ports(coordinator, name)
    return {node: len(claimed.macs) for node, claimed in ports.items() if claimed.macs and node in nodes}


def _demand_sense(network: Network, others: list[Network]) -> None:
    if found := problems(network, others):
        raise Refused("; ".join(found))


def _demand_reservations(coordinator: Coordinator, network: Network) -> list[Op]:
    """Raise Refused if the network as it would be cannot keep its reservations; what keeps new ones out meanwhile."""
    if network.kind is NetworkKind.BRIDGED:
        return []
    book = read_book(coordinator, network.name)
    if lost := astray(network, book.leases):
        raise Refused(f"reservations speak against that: {'; '.join(lost)}; remove or change them first")
    return [book.guard()]


def _readable(known: Mapping[str, Network | None]) -> list[Network]:
    """Raises Refused if one cannot be read: nobody could vouch that nothing is used twice."""
    if lost := [name for name, network in known.items() if network is None]:
        raise Refused(f"the record of {', '.join(lost)} cannot be read; remove that network, or repair its record")
    return [network for network in known.values() if network is not None]


def _changed(coordinator: Coordinator, attempt: Callable[[Mapping[str, Network | None]], tuple[T, list[Op]]]) -> T:
    """Commit what `attempt` answers to the networks that there are, if none has changed since they were read."""
    for left in reversed(range(TRIES)):
        index = coordinator.get(keys.NETWORKS)
        known = {} if index is None else read_networks(coordinator)
        guard: Op = Create(keys.NETWORKS) if index is None else Put(keys.NETWORKS, b"", index.version)
        try:
            answer, ops = attempt(known)
            coordinator.commit([guard, *ops])
            return answer
        except Conflict:
            if not left:
                raise
    raise AssertionError("unreachable")


def _tree(coordinator: Coordinator, path: str) -> list[str]:
    """A node of the tree and all below it, children first."""
    below = [part for name in coordinator.children(path) or () for part in _tree(coordinator, f"{path}/{name}")]
    return [*below, path]


def _missing(name: str, known: Mapping[str, object]) -> NotFound:
    close = nearest(name, known)
    hint = f"did you mean {' or '.join(close)}?" if close else "`pvc network list` shows them all"
    return NotFound(f"there is no network {name!r}; {hint}")
