"""A lab comes up, is repaired, and goes without a trace."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from pvc.core.process import SystemProcesses
from pvc.core.threads import ThreadRuntime
from pvc.lab import pidfile
from pvc.lab.cluster import Lab
from pvc.lab.deadline import wait_until
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape
from tests.lab.conftest import DEADLINE, StartVm, start_vm

pytestmark = pytest.mark.lab

MakeLab = Callable[..., Lab]


def processes_of(lab: Lab) -> dict[int, pidfile.Process]:
    init = pidfile.recorded(lab.state.path / "init.pid")
    assert init
    return pidfile.inside(init)


def namespaces_of(lab: Lab) -> set[str]:
    """The process namespaces of the lab and its hosts."""
    records = [lab.state.path / "init.pid", *lab.state.path.glob("*/host.pid")]
    found = {pidfile.recorded(record) for record in records}
    return {str(Path(f"/proc/{process.pid}/ns/pid").readlink()) for process in found if process}


def processes_in(namespaces: set[str]) -> list[str]:
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if str((directory / "ns" / "pid").readlink()) in namespaces:
                found.append((directory / "comm").read_text().strip())
        except OSError:
            continue
    return found


def test_every_host_knows_its_name_and_reaches_the_others(bare_lab: Lab) -> None:
    for node in ("hv1", "hv2", "zk1", "client"):
        done = bare_lab.run(["hostname"], node)
        assert done.stdout.strip() == node
    assert bare_lab.run(["sh", "-c", "echo srvr | timeout 9 busybox nc zk1 2181"]).stdout.count("Mode: standalone") == 1
    assert bare_lab.run(["busybox", "ping", "-c1", "-W2", "hv2"], "hv1").code == 0


def test_each_node_has_a_libvirt_of_its_own(bare_lab: Lab, start_bare_vm: StartVm) -> None:
    vm = start_bare_vm("alone")
    assert vm.runs_on("hv1")
    assert not vm.runs_on("hv2")


def test_libvirt_is_reached_from_outside_over_its_socket(bare_lab: Lab) -> None:
    for node in ("hv1", "hv2"):
        command = ["virsh", "--connect", bare_lab.libvirt_uri(node), "hostname"]
        assert SystemProcesses().check(command, timeout=DEADLINE).strip() == node


def test_each_node_is_a_machine_of_its_own_that_boots_anew(bare_lab: Lab) -> None:
    shown = {node: bare_lab.run(["cat", "/etc/machine-id"], node).stdout for node in ("hv1", "hv2", "zk1")}
    boots = {node: bare_lab.run(["cat", "/proc/sys/kernel/random/boot_id"], node).stdout for node in shown}
    assert len(set(shown.values())) == 3
    assert len(set(boots.values())) == 3
    bare_lab.kill("node", "hv2")
    bare_lab.start("node", "hv2")
    assert bare_lab.run(["cat", "/etc/machine-id"], "hv2").stdout == shown["hv2"]
    assert bare_lab.run(["cat", "/proc/sys/kernel/random/boot_id"], "hv2").stdout != boots["hv2"]


def test_up_again_finds_nothing_to_do(bare_lab: Lab) -> None:
    assert bare_lab.up() == []


def test_up_refuses_another_shape(bare_lab: Lab, labs_directory: Path) -> None:
    with pytest.raises(LabError, match="another shape; take it down first"):
        Lab(bare_lab.name, Shape(nodes=3, bare=True), directory=labs_directory).up()


def test_up_starts_what_died_and_heals_what_was_cut(new_lab: MakeLab) -> None:
    lab = new_lab("mend")
    assert lab.up() == ["made"]
    lab.kill("libvirtd", "hv1")
    lab.kill("zookeeper", "zk1")
    lab.partition("hv1")
    assert lab.up() == ["healed hv1", "started zookeeper on zk1", "started libvirtd on hv1"]


def test_up_makes_a_half_made_lab_anew(new_lab: MakeLab) -> None:
    lab = new_lab("half")
    lab.up()
    old = pidfile.recorded(lab.state.path / "init.pid")
    (lab.state.path / "lab.json").unlink()
    assert lab.up() == ["made"]
    assert pidfile.state(old) is None


def test_down_leaves_no_process_no_mount_and_no_directory(new_lab: MakeLab) -> None:
    lab = new_lab("gone")
    lab.up()
    start_vm(lab, "vm1", "hv1").wait_for_lines(1, "hv1")
    namespaces = namespaces_of(lab)
    assert {"java", "libvirtd", "qemu-system-x86"} <= set(processes_in(namespaces))
    mounts = Path("/proc/self/mounts")
    assert str(lab.state.path) not in mounts.read_text(), "a mount of the lab is seen outside of it"

    assert lab.down()

    assert processes_in(namespaces) == []
    assert not lab.state.path.exists()
    assert not list(Path("/run/netns").glob("hv*")) if Path("/run/netns").exists() else True
    assert not lab.down()


def test_everything_dies_with_the_init_and_up_makes_it_anew(new_lab: MakeLab) -> None:
    lab = new_lab("crash")
    lab.up()
    start_vm(lab, "vm1", "hv1")
    namespaces = namespaces_of(lab)
    init = pidfile.recorded(lab.state.path / "init.pid")
    assert init

    pidfile.send(init, signal.SIGKILL)

    wait_until(ThreadRuntime(), DEADLINE, lambda: " ".join(processes_in(namespaces)) or None)
    assert not lab.is_up()
    assert lab.up() == ["made"]


def test_a_recycled_process_number_is_never_killed(new_lab: MakeLab) -> None:
    lab = new_lab("reused")
    innocent = SystemProcesses().start(["sleep", "60"], output=Path(os.devnull))
    try:
        stat = Path(f"/proc/{innocent.pid}/stat").read_text().split()
        stat[21] = str(int(stat[21]) - 1)
        lab.state.make()
        (lab.state.path / "init.pid").write_text(" ".join(stat))
        assert lab.down()
        assert innocent.poll() is None
    finally:
        innocent.signal(signal.SIGKILL)
        innocent.wait(DEADLINE)


def test_two_labs_live_side_by_side(bare_lab: Lab, new_lab: MakeLab, start_bare_vm: StartVm) -> None:
    mine = start_bare_vm("vm1")
    other = new_lab("other")
    other.up()
    theirs = start_vm(other, "vm1", "hv1")
    assert mine.runs_on("hv1") and theirs.runs_on("hv1")
    other.down()
    assert mine.runs_on("hv1")


def test_three_zookeepers_form_a_majority_that_outlives_one(new_lab: MakeLab) -> None:
    lab = new_lab("three", Shape(nodes=1, vms=0, zookeepers=3, bare=True))
    lab.up()
    lab.kill("node", "zk1")
    ask = ["sh", "-c", "for i in 2 3; do echo srvr | timeout 3 busybox nc zk$i 2181; done | grep ^Mode | sort"]

    def missing() -> str | None:
        modes = lab.run(ask).stdout.split("\n")[:-1]
        return None if modes == ["Mode: follower", "Mode: leader"] else f"the rest says {modes}"

    wait_until(ThreadRuntime(), DEADLINE, missing)
    lab.start("node", "zk1")
