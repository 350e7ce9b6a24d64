"""What only Ceph has: on a small real cluster, and on one whose hosts are two network namespaces."""

import base64
import json
import shutil
import signal
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from pvc.core.process import Finished, Running, SystemProcesses
from pvc.core.storage import DamagedImage, ImageInUse, NoSuchImage, Pool, StorageError, StorageUnusable
from pvc.core.threads import ThreadRuntime
from pvc.lab.ceph import MiniCeph, missing_for_ceph
from pvc.lab.cephtexts import Place
from pvc.lab.deadline import wait_until
from pvc.plugins.storage.ceph.decide.images import earlier_parts, part_of, qemu_name
from pvc.plugins.storage.ceph.rbd import RbdBackend, opener
from pvc.plugins.storage.schema import CephSettings
from tests.contract.namespaces import Hosts
from tests.contract.rbdstorage import Rbd

pytestmark = pytest.mark.ceph

DEADLINE = 60.0
SIZE = 4 << 20


class Stopped(Exception):
    """What a report raises in order to have the work stopped."""


def ignore(done: int, total: int) -> None:
    """A report that nobody reads."""


class Shifted(ThreadRuntime):
    """A clock that is fast by so many seconds."""

    def __init__(self, ahead: float) -> None:
        self._ahead = ahead

    def now(self) -> float:
        return super().now() + self._ahead


DAYS = 2e5


class Held(SystemProcesses):
    """What it starts stands still, once it has open what it makes of an image."""

    def __init__(self, rbd: Rbd, image: str) -> None:
        self.held: Running | None = None
        self._rbd = rbd
        self._image = image

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        running = super().start(command, output=output, env=env, new_session=new_session)

        def stopped() -> str | None:
            """It is stopped before it is looked at: what runs on may have closed the image by then."""
            running.signal(signal.SIGSTOP)
            if watched(self._rbd, earlier_parts(images_in(self._rbd), self._image)):
                return None
            running.signal(signal.SIGCONT)
            assert running.poll() is None, "it has ended, and nobody has seen it have its image open"
            return "nobody has what is made open"

        # Between two looks it has time enough to get to its work, whatever it has to wait for.
        wait_until(ThreadRuntime(), DEADLINE, stopped, pause=0.1)
        self.held = running
        return running


class Interrupted(Held):
    """Has something done while what it has started stands still, with what it makes open."""

    def __init__(self, rbd: Rbd, image: str, meanwhile: Callable[[], None]) -> None:
        super().__init__(rbd, image)
        self._meanwhile = meanwhile

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        running = super().start(command, output=output, env=env, new_session=new_session)
        try:
            self._meanwhile()
        finally:
            running.signal(signal.SIGCONT)
        return running


def watched(rbd: Rbd, names: Sequence[str]) -> list[str]:
    """The images of these that somebody has open. One that is just being made has a name before it can be asked."""
    found = []
    for name in names:
        with suppress(NoSuchImage):
            found += [name] if rbd.watchers(name) else []
    return found


def made_by_clock(rbd: Rbd, ahead: float, processes: SystemProcesses | None = None) -> RbdBackend:
    """The pool by a node whose clock is so many seconds ahead of Ceph's."""
    pool = Pool("fast", "ceph", {"pool": rbd.ceph.pool})
    opened = opener(processes or rbd.processes, Shifted(ahead), rbd.settings)(pool)
    assert isinstance(opened, RbdBackend)
    return opened


def images_in(rbd: Rbd) -> list[str]:
    return sorted(rbd.check("rbd", "ls", rbd.ceph.pool).split())


def make_part(rbd: Rbd, image: str, ahead: float = 0.0) -> str:
    name = part_of(image, ThreadRuntime().now() + ahead, ThreadRuntime().new_id())
    rbd.check("rbd", "create", "--size", "1M", f"{rbd.ceph.pool}/{name}")
    return name


