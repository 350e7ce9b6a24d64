"""How a ring grows and stays bounded: which pieces new output is cut into, and which chunks go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from msgspec.structs import replace

from pvc.plugins.consolelog.ring import LARGEST_CHUNK, Content, Gap, Header, Text, cost, encode_chunk, lines, span

MOST_DROPPED = 1000
"""Chunks that one transaction drops at most: what is left over goes with the next one."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one ring."""

    lines: int
    """Lines that are kept as long as `bytes` allows; up to one chunk more stay."""
    bytes: int
    """Hard bound, in terms of `ring.cost`."""

    @property
    def piece(self) -> int:
        """Bytes in one chunk: small enough that dropping one never empties much of the ring."""
        return min(LARGEST_CHUNK, self.bytes // 4)

    @property
    def batch(self) -> int:
        """Bytes in one publication: less than the ring, so that it never drops its own beginning."""
        return min(4 * LARGEST_CHUNK, self.bytes // 2)


class Kept(NamedTuple):
    """What the publisher remembers of a chunk in the ring."""

    span: int
    cost: int
    lines: int
    exists: bool = True
    """False: somebody has deleted it by hand."""


def kept(content: Content) -> Kept:
    """What to remember of a chunk."""
    return Kept(span(content), cost(content), lines(content))


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


def grown(header: Header, contents: Sequence[Content], at: float) -> tuple[Header, list[bytes]]:
    """The header after appending the contents, and the data of a new chunk for each of them."""
    offset, data = header.next, []
    for content in contents:
        data.append(encode_chunk(offset, at, content))
        offset += span(content)
    header = replace(
        header,
        next=offset,
        number=header.number + len(contents),
        lines=header.lines + sum(lines(content) for content in contents),
        bytes=header.bytes + sum(cost(content) for content in contents),
        skipped=header.skipped + sum(span(content) for content in contents if isinstance(content, Gap)),
    )
    return header, data


def is_over(header: Header, limits: Limits, oldest: Kept | None) -> bool:
    """Whether the oldest chunk has to go; None: it is not known yet, and this answers whether it must be known."""
    # One line end more than asked for is kept: only then is the first of the last `lines` lines whole.
    return header.bytes > limits.bytes or header.lines - (oldest.lines if oldest else 0) > limits.lines


def shrunk(header: Header, dropped: Sequence[Kept]) -> Header:
    """The header after dropping the oldest chunks."""
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
