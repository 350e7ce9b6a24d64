"""How nodes publish what they see of the cluster's pools, and whether a pool will do for a VM."""

from collections.abc import Mapping
from dataclasses import dataclass

from pvc.core.model import Finding, NodeFacts, Severity
from pvc.core.records import Garbage, decode, encode
from pvc.core.storage import Room
from pvc.plugins.storage.keys import POOL_STATE
from pvc.plugins.storage.schema import SECTION

LONGEST_TEXT = 300
"""Characters of a problem or warning in the facts: even if each is written with an escape, a fact is not cut off."""
PRECISION = 3
"""Digits of the free room that are published."""

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


def state_of(look: Room | str, addresses: tuple[str, ...] = ()) -> PoolState:
    """What to publish of a pool; `look`: its room, or why it cannot be used; `addresses`: of this node, as seen."""
    if isinstance(look, str):
        return PoolState(problem=look, addresses=addresses)
    return PoolState(look.total, _rounded(max(0, look.free)), warning=look.warning, addresses=addresses)


def findings(states: Mapping[str, PoolState], nearly_full: int) -> list[Finding]:
    """What is wrong with the pools: those that cannot be used, are full to `nearly_full` percent, or have a warning."""
    found = []
    for name, state in sorted(states.items()):
        if state.problem:
            text = f"pool {name} cannot be used: {state.problem}; no VM with a volume in it comes here"
            found.append(Finding(SECTION, Severity.CRITICAL, text))
            continue
        if state.total and 100 * (state.total - state.free) >= nearly_full * state.total:
            used = 100 * (state.total - state.free) // state.total
            text = f"pool {name} is full to {used} %: remove volumes and snapshots, or give it more room"
            found.append(Finding(SECTION, Severity.WARNING, text))
        if state.warning:
            found.append(Finding(SECTION, Severity.WARNING, f"pool {name}: {state.warning}"))
    return found


def _rounded(bytes: int) -> int:
    unit: int = 10 ** max(0, len(str(bytes)) - PRECISION)
    return bytes // unit * unit


def _short(state: PoolState) -> PoolState:
    return PoolState(
        state.total,
        state.free,
        state.problem[:LONGEST_TEXT],
        state.warning[:LONGEST_TEXT],
        state.addresses[:MOST_ADDRESSES],
    )