def test_a_load_that_is_stopped_on_its_way_leaves_nothing_although_ceph_takes_qemu_for_alive(rbd: Rbd) -> None:
    path = rbd.file("a", 128 << 20)
    Path(path).write_bytes(bytes(range(1, 129)) * (1 << 20))
    processes = Held(rbd, "disk")

    def stop_once_qemu_writes(done: int, total: int) -> None:
        if processes.held:
            processes.held.signal(signal.SIGCONT)  # else it could not end when it is asked to
            raise Stopped

    with pytest.raises(Stopped):
        made_by_clock(rbd, 0, processes).load(path, "disk", stop_once_qemu_writes)
    assert rbd.check("rbd", "ls", rbd.ceph.pool) == ""


def test_what_a_crash_left_goes_when_the_image_is_made_after_all(rbd: Rbd) -> None:
    make_part(rbd, "disk")
    other = make_part(rbd, "dusk")
    assert rbd.backend.images() == []
    rbd.backend.load(rbd.file("a", SIZE), "disk", ignore)
    assert images_in(rbd) == sorted(["disk", other])


def test_what_a_crash_left_of_other_images_goes_after_a_day(rbd: Rbd) -> None:
    make_part(rbd, "dusk")
    young = make_part(rbd, "dawn", DAYS)
    made_by_clock(rbd, DAYS).load(rbd.file("a", SIZE), "disk", ignore)
    assert images_in(rbd) == sorted(["disk", young])


def test_an_old_part_that_cannot_be_removed_is_no_matter_of_who_makes_another_image(rbd: Rbd) -> None:
    part = make_part(rbd, "dusk")
    rbd.check("rbd", "snap", "create", f"{rbd.ceph.pool}/{part}@mine")
    made_by_clock(rbd, DAYS).load(rbd.file("a", SIZE), "disk", ignore)
    assert images_in(rbd) == sorted(["disk", part])


class Completing(SystemProcesses):
    """Has something done when the images of a pool are listed for the second time."""

    def __init__(self, meanwhile: Callable[[], object]) -> None:
        self._meanwhile = meanwhile
        self._listed = 0

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        if command[0] == "rbd" and "ls" in command:
            self._listed += 1
            if self._listed == 2:
                self._meanwhile()
        return super().run(command, timeout=timeout, env=env, stdin=stdin)


def test_a_part_that_is_just_being_made_is_not_taken_for_half_removed_by_a_clock_that_is_fast(rbd: Rbd) -> None:
    part = make_part(rbd, "dusk", -DAYS)
    name, path = f"rbd_id.{part}", rbd.new_path()
    rbd.check("rados", "--pool", rbd.ceph.pool, "get", name, path)
    remove_half(rbd, part)
    processes = Completing(lambda: rbd.check("rados", "--pool", rbd.ceph.pool, "put", name, path))
    made_by_clock(rbd, 0, processes).load(rbd.file("a", SIZE), "disk", ignore)
    assert images_in(rbd) == sorted(["disk", part])
    assert rbd.watchers(part) == ()


def test_an_old_part_that_somebody_has_open_is_left_alone_with_who_has_it_open(rbd: Rbd) -> None:
    part = make_part(rbd, "dusk")
    with rbd.opened(part):
        before = rbd.watchers(part)
        made_by_clock(rbd, DAYS).load(rbd.file("a", SIZE), "disk", ignore)
        assert images_in(rbd) == sorted(["disk", part])
        assert rbd.watchers(part) == before
        assert set(before).isdisjoint(rbd.check("ceph", "osd", "blocklist", "ls").split())


LONG = 64 << 20


def work_that_is_long(rbd: Rbd, backend: RbdBackend, kind: str, report: Callable[[int, int], None]) -> None:
    """A load, or a full copy, of contents that are no zeros, as the image `long`."""
    path = rbd.file("a", LONG)
    Path(path).write_bytes(bytes(range(1, 65)) * (1 << 20))
    if kind == "load":
        backend.load(path, "long", report)
    else:
        rbd.backend.load(path, "source", ignore)
        backend.clone("source", None, "long", report)


