"""One VM's console on this node: claims the log, publishes what its file says, and hands the log over at the end.

A stay begins when the VM is here and ends when it is gone and everything is published; events are taken in order, one
stay after the other. Nothing here waits: `advance` takes the next step and says when it wants to go on.
"""

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Disconnected, Watch
from pvc.core.errors import PvcError
from pvc.core.model import Vm, VmActual
from pvc.core.observers import HERE, VmChange, VmEvent
from pvc.core.records import Garbage, decode
from pvc.core.runtime import Runtime
from pvc.core.sinks import ConsoleVm
from pvc.plugins.consolelog.decide.bounds import Limits
from pvc.plugins.consolelog.decide.handover import PATIENCE, SETTLE, Claim, Standing, claim, closing, opening, source
from pvc.plugins.consolelog.decide.tail import Begin, Resume, budget, is_same_run, start
from pvc.plugins.consolelog.definition import BadXml, ConsoleFile, console_file, log_path
from pvc.plugins.consolelog.feeds import Feeds
from pvc.plugins.consolelog.files import LogFiles, Unfollowable
from pvc.plugins.consolelog.ring import Content, FileMark, placed
from pvc.plugins.consolelog.schema import Settings, settings_of_vm
from pvc.plugins.consolelog.tail import Piece, Tail
from pvc.plugins.consolelog.writer import Changed, Undefined, Writer

TRIES = 5
"""How often a log that changes under the writer is read again before pausing."""
TOLD_AGAIN = 24 * 3600.0
"""Seconds after which trouble that goes on is reported again."""
MOST_REPORTED = 20
"""Different reports that are remembered of one VM."""
LOOK_AFRESH = 300.0
"""Seconds after which a VM's settings are asked for again though no watch has fired."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all streams of a node share."""

    node: str
    coordinator: Coordinator
    files: LogFiles
    runtime: Runtime
    settings: Callable[[], Settings]
    """Those of the node that are in force."""
    log: logging.Logger
    feeds: Feeds


@dataclass(slots=True)
class _Stay:
    """The VM's time on this node, from the event that brought it to the publication of its last output."""

    event: VmEvent
    file: ConsoleFile
    tail: Tail
    since: float
    """When it first wanted to write; anew when it was ousted."""
    budget: float
    budget_at: float
    ended: VmEvent | None = None
    ended_at: float = 0.0
    settled_at: float = 0.0
    placed: bool = False
    """The tail knows where to start."""
    writing: bool = False
    """Its claim was granted; the first write may still be due."""
    owned: bool = False
    """The log has been this node's during the stay."""
    ousted: bool = False
    over: bool = False
    due: float = 0.0
    """Nothing is published before."""
    pending: list[Content] = field(default_factory=list)


