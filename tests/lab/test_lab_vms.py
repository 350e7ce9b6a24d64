"""The lab's VMs print, count on across live migration, and obey the power button."""

import re

import pytest

from pvc.core.process import SystemProcesses
from pvc.lab import images
from pvc.lab.cluster import Lab
from pvc.lab.shape import Shape
from tests.lab.conftest import DEADLINE, LibvirtPair, RunningVm, StartVm, start_vm
from tests.lab.test_lab_life import MakeLab

pytestmark = pytest.mark.lab


def migrate(vm: RunningVm, pair: LibvirtPair) -> None:
    command = ["virsh", "migrate", "--live", "--p2p", vm.name, pair.migration_uris[1]]
    done = vm.lab.run(command, "hv1")
    assert done.code == 0, done.stderr


def test_a_vm_counts_on_across_a_live_migration_without_a_hole(
    libvirt_pair: LibvirtPair, start_bare_vm: StartVm
) -> None:
    vm = start_bare_vm("mover", arguments="rate=50 fill=16 dirty=500")
    vm.wait_for_lines(20, "hv1")
    migrate(vm, libvirt_pair)
    assert vm.runs_on("hv2") and not vm.runs_on("hv1")
    vm.wait_for_lines(len(vm.numbers("hv1")) + 20, "hv1", "hv2")
    seen = vm.numbers("hv1", "hv2")
    assert seen == list(range(1, len(seen) + 1))


def test_the_power_button_shuts_a_vm_down(bare_lab: Lab, start_bare_vm: StartVm) -> None:
    vm = start_bare_vm("button")
    vm.wait_for_lines(1, "hv1")
    assert bare_lab.run(["virsh", "shutdown", "button"], "hv1").code == 0
    vm.wait_until_gone("hv1")
    assert "button powers off: the button was pressed" in vm.console("hv1")


def test_a_vm_outlives_its_libvirtd_and_a_new_one_finds_it(new_lab: MakeLab) -> None:
    lab = new_lab("orphan")
    lab.up()
    vm = start_vm(lab, "vm1", "hv1", "rate=20")
    vm.wait_for_lines(1, "hv1")
    before = lab.vm_processes("hv1")
    lab.kill("libvirtd", "hv1")
    vm.wait_for_lines(len(vm.numbers("hv1")) + 10, "hv1")
    lab.start("libvirtd", "hv1")
    assert vm.runs_on("hv1")
    assert list(before) == ["vm1"]
    assert lab.vm_processes("hv1") == before


def test_a_killed_qemu_is_gone(bare_lab: Lab, start_bare_vm: StartVm) -> None:
    vm = start_bare_vm("victim")
    bare_lab.kill("qemu", "victim")
    vm.wait_until_gone("hv1")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("burst=3 rate=0", ["vm 000001 hello from the tiny kernel", "vm 000002 hello", "vm 000003 hello"]),
        ("burst=2 rate=0 length=14", ["vm 000001 hell", "vm 000002 hell"]),
        ("burst=1 rate=0 length=40", ["vm 000001 hello from the tiny kernel...."]),
        ("burst=2 rate=0 text=identical", ["vm hello from the tiny kernel", "vm hello from the tiny kernel"]),
        ("burst=2 rate=0 text=blank", ["", ""]),
        ("every=0.4", ["vm 000001", "vm 000002"]),
        ("rate=5", ["vm 000001", "vm 000002", "vm 000003", "vm 000004", "vm 000005"]),
    ],
)
def test_the_tiny_kernel_obeys_its_command_line(bare_lab: Lab, arguments: str, expected: list[str]) -> None:
    image = images.prepare("tiny", bare_lab.state.cache, SystemProcesses())
    machine = "qemu-system-x86_64 -machine pc,accel=tcg -m 32 -nodefaults -no-user-config -display none -serial stdio"
    command = [*machine.split(), "-kernel", str(image.kernel), "-append", f"{arguments} stop=1"]
    lines = SystemProcesses().check(command, timeout=DEADLINE).splitlines()
    assert lines[0].endswith(f"{arguments} stop=1")
    assert lines[-1] == "vm powers off: its time is over"
    printed = lines[1:-1]
    assert len(printed) == len(expected)
    for line, start in zip(printed, expected, strict=True):
        assert line.startswith(start)
        assert (wanted := re.search(r"length=(\d+)", arguments)) is None or len(line) == int(wanted[1])


def test_the_linux_image_prints_and_shuts_down_like_the_tiny_one(new_lab: MakeLab) -> None:
    lab = new_lab("linux", Shape(nodes=1, vms=0, vm_image="linux", bare=True))
    lab.up()
    vm = start_vm(lab, "vm1", "hv1", "rate=10 burst=2")
    vm.wait_for_lines(4, "hv1")
    assert vm.numbers("hv1")[:4] == [1, 2, 3, 4]
    assert lab.run(["virsh", "shutdown", "vm1"], "hv1").code == 0
    vm.wait_until_gone("hv1")
