"""Who is the gateway of a network: what one node does next, and which node an orphaned gateway goes to.

Time comes in as seconds that this node has counted itself: nobody's clock is compared with anybody else's.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from pvc.plugins.networking.records import Gateway

READY_WITHIN = 20.0
"""Seconds in which a node that was asked must have made everything ready; then another one is asked."""
TAKEN_WITHIN = 10.0
"""Seconds in which the node that is to take an orphaned gateway must have done so; then the next one is to."""


class Ticket(Enum):
    """Whose ticket a gateway's is, as one node sees it."""

    NONE = "none"
    OURS = "ours"
    """Of this daemon's own living session."""
    STALE = "stale"
    """Of an earlier daemon or session of this node, which has not expired yet."""
    THEIRS = "theirs"


class Act(Enum):
    """What a node does about one gateway."""

    LEAVE = "leave"
    """Nothing; a router that is here goes."""
    PREPARE = "prepare"
    """Make everything ready, say so, and wait."""
    ELECT = "elect"
    """Nobody is it, and anybody may be: take it if it falls to this node."""
    TAKE = "take"
    """Draw the ticket and begin: it was handed over to this node, or left to it."""
    RENEW = "renew"
    """Replace the ticket of a predecessor; the router goes on all the while."""
    HOLD = "hold"
    """Go on."""
    HAND_OVER = "hand over"
    """Be silent, then give it to the node that is ready."""
    RECALL = "recall"
    """Go on, and ask the other node no longer."""
    RELEASE = "release"
    """Be silent, then give the ticket back: no gateway is wanted any more."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How things stand with one gateway, as one node sees it."""

    wanted: bool
    """The network has a gateway's address."""
    record: Gateway
    ticket: Ticket
    ready: str = ""
    """The node that says that it has made everything ready."""
    orphaned: float = 0.0
    """Seconds for which this node has seen no ticket."""
    asked: float = 0.0
    """Seconds since this node saw that `next` was asked."""
    next_lives: bool = False


def next_act(me: str, standing: Standing) -> Act:
    """What node `me` does now."""
    record = standing.record
    if standing.ticket is Ticket.OURS:
        return _as_holder(me, standing) if standing.wanted else Act.RELEASE
    if not standing.wanted:
        return Act.LEAVE
    if standing.ticket is Ticket.STALE:
        return Act.RENEW
    asked = Act.PREPARE if record.next == me else Act.LEAVE
    if standing.ticket is Ticket.THEIRS:
        return asked
    if record.patience and record.node == me:
        return Act.TAKE
    return asked if standing.orphaned < record.patience else Act.ELECT


def _as_holder(me: str, standing: Standing) -> Act:
    chosen = standing.record.next
    if chosen is None:
        return Act.HOLD
    if chosen == me or not standing.next_lives or standing.asked >= READY_WITHIN:
        return Act.RECALL
    return Act.HAND_OVER if standing.ready == chosen else Act.HOLD


@dataclass(frozen=True, slots=True)
class Candidate:
    """One node as it could be somebody's gateway."""

    name: str
    why_not: str = ""
    """Why it takes no gateway at all; empty: it may."""
    returns: bool = False
    """That is only because it is being unflushed: it may have what it was asked to take."""
    problems: Mapping[str, str] | None = None
    """Of each network that it has set up: why it cannot be used there, or nothing."""
    version: int = 0
    """Of its record: a flush that is asked for meanwhile changes it."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A gateway that needs a node."""

    network: str
    upstream: str = ""
    """The network that leads out of the cluster; empty: none."""
    first: str = ""
    """The node that was asked to take it over: it has it if it can, whatever else it has."""
    passed: int = 0
    """How many nodes had their chance and did not take it."""


def objection(candidate: Candidate, network: str, *, asked: bool = False) -> str:
    """Why a node cannot be a network's gateway; empty: it can. `asked`: it was asked to."""
    if candidate.why_not and not (asked and candidate.returns):
        return candidate.why_not
    problem = (candidate.problems or {}).get(network)
    if problem is None:
        return f"has not set up network {network} yet"
    return f"cannot use network {network}: {problem}" if problem else ""


def allot(wanted: Sequence[Wanted], candidates: Sequence[Candidate], load: Mapping[str, int]) -> dict[str, str]:
    """The node of each gateway, by network; none where no node will do. `load`: how many gateways nodes have.

    The same answer on every node that sees the same: each takes its own share, all at once.
    """
    count = dict(load)
    found: dict[str, str] = {}
    for one in sorted(wanted, key=lambda one: (not one.first, one.network)):
        order = ranked(one, candidates, count)
        if order:
            found[one.network] = order[one.passed % len(order)]
            count[found[one.network]] = count.get(found[one.network], 0) + 1
    return found


def ranked(wanted: Wanted, candidates: Sequence[Candidate], load: Mapping[str, int]) -> list[str]:
    """The nodes that can be its gateway, best first: with the way out, and with the fewest gateways."""
    able = [one for one in candidates if not objection(one, wanted.network, asked=one.name == wanted.first)]
    return [
        candidate.name
        for candidate in sorted(
            able,
            key=lambda one: (
                one.name != wanted.first,
                bool(wanted.upstream and objection(one, wanted.upstream)),
                load.get(one.name, 0),
                one.name,
            ),
        )
    ]


def load_of(holders: Collection[str]) -> dict[str, int]:
    """How many gateways each node has, from the holder of each."""
    found: dict[str, int] = {}
    for node in holders:
        found[node] = found.get(node, 0) + 1
    return found
