"""Reads a VM's console log from the tree, from any machine: the last lines, or everything from there on.

Never writes. Follows by watches on the header; a chunk is fetched once.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Disconnected, Znode
from pvc.core.records import decode
from pvc.core.runtime import Runtime
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.follow import BATCH, Cursor, after, end, last_lines, next_fetch, unseen
from pvc.plugins.consolelog.ring import Chunk, Gap, Header, Loss, decode_block

RETRY = 1.0
"""Seconds between tries while the cluster does not answer."""
SLOW_LOOK = 60.0
"""Seconds after which a follower looks at the header although no watch has fired."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something about the reading itself, for the person who reads."""

    text: str


@dataclass(frozen=True, slots=True)
class Page:
    """The end of a log as it was at one moment."""

    chunks: tuple[Chunk, ...]
    header: Header
    modified: float
    """When the log was last written: seconds since the epoch."""
    writer_lives: bool
    """The node that writes it is up."""


def read_page(coordinator: Coordinator, uuid: str, lines: int) -> Page | None:
    """The last lines, or fewer if the log has no more; None: there is no log. Raises Disconnected, Garbage."""
    znode = coordinator.get(keys.console(uuid))
    if znode is None:
        return None
    header = _header(uuid, znode)
    chunks = _last(coordinator, uuid, header, lines)
    lives = coordinator.get(core_keys.node_session(header.writer)) is not None
    return Page(tuple(chunks), header, znode.modified, lives)


def follow(coordinator: Coordinator, runtime: Runtime, uuid: str, lines: int) -> Iterator[Chunk | Notice]:
    """The last lines and then everything that comes, until the VM is undefined. Blocks; raises Garbage.

    Every byte that the ring still holds comes once and in order; a gap says how many it did not hold any more. While
    the cluster does not answer it says so once, and goes on where it was.
    """
    wake = runtime.signal()
    coordinator.listen(lambda state: wake.set())
    follower = Follower(coordinator, uuid, lines, wake.set)
    away = False
    while not follower.ended:
        try:
            items = follower.poll()
        except Disconnected:
            if not away:
                away = True
                yield Notice("no connection to the cluster; waiting for it")
            wake.wait(RETRY)
            continue
        if away:
            away = False
            yield Notice("connected to the cluster again")
        yield from items
        if not items and not follower.ended:
            wake.wait(SLOW_LOOK)
    yield Notice("the VM is no longer defined; its log is gone")


class Follower:
    """A reader's place in one log. `poll` never waits; `wake` is called from foreign threads when there may be more."""

    def __init__(self, coordinator: Coordinator, uuid: str, lines: int, wake: Callable[[], None]) -> None:
        self._coordinator = coordinator
        self._uuid = uuid
        self._lines = lines
        self._wake = wake
        self._cursor: Cursor | None = None
        self._created: int | None = None
        self.ended = False
        """The VM is undefined: nothing will come any more."""

    def poll(self) -> list[Chunk | Notice]:
        """What comes next, a batch at most; empty: nothing now, and `wake` will be called. Raises Disconnected."""
        znode = self._coordinator.get(keys.console(self._uuid), self._wake)
        if znode is None:
            self.ended = self._coordinator.get(core_keys.vm(self._uuid), self._wake) is None
            self._cursor = self._cursor or Cursor(0, 0)  # whatever comes is new
            return []
        items: list[Chunk | Notice] = []
        if self._created not in (None, znode.created_zxid):
            items.append(Notice("the log was deleted and begun anew"))
            self._cursor = Cursor(0, 0)
        header = _header(self._uuid, znode)
        items += self._first(header) if self._cursor is None else self._next(header, self._cursor)
        # Only now: a connection that broke above must find everything as it was.
        self._created = znode.created_zxid
        return items

    def _first(self, header: Header) -> list[Chunk]:
        chunks = _last(self._coordinator, self._uuid, header, self._lines)
        self._cursor = after(chunks[-1]) if chunks else end(header)
        return chunks

    def _next(self, header: Header, cursor: Cursor) -> list[Chunk]:
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
        self._cursor = cursor
        return chunks

    def _dropped(self, number: int) -> bool:
        """Whether the ring has moved on past that block: the next poll then says how much was lost."""
        znode = self._coordinator.get(keys.console(self._uuid))
        return znode is None or _header(self._uuid, znode).first_number > number


def _last(coordinator: Coordinator, uuid: str, header: Header, lines: int) -> list[Chunk]:
    """The chunks that hold the last lines, the first of them cut."""
    held: list[Chunk] = []
    behind = header.number
    while behind > header.first_number and lines > 0:
        begin = max(header.first_number, behind - BATCH)
        found = _blocks(coordinator, uuid, begin, behind)
        there = [block for block in found[_behind_last_missing(found) :] if block is not None]
        held = [chunk for block in there for chunk in block] + held
        cut = last_lines(held, lines)
        if cut is not None:
            return cut
        if len(there) < len(found):
            break
        behind = begin
    return held


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