@pytest.mark.parametrize("kind", ["load", "clone"])
def test_work_that_has_the_image_open_for_more_than_a_day_is_not_broken_off_by_another(rbd: Rbd, kind: str) -> None:

    def make_another() -> None:
        made_by_clock(rbd, DAYS).load(rbd.file("b", 1 << 20), "other", ignore)

    work_that_is_long(rbd, made_by_clock(rbd, 0, Interrupted(rbd, "long", make_another)), kind, ignore)
    assert rbd.read("long") == "\x01"


@pytest.mark.parametrize("kind", ["load", "clone"])
def test_work_that_began_days_ago_loses_nothing_at_any_moment(rbd: Rbd, kind: str) -> None:
    """Neither before nor after the copying does anybody have the image open."""
    moments: list[list[str]] = []

    def make_another(done: int, total: int) -> None:
        moments.append(watched(rbd, images_in(rbd)))
        rbd.backend.load(rbd.file("b", 1 << 20), f"other{len(moments)}", ignore)

    work_that_is_long(rbd, made_by_clock(rbd, -DAYS), kind, make_another)
    assert (moments[0], moments[-1]) == ([], [])
    assert rbd.read("long") == "\x01"


def test_an_image_made_under_the_name_meanwhile_is_left_alone(rbd: Rbd) -> None:
    def make_another(done: int, total: int) -> None:
        if "disk" not in rbd.backend.images():
            rbd.backend.create("disk", 2 * SIZE)

    with pytest.raises(StorageError, match="disk already"):
        rbd.backend.load(rbd.file("a", SIZE), "disk", make_another)
    assert rbd.backend.inspect("disk").size == 2 * SIZE
    assert rbd.check("rbd", "ls", rbd.ceph.pool).split() == ["disk"]


def test_a_protected_snapshot_keeps_itself_and_its_image(rbd: Rbd) -> None:
    rbd.backend.create("disk", SIZE)
    rbd.backend.add_snapshot("disk", "one")
    rbd.backend.add_snapshot("disk", "two")
    rbd.backend.protect_snapshot("disk", "two", True)
    with pytest.raises(ImageInUse, match="protect"):
        rbd.backend.remove("disk")
    with pytest.raises(ImageInUse, match="protect"):
        rbd.backend.remove_snapshot("disk", "two")
    assert rbd.backend.inspect("disk").snapshots == ("one", "two")


def remove_half(rbd: Rbd, image: str) -> None:
    """As `rbd rm` leaves it that is killed after its first steps: its name leads nowhere."""
    rbd.check("rados", "--pool", rbd.ceph.pool, "rm", f"rbd_id.{image}")
    assert images_in(rbd) == [image]


def test_a_removal_that_was_broken_off_is_seen_and_brought_to_its_end(rbd: Rbd) -> None:
    rbd.backend.load(rbd.file("a", SIZE), "disk", ignore)
    data = data_of(rbd, "disk")
    assert objects(rbd, data)
    remove_half(rbd, "disk")
    with pytest.raises(DamagedImage, match="half removed"):
        rbd.backend.inspect("disk")
    rbd.backend.remove("disk")
    assert rbd.check("rados", "--pool", rbd.ceph.pool, "ls").split().count("rbd_directory") == 1
    assert objects(rbd, data) == 0
    for call in (rbd.backend.inspect, rbd.backend.remove):
        with pytest.raises(NoSuchImage):
            call("disk")


