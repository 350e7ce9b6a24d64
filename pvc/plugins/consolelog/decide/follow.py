"""Where a reader stands in the stream, and what it must fetch next."""

from collections.abc import Sequence
from dataclasses import dataclass

from pvc.plugins.consolelog.ring import Chunk, Header, Text, span

BATCH = 64
"""Chunks that are fetched at once."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the stream: everything before it has been seen."""

    number: int
    """Of the next chunk."""
    offset: int
    """Of the next byte."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """What to do next: report the loss, then get the chunks `first` to `last - 1`."""

    lost: int
    """Bytes that the ring dropped before they were read."""
    first: int
    last: int
    offset: int
    """Stream offset at which `first` begins."""


def next_fetch(cursor: Cursor, header: Header) -> Fetch:
    """What a reader at `cursor` must get; nothing if `first` equals `last`."""
    if cursor.number >= header.first_number:
        return Fetch(0, cursor.number, min(header.number, cursor.number + BATCH), cursor.offset)
    lost = max(0, header.first - cursor.offset)
    first = header.first_number
    return Fetch(lost, first, min(header.number, first + BATCH), header.first)


def after(chunk: Chunk) -> Cursor:
    """The place right behind a chunk."""
    return Cursor(chunk.number + 1, chunk.offset + span(chunk.content))


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
        cut = Chunk(chunk.number, chunk.offset + begin, chunk.at, Text(data[begin:]))
        return [*([cut] if data[begin:] else []), *chunks[index + 1 :]]
    return None


def _nth_from_end(data: bytes, count: int) -> int:
    """The index of the `count`-th line end from the end."""
    index = len(data)
    for _ in range(count):
        index = data.rindex(b"\n", 0, index)
    return index
