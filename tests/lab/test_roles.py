"""Features switched off on real nodes, and the words for roles that do not exist yet."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pvc.lab import pidfile
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import RealCluster

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def plain(labs_directory: Path) -> Iterator[RealCluster]:
    """Two nodes without flush lock and console log."""
    lab = Lab("plain", Shape(nodes=2, vms=2), directory=labs_directory)
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


@pytest.mark.parametrize("role", ["networking", "storage"])
def test_a_role_that_this_version_lacks_is_refused_in_words(plain: RealCluster, role: str) -> None:
    text = f"roles: {{hypervisor: true, {role}: true}}"
    plain.lab.run(["sh", "-c", f"echo '{text}' > /tmp/role.yaml"], "hv1")
    done = plain.lab.run(["pvcd", "--config", "/tmp/role.yaml"], "hv1")
    assert done.code == 78
    assert role in done.stderr and "does not have this role yet" in done.stderr, done.stderr


def _open_files(cluster: RealCluster, node: str) -> str:
    process = pidfile.recorded(cluster.lab.state.record(cluster.lab.shape.host(node), "pvcd"))
    assert process is not None
    return " ".join(str(link.readlink()) for link in Path(f"/proc/{process.pid}/fd").iterdir())