def test_an_rbd_rm_that_is_killed_while_it_removes_data_is_gone_on_with(rbd: Rbd) -> None:
    """Not earlier: of a client killed in the milliseconds in which it opens an image Ceph 16 may keep the watch."""
    path = rbd.file("a", 16 << 20)
    Path(path).write_bytes(b"a" * (16 << 20))
    rbd.check("rbd", "import", "--no-progress", "--object-size", "16K", path, f"{rbd.ceph.pool}/disk")
    slowly = ["rbd", "--conf", str(rbd.ceph.conf), "--rbd-concurrent-management-ops", "1"]
    data = data_of(rbd, "disk")
    whole = objects(rbd, data)
    running = rbd.processes.start([*slowly, "rm", f"{rbd.ceph.pool}/disk"], output=Path(rbd.new_path()))

    def halfway() -> str | None:
        """It is stopped before it is looked at: what runs on may have removed the rest by then."""
        running.signal(signal.SIGSTOP)
        left = objects(rbd, data)
        if 0 < left < whole:
            return None
        running.signal(signal.SIGCONT)
        assert left, "it has removed all the data, and nobody has seen it at that"
        return "it has all its data"

    wait_until(ThreadRuntime(), DEADLINE, halfway, pause=0.1)
    running.signal(signal.SIGKILL)
    assert running.wait(DEADLINE) == -signal.SIGKILL
    with pytest.raises(DamagedImage, match="half removed"):
        rbd.backend.inspect("disk")
    rbd.backend.remove("disk")
    assert images_in(rbd) == []
    assert objects(rbd, data) == 0


def data_of(rbd: Rbd, image: str) -> str:
    """What the names of the objects that hold its data begin with."""
    info = json.loads(rbd.check("rbd", "info", "--format", "json", f"{rbd.ceph.pool}/{image}"))
    return f"{info['block_name_prefix']}."


def objects(rbd: Rbd, beginning: str) -> int:
    return sum(name.startswith(beginning) for name in rbd.check("rados", "--pool", rbd.ceph.pool, "ls").split())


