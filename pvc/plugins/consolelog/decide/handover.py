"""Which node may write a VM's console log, and when one may take that over from another."""

from dataclasses import dataclass
from enum import Enum

from pvc.core.observers import VmChange
from pvc.plugins.consolelog.ring import Content, Event, Gap, Header, Loss, Marker

PATIENCE = 5.0
"""Seconds that a node waits for the VM's last writer to publish the rest and hand over."""
SETTLE = 0.1
"""Seconds for which a file must have been quiet after its VM has gone: a log daemon writes what the emulator left in
its pipe a moment after the emulator has ended."""


class Claim(Enum):
    """What a node may do about a log."""

    WRITE = "write"
    """It is the writer, or nobody has to hand anything over: write, and be the writer from then on."""
    SEIZE = "seize"
    """The one who should hand over is gone or does not answer: write; output may be missing."""
    WAIT = "wait"
    DROP = "drop"
    """Another node writes by right: give up what was not published."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a node knows when it wants to write."""

    node: str
    change: VmChange
    """What brought the VM here."""
    peer: str | None = None
    """Where it came from, if it arrived."""
    waited: float = 0.0
    """Seconds since it first wanted to."""
    source_lives: bool = True
    """The daemon of the node that should hand over holds its session."""
    ended: VmChange | None = None
    """The VM is no longer here, because of this."""
    ended_for: float = 0.0
    """Seconds since it is no longer here."""
    lease: str | None = None
    """The node that holds the VM's lease; None: nobody does. Looked at only where it counts."""
    ousted: bool = False
    """This node was the writer during this stay and another one took it away."""


def source(header: Header | None, standing: Standing) -> str | None:
    """The node that has to hand over before this one may write; None: nobody.

    A VM that arrived while its log is closed was started by the peer, which has not come to writing that yet.
    """
    if header is not None and not header.closed:
        return None if header.writer == standing.node else header.writer
    return standing.peer if standing.change is VmChange.ARRIVED else None


def claim(header: Header | None, standing: Standing) -> Claim:
    """What the node may do. What another node still has to write is never overtaken before PATIENCE is over."""
    departed = standing.ended is VmChange.DEPARTED
    if standing.ended and standing.ousted:
        return Claim.DROP  # its last write may well have been the hand-over, with the answer lost
    if source(header, standing) is None:
        mine = header is not None and not header.closed
        # Later than that, the node that the VM went to has gone on without what is left here.
        return Claim.WRITE if mine or not departed or standing.ended_for < PATIENCE else Claim.DROP
    if standing.waited < PATIENCE and standing.source_lives:
        return Claim.WAIT
    if departed:
        return Claim.DROP
    if standing.ended:
        return Claim.SEIZE if standing.lease in (standing.node, None) else Claim.DROP
    if standing.ousted:
        # Whoever took it believed to have the VM. Only the lease tells who is right, and it may be on its way.
        return Claim.SEIZE if standing.lease == standing.node else Claim.WAIT
    return Claim.SEIZE


def opening(header: Header | None, standing: Standing, verdict: Claim) -> list[Content]:
    """What a node writes into the stream before the VM's first output here; `header` is what it found."""
    contents: list[Content] = [Gap(None, Loss.NODE)] if verdict is Claim.SEIZE else []
    before = source(header, standing)
    if standing.change is VmChange.STARTED:
        contents.append(Marker(Event.STARTED, standing.node))
    elif before is not None:
        contents.append(Marker(Event.MOVED, before, standing.node))
    elif header is not None and header.closed:
        contents.append(Marker(Event.STARTED, standing.node))  # by a daemon that died before it could tell
    return contents


def closing(change: VmChange, node: str, peer: str | None) -> Marker:
    """What a node writes after the VM's last output here."""
    if change is VmChange.DEPARTED:
        return Marker(Event.MOVED, node, peer or "")
    return Marker(Event.CRASHED if change is VmChange.CRASHED else Event.STOPPED, node)
