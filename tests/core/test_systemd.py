"""What systemd is told."""

import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.core.lifecycle import HUNG_AFTER, Lifecycle
from pvc.core.systemd import Watchdog, notify, outside
from pvc.testing.runtime import World

log = logging.getLogger("test.systemd")


class Sleeper:
    """A service that stays in a step for as long as the test says."""

    name = "sleeper"
    after: tuple[str, ...] = ()

    def __init__(self, world: World) -> None:
        self.process = world.process("hv1")
        self.wake = self.process.signal()
        self.seconds = 0.0

    def step(self) -> float:
        self.process.sleep(self.seconds)
        return 1.0

    def stop(self) -> None:
        pass


class Systemd:
    """The end of the socket that systemd has."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def heard(self) -> list[bytes]:
        """What has come since the last look."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(64))
            except BlockingIOError:
                return messages

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(tmp_path / "notify")
    yield systemd
    systemd.close()


def test_a_state_reaches_the_socket_that_systemd_names(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(path)
        systemd.settimeout(5)
        assert notify("READY=1", {"NOTIFY_SOCKET": path})
        assert systemd.recv(64) == b"READY=1"


def test_an_abstract_socket_works_too() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0pvc-test-notify")
        systemd.settimeout(5)
        assert notify("STOPPING=1", {"NOTIFY_SOCKET": "@pvc-test-notify"})
        assert systemd.recv(64) == b"STOPPING=1"


def test_without_systemd_or_with_a_dead_socket_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "nobody")})


def test_a_systemd_that_takes_nothing_holds_nobody_up_for_ever(systemd: Systemd) -> None:
    sent = 0
    while notify("WATCHDOG=1", {"NOTIFY_SOCKET": systemd.path}):
        sent += 1
    assert len(systemd.heard()) == sent


def test_the_watchdog_is_fed_until_a_service_hangs_and_again_when_it_goes_on(
    systemd: Systemd, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    sleeper = Sleeper(world)
    lifecycle = Lifecycle([sleeper], sleeper.process, log)
    watchdog = Watchdog(lifecycle.hung, log, {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "60000000"})
    lifecycle.start()

    def fed(seconds: float) -> set[bytes]:
        heard: set[bytes] = set()
        for _ in range(int(seconds / 2)):
            world.run_for(2.0)
            watchdog.feed()
            heard.update(systemd.heard())
        return heard

    assert fed(60) == {b"WATCHDOG=1"}
    sleeper.seconds = 2 * HUNG_AFTER
    assert fed(HUNG_AFTER - 10) == {b"WATCHDOG=1"}
    fed(20)
    assert fed(100) == set()
    assert [message for message in caplog.messages if "sleeper: no progress" in message] != []
    sleeper.seconds = 0.0
    fed(100)
    assert fed(60) == {b"WATCHDOG=1"}


@pytest.mark.parametrize(
    "environment", [{}, {"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid() + 1)}, {"WATCHDOG_USEC": "soon"}]
)
def test_nothing_is_sent_where_no_watchdog_waits_for_this_process(
    environment: dict[str, str], systemd: Systemd
) -> None:
    watchdog = Watchdog(list, log, {"NOTIFY_SOCKET": systemd.path, **environment})
    watchdog.feed()
    assert watchdog.patience is None
    assert systemd.heard() == []


def test_the_watchdog_of_this_process_is_known_with_its_seconds(systemd: Systemd) -> None:
    environment = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "1500000", "WATCHDOG_PID": str(os.getpid())}
    watchdog = Watchdog(list, log, environment)
    watchdog.feed()
    assert watchdog.patience == 1.5
    assert systemd.heard() == [b"WATCHDOG=1"]


def test_programs_run_outside_of_the_daemons_unit_only_where_there_is_one() -> None:
    assert outside({}) == ()
    assert outside({"NOTIFY_SOCKET": "/run/systemd/notify"})[0] == "systemd-run"