class Patient(ThreadRuntime):
    """Does something while others sleep."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._meanwhile = meanwhile

    def sleep(self, seconds: float) -> None:
        self._meanwhile()


def test_a_removal_goes_on_once_ceph_knows_that_the_one_before_is_dead(rbd: Rbd) -> None:
    rbd.backend.create("disk", SIZE)
    with ExitStack() as stack:
        stack.enter_context(rbd.opened("disk"))
        remove_half(rbd, "disk")
        pool = Pool("fast", "ceph", {"pool": rbd.ceph.pool})
        opener(rbd.processes, Patient(stack.close), rbd.settings)(pool).remove("disk")
    assert images_in(rbd) == []


def test_half_of_a_half_image_goes_as_well(rbd: Rbd) -> None:
    for image, ahead in (("disk", 0), ("dusk", DAYS)):
        remove_half(rbd, make_part(rbd, image))
        made_by_clock(rbd, ahead).load(rbd.file("a", SIZE), "disk", ignore)
        assert images_in(rbd) == ["disk"]
        rbd.backend.remove("disk")


def test_a_snapshot_that_was_made_by_hand_is_told_with_the_others(rbd: Rbd) -> None:
    rbd.backend.create("disk", SIZE)
    rbd.check("rbd", "snap", "create", "--no-progress", f"{rbd.ceph.pool}/disk@mine")
    assert rbd.backend.inspect("disk").snapshots == ("mine",)
    rbd.backend.add_snapshot("disk", "ours")
    assert rbd.backend.inspect("disk").snapshots == ("mine", "ours")


def test_an_image_that_is_written_to_is_copied_only_from_a_snapshot(rbd: Rbd) -> None:
    rbd.backend.create("disk", SIZE)
    rbd.write("disk", "a")
    with rbd.opened("disk"):
        attempts: list[Callable[[], None]] = [
            lambda: rbd.backend.clone("disk", None, "new", ignore),
            lambda: rbd.backend.save("disk", None, rbd.new_path(), "raw", ignore),
            lambda: rbd.backend.resize("disk", SIZE // 2),
        ]
        for attempt in attempts:
            with pytest.raises(ImageInUse, match=r"disk is open on 127\.0\.0\.1"):
                attempt()
        rbd.backend.add_snapshot("disk", "now")
        path = rbd.new_path()
        rbd.backend.save("disk", "now", path, "raw", ignore)
        rbd.backend.clone("disk", "now", "new", ignore)
    assert (rbd.read_file(path), rbd.read("new")) == ("a", "a")
    assert rbd.backend.images() == ["disk", "new"]


def test_a_pool_that_ceph_does_not_have_is_not_taken_for_an_image(rbd: Rbd) -> None:
    backend = opener(rbd.processes, ThreadRuntime(), rbd.settings)(Pool("nowhere", "ceph"))
    for attempt in (backend.look, backend.images, lambda: backend.inspect("disk")):
        with pytest.raises(StorageUnusable, match="nowhere"):
            attempt()


def test_a_hypervisor_gets_in_with_what_it_is_told_and_nothing_else(rbd: Rbd) -> None:
    rbd.backend.create("disk", SIZE)
    source = ET.fromstring(rbd.backend.disk("disk", "raw").source)
    secret, host, auth = rbd.backend.secret(), source.find("host"), source.find("auth")
    assert secret is not None
    assert host is not None
    assert auth is not None
    assert auth.findall("secret")[0].get("uuid") == secret.uuid
    key = base64.b64encode(secret.value).decode()
    monitor = f"{host.get('name')}\\:{host.get('port')}"
    words = f"id={auth.get('username')}:key={key}:auth_supported=cephx\\;none:mon_host={monitor}"
    env = {"CEPH_CONF": "/dev/null"}
    told = rbd.processes.check(["qemu-img", "info", f"rbd:{source.get('name')}:{words}"], timeout=60, env=env)
    assert "virtual size: 4 MiB" in told
    assert key not in repr(secret)


def test_a_node_without_the_key_is_told_where_it_is_looked_for(rbd: Rbd) -> None:
    backend = opener(rbd.processes, ThreadRuntime(), rbd.settings)(Pool("vms", "ceph", {"user": "nobody"}))
    with pytest.raises(StorageError, match=r"client\.nobody.*ceph\.client\.nobody\.keyring.*get-or-create"):
        backend.secret()


def test_a_ceph_that_hangs_costs_a_deadline_and_no_more(rbd: Rbd) -> None:
    settings = CephSettings(conf=rbd.settings.conf, deadline=1.0)
    backend = opener(rbd.processes, ThreadRuntime(), settings)(Pool("vms", "ceph"))
    rbd.backend.create("disk", SIZE)
    rbd.ceph.signal_daemon("mon.a", "STOP")
    try:
        for attempt in (backend.look, lambda: backend.inspect("disk"), lambda: backend.remove("disk")):
            with pytest.raises(StorageUnusable, match="did not end within 3 s"):
                attempt()
    finally:
        rbd.ceph.signal_daemon("mon.a", "CONT")
        rbd.ceph.wait_healthy()
    assert rbd.backend.images() == ["disk"]


class OnHost:
    """`Processes` that start everything on a host of the site."""

    def __init__(self, hosts: Hosts, host: str) -> None:
        self._enter = ["ip", "netns", "exec", hosts.spaces.full(host)]
        self._processes = SystemProcesses()

    def run(
        self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None, stdin: str | None = None
    ) -> Finished:
        return self._processes.run([*self._enter, *command], timeout=timeout, env=env, stdin=stdin)

    def check(self, command: Sequence[str], *, timeout: float, env: Mapping[str, str] | None = None) -> str:
        return self._processes.check([*self._enter, *command], timeout=timeout, env=env)

    def start(
        self, command: Sequence[str], *, output: Path, env: Mapping[str, str] | None = None, new_session: bool = True
    ) -> Running:
        return self._processes.start([*self._enter, *command], output=output, env=env, new_session=new_session)


class Site:
    """A Ceph cluster on two hosts: the monitor and an OSD on h1 (10.99.0.1), another OSD on h2 (10.99.0.2)."""

    def __init__(self, directory: Path, hosts: Hosts) -> None:
        self.hosts = hosts
        self.on = {host: OnHost(hosts, host) for host in hosts.names}
        places = [Place("h1", "10.99.0.1"), Place("h2", "10.99.0.2")]
        self.ceph = MiniCeph(
            directory,
            processes=SystemProcesses(),
            runtime=ThreadRuntime(),
            monitor=places[0],
            osds=places,
            run_on=lambda host, command: self.on[host].run(command, timeout=60),
            watch=3.0,
        )
        self._count = 0

    def backend(self, host: str) -> RbdBackend:
        opened = opener(self.on[host], ThreadRuntime(), CephSettings(conf=str(self.ceph.conf)))(Pool("vms", "ceph"))
        assert isinstance(opened, RbdBackend)
        return opened

    @contextmanager
    def writer(self, host: str, image: str, directory: Path) -> Iterator["Writer"]:
        """QEMU's block layer on a host has an image open, to write to it on demand."""
        self._count += 1
        made = Writer(self.on[host], self, image, directory / f"writer{self._count}")
        try:
            yield made
        finally:
            made.end()


