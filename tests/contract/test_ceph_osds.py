"""A real daemon with the storage role on a real small Ceph: it adds and removes an OSD on a loop device, and a monitor
that hangs delays nothing else."""

import logging
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pvc.core.config.document import parse
from pvc.core.config.settings import Config
from pvc.core.config.validation import validate
from pvc.core.daemon import Daemon
from pvc.core.lookup import read_facts
from pvc.core.machine import LinuxMachine
from pvc.core.model import Severity
from pvc.core.plugins import Plugins, installed
from pvc.core.process import Finished, Running, SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.core.tree import tree_ops
from pvc.lab.ceph import MiniCeph
from pvc.plugins.storage.ceph import requests
from pvc.plugins.storage.ceph.cluster import CephCluster
from pvc.plugins.storage.ceph.decide.devices import why_not_device
from pvc.plugins.storage.ceph.monitors import CephByPrograms
from pvc.plugins.storage.ceph.osdhost import OsdHost
from pvc.plugins.storage.ceph.programs import CephPrograms
from pvc.plugins.storage.ceph.published import osds_in, state_in
from pvc.plugins.storage.ceph.volume import CephVolume
from pvc.plugins.storage.plugin import StoragePlugin
from pvc.plugins.storage.records import ENDED, Task, TaskPhase, read_tasks
from pvc.plugins.storage.requests import pools
from pvc.plugins.storage.requests.asking import Client
from pvc.plugins.storage.schema import CephSettings
from pvc.testing.coordinator import FakeCoordinator, FakeEnsemble

pytestmark = pytest.mark.ceph

RUNTIME = ThreadRuntime()
RUN = SystemProcesses()
PATIENCE = 120.0
TASK_PATIENCE = 600.0
"""A task takes several steps, each of which pvc itself gives minutes."""
SIZE = 3 << 30
SESSION_TIMEOUT = 4.0
OSD_ID = 3
"""What the cluster calls its fourth OSD."""

MOUNTS = """
for directory in /etc/ceph /var/lib/ceph /var/log/ceph /run/ceph; do
    mkdir -p $directory
    mount -t tmpfs none $directory
done
mkdir -p /var/lib/ceph/bootstrap-osd /var/lib/ceph/osd
chown -R ceph:ceph /var/lib/ceph /var/log/ceph /run/ceph
echo ready > "$1"
exec sleep infinity
"""


class Elsewhere:
    """`Processes` in the mount namespace of another process: a machine with its own /etc/ceph and /var/lib/ceph."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", "--target", str(pid), "--mount", "env", "CEPH_VOLUME_ALLOW_LOOP_DEVICES=1"]

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        return RUN.run([*self._enter, *command], timeout=timeout, env=env, stdin=stdin)

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        return RUN.check([*self._enter, *command], timeout=timeout, env=env)

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        return RUN.start([*self._enter, *command], output=output, env=env, new_session=new_session)


def until(so: Callable[[], bool], what: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait until it is so."""
    end = RUNTIME.monotonic() + seconds
    while not so():
        assert RUNTIME.monotonic() < end, what()
        RUNTIME.sleep(0.1)


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that user ceph can use."""
    path = Path(tempfile.mkdtemp(prefix="pvc-osd-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def device(shared: Path) -> Iterator[str]:
    """A loop device that holds nothing."""
    backing = shared / "disk"
    with backing.open("wb") as file:
        file.truncate(SIZE)
    done = RUN.run(["losetup", "--find", "--show", str(backing)], timeout=30)
    if done.code != 0:
        pytest.skip(f"no loop device can be made here: {done.stderr.strip()}")
    path = done.stdout.strip()
    yield path
    RUN.check(["chown", "root:disk", path], timeout=30)  # ceph-volume gives it to user ceph
    RUN.check(["losetup", "--detach", path], timeout=30)


@pytest.fixture
def elsewhere(ceph: MiniCeph, shared: Path) -> Iterator[Elsewhere]:
    """A machine hv4 that is a client of the cluster, and can have OSDs."""
    script = shared / "mounts.sh"
    script.write_text(MOUNTS)
    ready = shared / "ready"
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-e", str(script), str(ready)]
    keeper = RUN.start(command, output=shared / "mounts.log")
    try:
        until(ready.exists, lambda: (shared / "mounts.log").read_text())
        machine = Elsewhere(keeper.pid)
        conf = ceph.conf.read_text().replace("[global]", f"[global]\nadmin keyring = {ceph.admin_keyring}", 1)
        own = (
            f"\n[client.admin]\nkeyring = {ceph.admin_keyring}\n[osd.{OSD_ID}]\n"
            f"osd data = /var/lib/ceph/osd/ceph-{OSD_ID}\nkeyring = /var/lib/ceph/osd/ceph-{OSD_ID}/keyring\n"
            f"pid file = {shared}/osd.{OSD_ID}.pid\nlog file = /var/log/ceph/osd.{OSD_ID}.log\n"
            f"admin socket = {shared}/osd.{OSD_ID}.asok\n"
            f"run dir = {shared}\ncrash dir = {shared}\ncrush location = root=default host=hv4\n"
        )
        machine.run(["sh", "-c", "cat > /etc/ceph/ceph.conf"], timeout=30, stdin=conf + own)
        capable = ["auth", "get-or-create", "client.bootstrap-osd", "mon", "allow profile bootstrap-osd"]
        keyring = RUN.check(["ceph", "--conf", str(ceph.conf), *capable], timeout=30)
        machine.run(["sh", "-c", "cat > /var/lib/ceph/bootstrap-osd/ceph.keyring"], timeout=30, stdin=keyring)
        yield machine
        kill_osd(shared / f"osd.{OSD_ID}.pid")
    finally:
        keeper.signal(signal.SIGKILL)
        keeper.wait(10)


def kill_osd(pid_file: Path) -> None:
    """Kill the OSD that a test that failed has left. Its file may be an older one's."""
    with suppress(FileNotFoundError):
        pid = pid_file.read_text().strip()
        if Path(f"/proc/{pid}/comm").read_text() == "ceph-osd\n":
            RUN.run(["kill", "-KILL", pid], timeout=30)


