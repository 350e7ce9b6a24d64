"""Where a reader stands in the stream, and what it must fetch next."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvc.plugins.consolelog.decide.lines import Lines, breaks_off
from pvc.plugins.consolelog.decide.terminal import Colours, Screen
from pvc.plugins.consolelog.ring import Chunk, Header, Text, span

BATCH = 64
"""Blocks of chunks that are fetched at once at first."""
LARGEST_BATCH = 512
"""The same when that was not enough."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where reading begins: where all of these hold."""

    lines: int | None = None
    """So many lines before the end; None: as far back as there is something."""
    since: float | None = None
    """Seconds since the epoch: what was published before is left out."""
    wanted: re.Pattern[str] | None = None
    """`lines` counts only those in which this is found."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the stream: everything before it has been seen."""

    number: int
    """Of the block that holds the next chunk, or will."""
    offset: int
    """Of the next byte."""
    index: int = 0
    """Of the next chunk in its block."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """What to do next: report the loss, then get the blocks `first` to `last - 1`."""

    lost: int
    """Bytes that the ring dropped before they were read."""
    first: int
    last: int
    offset: int
    """Stream offset at which `first` begins."""


def next_fetch(cursor: Cursor, header: Header) -> Fetch:
    """What a reader at `cursor` must get; nothing if `first` equals `last`."""
    if cursor.number >= header.first_number:
        last = cursor.number if is_at_end(cursor, header) else min(header.number, cursor.number + BATCH)
        return Fetch(0, cursor.number, last, cursor.offset)
    lost = max(0, header.first - cursor.offset)
    first = header.first_number
    return Fetch(lost, first, min(header.number, first + BATCH), header.first)


def is_at_end(cursor: Cursor, header: Header) -> bool:
    """Whether a reader has seen everything that the header tells of."""
    return (cursor.number, cursor.index) >= (header.number - 1, header.newest)


def end(header: Header) -> Cursor:
    """The place behind everything that the header tells of."""
    if header.newest and header.number > header.first_number:
        return Cursor(header.number - 1, header.next, header.newest)
    return Cursor(header.number, header.next)


def after(chunk: Chunk) -> Cursor:
    """The place right behind a chunk: in its block, if that may get more."""
    offset = chunk.offset + span(chunk.content)
    return Cursor(chunk.number, offset, chunk.index + 1) if chunk.more else Cursor(chunk.number + 1, offset)


def unseen(chunks: Sequence[Chunk], cursor: Cursor) -> list[Chunk]:
    """Those chunks of one block that come after the reader's place."""
    return [chunk for chunk in chunks if (chunk.number, chunk.index) >= (cursor.number, cursor.index)]


def beginning(chunks: Sequence[Chunk], start: Start, *, complete: bool) -> list[Chunk] | None:
    """The chunks from the start on, the first one cut; None: what was before them must be looked at as well.

    `chunks` are the last ones of the log; `complete`: there is nothing before them.
    """
    recent = None if start.since is None else _published_since(chunks, start.since)
    complete = complete or recent is not None
    held = list(chunks if recent is None else recent)
    if start.lines is not None and (start.wanted is None or start.lines == 0):
        found = last_lines(held, start.lines)
    else:
        found = _last_matching(held, start.lines, start.wanted) if complete and start.lines is not None else None
    return held if found is None and complete else found


def _published_since(chunks: Sequence[Chunk], since: float) -> list[Chunk] | None:
    """What was published since, with the beginning of the line that it goes on with; None: all of it was."""
    older = next((index for index in range(len(chunks) - 1, -1, -1) if chunks[index].at < since), None)
    if older is None:
        return None
    recent = list(chunks[older + 1 :])
    if recent and isinstance(recent[0].content, Text):
        recent = _open_line(chunks[: older + 1]) + recent
    return recent


def _open_line(chunks: Sequence[Chunk]) -> list[Chunk]:
    """The beginning of the line that has not ended at the end of the chunks."""
    found: list[Chunk] = []
    for chunk in reversed(chunks):
        if not isinstance(chunk.content, Text):
            break
        begin = chunk.content.data.rfind(b"\n") + 1
        found += _cut(chunk, chunk.content.data, begin)
        if begin > 0:
            break
    return found[::-1]


def _last_matching(chunks: Sequence[Chunk], count: int, wanted: re.Pattern[str] | None) -> list[Chunk] | None:
    """The chunks from the start of the last `count` lines on in which `wanted` is found; None: there are fewer."""
    lines = Lines(Screen(Colours.REMOVED), wanted=wanted)
    begins: list[int] = []
    for chunk in chunks:
        if isinstance(chunk.content, Text):
            begins += [piece.offset for piece in lines.add(chunk.offset, chunk.at, chunk.content.data)]
        elif breaks_off(chunk.content):
            begins += [piece.offset for piece in lines.end(chunk.offset, chunk.at)]
    begins += [piece.offset for piece in lines.rest()]
    return None if len(begins) < count else _from(chunks, begins[-count])


def _from(chunks: Sequence[Chunk], offset: int) -> list[Chunk]:
    """The chunks from an offset in one of them on."""
    found: list[Chunk] = []
    for chunk in chunks:
        if chunk.offset >= offset:
            found.append(chunk)
        elif isinstance(chunk.content, Text) and chunk.offset + len(chunk.content.data) > offset:
            found += _cut(chunk, chunk.content.data, offset - chunk.offset)
    return found


def _cut(chunk: Chunk, data: bytes, begin: int) -> list[Chunk]:
    return [replace(chunk, offset=chunk.offset + begin, content=Text(data[begin:]))] if data[begin:] else []


def last_lines(chunks: Sequence[Chunk], count: int) -> list[Chunk] | None:
    """The chunks from the start of the last `count` lines on, the first one cut; None: the chunks hold fewer lines.

    A last line that has not ended yet counts as one. With a count of 0 nothing is left.
    """
    if count <= 0:
        return []
    wanted = count
    ends_open: bool | None = None
    for index in range(len(chunks) - 1, -1, -1):
        chunk = chunks[index]
        if not isinstance(chunk.content, Text) or not chunk.content.data:
            continue
        data = chunk.content.data
        if ends_open is None:
            ends_open = not data.endswith(b"\n")
            wanted += 0 if ends_open else 1
        found = data.count(b"\n")
        if found < wanted:
            wanted -= found
            continue
        begin = _nth_from_end(data, wanted) + 1
        return _cut(chunk, data, begin) + list(chunks[index + 1 :])
    return None


def _nth_from_end(data: bytes, count: int) -> int:
    """The index of the `count`-th line end from the end."""
    index = len(data)
    for _ in range(count):
        index = data.rindex(b"\n", 0, index)
    return index
