"""The product in a real lab: flushes, faults, and what an administrator does by hand."""

import re
import signal
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.cluster import UNHURRIED, RealCluster

pytestmark = pytest.mark.lab

VMS = [f"vm{number}" for number in range(1, 7)]
STATES = ("state", "wanted")
MIGRATION = "hypervisor.migration"


@pytest.fixture(scope="module")
def the_lab(labs_directory: Path) -> Iterator[RealCluster]:
    shape = Shape(nodes=3, vms=6, vm_memory=96, vm_args="rate=20 fill=48", session_timeout=UNHURRIED)
    lab = Lab("product", shape, directory=labs_directory)
    try:
        lab.up()
        yield RealCluster(lab)
    finally:
        lab.down()


@pytest.fixture
def cluster(the_lab: RealCluster) -> Iterator[RealCluster]:
    """All nodes ready, every VM at home and running, before and after."""
    yield the_lab
    the_lab.lab.up()
    the_lab.go_home(VMS)
    assert the_lab.all_once(VMS), the_lab.copies()


@pytest.fixture
def hurry(cluster: RealCluster) -> Iterator[Callable[[], None]]:
    """A flush of hv1 takes a minute, as vm1 moves at 1 MiB/s, unless the test has it hurry."""
    cluster.ok("vm", "set", "vm1", f"{MIGRATION}.bandwidth=1", f"{MIGRATION}.deadline_per_gib=600")

    def quicken() -> None:
        """The next migration, and one that is under way."""
        cluster.ok("vm", "set", "vm1", f"{MIGRATION}.bandwidth=1000")
        cluster.lab.run(["virsh", "migrate-setspeed", "vm1", "1000"], "hv1")

    yield quicken
    cluster.ok("vm", "unset", "vm1", f"{MIGRATION}.bandwidth", f"{MIGRATION}.deadline_per_gib")


def test_a_flush_empties_its_node_and_an_unflush_brings_everything_home(cluster: RealCluster) -> None:
    said = cluster.ok("node", "flush", "hv1", "--wait", "--reason", "test")
    assert "hv1 is flushed: 2 VMs moved, none left" in said
    assert not cluster.lab.vm_processes("hv1")
    assert cluster.all_once(VMS)
    assert cluster.node("hv1")["state"] == "flushed"
    cluster.ok("node", "unflush", "hv1", "--wait")
    assert sorted(cluster.lab.vm_processes("hv1")) == ["vm1", "vm4"]


def test_a_second_flush_waits_its_turn_and_says_for_whom(
    cluster: RealCluster, hurry: Callable[[], None], tmp_path: Path
) -> None:
    first = cluster.begin(tmp_path / "first", "node", "flush", "hv1", "--wait")
    cluster.wait("the first moves VMs", lambda: " -> " in (tmp_path / "first").read_text())
    second = cluster.begin(tmp_path / "second", "node", "flush", "hv2", "--wait")
    cluster.wait("the second waits", lambda: "place 1" in (tmp_path / "second").read_text())
    hurry()
    assert first.wait(180) == 0
    assert second.wait(180) == 0
    lines = (tmp_path / "second").read_text().splitlines()
    waits = [i for i, line in enumerate(lines) if "held by the flush of hv1 by" in line and "place 1" in line]
    moves = [i for i, line in enumerate(lines) if " -> " in line]
    assert waits and moves and waits[-1] < moves[0], lines
    assert set(cluster.copies()) == set(VMS)
    assert cluster.ask("node", "queue") == []


def test_no_queue_fails_at_once_while_the_lock_is_held(
    cluster: RealCluster, hurry: Callable[[], None], tmp_path: Path
) -> None:
    first = cluster.begin(tmp_path / "first", "node", "flush", "hv1", "--wait")
    cluster.wait("the first moves VMs", lambda: " -> " in (tmp_path / "first").read_text())
    done = cluster.pvc("node", "flush", "hv2", "--no-queue", "--wait")
    assert done.code == 5, done.stdout
    assert "did not want to queue" in done.stdout
    hurry()
    assert first.wait(180) == 0
    assert cluster.node("hv2")["state"] == "ready"


