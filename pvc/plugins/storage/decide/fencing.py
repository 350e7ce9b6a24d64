"""Who must be kept out of a pool before a VM starts on it, and who may lift that again."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pvc.core.model import Node
from pvc.plugins.storage.decide.pools import PoolState, why_not_usable
from pvc.plugins.storage.schema import SECTION


@dataclass(frozen=True, slots=True)
class Readmission:
    """One pool that is to let one node in again."""

    node: str
    pool: str
    addresses: tuple[str, ...]


def to_be_cut(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that were declared dead and are not back."""
    return [node for node in nodes if node.fence is not None and not node.fence.returned]


def addresses_of(node: Node, pool: str, states: Mapping[str, PoolState]) -> tuple[str, ...]:
    """As which the storage of a pool has seen a node: what it published, else its own address."""
    told = states[pool].addresses if pool in states else ()
    return told or ((node.address,) if node.address else ())


def strangers(writers: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """The machines that have an image open, but those that are known not to write; none if the storage cannot tell."""
    return sorted({address for address in writers or () if address not in known})


def returned(nodes: Iterable[Node]) -> list[Node]:
    """The nodes that were declared dead and are back, and that a storage may still keep out."""
    return [node for node in nodes if node.fence is not None and node.fence.returned]


def due(
    nodes: Iterable[Node], me: str, alive: Collection[str], states: Mapping[str, Mapping[str, PoolState]]
) -> list[Readmission]:
    """The pools that this node has to have let others in again; `states`: by node, of pools, as it publishes them.

    The first that no storage keeps out does it, of those that can use the pool if there are any: the one that is kept
    out may not be heard; if there is no other, it tries itself.
    """
    known = list(nodes)
    others = [node.name for node in known if SECTION in node.roles and node.name in alive and node.fence is None]
    wanted = [
        Readmission(node.name, pool, addresses)
        for node in returned(known)
        for pool, addresses in (node.fence.cut.items() if node.fence else ())
    ]
    return [one for one in wanted if me == _who(one, others, states)]


def _who(one: Readmission, others: Sequence[str], states: Mapping[str, Mapping[str, PoolState]]) -> str:
    able = [name for name in others if not why_not_usable(one.pool, states.get(name, {}))]
    return min(able or others, default=one.node)
