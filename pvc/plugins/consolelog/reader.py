"""Reads one VM's console log from the tree, from any machine: the last lines, or everything from there on.

Never writes and never waits. A watch on the header tells when there is more; what was seen is not fetched again,
except with the rest of a block that may still get chunks.
"""

from collections.abc import Callable
from dataclasses import dataclass

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Znode
from pvc.core.records import decode
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.follow import (
    BATCH,
    LARGEST_BATCH,
    Cursor,
    Start,
    after,
    beginning,
    end,
    is_at_end,
    next_fetch,
    unseen,
)
from pvc.plugins.consolelog.ring import Chunk, Gap, Header, Loss, Text, decode_block


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the reading itself, for the person who reads."""

    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """The end of a log as it was at one moment."""

    chunks: tuple[Chunk, ...]
    header: Header
    spoke: float | None
    """When the VM's last output was published, in seconds since the epoch; None: the log holds none of it."""
    silent: bool
    """The VM may have printed more: the daemon of the node that writes its log does not answer."""


def read_page(coordinator: Coordinator, uuid: str, start: Start) -> Page | None:
    """What is in the log from the start on; None: there is no log. Raises Disconnected, Garbage."""
    znode = coordinator.get(keys.console(uuid))
    if znode is None:
        return None
    header = _header(uuid, znode)
    chunks, spoke = _last(coordinator, uuid, header, start)
    silent = not header.closed and coordinator.get(core_keys.node_session(header.writer)) is None
    return Page(tuple(chunks), header, spoke, silent)


class Follower:
    """A reader's place in one log. `wake` is called from foreign threads when `poll` has more to give.

    Every byte that the ring still holds comes once and in order; a gap says how many it did not hold any more.
    """

    def __init__(self, coordinator: Coordinator, uuid: str, start: Start, wake: Callable[[], None]) -> None:
        self._coordinator = coordinator
        self._uuid = uuid
        self._start = start
        self._wake = wake
        self._cursor: Cursor | None = None
        self._created: int | None = None
        self.header: Header | None = None
        """As last read; None: there is no log."""
        self.spoke: float | None = None
        """When the last output that was seen was published; None: none was."""
        self.ended = False
        """The VM is undefined: nothing will come any more."""

    @property
    def is_at_end(self) -> bool:
        """Everything that was there at the last poll has been given."""
        return self.header is None or (self._cursor is not None and is_at_end(self._cursor, self.header))

    def poll(self) -> list[Chunk | Notice]:
        """What comes next, a batch at most. `wake` will be called when there is more than `is_at_end` knows of.

        Raises Disconnected, Garbage; then nothing has changed.
        """
        znode = self._coordinator.get(keys.console(self._uuid), self._wake)
        if znode is None:
            self.ended = self._coordinator.get(core_keys.vm(self._uuid), self._wake) is None
            self.header = None
            self._cursor = self._cursor or Cursor(0, 0)  # whatever comes is new
            return []
        items: list[Chunk | Notice] = []
        cursor = self._cursor
        if self._created not in (None, znode.created_zxid):
            items.append(Notice("the log was deleted and begun anew"))
            cursor = Cursor(0, 0)
        header = _header(self._uuid, znode)
        chunks, cursor = self._first(header) if cursor is None else self._next(header, cursor)
        # Only now: a connection that broke above must find everything as it was.
        self._created, self._cursor, self.header = znode.created_zxid, cursor, header
        self.spoke = max((chunk.at for chunk in chunks if isinstance(chunk.content, Text)), default=self.spoke)
        return items + list(chunks)

    def _first(self, header: Header) -> tuple[list[Chunk], Cursor]:
        chunks, self.spoke = _last(self._coordinator, self._uuid, header, self._start)
        return chunks, after(chunks[-1]) if chunks else end(header)

    def _next(self, header: Header, cursor: Cursor) -> tuple[list[Chunk], Cursor]:
        fetch = next_fetch(cursor, header)
        chunks = [Chunk(fetch.first, cursor.offset, 0.0, Gap(fetch.lost, Loss.RING))] if fetch.lost else []
        if fetch.first > cursor.number:
            cursor = Cursor(fetch.first, fetch.offset)
        for number, block in zip(
            range(fetch.first, fetch.last), _blocks(self._coordinator, self._uuid, fetch.first, fetch.last), strict=True
        ):
            if block is None:
                if self._dropped(number):
                    break
                block = (Chunk(number, cursor.offset, 0.0, Gap(None, Loss.RING)),)  # deleted by hand
            chunks += unseen(block, cursor)
            cursor = after(block[-1])
        return chunks, cursor

    def _dropped(self, number: int) -> bool:
        """Whether the ring has moved on past that block: the next poll then says how much was lost."""
        znode = self._coordinator.get(keys.console(self._uuid))
        return znode is None or _header(self._uuid, znode).first_number > number


def _last(coordinator: Coordinator, uuid: str, header: Header, start: Start) -> tuple[list[Chunk], float | None]:
    """The chunks from the start on, the first of them cut, and when the last output was published."""
    held: list[Chunk] = []
    behind, size = header.number, BATCH
    while True:
        begin = max(header.first_number, behind - size)
        found = _blocks(coordinator, uuid, begin, behind)
        there = [block for block in found[_behind_last_missing(found) :] if block is not None]
        held = [chunk for block in there for chunk in block] + held
        complete = begin == header.first_number or len(there) < len(found)
        cut = beginning(held, start, complete=complete)
        if cut is not None:
            return cut, next((chunk.at for chunk in reversed(held) if isinstance(chunk.content, Text)), None)
        behind, size = begin, min(2 * size, LARGEST_BATCH)


def _behind_last_missing(found: list[tuple[Chunk, ...] | None]) -> int:
    return max((index + 1 for index, block in enumerate(found) if block is None), default=0)


def _blocks(coordinator: Coordinator, uuid: str, first: int, behind: int) -> list[tuple[Chunk, ...] | None]:
    numbers = range(first, behind)
    paths = [keys.block(uuid, number) for number in numbers]
    return [
        None if znode is None else decode_block(number, znode.data, path)
        for number, path, znode in zip(numbers, paths, coordinator.get_many(paths), strict=True)
    ]


def _header(uuid: str, znode: Znode) -> Header:
    return decode(Header, znode.data, keys.console(uuid))
