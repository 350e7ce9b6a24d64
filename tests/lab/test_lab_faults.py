"""Faults on demand: partitions and dead hosts, and the way back."""

import signal

import pytest

from pvc.lab.cluster import Lab
from pvc.lab.errors import LabError
from pvc.lab.shape import Shape
from tests.lab.conftest import start_vm
from tests.lab.test_lab_life import MakeLab

pytestmark = pytest.mark.lab


def reaches(lab: Lab, source: str, target: str) -> bool:
    return lab.run(["busybox", "ping", "-c1", "-W1", target], source).code == 0


def test_a_node_cut_off_from_zookeeper_still_reaches_the_other_nodes(bare_lab: Lab) -> None:
    bare_lab.partition("hv1", "zookeeper")
    try:
        assert not reaches(bare_lab, "hv1", "zk1")
        assert not reaches(bare_lab, "zk1", "hv1")
        assert reaches(bare_lab, "hv1", "hv2")
        assert reaches(bare_lab, "hv2", "zk1")
    finally:
        bare_lab.heal("hv1")
    assert reaches(bare_lab, "hv1", "zk1")


def test_a_node_cut_off_from_all_reaches_nobody_until_it_is_healed(bare_lab: Lab) -> None:
    bare_lab.partition("hv1")
    bare_lab.partition("hv2", "client")
    try:
        assert not reaches(bare_lab, "hv1", "hv2")
        assert not reaches(bare_lab, "hv2", "hv1")
        assert not reaches(bare_lab, "hv2", "client")
        bare_lab.heal("hv1")
        assert reaches(bare_lab, "hv1", "hv2")
        assert not reaches(bare_lab, "hv2", "client"), "only hv1 was healed"
    finally:
        bare_lab.heal()
    assert reaches(bare_lab, "hv2", "client")


def test_status_tells_who_is_cut_off_and_who_is_stopped(bare_lab: Lab) -> None:
    bare_lab.partition("hv1", "zookeeper")
    bare_lab.kill("libvirtd", "hv2", signal.SIGSTOP)
    try:
        rows = {(row["host"], row["process"]): row for row in bare_lab.status()}
        assert rows["hv1", "host"]["cut_from"] == "zk1"
        assert rows["hv2", "host"]["cut_from"] == ""
        assert rows["hv2", "libvirtd"]["state"] == "stopped"
        assert rows["hv1", "libvirtd"]["state"] == "running"
    finally:
        bare_lab.kill("libvirtd", "hv2", signal.SIGCONT)
        bare_lab.heal("hv1")


def test_a_dead_host_takes_its_vms_along_and_boots_without_them(new_lab: MakeLab) -> None:
    lab = new_lab("power", Shape(nodes=2, vms=0, bare=True))
    lab.up()
    vm = start_vm(lab, "vm1", "hv1")
    lab.kill("node", "hv1")
    assert not reaches(lab, "hv2", "hv1")
    with pytest.raises(LabError, match="host hv1 is down"):
        lab.run(["true"], "hv1")
    assert [row["state"] for row in lab.status() if row["host"] == "hv1"] == ["dead", "dead"]
    lab.start("node", "hv1")
    assert reaches(lab, "hv2", "hv1")
    assert not vm.runs_on("hv1")


def test_what_does_not_exist_is_refused_by_name(bare_lab: Lab) -> None:
    with pytest.raises(LabError, match="the lab has no host hv9; it has client, zk1, hv1, hv2"):
        bare_lab.kill("libvirtd", "hv9")
    with pytest.raises(LabError, match="zk1 runs no libvirtd"):
        bare_lab.kill("libvirtd", "zk1")
    with pytest.raises(LabError, match="no QEMU of vm7 runs on any node"):
        bare_lab.kill("qemu", "vm7")