def test_the_holders_daemon_is_killed_mid_flush_and_resumes_when_it_is_back(
    cluster: RealCluster, hurry: Callable[[], None], tmp_path: Path
) -> None:
    flush = cluster.begin(tmp_path / "flush", "node", "flush", "hv1", "--wait")
    target_of_vm1(cluster, tmp_path / "flush")
    cluster.lab.kill("pvcd", "hv1", signal.SIGKILL)
    assert flush.poll() is None, (tmp_path / "flush").read_text()
    cluster.lab.start("pvcd", "hv1")
    hurry()
    assert flush.wait(180) == 0, (tmp_path / "flush").read_text()
    assert not cluster.lab.vm_processes("hv1")
    assert cluster.all_once(VMS)


def test_a_target_whose_daemon_is_killed_mid_move_loses_nothing(
    cluster: RealCluster, hurry: Callable[[], None], tmp_path: Path
) -> None:
    flush = cluster.begin(tmp_path / "flush", "node", "flush", "hv1", "--wait")
    target = target_of_vm1(cluster, tmp_path / "flush")
    cluster.lab.kill("pvcd", target, signal.SIGKILL)
    assert flush.poll() is None, (tmp_path / "flush").read_text()
    hurry()
    assert flush.wait(180) == 0, (tmp_path / "flush").read_text()
    cluster.lab.start("pvcd", target)
    cluster.wait("each VM runs once", lambda: cluster.all_once(VMS))


def test_the_console_goes_on_without_a_hole_across_moves_and_a_killed_daemon(
    cluster: RealCluster, tmp_path: Path
) -> None:
    output = tmp_path / "console"
    follower = cluster.follow(output, tmp_path / "notices", "vm1")
    try:
        cluster.wait("the console speaks", lambda: len(_numbers(output, "vm1")) > 10)
        cluster.ok("vm", "migrate", "vm1", "hv2")
        cluster.lab.kill("pvcd", "hv2", signal.SIGKILL)
        cluster.lab.start("pvcd", "hv2")
        cluster.wait_alive("hv2")
        cluster.ok("vm", "unmigrate", "vm1")
        seen = len(_numbers(output, "vm1"))
        cluster.wait("it goes on at home", lambda: len(_numbers(output, "vm1")) > seen + 40)
    finally:
        follower.signal(signal.SIGTERM)
        follower.wait(10)
    numbers = _numbers(output, "vm1")
    assert all(b == a + 1 for a, b in pairwise(numbers)), numbers


def test_a_daemon_that_stops_and_starts_leaves_its_vms_alone(cluster: RealCluster) -> None:
    before = cluster.lab.vm_processes("hv1")
    cluster.lab.kill("pvcd", "hv1", signal.SIGTERM)
    assert cluster.lab.vm_processes("hv1") == before
    cluster.lab.start("pvcd", "hv1")
    cluster.wait_alive("hv1")
    assert cluster.lab.vm_processes("hv1") == before
    assert cluster.all_once(VMS)


def test_a_second_daemon_of_the_same_name_refuses_to_start(cluster: RealCluster) -> None:
    lab = cluster.lab
    config = lab.run(["cat", "/etc/pvc/pvc.yaml"], "hv1").stdout
    lab.run(["sh", "-c", f"cat > /tmp/double.yaml <<'EOF'\n{config}\nEOF"], "hv2")
    done = lab.run(["timeout", "90", "pvcd", "--config", "/tmp/double.yaml"], "hv2", timeout=120)
    assert done.code == 1, done.stderr
    assert "hv1" in done.stderr and ("another daemon" in done.stderr or "another machine" in done.stderr)
    assert cluster.node("hv1")["alive"]


def test_what_libvirt_runs_without_the_cluster_is_left_alone_and_reported(cluster: RealCluster) -> None:
    lab = cluster.lab
    path = lab.write_vm("stranger")
    assert lab.run(["virsh", "create", str(path)], "hv3").code == 0
    try:
        cluster.wait("it is reported", lambda: "stranger" in str(cluster.node("hv3")["findings"]))
        assert "stranger" in lab.vm_processes("hv3")
        done = cluster.pvc("node", "flush", "hv3", "--wait")
        assert done.code == 3 and "stranger" in done.stdout, done.stdout
        assert "stranger" in lab.vm_processes("hv3")
        assert cluster.node("hv3")["state"] == "flushing"
    finally:
        lab.run(["virsh", "destroy", "stranger"], "hv3")


