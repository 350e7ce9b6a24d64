"""A ZooKeeper ensemble in memory and sessions with it that can be made to fail: the public fake of `Coordinator`.

Passes the same contract tests as the real one. Callbacks run in the context that caused them, after the tree
has changed and with no lock held. Never reads a clock other than its runtime's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from pvc.core.coordination import Create, Delete, Disconnected, Op, Put, SessionState, Watch, Znode, refuse_too_large
from pvc.core.runtime import Runtime, Signal
from pvc.testing.tree import Applied, Change, Tree

Observer = Callable[[str, Sequence[Op], tuple[str, ...]], None]
"""Told of each transaction that was done: the session's name, the operations, the paths that Create operations made."""

_Calls = list[Callable[[], object]]


class FakeEnsemble:
    """One tree, shared by the sessions that `connect` makes; it can be stopped and started.

    `expire_after` is the session timeout in seconds: how long a session that nobody hears of lives on.
    """

    def __init__(self, runtime: Runtime, expire_after: float = 10.0) -> None:
        self.runtime = runtime
        self.expire_after = expire_after
        self.on_commit: list[Observer] = []
        """Called after each transaction, also the one in which an ended session's nodes vanish, before any watch."""
        self.commits = 0
        """Transactions done so far."""
        self.written = 0
        """Bytes of data written so far."""
        self._lock = runtime.mutex()
        self._tree = Tree(runtime.now())
        self._watches: dict[tuple[str, str], dict[_Armed, None]] = {}
        self._sessions: list[FakeCoordinator] = []
        self._last_id = 0
        self._up = True

    def connect(self, name: str) -> "FakeCoordinator":
        """A new session; `name` is what observers see. Raises Disconnected while the ensemble is stopped."""
        with self._lock:
            if not self._up:
                raise Disconnected("no ZooKeeper server answers; check that the servers run")
            session = FakeCoordinator(self, name)
            self._sessions.append(session)
        return session

    def stop(self) -> None:
        """All servers go down: every session is suspended, and none expires while no server counts its time."""
        self._set_up(False)

    def start(self) -> None:
        """The servers are back: sessions with a link go on at once, the others have the full timeout left."""
        self._set_up(True)

    def close(self) -> None:
        """Close every session and end every count-down to an expiry, so that no task is left behind."""
        for session in self._snapshot():
            session.close()
            with self._lock:
                session._stop_countdown()

    def dump(self) -> dict[str, object]:
        """Every path with its value, sorted by path: JSON decoded, other data as text."""
        with self._lock:
            return self._tree.dump()

    def _set_up(self, up: bool) -> None:
        with self._lock:
            self._up = up
        for session in self._snapshot():
            session._follow_link()

    def _snapshot(self) -> "list[FakeCoordinator]":
        with self._lock:
            return list(self._sessions)

    # What follows is called by the sessions, with the lock held.

    def _new_id(self) -> int:
        self._last_id += 1
        return self._last_id

    def _apply(self, session: "FakeCoordinator", ops: Sequence[Op]) -> tuple[Applied, _Calls]:
        applied = self._tree.apply(ops, session._server_id, self.runtime.now())
        self.commits += 1
        self.written += sum(len(op.data) for op in ops if isinstance(op, Create | Put))
        calls: _Calls = [partial(observer, session.name, ops, applied.created) for observer in self.on_commit]
        for change, path in applied.changes:
            for kind in _TOLD[change]:
                for armed in self._watches.pop((kind, path), ()):
                    del armed.session._watches[armed]
                    calls += armed.session._told(armed.watch)
        return applied, calls

    def _arm(self, armed: "_Armed") -> None:
        self._watches.setdefault(armed.slot, {})[armed] = None
        armed.session._watches[armed] = None

    def _disarm(self, session: "FakeCoordinator") -> _Calls:
        dropped = list(session._watches)
        session._watches.clear()
        for armed in dropped:
            del self._watches[armed.slot][armed]
            if not self._watches[armed.slot]:
                del self._watches[armed.slot]
        return [armed.watch for armed in dropped]

    def _end(self, session: "FakeCoordinator") -> _Calls:
        """The servers forget the session: its ephemeral nodes go in one transaction."""
        gone = [Delete(path) for path in self._tree.ephemerals(session._server_id)]
        calls = self._apply(session, gone)[1] if gone else []
        session._server_id = 0
        if session.state is SessionState.CLOSED:
            self._sessions.remove(session)
        return calls


