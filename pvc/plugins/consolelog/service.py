"""The publisher: one service for all VMs of the node. Takes events, and steps each VM's stream when it is due.

Runs on a ZooKeeper session of its own. A step costs what is due in it, not what there is.
"""

import heapq
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf

from pvc.core.coordination import Coordinator, Disconnected, SessionState
from pvc.core.model import Finding
from pvc.core.observers import VmEvent
from pvc.core.runtime import Inbox, Runtime, Signal
from pvc.core.sinks import ConsoleSink
from pvc.plugins.consolelog.feeds import Feeds
from pvc.plugins.consolelog.files import LogFiles
from pvc.plugins.consolelog.schema import Settings
from pvc.plugins.consolelog.stream import Stream, Surroundings

SLOW_LOOK = 30.0
"""Seconds between looks at every file, whether it is said to have changed or not."""
RETRY = 1.0
"""Seconds to the next try after the cluster did not answer, unless the session says earlier that it is back."""
SOON = 0.0


@dataclass(frozen=True, slots=True)
class _Poke:
    """Something that a VM's stream waits for may have changed."""

    uuid: str


class ConsoleLog:
    """The service `consolelog`, and the observer that feeds it."""

    def __init__(
        self,
        *,
        node: str,
        connect: Callable[[], Coordinator],
        open_files: Callable[[Signal], LogFiles],
        runtime: Runtime,
        settings: Callable[[], Settings],
        log: logging.Logger,
        open_sinks: Callable[[], Sequence[ConsoleSink]] = tuple,
    ) -> None:
        """`settings` are those in force, asked for at each step."""
        self._node = node
        self._connect = connect
        self._open_files = open_files
        self._open_sinks = open_sinks
        self._runtime = runtime
        self._settings = settings
        self._last_settings = settings()
        self._log = log
        self._wake = runtime.signal()
        self._inbox: Inbox[VmEvent | _Poke] = Inbox(self._wake)
        self._surroundings: Surroundings | None = None
        self._streams: dict[str, Stream] = {}
        self._paths: dict[str, str] = {}
        self._followed: dict[str, str] = {}
        self._due: dict[str, float] = {}
        self._queue: list[tuple[float, str]] = []
        self._look_at = inf

    @property
    def name(self) -> str:
        return "consolelog"

    @property
    def after(self) -> tuple[str, ...]:
        return ()

    @property
    def wake(self) -> Signal:
        return self._wake

    @property
    def busy(self) -> int:
        """VMs that are here, or whose last output is not published yet."""
        return len(self._streams)

    def vm_changed(self, event: VmEvent) -> None:
        """Take note of a VM that came or went (this is the VmObserver)."""
        self._inbox.put(event)

    def step(self) -> float:
        """Publish what is due."""
        s = self._surroundings or self._begin()
        now = self._runtime.monotonic()
        self._take_inbox(s)
        self._take_settings(now)
        for path in s.files.changed():
            if path in self._paths:
                self._schedule(self._paths[path], SOON)
        if now >= self._look_at:
            self._look_at = now + SLOW_LOOK
            for uuid in self._streams:
                self._schedule(uuid, SOON)
        if s.coordinator.state is not SessionState.CONNECTED:
            return SLOW_LOOK
        try:
            self._advance_due(now)
        except Disconnected:
            return RETRY
        return max(0.0, min(self._next_due(), self._look_at) - self._runtime.monotonic())

    def stop(self) -> None:
        """Give the files back. Core closes the session; the tree says where to go on."""
        for stream in self._streams.values():
            stream.close()
        if self._surroundings is not None:
            self._surroundings.files.close()
            self._surroundings.feeds.close()

    def findings(self) -> list[Finding]:
        """What a person should know of the sinks."""
        return [] if self._surroundings is None else self._surroundings.feeds.findings()

    def _begin(self) -> Surroundings:
        coordinator = self._connect()
        coordinator.listen(lambda state: self._wake.set())
        files = self._open_files(self._wake)
        feeds = Feeds(self._open_sinks(), self._runtime, self._log)
        self._surroundings = Surroundings(
            self._node, coordinator, files, self._runtime, self._settings, self._log, feeds
        )
        self._look_at = self._runtime.monotonic() + SLOW_LOOK
        return self._surroundings

    def _take_inbox(self, s: Surroundings) -> None:
        for message in self._inbox.drain():
            if isinstance(message, VmEvent):
                if message.uuid not in self._streams:
                    self._streams[message.uuid] = Stream(message.uuid, s, self._poke(message.uuid))
                self._streams[message.uuid].put(message)
            self._schedule(message.uuid, SOON)

    def _take_settings(self, now: float) -> None:
        """Have every stream look at its settings again if those of the node have changed."""
        if (settings := self._settings()) != self._last_settings:
            self._last_settings = settings
            for uuid, stream in self._streams.items():
                stream.reconsider(now)
                self._schedule(uuid, SOON)

    def _poke(self, uuid: str) -> Callable[[], None]:
        return lambda: self._inbox.put(_Poke(uuid))

    def _advance_due(self, now: float) -> None:
        while self._next_due() <= now:
            uuid = self._queue[0][1]
            # Taken off the queue only afterwards: what fails for want of a connection stays due.
            self._advance(self._streams[uuid], now)

    def _advance(self, stream: Stream, now: float) -> None:
        try:
            when = stream.advance(now)
        finally:
            self._note_path(stream)
        if stream.idle:
            del self._streams[stream.uuid]
            self._due.pop(stream.uuid, None)
        else:
            self._due[stream.uuid] = when
            if when < inf:
                heapq.heappush(self._queue, (when, stream.uuid))

    def _note_path(self, stream: Stream) -> None:
        before = self._followed.pop(stream.uuid, None)
        if before is not None:
            self._paths.pop(before, None)
        if stream.path is not None:
            self._followed[stream.uuid] = stream.path
            self._paths[stream.path] = stream.uuid

    def _schedule(self, uuid: str, when: float) -> None:
        if uuid in self._streams and when < self._due.get(uuid, inf):
            self._due[uuid] = when
            heapq.heappush(self._queue, (when, uuid))

    def _next_due(self) -> float:
        """When the next stream is due; entries that were overtaken are dropped on the way."""
        while self._queue and self._due.get(self._queue[0][1]) != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else inf
