"""How a ring grows and stays bounded: which blocks new output goes to, and which blocks go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from pvc.plugins.consolelog.ring import (
    CHUNK_COST,
    FULL_BYTES,
    FULL_CHUNKS,
    FULL_LINES,
    LARGEST_CHUNK,
    Chunk,
    Content,
    Gap,
    Header,
    Text,
    cost,
    encode_chunk,
    lines,
    span,
)

MOST_DROPPED = 1000
"""Blocks that one transaction drops at most: what is left over goes with the next one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one ring."""

    lines: int
    """Lines that are kept as long as `bytes` allows; up to one block more stay."""
    bytes: int
    """Hard bound, in terms of `ring.cost`."""

    @property
    def piece(self) -> int:
        """Bytes in one chunk: small enough that dropping a block never empties much of the ring."""
        return min(LARGEST_CHUNK, self.bytes // 4)

    @property
    def batch(self) -> int:
        """Bytes in one publication: less than the ring, so that it never drops its own beginning."""
        return min(4 * LARGEST_CHUNK, self.bytes // 2)


class Kept(NamedTuple):
    """What the publisher remembers of a block in the ring."""

    span: int
    cost: int
    lines: int
    chunks: int = 1
    exists: bool = True
    """False: somebody has deleted it by hand."""


def kept(chunks: Sequence[Chunk]) -> Kept:
    """What to remember of a block."""
    found = Kept(0, 0, 0, 0)
    for chunk in chunks:
        found = _with(found, chunk.content)
    return found


@dataclass(frozen=True, slots=True)
class Block:
    """A block as it is written: new, or the newest one with chunks added."""

    number: int
    data: bytes
    kept: Kept
    fresh: bool = False
    """It does not exist yet."""
    more: bool = True
    """More may be added to it."""


def pieces(data: bytes, largest: int) -> list[bytes]:
    """The data in parts of at most `largest` bytes, cut after line ends where there are any."""
    parts = []
    begin = 0
    while len(data) - begin > largest:
        newline = data.rfind(b"\n", begin, begin + largest)
        end = newline + 1 if newline >= 0 else begin + largest
        parts.append(data[begin:end])
        begin = end
    return [*parts, data[begin:]] if begin < len(data) else parts


def grown(header: Header, newest: Block | None, contents: Sequence[Content], at: float) -> tuple[Header, list[Block]]:
    """The header after appending the contents, and the blocks that hold them.

    `newest` is the newest block if it may grow. Small chunks share a block, so that few blocks hold many lines.
    """
    offset, number, blocks = header.next, header.number, [] if newest is None else [newest]
    for content in contents:
        if not blocks or not blocks[-1].more:
            blocks.append(Block(number, b"", Kept(0, 0, 0, 0), fresh=True))
            number += 1
        block = blocks[-1]
        after = _with(block.kept, content)
        more = not _is_full(after)
        blocks[-1] = Block(
            block.number, block.data + encode_chunk(offset, at, content, more=more), after, block.fresh, more
        )
        offset += span(content)
    header = replace(
        header,
        next=offset,
        number=number,
        newest=blocks[-1].kept.chunks if blocks else header.newest,
        lines=header.lines + sum(lines(content) for content in contents),
        bytes=header.bytes + sum(cost(content) for content in contents),
        skipped=header.skipped + sum(span(content) for content in contents if isinstance(content, Gap)),
    )
    return header, blocks if contents else []


def _with(block: Kept, content: Content) -> Kept:
    return Kept(block.span + span(content), block.cost + cost(content), block.lines + lines(content), block.chunks + 1)


def _is_full(block: Kept) -> bool:
    size = block.cost - CHUNK_COST * block.chunks
    return block.lines >= FULL_LINES or size >= FULL_BYTES or block.chunks >= FULL_CHUNKS


def is_over(header: Header, limits: Limits, oldest: Kept | None) -> bool:
    """Whether the oldest block has to go; None: it is not known yet, and this answers whether it must be known."""
    # One line end more than asked for is kept: only then is the first of the last `lines` lines whole.
    return header.bytes > limits.bytes or header.lines - (oldest.lines if oldest else 0) > limits.lines


def shrunk(header: Header, dropped: Sequence[Kept]) -> Header:
    """The header after dropping the oldest blocks."""
    return replace(
        header,
        first=header.first + sum(each.span for each in dropped),
        first_number=header.first_number + len(dropped),
        lines=header.lines - sum(each.lines for each in dropped),
        bytes=header.bytes - sum(each.cost for each in dropped),
    )


def texts(data: bytes, limits: Limits) -> list[Content]:
    """The data as the contents of chunks."""
    return [Text(part) for part in pieces(data, limits.piece)]