class Writer:
    """Exports an image as a file, so that each write to the file is one to the image."""

    def __init__(self, processes: OnHost, site: Site, image: str, directory: Path) -> None:
        directory.mkdir()
        self._processes, self._socket = processes, directory / "nbd"
        node = f"driver=rbd,node-name=n,pool=vms,image={image},conf={site.ceph.conf},user=admin"
        export = ["--export", "type=nbd,id=e,name=e,node-name=n,writable=on"]
        server = ["--nbd-server", f"addr.type=unix,addr.path={self._socket}"]
        command = ["qemu-storage-daemon", "--blockdev", node, *server, *export]
        self.running = processes.start(command, output=directory / "output")
        try:
            wait_until(ThreadRuntime(), DEADLINE, lambda: None if self.writes("a") else f"{image} cannot be written")
        except BaseException:
            self.end()
            raise

    def writes(self, letter: str) -> bool:
        """Whether it can write: the program that has the image open is the same all the time."""
        command = [
            "qemu-io",
            "-f",
            "raw",
            "-c",
            f"write -q -P {ord(letter)} 0 64k",
            f"nbd+unix:///e?socket={self._socket}",
        ]
        done = self._processes.run(["timeout", "30", *command], timeout=DEADLINE)
        return done.code == 0 and "rror" not in done.stdout + done.stderr

    def fails_for_good(self) -> bool:
        """Whether it can write no more, after what was on its way."""
        wait_until(ThreadRuntime(), DEADLINE, lambda: "it still writes" if self.writes("b") else None)
        return not self.writes("b")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        self.running.signal(number)
        assert self.running.wait(DEADLINE) is not None


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if missing := missing_for_ceph():
        pytest.skip(missing)
    directory = Path(tempfile.mkdtemp(prefix="pvc-ceph-", dir="/tmp"))
    hosts = Hosts(2)
    try:
        made = Site(directory, hosts)
        try:
            made.ceph.start()
            yield made
        finally:
            made.ceph.wipe()
    finally:
        hosts.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def disk(site: Site) -> Iterator[str]:
    """An image of its own for a test, after which no machine is cut off."""
    name = f"disk{ThreadRuntime().new_id()[:8]}"
    site.backend("h1").create(name, SIZE)
    yield name
    site.backend("h1").readmit(["10.99.0.1", "10.99.0.2"])


