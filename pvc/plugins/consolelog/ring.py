"""What a console log looks like in the tree: a header, and blocks of chunks. A chunk is never changed once written.

The stream of everything a VM ever printed is addressed by absolute offsets, which go on across starts, moves and
nodes. The ring holds the last part of it. Values and their encoding only: nothing here reads or writes the tree.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import msgspec

from pvc.core.records import Garbage, decode, encode

LARGEST_CHUNK = 64 * 1024
"""Bytes of console output in one chunk, far below what a znode can hold."""
FULL_LINES = 4
"""A block in which so many lines end takes no more chunks: 1000 lines are 250 blocks at most."""
FULL_BYTES = 512
"""The same for bytes of output: what a publication writes once more is never above this."""
FULL_CHUNKS = 16
"""The same for chunks."""


class FileMark(msgspec.Struct, frozen=True, array_like=True):
    """How far a node has published its log file of the VM."""

    inode: int
    position: int
    """Bytes from the start of the file."""
    tail: int
    """Checksum of the last bytes before `position`: a file begun anew has others there."""
    run: str = ""
    """Which start of the VM's emulator the file belongs to, as the node counts them; empty: not known."""


class Header(msgspec.Struct, frozen=True, omit_defaults=True):
    """The head of a VM's console log. Every change of the log rewrites it under the version that was read."""

    writer: str
    """The one node that may write."""
    closed: bool = False
    """The writer has published everything and will write no more: whoever runs the VM next may take over."""
    next: int = 0
    """Stream offset of the next byte."""
    first: int = 0
    """Stream offset at which the first kept chunk begins."""
    number: int = 0
    """Number of the next block."""
    first_number: int = 0
    """Number of the first kept block; equal to `number` if none is kept."""
    newest: int = 0
    """Chunks in the newest block, `number - 1`."""
    lines: int = 0
    """Line ends in the kept chunks."""
    bytes: int = 0
    """Cost of the kept chunks: see `cost`."""
    skipped: int = 0
    """Bytes that were given up before they reached the log, ever."""
    files: dict[str, FileMark] = {}
    """By node: where it goes on in its log file."""


class Event(Enum):
    """What a marker tells."""

    STARTED = "started"
    STOPPED = "stopped"
    CRASHED = "crashed"
    MOVED = "moved"


class Loss(Enum):
    """Why output is missing."""

    RATE = "rate"
    """The VM printed more than its node may publish."""
    FILE = "file"
    """The log file was cut or replaced before all of it was published."""
    NODE = "node"
    """The node that had it could not publish it any more."""
    RING = "ring"
    """The log dropped it before this reader came to it. Never stored: each reader finds out for itself."""


@dataclass(frozen=True, slots=True)
class Text:
    """Bytes as the VM printed them; cut anywhere, even within a character."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Marker:
    """Something that happened to the VM at this place of the stream."""

    event: Event
    node: str
    """Where it happened; for MOVED, where the VM came from."""
    target: str = ""
    """For MOVED: where it went; empty: not known."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Output that is missing at this place of the stream."""

    skipped: int | None
    """Bytes; None: how many is not known, and it may be none."""
    loss: Loss


Content = Text | Marker | Gap


@dataclass(frozen=True, slots=True)
class Chunk:
    """What was published at one time, and its place in the stream."""

    number: int
    """Of the block that holds it. Blocks have one znode each and are numbered without holes."""
    offset: int
    """Stream offset at which it begins."""
    at: float
    """When it was published: seconds since the epoch."""
    content: Content
    index: int = 0
    """Its place in the block."""
    more: bool = False
    """The block may get another chunk behind this one."""


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of a chunk; a text's bytes follow it."""

    offset: int
    at: float
    size: int | None = None
    """Of the text; None: it goes to the end of the block."""
    event: Event | None = None
    node: str = ""
    target: str = ""
    loss: Loss | None = None
    skipped: int | None = None
    more: bool = False


CHUNK_COST = 72
"""Bytes that a chunk counts beyond its content, so that a VM printing byte by byte cannot make chunks without bound."""


def span(content: Content) -> int:
    """How far the stream goes on over the content, in bytes."""
    if isinstance(content, Text):
        return len(content.data)
    return (content.skipped or 0) if isinstance(content, Gap) else 0


def cost(content: Content) -> int:
    """What the content counts towards the bound in bytes."""
    return CHUNK_COST + (len(content.data) if isinstance(content, Text) else 0)


def lines(content: Content) -> int:
    """How many lines end in the content."""
    return content.data.count(b"\n") if isinstance(content, Text) else 0


def placed(offset: int, at: float, contents: Sequence[Content]) -> list[Chunk]:
    """The contents as chunks from that offset on, whatever blocks they are in."""
    chunks = []
    for content in contents:
        chunks.append(Chunk(0, offset, at, content))
        offset += span(content)
    return chunks


def encode_chunk(offset: int, at: float, content: Content, *, more: bool = False) -> bytes:
    """The content as part of a block's data."""
    at = round(at, 3)
    if isinstance(content, Text):
        return encode(_Head(offset, at, size=len(content.data), more=more)) + b"\n" + content.data
    if isinstance(content, Marker):
        head = _Head(offset, at, event=content.event, node=content.node, target=content.target, more=more)
    else:
        head = _Head(offset, at, loss=content.loss, skipped=content.skipped, more=more)
    return encode(head) + b"\n"


def decode_block(number: int, data: bytes, path: str) -> tuple[Chunk, ...]:
    """The chunks that a block's znode holds, one at least. Raises Garbage."""
    chunks: list[Chunk] = []
    begin = 0
    while begin < len(data) or not chunks:
        newline = data.find(b"\n", begin)
        end = len(data) if newline < 0 else newline
        head = decode(_Head, data[begin:end], path)
        begin = end + 1
        content = _content(head, data, begin, path)
        begin += len(content.data) if isinstance(content, Text) else 0
        chunks.append(Chunk(number, head.offset, head.at, content, len(chunks), head.more))
    return tuple(chunks)


def _content(head: _Head, data: bytes, begin: int, path: str) -> Content:
    if head.event is not None:
        return Marker(head.event, head.node, head.target)
    if head.loss is not None:
        return Gap(head.skipped, head.loss)
    end = len(data) if head.size is None else begin + head.size
    if not begin <= end <= len(data):
        raise Garbage(path, "a head of text without the text")
    return Text(data[begin:end])
