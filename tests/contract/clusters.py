"""What the contract tests of `Coordinator` run on: the fake ensemble and a real server behind the same few verbs."""

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Coordinator
from pvc.core.runtime import Runtime
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import connect, initialise
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble
from pvc.testing.relay import Relay
from pvc.testing.zookeeper import ZooKeeperServer

PATIENCE = 30.0
"""Seconds that a test waits for something that must happen."""
TIMEOUT = 10.0
"""Seconds that a session lives on unheard: no pause of a busy machine ends it. The server allows no more."""

T = TypeVar("T")


class Told(Generic[T]):
    """Remembers what it was told, by a watch or a listener, and waits for it."""

    def __init__(self, runtime: Runtime | None = None) -> None:
        self._runtime = runtime or ThreadRuntime()
        self._signal = self._runtime.signal()
        self.events: list[T] = []

    def __call__(self, event: T) -> None:
        self.events.append(event)
        self._signal.set()

    def watch(self, event: T) -> Callable[[], None]:
        """A watch that tells `event`."""
        return lambda: self(event)

    def wait_until(self, enough: Callable[[list[T]], bool]) -> None:
        """Wait until the events satisfy `enough`; fails the test after PATIENCE seconds."""
        deadline = self._runtime.monotonic() + PATIENCE
        while not enough(self.events):
            remaining = deadline - self._runtime.monotonic()
            assert remaining > 0, f"waited {PATIENCE:g} s in vain, was told only {self.events}"
            self._signal.wait(remaining)

    def wait_for(self, *events: T) -> None:
        """Wait until the last events are these."""
        self.wait_until(lambda told: told[-len(events) :] == list(events))


class Session(Protocol):
    """One session under test and what can go wrong with its connection."""

    @property
    def coordinator(self) -> Coordinator: ...

    def cut(self) -> None:
        """Break the connection and let no new one through."""

    def mend(self) -> None:
        """Let connections through again."""

    def lose_next_commit(self, applied: bool) -> None:
        """Break the connection during the next commit, before or after the server has done it."""


class Cluster(Protocol):
    """Servers that sessions can be opened with."""

    def connect(self, name: str, *, brief: bool = False) -> Session:
        """`brief`: the session does not live on for long when nobody hears of it."""

    def stop(self) -> None: ...

    def start(self) -> None: ...

    def close(self) -> None: ...


class FakeSession:
    def __init__(self, coordinator: FakeCoordinator) -> None:
        self.coordinator = coordinator

    def cut(self) -> None:
        self.coordinator.suspend()

    def mend(self) -> None:
        self.coordinator.resume()

    def lose_next_commit(self, applied: bool) -> None:
        self.coordinator.lose_next_commit(applied)


class FakeCluster:
    def __init__(self) -> None:
        self.ensemble = FakeEnsemble(ThreadRuntime(), expire_after=30.0)

    def connect(self, name: str, *, brief: bool = False) -> FakeSession:
        if brief:
            self.ensemble.expire_after = 0.3  # the others of a test are never cut for long
        return FakeSession(self.ensemble.connect(name))

    def stop(self) -> None:
        self.ensemble.stop()

    def start(self) -> None:
        self.ensemble.start()

    def close(self) -> None:
        self.ensemble.close()


class RealSession:
    def __init__(self, relay: Relay, coordinator: Coordinator) -> None:
        self.relay = relay
        self.coordinator = coordinator

    def cut(self) -> None:
        self.relay.cut()

    def mend(self) -> None:
        self.relay.mend()

    def lose_next_commit(self, applied: bool) -> None:
        self.relay.lose_next(answered=applied)

    def close(self) -> None:
        self.coordinator.close()
        self.relay.close()


class RealCluster:
    """A root of its own on a running server; each session goes through a relay."""

    def __init__(self, server: ZooKeeperServer) -> None:
        self._server = server
        self._runtime = ThreadRuntime()
        self._root = f"/test-{self._runtime.new_id()}"
        self._sessions: list[RealSession] = []
        log = logging.getLogger("test")
        initialise(self.settings(server.port, TIMEOUT), [], runtime=self._runtime, name="test", log=log)

    def settings(self, port: int, timeout: float) -> ZooKeeperSettings:
        return ZooKeeperSettings(hosts=(f"127.0.0.1:{port}",), root=self._root, session_timeout=timeout)

    def connect(self, name: str, *, brief: bool = False) -> RealSession:
        relay = Relay(self._runtime, self._server.port)
        settings = self.settings(relay.port, 4.0 if brief else TIMEOUT)
        try:
            coordinator = connect(settings, runtime=self._runtime, name=name, log=logging.getLogger("test"))
        except BaseException:
            relay.close()
            raise
        session = RealSession(relay, coordinator)
        self._sessions.append(session)
        return session

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start()

    def close(self) -> None:
        for session in self._sessions:
            session.close()