class FakeCoordinator:
    """One session, made by `FakeEnsemble.connect`: a `Coordinator`, and the faults that a test can give it."""

    def __init__(self, ensemble: FakeEnsemble, name: str) -> None:
        self.name = name
        self.latency: Callable[[], float] = float
        """Seconds that each call takes before it acts; at 0 it does not even give other tasks a turn."""
        self.delay: Callable[[], float] = float
        """Seconds that the news of a change takes to reach the watches of this client."""
        self._ensemble = ensemble
        self._lock = ensemble._lock
        self._state = SessionState.CONNECTED
        self._session_id = self._server_id = ensemble._new_id()
        # The first is what this client believes; the second is 0 as soon as the servers have forgotten the session.
        self._link = True
        self._lose: bool | None = None
        self._events_to_lose = 0
        self._listeners: list[Callable[[SessionState], None]] = []
        self._watches: dict[_Armed, None] = {}
        self._countdown: Signal | None = None

    @property
    def state(self) -> SessionState:
        return self._state

    @property
    def session_id(self) -> int:
        return self._session_id

    def listen(self, listener: Callable[[SessionState], None]) -> None:
        with self._lock:
            self._listeners.append(listener)

    def get(self, path: str, watch: Watch | None = None) -> Znode | None:
        self._travel()
        with self._lock:
            self._demand_connection()
            znode = self._ensemble._tree.get(path)
            if watch is not None:
                self._ensemble._arm(_Armed(self, ("node", path), watch))
            return znode

    def children(self, path: str, watch: Watch | None = None) -> tuple[str, ...] | None:
        self._travel()
        with self._lock:
            self._demand_connection()
            names = self._ensemble._tree.children(path)
            if watch is not None:
                # ZooKeeper has no child watch on a missing node: what is left there is a watch for its creation.
                self._ensemble._arm(_Armed(self, ("node" if names is None else "children", path), watch))
            return names

    def get_many(self, paths: Sequence[str], watches: Sequence[Watch] = ()) -> list[Znode | None]:
        self._travel()
        with self._lock:
            self._demand_connection()
            for path, watch in zip(paths, watches, strict=bool(watches)):
                self._ensemble._arm(_Armed(self, ("node", path), watch))
            return [self._ensemble._tree.get(path) for path in paths]

    def look(
        self, nodes: Sequence[str], folders: Sequence[str]
    ) -> tuple[list[Znode | None], list[tuple[str, ...] | None]]:
        self._travel()
        with self._lock:
            self._demand_connection()
            tree = self._ensemble._tree
            return [tree.get(path) for path in nodes], [tree.children(path) for path in folders]

    def commit(self, ops: Sequence[Op]) -> tuple[str, ...]:
        refuse_too_large(ops)
        self._travel()
        with self._lock:
            self._demand_connection()
            lose, self._lose = self._lose, None
            if not ops:
                return ()
            if lose is False:
                raise Disconnected(f"{self.name}: the connection broke before the transaction arrived; look again")
            applied, calls = self._ensemble._apply(self, tuple(ops))
        _run(calls)
        if lose:
            raise Disconnected(f"{self.name}: the connection broke before the answer arrived; look again")
        return applied.created

    def close(self) -> None:
        with self._lock:
            if self._state is SessionState.CLOSED:
                return
            calls = self._disarm_and_enter(SessionState.CLOSED)
            if self._link and self._ensemble._up:
                calls += self._ensemble._end(self)
        _run(calls)

    def suspend(self) -> None:
        """Cut the link to the servers; the session expires on them unless `resume` comes within the timeout."""
        self._link = False
        self._follow_link()

    def resume(self) -> None:
        """Mend the link: the same session goes on, or if it has expired, LOST is seen and then a new one."""
        self._link = True
        self._follow_link()

    def expire(self) -> None:
        """End the session as if its time were over: SUSPENDED, LOST, and no new session until `resume`."""
        self.suspend()
        with self._lock:
            self._stop_countdown()
            calls = self._ensemble._end(self) if self._server_id else []
            calls += self._enter(SessionState.LOST)
        _run(calls)

    def crash(self) -> None:
        """The process dies: no callback runs any more, and its ephemeral nodes stay until the session times out."""
        with self._lock:
            self._listeners.clear()
            self._disarm_and_enter(SessionState.CLOSED)
        self._follow_link()

    def lose_next_commit(self, applied: bool) -> None:
        """Let the next commit raise Disconnected, having been applied or not. The session stays connected."""
        with self._lock:
            self._lose = applied

    def lose_events(self, count: int) -> None:
        """Let the next `count` watches that should fire stay silent. ZooKeeper would not; whoever trusts in nothing but
        watches is found out."""
        with self._lock:
            self._events_to_lose = count

    def _told(self, watch: Watch) -> _Calls:
        """What tells the client that a watch has fired: at once, or after the time that news takes to travel."""
        if self._events_to_lose > 0:
            self._events_to_lose -= 1
            return []
        pause = self.delay()
        if pause <= 0:
            return [watch]
        return [partial(self._ensemble.runtime.spawn, f"news for {self.name}", partial(self._tell_later, watch, pause))]

    def _tell_later(self, watch: Watch, pause: float) -> None:
        self._ensemble.runtime.sleep(pause)
        if self._state is not SessionState.CLOSED:
            watch()

    def _travel(self) -> None:
        pause = self.latency()
        if pause > 0:
            self._ensemble.runtime.sleep(pause)

    def _demand_connection(self) -> None:
        if self._state is not SessionState.CONNECTED:
            raise Disconnected(
                f"{self.name}: the session with ZooKeeper is {self._state.value}; check that its servers run"
            )

    def _follow_link(self) -> None:
        """Make the state fit the link and the servers, and the count-down to the expiry fit both."""
        with self._lock:
            self._stop_countdown()
            calls = self._connected() if self._link and self._ensemble._up else self._disconnected()
            countdown = self._new_countdown()
        _run(calls)
        if countdown is not None:
            self._ensemble.runtime.spawn(f"expiry of {self.name}", partial(self._expire_after, countdown))

    def _connected(self) -> _Calls:
        calls: _Calls = []
        if self._state is SessionState.SUSPENDED and not self._server_id:
            calls += self._enter(SessionState.LOST)
        if self._state is SessionState.LOST:
            self._session_id = self._server_id = self._ensemble._new_id()
        if self._state in (SessionState.SUSPENDED, SessionState.LOST):
            calls += self._enter(SessionState.CONNECTED)
        return calls

    def _disconnected(self) -> _Calls:
        if self._state is not SessionState.CONNECTED:
            return []
        return self._disarm_and_enter(SessionState.SUSPENDED)

    def _disarm_and_enter(self, state: SessionState) -> _Calls:
        return self._enter(state) + self._ensemble._disarm(self)

    def _enter(self, state: SessionState) -> _Calls:
        if state is self._state:
            return []
        self._state = state
        if state in (SessionState.LOST, SessionState.CLOSED):
            self._session_id = 0
        return [partial(listener, state) for listener in self._listeners]

    def _new_countdown(self) -> Signal | None:
        heard = self._link and self._state is not SessionState.CLOSED
        if heard or not self._ensemble._up or not self._server_id:
            return None
        self._countdown = self._ensemble.runtime.signal()
        return self._countdown

    def _stop_countdown(self) -> None:
        if self._countdown is not None:
            self._countdown.set()
            self._countdown = None

    def _expire_after(self, countdown: Signal) -> None:
        if countdown.wait(self._ensemble.expire_after):
            return
        with self._lock:
            if self._countdown is not countdown:
                return
            self._countdown = None
            calls = self._ensemble._end(self)
        _run(calls)


@dataclass(frozen=True, slots=True, eq=False)
class _Armed:
    """One watch that was left: on ("node" or "children", path)."""

    session: FakeCoordinator
    slot: tuple[str, str]
    watch: Watch


_TOLD = {
    Change.CREATED: ("node",),
    Change.WRITTEN: ("node",),
    Change.DELETED: ("node", "children"),
    Change.CHILDREN: ("children",),
}
"""Which watches on a path each change fires."""


def _run(calls: _Calls) -> None:
    for call in calls:
        call()
