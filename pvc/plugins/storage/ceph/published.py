"""How nodes publish what they see of Ceph, and how that is read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from pvc.core.model import NodeFacts
from pvc.core.records import Garbage, decode, encode
from pvc.core.shapes import LONGEST_FACT
from pvc.plugins.storage.keys import CEPH, OSD

T = TypeVar("T")

MOST = 20
"""OSDs that a list in a fact names."""
LENGTHS = (150, 80, 40, 0)
"""Characters that a check's text may have, the first that lets all fit."""


@dataclass(frozen=True, slots=True)
class CephState:
    """A Ceph cluster as one node publishes it."""

    problem: str = ""
    """Why Ceph cannot be asked from this node; empty: it can, and the rest counts."""
    health: str = ""
    checks: tuple[str, ...] = ()
    """What Ceph's own checks say, as `CODE: text`; as many as a fact has room for."""
    total: int = 0
    """Bytes."""
    free: int = 0
    """Bytes, rounded."""
    degraded: int = 0
    misplaced: int = 0
    copies: int = 0
    rate: int = 0
    slow: int = 0
    monitors: int = 0
    quorum: int = 0
    mgr: bool = True
    osds: int = 0
    down: tuple[int, ...] = ()
    """OSDs that are down, and those that are out; as many as a fact has room for."""
    out: tuple[int, ...] = ()
    strangers: tuple[int, ...] = ()
    """OSDs that belong to no node of this cluster."""
    flags: tuple[str, ...] = ()
    unstoppable: str = ""
    """Why this node's OSDs must not be stopped now; empty: they may, or it has none, or nobody can tell."""


@dataclass(frozen=True, slots=True)
class OsdState:
    """One OSD as the node that it belongs to publishes it."""

    up: bool
    inside: bool
    kind: str = ""
    weight: float = 0.0
    size: int | None = None
    """Bytes; None: not known."""
    used: int | None = None
    """Bytes, rounded."""


def published(state: CephState | None, osds: Mapping[int, OsdState]) -> dict[str, str]:
    """The facts that tell of Ceph; every one shorter than a fact may be."""
    if state is None:
        return {}
    told = {f"{OSD}{id}": encode(osd).decode() for id, osd in sorted(osds.items())}
    return {CEPH: encode(_fitting(state)).decode(), **told}


def state_in(facts: NodeFacts) -> CephState | None:
    """What a node publishes of the Ceph cluster; None: nothing that can be read."""
    return _read(CephState, facts, CEPH)


def osds_in(facts: NodeFacts) -> dict[int, OsdState]:
    """The OSDs that belong to a node, as it publishes them."""
    keys = [key for key in facts.extra if key.startswith(OSD) and key.removeprefix(OSD).isdigit()]
    read = {int(key.removeprefix(OSD)): _read(OsdState, facts, key) for key in keys}
    return {id: osd for id, osd in sorted(read.items()) if osd is not None}


def best_of(states: Iterable[CephState]) -> CephState | None:
    """Of what several nodes see the state to believe: that of one that reaches Ceph, if there is one."""
    known = list(states)
    return next((state for state in known if not state.problem), known[0] if known else None)


def _fitting(state: CephState) -> CephState:
    """The state, with texts and lists so short that it fits into a fact."""
    few = replace(state, down=state.down[:MOST], out=state.out[:MOST], strangers=state.strangers[:MOST])
    for longest in LENGTHS:
        short = replace(
            few,
            problem=few.problem[: 2 * longest],
            checks=tuple(check[:longest] for check in few.checks[:5] if longest),
            unstoppable=few.unstoppable[: 2 * longest],
        )
        if len(encode(short).decode()) <= LONGEST_FACT:
            return short
    return CephState(health=state.health)


def _read(kind: type[T], facts: NodeFacts, key: str) -> T | None:
    text = facts.extra.get(key)
    try:
        return None if text is None else decode(kind, text.encode(), key)
    except Garbage:
        return None