class Host:
    """The daemon of hv4, and a client."""

    def __init__(self, cluster: CephCluster, host: OsdHost, deadline: float) -> None:
        self._ensemble = FakeEnsemble(RUNTIME, expire_after=SESSION_TIMEOUT)
        self.admin = self._ensemble.connect("admin")
        self.admin.commit(tree_ops())
        log = logging.getLogger("pvc.test.ceph")
        plugins = Plugins(log)
        plugins.load(["storage"], {"storage": StoragePlugin(open_ceph=lambda: (cluster, host))})
        text = (
            "node: hv4\nroles: {hypervisor: false, storage: true}\n"
            f"zookeeper: {{session_timeout: {SESSION_TIMEOUT}}}\nplugins: {{flushlock: false, consolelog: false}}\n"
            f"storage: {{interval: 0.5, ceph: {{deadline: {deadline}}}}}\n"
        )
        config: Config = validate(parse(text, "pvc.yaml"), plugins.schemas(), sorted(installed()), host_name="hv4")
        self._session = self._ensemble.connect("daemon")
        sessions: list[FakeCoordinator] = []

        def connect(name: str) -> FakeCoordinator:
            sessions.append(self._ensemble.connect(name))
            return sessions[-1]

        self.daemon = Daemon(config, plugins, self._session, connect, RUNTIME, LinuxMachine(), log)

    @contextmanager
    def running(self) -> Iterator["Host"]:
        """The daemon runs, and has seen Ceph."""
        with ExitStack() as stack:
            stack.callback(self._ensemble.close)
            stack.callback(self.daemon.stop)
            self.daemon.start()
            until(lambda: state_in(read_facts(self.admin, "hv4")) is not None, lambda: read_facts(self.admin, "hv4"))
            yield self

    @property
    def client(self) -> Client:
        return Client(self.admin, RUNTIME, "tester")

    def done(self, task: Task) -> Task:
        """The task, once it has ended."""

        def now() -> Task:
            found = read_tasks(self.admin)[task.id]
            assert found is not None
            return found

        until(lambda: now().phase in ENDED, now, TASK_PATIENCE)
        return now()


def doors(mini: MiniCeph, machine: Elsewhere | None, deadline: float) -> tuple[CephCluster, OsdHost]:
    outside = CephSettings(conf=str(mini.conf), deadline=deadline)
    inside = CephSettings(osd_method="raw", deadline=deadline)
    return CephByPrograms(CephPrograms(RUN, outside)), CephVolume(machine or RUN, inside, systemd=False)


