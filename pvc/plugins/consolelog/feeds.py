"""Carries what was published to the sinks: a bounded queue and a thread for each, so that none can hold up publishing.

What a sink could not take in time, or failed to take, is given up; the sink, the log and the node's findings are told.
"""

import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pvc.core.model import Finding, Severity
from pvc.core.runtime import Ended, Runtime
from pvc.core.sinks import ConsoleRecord, ConsoleSink, ConsoleVm
from pvc.plugins.consolelog.ring import Chunk, Marker, Text

QUEUE = 4 * 1024 * 1024
"""Bytes that wait for one sink at most."""
RECORD_COST = 256
"""Bytes that a record counts beyond its data."""
SHORTEST_PAUSE = 1.0
LONGEST_PAUSE = 60.0
"""Seconds between tries with a sink that fails: doubled from the shortest each time."""
REMEMBERED = 600.0
"""Seconds for which the node's findings tell of records that were given up."""
LAST_MOMENT = 3.0
"""Seconds that a sink has for what is still in its queue when the daemon stops."""


def record(chunk: Chunk) -> ConsoleRecord:
    """A chunk as sinks get to see it."""
    content = chunk.content
    if isinstance(content, Text):
        return ConsoleRecord(chunk.offset, chunk.at, content.data)
    if isinstance(content, Marker):
        event = content.event.value
        return ConsoleRecord(chunk.offset, chunk.at, event=event, node=content.node, target=content.target)
    return ConsoleRecord(chunk.offset, chunk.at, event="missing", skipped=content.skipped, why=content.loss.value)


@dataclass(slots=True)
class _Lost:
    """Records of one VM that were given up, and that the sink has not been told of."""

    offset: int
    at: float
    size: int = 0

    def told(self) -> ConsoleRecord:
        return ConsoleRecord(self.offset, self.at, event="missing", skipped=self.size, why="sink")


@dataclass(frozen=True, slots=True)
class _Item:
    """What waits for the sink: records, or the news that there was no room for some."""

    vm: ConsoleVm
    records: Sequence[ConsoleRecord] = ()
    size: int = 0
    lost: _Lost | None = None


