"""One VM's output as lines: whole, or as they come; all, or those that match. Pure: chunks in, pieces of text out."""

import re
from dataclasses import dataclass

from pvc.plugins.consolelog.decide.terminal import Screen, plain
from pvc.plugins.consolelog.ring import Content, Event, Gap, Marker

LONGEST = 16 * 1024
"""Characters of one line that are held back at most: a longer one comes in parts."""

_BYTES = re.compile(rb"[^\n]*\n|[^\n]+")
_TEXT = re.compile(r"[^\n]*\n|[^\n]+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A line, or a part of one, as it may be printed."""

    offset: int
    """Where in the stream it begins."""
    at: float
    """When its first byte was published: seconds since the epoch."""
    text: str
    """Ends with a line end if the line does."""
    begins: bool
    """It is the beginning of a line."""


def breaks_off(content: Content) -> bool:
    """Whether what follows begins a line: after a move the stream goes on where it was, even within a character."""
    return isinstance(content, Gap) or (isinstance(content, Marker) and content.event is not Event.MOVED)


class Lines:
    """Cuts what one VM printed into pieces.

    `whole`: a line is held back until it has ended, or until `rest` is asked for. `wanted`: only lines in which this
    is found (colours do not count); they are judged whole, too.
    """

    def __init__(self, screen: Screen, *, whole: bool = False, wanted: re.Pattern[str] | None = None) -> None:
        self._screen = screen
        self._whole = whole or wanted is not None
        self._wanted = wanted
        self._held = ""
        self._offset = 0
        self._at = 0.0
        self._begins = True  # what comes next begins a line; False: the part of the line before it was let out

    @property
    def holds(self) -> bool:
        """Something is held back that `rest` would give."""
        return bool(self._held) and self._passes()

    def add(self, offset: int, at: float, data: bytes) -> list[Piece]:
        """What can be printed after the next bytes."""
        pieces: list[Piece] = []
        for part in _BYTES.findall(data):
            begin = offset - self._screen.held
            offset += len(part)
            pieces += self._take(self._screen.show(part), begin, at)
        return pieces

    def rest(self) -> list[Piece]:
        """What is held back of a line that has not ended, and may go on."""
        return [self._out()] if self.holds else []

    def end(self, offset: int, at: float) -> list[Piece]:
        """What is left when the stream breaks off at `offset`; what follows begins a line."""
        pieces = self._take(self._screen.end(), offset, at) + self.rest()
        self._drop()
        return pieces

    def _take(self, text: str, offset: int, at: float) -> list[Piece]:
        pieces: list[Piece] = []
        for part in _TEXT.findall(text):
            if not self._held:
                self._offset, self._at = offset, at
            self._held += part
            if self._whole and not part.endswith("\n") and len(self._held) <= LONGEST:
                continue
            if self._passes():
                pieces.append(self._out())
            else:
                self._drop()
        return pieces

    def _passes(self) -> bool:
        return (
            self._wanted is None or not self._begins or self._wanted.search(plain(self._held).rstrip("\n")) is not None
        )

    def _out(self) -> Piece:
        piece = Piece(self._offset, self._at, self._held, self._begins)
        self._begins, self._held = self._held.endswith("\n"), ""
        return piece

    def _drop(self) -> None:
        self._begins, self._held = True, ""