@pytest.mark.skipif(os.geteuid() != 0, reason="OSDs are made as root only")
def test_an_osd_is_made_of_a_device_and_removed_again(ceph: MiniCeph, elsewhere: Elsewhere, device: str) -> None:
    cluster, machine = doors(ceph, elsewhere, 15.0)
    with Host(cluster, machine, 15.0).running() as host:
        added = host.done(requests.add_osd(host.client, "hv4", device))
        assert (added.phase, added.message) == (TaskPhase.DONE, f"osd.{OSD_ID} is up on {device} of hv4"), added
        until(
            lambda: OSD_ID in osds_in(read_facts(host.admin, "hv4")), lambda: read_facts(host.admin, "hv4")
        )  # by its host in the CRUSH tree
        (found,) = machine.osds()
        (known,) = (osd for osd in cluster.survey().osds if osd.id == OSD_ID)
        assert (found.cluster, found.uuid) == (cluster.survey().fsid, known.uuid)
        again = host.done(requests.add_osd(host.client, "hv4", device))
        assert again.phase is TaskPhase.FAILED and f"holds osd.{OSD_ID} already" in again.message
        removed = host.done(requests.remove_osd(host.client, OSD_ID, lambda seat: None))
        assert (removed.phase, removed.message) == (
            TaskPhase.DONE,
            f"osd.{OSD_ID} is removed, and {device} of hv4 is empty",
        )
    assert [osd.id for osd in cluster.survey().osds] == [0, 1, 2]
    assert elsewhere.run(["mountpoint", "--quiet", f"/var/lib/ceph/osd/ceph-{OSD_ID}"], timeout=30).code != 0
    assert why_not_device(machine.device(device)) == ""
    RUN.run(["ceph", "--conf", str(ceph.conf), "osd", "crush", "rm", "hv4"], timeout=30)
    ceph.wait_healthy()


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (["mkfs.ext4", "-q"], "holds data (ext4)"),
        (["pvcreate"], "holds data (LVM2_member)"),
        (["mkswap"], "holds data (swap)"),
    ],
)
def test_what_is_on_a_device_is_found(device: str, command: list[str], why: str) -> None:
    machine = CephVolume(RUN, CephSettings(osd_method="raw"), systemd=False)
    RUN.check([*command, device], timeout=60)
    assert why in why_not_device(machine.device(device))


def test_a_mounted_device_and_a_file_are_refused(device: str, shared: Path) -> None:
    machine = CephVolume(RUN, CephSettings(osd_method="raw"), systemd=False)
    RUN.check(["mkfs.ext4", "-q", device], timeout=60)
    (shared / "mnt").mkdir()
    RUN.check(["mount", device, str(shared / "mnt")], timeout=30)
    try:
        assert f"mounted at {shared}/mnt" in why_not_device(machine.device(device))
    finally:
        RUN.check(["umount", str(shared / "mnt")], timeout=30)
    for path in (shared / "disk", shared / "absent"):
        assert "is no block device" in why_not_device(machine.device(str(path)))


def test_a_monitor_that_hangs_is_critical_and_the_daemon_goes_on(ceph: MiniCeph, shared: Path) -> None:
    def silence() -> list[str]:
        """By the word of Ceph's own program, of pvc for it, or of pvc once it has ended the program."""
        findings = read_facts(host.admin, "hv4").findings
        told = [one.text for one in findings if one.source == "storage" and one.severity is Severity.CRITICAL]
        return [text for text in told if re.match(r"Ceph .*(does not answer|did not end) within \d s", text)]

    ceph.signal_daemon("mon.a", "STOP")
    try:
        with Host(*doors(ceph, None, 2.0), 2.0).running() as host:
            assert silence(), read_facts(host.admin, "hv4")
            options = {"path": str(shared), "mount": "false", "format": "raw"}
            added = host.done(pools.add(host.client, "slow", "directory", options))
            assert added.phase is TaskPhase.DONE, added
            assert silence(), read_facts(host.admin, "hv4")
            ceph.signal_daemon("mon.a", "CONT")
            until(lambda: not read_facts(host.admin, "hv4").findings, lambda: read_facts(host.admin, "hv4"))
    finally:
        ceph.signal_daemon("mon.a", "CONT")
    ceph.wait_healthy()
