"""What a console log looks like in the tree: a header, and chunks that are never changed once written.

The stream of everything a VM ever printed is addressed by absolute offsets, which go on across starts, moves and
nodes. The ring holds the last part of it. Values and their encoding only: nothing here reads or writes the tree.
"""

from dataclasses import dataclass
from enum import Enum

import msgspec

from pvc.core.records import Garbage, decode, encode

LARGEST_CHUNK = 64 * 1024
"""Bytes of console output in one chunk, far below what a znode can hold."""


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
    """Number of the next chunk."""
    first_number: int = 0
    """Number of the first kept chunk; equal to `number` if none is kept."""
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
    """One piece of the stream and its place."""

    number: int
    offset: int
    """Stream offset at which it begins."""
    at: float
    """When it was published: seconds since the epoch."""
    content: Content


class _Head(msgspec.Struct, frozen=True, omit_defaults=True):
    """The first line of a chunk; a text's bytes follow it."""

    offset: int
    at: float
    event: Event | None = None
    node: str = ""
    target: str = ""
    loss: Loss | None = None
    skipped: int | None = None


CHUNK_COST = 64
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


def encode_chunk(offset: int, at: float, content: Content) -> bytes:
    """The content as the data of its znode."""
    at = round(at, 3)
    if isinstance(content, Text):
        return encode(_Head(offset, at)) + b"\n" + content.data
    if isinstance(content, Marker):
        return encode(_Head(offset, at, event=content.event, node=content.node, target=content.target))
    return encode(_Head(offset, at, loss=content.loss, skipped=content.skipped))


def decode_chunk(number: int, data: bytes, path: str) -> Chunk:
    """The chunk that a znode's data holds. Raises Garbage."""
    first, newline, rest = data.partition(b"\n")
    head = decode(_Head, first, path)
    content: Content
    if head.event is not None:
        content = Marker(head.event, head.node, head.target)
    elif head.loss is not None:
        content = Gap(head.skipped, head.loss)
    elif newline:
        content = Text(rest)
    else:
        raise Garbage(path, "a head of text without text")
    return Chunk(number, head.offset, head.at, content)