def test_a_machine_that_is_cut_off_writes_nothing_more_though_it_lives(site: Site, disk: str, tmp_path: Path) -> None:
    ours = site.backend("h1")
    with site.writer("h2", disk, tmp_path) as theirs:
        assert ours.writers(disk) == ("10.99.0.2",)
        ours.cut_off(["10.99.0.2"])
        assert theirs.fails_for_good()
        with pytest.raises(StorageUnusable, match="cut this machine off"):
            site.backend("h2").images()
        with site.writer("h1", disk, tmp_path) as new:  # the VM begins anew on another host, at once
            assert new.writes("c")
            assert not theirs.writes("b")
            assert ours.writers(disk) == ("10.99.0.1",)
    name = qemu_name("vms", disk, None, str(site.ceph.conf), "admin")
    assert "63 " in site.on["h1"].check(["qemu-io", "-c", "read -v 0 1", name], timeout=DEADLINE)


def test_a_machine_counts_as_cut_off_only_once_every_osd_has_heard(site: Site, disk: str) -> None:
    hasty = opener(site.on["h1"], ThreadRuntime(), CephSettings(conf=str(site.ceph.conf), deadline=5.0))
    site.ceph.ceph("osd", "set", "nodown")
    site.ceph.signal_daemon("osd.1", "STOP")
    try:
        with pytest.raises(StorageUnusable, match=r"osd\.1 may not know|tell osd\.\* status .* did not end within"):
            hasty(Pool("vms", "ceph")).cut_off(["10.99.0.2"])
    finally:
        site.ceph.signal_daemon("osd.1", "CONT")
        site.ceph.ceph("osd", "unset", "nodown")
        site.ceph.wait_healthy()
    site.backend("h1").cut_off(["10.99.0.2"])


def test_osds_on_a_machine_that_is_cut_off_go_on_and_may_start_anew(site: Site, disk: str) -> None:
    site.backend("h1").cut_off(["10.99.0.2"])
    site.ceph.kill_daemon("osd.1")
    site.ceph.start_daemon("osd.1")
    site.ceph.wait_healthy()
    assert site.backend("h1").look().free > 0


def test_a_machine_that_is_readmitted_writes_again_but_not_what_was_cut_off(
    site: Site, disk: str, tmp_path: Path
) -> None:
    with site.writer("h2", disk, tmp_path) as old:
        site.backend("h1").cut_off(["10.99.0.2"])
        assert old.fails_for_good()
        site.backend("h1").readmit(["10.99.0.2"])
        assert not old.writes("b")
    with site.writer("h2", disk, tmp_path) as new:
        assert new.writes("b")


def test_a_writer_that_went_silent_counts_until_it_is_cut_off(site: Site, disk: str, tmp_path: Path) -> None:
    ours = site.backend("h1")
    with site.writer("h2", disk, tmp_path) as theirs:
        theirs.end()
    silent = "Ceph still takes it for alive"
    wait_until(ThreadRuntime(), DEADLINE, lambda: silent if ours.watchers(disk) else None)
    assert ours.writers(disk) == ("10.99.0.2",)
    ours.cut_off(["10.99.0.2"])
    assert ours.writers(disk) == ()


def test_a_machine_knows_the_address_by_which_it_would_be_cut_off(site: Site, disk: str) -> None:
    for host, address in (("h1", "10.99.0.1"), ("h2", "10.99.0.2")):
        with site.hosts.spaces.inside(host):
            assert site.backend(host).addresses() == (address,)


def test_what_is_no_address_cuts_nobody_off(site: Site, disk: str) -> None:
    with pytest.raises(StorageError, match="'hv2' is no address"):
        site.backend("h1").cut_off(["10.99.0.2", "hv2"])
    site.backend("h2").look()


def test_images_are_known_on_all_machines(site: Site, disk: str) -> None:
    assert site.backend("h2").inspect(disk).size == SIZE
    with pytest.raises(NoSuchImage, match=f"{disk}x"):
        site.backend("h2").inspect(f"{disk}x")
