"""The formats of `pvc vm log`: text for people, the VM's very bytes, and one JSON object a line for programs."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pvc.plugins.consolelog.decide.lines import Piece
from pvc.plugins.consolelog.decide.moments import stamp
from pvc.plugins.consolelog.decide.terminal import RESET, Colours, Screen, is_coloured
from pvc.plugins.consolelog.printer import words
from pvc.plugins.consolelog.reader import Notice
from pvc.plugins.consolelog.ring import Chunk, Gap, Marker, Text

_REVERSE = "\x1b[7m"
_PREFIXES = ("\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[31m")
"""Colours of the prefixes, VM after VM."""


class Sink(Protocol):
    """Where bytes go: a binary file."""

    def write(self, data: bytes, /) -> object: ...
    def flush(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Look:
    """How text is laid out."""

    terminal: bool
    """It goes to a screen (or to a pager in front of one)."""
    timestamps: bool = False
    """Lines begin with the time at which they were published."""
    prefix: bool = False
    """Lines begin with the name of their VM."""
    apart: bool = False
    """Lines stand alone: the colour of one does not run on into the next."""


class TextPen:
    """Lines as the VM printed them. `note` takes a line for standard error; `names` are the VMs known beforehand."""

    def __init__(self, out: Sink, note: Callable[[str], None], look: Look, names: Sequence[str] = ()) -> None:
        self._out = out
        self._note = note
        self._look = look
        self._names: dict[str, str] = {}
        self._width = 0
        self._open: str | None = None  # whose line has not ended
        self._coloured = False
        for name in names:
            self._know(name)

    def write(self, vm: str, piece: Piece) -> None:
        text = piece.text
        if self._open != vm or piece.begins:
            text = self._break() + self._head(vm, piece) + text
        self._coloured = is_coloured(piece.text, self._coloured)
        ends = text.endswith("\n")
        if ends and self._look.apart:
            text = text[:-1] + self._reset() + "\n"
        self._open = None if ends else vm
        self._put(text)

    def remark(self, vm: str, item: Chunk | Notice) -> None:
        told = item.text if isinstance(item, Notice) else words(item)
        name = f"{vm}: " if vm and self._look.prefix else ""
        line = f"--- {name}{told} ---"
        if self._look.terminal:
            self._put(f"{self._break()}{_REVERSE}{line}{RESET}\n")
        else:
            self._out.flush()  # both may lead to the same file
            self._note(line)

    def end(self) -> None:
        if self._look.terminal:
            self._put(self._break())

    def flush(self) -> None:
        self._out.flush()

    def _break(self) -> str:
        """What ends an unfinished line, so that another can begin."""
        is_open, self._open = self._open is not None, None
        return self._reset() + ("\n" if is_open else "")

    def _reset(self) -> str:
        coloured, self._coloured = self._coloured, False
        return RESET if coloured else ""

    def _head(self, vm: str, piece: Piece) -> str:
        when = f"{stamp(piece.at)} " if self._look.timestamps else ""
        return self._prefix(vm, goes_on=not piece.begins) + when

    def _prefix(self, vm: str, *, goes_on: bool) -> str:
        """`>` in place of `|` marks a line whose beginning was printed further up."""
        if not self._look.prefix:
            return ""
        self._know(vm)
        name = f"{self._names[vm].ljust(self._width)} {'>' if goes_on else '|'}"
        colour = _PREFIXES[list(self._names).index(vm) % len(_PREFIXES)]
        return f"{colour}{name}{RESET} " if self._look.terminal else f"{name} "

    def _know(self, vm: str) -> None:
        if vm not in self._names:
            self._names[vm] = harmless = Screen(Colours.REMOVED).show(vm.encode())
            self._width = max(self._width, len(harmless))

    def _put(self, text: str) -> None:
        if text:
            self._out.write(text.encode())


class JsonPen:
    """One object a line: a marker, a gap, a line of output, or as much of a line as has come."""

    def __init__(self, out: Sink, note: Callable[[str], None]) -> None:
        self._out = out
        self._note = note

    def write(self, vm: str, piece: Piece) -> None:
        self._put(vm, piece.at, piece.offset, "text", piece.text)

    def remark(self, vm: str, item: Chunk | Notice) -> None:
        if isinstance(item, Notice):
            self._note(f"--- {vm}: {item.text} ---" if vm else f"--- {item.text} ---")
        elif isinstance(item.content, Marker):
            marker = item.content
            more = {"event": marker.event.value, "node": marker.node, "target": marker.target or None}
            self._put(vm, item.at, item.offset, "marker", words(item), more)
        elif isinstance(item.content, Gap):
            lost = {"skipped": item.content.skipped, "loss": item.content.loss.value}
            self._put(vm, item.at or None, item.offset, "gap", words(item), lost)

    def end(self) -> None:
        """Nothing is left open: every object is a whole line."""

    def flush(self) -> None:
        self._out.flush()

    def _put(
        self, vm: str, at: float | None, offset: int, kind: str, text: str, more: Mapping[str, object] | None = None
    ) -> None:
        fields = {"vm": vm, "at": at, "offset": offset, "kind": kind, "text": text, **(more or {})}
        # In ASCII: with Colours.UNTOUCHED a text may have control characters that JSON would not have to escape.
        self._out.write(json.dumps(fields).encode() + b"\n")


class RawPrinter:
    """Prints one VM's very bytes; everything else goes to standard error. Stands in for a `Printer`."""

    def __init__(self, out: Sink, note: Callable[[str], None]) -> None:
        self._out = out
        self._note = note

    @property
    def pause(self) -> float | None:
        """Nothing is ever held back."""
        return None

    def print(self, vm: str, item: Chunk | Notice) -> None:
        """Print one item."""
        if isinstance(item, Chunk) and isinstance(item.content, Text):
            self._out.write(item.content.data)
            self._out.flush()
        else:
            self._note(f"--- {item.text if isinstance(item, Notice) else words(item)} ---")

    def print_due(self) -> None:
        """Nothing is ever held back."""

    def end(self) -> None:
        """Nothing is left open."""
