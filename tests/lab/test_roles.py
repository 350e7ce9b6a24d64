"""Features and roles switched on and off on real nodes."""

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pvc.lab import pidfile
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import UNHURRIED, RealCluster

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def plain(labs_directory: Path) -> Iterator[RealCluster]:
    """Two nodes without flush lock and console log."""
    lab = Lab("plain", Shape(nodes=2, vms=2, session_timeout=UNHURRIED), directory=labs_directory)
    try:
        lab.up()
        for node in ("hv1", "hv2"):
            off = "sed -i 's/^plugins:.*/plugins: {flushlock: false, consolelog: false}/' /etc/pvc/pvc.yaml"
            assert lab.run(["sh", "-c", off], node).code == 0
            lab.kill("pvcd", node, signal.SIGTERM)
            lab.start("pvcd", node)
        yield RealCluster(lab)
    finally:
        lab.down()


def test_without_features_a_flush_still_works_and_nothing_of_them_is_loaded(plain: RealCluster) -> None:
    assert [row["plugins"] for row in plain.ask("node", "list")] == [[], []]
    plain.ok("node", "flush", "hv1", "--wait")
    assert plain.copies() == {"vm1": ["hv2"], "vm2": ["hv2"]}
    plain.ok("node", "unflush", "hv1", "--wait")
    assert plain.copies() == {"vm1": ["hv1"], "vm2": ["hv2"]}
    for node in ("hv1", "hv2"):
        assert "anon_inode:inotify" not in _open_files(plain, node)


def test_with_the_console_log_the_daemon_watches_files(plain: RealCluster) -> None:
    """The counterpart of the test above: it would notice."""
    on = "sed -i 's/^plugins:.*/plugins: {flushlock: false, consolelog: true}/' /etc/pvc/pvc.yaml"
    assert plain.lab.run(["sh", "-c", on], "hv1").code == 0
    plain.lab.kill("pvcd", "hv1", signal.SIGTERM)
    plain.lab.start("pvcd", "hv1")
    plain.wait("it watches", lambda: "anon_inode:inotify" in _open_files(plain, "hv1"))


def test_a_role_that_vms_need_cannot_be_switched_off(plain: RealCluster) -> None:
    edits = "-e 's/^roles:.*/roles: {hypervisor: false}/' -e '/^plugins:/d'"
    off = f"sed {edits} /etc/pvc/pvc.yaml > /tmp/role.yaml"
    assert plain.lab.run(["sh", "-c", off], "hv1").code == 0
    before = plain.node("hv1")
    done = plain.lab.run(["pvcd", "--config", "/tmp/role.yaml"], "hv1")
    assert done.code == 78, done
    assert "hypervisor is needed by vm1" in done.stderr, done.stderr
    assert plain.node("hv1")["roles"] == before["roles"] == ["hypervisor"]
    assert plain.copies()["vm1"] == ["hv1"]


def test_the_roles_that_are_switched_on_look_at_the_real_host(plain: RealCluster) -> None:
    sections = "networking: {bridges: [br7]}\\nstorage: {directories: {tmp: {path: /tmp, mount: false}}}"
    every = f"roles: {{hypervisor: true, networking: true, storage: true}}\\n{sections}"
    _with_roles(plain, "hv1", every)
    plain.wait("directories", lambda: bool(plain.ask("directory", "list")))
    (row,) = plain.ask("directory", "list")
    assert (row["node"], row["directory"], row["problem"]) == ("hv1", "tmp", None)
    assert row["total"] > row["free"] > 0
    plain.wait("lacks", lambda: plain.ask("bridge", "list") == [{"node": "hv1", "up": [], "lacking": ["br7"]}])
    assert "bridge br7 does not exist" in str(plain.node("hv1")["findings"])
    assert plain.node("hv1")["roles_changed"] == "hypervisor => hypervisor, networking, storage"
    _with_roles(plain, "hv1", "roles: {hypervisor: true}")
    plain.wait("back", lambda: plain.node("hv1")["roles"] == ["hypervisor"])
    assert plain.copies()["vm1"] == ["hv1"]


def _with_roles(cluster: RealCluster, node: str, text: str) -> None:
    """Restart a node's daemon with another line for its roles, and what follows it."""
    edit = f"sed -i -e '/^networking:/d' -e '/^storage:/d' -e 's|^roles:.*|{text}|' /etc/pvc/pvc.yaml"
    assert cluster.lab.run(["sh", "-c", edit], node).code == 0
    cluster.lab.kill("pvcd", node, signal.SIGTERM)
    cluster.lab.start("pvcd", node)


def _open_files(cluster: RealCluster, node: str) -> str:
    process = pidfile.recorded(cluster.lab.state.record(cluster.lab.shape.host(node), "pvcd"))
    assert process is not None
    found = []
    for link in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed meanwhile
            found.append(str(link.readlink()))
    return " ".join(found)
