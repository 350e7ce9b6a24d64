"""Prints a console log: the VM's output on one side, what is told about it on the other, never mixed up.

On a terminal both share the screen, where colours and form keep them apart; otherwise standard output carries the VM's
output alone and everything else goes to standard error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from pvc.plugins.consolelog.decide.terminal import RESET, Colours, Screen
from pvc.plugins.consolelog.reader import Notice
from pvc.plugins.consolelog.ring import Chunk, Event, Gap, Loss, Marker, Text

_REVERSE = "\x1b[7m"


class Sink(Protocol):
    """Where bytes go: a binary file."""

    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Style:
    """How to print."""

    terminal: bool
    """The output goes to a screen (or to a pager in front of one)."""
    raw: bool = False
    """Pass the VM's bytes on as they are."""
    timestamps: bool = False
    """Begin each line with the time at which it was published."""


class Printer:
    """Prints one VM's log, item by item. `note` takes a line for standard error."""

    def __init__(self, out: Sink, note: Callable[[str], None], style: Style) -> None:
        self._out = out
        self._note = note
        self._style = style
        self._screen = Screen(Colours.KEPT if style.terminal else Colours.REMOVED)
        self._fresh = True  # the next character begins a line
        self._at = 0.0

    def print(self, item: Chunk | Notice) -> None:
        """Print one item and flush it."""
        if isinstance(item, Notice):
            self._remark(item.text)
        elif isinstance(item.content, Text):
            self._at, data = item.at, item.content.data
            self._write(data if self._style.raw else self._lines(self._screen.show(data)))
        else:
            self._write(b"" if self._style.raw else self._lines(self._screen.end()))
            self._remark(words(item))
        self._out.flush()

    def end(self) -> None:
        """Print what was held back, and leave a terminal as it was."""
        if not self._style.raw:
            self._write(self._lines(self._screen.end()) + self._reset())
            if self._style.terminal and not self._fresh:
                self._write(b"\n")
        self._out.flush()

    def _remark(self, text: str) -> None:
        if not self._style.terminal or self._style.raw:
            self._note(f"--- {text} ---")
            return
        begin = b"" if self._fresh else b"\n"
        self._write(self._reset() + begin + f"{_REVERSE}--- {text} ---{RESET}\n".encode())
        self._fresh = True

    def _reset(self) -> bytes:
        coloured, self._screen.coloured = self._screen.coloured, False
        return RESET.encode() if coloured else b""

    def _lines(self, text: str) -> bytes:
        if not text:
            return b""
        begins, self._fresh = self._fresh, text.endswith("\n")
        if self._style.timestamps:
            stamp = f"{moment(self._at)} "
            text = (stamp if begins else "") + text[:-1].replace("\n", f"\n{stamp}") + text[-1]
        return text.encode()

    def _write(self, data: bytes) -> None:
        if data:
            self._out.write(data)


def words(chunk: Chunk) -> str:
    """A marker or gap, told in words."""
    content = chunk.content
    if isinstance(content, Marker):
        return f"{_marker(content)} at {moment(chunk.at)}"
    assert isinstance(content, Gap)
    amount = "some output may be" if content.skipped is None else f"{content.skipped} bytes of output are"
    return f"{amount} missing here: {_WHY[content.loss]}"


def moment(at: float) -> str:
    """A time in the reader's time zone."""
    return datetime.fromtimestamp(at).strftime("%Y-%m-%d %H:%M:%S")


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
