"""What only the real door to ZooKeeper has: finding, making and refusing trees, credentials, unreachable servers."""

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pvc.core.config.settings import ZooKeeperSettings
from pvc.core.coordination import Conflict, CoordinationError, Create, Disconnected, Op, Put, SessionState
from pvc.core.errors import PvcError
from pvc.core.keys import SCHEMA
from pvc.core.threads import ThreadRuntime
from pvc.core.zookeeper import (
    CannotConnect,
    NoTree,
    TreeExists,
    WrongSchema,
    ZooKeeperCoordinator,
    connect,
    initialise,
)
from pvc.testing.zookeeper import TICK, ZooKeeperServer, free_port
from tests.contract.clusters import Told

log = logging.getLogger("test")


def opened(settings: ZooKeeperSettings) -> ZooKeeperCoordinator:
    return connect(settings, runtime=ThreadRuntime(), name="hv1", log=log)


def made(settings: ZooKeeperSettings, *ops: Op) -> None:
    initialise(settings, ops, runtime=ThreadRuntime(), name="init", log=log)


def reconnected(states: list[SessionState]) -> bool:
    """Whether the connection broke and is there again; a slow machine may lose the session in between."""
    return SessionState.SUSPENDED in states and states[-1] is SessionState.CONNECTED


class TestUnreachableServers:
    def test_all_hosts_and_the_time_are_named(self) -> None:
        hosts = (f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
        with pytest.raises(CannotConnect) as caught:
            opened(ZooKeeperSettings(hosts=hosts, connect_timeout=0.5))
        assert "0.5 s" in str(caught.value)
        assert all(host in str(caught.value) for host in hosts)

    def test_a_server_that_accepts_and_says_nothing_is_given_up(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            settings = ZooKeeperSettings(
                hosts=(f"127.0.0.1:{silent.getsockname()[1]}",), session_timeout=1.0, connect_timeout=0.3
            )
            with pytest.raises(CannotConnect):
                opened(settings)

    def test_a_host_that_is_no_host_is_named(self) -> None:
        with pytest.raises(CannotConnect, match="hv1:port"):
            opened(ZooKeeperSettings(hosts=("hv1:port",)))

    def test_cannot_connect_can_be_caught_like_any_lost_connection(self) -> None:
        assert issubclass(CannotConnect, Disconnected)


class TestCredentialFile:
    def test_a_user_without_password_file_is_refused(self) -> None:
        with pytest.raises(PvcError, match="password_file"):
            opened(ZooKeeperSettings(user="pvc"))

    def test_a_missing_password_file_is_named(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "secret")
        with pytest.raises(PvcError, match=missing):
            opened(ZooKeeperSettings(user="pvc", password_file=missing))


@pytest.mark.zookeeper
class TestTree:
    @pytest.fixture
    def settings(self, zookeeper_server: ZooKeeperServer) -> ZooKeeperSettings:
        root = f"/{ThreadRuntime().new_id()}/clusters/pvc"
        return ZooKeeperSettings(hosts=(zookeeper_server.host,), root=root, session_timeout=4.0)

    @pytest.fixture
    def outside(self, settings: ZooKeeperSettings) -> Iterator[ZooKeeperCoordinator]:
        """A session in a tree beside the one under test, from which nothing else can be seen."""
        parent = replace(settings, root=settings.root.rpartition("/")[0])
        made(parent)
        coordinator = opened(parent)
        yield coordinator
        coordinator.close()

    def test_a_made_tree_holds_its_schema_and_what_was_asked_for(self, settings: ZooKeeperSettings) -> None:
        made(settings, Create("/vms", b"1"), Create("/vms/a"))
        coordinator = opened(settings)
        root = coordinator.get("/")
        assert root is not None
        assert json.loads(root.data) == {"schema": SCHEMA}
        assert coordinator.children("/") == ("vms",)
        assert coordinator.children("/vms") == ("a",)
        coordinator.close()

    def test_a_missing_tree_says_how_to_make_it(self, settings: ZooKeeperSettings) -> None:
        with pytest.raises(NoTree, match="pvc init"):
            opened(settings)

    def test_a_root_without_schema_is_no_tree_and_can_be_made(
        self, settings: ZooKeeperSettings, outside: ZooKeeperCoordinator
    ) -> None:
        outside.commit([Create("/pvc")])
        with pytest.raises(NoTree):
            opened(settings)
        made(settings, Create("/vms"))
        opened(settings).close()

    @pytest.mark.parametrize("data", [b'{"schema": 999}', b"text", b"[]", b"{}"])
    def test_another_schema_is_refused(
        self, settings: ZooKeeperSettings, outside: ZooKeeperCoordinator, data: bytes
    ) -> None:
        outside.commit([Create("/pvc", data)])
        with pytest.raises(WrongSchema, match=f"knows {SCHEMA}"):
            opened(settings)

    def test_a_tree_is_not_made_twice(self, settings: ZooKeeperSettings) -> None:
        made(settings, Create("/vms", b"precious"))
        with pytest.raises(TreeExists, match=settings.root):
            made(settings, Create("/vms", b""))
        coordinator = opened(settings)
        assert coordinator.get_many(["/vms"])[0] == coordinator.get("/vms")
        assert coordinator.get("/vms") is not None
        coordinator.close()

    def test_children_without_schema_are_not_taken_over(
        self, settings: ZooKeeperSettings, outside: ZooKeeperCoordinator
    ) -> None:
        outside.commit([Create("/pvc"), Create("/pvc/somebody")])
        with pytest.raises(TreeExists):
            made(settings)

    def test_a_refused_operation_leaves_no_half_made_tree(self, settings: ZooKeeperSettings) -> None:
        with pytest.raises(Conflict):
            made(settings, Create("/vms"), Put("/none", b""))
        with pytest.raises(NoTree):
            opened(settings)
        made(settings, Create("/vms"))

    def test_with_a_user_nobody_else_may_read_or_write(self, settings: ZooKeeperSettings, tmp_path: Path) -> None:
        ours, theirs = tmp_path / "ours", tmp_path / "theirs"
        ours.write_text("secret\n")
        theirs.write_text("guess\n")
        for path in (ours, theirs):
            path.chmod(0o600)
        owner = replace(settings, user="pvc", password_file=str(ours))
        made(owner, Create("/vms", b"1"))
        coordinator = opened(owner)
        coordinator.commit([Put("/vms", b"2"), Create("/vms/a")])
        for stranger in (settings, replace(owner, password_file=str(theirs))):
            with pytest.raises(CoordinationError, match=r"zookeeper\.user"):
                opened(stranger)
        coordinator.close()

    def test_the_owner_is_known_again_after_a_reconnect(
        self, settings: ZooKeeperSettings, tmp_path: Path, zookeeper_server: ZooKeeperServer
    ) -> None:
        secret = tmp_path / "secret"
        secret.write_text("secret")
        secret.chmod(0o600)
        owner = replace(settings, user="pvc", password_file=str(secret))
        made(owner, Create("/vms", b"1"))
        coordinator = opened(owner)
        told: Told[SessionState] = Told()
        coordinator.listen(told)
        zookeeper_server.restart()
        told.wait_until(reconnected)
        coordinator.commit([Put("/vms", b"2")])
        coordinator.close()

    def test_each_change_of_the_session_is_logged_once(
        self, settings: ZooKeeperSettings, zookeeper_server: ZooKeeperServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        made(settings)
        caplog.set_level(logging.INFO, logger="test")
        caplog.clear()
        # As long as the server allows: the session must outlive the restart, however slow this machine is.
        coordinator = opened(replace(settings, session_timeout=20 * TICK))
        told: Told[SessionState] = Told()
        coordinator.listen(told)
        zookeeper_server.restart()
        told.wait_for(SessionState.SUSPENDED, SessionState.CONNECTED)
        coordinator.close()
        assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
            ("INFO", "ZooKeeper session of hv1: suspended => connected"),
            ("WARNING", "ZooKeeper session of hv1: connected => suspended"),
            ("INFO", "ZooKeeper session of hv1: suspended => connected"),
            ("INFO", "ZooKeeper session of hv1: connected => closed"),
        ]

    def test_a_killed_server_keeps_what_it_had_acknowledged(
        self, settings: ZooKeeperSettings, zookeeper_server: ZooKeeperServer
    ) -> None:
        made(settings, Create("/vms", b"1"))
        coordinator = opened(settings)
        told: Told[SessionState] = Told()
        coordinator.listen(told)
        coordinator.commit([Put("/vms", b"2")])
        zookeeper_server.kill()
        zookeeper_server.start()
        told.wait_until(reconnected)
        znode = coordinator.get("/vms")
        assert znode is not None
        assert znode.data == b"2"
        coordinator.close()
