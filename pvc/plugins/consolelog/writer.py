"""Writes one VM's ring: every change is one transaction under the version of the header that was read.

Decides nothing about who may write or what: it refuses to write on anything but what it has read.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from pvc.core.coordination import Clash, Conflict, Coordinator, Create, Delete, Disconnected, Op, Put, Watch
from pvc.core.errors import PvcError
from pvc.core.records import decode, encode
from pvc.core.runtime import Runtime
from pvc.plugins.consolelog import keys
from pvc.plugins.consolelog.decide.bounds import MOST_DROPPED, Block, Kept, Limits, grown, is_over, kept, shrunk
from pvc.plugins.consolelog.ring import Content, FileMark, Header, decode_block

FETCH = 64
"""Old blocks that are looked up at once when they have to go."""


class Changed(PvcError):
    """The log is not as it was read: read it again."""


class Undefined(PvcError):
    """The VM is no longer defined: its log is gone, and none may be made."""


class Writer:
    """One VM's ring, as a publisher sees it."""

    def __init__(self, coordinator: Coordinator, runtime: Runtime, uuid: str, limits: Limits) -> None:
        self._coordinator = coordinator
        self._runtime = runtime
        self._uuid = uuid
        self.limits = limits
        """May be changed; `is_over` then tells whether something has to go."""
        self._path = keys.console(uuid)
        self._version = -1
        self._oldest: deque[Kept] = deque()
        self._newest: Block | None = None
        self._newest_known = False
        self._doubtful: Header | None = None
        self.header: Header | None = None
        """As last read or written; None: there is no log."""
        self.loaded = False
        """`header` is known. False at first and after every failure."""

    @property
    def is_over(self) -> bool:
        """Whether the log may exceed its bounds: a write without contents would then drop what is too much."""
        return self.header is not None and is_over(self.header, self.limits, self._oldest[0] if self._oldest else None)

    def load(self, watch: Watch | None = None) -> bool:
        """Read the header; whether a write whose outcome was unknown turns out to have happened.

        Raises Disconnected, Garbage.
        """
        znode = self._coordinator.get(self._path, watch)
        header = None if znode is None else decode(Header, znode.data, self._path)
        happened = self._doubtful is not None and header == self._doubtful
        if header != self.header or self._doubtful is not None:
            self._forget_blocks()
        self.header, self._version = header, -1 if znode is None else znode.version
        self.loaded, self._doubtful = True, None
        return happened

    def write(self, contents: Sequence[Content], *, writer: str, closed: bool, files: Mapping[str, FileMark]) -> None:
        """Append the contents, drop what exceeds the bounds, and change the header.

        Raises Changed (nothing was written), Undefined, Disconnected (then `load` tells whether it was written).
        """
        before = self.header or Header(writer)
        newest = self._growing(before) if contents else None
        header, blocks = grown(before, newest, contents, self._runtime.now())
        dropped = self._surplus(header, before.number if newest is None else newest.number)
        header = replace(shrunk(header, dropped), writer=writer, closed=closed, files=dict(files))
        ops: list[Op] = [self._put(header)]
        ops += [
            Create(self._block(b.number), b.data) if b.fresh else Put(self._block(b.number), b.data) for b in blocks
        ]
        ops += [Delete(self._block(before.first_number + i)) for i, each in enumerate(dropped) if each.exists]
        self._commit(ops, header)
        self._remember(before, newest, blocks, len(dropped))
        self.header, self._version = header, self._version + 1

    def _growing(self, header: Header) -> Block | None:
        """The newest block if more may be added to it. Asks for it only if this writer did not write it."""
        if not self._newest_known and header.first_number < header.number:
            number = header.number - 1
            znode = self._coordinator.get(self._block(number))
            if znode is not None:
                chunks = decode_block(number, znode.data, self._block(number))
                self._newest = Block(number, znode.data, kept(chunks)) if chunks[-1].more else None
        self._newest_known = True
        return self._newest

    def _surplus(self, header: Header, newest: int) -> list[Kept]:
        """The oldest blocks that have to go; never one of those that this very write changes."""
        dropped: list[Kept] = []
        while len(dropped) < MOST_DROPPED and header.first_number < newest and is_over(header, self.limits, None):
            if len(dropped) == len(self._oldest):
                self._fetch(header.first_number, newest)
            oldest = self._oldest[len(dropped)]
            if not is_over(header, self.limits, oldest):
                break
            dropped.append(oldest)
            header = shrunk(header, [oldest])
        return dropped

    def _fetch(self, first: int, end: int) -> None:
        numbers = range(first, min(end, first + FETCH))
        paths = [self._block(number) for number in numbers]
        for number, path, znode in zip(numbers, paths, self._coordinator.get_many(paths), strict=True):
            missing = Kept(0, 0, 0, exists=False)
            self._oldest.append(missing if znode is None else kept(decode_block(number, znode.data, path)))

    def _remember(self, before: Header, newest: Block | None, blocks: Sequence[Block], dropped: int) -> None:
        complete = before.first_number + len(self._oldest) == before.number
        if complete and newest is not None and self._oldest:
            self._oldest.pop()  # it is the first of the blocks that were written
        for _ in range(dropped):
            self._oldest.popleft()
        if complete:
            self._oldest.extend(block.kept for block in blocks)
        if blocks:
            last = blocks[-1]
            self._newest = Block(last.number, last.data, last.kept) if last.more else None
        elif self._newest is not None and self._newest.number < before.first_number + dropped:
            self._newest = None

    def _forget_blocks(self) -> None:
        self._oldest.clear()
        self._newest, self._newest_known = None, False

    def _put(self, header: Header) -> Op:
        data = encode(header)
        return Create(self._path, data) if self.header is None else Put(self._path, data, self._version)

    def _commit(self, ops: Sequence[Op], header: Header) -> None:
        try:
            self._coordinator.commit(ops)
        except Disconnected:
            self.loaded, self._doubtful = False, header
            raise
        except Conflict as conflict:
            self.loaded = False
            if isinstance(conflict.op, Create) and conflict.op.path == self._path and conflict.clash is Clash.MISSING:
                raise Undefined(f"VM {self._uuid} is not defined; nothing is to be done") from conflict
            self._forget_blocks()
            raise Changed(f"{conflict}; it is read again") from conflict

    def _block(self, number: int) -> str:
        return keys.block(self._uuid, number)