class Feed:
    """One sink, its queue and its thread."""

    def __init__(self, sink: ConsoleSink, runtime: Runtime, log: logging.Logger, room: int = QUEUE) -> None:
        self._sink = sink
        self._name = sink.name
        self._runtime = runtime
        self._log = log
        self._room = room
        self._lock = runtime.mutex()
        self._wake = runtime.signal()
        self._queue: deque[_Item] = deque()
        self._waiting = 0
        self._no_room: dict[str, _Lost] = {}  # by VM, as long as nothing of it was queued since
        self._failed: dict[str, _Lost] = {}  # by VM, until the next of it is written
        self._dropped_records = 0
        self._dropped_bytes = 0
        self._dropped_at: float | None = None
        self._trouble = ""
        self._full = False
        self._closing = False
        self._task = runtime.spawn(f"console sink {self._name}", self._run)

    def offer(self, vm: ConsoleVm, records: Sequence[ConsoleRecord]) -> None:
        """Queue the records; gives them up if there is no room. Returns at once."""
        size = sum(RECORD_COST + len(each.data) for each in records)
        with self._lock:
            fits = self._waiting + size <= self._room
            if fits:
                self._no_room.pop(vm.uuid, None)
                self._queue.append(_Item(vm, records, size))
                self._waiting += size
            else:
                if vm.uuid not in self._no_room:
                    self._no_room[vm.uuid] = _Lost(records[0].offset, records[0].at)
                    self._queue.append(_Item(vm, lost=self._no_room[vm.uuid]))
                self._give_up(records, self._no_room[vm.uuid])
            newly_full, self._full = not fits and not self._full, not fits
        if newly_full:
            self._log.warning(
                "console sink %s does not keep up; what has no room in its queue is given up, see `pvc node info`",
                self._name,
            )
        self._wake.set()

    def finding(self) -> Finding | None:
        """What a person should know of it."""
        with self._lock:
            if self._dropped_at is None or self._runtime.monotonic() - self._dropped_at > REMEMBERED:
                return None
            why = self._trouble or "it is too slow"
            text = (
                f"console sink {self._name} has lost {self._dropped_records} records with {self._dropped_bytes} bytes"
                f" ({why}); the log in the cluster is complete; mend the sink or what it writes to"
            )
        return Finding("consolelog", Severity.WARNING, text)

    def close(self) -> None:
        """Give the sink a moment for what is in the queue, and let go of it."""
        self._closing = True
        self._wake.set()
        if not self._task.join(LAST_MOMENT):
            self._log.warning("console sink %s still writes; the daemon does not wait for it", self._name)

    def _run(self) -> None:
        pause = SHORTEST_PAUSE
        while True:
            taken = self._take()
            if taken is None:
                if self._closing:
                    break
                self._wake.wait(None)
                continue
            if self._wrote(*taken):
                pause = SHORTEST_PAUSE
            elif self._rests(pause):
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                break
        try:
            self._sink.close()
        except Exception as error:  # a third party's code: its trouble ends here
            self._log.warning("console sink %s cannot be closed: %s", self._name, error)

    def _rests(self, seconds: float) -> bool:
        """Wait before the next try; False if the daemon stops meanwhile."""
        deadline = self._runtime.monotonic() + seconds
        while not self._closing and (left := deadline - self._runtime.monotonic()) > 0:
            self._wake.wait(left)
        return not self._closing

    def _take(self) -> tuple[ConsoleVm, Sequence[ConsoleRecord]] | None:
        with self._lock:
            if not self._queue:
                return None
            item = self._queue.popleft()
            self._waiting -= item.size
            if item.lost is not None and self._no_room.get(item.vm.uuid) is item.lost:
                del self._no_room[item.vm.uuid]
            lost = [each.told() for each in (self._failed.pop(item.vm.uuid, None), item.lost) if each is not None]
            return item.vm, [*lost, *item.records]

    def _wrote(self, vm: ConsoleVm, records: Sequence[ConsoleRecord]) -> bool:
        try:
            self._sink.write(vm, records)
        except Ended:
            raise
        except BaseException as error:  # a third party's code: it must not end the thread, not even by an exit
            with self._lock:
                lost = _Lost(records[0].offset, records[0].at)
                lost.size = sum(each.skipped or 0 for each in records if each.why == "sink")
                self._failed[vm.uuid] = lost
                self._give_up([each for each in records if each.why != "sink"], lost)
                news, self._trouble = str(error) != self._trouble, str(error) or type(error).__name__
            if news:
                self._log.warning("console sink %s failed with what VM %s printed: %s", self._name, vm.name, error)
            return False
        self._trouble = ""
        return True

    def _give_up(self, records: Sequence[ConsoleRecord], lost: _Lost) -> None:
        size = sum(len(each.data) for each in records)
        lost.size += size
        self._dropped_records += len(records)
        self._dropped_bytes += size
        self._dropped_at = self._runtime.monotonic()


class Feeds:
    """All sinks of the node. Without any, nothing is made of what was published."""

    def __init__(self, sinks: Sequence[ConsoleSink], runtime: Runtime, log: logging.Logger) -> None:
        self._feeds = [Feed(sink, runtime, log) for sink in sinks]

    def offer(self, vm: ConsoleVm, chunks: Callable[[], Sequence[Chunk]]) -> None:
        """Hand what was published to every sink. Returns at once."""
        if self._feeds and (records := [record(chunk) for chunk in chunks()]):
            for feed in self._feeds:
                feed.offer(vm, records)

    def findings(self) -> list[Finding]:
        """What a person should know of the sinks."""
        return [found for feed in self._feeds if (found := feed.finding()) is not None]

    def close(self) -> None:
        """Let go of every sink."""
        for feed in self._feeds:
            feed.close()