def test_a_vm_that_somebody_migrates_with_virsh_is_neither_started_twice_nor_lost(cluster: RealCluster) -> None:
    before = cluster.lab.vm_processes("hv1")
    for source, target in (("hv1", "hv2"), ("hv2", "hv1"), ("hv1", "hv3")):
        address = cluster.lab.shape.host(target).address
        command = ["virsh", "migrate", "--live", "--p2p", "vm1", f"qemu+tcp://{address}/system", f"tcp://{address}"]
        done = cluster.lab.run(command, source)
        assert done.code == 0, done.stderr
        arrived = cluster.lab.vm_processes(target)["vm1"]
        cluster.wait(f"{target} has taken it over", partial(cluster.is_on, "vm1", target))
        assert cluster.all_once(["vm1"])
        assert cluster.lab.vm_processes(target)["vm1"] == arrived != before["vm1"]  # the same, not started anew


def test_the_libvirtd_of_the_target_dies_at_the_worst_moment_and_one_copy_is_left(
    cluster: RealCluster, tmp_path: Path
) -> None:
    """libvirt resumes the source when the target's libvirtd dies right after it has resumed the guest: two copies run,
    until the one that does not hold the lease is ended."""
    output = tmp_path / "killer"
    output.touch()
    script = Path(__file__).with_name("kill_at_resume.py")
    killer = SystemProcesses().start(
        cluster.lab.enter(["python", str(script), "/run/libvirt/libvirtd.pid"], "hv2"), output=output
    )
    cluster.wait("it listens", lambda: "listening" in output.read_text())
    done = cluster.pvc("vm", "migrate", "vm1", "hv2", "--timeout", "30")
    assert killer.wait(30) == 0, (done, output.read_text())
    cluster.lab.start("libvirtd", "hv2")
    cluster.wait("it runs once", lambda: cluster.all_once(["vm1"]))


def test_a_vm_from_define_to_undefine(cluster: RealCluster) -> None:
    path = str(cluster.lab.write_vm("guest", arguments="rate=5"))
    cluster.ok("vm", "define", path, "--node", "hv1")
    assert "defined already" in cluster.refused("vm", "define", path)
    cluster.ok("vm", "start", "guest")
    assert cluster.copies()["guest"] == ["hv1"]
    cluster.ok("vm", "migrate", "guest", "hv2")
    assert (cluster.copies()["guest"], cluster.vm("guest")["home"]) == (["hv2"], "hv1")
    cluster.ok("vm", "unmigrate", "guest")
    assert (cluster.copies()["guest"], cluster.vm("guest")["home"]) == (["hv1"], None)
    cluster.ok("vm", "move", "guest", "hv3")
    assert (cluster.copies()["guest"], cluster.vm("guest")["home"]) == (["hv3"], None)
    cluster.ok("vm", "shutdown", "guest")
    assert "guest" not in cluster.copies()
    cluster.ok("vm", "start", "guest")
    before = cluster.lab.vm_processes("hv3")["guest"]
    cluster.ok("vm", "restart", "guest")
    assert cluster.lab.vm_processes("hv3")["guest"] != before
    assert "--yes" in cluster.refused("vm", "stop", "guest")
    assert "guest" in cluster.copies()
    cluster.ok("vm", "stop", "guest", "--yes")
    assert "guest" not in cluster.copies()
    uuid = cluster.vm("guest")["uuid"]
    assert f"<uuid>{uuid}</uuid>" in cluster.ok("vm", "dump", uuid)
    cluster.ok("vm", "undefine", "guest", "--yes")
    assert "there is no VM 'guest'" in cluster.refused("vm", "info", "guest")


def test_a_guest_that_powers_itself_off_stays_off(cluster: RealCluster) -> None:
    path = str(cluster.lab.write_vm("sleeper", arguments="stop=2"))
    cluster.ok("vm", "define", path, "--node", "hv1")
    cluster.ok("vm", "start", "sleeper", "--no-wait")  # it may be off again before anybody has seen it run
    cluster.wait("it is stopped for good", lambda: {cluster.vm("sleeper")[key] for key in STATES} == {"stopped"})
    cluster.ok("vm", "undefine", "sleeper", "--yes")


