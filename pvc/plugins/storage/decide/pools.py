"""How nodes publish what they see of the cluster's pools, and whether a pool will do for a VM."""

from collections.abc import Mapping
from dataclasses import dataclass

from pvc.core.model import NodeFacts
from pvc.core.records import Garbage, decode, encode
from pvc.plugins.storage.keys import POOL_STATE

LONGEST_TEXT = 300
"""Characters of a problem or warning in the facts: even if each is written with an escape, a fact is not cut off."""

MOST_ADDRESSES = 6
"""Of a node on the network of its storage: one, or two where it has two families."""


@dataclass(frozen=True, slots=True)
class PoolState:
    """One pool as a node sees it."""

    total: int = 0
    """Bytes."""
    free: int = 0
    """Bytes, rounded: a few more or less are no news for the cluster."""
    problem: str = ""
    """Why it cannot be used on this node; empty: it can."""
    warning: str = ""
    """What is not as it should be though it can be used."""
    addresses: tuple[str, ...] = ()
    """As which the storage sees this node, where it can keep a node out."""


def published(states: Mapping[str, PoolState]) -> dict[str, str]:
    """The facts that tell of pools; every one shorter than a fact may be."""
    return {f"{POOL_STATE}{name}": encode(_short(state)).decode() for name, state in sorted(states.items())}


def published_in(facts: NodeFacts) -> dict[str, PoolState]:
    """The pools in a node's facts, by name; not what cannot be read."""
    found = {}
    for key, text in facts.extra.items():
        if key.startswith(POOL_STATE):
            try:
                found[key.removeprefix(POOL_STATE)] = decode(PoolState, text.encode(), key)
            except Garbage:
                continue
    return found


def why_not_usable(pool: str, states: Mapping[str, PoolState]) -> str:
    """Why a node that publishes this cannot use a pool; empty: it can."""
    state = states.get(pool)
    if state is None:
        return f"has not looked at pool {pool} yet"
    return f"cannot use pool {pool}: {state.problem}" if state.problem else ""


def _short(state: PoolState) -> PoolState:
    return PoolState(
        state.total,
        state.free,
        state.problem[:LONGEST_TEXT],
        state.warning[:LONGEST_TEXT],
        state.addresses[:MOST_ADDRESSES],
    )
