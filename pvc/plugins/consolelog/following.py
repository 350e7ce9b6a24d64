"""Follows the console logs of several VMs on one session: those named, and those of a node as they come and go.

`poll` gives what has come and never waits, `wait` waits for more. While the cluster does not answer it says so once,
and goes on where it was.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from heapq import merge

from pvc.core import keys as core_keys
from pvc.core.coordination import Coordinator, Disconnected, Watch
from pvc.core.lookup import NotFound, find_vm
from pvc.core.model import Vm
from pvc.core.records import Garbage
from pvc.core.runtime import Inbox, Runtime
from pvc.plugins.consolelog.decide.follow import Start
from pvc.plugins.consolelog.decide.moments import age, stamp
from pvc.plugins.consolelog.decide.presence import printed_on
from pvc.plugins.consolelog.reader import Follower, Notice
from pvc.plugins.consolelog.ring import Chunk

RETRY = 1.0
"""Seconds between tries while the cluster does not answer."""
SLOW_LOOK = 60.0
"""Seconds after which everything is looked at although no watch has fired."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a reader of several logs gets."""

    vm: str
    """Name of the VM; empty: it concerns the reading as a whole."""
    item: Chunk | Notice


@dataclass(slots=True)
class _Followed:
    name: str
    follower: Follower
    here: bool | None = None
    """It is on the node whose VMs are followed; None: not looked at yet."""
    leaving: bool = False
    """The node has no more business with it: it is followed until the node has published the rest."""
    silent: bool = False
    """The reader was told that the node which writes the log does not answer."""