class Stream:
    """One VM on this node. `poke` is called from foreign threads when what it waits for may have changed."""

    def __init__(self, uuid: str, surroundings: Surroundings, poke: Watch) -> None:
        self.uuid = uuid
        self._s = surroundings
        self._poke = poke
        self._events: deque[VmEvent] = deque()
        self._stay: _Stay | None = None
        self._settings = surroundings.settings()
        self._settings_known = False
        self._settings_at = 0.0
        self._shrinking = False
        limits = _limits(self._settings)
        self._writer = Writer(surroundings.coordinator, surroundings.runtime, uuid, limits)
        self._effect: Callable[[], None] | None = None
        self._reported: dict[str, float] = {}

    def put(self, event: VmEvent) -> None:
        """Take note of an event; `advance` acts on it."""
        self._events.append(event)

    def reconsider(self, now: float) -> None:
        """The node's settings have changed: `advance` looks at them again, and waits no longer than they say."""
        self._settings_known = False
        if self._stay is not None:
            self._stay.due = min(self._stay.due, now + self._s.settings().interval)

    @property
    def idle(self) -> bool:
        """Nothing is left to do until the next event."""
        return self._stay is None and not self._events

    @property
    def path(self) -> str | None:
        """The log file whose changes matter now."""
        return None if self._stay is None else self._stay.tail.path

    def advance(self, now: float) -> float:
        """Take what steps can be taken; the monotonic time to be called again at, or infinity.

        Raises Disconnected. Other trouble is reported once.
        """
        for _ in range(TRIES):
            try:
                return self._advance(now)
            except Changed as changed:
                problem: PvcError = changed
            except Undefined:
                self._drop()
                return inf
            except Disconnected:
                raise
            except PvcError as error:  # the edge of one VM: its trouble must not hold up the others
                self._report(str(error))
                return now + PATIENCE
        self._report(str(problem))
        return now + PATIENCE

    def close(self) -> None:
        """Give the file back; the tree says where to go on."""
        if self._stay is not None:
            self._leave(self._stay)

    def _advance(self, now: float) -> float:
        while True:
            if not self._settings_known or now - self._settings_at >= LOOK_AFRESH:
                self._look_at_settings(now)
            if not self._writer.loaded:
                self._load()
            if self._stay is None:
                if not self._events:
                    return inf
                self._stay = self._arrival(self._events[0], now)
                self._events.popleft()
                continue
            self._take_events(self._stay, now)
            when = None if self._stay.over else self._go_on(self._stay, now)
            if when is not None:
                return when
            self._leave(self._stay)

    # Settings of the VM's own

    def _look_at_settings(self, now: float) -> None:
        self._settings_known, self._settings_at = True, now  # before it is read: a watch that fires says otherwise
        try:
            znode = self._s.coordinator.get(core_keys.vm(self.uuid), self._settings_changed)
        except Disconnected:
            self._settings_known = False
            raise
        try:
            vm = decode(Vm, znode.data, core_keys.vm(self.uuid)) if znode and znode.data else None
        except Garbage as garbage:
            self._report(str(garbage))
            return
        found = settings_of_vm(self._s.settings(), vm.options if vm else {})
        if found.problems:
            self._report("; ".join(found.problems))
        if found.settings != self._settings:
            self._settings, self._shrinking = found.settings, True
            self._writer.limits = _limits(self._settings)
            if self._stay is not None:
                self._stay.tail.limits = self._writer.limits

    def _settings_changed(self) -> None:
        self._settings_known = False
        self._poke()

    # Stays

    def _arrival(self, event: VmEvent, now: float) -> _Stay | None:
        """The stay that an event begins; None: none."""
        if event.change not in HERE:
            return self._late_end(event, now)
        file = self._console_file(event)
        return None if file is None else self._stay_at(event, file, now)

    def _console_file(self, event: VmEvent) -> ConsoleFile | None:
        try:
            file = console_file(event.xml)
        except BadXml as error:
            self._report(str(error))
            return None
        if file is None:
            self._report("its serial console has no log file, so nothing is published; restart it to have one added")
        return file

    def _late_end(self, event: VmEvent, now: float) -> _Stay | None:
        """What is left to do for a VM that has gone while no daemon ran here; None: nothing."""
        header, mine = self._writer.header, self._mark()
        if header is None or header.writer != self._s.node or header.closed:
            return None
        path = log_path(self._s.settings().directory, event.name, self.uuid)
        stay = self._stay_at(event, ConsoleFile(path, self._s.settings().append == "on", ""), now)
        self._end(stay, event, now)
        stay.placed = stay.writing = True
        self._begin(stay, Begin(lost=True) if mine is None else Resume(mine))
        return stay

    def _stay_at(self, event: VmEvent, file: ConsoleFile, now: float) -> _Stay:
        tail = Tail(self._s.files, file.path, file.run, self._writer.limits)
        try:
            tail.hold()
        except Unfollowable as error:
            self._report(str(error))
        return _Stay(event, file, tail, since=now, budget=self._settings.bytes, budget_at=now)

    def _take_events(self, stay: _Stay, now: float) -> None:
        while self._events and stay.ended is None:
            event = self._events.popleft()
            if event.change not in HERE:
                self._end(stay, event, now)
                return
            file = self._console_file(event)
            if file and is_same_run(event.change, stay.file.run, file.run, unknown=event.change is VmChange.ADOPTED):
                continue
            # It was started anew and nobody told of the end before: what the tree says is where to go on.
            self._events.appendleft(event)
            stay.over = True
            return

    def _end(self, stay: _Stay, event: VmEvent, now: float) -> None:
        stay.ended, stay.ended_at, stay.settled_at = event, now, now + SETTLE

    def _leave(self, stay: _Stay) -> None:
        self._s.files.forget(stay.tail.path)
        stay.tail.close()
        self._stay = None
        self._writer.loaded = False  # others may write from now on

    def _drop(self) -> None:
        self._events.clear()
        if self._stay is not None:
            self._leave(self._stay)

    # The claim

    def _go_on(self, stay: _Stay, now: float) -> float | None:
        """The time to go on at; None: the stay is over."""
        header = self._writer.header
        if header is not None and header.writer == self._s.node:
            stay.owned = stay.owned or not header.closed
        elif stay.writing:
            stay.writing, stay.ousted, stay.since = False, stay.owned, now
        if not stay.writing:
            standing = self._standing(stay, now)
            verdict = claim(self._writer.header, standing)
            if verdict is Claim.DROP:
                return None
            if verdict is Claim.WAIT:
                deadline = stay.since + PATIENCE
                return deadline if deadline > now else now + PATIENCE
            self._enter(stay, standing, verdict)
        return self._publish(stay, now)

    def _standing(self, stay: _Stay, now: float) -> Standing:
        """What there is to know for a claim; costs nothing where nobody has to hand over."""
        placed = VmChange.ADOPTED if stay.placed else stay.event.change
        standing = Standing(
            self._s.node,
            placed,
            stay.event.peer,
            waited=now - stay.since,
            ended=None if stay.ended is None else stay.ended.change,
            ended_for=0.0 if stay.ended is None else now - stay.ended_at,
            ousted=stay.ousted,
        )
        if source(self._writer.header, standing) is None:
            return standing
        self._load(self._poke)
        other = source(self._writer.header, standing)
        if other is None:
            return standing
        lives = self._s.coordinator.get(core_keys.node_session(other), self._poke) is not None
        late = not lives or standing.waited >= PATIENCE
        lease = self._lease() if late and (stay.ended or stay.ousted) else None
        return replace(standing, source_lives=lives, lease=lease)

    def _lease(self) -> str | None:
        path = core_keys.vm_actual(self.uuid)
        znode = self._s.coordinator.get(path)
        return None if znode is None else decode(VmActual, znode.data, path).node

    def _enter(self, stay: _Stay, standing: Standing, verdict: Claim) -> None:
        header, mine = self._writer.header, self._mark()
        if not stay.placed:
            is_open = header is not None and header.writer == self._s.node and not header.closed
            how = start(stay.event.change, stay.file.append, mine, stay.file.run, is_open=is_open)
            self._begin(stay, how)
            if is_open and mine is not None and is_same_run(stay.event.change, mine.run, stay.file.run, unknown=True):
                standing = replace(standing, change=VmChange.ADOPTED)  # told once more: it is in the stream already
        stay.pending = opening(header, standing, verdict)
        stay.placed = stay.writing = True

    def _begin(self, stay: _Stay, how: Begin | Resume) -> None:
        try:
            stay.tail.begin(how, ending=stay.ended is not None and stay.writing)
        except Unfollowable as error:
            self._report(str(error))

    # Publishing

    def _publish(self, stay: _Stay, now: float) -> float | None:
        if stay.ended is None:
            if now < stay.due:
                return stay.due
            self._s.files.follow(stay.tail.path)
        while True:
            piece = self._look(stay, now)
            contents = stay.pending + list(piece.contents if piece else ())
            if not contents and not self._unmarked(stay) and not self._is_too_large():
                break
            self._write(stay, contents, piece)
            stay.due = now + self._s.settings().interval
            if stay.ended is None:
                return stay.due
            stay.settled_at = now + SETTLE
        if stay.ended is None:
            return inf
        if now < stay.settled_at:
            return stay.settled_at
        self._finish(stay, stay.ended)
        return None

    def _unmarked(self, stay: _Stay) -> bool:
        """The tree does not say yet which file is followed here: a successor of this daemon would have to guess."""
        marked = self._writer.header is None or self._mark() is not None
        return not marked and stay.ended is None and stay.tail.mark is not None

    def _is_too_large(self) -> bool:
        """The log holds more than the VM's settings, which have changed, let it: a write drops the rest."""
        self._shrinking = self._shrinking and self._writer.is_over
        return self._shrinking

    def _look(self, stay: _Stay, now: float) -> Piece | None:
        most = self._settings.bytes
        stay.budget = budget(stay.budget, now - stay.budget_at, self._settings.max_rate, most)
        stay.budget_at = now
        if stay.ended and not stay.file.append and any(event.change in HERE for event in self._events):
            stay.tail.distrust()
        try:
            # The end of a run is worth more than an even rate, and it comes once.
            piece = stay.tail.look(int(stay.budget) if stay.ended is None else most, ending=stay.ended is not None)
        except Unfollowable as error:
            self._report(str(error))
            stay.due = now + PATIENCE  # however often it is written to
            if stay.ended is None:
                return None
            if now < stay.ended_at + PATIENCE:
                stay.settled_at = now + SETTLE
                return None
            piece = stay.tail.give_up()
        return piece

    def _write(self, stay: _Stay, contents: list[Content], piece: Piece | None) -> None:
        offset = 0 if self._writer.header is None else self._writer.header.next
        at = self._s.runtime.now()

        def effect() -> None:
            self._tell_sinks(stay, offset, at, contents)
            stay.pending.clear()
            stay.owned = True
            if piece is not None:
                stay.tail.accept(piece)
                stay.budget -= piece.size

        files = self._marks_of_others(stay)
        mark = stay.tail.mark if piece is None else piece.mark
        if mark is not None:
            files[self._s.node] = mark
        self._commit(contents, self._s.node, False, files, effect)

    def _finish(self, stay: _Stay, event: VmEvent) -> None:
        offset = 0 if self._writer.header is None else self._writer.header.next
        at = self._s.runtime.now()

        def effect() -> None:
            self._tell_sinks(stay, offset, at, [last])
            stay.over = True

        files = self._marks_of_others(stay)
        mine = self._mark()
        if mine is not None and stay.file.append:
            files[self._s.node] = mine
        target = event.peer if event.change is VmChange.DEPARTED else None
        last = closing(event.change, self._s.node, event.peer)
        self._commit([last], target or self._s.node, target is None, files, effect)

    def _commit(
        self,
        contents: list[Content],
        writer: str,
        closed: bool,
        files: Mapping[str, FileMark],
        effect: Callable[[], None],
    ) -> None:
        try:
            self._writer.write(contents, writer=writer, closed=closed, files=files)
        except Disconnected:
            self._effect = effect
            raise
        effect()

    def _tell_sinks(self, stay: _Stay, offset: int, at: float, contents: Sequence[Content]) -> None:
        vm = ConsoleVm(self.uuid, stay.event.name, self._s.node)
        self._s.feeds.offer(vm, lambda: placed(offset, at, contents))

    def _load(self, watch: Watch | None = None) -> None:
        """Read the header, and find out about the last write if its outcome is unknown."""
        happened = self._writer.load(watch)
        effect, self._effect = self._effect, None
        if happened and effect is not None:
            effect()

    def _mark(self) -> FileMark | None:
        """How far this node has published its file, as the tree says."""
        return None if self._writer.header is None else self._writer.header.files.get(self._s.node)

    def _marks_of_others(self, stay: _Stay) -> dict[str, FileMark]:
        """What other nodes will need when the VM comes back to them; nothing if each run begins its file anew."""
        header = self._writer.header
        if header is None or not stay.file.append:
            return {}
        return {node: mark for node, mark in header.files.items() if node != self._s.node}

    def _report(self, text: str) -> None:
        """Log what is wrong with this VM's console, once: also if there are two things in turn."""
        now = self._s.runtime.monotonic()
        if now - self._reported.get(text, -inf) < TOLD_AGAIN:
            return
        if len(self._reported) >= MOST_REPORTED:
            self._reported.clear()
        self._reported[text] = now
        self._s.log.warning("console log of VM %s: %s", self.uuid, text)


def _limits(settings: Settings) -> Limits:
    return Limits(settings.lines, settings.bytes)