def test_a_vm_whose_qemu_dies_is_started_again(cluster: RealCluster) -> None:
    before = cluster.lab.vm_processes("hv2")["vm2"]
    cluster.lab.kill("qemu", "vm2")
    cluster.wait("it is dead", lambda: cluster.lab.vm_processes("hv2").get("vm2") != before)
    cluster.wait("it runs again", lambda: cluster.all_once(["vm2"]))


def test_the_shell_completes_names_of_the_live_cluster(cluster: RealCluster) -> None:
    for words, offered in (("pvc node flush h", ["hv1", "hv2", "hv3"]), ("pvc vm start vm2", ["vm2"])):
        typed = ["env", f"COMP_WORDS={words}", "COMP_CWORD=3", "_PVC_COMPLETE=complete_bash", "pvc"]
        assert cluster.lab.run(typed).stdout.split() == offered


def test_names_that_do_not_exist_are_met_with_the_nearest(cluster: RealCluster) -> None:
    assert "did you mean vm1" in cluster.refused("vm", "info", "vm1x")
    assert "did you mean hv" in cluster.refused("node", "flush", "hv")
    assert "there is no node 'nowhere'" in cluster.refused("node", "info", "nowhere")
    assert "no node" in cluster.refused("vm", "move", "vm1", "nowhere")


def test_a_record_that_holds_garbage_is_reported_and_stops_nobody(cluster: RealCluster) -> None:
    uuid = cluster.vm("vm3")["uuid"]
    script = (
        "from pvc.core.zookeeper import connect; from pvc.core.config.settings import ZooKeeperSettings; "
        "from pvc.core.threads import ThreadRuntime; from pvc.core.coordination import Put; import logging, sys; "
        "c = connect(ZooKeeperSettings(hosts=tuple(sys.argv[1].split(','))), runtime=ThreadRuntime(), name='t', "
        "log=logging.getLogger()); old = c.get(sys.argv[2]).data; "
        "c.commit([Put(sys.argv[2], bytes.fromhex(sys.argv[3]))]); print(old.hex()); c.close()"
    )
    hosts, path = ",".join(cluster.lab.shape.zookeeper_hosts()), f"/vms/{uuid}/actual"
    old = cluster.lab.run(["python", "-c", script, hosts, path, b"\xff{garbage".hex()])
    assert old.code == 0, old.stderr
    try:
        cluster.wait("it is reported", lambda: uuid in str(cluster.node("hv3")["findings"]))
        assert cluster.ask("vm", "list")
        cluster.ok("node", "flush", "hv1", "--wait")
        assert "vm3" in cluster.lab.vm_processes("hv3")
    finally:
        cluster.lab.run(["python", "-c", script, hosts, path, old.stdout.strip()])
    cluster.wait("it is whole again", lambda: cluster.vm("vm3")["state"] == "running")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_libvirtd_that_is_killed_mid_move_neither_loses_nor_doubles_a_vm(
    cluster: RealCluster, hurry: Callable[[], None], tmp_path: Path, side: str
) -> None:
    """The last one: libvirt may keep remains of a VM that was arriving, and it cannot move there any more."""
    flush = cluster.begin(tmp_path / "flush", "node", "flush", "hv1", "--wait")
    target = target_of_vm1(cluster, tmp_path / "flush")
    victim = "hv1" if side == "source" else target
    cluster.lab.kill("libvirtd", victim, signal.SIGKILL)
    assert flush.poll() is None, (tmp_path / "flush").read_text()
    cluster.lab.start("libvirtd", victim)
    hurry()
    assert flush.wait(180) is not None, (tmp_path / "flush").read_text()
    cluster.wait("each VM runs once", lambda: cluster.all_once(VMS))


def _numbers(output: Path, vm: str) -> list[int]:
    return [
        int(number) for number in re.findall(rf"^{vm} (\d+) .*\n", output.read_text(errors="replace"), re.MULTILINE)
    ]


def target_of_vm1(cluster: RealCluster, flush: Path) -> str:
    """Where a flush of hv1 moves vm1, once it does, by what it prints."""
    cluster.wait("vm1 moves", lambda: "vm1: hv1 -> " in flush.read_text())
    return str(re.findall(r"vm1: hv1 -> (hv\d)", flush.read_text())[0])
