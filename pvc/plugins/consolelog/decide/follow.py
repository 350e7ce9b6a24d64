"""Where a reader stands in the stream, and what it must fetch next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pvc.plugins.consolelog.ring import Chunk, Header, Text, span

BATCH = 64
"""Blocks that are fetched at once."""


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
        cut = replace(chunk, offset=chunk.offset + begin, content=Text(data[begin:]))
        return [*([cut] if data[begin:] else []), *chunks[index + 1 :]]
    return None


def _nth_from_end(data: bytes, count: int) -> int:
    """The index of the `count`-th line end from the end."""
    index = len(data)
    for _ in range(count):
        index = data.rindex(b"\n", 0, index)
    return index
