"""Prints console logs: the VMs' output on one side, what is told about it on the other, never mixed up.

On a terminal both share the screen, where colours and form keep them apart; otherwise standard output carries the
output alone and everything else goes to standard error.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from re import Pattern
from typing import Protocol

from pvc.plugins.consolelog.decide.lines import Lines, Piece, breaks_off
from pvc.plugins.consolelog.decide.moments import stamp
from pvc.plugins.consolelog.decide.terminal import Colours, Screen
from pvc.plugins.consolelog.reader import Notice
from pvc.plugins.consolelog.ring import Chunk, Event, Gap, Loss, Marker, Text

PATIENCE = 2.0
"""Seconds for which the beginning of a line waits for its end where lines are not to be broken: among those of other
VMs, and where they are chosen. A publication that ended within a line is long followed by the next one then."""


class Pen(Protocol):
    """Writes in one of the formats."""

    def write(self, vm: str, piece: Piece) -> None:
        """Write output of a VM."""

    def remark(self, vm: str, item: Chunk | Notice) -> None:
        """Write what is no output: a marker, a gap, a notice. `vm` may be empty."""

    def end(self) -> None:
        """Leave everything as it was found."""

    def flush(self) -> None:
        """Have everything written arrive."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What to print of a VM's output."""

    colours: Colours
    whole: bool = False
    """Only whole lines, or what has waited for PATIENCE seconds."""
    wanted: Pattern[str] | None = None
    """Only lines in which this is found."""


class Printer:
    """Takes items of several VMs as they come and has a pen write them. `clock` counts seconds."""

    def __init__(self, pen: Pen, choice: Choice, clock: Callable[[], float]) -> None:
        self._pen = pen
        self._choice = choice
        self._clock = clock
        self._lines: dict[str, Lines] = {}
        self._due: dict[str, float] = {}

    @property
    def pause(self) -> float | None:
        """Seconds until something that is held back is due; None: nothing is held back."""
        return max(0.0, min(self._due.values()) - self._clock()) if self._due else None

    def print(self, vm: str, item: Chunk | Notice) -> None:
        """Print one item of a VM."""
        if vm not in self._lines:
            self._lines[vm] = Lines(Screen(self._choice.colours), whole=self._choice.whole, wanted=self._choice.wanted)
        lines = self._lines[vm]
        if isinstance(item, Chunk) and isinstance(item.content, Text):
            self._write(vm, lines.add(item.offset, item.at, item.content.data))
        else:
            ends = isinstance(item, Chunk) and breaks_off(item.content)
            self._write(vm, lines.end(item.offset, item.at) if isinstance(item, Chunk) and ends else lines.rest())
            self._pen.remark(vm, item)
        self._schedule(vm)
        self._pen.flush()

    def print_due(self) -> None:
        """Print what has waited for its end long enough."""
        now = self._clock()
        for vm in [vm for vm, due in self._due.items() if due <= now]:
            self._write(vm, self._lines[vm].rest())
            self._schedule(vm)
        self._pen.flush()

    def end(self) -> None:
        """Print what was held back; nothing can be printed any more."""
        for vm, lines in self._lines.items():
            self._write(vm, lines.end(0, 0.0))
        self._pen.end()
        self._pen.flush()

    def _write(self, vm: str, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            self._due.pop(vm, None)  # it is another line that waits now, if any
            self._pen.write(vm, piece)

    def _schedule(self, vm: str) -> None:
        if not self._lines[vm].holds:
            self._due.pop(vm, None)
        elif vm not in self._due:
            self._due[vm] = self._clock() + PATIENCE


def words(chunk: Chunk) -> str:
    """A marker or gap, told in words."""
    content = chunk.content
    if isinstance(content, Marker):
        return f"{_marker(content)} at {stamp(chunk.at)}"
    assert isinstance(content, Gap)
    amount = "some output may be" if content.skipped is None else f"{content.skipped} bytes of output are"
    return f"{amount} missing here: {_WHY[content.loss]}"


def _marker(marker: Marker) -> str:
    if marker.event is Event.MOVED:
        return f"moved from {marker.node} to {marker.target}" if marker.target else f"moved away from {marker.node}"
    return {
        Event.STARTED: f"started on {marker.node}",
        Event.STOPPED: f"stopped on {marker.node}",
        Event.CRASHED: f"ended on {marker.node} without being asked to",
    }[marker.event]


_WHY = {
    Loss.RATE: "the VM printed more than consolelog.max_rate lets through",
    Loss.FILE: "the log file was cut or replaced before all of it was published",
    Loss.NODE: "the node that had it could not publish it",
    Loss.RING: "the log dropped it before it was read",
}