class Following:
    """Several logs at once. `named` are followed wherever they go; the VMs of `node` as long as they are there."""

    def __init__(
        self, coordinator: Coordinator, runtime: Runtime, start: Start, named: Sequence[Vm], node: str | None = None
    ) -> None:
        self._coordinator = coordinator
        self._runtime = runtime
        self._start = start
        self._named = {vm.uuid for vm in named}
        self._node = node
        self._wake = runtime.signal()
        self._inbox: Inbox[Callable[[], None]] = Inbox(self._wake)  # news, as what is to be done about them
        self._followed: dict[str, _Followed] = {}
        self._ready: dict[str, None] = {}  # in the order of their turns
        self._members_known = node is None
        self._lives: dict[str, bool] = {}  # by node, as far as known
        self._away = False
        self._look_at = runtime.monotonic() + SLOW_LOOK
        self.garbage = 0
        """Logs that were given up because they cannot be read."""
        for vm in named:
            self._add(vm)
        coordinator.listen(lambda state: self._inbox.put(self._look_afresh))

    @property
    def ended(self) -> bool:
        """Nothing will come any more."""
        return not self._followed and self._node is None

    def poll(self) -> list[Told]:
        """What has come: each VM's output in the order of its stream, different VMs' in that of publication."""
        for act in self._inbox.drain():
            act()
        before: list[Told] = []
        read: list[list[Told]] = []
        behind: list[Told] = []
        try:
            self._look_at_members()
            for uuid in list(self._ready):
                read.append(self._read(uuid))
            self._look_at_writers(behind)
        except Disconnected:
            self._look_afresh()
            if not self._away:
                behind.append(Told("", Notice("no connection to the cluster; waiting for it")))
            self._away = True
        else:
            if self._away:
                before.insert(0, Told("", Notice("connected to the cluster again")))
            self._away = False
        return [*before, *merge(*read, key=_published), *behind]

    def wait(self, timeout: float | None = None) -> None:
        """Wait until there is something to poll for, at most `timeout` seconds."""
        if self._ready and not self._away:
            return
        pause = RETRY if self._away else max(0.0, self._look_at - self._runtime.monotonic())
        self._wake.wait(pause if timeout is None else min(pause, timeout))
        if self._runtime.monotonic() >= self._look_at:
            self._look_afresh()

    def _add(self, vm: Vm) -> None:
        news = self._news(self._get_ready, vm.uuid)
        self._followed[vm.uuid] = _Followed(vm.name, Follower(self._coordinator, vm.uuid, self._start, news))
        self._ready[vm.uuid] = None

    def _drop(self, uuid: str) -> None:
        del self._followed[uuid]
        self._ready.pop(uuid, None)

    def _news(self, act: Callable[[str], None], what: str) -> Watch:
        """A watch: it runs on a foreign thread, so it only leaves word."""
        return lambda: self._inbox.put(partial(act, what))

    def _get_ready(self, uuid: str) -> None:
        if uuid in self._followed:
            self._ready[uuid] = None

    def _look_afresh(self) -> None:
        self._look_at = self._runtime.monotonic() + SLOW_LOOK
        self._members_known = self._node is None
        self._lives.clear()
        self._ready.update(dict.fromkeys(self._followed))

    def _read(self, uuid: str) -> list[Told]:
        followed = self._followed[uuid]
        follower = followed.follower
        try:
            items = follower.poll()
        except Garbage as garbage:
            self.garbage += 1
            self._drop(uuid)
            return [Told(followed.name, Notice(f"its log is not followed any more: {garbage}"))]
        if uuid not in self._named:
            items = self._printed_here(followed, items)
        told = [Told(followed.name, item) for item in items]
        del self._ready[uuid]
        if not follower.is_at_end:
            self._ready[uuid] = None  # behind the others
        elif follower.ended:
            self._drop(uuid)
            told.append(Told(followed.name, Notice("the VM is no longer defined; its log is gone")))
        elif followed.leaving and self._is_written_elsewhere(follower):
            self._drop(uuid)
        return told

    def _printed_here(self, followed: _Followed, items: list[Chunk | Notice]) -> list[Chunk | Notice]:
        """Without what the VM printed while it was on other nodes; its home remembers it wherever it goes."""
        header, notices = followed.follower.header, [item for item in items if isinstance(item, Notice)]
        chunks = [item for item in items if isinstance(item, Chunk)]
        here = header is None or header.writer == self._node
        if followed.here is None:
            followed.here = here
            return items if here else []
        shown, followed.here = printed_on(self._node or "", chunks, followed.here)
        if followed.follower.is_at_end:
            followed.here = here  # markers may be lost, the header tells in any case
        return [*notices, *shown]

    def _is_written_elsewhere(self, follower: Follower) -> bool:
        header = follower.header
        return header is None or header.closed or header.writer != self._node

    def _look_at_members(self) -> None:
        """Take in whom the node has got business with; the others are followed to their last word there."""
        if self._members_known or self._node is None:
            return
        found = members(self._coordinator, self._node, self._news(self._forget_members, self._node))
        there = {vm.uuid for vm in found} | self._named
        for vm in found:
            if vm.uuid not in self._followed:
                self._add(vm)
        for uuid, followed in self._followed.items():
            followed.leaving = uuid not in there
            if followed.leaving:
                self._ready[uuid] = None
        self._members_known = True

    def _forget_members(self, node: str) -> None:
        self._members_known = False

    def _look_at_writers(self, told: list[Told]) -> None:
        """Tell of each log that has changed from being written to not being written, or back."""
        for followed in self._followed.values():
            header = followed.follower.header
            away = header is None or header.closed or followed.here is False
            silent = header is not None and not away and not self._is_alive(header.writer)
            if header is not None and silent is not followed.silent:
                followed.silent = silent
                told.append(Told(followed.name, Notice(self._about(header.writer, followed.follower, silent))))

    def _about(self, node: str, follower: Follower, silent: bool) -> str:
        if not silent:
            return f"its log is written again, by node {node}"
        return state_of(node, silent, follower.spoke, self._runtime.now())

    def _is_alive(self, node: str) -> bool:
        if node not in self._lives:
            session = self._coordinator.get(core_keys.node_session(node), self._news(self._forget_life, node))
            self._lives[node] = session is not None
        return self._lives[node]

    def _forget_life(self, node: str) -> None:
        self._lives.pop(node, None)


def members(coordinator: Coordinator, node: str, watch: Watch | None = None) -> list[Vm]:
    """The VMs that a node has business with, by name: those on it, those on the way, and those that call it home.

    What has no readable record is left out. Raises Disconnected.
    """
    found = []
    for uuid in coordinator.children(core_keys.node_vms(node), watch) or ():
        with suppress(NotFound, Garbage):
            found.append(find_vm(coordinator, uuid))
    return sorted(found, key=lambda vm: vm.name)


def state_of(writer: str, silent: bool, spoke: float | None, now: float) -> str:
    """How old the last output is, and whether more can come at all, in words."""
    age_of_it = "it holds no output" if spoke is None else f"last output {age(now - spoke)} ago, at {stamp(spoke)}"
    return f"node {writer}, which writes this log, does not answer; {age_of_it}" if silent else age_of_it


def _published(told: Told) -> float:
    return told.item.at if isinstance(told.item, Chunk) else 0.0
